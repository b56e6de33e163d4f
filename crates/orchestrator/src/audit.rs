//! Draws challenges for the holders of checkpoints.
//!
//! The host says whom to challenge; what of the checkpoint it has to prove is drawn here, because it takes the manifest, which has to
//! be fetched: the orchestrator keeps no checkpoints.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::debug;
use zoo_content::Digest;
use zoo_network::Endpoint;
use zoo_protocol::{Challenge, JobId, NodeId, Peer};

use crate::host::Input;

/// Audits that wait for the auditor; more are dropped, for there will be others.
pub(crate) const AUDITS_MAX: usize = 4;
/// Manifests that are remembered.
const MANIFESTS_MAX: usize = 64;
/// Largest manifest, bytes.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// Gives the blobs that a manifest lists, with their sizes; `None` if the bytes are no manifest.
pub type Lists = fn(&[u8]) -> Option<Vec<(Digest, u64)>>;

/// How holders of checkpoints are checked.
#[derive(Clone, Copy, Debug)]
pub struct Audits {
    /// One of them is challenged so often.
    pub every: Duration,
    /// Reads manifests. (This crate does not know what a checkpoint is.)
    pub lists: Lists,
}

/// A holder that is to be challenged.
#[derive(Debug)]
pub(crate) struct Audit {
    pub(crate) node: NodeId,
    pub(crate) job: JobId,
    pub(crate) round: u32,
    pub(crate) checkpoint: Digest,
    /// Who has its manifest.
    pub(crate) holders: Vec<Peer>,
    /// Random numbers: the nonce, which blob, and where in it.
    pub(crate) draw: [u64; 3],
}

/// Works on audits until the host is gone.
pub(crate) async fn run(
    mut audits: mpsc::Receiver<Audit>,
    lists: Lists,
    endpoint: Endpoint,
    inputs: mpsc::Sender<Input>,
) {
    // The blobs of every checkpoint: those that its manifest lists, and the manifest.
    let mut manifests: BTreeMap<Digest, Vec<(Digest, u64)>> = BTreeMap::new();
    while let Some(audit) = audits.recv().await {
        let Audit { node, job, round, checkpoint, holders, draw: [nonce, which, place] } = audit;
        if !manifests.contains_key(&checkpoint) {
            match endpoint.fetch_from_any(&holders, &checkpoint, MANIFEST_BYTES_MAX).await {
                Ok(manifest) => {
                    while manifests.len() >= MANIFESTS_MAX {
                        manifests.pop_first();
                    }
                    let mut blobs = lists(&manifest).unwrap_or_default();
                    blobs.push((checkpoint, manifest.len() as u64));
                    manifests.insert(checkpoint, blobs);
                }
                Err(cause) => debug!(%cause, "no audit without the manifest"),
            }
        }
        let Some(blobs) = manifests.get(&checkpoint) else { continue };
        let (blob, bytes) = blobs[(which % blobs.len() as u64) as usize];
        let challenge = Challenge::of_chunk(nonce, blob, bytes, place);
        if inputs.send(Input::Challenge { node, job, round, challenge }).await.is_err() {
            return;
        }
    }
}
