//! Checkpoints that this node keeps, on their way to a storage.
//!
//! One at a time, the newest first, and beside the node's work: what fails is tried again later, as long as the node is asked to keep the
//! checkpoint. A snapshot of one is a folder: `latest` says which checkpoint it is, `blobs/` has all that it takes to
//! use it. The storage is given `latest` and every blob before the listing, so that what it lists is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;
use zoo_content::{BlobStore, Digest, FileStore, MAX_BLOB_BYTES, VerifiedBlob};
use zoo_network::Endpoint;
use zoo_protocol::{JobId, Peer, StorageKind};
use zoo_storage::{Address, Item, Parcel, Sent, Storage, StorageError};
use zoo_training::{Manifest, SPEC_BYTES_MAX, TrainingSpec};

use crate::PNodeError;
use crate::backoff;
use crate::event::{EventSink, PNodeEvent};
use crate::home::Home;

/// What the network hears of an address: its kind.
pub(crate) fn kind_of(address: &Address) -> StorageKind {
    match address {
        Address::Folder(_) => StorageKind::Dir,
        Address::Bucket(_) => StorageKind::S3,
        Address::Node(_) => StorageKind::Ipfs,
        Address::Archive(_) => StorageKind::Car,
    }
}

/// Longest wait before a storage that failed is tried again.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(60);

/// Stores checkpoints; ends when it is dropped, in the middle of whatever it does: the next process goes on from there.
pub(crate) struct Storing {
    desk: Arc<Desk>,
    stop: Arc<Notify>,
}

/// What the node and the clerk tell each other.
#[derive(Default)]
struct Desk {
    papers: Mutex<Papers>,
    changed: Notify,
}

/// A kept checkpoint: the newest rounds come last.
type Name = (u32, JobId);

#[derive(Default)]
struct Papers {
    waiting: BTreeMap<Name, Digest>,
    underway: Option<(Name, Digest)>,
    stored: BTreeSet<Digest>,
}

impl Papers {
    /// The node has all of a checkpoint that it is to keep.
    fn kept(&mut self, name: Name, checkpoint: Digest) {
        if !self.stored.contains(&checkpoint) && self.underway != Some((name, checkpoint)) {
            self.waiting.insert(name, checkpoint);
        }
    }

    /// Of all checkpoints the node keeps only these from now on, and the one that is on its way.
    fn keep_only(&mut self, checkpoints: &BTreeSet<Digest>) -> Option<Digest> {
        self.waiting.retain(|_, checkpoint| checkpoints.contains(checkpoint));
        self.stored.retain(|checkpoint| checkpoints.contains(checkpoint));
        self.underway.map(|(_, checkpoint)| checkpoint)
    }

    fn take(&mut self) -> Option<(Name, Digest)> {
        self.underway = self.waiting.pop_last();
        self.underway
    }

