//! What a PNode tells the person in front of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use zoo_content::Digest;
use zoo_network::Traffic;
use zoo_protocol::{JobId, Keep, NodeId, NodeProfile, Report, Standing, Work};
use zoo_storage::Sent;

/// Something worth showing.
#[derive(Clone, Debug)]
pub enum PNodeEvent {
    /// The node has its identity, its socket and its measurement, and looks for the orchestrator.
    Ready {
        /// Who it is.
        node: NodeId,
        /// Where it serves blobs.
        addresses: Vec<SocketAddr>,
        /// What it says of itself.
        profile: NodeProfile,
    },
    /// The orchestrator has accepted the node.
    Connected {
        /// Who that is.
        orchestrator: NodeId,
    },
    /// The orchestrator cannot be reached; the node goes on trying, and goes on with its work.
    Disconnected {
        /// Why.
        cause: String,
        /// When the next try is.
        retry_in: Duration,
    },
    /// The orchestrator gave other work.
    WorkChanged(Work),
    /// The orchestrator gave another list of checkpoints to keep.
    KeepsChanged(Vec<Keep>),
    /// What the network's journal says of the node is something else than before.
    StandingChanged(Standing),
    /// All blobs of the present work are here; it runs.
    Started(Work),
    /// The running window has come so far.
    Progress(Snapshot),
    /// So much has gone over the network since the node was ready.
    Traffic(Traffic),
    /// The orchestrator was told this.
    Reported(Report),
    /// A checkpoint that the node keeps is in the storage.
    Stored {
        /// Of which job.
        job: JobId,
        /// After which round.
        round: u32,
        /// Which.
        checkpoint: Digest,
        /// What it is called there, and what was sent.
        sent: Sent,
        /// How long it took.
        took: Duration,
    },
    /// A checkpoint that the node keeps is not in the storage; training goes on.
    NotStored {
        /// Of which job.
        job: JobId,
        /// After which round.
        round: u32,
        /// Which.
        checkpoint: Digest,
        /// Why.
        cause: String,
        /// When the next try is; `None` if the node does not have it any more.
        retry_in: Option<Duration>,
    },
    /// The orchestrator goes by what the node has shown of itself: its windows are checked less often.
    Trusted,
    /// It does not, and why; the node works on as everybody.
    Distrusted(String),
    /// Something failed that the node tries again by itself.
    Trouble(String),
}

/// Where the running task is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Inner steps done.
    pub step: u32,
    /// Inner steps in total.
    pub steps: u32,
    /// Loss of the latest step, nats per token.
    pub loss: f32,
    /// Tokens per second of the latest step.
    pub tokens_per_second: u32,
}

/// Takes events; called from any thread, and expected to return at once.
pub type EventSink = Arc<dyn Fn(PNodeEvent) + Send + Sync>;
