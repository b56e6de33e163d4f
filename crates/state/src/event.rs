//! What came of a command: what people and programs that watch are told.

use std::fmt;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{
    Attestation, CredentialId, JobId, Link, Message, NodeId, NodeProfile, Part, RoundPlan, Share, WireError,
};

use crate::{Distrust, LossCause, Rating, Release, Unrated};

/// One thing that happened. Variants are only ever appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A node joined for the first time.
    NodeJoined {
        /// Who.
        node: NodeId,
        /// What it says of itself.
        profile: NodeProfile,
    },
    /// A node is gone.
    NodeLost {
        /// Who.
        node: NodeId,
        /// How it was noticed.
        cause: LossCause,
    },
    /// A node that was known joined again.
    NodeRejoined {
        /// Who.
        node: NodeId,
        /// What it says of itself now.
        profile: NodeProfile,
    },
    /// A job was accepted.
    JobAccepted {
        /// Its id.
        job: JobId,
        /// Its name.
        name: String,
        /// How its rounds run.
        plan: RoundPlan,
        /// Jobs that run before it.
        ahead: u32,
    },
    /// A round cannot start for lack of nodes.
    RoundWaiting {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Live nodes in good standing.
        nodes: u32,
        /// How many it takes.
        minimum: u32,
    },
    /// Training of a round started.
    RoundStarted {
        /// The job.
        job: JobId,
        /// The round, from 0.
        round: u32,
        /// 1, and more if the round had to be restarted.
        start: u32,
        /// Manifest of the checkpoint it starts from.
        base: Digest,
        /// Who takes part, with which sequences.
        shares: Vec<(NodeId, Share)>,
        /// Inner steps of the round that those who contributed to the one before have taken ahead of its checkpoint.
        lead_steps: u32,
        /// So many of the next round's are to be taken ahead while this one comes together.
        ahead_steps: u32,
    },
    /// A node's work failed, and why in its words.
    WorkFailed {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Who.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// A contribution was accepted.
    ContributionAccepted {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Whose.
        node: NodeId,
        /// Digest of the commitment's canonical encoding.
        commitment: Digest,
        /// Tokens it was trained on.
        tokens: u64,
        /// Mean training loss, nats per token, as f64 bits.
        mean_loss_bits: u64,
        /// Size of its updates, bytes.
        bytes: u64,
    },
    /// A round goes on without the contribution of a participant.
    ContributionMissed {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Whose.
        node: NodeId,
        /// Why.
        why: Missed,
    },
    /// The contributions of a round are fixed; nodes aggregate.
    RoundSealed {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Grows within a round whenever what is aggregated changes.
        attempt: u32,
        /// Whose contributions go in, ordered.
        contributors: Vec<NodeId>,
        /// Tokens they were trained on.
        tokens: u64,
    },
    /// A round got nowhere and will start again from the same base.
    RoundRestarted {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Why.
        why: Restart,
    },
    /// A round is finished.
    RoundFinished {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Manifest of the new checkpoint.
        checkpoint: Digest,
        /// Who reported to hold it.
        holders: Vec<NodeId>,
        /// Tokens of the job in all its rounds so far.
        tokens: u64,
        /// Inner steps of all finished rounds.
        step: u64,
    },
    /// An evaluation is finished.
    EvaluationFinished {
        /// The job.
        job: JobId,
        /// The round whose checkpoint was evaluated.
        round: u32,
        /// Sum of the losses over the held-out data, nats, as f64 bits.
        nats_bits: u64,
        /// Tokens scored.
        tokens: u64,
        /// Bytes of text those tokens stand for.
        bytes: u64,
        /// Bits per byte of held-out text, as f64 bits.
        bits_per_byte_bits: u64,
    },
    /// A node did what no honest node does.
    Fault {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Who; barred through the next round.
        node: NodeId,
        /// What it did.
        kind: FaultKind,
    },
    /// A job is finished.
    JobFinished {
        /// The job.
        job: JobId,
        /// Manifest of its final checkpoint.
        checkpoint: Digest,
        /// Tokens of all its rounds.
        tokens: u64,
    },
    /// A job failed and will not go on by itself.
    JobFailed {
        /// The job.
        job: JobId,
        /// Why.
        why: Failure,
    },
    /// Part of a round was added.
    PartSummed {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Number of the sum in the attempt.
        sum: u32,
        /// By whom.
        node: NodeId,
        /// Size of the sums, bytes.
        bytes: u64,
    },
    /// A part of a round is with another node than before: the one that had it was lost, late, failed, or its sum could not be
    /// used.
    PartMoved {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Number of the sum in the attempt.
        sum: u32,
        /// Who adds it now; nobody while nobody can.
        node: Option<NodeId>,
    },
    /// A node's link is known, or known to be another than before.
    LinkMeasured {
        /// Whose.
        node: NodeId,
        /// What its transfers say.
        link: Link,
    },
    /// A node is silent for the orchestrator and alive for its peers: it keeps its place in the round for a while.
    NodeSuspected {
        /// Who.
        node: NodeId,
        /// Who reached it.
        reached_by: Vec<NodeId>,
    },
    /// A suspected node was heard again.
    NodeHeard {
        /// Who.
        node: NodeId,
    },
    /// A node is asked to keep a checkpoint.
    CheckpointAsked {
        /// The job.
        job: JobId,
        /// The round that ended with it.
        round: u32,
        /// Who.
        node: NodeId,
    },
    /// A node that was asked to keep a checkpoint says that it has all of it.
    CheckpointKept {
        /// The job.
        job: JobId,
        /// The round that ended with it.
        round: u32,
        /// Who.
        node: NodeId,
    },
    /// A node keeps a checkpoint no longer that still is kept.
    CheckpointReleased {
        /// The job.
        job: JobId,
        /// The round that ended with it.
        round: u32,
        /// Who.
        node: NodeId,
        /// Why.
        why: Release,
    },
    /// A round is sealed without a participant, which goes on with its window: what it comes to counts half in the next round.
    ContributionLate {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Who.
        node: NodeId,
    },
    /// A job ends before its last step.
    JobStopped {
        /// The job.
        job: JobId,
        /// The manifest of its last checkpoint, if a round of it was finished.
        checkpoint: Option<Digest>,
        /// Tokens of all its rounds.
        tokens: u64,
        /// Why.
        why: Stop,
    },
    /// A job waits until it is told to go on; the round that it was in begins again then.
    JobPaused {
        /// The job.
        job: JobId,
    },
    /// A paused job goes on.
    JobResumed {
        /// The job.
        job: JobId,
        /// Jobs that run before it.
        ahead: u32,
    },
    /// A node is asked to train another's window again.
    VerificationAsked {
        /// The job.
        job: JobId,
        /// The round of the window.
        round: u32,
        /// Whose window it is.
        maker: NodeId,
        /// Who is asked.
        verifier: NodeId,
    },
    /// A node is not waited for any longer that was asked to train another's window again.
    VerifierReleased {
        /// The job.
        job: JobId,
        /// The round of the window.
        round: u32,
        /// Whose window it is.
        maker: NodeId,
        /// Who was asked.
        verifier: NodeId,
    },
    /// A node has trained another's window again, or could not have what it started from.
    VerdictGiven {
        /// The job.
        job: JobId,
        /// The round of the window.
        round: u32,
        /// Whose window it is.
        maker: NodeId,
        /// Who trained it again.
        verifier: NodeId,
        /// Digest of what came of it, and whether that is what was committed to; nothing if it was withheld.
        outcome: Option<(Digest, bool)>,
    },
    /// Others trained a window to the outcome that was committed to.
    WindowVerified {
        /// The job.
        job: JobId,
        /// The round of the window.
        round: u32,
        /// Whose window it is.
        maker: NodeId,
        /// Who came to the same.
        verifiers: Vec<NodeId>,
    },
    /// It could not be settled what comes of a window.
    WindowUnverified {
        /// The job.
        job: JobId,
        /// The round of the window.
        round: u32,
        /// Whose window it is.
        maker: NodeId,
        /// Why.
        why: Unverified,
    },
    /// What a convicted node had given to a round that was not final is out of the model again, or stays in it.
    ContributionWithdrawn {
        /// The job.
        job: JobId,
        /// The round in which it counted.
        round: u32,
        /// Whose.
        node: NodeId,
        /// The round with whose outer step it was taken back; none if nobody has any more what that takes.
        withdrawn_in: Option<u32>,
    },
    /// The host said whose network this is, and whose word counts in it.
    NetworkNamed {
        /// The orchestrator's key.
        network: NodeId,
        /// Operators that the owner trusts.
        operators: Vec<NodeId>,
    },
    /// A node goes on under another key, with everything that is known of it.
    NodeSucceeded {
        /// The key that has gone.
        old: NodeId,
        /// The key that has come.
        new: NodeId,
    },
    /// A node's key is void.
    NodeRetired {
        /// Whose.
        node: NodeId,
    },
    /// An operator vouches for a node.
    NodeVouched {
        /// For whom.
        node: NodeId,
        /// Who.
        operator: NodeId,
        /// By which credential.
        credential: CredentialId,
        /// First second since 1970 at which it means nothing any more.
        valid_until_s: u64,
    },
    /// A node's hardware vouches for it.
    NodeAttested {
        /// For whom.
        node: NodeId,
        /// What it says.
        attestation: Attestation,
    },
    /// Nobody vouches for a node any more.
    TrustEnded {
        /// For whom.
        node: NodeId,
        /// Why.
        why: Distrust,
    },
    /// Nodes that have nothing to do are measured, all of them at once: a part begins.
    BenchmarkStarted {
        /// Which.
        part: Part,
        /// How many.
        nodes: u32,
    },
    /// They have answered, and check each other.
    CheckersDrawn {
        /// How many.
        nodes: u32,
    },
    /// Another came to something else than a node said; somebody else is asked, if there is anybody.
    BenchmarkDoubted {
        /// Who said it.
        node: NodeId,
    },
    /// A node was measured, and others computed the same.
    NodeRated {
        /// Who.
        node: NodeId,
        /// What it is worth.
        rating: Rating,
    },
    /// A node was measured and has no rating.
    NodeUnrated {
        /// Who.
        node: NodeId,
        /// Why.
        why: Unrated,
    },
    /// The last round of a job is sealed: what is left of its windows is drawn and verified, and then it is aggregated.
    JobSettling {
        /// The job.
        job: JobId,
        /// Its last round.
        round: u32,
    },
}

