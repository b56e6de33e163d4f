//! How far an orchestrator's journal is, under its signature.

use serde::{Deserialize, Serialize};
use zoo_content::Digest;

use crate::{Message, Statement, WireError};

/// What an orchestrator stands for: after so many commands its history is this one.
///
/// Whoever holds two under one key that [conflict](Self::conflicts_with), or one and a journal under the same key that does not lead
/// to it, can show anybody that the orchestrator told two histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalHead {
    /// Commands so far.
    pub commands: u64,
    /// Digest over all of them, in order.
    pub chain: Digest,
    /// Root of the state that they lead to.
    pub root: Digest,
}

impl JournalHead {
    /// Whether no one history has both.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.commands == other.commands && self != other
    }
}

impl Message for JournalHead {
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }
}

impl Statement for JournalHead {
    const PURPOSE: &'static str = "journal-head/1";
}
