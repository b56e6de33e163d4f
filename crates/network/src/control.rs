//! Conversations: messages of one type each way, a frame each ([`crate::Frames`]).
//!
//! A frame is the postcard encoding of a message.

use std::marker::PhantomData;

use iroh::endpoint::{Connection, RecvStream, SendStream};
use zoo_protocol::{FromOrchestrator, MAX_FRAME_BYTES, Message, NodeId, ToOrchestrator, decode, encode};

use crate::NetworkError;
use crate::frames::{FrameReceiver, FrameSender, Frames};

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
    frames: FrameSender,
    sends: PhantomData<fn(&S)>,
}

/// The half that receives.
#[derive(Debug)]
pub struct ControlReceiver<R> {
    frames: FrameReceiver,
    receives: PhantomData<fn() -> R>,
}

impl<S, R> ControlStream<S, R> {
    pub(crate) fn new(node: NodeId, connection: Connection, streams: (SendStream, RecvStream)) -> Self {
        let (sender, receiver) = Frames::new(node, connection, streams).split();
        Self {
            sender: ControlSender { frames: sender, sends: PhantomData },
            receiver: ControlReceiver { frames: receiver, receives: PhantomData },
        }
    }

    /// Who is on the other side, proven by its key.
    pub fn node(&self) -> NodeId {
        self.sender.frames.node()
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
            let (node, bytes) = (self.frames.node(), payload.len() as u64);
            return Err(NetworkError::FrameTooLarge { node, bytes });
        }
        self.frames.send(&payload).await
    }
}

impl<S> ControlSender<S> {
    /// Ends the conversation and the connection, after what was sent has
    /// arrived or one second has passed.
    pub async fn close(self) {
        self.frames.close().await;
    }
}

impl<R: Message> ControlReceiver<R> {
    /// The next message; `None` when the other side has ended the conversation.
    ///
    /// Cancel safe: dropping the future loses nothing.
    pub async fn recv(&mut self) -> Result<Option<R>, NetworkError> {
        let Some(payload) = self.frames.recv(MAX_FRAME_BYTES).await? else { return Ok(None) };
        let node = self.frames.node();
        decode(&payload).map(Some).map_err(|cause| NetworkError::Wire { node, cause })
    }

    /// Bytes that have arrived since this was asked the last time.
    pub fn take_bytes(&mut self) -> usize {
        self.frames.take_bytes()
    }
}
