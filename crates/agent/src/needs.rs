//! Which blobs a piece of work needs before it can start.

use std::collections::BTreeMap;

use zoo_content::{Digest, MAX_BLOB_BYTES};
use zoo_protocol::{JobId, NodeId, Summand, TrainWindow, VerifyWindow, Work};
use zoo_training::{MANIFEST_BYTES_MAX, SPEC_BYTES_MAX};

/// What a blob is to the work that needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlobKind {
    /// The job's training specification.
    Program,
    /// A checkpoint's manifest; what it lists is needed too.
    Manifest,
    /// One of the blobs a manifest lists.
    CheckpointPart,
    /// Tokenised data.
    Data,
    /// The encoded update, or the sum of updates, of one VNode, made by this node.
    Update(NodeId),
    /// The same of an earlier round that is amended.
    Amended(NodeId),
    /// What the replica of this node kept before the window that is to be verified.
    Replica(NodeId),
    /// The manifest of a checkpoint that the node is asked to keep.
    KeptManifest,
    /// One of the blobs that such a manifest lists.
    KeptPart,
}

impl BlobKind {
    /// Whether the blob belongs to the job rather than to one of its rounds, so that
    /// fetching it is worth finishing although the round has moved on.
    pub fn outlives_the_round(self) -> bool {
        matches!(self, Self::Program | Self::Data)
    }

    /// Whether it is fetched to be kept. Then it is not a round's, and what the store has of it is looked at again.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::KeptManifest | Self::KeptPart)
    }

    /// Who has it, if it is one node's own.
    pub fn maker(self) -> Option<NodeId> {
        match self {
            Self::Update(maker) | Self::Amended(maker) | Self::Replica(maker) => Some(maker),
            _ => None,
        }
    }

    /// Whether it lists other blobs.
    pub fn is_manifest(self) -> bool {
        matches!(self, Self::Manifest | Self::KeptManifest)
    }
}

/// A blob that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// What it is.
    pub kind: BlobKind,
    /// It cannot be larger, bytes.
    pub max_bytes: u64,
}

/// The need for a training specification.
pub const PROGRAM: Need = Need { kind: BlobKind::Program, max_bytes: SPEC_BYTES_MAX as u64 };
/// The need for a checkpoint's manifest.
pub const MANIFEST: Need = Need { kind: BlobKind::Manifest, max_bytes: MANIFEST_BYTES_MAX as u64 };
/// The need for the manifest of a checkpoint that is to be kept.
pub const KEPT_MANIFEST: Need = Need { kind: BlobKind::KeptManifest, ..MANIFEST };
/// The need for tokenised data.
pub const DATA: Need = Need { kind: BlobKind::Data, max_bytes: MAX_BLOB_BYTES };

impl Need {
    /// The need for something that a manifest lists with this size.
    pub fn checkpoint_part(bytes: u64) -> Self {
        Self { kind: BlobKind::CheckpointPart, max_bytes: bytes.min(MAX_BLOB_BYTES) }
    }

    /// The same of a checkpoint that is to be kept.
    pub fn kept_part(bytes: u64) -> Self {
        Self { kind: BlobKind::KeptPart, ..Self::checkpoint_part(bytes) }
    }
}

/// The job and the round that `work` belongs to; `None` when it belongs to none.
pub fn round_of(work: &Work) -> Option<(JobId, u32)> {
    match work {
        Work::Idle | Work::Benchmark(_) => None,
        Work::Tell(tell) => Some((tell.job, tell.round)),
        Work::Train(window) => Some((window.job, window.round)),
        Work::Aggregate(aggregate) => Some((aggregate.job, aggregate.round)),
        Work::Evaluate(evaluate) => Some((evaluate.job, evaluate.round)),
        Work::Sum(sum) => Some((sum.job, sum.round)),
        // What it takes is kept for as long as this round's blobs are, not for as long as those of the window's.
        Work::Verify(verification) => Some((verification.window.job, verification.asked_in)),
    }
}

/// The blobs that `work` names. What its manifest lists comes on top, once that is here.
pub fn named_by(work: &Work) -> BTreeMap<Digest, Need> {
    match work {
        Work::Idle | Work::Benchmark(_) | Work::Tell(_) => BTreeMap::new(),
        Work::Train(window) => {
            BTreeMap::from([(window.data, DATA), (window.program, PROGRAM), (window.base, MANIFEST)])
        }
        Work::Verify(VerifyWindow { maker, window, replica_in, .. }) => {
            let replica = Need { kind: BlobKind::Replica(*maker), max_bytes: MAX_BLOB_BYTES };
            let mut needs = named_by(&Work::Train(TrainWindow::clone(window)));
            needs.extend(replica_in.map(|state| (state, replica)));
            needs
        }
        Work::Evaluate(evaluate) => BTreeMap::from([
            (evaluate.data, DATA),
            (evaluate.program, PROGRAM),
            (evaluate.checkpoint, MANIFEST),
        ]),
        Work::Aggregate(aggregate) => {
            let amended = aggregate.amendments.iter();
            let amended = amended.flat_map(|it| [&it.summands, &it.withdrawn, &it.withdraws]);
            let mut needs: BTreeMap<_, _> =
                amended.flat_map(|list| summands(list, BlobKind::Amended)).collect();
            // What is of both rounds is above all of the present one.
            needs.extend(summands(&aggregate.summands, BlobKind::Update));
            needs.insert(aggregate.program, PROGRAM);
            needs.insert(aggregate.base, MANIFEST);
            needs
        }
        Work::Sum(sum) => {
            let mut needs: BTreeMap<_, _> = summands(&sum.summands, BlobKind::Update).collect();
            needs.insert(sum.program, PROGRAM);
            needs
        }
    }
}

fn summands(summands: &[Summand], kind: impl Fn(NodeId) -> BlobKind) -> impl Iterator<Item = (Digest, Need)> {
    summands.iter().flat_map(move |summand| {
        let kind = kind(summand.node);
        let need = move |bytes: u64| Need { kind, max_bytes: bytes.min(MAX_BLOB_BYTES) };
        summand.updates.iter().map(move |update| (update.update, need(update.bytes)))
    })
}
