//! What tasks come to in the simulation: pure functions of the task, as the real ones are, without a model.

use zoo_content::Digest;
use zoo_protocol::{
    Aggregate, Evaluate, Form, NodeId, RefusedSummand, Share, Sum, Summand, TrainWindow, VNodeUpdate,
    WindowOutcome, encode,
};

/// VNodes of the simulated model.
const VNODES: [&str; 4] = ["table", "body", "norm", "head"];
/// Bytes of one VNode's update.
pub const UPDATE_BYTES: u64 = 10_000;
/// Bytes of one VNode's sum of updates.
const SUM_BYTES: u64 = 150_000;
/// Bytes of one VNode's parameters.
pub const PART_BYTES: u64 = 200_000;
/// Bytes of what a replica keeps.
pub const REPLICA_BYTES: u64 = 800_000;
/// Tokens of a sequence.
const SEQUENCE_TOKENS: u64 = 64;

/// What comes of a window, and the blobs that whoever trained it then holds.
pub fn train(window: &TrainWindow, replica_in: Option<Digest>) -> (WindowOutcome, Vec<(Digest, u64)>) {
    made_up("trained", window, replica_in)
}

/// Something else that could come of it: whoever did not train the window says so.
pub fn forged(window: &TrainWindow, replica_in: Option<Digest>) -> (WindowOutcome, Vec<(Digest, u64)>) {
    made_up("forged", window, replica_in)
}

/// Names everything that comes of a window by how it was made and by what went in.
fn made_up(
    how: &str,
    window: &TrainWindow,
    replica_in: Option<Digest>,
) -> (WindowOutcome, Vec<(Digest, u64)>) {
    let inputs = encode(&(how, window, &replica_in));
    let name = |what: &str| Digest::of(&[what.as_bytes(), &inputs[..]].concat());
    let update = |vnode: &str| {
        let update = name(vnode);
        let norm = 1_000 + u64::from(update.as_bytes()[0]);
        VNodeUpdate { vnode: vnode.into(), update, bytes: UPDATE_BYTES, norm }
    };
    let updates = VNODES.map(update);
    let mut blobs: Vec<(Digest, u64)> = updates.iter().map(|update| (update.update, update.bytes)).collect();
    blobs.push((name("replica"), REPLICA_BYTES));
    let lead = window.lead.filter(|_| replica_in.is_some());
    let shares: Vec<Share> = lead.into_iter().chain([window.share]).collect();
    let outcome = WindowOutcome {
        tokens: shares.iter().map(|share| share.sequences() * SEQUENCE_TOKENS).sum(),
        replica_out: name("replica"),
        steps_root: name("steps"),
        steps: shares.iter().map(|share| share.inner_steps).sum(),
        updates: updates.into(),
        mean_loss_bits: (4.0 / (1.0 + f64::from(window.round))).to_bits(),
    };
    (outcome, blobs)
}

/// The same, with updates that are none.
pub fn garbage(window: &TrainWindow, replica_in: Option<Digest>) -> (WindowOutcome, Vec<(Digest, u64)>) {
    marked(GARBAGE, train(window, replica_in))
}

/// Something else that could come of it, and that has nothing to do with what others come to.
pub fn sabotaged(window: &TrainWindow, replica_in: Option<Digest>) -> (WindowOutcome, Vec<(Digest, u64)>) {
    marked(OUTLIER, forged(window, replica_in))
}

/// What blobs that are no updates begin with.
const GARBAGE: &[u8] = b"garbage";
/// And those of updates that have nothing to do with the others.
const OUTLIER: &[u8] = b"outlier";

/// The same, with updates that can be told.
fn marked(
    mark: &[u8],
    (mut outcome, mut blobs): (WindowOutcome, Vec<(Digest, u64)>),
) -> (WindowOutcome, Vec<(Digest, u64)>) {
    for update in &mut outcome.updates {
        let mut bytes = *update.update.as_bytes();
        bytes[..mark.len()].copy_from_slice(mark);
        blobs.retain(|(blob, _)| *blob != update.update);
        update.update = Digest::from_bytes(bytes);
        blobs.push((update.update, update.bytes));
    }
    (outcome, blobs)
}

