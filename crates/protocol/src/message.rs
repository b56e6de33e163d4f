//! The conversation between an orchestrator and those who connect to it.
//!
//! One bidirectional stream per connection carries frames both ways. The first
//! frame is [`ToOrchestrator::Hello`]; its answer is [`FromOrchestrator::Welcome`]
//! or [`FromOrchestrator::Rejected`].

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;

use crate::limits::{self, MAX_JOB_BLOBS, MAX_PEERS};
use crate::{
    Declaration, JobDescription, JobId, JournalHead, Keep, Link, Message, NodeId, NodeProfile, Report,
    Sealed, Standing, WireError, Work,
};

/// In which role somebody connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A PNode that takes work and serves blobs at these addresses.
    Worker {
        /// What the node says of itself.
        profile: NodeProfile,
        /// Where peers reach its blob service; at most 8.
        addresses: Vec<SocketAddr>,
    },
    /// Somebody who submits jobs and watches.
    Client,
}

/// Sent to the orchestrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToOrchestrator {
    /// First message of a connection.
    Hello {
        /// [`crate::VERSION`] of the sender.
        version: u16,
        /// Who connects, and as what.
        role: Role,
    },
    /// "I am here", with what is worth showing. Never journaled.
    Heartbeat {
        /// Inner step within the current window.
        step: u32,
        /// Loss of the latest inner step, nats per token, f32 bits.
        loss_bits: u32,
        /// Tokens per second at the moment.
        tokens_per_second: u32,
        /// Bytes of blobs sent to others since the process started.
        sent_bytes: u64,
        /// Bytes of blobs received from others since the process started.
        received_bytes: u64,
    },
    /// The outcome of work.
    Report(Report),
    /// A client submits a job and serves its blobs until the answer comes: the
    /// orchestrator fetches a copy of each before it accepts, so the job
    /// outlives whoever submitted it.
    Submit {
        /// The job.
        job: Box<JobDescription>,
        /// Everything the job needs besides the four blobs its description
        /// names (the parts of the initial checkpoint); at most [`MAX_JOB_BLOBS`].
        blobs: Vec<Digest>,
        /// Where the client's blob service is; at most 8.
        addresses: Vec<SocketAddr>,
    },
    /// A client asks for every event from sequence number `from` on, and then live.
    Watch {
        /// First event wanted.
        from: u64,
    },
    /// A worker says goodbye: it will not take more work.
    Leave,
    /// What a worker's transfers say of its link. Sent only when it is news ([`Link::is_news_after`]).
    Measured(Link),
    /// Whether a worker reached the node of a [`FromOrchestrator::Probe`].
    Probed {
        /// The node that was to be reached.
        node: NodeId,
        /// It answered.
        reached: bool,
    },
    /// A client asks for a copy of the journal.
    Journal,
    /// What a key says about keys, from whoever has it: the signatures say whose word it is.
    Declare(Box<Declaration>),
    /// A worker shows what its hardware vouches for: a file of evidence, at most [`limits::MAX_EVIDENCE_BYTES`].
    Evidence(Vec<u8>),
}

impl Message for ToOrchestrator {
    fn validate(&self) -> Result<(), WireError> {
        match self {
            Self::Hello { role: Role::Worker { profile, addresses }, .. } => {
                profile.validate()?;
                limits::addresses(addresses)
            }
            Self::Report(report) => report.validate(),
            Self::Measured(link) => link.validate(),
            Self::Declare(declaration) => declaration.validate(),
            Self::Evidence(evidence) => {
                limits::at_most("bytes of evidence", evidence.len() as u64, limits::MAX_EVIDENCE_BYTES as u64)
            }
            Self::Submit { job, blobs, addresses } => {
                job.validate()?;
                limits::at_most("blobs of a job", blobs.len() as u64, MAX_JOB_BLOBS as u64)?;
                limits::addresses(addresses)
            }
            Self::Hello { role: Role::Client, .. }
            | Self::Heartbeat { .. }
            | Self::Watch { .. }
            | Self::Probed { .. }
            | Self::Journal
            | Self::Leave => Ok(()),
        }
    }
}

/// Where a node's blobs can be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// Its addresses, at most 8.
    pub addresses: Vec<SocketAddr>,
}

