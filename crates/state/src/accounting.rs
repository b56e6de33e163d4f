//! Who did what: counters that only grow.

use serde::{Deserialize, Serialize};

/// What a node has done so far, in all jobs.
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
    /// Windows, or verdicts on those of others, that turned out to be wrong.
    pub convictions: u64,
}