impl Message for Event {
    /// Whatever is shown to people does not steer their terminal, whoever sent the event.
    fn validate(&self) -> Result<(), WireError> {
        let shown = match self {
            Event::NodeJoined { profile, .. } | Event::NodeRejoined { profile, .. } => {
                return profile.validate();
            }
            Event::JobAccepted { name, .. } => name,
            Event::WorkFailed { reason, .. }
            | Event::ContributionMissed { why: Missed::Failed(reason), .. }
            | Event::Fault { kind: FaultKind::Refused { reason }, .. } => reason,
            _ => return Ok(()),
        };
        let steers_terminal = shown.contains(|c: char| c.is_control() && c != '\n');
        if steers_terminal { Err(WireError::ControlCharacter("text of an event")) } else { Ok(()) }
    }
}

/// Why a round goes on without a participant's contribution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missed {
    /// The node was lost before it contributed.
    Lost,
    /// It took longer than the plan allows.
    Deadline,
    /// Its work failed, and why in its words.
    Failed(String),
    /// The contribution was accepted, but its blobs cannot be fetched.
    Unavailable,
    /// It was accepted, and has nothing to do with the others, or was given in a round before: it did not count, and the window will be trained
    /// again.
    Outlier,
}

/// Why it could not be settled what comes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unverified {
    /// What it started from could be had from nobody.
    Withheld,
    /// Those who trained it again came to nothing in common.
    Undecided,
    /// Not enough nodes had time for it.
    Expired,
    /// Its node was convicted of another one.
    Convicted,
    /// The job is over.
    JobOver,
}

