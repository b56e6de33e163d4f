//! A node's directory: its key, its blobs, its memory of rounds. One process at a time.
//!
//! ```text
//! key          the secret key, 64 hex digits, readable for its owner only
//! lock         locked while a process uses the directory
//! rounds.json  what each remembered round used (see `rounds`)
//! blobs/       the store
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tracing::warn;
use zoo_content::{BlobStore, Digest, FileStore, StoreError, hex};
use zoo_protocol::{JobId, NodeKey};

use crate::rounds::{Retention, Rounds};
use crate::task::TaskError;

/// Why a directory cannot be a node's home.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another process uses it.
    #[error(
        "directory {} is in use by another node\n\
         hint: stop the other process, or give this one a directory of its own",
        .0.display()
    )]
    InUse(PathBuf),
    /// The operating system does not let this process write there.
    #[error(
        "cannot write in {}: permission denied\n\
         hint: choose a directory that belongs to you, or correct its permissions",
        .0.display()
    )]
    PermissionDenied(PathBuf),
    /// The disk is full.
    #[error(
        "cannot write {}: no space left\nhint: free some space on that disk, or choose a directory on another one",
        .0.display()
    )]
    StorageFull(PathBuf),
    /// The key file holds something else.
    #[error(
        "the key in {} is damaged: it is not 64 hex digits\n\
         hint: restore it from a copy, or remove the file to join under a new identity",
        .0.display()
    )]
    Key(PathBuf),
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
    /// No entropy for a new key.
    #[error("the operating system gives no random bytes for a new key: {0}")]
    Entropy(String),
    /// Any other failure of the operating system.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
}

/// A node's directory, held until this is dropped.
pub struct Home {
    key: Arc<NodeKey>,
    store: Arc<FileStore>,
    rounds: Mutex<Rounds>,
    rounds_path: PathBuf,
    retention: Retention,
    _lock: File,
}

impl Home {
    /// Takes possession of `directory`, creating what is not there yet.
    pub fn open(directory: &Path, retention: Retention) -> Result<Self, HomeError> {
        fs::create_dir_all(directory).map_err(|cause| os_error("create", directory, cause))?;
        let lock = lock(directory)?;
        let key = load_or_create_key(&directory.join("key"))?;
        let rounds_path = directory.join("rounds.json");
        let rounds = load_rounds(&rounds_path)?;
        let store = FileStore::open(directory.join("blobs"))?;
        Ok(Self {
            key: Arc::new(key),
            store: Arc::new(store),
            rounds: Mutex::new(rounds),
            rounds_path,
            retention,
            _lock: lock,
        })
    }

    /// The node's key.
    pub fn key(&self) -> &Arc<NodeKey> {
        &self.key
    }

    /// The node's blobs.
    pub fn store(&self) -> &Arc<FileStore> {
        &self.store
    }

    /// Remembers that `round` of `job` uses `blob`, which keeps it from being removed.
    pub fn note(&self, job: JobId, round: u32, blob: Digest) {
        self.rounds().note(job, round, blob);
    }

    /// Remembers the optimiser state that this node's window of `round` ended with.
    pub fn note_optimizer(&self, job: JobId, round: u32, state: Digest) {
        self.rounds().note_optimizer(job, round, state);
    }

    /// The optimiser state this node had right before `round`, if it has it still.
    pub fn optimizer_before(&self, job: JobId, round: u32) -> Option<Digest> {
        self.rounds().optimizer_before(job, round).filter(|state| self.store.contains(state))
    }

    /// Writes down what was noted, then removes the blobs of rounds that are no longer remembered.
    /// A crash between the two leaves blobs behind, never a record of blobs that are gone.
    pub fn tidy(&self) -> Result<(), HomeError> {
        let (json, gone) = {
            let mut rounds = self.rounds();
            let gone = rounds.forget(self.retention);
            (rounds.to_json(), gone)
        };
        write_whole(&self.rounds_path, &json)?;
        for blob in gone {
            // It may have been noted anew in the meantime.
            if !self.rounds().uses(&blob) {
                self.store.remove(&blob)?;
            }
        }
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

fn lock(directory: &Path) -> Result<File, HomeError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|cause| os_error("open", &path, cause))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(HomeError::InUse(directory.to_owned())),
        Err(TryLockError::Error(cause)) => Err(os_error("lock", &path, cause)),
    }
}