    fn settle(&mut self, end: End) {
        let Some((name, checkpoint)) = self.underway.take() else { return };
        match end {
            End::Stored => drop(self.stored.insert(checkpoint)),
            End::Again => drop(self.waiting.insert(name, checkpoint)),
            End::Never => {}
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stored,
    Again,
    Never,
}

/// Why a checkpoint was not stored.
struct Failure {
    cause: String,
    /// It may come right.
    again: bool,
}

impl Failure {
    /// Of this node: when it is asked for the checkpoint again, it will have it again.
    fn here(cause: impl ToString) -> Self {
        Self { cause: cause.to_string(), again: false }
    }

    /// Of what lies beyond a wire or a mount.
    fn there(cause: impl ToString) -> Self {
        Self { cause: cause.to_string(), again: true }
    }
}

/// With what checkpoints are stored.
pub(crate) struct StoringOptions {
    pub address: Address,
    pub home: Arc<Home>,
    pub endpoint: Endpoint,
    /// Has what belongs to a job and not to a checkpoint.
    pub orchestrator: Peer,
    pub events: EventSink,
    /// Is told whenever a checkpoint is no longer on its way.
    pub settled: Arc<Notify>,
}

impl Storing {
    /// Begins to wait for checkpoints.
    ///
    /// # Errors
    /// A storage that nobody can get into. One that cannot be reached now may be there later.
    pub fn start(options: StoringOptions) -> Result<Self, PNodeError> {
        let storage = Storage::open(&options.address)?;
        let (desk, stop) = (Arc::new(Desk::default()), Arc::new(Notify::new()));
        let clerk = Clerk { storage, options, desk: desk.clone() };
        let (stopped, runtime) = (stop.clone(), Handle::current());
        // What storages do stays on one thread, which nobody waits for.
        let work = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = clerk.work() => {}
                    () = stopped.notified() => {}
                }
            });
        };
        let thread = thread::Builder::new().name("zoo-storing".to_owned()).spawn(work);
        thread.map_err(|cause| PNodeError::Compute(cause.to_string()))?;
        Ok(Self { desk, stop })
    }

    /// The node has all of a checkpoint that it is to keep: it is stored, unless it was.
    pub fn kept(&self, job: JobId, round: u32, checkpoint: Digest) {
        self.desk.papers().kept((round, job), checkpoint);
        self.desk.changed.notify_one();
    }

    /// Only these are to be kept from now on. The one that is on its way is needed until it has arrived.
    pub fn keep_only(&self, checkpoints: &BTreeSet<Digest>) -> Option<Digest> {
        self.desk.papers().keep_only(checkpoints)
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

impl Desk {
    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().expect("nothing panics while it holds this lock")
    }
}

/// The side that stores.
struct Clerk {
    storage: Storage,
    options: StoringOptions,
    desk: Arc<Desk>,
}

impl Clerk {
    async fn work(self) {
        let mut failures = 0;
        loop {
            let ((round, job), checkpoint) = self.next().await;
            let began = Instant::now();
            let outcome = self.store(job, checkpoint).await;
            let (end, event) = match outcome {
                Ok(sent) => {
                    failures = 0;
                    (End::Stored, PNodeEvent::Stored { job, round, checkpoint, sent, took: began.elapsed() })
                }
                Err(Failure { cause, again }) => {
                    failures += 1;
                    warn!(%job, round, %checkpoint, cause, again, "a checkpoint is not stored");
                    let retry_in = again.then(|| backoff::wait(failures, RETRY_WAIT_MAX));
                    let event = PNodeEvent::NotStored { job, round, checkpoint, cause, retry_in };
                    (if again { End::Again } else { End::Never }, event)
                }
            };
            self.desk.papers().settle(end);
            self.options.settled.notify_one();
            (self.options.events)(event);
            if end == End::Again {
                sleep(backoff::wait(failures, RETRY_WAIT_MAX)).await;
            }
        }
    }

    /// Waits for a checkpoint to store.
    async fn next(&self) -> (Name, Digest) {
        loop {
            let changed = self.desk.changed.notified();
            if let Some(next) = self.desk.papers().take() {
                return next;
            }
            changed.await;
        }
    }

    async fn store(&self, job: JobId, checkpoint: Digest) -> Result<Sent, Failure> {
        let parcel = self.parcel(job, checkpoint).await?;
        self.storage.put(&parcel, &mut |_, _| {}).await.map_err(|cause| match cause {
            StorageError::Changed { .. } => Failure::here(cause),
            _ => Failure::there(cause),
        })
    }

