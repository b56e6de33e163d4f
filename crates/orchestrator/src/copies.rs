//! Copies of the journal for whoever wants to audit it: a blob like any other, and the orchestrator's word for it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use zoo_content::{BlobStore, Digest, VerifiedBlob};
use zoo_protocol::{FromOrchestrator, JournalHead, Sealed};

use crate::home::Home;
use crate::journal::JournalReader;

/// Whoever asks within this time after another gets the same copy,
const FRESH: Duration = Duration::from_secs(5);
/// and within so many times what it took: copying is a twentieth of what the disk does at most, whoever asks how often.
const FRESH_TIMES: u32 = 20;
/// The largest journal that is copied for who asks; larger ones are for those who can reach the folder.
const JOURNAL_BYTES_MAX: u64 = 1 << 30;

/// The latest copy, and the one before, which somebody may still be fetching.
pub(crate) struct Copies {
    home: Arc<Home>,
    store: Arc<dyn BlobStore>,
    made: Mutex<Vec<Copy>>,
}

#[derive(Clone)]
struct Copy {
    fresh_until: Instant,
    head: Sealed<JournalHead>,
    journal: Digest,
    bytes: u64,
}

impl Copies {
    /// Begins without any: those of the process before are forgotten.
    pub(crate) fn new(home: Arc<Home>, store: Arc<dyn BlobStore>) -> Self {
        for name in home.copies() {
            let _ = store.remove(&name);
        }
        Self { home, store, made: Mutex::default() }
    }

    /// A copy that is fresh.
    pub(crate) async fn latest(&self) -> Result<FromOrchestrator, String> {
        let mut made = self.made.lock().await;
        let fresh = made.last().filter(|copy| Instant::now() < copy.fresh_until).cloned();
        let Copy { head, journal, bytes, .. } = match fresh {
            Some(copy) => copy,
            None => {
                let copy = self.copy().await?;
                made.push(copy.clone());
                let old = made.len().saturating_sub(2);
                let old: Vec<Copy> = made.drain(..old).collect();
                let kept: Vec<Digest> = made.iter().map(|copy| copy.journal).collect();
                for copy in old.iter().filter(|copy| !kept.contains(&copy.journal)) {
                    self.store.remove(&copy.journal).map_err(|cause| cause.to_string())?;
                }
                self.home.remember_copies(&kept).map_err(|cause| cause.to_string())?;
                copy
            }
        };
        Ok(FromOrchestrator::Journal { head, journal, bytes })
    }

    async fn copy(&self) -> Result<Copy, String> {
        let (start, path) = (Instant::now(), self.home.copy());
        let copied = self.copy_by(&path).await;
        let _ = fs::remove_file(&path);
        let (head, journal, bytes) = copied?;
        let fresh_until = Instant::now() + FRESH.max(start.elapsed() * FRESH_TIMES);
        Ok(Copy { fresh_until, head: Sealed::seal(&head, self.home.key()), journal, bytes })
    }

    /// Puts a copy into the store, by way of a file.
    async fn copy_by(&self, path: &Path) -> Result<(JournalHead, Digest, u64), String> {
        let head = copy_of(&self.home.journal(), path).await?;
        let (store, path) = (self.store.clone(), path.to_owned());
        let kept = spawn_blocking(move || {
            let blob = VerifiedBlob::new(fs::read(path).map_err(|cause| cause.to_string())?);
            store.keep(&blob).map_err(|cause| cause.to_string())?;
            Ok::<_, String>((blob.digest(), blob.len() as u64))
        });
        let (journal, bytes) = kept.await.map_err(|cause| cause.to_string())??;
        Ok((head, journal, bytes))
    }
}

async fn copy_of(journal: &Path, path: &Path) -> Result<JournalHead, String> {
    // What a killed process left.
    let _ = fs::remove_file(path);
    let bytes = fs::metadata(journal).map_err(|cause| cause.to_string())?.len();
    if bytes > JOURNAL_BYTES_MAX {
        return Err(format!("the journal has {bytes} bytes, more than is copied for who asks"));
    }
    let mut reader = JournalReader::open(journal).await.map_err(|cause| cause.to_string())?;
    let copied = reader.copy_to(path).await;
    reader.close().await.and(copied).map_err(|cause| cause.to_string())?;
    let mut copy = JournalReader::open(path).await.map_err(|cause| cause.to_string())?;
    let head = copy.head().await;
    copy.close().await.map_err(|cause| cause.to_string())?;
    head.map_err(|cause| cause.to_string())
}
