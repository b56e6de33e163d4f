//! Why a command was not applied.

use zoo_content::Digest;
use zoo_protocol::{DeclarationError, JobId, NodeId, SealError, WireError};

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
    /// The job is another network's.
    #[error("the job is for the network of {}, and this is that of {}\nhint: submit it with this network's ticket", .meant.short(), .here.short())]
    ForeignJob {
        /// The network that it names.
        meant: NodeId,
        /// Where it was submitted.
        here: NodeId,
    },
    /// The journal is another network's.
    #[error("the journal is that of the network of {}, and the key is that of {}", .named.short(), .said.short())]
    OtherNetwork {
        /// Whose it is.
        named: NodeId,
        /// What was said.
        said: NodeId,
    },
    /// What is signed for a network cannot be judged where nobody has said which this is.
    #[error("the journal does not say yet which network this is")]
    Unnamed,
    /// A declaration says nothing.
    #[error(transparent)]
    Declaration(#[from] DeclarationError),
    /// The key has gone.
    #[error("{}", gone(key, successor.as_ref()))]
    KeyGone {
        /// The key.
        key: NodeId,
        /// Under which its node goes on.
        successor: Option<NodeId>,
    },
    /// Nobody takes over the past of a key that has one of its own.
    #[error("key {} has a past of its own in this network\nhint: zoo key rotate makes a new one", .0.short())]
    KeyHasPast(NodeId),
    /// Every key has to have given something.
    #[error("nothing has gone into a round since node {} got its key\nhint: rotate it after its next round; zoo key revoke works at once", .0.short())]
    KeyTooFresh(NodeId),
    /// The table of keys that have gone is full.
    #[error(
        "no more keys can be remembered as gone\nhint: a node that has given nothing yet can simply join with a new key"
    )]
    TooManyGone,
    /// It has to wait.
    #[error("not now: {0}\nhint: ask again in a moment")]
    NotNow(&'static str),
    /// The network's owner does not trust this operator.
    #[error(
        "operator {0} is not trusted by this network\nhint: its owner says whom it trusts with zoo up --trust KEY"
    )]
    UntrustedOperator(NodeId),
    /// The credential was revoked, or its node has been at fault since.
    #[error("the credential for node {} is void: it was revoked, or the node was at fault\nhint: the operator issues a new one", .0.short())]
    VoidCredential(NodeId),
    /// The credential holds at another time.
    #[error(
        "the credential holds from {from_s} until {until_s} (seconds since 1970), not at {now_s}\nhint: the operator issues a new one"
    )]
    CredentialTime {
        /// First second at which it holds.
        from_s: u64,
        /// First second at which it does not any more.
        until_s: u64,
        /// The time here.
        now_s: u64,
    },
    /// The node runs other software than its operator vouches for.
    #[error("node {} says that it runs {says:?}, and its credential is for {named:?}\nhint: the operator issues one for what it runs", .node.short())]
    OtherSoftware {
        /// Whose.
        node: NodeId,
        /// What it says.
        says: String,
        /// What the credential says.
        named: String,
    },
    /// Too many credentials are void.
    #[error("no more credentials can be remembered as void; hint: those that have ended are forgotten")]
    TooManyRevoked,
    /// After a fault hardware alone is not enough.
    #[error("node {} was at fault, and then what its hardware vouches for does not count\nhint: an operator can vouch for it", .0.short())]
    WasAtFault(NodeId),
}

fn gone(key: &NodeId, successor: Option<&NodeId>) -> String {
    let key = key.short();
    match successor {
        Some(new) => format!(
            "key {key} has gone: its node goes on as {}\nhint: run zoo key rotate again in the node's directory to finish, or restore the new key",
            new.short()
        ),
        None => format!(
            "key {key} is void: it was revoked\nhint: a node with a new key joins as a newcomer (--dir with another directory)"
        ),
    }
}