    async fn parcel(&self, job: JobId, checkpoint: Digest) -> Result<Parcel, Failure> {
        let home = self.options.home.clone();
        let manifest = spawn_blocking(move || Manifest::load(home.store().as_ref(), &checkpoint)).await;
        let manifest = manifest.expect("reading and parsing do not panic").map_err(Failure::here)?;
        let program = self.blob_of_job(&manifest.lineage.program, SPEC_BYTES_MAX as u64).await?;
        let spec = TrainingSpec::from_bytes(&program).map_err(Failure::here)?;
        let mut items = vec![Item::memory("latest", format!("{checkpoint}\n").into_bytes()), item(program)];
        if let Some(tokenizer) = spec.tokenizer {
            items.push(item(self.blob_of_job(&tokenizer, MAX_BLOB_BYTES).await?));
        }
        let mut blobs: BTreeSet<Digest> = manifest.blobs().map(|blob| blob.digest).collect();
        blobs.insert(checkpoint);
        for blob in blobs {
            let file = self.options.home.store().root().join(FileStore::place(&blob));
            items.push(Item::named(&path(&blob), file, blob).map_err(Failure::here)?);
        }
        Parcel::new(&job.to_string(), manifest.progress.step, items).map_err(Failure::here)
    }

    /// What the job was submitted with: from here if it is, or from the orchestrator. It is small enough for memory.
    async fn blob_of_job(&self, digest: &Digest, max_bytes: u64) -> Result<VerifiedBlob, Failure> {
        if let Ok(blob) = self.options.home.store().get(digest) {
            return Ok(blob);
        }
        self.options
            .endpoint
            .fetch(&self.options.orchestrator, digest, max_bytes)
            .await
            .map_err(Failure::there)
    }
}

fn item(blob: VerifiedBlob) -> Item {
    Item::memory(&path(&blob.digest()), blob.bytes().to_vec())
}

/// Where a blob is in the snapshot: as a store in its `blobs` would have it.
fn path(blob: &Digest) -> String {
    format!("blobs/{}", FileStore::place(blob))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u32) -> Digest {
        Digest::of(&number.to_le_bytes())
    }

    fn papers(rounds: impl IntoIterator<Item = u32>) -> Papers {
        let mut papers = Papers::default();
        rounds.into_iter().for_each(|round| papers.kept((round, digest(100)), digest(round)));
        papers
    }

    fn next(papers: &mut Papers) -> Option<u32> {
        papers.take().map(|((round, _), _)| round)
    }

    #[test]
    fn the_newest_goes_first_and_each_goes_once() {
        let mut papers = papers([3, 7, 5]);
        for expected in [7, 5, 3] {
            assert_eq!(next(&mut papers), Some(expected));
            // Told again, before and after.
            papers.kept((expected, digest(100)), digest(expected));
            papers.settle(End::Stored);
            papers.kept((expected, digest(100)), digest(expected));
        }
        assert_eq!(next(&mut papers), None);
    }

    #[test]
    fn what_failed_waits_for_its_turn_and_what_is_not_here_does_not() {
        let mut papers = papers([3]);
        assert_eq!(next(&mut papers), Some(3));
        papers.kept((4, digest(100)), digest(4));
        papers.settle(End::Again);
        assert_eq!(next(&mut papers), Some(4), "a newer one goes before");
        papers.settle(End::Never);
        assert_eq!(next(&mut papers), Some(3));
        papers.settle(End::Stored);
        assert_eq!(next(&mut papers), None);
        papers.kept((4, digest(100)), digest(4));
        assert_eq!(next(&mut papers), Some(4), "it was had again");
    }

    #[test]
    fn what_is_let_go_is_left_out_but_for_what_is_on_its_way() {
        let mut papers = papers([1, 2, 3]);
        assert_eq!(next(&mut papers), Some(3));
        assert_eq!(papers.keep_only(&BTreeSet::from([digest(2)])), Some(digest(3)));
        papers.settle(End::Stored);
        assert_eq!(papers.keep_only(&BTreeSet::from([digest(2)])), None);
        assert_eq!(next(&mut papers), Some(2));
        papers.settle(End::Stored);
        assert_eq!((next(&mut papers), papers.stored.len()), (None, 1), "nothing is remembered for ever");
    }
}