/// What a node did that no honest node does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// It reported another checkpoint for a round than most nodes did.
    Disagreement {
        /// What it reported.
        reported: Digest,
        /// What most reported.
        agreed: Digest,
    },
    /// Its contribution claims other token counts or VNodes than most did.
    Outline,
    /// Its contribution is not what it must be.
    Refused {
        /// What is wrong with it, in the words of those who were to add it.
        reason: String,
    },
    /// It commits to an update that is far larger than those of most.
    Oversized {
        /// Place of the VNode in the network.
        vnode: u32,
        /// Size of the update, bytes.
        bytes: u64,
        /// Most that it may be next to the others, bytes.
        limit: u64,
    },
    /// It committed to a window that comes to something else.
    WrongWindow {
        /// The round of the window.
        window: u32,
        /// Digest of the outcome that it committed to.
        committed: Digest,
        /// Of the outcome that it has.
        right: Digest,
        /// Who came to that, each by itself.
        verifiers: Vec<NodeId>,
    },
    /// It said of another's window that it comes to something else than it does.
    WrongVerdict {
        /// The round of the window.
        window: u32,
        /// Whose window it is.
        maker: NodeId,
        /// Digest of the outcome that it said.
        said: Digest,
        /// Of the outcome that most came to.
        right: Digest,
    },
}