/// Why a connection was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rejection {
    /// The other side speaks another version.
    Version {
        /// What the orchestrator speaks.
        ours: u16,
        /// What the node said.
        theirs: u16,
    },
    /// The message was not acceptable, and why (made by [`limits::reason`]).
    Invalid(String),
    /// There is no room for it now, and why (made by [`limits::reason`]): it may try again later.
    Busy(String),
}

/// Sent by the orchestrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromOrchestrator {
    /// The connection is accepted.
    Welcome {
        /// The orchestrator's own blob service and that of every live worker.
        peers: Vec<Peer>,
    },
    /// The connection is refused; it closes after this.
    Rejected(Rejection),
    /// What the worker should be doing now.
    Work {
        /// The work.
        work: Work,
        /// Who may hold the blobs it names.
        peers: Vec<Peer>,
    },
    /// A submitted job was accepted under this id.
    Accepted(JobId),
    /// A submitted job was refused, and why (made by [`limits::reason`]).
    Refused(String),
    /// One event of the journal, to a watcher. `event` is the postcard encoding of the
    /// state machine's event (this crate does not know the state machine).
    Event {
        /// Position in the order of events.
        sequence: u64,
        /// When, in ms since the Unix epoch, by the orchestrator's clock.
        at_ms: u64,
        /// The encoded event.
        event: Vec<u8>,
    },
    /// A worker's latest heartbeat, passed on to watchers.
    NodeStatus {
        /// The node.
        node: NodeId,
        /// Inner step within the current window.
        step: u32,
        /// Loss of the latest inner step, f32 bits.
        loss_bits: u32,
        /// Tokens per second.
        tokens_per_second: u32,
        /// Bytes sent.
        sent_bytes: u64,
        /// Bytes received.
        received_bytes: u64,
    },
    /// Root of the orchestrator's state after the latest command, on request or at the end of a job.
    StateRoot(Digest),
    /// A watcher has been told everything that had happened when it asked; what follows is live.
    CaughtUp,
    /// A node is silent here: the worker is asked to reach it, and to say so with [`ToOrchestrator::Probed`].
    Probe(Peer),
    /// What the worker should be keeping now, all of it.
    Keep {
        /// The checkpoints, at most [`limits::MAX_KEEPS`].
        keeps: Vec<Keep>,
        /// Who holds those that it has not said to hold.
        peers: Vec<Peer>,
    },
    /// A copy of the journal, which the orchestrator's blob service has for a while.
    Journal {
        /// How far it is, under the orchestrator's signature.
        head: Sealed<JournalHead>,
        /// The copy.
        journal: Digest,
        /// Its size, bytes.
        bytes: u64,
    },
    /// What the journal says of the worker.
    Standing(Standing),
    /// What was declared holds from now on, or has before.
    Declared,
    /// What was declared or shown makes no difference, and why (made by [`limits::reason`]): whoever works goes on as before.
    Distrusted(String),
}

impl Message for FromOrchestrator {
    fn validate(&self) -> Result<(), WireError> {
        match self {
            Self::Welcome { peers } => validate_peers(peers),
            Self::Work { work, peers } => {
                work.validate()?;
                validate_peers(peers)
            }
            Self::Keep { keeps, peers } => {
                limits::at_most("checkpoints to keep", keeps.len() as u64, limits::MAX_KEEPS as u64)?;
                keeps.iter().try_for_each(Keep::validate)?;
                validate_peers(peers)
            }
            Self::Rejected(Rejection::Invalid(reason) | Rejection::Busy(reason)) => {
                limits::explanation("reason of a rejection", reason)
            }
            Self::Refused(reason) | Self::Distrusted(reason) => {
                limits::explanation("reason of a refusal", reason)
            }
            Self::Probe(peer) => peer.validate(),
            Self::Journal { head, .. } => head.validate(),
            Self::Standing(standing) => standing.validate(),
            Self::Rejected(Rejection::Version { .. })
            | Self::Accepted(_)
            | Self::Event { .. }
            | Self::NodeStatus { .. }
            | Self::StateRoot(_)
            | Self::Declared
            | Self::CaughtUp => Ok(()),
        }
    }
}

impl Message for Peer {
    fn validate(&self) -> Result<(), WireError> {
        limits::addresses(&self.addresses)
    }
}

fn validate_peers(peers: &[Peer]) -> Result<(), WireError> {
    limits::at_most("peers", peers.len() as u64, MAX_PEERS as u64)?;
    peers.iter().try_for_each(Peer::validate)
}
