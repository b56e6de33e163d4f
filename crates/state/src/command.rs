//! What happens to the state: the journal's entries.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::limits::MAX_OPERATORS;
use zoo_protocol::{
    Attestation, Challenge, Declaration, JobDescription, JobId, Link, Message, NodeId, NodeProfile, Peer,
    Report, Terms, WireError,
};

use crate::{Steer, WITNESSES_MAX};

/// Version of the journal's encoding. Variants and their fields are never changed or
/// removed; new variants are appended. Anything else raises this number.
const JOURNAL_VERSION: u8 = 1;

/// One entry of the journal. `now_ms` is the host's clock, in ms since the Unix epoch; the
/// state machine only ever compares it with what earlier commands said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A node connected, for the first time or again. Harmless for a node that is live.
    NodeJoined {
        /// Who.
        node: NodeId,
        /// What it says of itself.
        profile: NodeProfile,
        /// Where its blobs can be fetched.
        addresses: Vec<SocketAddr>,
        /// When.
        now_ms: u64,
    },
    /// A node is gone. The host keeps the times it last heard of nodes outside of the state
    /// and issues this; heartbeats are never journaled.
    NodeLost {
        /// Who.
        node: NodeId,
        /// How it was noticed.
        cause: LossCause,
        /// When.
        now_ms: u64,
    },
    /// A job was submitted.
    JobSubmitted {
        /// The job.
        job: JobDescription,
        /// When.
        now_ms: u64,
    },
    /// A node reported the outcome of its work.
    Reported {
        /// Who, by the connection it came in on.
        node: NodeId,
        /// What, as received: commitments stay sealed, as evidence.
        report: Report,
        /// When.
        now_ms: u64,
    },
    /// Time has passed; see [`State::next_deadline_ms`](crate::State::next_deadline_ms).
    Tick {
        /// The time it is.
        now_ms: u64,
    },
    /// A node measured its link, and it is news.
    LinkMeasured {
        /// Who.
        node: NodeId,
        /// What its transfers say.
        link: Link,
        /// When.
        now_ms: u64,
    },
    /// A node was not heard of for its lease, but others reach it: it is not lost yet. Harmless for one that is suspected already.
    NodeSuspected {
        /// Who.
        node: NodeId,
        /// Who reached it: from 1 to [`WITNESSES_MAX`](crate::WITNESSES_MAX).
        reached_by: Vec<NodeId>,
        /// When.
        now_ms: u64,
    },
    /// A suspected node was heard again. Harmless for everybody else.
    NodeHeard {
        /// Who.
        node: NodeId,
        /// When.
        now_ms: u64,
    },
    /// The host challenges a holder of a checkpoint to prove that it holds a part of it, which the host drew at random.
    Challenged {
        /// Whom.
        node: NodeId,
        /// The job.
        job: JobId,
        /// The round that ended with the checkpoint.
        round: u32,
        /// What is to be proved.
        challenge: Challenge,
        /// When.
        now_ms: u64,
    },
    /// Its owner cancels, pauses or resumes a job.
    JobSteered {
        /// The job.
        job: JobId,
        /// What is wanted.
        steer: Steer,
        /// When.
        now_ms: u64,
    },
    /// The host says whose network this is and whose word counts in it: before anything else, and whenever it is another word.
    NetworkNamed {
        /// The orchestrator's key.
        network: NodeId,
        /// Operators that the owner trusts, at most [`MAX_OPERATORS`].
        operators: Vec<NodeId>,
        /// When.
        now_ms: u64,
    },
    /// Somebody brought what a key says about keys.
    Declared {
        /// What, as received: it stays sealed, as evidence.
        declaration: Declaration,
        /// When.
        now_ms: u64,
    },
    /// The host has checked what a node's hardware vouches for.
    Attested {
        /// Whose.
        node: NodeId,
        /// What came of it. The evidence is with the host, by its digest.
        attestation: Attestation,
        /// When.
        now_ms: u64,
    },
    /// Those who wait are measured, all of them at once.
    SittingOpened {
        /// Drawn by the host at random: what they compute follows from it.
        draw: Digest,
        /// How they are measured.
        terms: Terms,
        /// When.
        now_ms: u64,
    },
    /// They are done, and check each other.
    CheckersDrawn {
        /// Drawn by the host at random: who checks whom follows from it.
        draw: Digest,
        /// When.
        now_ms: u64,
    },
}

