//! What nodes are asked to do, and what they report.
//!
//! Work is level-triggered: a node is told what it should be doing *now*, and
//! being told twice changes nothing. A node that lost its connection asks
//! again and carries on.

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_kernels::Profile;

use crate::limits::{self, MAX_AMENDMENTS, MAX_EVALUATION_SHARDS, MAX_SUMMANDS, MAX_VNODES};
use crate::{Benchmark, JobId, Message, NodeId, NodeKey, Sealed, Secret, Statement, WireError, encode};

/// What a node should be doing now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Nothing; wait.
    #[default]
    Idle,
    /// Train one window.
    Train(TrainWindow),
    /// Fetch the summands of a round, add them and take the outer step.
    Aggregate(Aggregate),
    /// Evaluate one shard of the held-out data.
    Evaluate(Evaluate),
    /// Add part of a round.
    Sum(Sum),
    /// Train a window again that another node has committed to.
    Verify(VerifyWindow),
    /// Compute a part of a benchmark: one's own, or another's to check it. It gives way to everything else.
    Benchmark(Benchmark),
    /// Tell a secret that was pledged with the last window that counts: nothing of it can be changed any more.
    Tell(Tell),
}

/// Which sequences of a round belong to a replica: step `i` of the window trains on
/// `first_sequence + i * sequences_per_step ..+ sequences_per_step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Index of the first sequence in the job's keyed order.
    pub first_sequence: u64,
    /// Sequences per inner step.
    pub sequences_per_step: u32,
    /// Inner steps.
    pub inner_steps: u32,
}

/// Train the inner steps of one round from `base`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainWindow {
    /// The network that asks, by its orchestrator's key. A node trains for the one that it has joined, and for no other: it signs this.
    pub network: NodeId,
    /// The job.
    pub job: JobId,
    /// The round, from 0.
    pub round: u32,
    /// Training specification.
    pub program: Digest,
    /// Numeric profile of the job: contributions of two profiles never meet in a round.
    pub profile: Profile,
    /// Manifest of the checkpoint the round starts from.
    pub base: Digest,
    /// Tokenised training data.
    pub data: Digest,
    /// Inner step of the job at which the share starts (for schedules).
    pub first_step: u64,
    /// This replica's sequences.
    pub share: Share,
    /// What it trains on before, from where its last window ended: the steps that were its last window's
    /// [`ahead_steps`](Self::ahead_steps). A replica that has lost its state leaves them out.
    pub lead: Option<Share>,
    /// Having ended this window it goes on for so many steps, on the sequences that follow the share, while the round comes together:
    /// the lead of its next window, if it has one.
    pub ahead_steps: u32,
    /// What the replica kept from its last window that was accepted. It starts from that, or, if it has lost it, from nothing.
    pub kept: Option<Digest>,
    /// The round with whose window the node pledged the secret that it tells with this one.
    pub reveals: Option<u32>,
}

impl Share {
    /// Sequences in it.
    pub fn sequences(&self) -> u64 {
        u64::from(self.inner_steps) * u64::from(self.sequences_per_step)
    }

    /// The first sequence behind it.
    pub fn end(&self) -> u64 {
        self.first_sequence.saturating_add(self.sequences())
    }

    /// So many steps on the sequences that follow.
    pub fn after(&self, inner_steps: u32) -> Self {
        Self { first_sequence: self.end(), inner_steps, ..*self }
    }
}

impl Commitment {
    /// What the node with this key commits to.
    pub fn new(work: TrainWindow, replica_in: Option<Digest>, outcome: WindowOutcome, key: &NodeKey) -> Self {
        let secret = |round: u32| key.secret(&work.network, &work.job, round);
        let (pledge, secret) = (secret(work.round).pledge(), work.reveals.map(secret));
        Self { work, replica_in, outcome, pledge, secret }
    }

    /// What was trained on: the share, and the lead before it, if the replica had something to go on from.
    pub fn shares(&self) -> impl Iterator<Item = Share> {
        let lead = self.work.lead.filter(|_| self.replica_in.is_some());
        lead.into_iter().chain([self.work.share])
    }
}

/// One VNode's part of a contribution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VNodeUpdate {
    /// The VNode's id in the network definition.
    pub vnode: String,
    /// The encoded update.
    pub update: Digest,
    /// Size of the encoded update, bytes.
    pub bytes: u64,
    /// Its Euclidean norm in units of `2^-24`, rounded down; 0 of a sum.
    pub norm: u64,
}

