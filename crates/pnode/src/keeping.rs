//! The blobs of checkpoints that a node keeps: looked at again, and proved.

use tracing::warn;
use zoo_content::slice::{CHUNK_BYTES, Outline};
use zoo_content::{BlobStore, Digest, StoreError, VerifiedBlob};
use zoo_protocol::Challenge;

use crate::home::Home;

/// Whether the store has all of a blob. Bytes that have changed are removed, to be fetched again.
pub(crate) fn is_whole(home: &Home, blob: &Digest) -> bool {
    read(home, blob).is_some()
}

/// What meets a challenge; nothing if the blob is not here any more. The whole blob is read for it: a byte that has changed
/// anywhere spoils the proof.
pub(crate) fn prove(home: &Home, challenge: &Challenge) -> Vec<u8> {
    let Some(blob) = read(home, &challenge.blob) else { return Vec::new() };
    let part = challenge.offset..challenge.offset + u64::from(challenge.length);
    Outline::of(&blob, CHUNK_BYTES).prove(part, |at| &blob[at])
}

fn read(home: &Home, blob: &Digest) -> Option<VerifiedBlob> {
    match home.store().get(blob) {
        Ok(blob) => return Some(blob),
        Err(StoreError::NotFound(_)) => {}
        Err(cause @ StoreError::Corrupt { .. }) => {
            warn!(%blob, %cause, "a blob that is kept has changed");
            if let Err(cause) = home.store().remove(blob) {
                warn!(%blob, %cause, "cannot remove a corrupt blob");
            }
        }
        Err(cause) => warn!(%blob, %cause, "a blob that is kept cannot be read"),
    }
    None
}