/// How the loss of a node was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LossCause {
    /// It was not heard of for longer than its lease.
    LeaseExpired,
    /// It said goodbye.
    Left,
    /// Its connection broke.
    Disconnected,
    /// Its peers reached it, and it was still not heard of.
    Unheard,
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LossCause::LeaseExpired => "not heard of for too long",
            LossCause::Left => "said goodbye",
            LossCause::Disconnected => "connection lost",
            LossCause::Unheard => "only its peers could reach it, for too long",
        })
    }
}

/// Why bytes are not a journal entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Written by another version of this software.
    #[error("journal entry has version {0}, and this software reads version {JOURNAL_VERSION}")]
    Version(u8),
    /// Not the canonical encoding of a command.
    #[error("journal entry does not decode: {0}")]
    Malformed(#[from] WireError),
}

impl Message for Command {
    fn validate(&self) -> Result<(), WireError> {
        match self {
            Command::NodeJoined { node, profile, addresses, .. } => {
                profile.validate()?;
                Peer { node: *node, addresses: addresses.clone() }.validate()
            }
            Command::JobSubmitted { job, .. } => job.validate(),
            Command::Reported { report, .. } => report.validate(),
            Command::Challenged { challenge, .. } => challenge.validate(),
            Command::LinkMeasured { link, .. } => link.validate(),
            Command::SittingOpened { terms, .. } => terms.validate(),
            Command::NodeSuspected { reached_by, .. } => {
                at_most("witnesses of a node", reached_by.len(), WITNESSES_MAX)
            }
            Command::NetworkNamed { operators, .. } => at_most("operators", operators.len(), MAX_OPERATORS),
            Command::Declared { declaration, .. } => declaration.validate(),
            Command::Attested { attestation, .. } => attestation.validate(),
            Command::NodeLost { .. }
            | Command::NodeHeard { .. }
            | Command::Tick { .. }
            | Command::CheckersDrawn { .. }
            | Command::JobSteered { .. } => Ok(()),
        }
    }
}

fn at_most(what: &'static str, actual: usize, most: usize) -> Result<(), WireError> {
    let (actual, limit) = (actual as u64, most as u64);
    if actual > limit { Err(WireError::Limit { what, actual, limit }) } else { Ok(()) }
}

impl Command {
    /// When the command was issued, by the host's clock.
    pub fn now_ms(&self) -> u64 {
        match self {
            Command::NodeJoined { now_ms, .. }
            | Command::NodeLost { now_ms, .. }
            | Command::JobSubmitted { now_ms, .. }
            | Command::Reported { now_ms, .. }
            | Command::LinkMeasured { now_ms, .. }
            | Command::NodeSuspected { now_ms, .. }
            | Command::NodeHeard { now_ms, .. }
            | Command::Challenged { now_ms, .. }
            | Command::JobSteered { now_ms, .. }
            | Command::NetworkNamed { now_ms, .. }
            | Command::Declared { now_ms, .. }
            | Command::Attested { now_ms, .. }
            | Command::SittingOpened { now_ms, .. }
            | Command::CheckersDrawn { now_ms, .. }
            | Command::Tick { now_ms } => *now_ms,
        }
    }

    /// The journal's encoding: one version byte, then postcard.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![JOURNAL_VERSION];
        bytes.extend(zoo_protocol::encode(self));
        bytes
    }

    /// Decodes one whole journal entry.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, JournalError> {
        let (&version, body) =
            bytes.split_first().ok_or_else(|| WireError::Malformed("it is empty".into()))?;
        if version != JOURNAL_VERSION {
            return Err(JournalError::Version(version));
        }
        Ok(zoo_protocol::decode(body)?)
    }
}
