//! A node's directory: its key, its blobs, its memory of rounds.
//!
//! ```text
//! key, lock    see `zoo_home`
//! rounds.json  what each remembered round used (see `rounds`)
//! blobs/       the store
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tracing::warn;
use zoo_content::{BlobStore, Digest, Durability, FileStore, StoreError};
use zoo_protocol::{JobId, NodeKey};

use zoo_agent::rounds::{Retention, Rounds};
use zoo_tasks::TaskError;

const ROUNDS: &str = "rounds.json";

/// Why a directory cannot be a node's home.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The directory, its lock, its key or a file in it.
    #[error(transparent)]
    Directory(#[from] zoo_home::HomeError),
    /// The remembered rounds cannot be read.
    #[error(
        "the record of rounds in {} is damaged: {cause}\n\
         hint: remove the file; the node then starts from fresh optimiser state and no longer removes old blobs",
        path.display()
    )]
    Rounds {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The blob store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A node's directory, held until this is dropped.
pub struct Home {
    directory: zoo_home::Home,
    store: Arc<FileStore>,
    rounds: Mutex<Rounds>,
    writing: Mutex<()>,
    retention: Retention,
}

impl Home {
    /// Takes possession of `directory`, creating what is not there yet.
    pub fn open(directory: &Path, retention: Retention) -> Result<Self, HomeError> {
        let directory = zoo_home::Home::open(directory)?;
        let rounds = match directory.read(ROUNDS)? {
            None => Rounds::default(),
            Some(json) => Rounds::from_json(&json)
                .map_err(|cause| HomeError::Rounds { path: directory.path(ROUNDS), cause })?,
        };
        let store = FileStore::open_with(directory.path("blobs"), Durability::Later)?;
        Ok(Self {
            directory,
            store: Arc::new(store),
            rounds: Mutex::new(rounds),
            writing: Mutex::new(()),
            retention,
        })
    }

    /// The node's key.
    pub fn key(&self) -> &Arc<NodeKey> {
        self.directory.key()
    }

    /// The node's blobs.
    pub fn store(&self) -> &Arc<FileStore> {
        &self.store
    }

    /// Remembers that `round` of `job` uses `blob`, which keeps it from being removed.
    pub fn note(&self, job: JobId, round: u32, blob: Digest) {
        self.rounds().note(job, round, blob);
    }

    /// Remembers that these blobs belong to a checkpoint that is to be kept.
    pub fn hold(&self, checkpoint: Digest, blobs: Vec<Digest>) {
        self.rounds().hold(checkpoint, blobs);
    }

    /// Remembers that of all checkpoints only these still are to be kept; gives the blobs that nothing uses then.
    pub fn hold_only(&self, checkpoints: &BTreeSet<Digest>) -> BTreeSet<Digest> {
        self.rounds().hold_only(checkpoints)
    }

    /// Writes down what was noted, then removes the blobs of rounds that are no longer remembered.
    /// A crash between the two leaves blobs behind, never a record of blobs that are gone.
    pub fn tidy(&self) -> Result<(), HomeError> {
        let gone = self.rounds().forget(self.retention);
        self.write_down_and_remove(gone)
    }

    /// Writes down what was noted, then removes these blobs.
    pub fn write_down_and_remove(&self, gone: BTreeSet<Digest>) -> Result<(), HomeError> {
        // One at a time: an older record must not overwrite a newer one.
        let _writing = self.writing.lock().expect("nothing panics while it holds this lock");
        let json = self.rounds().to_json();
        self.directory.write(ROUNDS, &json)?;
        for blob in gone {
            // It may have been noted anew in the meantime.
            if !self.rounds().uses(&blob) {
                self.store.remove(&blob)?;
            }
        }
        // What has arrived of a blob that is still wanted stays.
        let rounds = self.rounds().clone();
        self.store.remove_partials(|blob| rounds.uses(blob))?;
        Ok(())
    }

    /// Removes the blob whose changed bytes caused this error, if one did: it is as good as absent,
    /// and the next try fetches it anew.
    pub fn remove_if_corrupt(&self, cause: &TaskError) {
        let Some(blob) = cause.corrupt_blob() else { return };
        match self.store.remove(&blob) {
            Ok(_) => warn!(%blob, "removed a corrupt blob"),
            Err(cause) => warn!(%blob, %cause, "cannot remove a corrupt blob"),
        }
    }

    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().expect("nothing panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open(directory: &Path) -> Result<Home, HomeError> {
        Home::open(directory, Retention { rounds: 1, jobs: 1 })
    }

    #[test]
    fn a_damaged_record_of_rounds_is_named_with_what_to_do_and_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(ROUNDS);
        fs::write(&path, "{").unwrap();
        let message = open(directory.path()).err().expect("it is damaged").to_string();
        assert!(
            message.contains(path.to_str().unwrap()) && message.contains("hint: remove the file"),
            "{message}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "{");
    }

    #[test]
    fn old_blobs_go_and_what_is_still_used_stays_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let job = Digest::of(b"job");
        let [old, data, new] = {
            let home = open(directory.path()).unwrap();
            let [old, data, new] =
                [&b"old"[..], b"data", b"new"].map(|bytes| home.store().put(bytes).unwrap());
            home.note(job, 0, data);
            home.note(job, 0, old);
            home.tidy().unwrap();
            [old, data, new]
        };
        let home = open(directory.path()).unwrap();
        assert!(home.store().contains(&old), "remembered over a restart");
        home.note(job, 1, data);
        home.note(job, 1, new);
        home.tidy().unwrap();
        assert!(!home.store().contains(&old));
        assert!(home.store().contains(&data) && home.store().contains(&new));
    }
}
