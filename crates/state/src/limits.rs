//! Every bound of the state machine, and the checks of what strangers say against them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use zoo_content::MAX_BLOB_BYTES;
use zoo_protocol::{Commitment, JobDescription, NodeProfile, VNodeUpdate};

use crate::{Refusal, ShardScore};

/// Nodes that are known at once, live or not.
pub const MAX_NODES: usize = 1 << 16;
/// Jobs that wait at once.
pub const MAX_QUEUED_JOBS: usize = 1 << 10;
/// Finished and failed jobs that are remembered.
pub const MAX_FINISHED_JOBS: usize = 1 << 8;
/// Checkpoints of a running job whose holders are remembered: the latest so many.
pub const MAX_CHECKPOINTS_PER_JOB: usize = 8;
/// Restarts of one round, or reassignments of one evaluation, that got nowhere although live
/// nodes took part. One more and the job fails.
pub const MAX_FRUITLESS: u32 = 8;
/// Rounds of a job.
pub const MAX_ROUNDS: u32 = 1 << 20;
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
/// Shards of one evaluation.
pub const MAX_EVALUATION_SHARDS: u32 = 1 << 12;
/// VNodes of a contribution.
pub const MAX_UPDATES: usize = 1 << 12;
/// A name for people, bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// A VNode's id, bytes.
pub const MAX_VNODE_BYTES: usize = 128;
/// Why a node's work failed, bytes.
pub const MAX_REASON_BYTES: usize = 512;
/// Addresses of a node.
pub const MAX_ADDRESSES: usize = 8;
/// A journaled command, bytes: one frame of the wire and what the host adds to it.
pub const MAX_COMMAND_BYTES: usize = 2 * zoo_protocol::MAX_FRAME_BYTES;

pub(crate) fn check_profile(profile: &NodeProfile, addresses: &[SocketAddr]) -> Result<(), Refusal> {
    check_text("the node's name", &profile.name, MAX_NAME_BYTES)?;
    check_text("the node's isa", &profile.isa, MAX_NAME_BYTES)?;
    check_text("the node's software version", &profile.software, MAX_NAME_BYTES)?;
    require(addresses.len() <= MAX_ADDRESSES, || {
        format!("the node gives {} addresses, more than {MAX_ADDRESSES}", addresses.len())
    })
}

pub(crate) fn check_job(job: &JobDescription) -> Result<(), Refusal> {
    check_text("the job's name", &job.name, MAX_NAME_BYTES)?;
    let plan = &job.plan;
    check_range("rounds", plan.rounds.into(), MAX_ROUNDS.into())?;
    check_range("inner_steps", plan.inner_steps.into(), MAX_WINDOW_SEQUENCES)?;
    check_range("sequences_per_step", plan.sequences_per_step.into(), MAX_WINDOW_SEQUENCES)?;
    let sequences = u64::from(plan.inner_steps) * u64::from(plan.sequences_per_step);
    check_range("inner_steps x sequences_per_step", sequences, MAX_WINDOW_SEQUENCES)?;
    check_range("evaluate_every", plan.evaluate_every.into(), u32::MAX.into())?;
    check_range("evaluation_shards", plan.evaluation_shards.into(), MAX_EVALUATION_SHARDS.into())?;
    check_range("minimum_nodes", plan.minimum_nodes.into(), MAX_NODES as u64)?;
    check_range("contribution_deadline_ms", plan.contribution_deadline_ms, u64::MAX)
}

/// What can be known of a commitment without running it: its counts fit the window, its numbers
/// are numbers. That its work is the assigned work has been checked before.
pub(crate) fn check_commitment(commitment: &Commitment) -> Result<(), Refusal> {
    let share = &commitment.work.share;
    require(commitment.steps == share.inner_steps, || {
        format!("the commitment has {} step leaves for {} inner steps", commitment.steps, share.inner_steps)
    })?;
    let sequences = u64::from(share.inner_steps) * u64::from(share.sequences_per_step);
    require(commitment.tokens.is_multiple_of(sequences), || {
        format!("{} tokens are no multiple of the window's {sequences} sequences", commitment.tokens)
    })?;
    check_range("tokens per sequence", commitment.tokens / sequences, MAX_SEQUENCE_TOKENS)?;
    let mean_loss = f64::from_bits(commitment.mean_loss_bits);
    require((0.0..=MAX_NATS_PER_TOKEN).contains(&mean_loss), || {
        format!("a mean loss of {mean_loss} nats per token is impossible")
    })?;
    check_updates(&commitment.updates)
}

/// A shard may be empty, but then it is empty throughout.
pub(crate) fn check_score(score: &ShardScore) -> Result<(), Refusal> {
    let ShardScore { tokens, bytes, .. } = *score;
    let nats = f64::from_bits(score.nats_bits);
    let bounded = tokens <= MAX_SHARD_TOKENS && bytes <= MAX_SHARD_TOKENS;
    require(bounded && (0.0..=MAX_NATS_PER_TOKEN * tokens as f64).contains(&nats), || {
        format!("{nats} nats over {tokens} tokens of {bytes} bytes are impossible")
    })
}

fn check_updates(updates: &[VNodeUpdate]) -> Result<(), Refusal> {
    check_range("updates", updates.len() as u64, MAX_UPDATES as u64)?;
    let mut vnodes = BTreeSet::new();
    for VNodeUpdate { vnode, bytes, .. } in updates {
        check_text("a VNode's id", vnode, MAX_VNODE_BYTES)?;
        check_range("bytes of an update", *bytes, MAX_BLOB_BYTES)?;
        require(vnodes.insert(vnode), || format!("VNode {vnode:?} has two updates"))?;
    }
    Ok(())
}

/// Text that people will see: not empty, short, and nothing in it steers a terminal.
pub(crate) fn check_text(what: &str, text: &str, bytes_max: usize) -> Result<(), Refusal> {
    check_range(&format!("bytes of {what}"), text.len() as u64, bytes_max as u64)?;
    require(!text.chars().any(char::is_control), || format!("{what} has control characters: {text:?}"))
}

fn check_range(what: &str, value: u64, max: u64) -> Result<(), Refusal> {
    require((1..=max).contains(&value), || format!("{what}: {value} is not within 1 to {max}"))
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Invalid(otherwise())) }
}
