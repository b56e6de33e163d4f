//! A checkpoint: the state of every VNode at one point of a job, as blobs and a manifest.
//!
//! The manifest is canonical JSON; its digest names the checkpoint. It lists one blob per VNode and
//! kind of state, so VNodes that did not change between checkpoints share their blobs, and a VNode
//! can be fetched, audited or replaced alone.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zoo_content::{BlobStore, Digest, MAX_BLOB_BYTES, StoreError, VerifiedBlob};

/// The version of the manifest that this code writes.
pub const MANIFEST_FORMAT: u32 = 1;
/// Largest manifest, bytes.
pub const MANIFEST_BYTES_MAX: usize = 16 << 20;
/// Most VNodes of a network.
pub const VNODES_MAX: usize = 1 << 16;

/// What a job is made of, by digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// The training specification.
    pub program: Digest,
    /// The network's definition.
    pub network: Digest,
    /// The tokenised training data.
    pub data: Digest,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Rounds done; 0 on one machine.
    pub round: u64,
    /// Inner steps done: the step that the schedule is asked for next.
    pub step: u64,
    /// Sequences trained on. On one machine this is the index of the next sequence.
    pub sequences: u64,
    /// Updates that the optimiser state has seen; 0 without one.
    pub optimizer_updates: u64,
}

/// The state of a job at one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What the job is made of.
    pub lineage: Lineage,
    /// How far it is.
    pub progress: Progress,
    /// Every VNode, in network order.
    pub vnodes: Vec<VNodeState>,
}

/// The state of one VNode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VNodeState {
    /// Its id in the network's definition.
    pub id: String,
    /// Its parameters, as the VNode encodes them.
    pub parameters: VerifiedBlob,
    /// The inner optimiser's state, as the VNode encodes it. Only one machine's checkpoints carry it:
    /// in rounds it belongs to a replica.
    pub optimizer: Option<VerifiedBlob>,
    /// The outer step's momentum.
    pub momentum: Option<VerifiedBlob>,
    /// By what the updates of the last rounds are known again ([`zoo_update::Memory`]).
    pub memory: Option<VerifiedBlob>,
}

/// A checkpoint without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this layout.
    pub format: u32,
    /// What the job is made of.
    pub lineage: Lineage,
    /// How far it is.
    pub progress: Progress,
    /// Every VNode, in network order.
    pub vnodes: Vec<VNodeEntry>,
}

/// One VNode of a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VNodeEntry {
    /// Its id in the network's definition.
    pub id: String,
    /// Its parameters.
    pub parameters: BlobEntry,
    /// The inner optimiser's state.
    pub optimizer: Option<BlobEntry>,
    /// The outer step's momentum.
    pub momentum: Option<BlobEntry>,
    /// By what the updates of the last rounds are known again; not written where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<BlobEntry>,
}

/// A blob that a manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobEntry {
    /// Its name.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// Why a checkpoint cannot be read or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The manifest's bytes are not a manifest.
    #[error("checkpoint manifest: {cause}\nhint: {hint}")]
    Manifest {
        /// What is wrong.
        cause: String,
        /// What to do.
        hint: &'static str,
    },
    /// The manifest cannot be read or written.
    #[error("checkpoint manifest: {0}")]
    ManifestStore(#[source] StoreError),
    /// A blob of one VNode cannot be read or written.
    #[error("checkpoint: {part} of vnode {vnode}: {cause}")]
    VNode {
        /// The VNode.
        vnode: String,
        /// Which of its states.
        part: &'static str,
        /// What happened.
        #[source]
        cause: StoreError,
    },
    /// A blob has another size than the manifest says.
    #[error(
        "checkpoint: {part} of vnode {vnode} has {actual} bytes, the manifest says {expected}\nhint: {HINT_OTHER}"
    )]
    Size {
        /// The VNode.
        vnode: String,
        /// Which of its states.
        part: &'static str,
        /// Size by the manifest, bytes.
        expected: u64,
        /// Size of the blob, bytes.
        actual: u64,
    },
}

const HINT_OTHER: &str = "use another checkpoint of the run, or fetch this one again from another node";
const HINT_NEWER: &str = "open it with the version of zoo that wrote it, or a later one";

impl Checkpoint {
    /// The manifest.
    pub fn manifest(&self) -> Manifest {
        let entry =
            |blob: &VerifiedBlob| BlobEntry { digest: blob.digest(), bytes: blob.bytes().len() as u64 };
        let vnodes = self.vnodes.iter().map(|vnode| VNodeEntry {
            id: vnode.id.clone(),
            parameters: entry(&vnode.parameters),
            optimizer: vnode.optimizer.as_ref().map(entry),
            momentum: vnode.momentum.as_ref().map(entry),
            memory: vnode.memory.as_ref().map(entry),
        });
        Manifest {
            format: MANIFEST_FORMAT,
            lineage: self.lineage,
            progress: self.progress,
            vnodes: vnodes.collect(),
        }
    }

    /// Writes every blob, then the manifest; returns the manifest's digest, the checkpoint's name.
    ///
    /// # Errors
    /// The store's, with the VNode named. What was written before stays and is found again.
    pub fn save(&self, store: &dyn BlobStore) -> Result<Digest, CheckpointError> {
        for vnode in &self.vnodes {
            for (part, blob) in vnode.parts() {
                let vnode = || vnode.id.clone();
                store.keep(blob).map_err(|cause| CheckpointError::VNode { vnode: vnode(), part, cause })?;
            }
        }
        store.put(&self.manifest().to_bytes()).map_err(CheckpointError::ManifestStore)
    }

