//! What stages say to each other.

use serde::{Deserialize, Serialize};
use zoo_content::Digest;

use crate::schedule::Position;

/// Where rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Direction {
    /// Activations, to the next stage.
    Forward,
    /// Gradients of activations, to the stage before.
    Backward,
}

/// Activations or gradients of one micro-batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The run.
    pub epoch: u64,
    /// Which micro-batch.
    pub micro_batch: u64,
    /// Which way.
    pub direction: Direction,
    /// The stage that computed them.
    pub sender: u32,
    /// Of `bytes`.
    pub digest: Digest,
    /// In the format of the run.
    pub bytes: Vec<u8>,
}

/// What a stage has done, and how much of it is saved: said again and again, so that it may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The run.
    pub epoch: u64,
    /// Who says it.
    pub sender: u32,
    /// What it has done: it lacks what comes next.
    pub position: Position,
    /// What its last checkpoint has: it will not ask for what is before.
    pub saved: Position,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Rows.
    Rows(Rows),
    /// A status.
    Status(Status),
}

/// A message and the stage that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Which stage.
    pub to: u32,
    /// What it is told.
    pub message: Message,
}

/// What a message may have beside its rows, bytes.
const FRAME_BYTES_MAX: usize = 128;

impl Message {
    /// The message, as its only bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data")
    }

    /// The message of these bytes, whose rows have at most `rows_bytes_max`.
    pub fn from_bytes(bytes: &[u8], rows_bytes_max: usize) -> Option<Self> {
        if bytes.len() > rows_bytes_max.saturating_add(FRAME_BYTES_MAX) {
            return None;
        }
        let message: Self = postcard::from_bytes(bytes).ok()?;
        (message.to_bytes() == bytes).then_some(message)
    }
}