fn has_mark(mark: &[u8], summand: &Summand) -> bool {
    summand.updates.iter().any(|update| update.update.as_bytes().starts_with(mark))
}

/// Whether a summand cannot be added.
pub fn is_garbage(summand: &Summand) -> bool {
    has_mark(GARBAGE, summand)
}

/// The refusal of a summand.
pub fn refusal(summand: &Summand) -> RefusedSummand {
    let reason = "it is no update".into();
    RefusedSummand { maker: summand.node, form: summand.form, first_vnode: summand.first_vnode, reason }
}

/// The checkpoint that an aggregation comes to, and whom it leaves out: a function of the contributions, whichever attempt and tree it is. As long
/// as most of them have to do with each other, those that have not are seen where all come one by one.
pub fn aggregate(work: &Aggregate) -> (Digest, Vec<NodeId>) {
    let is_outlier = |summand: &&Summand| has_mark(OUTLIER, summand);
    let one_by_one = work.summands.iter().all(|summand| summand.form == Form::Contribution);
    let outliers = work.summands.iter().filter(is_outlier).count();
    let sees = one_by_one && work.summands.len() >= 3 && 2 * outliers < work.summands.len();
    let (left_out, counted): (Vec<Summand>, Vec<Summand>) =
        work.summands.iter().cloned().partition(|summand| sees && is_outlier(&summand));
    let contributions: Vec<Digest> = (0..VNODES.len() as u32)
        .map(|vnode| combined(&counted, vnode, work.norm_limits[vnode as usize]))
        .collect();
    let checkpoint = Digest::of(&encode(&(work.program, work.base, work.step, contributions)));
    (checkpoint, left_out.iter().map(|summand| summand.node).collect())
}

/// The sums of some VNodes.
pub fn sum(work: &Sum) -> Vec<VNodeUpdate> {
    let places = work.first_vnode..work.first_vnode.saturating_add(work.vnodes);
    let sum = |vnode: u32| VNodeUpdate {
        vnode: VNODES[vnode as usize].into(),
        update: combined(&work.summands, vnode, work.norm_limits[(vnode - work.first_vnode) as usize]),
        bytes: SUM_BYTES,
        norm: 0,
    };
    places.map(sum).collect()
}

/// Something that depends on which contributions to a VNode stand behind the summands, of which round and how clipped, and not on
/// how they came together: their digests, exclusive-ored. What is added twice is as if it were not there, so a tree that loses or
/// doubles something shows.
fn combined(summands: &[Summand], vnode: u32, norm_limit: u64) -> Digest {
    let mut combined = [0; 32];
    for summand in summands {
        let update = vnode.checked_sub(summand.first_vnode).and_then(|at| summand.updates.get(at as usize));
        let added = update.map(|update| match summand.form {
            Form::Contribution => {
                Digest::of(&encode(&(update.update, summand.round, update.norm.min(norm_limit))))
            }
            Form::Sum(_) => update.update,
        });
        let bytes = added.iter().flat_map(|added| added.as_bytes());
        combined.iter_mut().zip(bytes).for_each(|(all, byte)| *all ^= byte);
    }
    Digest::from_bytes(combined)
}

/// The blobs that a checkpoint's manifest lists.
pub fn parts(checkpoint: &Digest) -> Vec<(Digest, u64)> {
    VNODES.map(|vnode| (Digest::of(&[vnode.as_bytes(), checkpoint.as_bytes()].concat()), PART_BYTES)).to_vec()
}

/// What stands for the bytes of a blob of a checkpoint: its manifest, or a part.
pub fn bytes_of_blob(blob: &Digest) -> Vec<u8> {
    blob.as_bytes().repeat(100)
}

/// Nats, tokens and bytes of a shard.
pub fn evaluate(work: &Evaluate) -> (f64, u64, u64) {
    (f64::from(work.shard + 1) * 1.5, 10, 40)
}
