//! Why a command was not applied.

use zoo_content::Digest;
use zoo_protocol::{JobId, NodeId, SealError, WireError};

use crate::Steer;
use crate::limits::{MAX_NODES, MAX_QUEUED_JOBS, MAX_ROUND_BYTES};

/// Why a command was not applied. The state is as it was before, so a refused command need
/// not be journaled.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// No such node has ever joined.
    #[error("node {} is unknown; hint: it has to join first", .0.short())]
    UnknownNode(NodeId),
    /// The node counts as lost.
    #[error("node {} counts as lost; hint: it has to join again", .0.short())]
    NotLive(NodeId),
    /// The node says of its link what is known, or says it too soon.
    #[error("node {} says nothing new of its link", .0.short())]
    NoNews(NodeId),
    /// No sitting is due, or it waits for something else.
    #[error("nothing is to be drawn for the admission of nodes now")]
    NothingToDraw,
    /// The table of nodes is full.
    #[error("{MAX_NODES} nodes are known already, which is the limit")]
    TooManyNodes,
    /// The queue of jobs is full.
    #[error("{MAX_QUEUED_JOBS} jobs are waiting already, which is the limit; hint: submit again later")]
    QueueFull,
    /// No such job is known, or it was forgotten.
    #[error("job {} is unknown; hint: the jobs that are known can be listed", .0.short())]
    UnknownJob(JobId),
    /// Nothing can be wanted of a job that is over.
    #[error("cannot {steer} job {}: it is over", .job.short())]
    JobIsOver {
        /// The job.
        job: JobId,
        /// What was wanted.
        steer: Steer,
    },
    /// The table of paused jobs is full.
    #[error("{MAX_QUEUED_JOBS} jobs are paused already, which is the limit; hint: cancel some")]
    TooManyPaused,
    /// The contributions of the round are more than the state can hold.
    #[error("the round is full: what is said of its contributions exceeds {MAX_ROUND_BYTES} bytes")]
    RoundFull,
    /// Something in the command is outside the limits of messages.
    #[error("{0}")]
    Limit(#[from] WireError),
    /// Something in the command makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The seal of a commitment is broken.
    #[error("commitment not opened: {0}")]
    Seal(#[from] SealError),
    /// A node reported a commitment that another one signed.
    #[error("commitment reported by {} was signed by {}", .reporter.short(), .signer.short())]
    ForeignSeal {
        /// Who reported.
        reporter: NodeId,
        /// Who signed.
        signer: NodeId,
    },
    /// The node was not asked for this: another job, round or phase, or no part in it.
    #[error("node {} was not asked for this: {why}", .node.short())]
    NotAssigned {
        /// Who reported.
        node: NodeId,
        /// What does not fit.
        why: &'static str,
    },
    /// The commitment's work is not the work that was assigned.
    #[error("node {} trained another window than the one assigned to it", .0.short())]
    OtherWindow(NodeId),
    /// The contribution is another's.
    #[error("node {} hands in the updates that node {} has contributed", .node.short(), .of.short())]
    Repeated {
        /// Who reported.
        node: NodeId,
        /// Whose updates they are.
        of: NodeId,
    },
    /// Another answer to the same work has been accepted from this node.
    #[error("node {} has given another answer before", .0.short())]
    AnsweredOtherwise(NodeId),
    /// Another sum of the same part has been accepted.
    #[error("node {} reports other bytes for sum {sum} than were reported before", .node.short())]
    OtherSum {
        /// Who reported.
        node: NodeId,
        /// Number of the sum.
        sum: u32,
    },
    /// A checkpoint of a finished round that is not the one agreed on.
    #[error("node {} reports checkpoint {} for a round that finished with {}", .node.short(), .reported.short(), .agreed.short())]
    OtherCheckpoint {
        /// Who reported.
        node: NodeId,
        /// What it reported.
        reported: Digest,
        /// What the round finished with.
        agreed: Digest,
    },
}
