//! What it takes to check somebody's window: its inputs, from whoever has them.

use zoo_agent::needs::{MANIFEST, PROGRAM};
use zoo_content::{BlobStore, Digest, MAX_BLOB_BYTES, StoreError};
use zoo_network::{Endpoint, FetchError};
use zoo_protocol::{Peer, TrainWindow};
use zoo_training::{CheckpointError, Manifest};

/// Why the inputs of a window are not at hand.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// Nobody has one of them.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// One cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The base checkpoint's manifest is none.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Puts everything that training `work` again from `replica_in` reads into `store`: what is not there is fetched from `peers`.
///
/// Blobs are kept one after the other on the calling task; for large models call it where that is no harm.
pub async fn fetch_inputs(
    endpoint: &Endpoint,
    peers: &[Peer],
    store: &dyn BlobStore,
    work: &TrainWindow,
    replica_in: Option<Digest>,
) -> Result<(), InputsError> {
    let named =
        [(work.program, PROGRAM.max_bytes), (work.base, MANIFEST.max_bytes), (work.data, MAX_BLOB_BYTES)];
    let replica = replica_in.map(|state| (state, MAX_BLOB_BYTES));
    for (digest, max_bytes) in named.into_iter().chain(replica) {
        fetch(endpoint, peers, store, digest, max_bytes).await?;
    }
    for part in Manifest::load(store, &work.base)?.blobs() {
        fetch(endpoint, peers, store, part.digest, part.bytes).await?;
    }
    Ok(())
}

async fn fetch(
    endpoint: &Endpoint,
    peers: &[Peer],
    store: &dyn BlobStore,
    digest: Digest,
    max_bytes: u64,
) -> Result<(), InputsError> {
    if !store.contains(&digest) {
        store.keep(&endpoint.fetch_from_any(peers, &digest, max_bytes).await?)?;
    }
    Ok(())
}