/// What came of a window: everything that follows from the window and from what it started from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowOutcome {
    /// Tokens trained on.
    pub tokens: u64,
    /// What the replica keeps for its next window.
    pub replica_out: Digest,
    /// Merkle root over one leaf per inner step.
    pub steps_root: Digest,
    /// Number of leaves under `steps_root`.
    pub steps: u32,
    /// One update per VNode, in network order.
    pub updates: Vec<VNodeUpdate>,
    /// Mean training loss over the window, nats per token, as f64 bits.
    pub mean_loss_bits: u64,
}

impl WindowOutcome {
    /// Digest of all of it. Of what goes into it, only the updates are ever told to other nodes, so who can say it has trained the
    /// window, or was told by somebody who has.
    pub fn digest(&self) -> Digest {
        Digest::of(&encode(self))
    }
}

/// Everything a replica says about one window, signed as sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment {
    /// The work that was done, whole.
    pub work: TrainWindow,
    /// What the replica kept from its last window (optimiser state, error feedback); `None` is the fresh state.
    pub replica_in: Option<Digest>,
    /// What came of it.
    pub outcome: WindowOutcome,
    /// Of the secret that the node will tell with its next window.
    pub pledge: Digest,
    /// The secret that the work [asks for](TrainWindow::reveals).
    pub secret: Option<Secret>,
}

/// Train a window again that another node has committed to, not knowing what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyWindow {
    /// The round in which this is asked.
    pub asked_in: u32,
    /// Whose window it is.
    pub maker: NodeId,
    /// The window.
    pub window: Box<TrainWindow>,
    /// What the maker started from.
    pub replica_in: Option<Digest>,
}

/// What is added up: a contribution that a round includes, or a sum of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summand {
    /// Who made it, and who holds its blobs.
    pub node: NodeId,
    /// Whether it is a contribution or a sum.
    pub form: Form,
    /// The round of the window that it was trained in: one before the present one if it came late, and then it weighs half.
    pub round: u32,
    /// Tokens that stand behind it: its weight.
    pub tokens: u64,
    /// Place in the network of the VNode that `updates` begins with.
    pub first_vnode: u32,
    /// One update or sum per VNode from there on, in network order.
    pub updates: Vec<VNodeUpdate>,
}

/// What a summand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// One replica's contribution.
    Contribution,
    /// The sum of so many contributions.
    Sum(u32),
}

/// Add some VNodes of some summands of a round: an inner node of its tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// The job.
    pub job: JobId,
    /// The round.
    pub round: u32,
    /// The attempt, as in [`Aggregate`].
    pub attempt: u32,
    /// Number of the sum in the attempt.
    pub sum: u32,
    /// Training specification: the VNodes, and how updates are encoded.
    pub program: Digest,
    /// Place of its first VNode.
    pub first_vnode: u32,
    /// Number of VNodes.
    pub vnodes: u32,
    /// The norm that updates of each of these are clipped to: the median of the round.
    pub norm_limits: Vec<u64>,
    /// What goes in; each has those VNodes and no others.
    pub summands: Vec<Summand>,
}

/// Aggregate a sealed round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregate {
    /// The job.
    pub job: JobId,
    /// The round.
    pub round: u32,
    /// Grows when a contribution had to be dropped because nobody could fetch it.
    pub attempt: u32,
    /// Training specification (its outer step).
    pub program: Digest,
    /// Manifest of the checkpoint the round started from.
    pub base: Digest,
    /// Tokenised training data (recorded in the new manifest).
    pub data: Digest,
    /// The norm that updates of each VNode are clipped to: the median of the round.
    pub norm_limits: Vec<u64>,
    /// What goes in: together every VNode of every contribution once.
    pub summands: Vec<Summand>,
    /// Inner step of the job after the round.
    pub step: u64,
    /// Earlier rounds, out of which something is taken back in the same step, in order.
    pub amendments: Vec<Amendment>,
    /// No outer step follows, so what is taken back has no later round to come to its whole effect in.
    pub is_last: bool,
}

/// Tell a secret that was pledged with a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tell {
    /// The network that asks, by its orchestrator's key: a node tells no other.
    pub network: NodeId,
    /// The job.
    pub job: JobId,
    /// The round of the window with which it was pledged.
    pub round: u32,
}

impl Tell {
    /// What whoever has this key says.
    pub fn answer(&self, key: &NodeKey) -> Report {
        let Self { job, round, .. } = *self;
        Report::Told { job, round, secret: key.secret(&self.network, &job, round) }
    }
}