/// Why a round starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Every participant was lost before it contributed.
    EveryoneLost,
    /// No participant contributed, though some were live.
    NoContribution,
    /// No accepted contribution could be fetched and added.
    NothingLeft,
    /// As many participants claim one outline of a contribution as another.
    OutlineTie,
    /// No node produced a checkpoint.
    NotAggregated,
    /// Of the nodes that could aggregate in time, as many reported one checkpoint as another.
    Tie,
    /// Every node that holds the agreed checkpoint was lost, and the others reported another.
    HoldersLost,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// A round got nowhere too often.
    NoProgress {
        /// The round.
        round: u32,
        /// Why it restarted the last time.
        last: Restart,
    },
    /// No node could evaluate a checkpoint.
    NoEvaluation {
        /// The round.
        round: u32,
    },
    /// All nodes aggregated, and no checkpoint was reported by most.
    Disagreement {
        /// The round.
        round: u32,
        /// What was reported, by whom.
        checkpoints: Vec<(Digest, Vec<NodeId>)>,
    },
    /// The held-out data stands for no text.
    NothingToEvaluate,
    /// There are no more sequence numbers.
    SequencesExhausted,
}

/// Why a job ends before its last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// Its owner wanted it.
    Cancelled,
    /// It was trained on as many tokens as its budget allows.
    Budget,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stop::Cancelled => "it was cancelled",
            Stop::Budget => "its budget is used up",
        })
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missed::Lost => f.write_str("the node was lost"),
            Missed::Deadline => f.write_str("the deadline passed"),
            Missed::Failed(reason) => f.write_str(reason),
            Missed::Unavailable => f.write_str("its blobs cannot be fetched"),
            Missed::Outlier => f.write_str("it has nothing to do with the others, or was given before"),
        }
    }
}

impl fmt::Display for Unrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unrated::Late => "it took too long",
            Unrated::Wrong => "others came to something else",
        })
    }
}

impl fmt::Display for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unverified::Withheld => "what it started from could be had from nobody",
            Unverified::Undecided => "those who trained it again came to nothing in common",
            Unverified::Expired => "not enough nodes had time for it",
            Unverified::Convicted => "its node was convicted of another one",
            Unverified::JobOver => "the job was over before",
        })
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::Disagreement { reported, agreed } => {
                write!(f, "reported checkpoint {} where most reported {}", reported.short(), agreed.short())
            }
            FaultKind::Outline => f.write_str("claimed other token counts or VNodes than most"),
            FaultKind::Refused { reason } => write!(f, "made a contribution that cannot be added: {reason}"),
            FaultKind::Oversized { vnode, bytes, limit } => {
                write!(
                    f,
                    "committed to an update of {bytes} bytes for VNode {vnode}, where next to the others {limit} are the most"
                )
            }
            FaultKind::WrongWindow { window, committed, right, verifiers } => write!(
                f,
                "committed to {} for its window of round {window}, which comes to {} ({} nodes trained it again)",
                committed.short(),
                right.short(),
                verifiers.len()
            ),
            FaultKind::WrongVerdict { window, maker, said, right } => write!(
                f,
                "said that the window of {} in round {window} comes to {}, where it comes to {}",
                maker.short(),
                said.short(),
                right.short()
            ),
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Restart::EveryoneLost => "every participant was lost",
            Restart::NoContribution => "no participant contributed in time",
            Restart::NothingLeft => "no contribution could be fetched and added",
            Restart::OutlineTie => "the contributions do not fit together",
            Restart::NotAggregated => "no node produced a checkpoint in time",
            Restart::Tie => "the nodes that could aggregate disagree on the checkpoint",
            Restart::HoldersLost => "every holder of the agreed checkpoint was lost",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NoProgress { round, last } => write!(
                f,
                "round {round} got nowhere too often, the last time because {last}; \
                 hint: see what the nodes reported, or raise contribution_deadline_ms"
            ),
            Failure::NoEvaluation { round } => write!(
                f,
                "no node could evaluate the checkpoint of round {round}; \
                 hint: see what the nodes reported, or raise contribution_deadline_ms"
            ),
            Failure::Disagreement { round, checkpoints } => {
                write!(f, "nodes disagree on the checkpoint of round {round}:")?;
                checkpoints.iter().try_for_each(|(checkpoint, nodes)| {
                    let nodes: Vec<_> = nodes.iter().map(NodeId::short).collect();
                    write!(f, " {} by {};", checkpoint.short(), nodes.join(", "))
                })
            }
            Failure::NothingToEvaluate => {
                f.write_str("the held-out data stands for no text; hint: submit with more data")
            }
            Failure::SequencesExhausted => f.write_str("there are no more sequence numbers"),
        }
    }
}
