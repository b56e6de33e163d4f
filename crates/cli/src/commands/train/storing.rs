//! Checkpoints on their way to a storage while the run goes on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};
use zoo_content::Digest;
use zoo_storage::{Address, Sent, Storage};

use super::event::Event;
use super::home::parcel;

/// Between two looks at whether to go on waiting.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Stores a run's checkpoints on a thread of its own, one at a time. Only the newest one waits: a slow storage
/// gets fewer checkpoints, and holds nothing up.
pub struct Storing {
    address: Address,
    desk: Arc<Desk>,
}

/// What the thread and the run tell each other.
#[derive(Default)]
struct Desk {
    papers: Mutex<Papers>,
    changed: Condvar,
}

#[derive(Default)]
struct Papers {
    waiting: Option<Digest>,
    underway: Option<Digest>,
    /// The last that arrived.
    stored: Option<Digest>,
    /// Not reported yet.
    events: Vec<Event>,
}

impl Storing {
    /// Stores what it will be given of the run in `root`.
    ///
    /// # Errors
    /// A storage that nobody can get into. One that cannot be reached now may be there later.
    pub fn start(address: &Address, root: &Path) -> Result<Self> {
        let storage = Storage::open(address).context("the checkpoints cannot be stored")?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the threads for the storage")?;
        let desk = Arc::new(Desk::default());
        let clerk = Clerk { storage, runtime, root: root.to_owned(), desk: Arc::clone(&desk) };
        // It ends with the process: whatever it is in the middle of goes on from there the next time.
        thread::spawn(move || clerk.work());
        Ok(Self { address: address.clone(), desk })
    }

    /// Where to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Stores this checkpoint next, unless it is stored already.
    pub fn store(&self, checkpoint: Digest) {
        let mut papers = self.desk.papers();
        if ![papers.stored, papers.underway].contains(&Some(checkpoint)) {
            papers.waiting = Some(checkpoint);
            self.desk.changed.notify_all();
        }
    }

    /// The checkpoints whose blobs are still needed.
    pub fn held(&self) -> Vec<Digest> {
        let papers = self.desk.papers();
        papers.waiting.into_iter().chain(papers.underway).collect()
    }

    /// What has become of checkpoints since this was last called.
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.desk.papers().events)
    }

    /// Waits until nothing is left to store, or until `give_up`.
    pub fn wait(&self, give_up: impl Fn() -> bool) {
        let mut papers = self.desk.papers();
        while (papers.waiting.is_some() || papers.underway.is_some()) && !give_up() {
            let woken = self.desk.changed.wait_timeout(papers, LOOK_INTERVAL);
            papers = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Desk {
    // Every change leaves the papers in order, so a thread that panicked meanwhile has spoiled nothing.
    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's side.
struct Clerk {
    storage: Storage,
    runtime: Runtime,
    root: PathBuf,
    desk: Arc<Desk>,
}

impl Clerk {
    fn work(self) {
        loop {
            let checkpoint = self.next();
            let before = Instant::now();
            let outcome = self.store(checkpoint);
            let event = match &outcome {
                Ok((step, sent)) => Event::Stored {
                    step: *step,
                    checkpoint,
                    snapshot: sent.digest,
                    cid: sent.cid.map(|cid| cid.to_string()),
                    sent_bytes: sent.sent_bytes,
                    seconds: before.elapsed().as_secs_f64(),
                },
                Err(cause) => Event::NotStored { checkpoint, error: format!("{cause:#}") },
            };
            let mut papers = self.desk.papers();
            papers.underway = None;
            papers.stored = outcome.is_ok().then_some(checkpoint).or(papers.stored);
            papers.events.push(event);
            self.desk.changed.notify_all();
        }
    }

    /// Waits for a checkpoint to store.
    fn next(&self) -> Digest {
        let mut papers = self.desk.papers();
        loop {
            if let Some(checkpoint) = papers.waiting.take() {
                papers.underway = Some(checkpoint);
                return checkpoint;
            }
            papers = self.desk.changed.wait(papers).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn store(&self, checkpoint: Digest) -> Result<(u64, Sent)> {
        let parcel = parcel(&self.root, checkpoint)?;
        let sent = self.runtime.block_on(self.storage.put(&parcel, &mut |_, _| {}))?;
        Ok((parcel.snapshot().step, sent))
    }
}