/// An earlier round that should have come to something else: the makers of some of its contributions were convicted since. What its updates
/// came to on average without these, less what they came to with them, is added to what those of the present round come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amendment {
    /// The round.
    pub round: u32,
    /// The norm that its updates were clipped to.
    pub norm_limits: Vec<u64>,
    /// What its outer step added.
    pub summands: Vec<Summand>,
    /// Whose contributions counted together as one: they were alike.
    pub alike: Vec<NodeId>,
    /// Contributions in these that were taken back before.
    pub withdrawn: Vec<Summand>,
    /// Contributions in these that are taken back now.
    pub withdraws: Vec<Summand>,
}

/// Evaluate one shard of the held-out data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluate {
    /// The job.
    pub job: JobId,
    /// The round whose checkpoint is evaluated.
    pub round: u32,
    /// Training specification.
    pub program: Digest,
    /// Manifest of the checkpoint.
    pub checkpoint: Digest,
    /// Tokenised held-out data.
    pub data: Digest,
    /// Which shard.
    pub shard: u32,
    /// Of how many.
    pub shards: u32,
}

/// What a node reports about its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// A window is trained and its blobs can be fetched.
    Trained(Sealed<Commitment>),
    /// A round is aggregated.
    Aggregated {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
        /// Manifest of the new checkpoint; equal on every honest node.
        checkpoint: Digest,
        /// Whose contributions did not count, ordered: they have nothing to do with the others', or were given in a round before.
        left_out: Vec<NodeId>,
        /// Whose contributions counted only as a part, ordered: they are alike, and nobody can tell which was first.
        alike: Vec<NodeId>,
    },
    /// A summand of the node's work could not be fetched from anyone.
    Missing {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
        /// Who made it.
        maker: NodeId,
    },
    /// A shard is evaluated.
    Evaluated {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// The shard.
        shard: u32,
        /// Sum of the losses in nats, as f64 bits.
        nats_bits: u64,
        /// Tokens scored.
        tokens: u64,
        /// Bytes of text those tokens stand for.
        bytes: u64,
    },
    /// The work could not be done.
    Failed {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Why (made by [`limits::reason`]).
        reason: String,
    },
    /// Part of a round is added, and the sums can be fetched.
    Summed {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
        /// Number of the sum.
        sum: u32,
        /// One sum per VNode, in network order.
        sums: Vec<VNodeUpdate>,
    },
    /// Summands of the node's work are not what they must be.
    Refused {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
        /// All of them, each with its reason.
        summands: Vec<RefusedSummand>,
    },
    /// All of a checkpoint that the node is asked to keep is there.
    Kept {
        /// The job.
        job: JobId,
        /// The round that ended with it.
        round: u32,
        /// Which asking this answers.
        ask: u32,
    },
    /// The answer to a challenge.
    Proved {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Of the challenge.
        nonce: u64,
        /// The part and what it takes to check it (`zoo_content::slice`), at most [`limits::MAX_PROOF_BYTES`]; empty if the node finds
        /// that it does not hold the blob any more.
        proof: Vec<u8>,
    },
    /// Another node's window is trained again.
    Verified {
        /// The job.
        job: JobId,
        /// The round of the window.
        round: u32,
        /// Whose it is.
        maker: NodeId,
        /// Digest of what came of it ([`WindowOutcome::digest`]).
        outcome: Digest,
    },
    /// Another node's window cannot be trained again: what it started from can be had from nobody.
    Withheld {
        /// The job.
        job: JobId,
        /// The round of the window.
        round: u32,
        /// Whose it is.
        maker: NodeId,
    },
    /// What the amendment of an earlier round takes can be had from nobody.
    Unamendable {
        /// The job.
        job: JobId,
        /// The round whose work it is.
        round: u32,
        /// The attempt.
        attempt: u32,
    },
    /// A part of a benchmark is computed.
    Benchmarked {
        /// Of the part.
        seed: Digest,
        /// The [pledge](Benchmark::pledge) of the answer, if the node itself is measured, and else the answer.
        answer: Digest,
    },
    /// A secret that was pledged with a window.
    Told {
        /// The job.
        job: JobId,
        /// The round of the window.
        round: u32,
        /// The secret.
        secret: Secret,
    },
}

/// A summand that cannot be added, whoever tries: what is wrong with it is in its bytes or in what was said of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedSummand {
    /// Who made it.
    pub maker: NodeId,
    /// Whether it is a contribution or a sum.
    pub form: Form,
    /// Place in the network of its first VNode.
    pub first_vnode: u32,
    /// What is wrong with it (made by [`limits::reason`]).
    pub reason: String,
}