    /// Every blob that makes up the checkpoint, in network order.
    pub fn blobs(&self) -> impl Iterator<Item = &VerifiedBlob> {
        self.vnodes.iter().flat_map(|vnode| vnode.parts().map(|(_, blob)| blob))
    }

    /// Reads the checkpoint called `name`; every blob is hashed on the way.
    ///
    /// # Errors
    /// A missing or changed blob, with its VNode named, or a manifest that is none.
    pub fn load(store: &dyn BlobStore, name: &Digest) -> Result<Self, CheckpointError> {
        Manifest::load(store, name)?.load_blobs(store)
    }
}

impl VNodeState {
    fn parts(&self) -> impl Iterator<Item = (&'static str, &VerifiedBlob)> {
        let optional = [
            (OPTIMIZER, self.optimizer.as_ref()),
            (MOMENTUM, self.momentum.as_ref()),
            (MEMORY, self.memory.as_ref()),
        ];
        let optional = optional.into_iter().filter_map(|(part, blob)| Some((part, blob?)));
        std::iter::once((PARAMETERS, &self.parameters)).chain(optional)
    }
}

const PARAMETERS: &str = "parameters";
const OPTIMIZER: &str = "optimiser state";
const MOMENTUM: &str = "outer momentum";
const MEMORY: &str = "memory of updates";

impl Manifest {
    /// The canonical JSON: fields in order, no space.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest is plain data with text keys")
    }

    /// Reads a manifest; only its canonical encoding is accepted.
    ///
    /// # Errors
    /// Too large, not JSON, another format, not canonical, or sizes that no blob has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let refuse = |cause: String, hint| CheckpointError::Manifest { cause, hint };
        if bytes.len() > MANIFEST_BYTES_MAX {
            let cause = format!("{} bytes, more than the {MANIFEST_BYTES_MAX} it may have", bytes.len());
            return Err(refuse(cause, HINT_OTHER));
        }
        let format = serde_json::from_slice::<FormatOnly>(bytes).map(|only| only.format);
        if let Ok(format) = format
            && format != MANIFEST_FORMAT
        {
            let cause = format!("format {format} is not known, only {MANIFEST_FORMAT} is");
            return Err(refuse(cause, HINT_NEWER));
        }
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|cause| refuse(cause.to_string(), HINT_OTHER))?;
        if manifest.to_bytes() != bytes {
            return Err(refuse("not in canonical form".into(), HINT_OTHER));
        }
        if manifest.vnodes.len() > VNODES_MAX {
            return Err(refuse(format!("more than {VNODES_MAX} vnodes"), HINT_OTHER));
        }
        if let Some(blob) = manifest.blobs().find(|blob| blob.bytes > MAX_BLOB_BYTES) {
            return Err(refuse(format!("blob {} would have {} bytes", blob.digest, blob.bytes), HINT_OTHER));
        }
        Ok(manifest)
    }

    /// Reads the manifest called `name`.
    ///
    /// # Errors
    /// The store's, or those of [`Manifest::from_bytes`].
    pub fn load(store: &dyn BlobStore, name: &Digest) -> Result<Self, CheckpointError> {
        Self::from_bytes(store.get(name).map_err(CheckpointError::ManifestStore)?.bytes())
    }

    /// Every blob that makes up the checkpoint, in network order.
    pub fn blobs(&self) -> impl Iterator<Item = BlobEntry> + '_ {
        let parts = |vnode: &VNodeEntry| {
            [Some(vnode.parameters), vnode.optimizer, vnode.momentum, vnode.memory].into_iter().flatten()
        };
        self.vnodes.iter().flat_map(parts)
    }

    /// Reads the blobs that the manifest lists.
    ///
    /// # Errors
    /// A missing or changed blob, with its VNode named.
    pub fn load_blobs(self, store: &dyn BlobStore) -> Result<Checkpoint, CheckpointError> {
        let vnodes = self.vnodes.into_iter().map(|vnode| {
            let get = |part, entry: BlobEntry| get(store, &vnode.id, part, entry);
            Ok(VNodeState {
                parameters: get(PARAMETERS, vnode.parameters)?,
                optimizer: vnode.optimizer.map(|entry| get(OPTIMIZER, entry)).transpose()?,
                momentum: vnode.momentum.map(|entry| get(MOMENTUM, entry)).transpose()?,
                memory: vnode.memory.map(|entry| get(MEMORY, entry)).transpose()?,
                id: vnode.id.clone(),
            })
        });
        Ok(Checkpoint {
            lineage: self.lineage,
            progress: self.progress,
            vnodes: vnodes.collect::<Result<_, CheckpointError>>()?,
        })
    }
}

/// Any version's manifest, to tell a newer format from broken bytes.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

fn get(
    store: &dyn BlobStore,
    vnode: &str,
    part: &'static str,
    entry: BlobEntry,
) -> Result<VerifiedBlob, CheckpointError> {
    let vnode = || vnode.to_owned();
    let blob =
        store.get(&entry.digest).map_err(|cause| CheckpointError::VNode { vnode: vnode(), part, cause })?;
    let actual = blob.bytes().len() as u64;
    if actual != entry.bytes {
        return Err(CheckpointError::Size { vnode: vnode(), part, expected: entry.bytes, actual });
    }
    Ok(blob)
}
