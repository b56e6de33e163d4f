//! Conversations of bytes: frames each way over one QUIC stream, for whoever has messages of its own.
//!
//! A frame is the length of its bytes as u32 little-endian, then the bytes. Both sides know how long a frame may be, and the length is
//! checked against that before memory is reserved for it.

use iroh::endpoint::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::time::timeout;
use zoo_protocol::NodeId;

use crate::NetworkError;
use crate::limits::{CLOSE_TIMEOUT, CONNECTION_WINDOW_BYTES};

const LENGTH_BYTES: usize = 4;
const READ_BYTES: usize = 64 << 10;

/// What the side that was called accepts: who called, proven, and the conversation.
pub type FramesConnection = (NodeId, Frames);

/// A conversation of frames.
///
/// Dropping it ends the connection at once: frames that have not arrived yet are lost. [`FrameSender::close`] lets them arrive.
#[derive(Debug)]
pub struct Frames {
    sender: FrameSender,
    receiver: FrameReceiver,
}

/// The half that sends.
#[derive(Debug)]
pub struct FrameSender {
    node: NodeId,
    connection: Connection,
    stream: SendStream,
}

/// The half that receives.
#[derive(Debug)]
pub struct FrameReceiver {
    node: NodeId,
    // Keeps the connection up for as long as somebody listens.
    _connection: Connection,
    stream: RecvStream,
    buffer: Vec<u8>,
    bytes: usize,
}

impl Frames {
    pub(crate) fn new(node: NodeId, connection: Connection, streams: (SendStream, RecvStream)) -> Self {
        let (send, receive) = streams;
        let receiver = FrameReceiver {
            node,
            _connection: connection.clone(),
            stream: receive,
            buffer: Vec::new(),
            bytes: 0,
        };
        Self { sender: FrameSender { node, connection, stream: send }, receiver }
    }

    /// Who is on the other side, proven by its key.
    pub fn node(&self) -> NodeId {
        self.sender.node
    }

    /// Lets the other side, who called, send as much at once as one that was called: it is known, and sends much.
    pub fn expect_much(&self) {
        self.sender.connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
    }

    /// The two halves, to be used by two tasks.
    pub fn split(self) -> (FrameSender, FrameReceiver) {
        (self.sender, self.receiver)
    }
}

impl FrameSender {
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// Sends one frame; waits while the other side is behind with reading.
    ///
    /// Not cancel safe: a send that is dropped half-way leaves half a frame on the stream.
    ///
    /// # Errors
    /// When the connection is gone, or the frame has 4 GiB.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), NetworkError> {
        let node = self.node;
        let bytes = frame.len() as u64;
        let length = u32::try_from(bytes).map_err(|_| NetworkError::FrameTooLarge { node, bytes })?;
        // At once, so that a short frame goes in one packet.
        let frame = [&length.to_le_bytes(), frame].concat();
        self.stream.write_all(&frame).await.map_err(|cause| write_error(node, cause))
    }

    /// Ends the conversation and the connection, after what was sent has arrived or one second has passed.
    pub async fn close(mut self) {
        if self.stream.finish().is_ok() {
            // A failure means that the connection is already gone, which is what is wanted.
            let _ = timeout(CLOSE_TIMEOUT, self.stream.stopped()).await;
        }
        self.connection.close(VarInt::from_u32(0), b"");
    }
}

impl FrameReceiver {
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// Bytes that have arrived since this was asked the last time.
    pub(crate) fn take_bytes(&mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }

    /// The next frame, of at most `bytes_max`; `None` when the other side has ended the conversation.
    ///
    /// Cancel safe: dropping the future loses nothing.
    ///
    /// # Errors
    /// When the connection breaks, or a longer frame is announced.
    pub async fn recv(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, NetworkError> {
        loop {
            if let Some(&length) = self.buffer.first_chunk::<LENGTH_BYTES>() {
                let length = u32::from_le_bytes(length) as usize;
                if length > bytes_max {
                    return Err(NetworkError::FrameTooLarge { node: self.node, bytes: length as u64 });
                }
                if let Some(frame) = self.buffer.get(LENGTH_BYTES..LENGTH_BYTES + length) {
                    let frame = frame.to_vec();
                    self.buffer.drain(..LENGTH_BYTES + length);
                    return Ok(Some(frame));
                }
            }
            match self.stream.read_chunk(READ_BYTES).await {
                Ok(Some(chunk)) => {
                    self.bytes += chunk.len();
                    self.buffer.extend_from_slice(&chunk);
                }
                Ok(None) if self.buffer.is_empty() => return Ok(None),
                Ok(None) => return Err(NetworkError::Truncated { node: self.node }),
                Err(cause) => return read_end(self.node, cause),
            }
        }
    }
}

/// A connection closed without complaint is the end of the conversation, anything else a failure.
fn read_end(node: NodeId, cause: ReadError) -> Result<Option<Vec<u8>>, NetworkError> {
    match cause {
        ReadError::ConnectionLost(ConnectionError::ApplicationClosed(close)) if close.reason.is_empty() => {
            Ok(None)
        }
        ReadError::ConnectionLost(ConnectionError::LocallyClosed) | ReadError::ClosedStream => Ok(None),
        ReadError::ConnectionLost(cause) => Err(NetworkError::Lost { node, cause: cause.to_string() }),
        other => Err(NetworkError::Lost { node, cause: other.to_string() }),
    }
}

fn write_error(node: NodeId, cause: WriteError) -> NetworkError {
    let cause = match cause {
        WriteError::ConnectionLost(cause) => cause.to_string(),
        other => other.to_string(),
    };
    NetworkError::Lost { node, cause }
}