impl Message for Work {
    fn validate(&self) -> Result<(), WireError> {
        match self {
            Self::Idle | Self::Tell(_) => Ok(()),
            Self::Train(window) => window.validate(),
            Self::Verify(task) => task.window.validate(),
            Self::Benchmark(task) => task.validate(),
            Self::Aggregate(task) => {
                limits::at_most("limits of norms", task.norm_limits.len() as u64, MAX_VNODES as u64)?;
                summands(&task.summands)?;
                limits::at_most("amended rounds", task.amendments.len() as u64, MAX_AMENDMENTS as u64)?;
                task.amendments.iter().try_for_each(Amendment::validate)
            }
            Self::Sum(task) => {
                limits::positive("vnodes of a sum", task.vnodes.into())?;
                limits::at_most("vnodes of a sum", task.vnodes.into(), MAX_VNODES as u64)?;
                limits::at_most("limits of norms", task.norm_limits.len() as u64, task.vnodes.into())?;
                summands(&task.summands)
            }
            Self::Evaluate(task) => {
                limits::positive("shards", task.shards.into())?;
                limits::at_most("shards", task.shards.into(), MAX_EVALUATION_SHARDS)?;
                limits::at_most("shard", task.shard.into(), u64::from(task.shards) - 1)
            }
        }
    }
}

fn summands(summands: &[Summand]) -> Result<(), WireError> {
    limits::at_most("summands", summands.len() as u64, MAX_SUMMANDS as u64)?;
    summands.iter().try_for_each(|summand| limits::updates(&summand.updates))
}

impl Message for Amendment {
    fn validate(&self) -> Result<(), WireError> {
        limits::at_most("limits of norms", self.norm_limits.len() as u64, MAX_VNODES as u64)?;
        limits::at_most("nodes whose updates are alike", self.alike.len() as u64, MAX_SUMMANDS as u64)?;
        [&self.summands, &self.withdrawn, &self.withdraws].into_iter().try_for_each(|list| summands(list))
    }
}

impl Message for Share {
    fn validate(&self) -> Result<(), WireError> {
        limits::positive("sequences_per_step", self.sequences_per_step.into())?;
        limits::positive("inner_steps", self.inner_steps.into())
    }
}

impl Message for TrainWindow {
    fn validate(&self) -> Result<(), WireError> {
        self.lead.iter().chain([&self.share]).try_for_each(Share::validate)?;
        // Whoever adds up steps need not fear an overflow.
        let lead_steps = self.lead.map_or(0, |lead| lead.inner_steps);
        let steps = [lead_steps, self.share.inner_steps, self.ahead_steps].map(u64::from).iter().sum();
        limits::at_most("inner steps of a window", steps, u32::MAX.into())
    }
}

impl Message for Commitment {
    fn validate(&self) -> Result<(), WireError> {
        self.work.validate()?;
        limits::updates(&self.outcome.updates)
    }
}

impl Statement for Commitment {
    const PURPOSE: &'static str = "commitment/3";
}

impl Message for Report {
    /// A commitment is validated when its seal is opened.
    fn validate(&self) -> Result<(), WireError> {
        match self {
            Self::Trained(sealed) => sealed.validate(),
            Self::Failed { reason, .. } => limits::explanation("reason of a failure", reason),
            Self::Summed { sums, .. } => limits::updates(sums),
            Self::Refused { summands, .. } => {
                limits::at_most("refused summands", summands.len() as u64, MAX_SUMMANDS as u64)?;
                let mut reasons = summands.iter().map(|refused| &refused.reason);
                reasons.try_for_each(|reason| limits::explanation("reason of a refusal", reason))
            }
            Self::Proved { proof, .. } => {
                limits::at_most("bytes of a proof", proof.len() as u64, limits::MAX_PROOF_BYTES as u64)
            }
            Self::Aggregated { left_out, alike, .. } => {
                limits::at_most("nodes left out", left_out.len() as u64, MAX_SUMMANDS as u64)?;
                limits::at_most("nodes whose updates are alike", alike.len() as u64, MAX_SUMMANDS as u64)
            }
            Self::Missing { .. }
            | Self::Evaluated { .. }
            | Self::Kept { .. }
            | Self::Verified { .. }
            | Self::Withheld { .. }
            | Self::Unamendable { .. }
            | Self::Benchmarked { .. }
            | Self::Told { .. } => Ok(()),
        }
    }
}
