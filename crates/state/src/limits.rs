//! Bounds of the state machine, beside those of every message ([`zoo_protocol::limits`]), and the
//! checks of what strangers say against them.

use std::collections::BTreeSet;

use zoo_protocol::{Commitment, JobDescription, MAX_FRAME_BYTES};

use crate::{Refusal, ShardScore};

/// An update may have so many times the bytes that the middle one of its VNode has, and so many more: sizes differ with what there
/// is to say, and headers are small.
pub const UPDATE_SIZES_APART: u64 = 8;
/// See [`UPDATE_SIZES_APART`].
pub const UPDATE_BYTES_APART: u64 = 64 << 10;
/// Nodes that are known at once, live or not.
pub const MAX_NODES: usize = 1 << 16;
/// Participants of one round; the first by id.
pub const MAX_PARTICIPANTS: usize = 1 << 14;
/// What is said of a round's contributions, bytes: all of it is in the state until the round is over.
pub const MAX_ROUND_BYTES: u64 = 1 << 28;
/// What is said of the summands of one piece of work, bytes. It has to fit into a frame, with the peers beside it.
pub const MAX_WORK_BYTES: usize = MAX_FRAME_BYTES / 4 * 3;
/// Jobs that wait at once.
pub const MAX_QUEUED_JOBS: usize = 1 << 10;
/// Finished and failed jobs that are remembered.
pub const MAX_FINISHED_JOBS: usize = 1 << 8;
/// Restarts of one round, or reassignments of one evaluation, that got nowhere although live
/// nodes took part. One more and the job fails.
pub const MAX_FRUITLESS: u32 = 8;
/// Inner steps of a job; it has no more rounds than these.
pub const MAX_STEPS: u64 = 1 << 31;
/// Sequences of one window: inner steps times sequences per step.
pub const MAX_WINDOW_SEQUENCES: u64 = 1 << 24;
/// Tokens of one sequence.
pub const MAX_SEQUENCE_TOKENS: u64 = 1 << 20;
/// Tokens that are accounted for, in all jobs, before no more are accepted. What a round can
/// still add to it does not overflow.
pub const MAX_TOKENS: u64 = 1 << 62;
/// Tokens of one held-out shard, and bytes of text they stand for.
pub const MAX_SHARD_TOKENS: u64 = 1 << 44;
/// A loss, nats per token: more than any finite model reaches, and sums of it stay finite.
pub const MAX_NATS_PER_TOKEN: f64 = 1e6;

/// The numbers of a plan, beyond what every message is checked for.
pub(crate) fn check_job(job: &JobDescription) -> Result<(), Refusal> {
    let plan = &job.plan;
    check_range("steps", plan.steps, MAX_STEPS)?;
    let sequences = u64::from(plan.most_inner_steps()) * u64::from(plan.sequences_per_step);
    check_range("inner_steps x sequences_per_step", sequences, MAX_WINDOW_SEQUENCES)?;
    check_range("minimum_nodes", plan.minimum_nodes.into(), MAX_PARTICIPANTS as u64)
}

/// What can be known of a commitment without running it: its counts fit the window, its numbers
/// are numbers. That its work is the assigned work has been checked before.
pub(crate) fn check_commitment(commitment: &Commitment) -> Result<(), Refusal> {
    let inner_steps: u64 = commitment.shares().map(|share| u64::from(share.inner_steps)).sum();
    require(u64::from(commitment.outcome.steps) == inner_steps, || {
        format!("the commitment has {} step leaves for {inner_steps} inner steps", commitment.outcome.steps)
    })?;
    let sequences: u64 = commitment.shares().map(|share| share.sequences()).sum();
    require(commitment.outcome.tokens.is_multiple_of(sequences), || {
        format!(
            "the commitment's {} tokens are no multiple of the window's {sequences} sequences",
            commitment.outcome.tokens
        )
    })?;
    check_range("tokens per sequence", commitment.outcome.tokens / sequences, MAX_SEQUENCE_TOKENS)?;
    let mean_loss = f64::from_bits(commitment.outcome.mean_loss_bits);
    require((0.0..=MAX_NATS_PER_TOKEN).contains(&mean_loss), || {
        format!("a mean loss of {mean_loss} nats per token is impossible")
    })?;
    let mut vnodes = BTreeSet::new();
    for update in &commitment.outcome.updates {
        require(vnodes.insert(&update.vnode), || {
            format!("the commitment has two updates of VNode {:?}", update.vnode)
        })?;
        require(update.bytes > 0, || format!("the update of VNode {:?} has no bytes", update.vnode))?;
    }
    require(!vnodes.is_empty(), || "the commitment has no updates".into())
}

/// A shard may be empty, but then it is empty throughout.
pub(crate) fn check_score(score: &ShardScore) -> Result<(), Refusal> {
    let ShardScore { tokens, bytes, .. } = *score;
    let nats = f64::from_bits(score.nats_bits);
    let bounded = tokens <= MAX_SHARD_TOKENS && bytes <= MAX_SHARD_TOKENS;
    require(bounded && (0.0..=MAX_NATS_PER_TOKEN * tokens as f64).contains(&nats), || {
        format!("a score of {nats} nats over {tokens} tokens of {bytes} bytes is impossible")
    })
}

fn check_range(what: &str, value: u64, max: u64) -> Result<(), Refusal> {
    require((1..=max).contains(&value), || format!("{what}: {value} is not within 1 to {max}"))
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Invalid(otherwise())) }
}
