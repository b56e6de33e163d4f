//! What tasks come to in the simulation: pure functions of the task, as the real ones are, without a model.

use zoo_content::Digest;
use zoo_protocol::{Aggregate, Commitment, Evaluate, TrainWindow, VNodeUpdate, encode};

/// VNodes of the simulated model.
const VNODES: [&str; 2] = ["body", "head"];
/// Bytes of one VNode's update.
pub const UPDATE_BYTES: u64 = 20_000;
/// Bytes of one VNode's parameters.
pub const PART_BYTES: u64 = 400_000;
/// Bytes of what a replica keeps.
pub const REPLICA_BYTES: u64 = 800_000;
/// Tokens of a sequence.
const SEQUENCE_TOKENS: u64 = 64;

/// What a replica commits to, and the blobs it then holds.
pub fn train(window: &TrainWindow, replica_in: Option<Digest>) -> (Commitment, Vec<(Digest, u64)>) {
    let name = |what: &str| Digest::of(&[what.as_bytes(), &encode(window), &encode(&replica_in)].concat());
    let updates =
        VNODES.map(|vnode| VNodeUpdate { vnode: vnode.into(), update: name(vnode), bytes: UPDATE_BYTES });
    let mut blobs: Vec<(Digest, u64)> = updates.iter().map(|update| (update.update, update.bytes)).collect();
    blobs.push((name("replica"), REPLICA_BYTES));
    let share = window.share;
    let commitment = Commitment {
        tokens: u64::from(share.inner_steps) * u64::from(share.sequences_per_step) * SEQUENCE_TOKENS,
        replica_in,
        replica_out: name("replica"),
        steps_root: name("steps"),
        steps: share.inner_steps,
        updates: updates.into(),
        mean_loss_bits: (4.0 / (1.0 + f64::from(window.round))).to_bits(),
        work: window.clone(),
    };
    (commitment, blobs)
}

/// The checkpoint that an aggregation comes to: a function of what goes in, whichever attempt it is.
pub fn aggregate(work: &Aggregate) -> Digest {
    Digest::of(&encode(&Aggregate { attempt: 0, ..work.clone() }))
}

/// The blobs that a checkpoint's manifest lists.
pub fn parts(checkpoint: &Digest) -> Vec<(Digest, u64)> {
    VNODES.map(|vnode| (Digest::of(&[vnode.as_bytes(), checkpoint.as_bytes()].concat()), PART_BYTES)).to_vec()
}

/// Nats, tokens and bytes of a shard.
pub fn evaluate(work: &Evaluate) -> (f64, u64, u64) {
    (f64::from(work.shard + 1) * 1.5, 10, 40)
}
