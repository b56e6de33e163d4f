//! Fetches a submitted job's blobs, so that the job outlives whoever submitted it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;
use zoo_content::{BlobStore, Digest};
use zoo_network::Endpoint;
use zoo_protocol::Peer;

/// Submissions worked on at once; others wait their turn.
pub(crate) const INTAKES_MAX: usize = 2;
/// Blobs fetched at once for one submission; each is in memory.
const FETCHES_MAX: usize = 4;
/// Largest blob of a job.
const BLOB_BYTES_MAX: u64 = 1 << 30;
/// All blobs of a job together.
const JOB_BYTES_MAX: u64 = 16 << 30;

/// Fetches from `submitter` what of `wanted` the store does not hold yet.
pub(crate) async fn pull(
    endpoint: &Endpoint,
    store: &Arc<dyn BlobStore>,
    submitter: &Peer,
    wanted: BTreeSet<Digest>,
) -> Result<(), String> {
    let mut fetching = JoinSet::new();
    let mut bytes = 0u64;
    for digest in wanted {
        if store.contains(&digest) {
            continue;
        }
        if fetching.len() >= FETCHES_MAX {
            bytes += fetched(&mut fetching).await?;
        }
        let left = JOB_BYTES_MAX.saturating_sub(bytes).min(BLOB_BYTES_MAX);
        fetching.spawn(fetch(endpoint.clone(), store.clone(), submitter.clone(), digest, left));
    }
    while !fetching.is_empty() {
        fetched(&mut fetching).await?;
    }
    Ok(())
}

async fn fetched(fetching: &mut JoinSet<Result<u64, String>>) -> Result<u64, String> {
    match fetching.join_next().await {
        Some(Ok(outcome)) => outcome,
        Some(Err(cause)) => Err(cause.to_string()),
        None => Ok(0),
    }
}

/// Fetches one blob and keeps it. Its size in bytes.
async fn fetch(
    endpoint: Endpoint,
    store: Arc<dyn BlobStore>,
    submitter: Peer,
    digest: Digest,
    max_bytes: u64,
) -> Result<u64, String> {
    let blob = endpoint.fetch(&submitter, &digest, max_bytes).await.map_err(|cause| cause.to_string())?;
    let bytes = blob.bytes().len() as u64;
    let kept = tokio::task::spawn_blocking(move || store.put(blob.bytes())).await;
    match kept {
        Ok(Ok(_)) => Ok(bytes),
        Ok(Err(cause)) => Err(format!("the orchestrator cannot keep blob {}: {cause}", digest.short())),
        Err(cause) => Err(cause.to_string()),
    }
}
