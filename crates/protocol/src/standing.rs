//! What a network's journal says of a node.

use serde::{Deserialize, Serialize};

use crate::{Message, WireError};

/// What a node is told of itself: what became of its work in the eyes of the others. Like work it is level-triggered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What it has done.
    pub account: Account,
    /// Windows of its that others train again at the moment, or will as soon as somebody can be spared.
    pub checked_now: u32,
    /// It is kept out of the running job through this round.
    pub barred_through: Option<u32>,
}

impl Message for Standing {
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }
}

/// What a node has done so far, in all jobs: counters that only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Contributions that were accepted.
    pub contributions: u64,
    /// Contributions that went into a finished round.
    pub rounds: u64,
    /// Tokens of the contributions that went into a finished round.
    pub tokens: u64,
    /// Rounds that went on without this participant.
    pub missed: u64,
    /// Checkpoints reported and agreed on.
    pub aggregations: u64,
    /// Held-out shards evaluated.
    pub shards: u64,
    /// Faults.
    pub faults: u64,
    /// Windows that others trained again to the same outcome.
    pub verified: u64,
    /// Windows of others that it trained again to what turned out to be right.
    pub verifications: u64,
    /// Contributions that went into a finished round and were taken back out of it, since the node was convicted.
    pub withdrawn: u64,
    /// Windows, or verdicts on those of others, that turned out to be wrong.
    pub convictions: u64,
}
