//! Conversations: messages of one type each way over one QUIC stream.
//!
//! A frame is the length of the message as u32 little-endian, then its
//! postcard encoding. The length is checked before memory is reserved for it.

use std::marker::PhantomData;

use iroh::endpoint::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::time::timeout;
use zoo_protocol::{FromOrchestrator, MAX_FRAME_BYTES, Message, NodeId, ToOrchestrator, decode, encode};

use crate::NetworkError;
use crate::limits::CLOSE_TIMEOUT;

const LENGTH_BYTES: usize = 4;
const READ_BYTES: usize = 64 << 10;

/// What the orchestrator's side of the control protocol accepts: who called, proven, and the conversation.
pub type ControlConnection = (NodeId, ControlStream<FromOrchestrator, ToOrchestrator>);

/// A conversation that sends `S` and receives `R`.
///
/// Dropping it ends the connection at once: messages that have not arrived yet
/// are lost. [`ControlStream::close`] lets them arrive.
#[derive(Debug)]
pub struct ControlStream<S, R> {
    sender: ControlSender<S>,
    receiver: ControlReceiver<R>,
}

/// The half that sends. The other side sees the end of the conversation when it is dropped.
#[derive(Debug)]
pub struct ControlSender<S> {
    node: NodeId,
    connection: Connection,
    stream: SendStream,
    sends: PhantomData<fn(&S)>,
}

/// The half that receives.
#[derive(Debug)]
pub struct ControlReceiver<R> {
    node: NodeId,
    // Keeps the connection up for as long as somebody listens.
    _connection: Connection,
    stream: RecvStream,
    buffer: Vec<u8>,
    bytes: usize,
    receives: PhantomData<fn() -> R>,
}

impl<S, R> ControlStream<S, R> {
    pub(crate) fn new(node: NodeId, connection: Connection, streams: (SendStream, RecvStream)) -> Self {
        let (send, receive) = streams;
        Self {
            sender: ControlSender { node, connection: connection.clone(), stream: send, sends: PhantomData },
            receiver: ControlReceiver {
                node,
                _connection: connection,
                stream: receive,
                buffer: Vec::new(),
                bytes: 0,
                receives: PhantomData,
            },
        }
    }

    /// Who is on the other side, proven by its key.
    pub fn node(&self) -> NodeId {
        self.sender.node
    }

    /// The two halves, to be used by two tasks.
    pub fn split(self) -> (ControlSender<S>, ControlReceiver<R>) {
        (self.sender, self.receiver)
    }
}

impl<S: Message, R: Message> ControlStream<S, R> {
    /// See [`ControlSender::send`].
    pub async fn send(&mut self, message: &S) -> Result<(), NetworkError> {
        self.sender.send(message).await
    }

    /// See [`ControlReceiver::recv`].
    pub async fn recv(&mut self) -> Result<Option<R>, NetworkError> {
        self.receiver.recv().await
    }

    /// See [`ControlSender::close`].
    pub async fn close(self) {
        self.sender.close().await;
    }
}

impl<S: Message> ControlSender<S> {
    /// Sends one message; waits while the other side is behind with reading.
    ///
    /// Not cancel safe: a send that is dropped half-way leaves half a message
    /// on the stream, so the sender must then be dropped as well.
    pub async fn send(&mut self, message: &S) -> Result<(), NetworkError> {
        let payload = encode(message);
        if payload.len() > MAX_FRAME_BYTES {
            return Err(NetworkError::FrameTooLarge { node: self.node, bytes: payload.len() as u64 });
        }
        let mut frame = Vec::with_capacity(LENGTH_BYTES + payload.len());
        frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        frame.extend_from_slice(&payload);
        self.stream.write_all(&frame).await.map_err(|cause| write_error(self.node, cause))
    }
}

impl<S> ControlSender<S> {
    /// Ends the conversation and the connection, after what was sent has
    /// arrived or one second has passed.
    pub async fn close(mut self) {
        if self.stream.finish().is_ok() {
            // A failure means that the connection is already gone, which is what is wanted.
            let _ = timeout(CLOSE_TIMEOUT, self.stream.stopped()).await;
        }
        self.connection.close(VarInt::from_u32(0), b"");
    }
}

impl<R: Message> ControlReceiver<R> {
    /// The next message; `None` when the other side has ended the conversation.
    ///
    /// Cancel safe: dropping the future loses nothing.
    pub async fn recv(&mut self) -> Result<Option<R>, NetworkError> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
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

    /// Bytes that have arrived since this was asked the last time.
    pub fn take_bytes(&mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }

    fn take_message(&mut self) -> Result<Option<R>, NetworkError> {
        let Some(&length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(NetworkError::FrameTooLarge { node: self.node, bytes: length as u64 });
        }
        let Some(payload) = self.buffer.get(LENGTH_BYTES..LENGTH_BYTES + length) else { return Ok(None) };
        let message = decode(payload).map_err(|cause| NetworkError::Wire { node: self.node, cause })?;
        self.buffer.drain(..LENGTH_BYTES + length);
        Ok(Some(message))
    }
}

/// A connection closed without complaint is the end of the conversation, anything else a failure.
pub(crate) fn read_end<R>(node: NodeId, cause: ReadError) -> Result<Option<R>, NetworkError> {
    match cause {
        ReadError::ConnectionLost(ConnectionError::ApplicationClosed(close)) if close.reason.is_empty() => {
            Ok(None)
        }
        ReadError::ConnectionLost(ConnectionError::LocallyClosed) | ReadError::ClosedStream => Ok(None),
        ReadError::ConnectionLost(cause) => Err(NetworkError::Lost { node, cause: cause.to_string() }),
        other => Err(NetworkError::Lost { node, cause: other.to_string() }),
    }
}

pub(crate) fn write_error(node: NodeId, cause: WriteError) -> NetworkError {
    let cause = match cause {
        WriteError::ConnectionLost(cause) => cause.to_string(),
        other => other.to_string(),
    };
    NetworkError::Lost { node, cause }
}
