//! Checking somebody's window: train it again and compare with `==`.

use std::ops::ControlFlow;

use zoo_agent::needs::{MANIFEST, PROGRAM};
use zoo_content::{BlobStore, Digest, MAX_BLOB_BYTES, StoreError};
use zoo_network::{Endpoint, FetchError};
use zoo_protocol::{Commitment, Peer};
use zoo_training::{CheckpointError, Manifest, StepReport};

use crate::task::{self, AtHand, TaskError};

/// What training a window again came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recheck {
    /// What was committed to.
    pub expected: Commitment,
    /// What the same work on the same inputs gives here.
    pub got: Commitment,
}

impl Recheck {
    /// Whether every field of the commitment holds: updates, optimiser state, steps, tokens and loss.
    pub fn equal(&self) -> bool {
        self.expected == self.got
    }

    /// The fields that differ, for people.
    pub fn differences(&self) -> Vec<String> {
        let Self { expected, got } = self;
        let fields = [
            ("tokens", expected.tokens == got.tokens),
            ("replica_out", expected.replica_out == got.replica_out),
            ("steps_root", expected.steps_root == got.steps_root),
            ("steps", expected.steps == got.steps),
            ("mean_loss", expected.mean_loss_bits == got.mean_loss_bits),
            ("number of updates", expected.updates.len() == got.updates.len()),
        ];
        let fields = fields.into_iter().filter(|(_, equal)| !equal).map(|(field, _)| field.to_owned());
        let updates = expected.updates.iter().zip(&got.updates).filter(|(expected, got)| expected != got);
        fields.chain(updates.map(|(expected, _)| format!("update of vnode {}", expected.vnode))).collect()
    }
}

/// Trains the window of `commitment` again from what is in `store`, which is not changed.
///
/// `progress` hears of every inner step and may stop the work, which is then an error
/// ([`TaskError::is_stop`]).
pub fn recheck(
    store: &dyn BlobStore,
    commitment: &Commitment,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Recheck, TaskError> {
    let mut at_hand = AtHand::default();
    let again = task::train(store, &mut at_hand, &commitment.work, commitment.replica_in, None, progress)?;
    Ok(Recheck { expected: commitment.clone(), got: again.commitment })
}

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

/// Puts everything that [`recheck`] reads into `store`: what is not there is fetched from `peers`.
///
/// Blobs are kept one after the other on the calling task; for large models call it where that is no harm.
pub async fn fetch_inputs(
    endpoint: &Endpoint,
    peers: &[Peer],
    store: &dyn BlobStore,
    commitment: &Commitment,
) -> Result<(), InputsError> {
    let work = &commitment.work;
    let named =
        [(work.program, PROGRAM.max_bytes), (work.base, MANIFEST.max_bytes), (work.data, MAX_BLOB_BYTES)];
    let replica = commitment.replica_in.map(|state| (state, MAX_BLOB_BYTES));
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
