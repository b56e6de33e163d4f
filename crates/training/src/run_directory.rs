//! The checkpoints of a run on one machine, in a directory that survives `kill -9`.
//!
//! `blobs/` holds the blobs, `latest` the name of the newest checkpoint: 64 hex digits and a line
//! feed. A checkpoint's blobs are on disk before `latest` names it, and `latest` changes by a rename,
//! so at any moment it names a whole checkpoint: the new one or the one before.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zoo_content::{BlobStore, Digest, FileStore, StoreError};

use crate::checkpoint::{Checkpoint, CheckpointError, Manifest};
use crate::spec::{ReadSpecError, TrainingSpec};

/// A run's directory, held by one process at a time.
#[derive(Debug)]
pub struct RunDirectory {
    root: PathBuf,
    store: FileStore,
    /// Locked while the directory is open, so that nobody removes blobs that another process writes.
    _lock: File,
}

/// What goes wrong with a run's directory.
#[derive(Debug, Error)]
pub enum RunDirectoryError {
    /// Another process has it open.
    #[error(
        "run directory {}: another process is using it\nhint: wait for it, stop it, or choose another directory",
        .0.display()
    )]
    InUse(PathBuf),
    /// A file in it cannot be read or written.
    #[error("run directory: cannot {action} {}: {cause}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// `latest` does not hold a digest.
    #[error("run directory: {} does not hold the name of a checkpoint\nhint: write the 64 hex digits of one, or remove the file to start again", .0.display())]
    Latest(PathBuf),
    /// The disk is full, or a blob is missing or changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint's training specification cannot be read.
    #[error(transparent)]
    Spec(#[from] ReadSpecError),
}

impl RunDirectory {
    /// Opens `root`, and makes it if it is not there.
    ///
    /// # Errors
    /// When another process has it open, or the file system refuses.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, RunDirectoryError> {
        let root = root.into();
        fs::create_dir_all(&root).map_err(|cause| failure("make", &root, cause))?;
        let path = root.join("lock");
        let lock = File::options().create(true).append(true).open(&path);
        let lock = lock.map_err(|cause| failure("open", &path, cause))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunDirectoryError::InUse(root)),
            // A file system without locks: the person has to see to it.
            Err(TryLockError::Error(cause)) if cause.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(cause)) => return Err(failure("lock", &path, cause)),
        }
        let store = FileStore::open(root.join(BLOBS))?;
        Ok(Self { root, store, _lock: lock })
    }

    /// The store of the run's blobs. Only what a kept checkpoint reaches stays there.
    pub fn store(&self) -> &FileStore {
        &self.store
    }

    /// The name of the newest checkpoint; none before the first.
    ///
    /// # Errors
    /// When `latest` cannot be read or does not hold a digest.
    pub fn latest(&self) -> Result<Option<Digest>, RunDirectoryError> {
        read_latest(&self.root)
    }

    /// The newest checkpoint and its training specification; none before the first.
    ///
    /// # Errors
    /// When `latest`, the checkpoint or its specification is missing or changed.
    pub fn load_latest(&self) -> Result<Option<(TrainingSpec, Checkpoint)>, RunDirectoryError> {
        self.latest()?.map(|name| load(&self.store, &name)).transpose()
    }

    /// As [`RunDirectory::load_latest`], from a directory that another process may be training in.
    ///
    /// # Errors
    /// As [`RunDirectory::load_latest`].
    pub fn peek(root: &Path) -> Result<Option<(TrainingSpec, Checkpoint)>, RunDirectoryError> {
        let Some(name) = read_latest(root)? else { return Ok(None) };
        load(&FileStore::open(root.join(BLOBS))?, &name).map(Some)
    }

    /// Keeps `checkpoint` as the newest, and after it the one that was; older ones are removed.
    /// Returns its name.
    ///
    /// # Errors
    /// When the disk refuses. `latest` then names what it named before.
    ///
    /// # Panics
    /// When the checkpoint was not made with `spec`.
    pub fn save(&self, spec: &TrainingSpec, checkpoint: &Checkpoint) -> Result<Digest, RunDirectoryError> {
        self.save_beside(spec, checkpoint, &[])
    }

    /// As [`RunDirectory::save`], but the checkpoints `held` stay too: somebody still reads them.
    ///
    /// # Errors
    /// As [`RunDirectory::save`].
    ///
    /// # Panics
    /// As [`RunDirectory::save`].
    pub fn save_beside(
        &self,
        spec: &TrainingSpec,
        checkpoint: &Checkpoint,
        held: &[Digest],
    ) -> Result<Digest, RunDirectoryError> {
        let before = self.latest()?;
        let program = self.store.put(&spec.to_bytes())?;
        assert_eq!(program, checkpoint.lineage.program, "a checkpoint is saved with its own specification");
        let name = checkpoint.save(&self.store)?;
        self.point_latest_at(name)?;
        self.remove_all_but(before.into_iter().chain([name]).chain(held.iter().copied()))?;
        Ok(name)
    }

    fn point_latest_at(&self, name: Digest) -> Result<(), RunDirectoryError> {
        let path = self.root.join(LATEST);
        let temporary = self.root.join("latest.new");
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(format!("{name}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            // The rename itself has to reach the disk; only unix opens directories as files.
            if cfg!(unix) { File::open(&self.root)?.sync_all() } else { Ok(()) }
        };
        write().map_err(|cause| failure("write", &path, cause))
    }

    /// Removes every blob that none of these checkpoints reaches. A checkpoint that cannot be read
    /// reaches nothing: it is of no use to anyone.
    fn remove_all_but(&self, names: impl Iterator<Item = Digest>) -> Result<(), RunDirectoryError> {
        let mut kept = BTreeSet::new();
        for name in names {
            if let Ok(manifest) = Manifest::load(&self.store, &name) {
                kept.extend([
                    name,
                    manifest.lineage.program,
                    manifest.lineage.network,
                    manifest.lineage.data,
                ]);
                kept.extend(manifest.blobs().map(|blob| blob.digest));
            }
        }
        for digest in self.store.list()? {
            if !kept.contains(&digest) {
                self.store.remove(&digest)?;
            }
        }
        Ok(())
    }
}

const BLOBS: &str = "blobs";
const LATEST: &str = "latest";
const LATEST_BYTES_MAX: u64 = 128;

fn read_latest(root: &Path) -> Result<Option<Digest>, RunDirectoryError> {
    let path = root.join(LATEST);
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(LATEST_BYTES_MAX).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) if cause.kind() == io::ErrorKind::InvalidData => {
            return Err(RunDirectoryError::Latest(path));
        }
        Err(cause) => return Err(failure("read", &path, cause)),
    }
    match text.trim_end().parse() {
        Ok(name) => Ok(Some(name)),
        Err(_) => Err(RunDirectoryError::Latest(path)),
    }
}

fn load(store: &FileStore, name: &Digest) -> Result<(TrainingSpec, Checkpoint), RunDirectoryError> {
    let checkpoint = Checkpoint::load(store, name)?;
    let spec = TrainingSpec::from_bytes(store.get(&checkpoint.lineage.program)?.bytes())?;
    Ok((spec, checkpoint))
}

fn failure(action: &'static str, path: &Path, cause: io::Error) -> RunDirectoryError {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::StorageFull { path: path.to_path_buf() }.into()
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::PermissionDenied { path: path.to_path_buf() }.into()
        }
        _ => RunDirectoryError::Io { action, path: path.to_path_buf(), cause },
    }
}