fn load_or_create_key(path: &Path) -> Result<NodeKey, HomeError> {
    match fs::read(path) {
        Ok(bytes) => {
            let text = std::str::from_utf8(&bytes).ok().map(str::trim_ascii);
            let seed = text.and_then(hex::read_32).ok_or_else(|| HomeError::Key(path.to_owned()))?;
            Ok(NodeKey::from_seed(seed))
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|cause| HomeError::Entropy(cause.to_string()))?;
            let text: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
            write_whole(path, format!("{text}\n").as_bytes())?;
            Ok(NodeKey::from_seed(seed))
        }
        Err(cause) => Err(os_error("read", path, cause)),
    }
}

fn load_rounds(path: &Path) -> Result<Rounds, HomeError> {
    match fs::read(path) {
        Ok(json) => {
            Rounds::from_json(&json).map_err(|cause| HomeError::Rounds { path: path.to_owned(), cause })
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Rounds::default()),
        Err(cause) => Err(os_error("read", path, cause)),
    }
}

/// Writes a file that is there whole or not at all, readable for its owner only.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let unfinished = path.with_extension("new");
    let written = private_file(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|cause| os_error("write", &unfinished, cause))?;
    fs::rename(&unfinished, path).map_err(|cause| os_error("write", path, cause))
}

/// An empty file that nobody else can read, also while it is being written.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn os_error(action: &'static str, path: &Path, cause: io::Error) -> HomeError {
    match cause.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            HomeError::PermissionDenied(path.to_owned())
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => HomeError::StorageFull(path.to_owned()),
        _ => HomeError::Io { action, path: path.to_owned(), cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Result<Home, HomeError> {
        Home::open(directory, Retention { rounds: 1, jobs: 1 })
    }

    #[test]
    fn a_home_keeps_its_key_and_only_its_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let nested = directory.path().join("some/node");
        let first = open(&nested).unwrap().key().id();
        assert_eq!(open(&nested).unwrap().key().id(), first);

        let other = tempfile::tempdir().unwrap();
        assert_ne!(open(other.path()).unwrap().key().id(), first, "keys are random");

        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(nested.join("key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn two_processes_cannot_share_a_home() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path()).unwrap();
        let second = open(directory.path()).err().expect("it is in use");
        assert!(matches!(second, HomeError::InUse(_)), "{second}");
        drop(first);
        open(directory.path()).unwrap();
    }

    #[test]
    fn a_damaged_file_is_named_with_what_to_do() {
        let good = "ab".repeat(32);
        let cases = [
            ("key", "", "hint: restore it from a copy"),
            ("key", "abc", "hint: restore it from a copy"),
            ("key", &good[1..], "hint: restore it from a copy"),
            ("rounds.json", "{", "hint: remove the file"),
        ];
        for (file, content, hint) in cases {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(file);
            fs::write(&path, content).unwrap();
            let message = open(directory.path()).err().expect("it is damaged").to_string();
            assert!(message.contains(path.to_str().unwrap()) && message.contains(hint), "{message}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content, "it is not overwritten");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_refused_with_a_hint() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(open(&file.join("node")).is_err());

        let unwritable = Path::new("/proc/zoo-node");
        if unwritable.parent().is_some_and(Path::exists) {
            let message = open(unwritable).err().expect("nobody can write there").to_string();
            assert!(message.contains("/proc/zoo-node"), "{message}");
        }
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
            home.note_optimizer(job, 0, old);
            home.tidy().unwrap();
            assert_eq!(home.optimizer_before(job, 1), Some(old));
            [old, data, new]
        };
        let home = open(directory.path()).unwrap();
        assert_eq!(home.optimizer_before(job, 1), Some(old), "remembered over a restart");
        home.note(job, 1, data);
        home.note(job, 1, new);
        home.tidy().unwrap();
        assert!(!home.store().contains(&old));
        assert!(home.store().contains(&data) && home.store().contains(&new));
        assert_eq!(home.optimizer_before(job, 1), None);
    }

    #[test]
    fn a_lost_optimiser_state_is_no_state() {
        let directory = tempfile::tempdir().unwrap();
        let home = open(directory.path()).unwrap();
        home.note_optimizer(Digest::of(b"job"), 0, Digest::of(b"never stored"));
        assert_eq!(home.optimizer_before(Digest::of(b"job"), 1), None);
    }
}
