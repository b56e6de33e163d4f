//! Blobs in a directory: `ab/cdef...`, the digest's hex digits cut after two.
//!
//! A blob appears under its name whole or not at all: its bytes go to a
//! temporary file beside it, reach the disk, and are then renamed. Whatever a
//! killed process leaves behind is such a temporary file, which nothing reads
//! and the next [`FileStore::open`] sweeps away.
//!
//! A store may let blobs reach the disk [later](Durability::Later): they survive the death of the process all the same, but after a
//! loss of power some may be absent, or not what their names say, which every reader notices.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::partial::{self, Partial};
use crate::{BlobStore, Digest, DigestPrefix, MAX_BLOB_BYTES, StoreError, VerifiedBlob};

/// Hex digits that name the directory of a blob; the others name its file.
const SHARD_DIGITS: usize = 2;
const SHARDS: u32 = 256;
const LOCK_FILE: &str = "lock";
const TEMPORARY_SUFFIX: &str = ".tmp";
/// Where blobs are that have arrived in part.
const PARTIAL: &str = "partial";

/// When blobs have reached the disk, so that they survive a loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When they are put.
    AtOnce,
    /// With the next [`FileStore::flush`]: for blobs that others have too, or that can be made again.
    Later,
}

/// A [`BlobStore`] in a directory. Several processes may have the same one open.
#[derive(Debug)]
pub struct FileStore {
    root: PathBuf,
    durability: Durability,
    /// Blobs that may not have reached the disk yet.
    unflushed: Mutex<BTreeSet<PathBuf>>,
    temporary_files: AtomicU64,
    /// Holds a shared lock for as long as the store is open, so that nobody sweeps under it.
    lock: File,
}

impl FileStore {
    /// Opens the store in `root`, which is made if it is not there; blobs reach the disk at once. Removes what killed
    /// processes left half written, unless another process has the store open.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_with(root, Durability::AtOnce)
    }

    /// As [`Self::open`], with another durability.
    pub fn open_with(root: impl Into<PathBuf>, durability: Durability) -> Result<Self, StoreError> {
        let root = root.into();
        for shard in 0..SHARDS {
            let path = root.join(format!("{shard:02x}"));
            fs::create_dir_all(&path).map_err(|cause| StoreError::of("create", &path, cause))?;
        }
        let path = root.join(PARTIAL);
        fs::create_dir_all(&path).map_err(|cause| StoreError::of("create", &path, cause))?;
        sync_directory(&root)?;
        let path = root.join(LOCK_FILE);
        let lock = File::options().create(true).append(true).open(&path);
        let lock = lock.map_err(|cause| StoreError::of("open", &path, cause))?;
        let (unflushed, temporary_files) = (Mutex::default(), AtomicU64::new(0));
        let store = Self { root, durability, unflushed, temporary_files, lock };
        store.sweep_if_alone()?;
        Ok(store)
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What has arrived of a blob, if anything has and it is not over `bytes_max`.
    pub fn partial(&self, digest: &Digest, bytes_max: u64) -> Result<Option<Partial>, StoreError> {
        let path = self.partial_path(digest);
        Partial::open(path.clone(), bytes_max).map_err(|cause| StoreError::of("read", &path, cause))
    }

    /// Makes room for a blob of this size, which has been proved, to arrive in part.
    pub fn begin(&self, digest: &Digest, bytes: u64) -> Result<Partial, StoreError> {
        let path = self.partial_path(digest);
        Partial::create(path.clone(), bytes).map_err(|cause| StoreError::of("write", &path, cause))
    }

    /// Removes what has arrived of blobs that are not wanted.
    pub fn remove_partials(&self, is_wanted: impl Fn(&Digest) -> bool) -> Result<(), StoreError> {
        let path = self.root.join(PARTIAL);
        let partials = partial::list(&path).map_err(|cause| StoreError::of("list", &path, cause))?;
        partials.iter().filter(|digest| !is_wanted(digest)).try_for_each(|digest| self.remove_partial(digest))
    }

    fn remove_partial(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.partial_path(digest);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => Err(StoreError::of("remove", &path, cause)),
            _ => Ok(()),
        }
    }

    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(PARTIAL).join(digest.to_string())
    }

    /// Waits until everything that was put before has reached the disk.
    pub fn flush(&self) -> Result<(), StoreError> {
        let paths = std::mem::take(&mut *self.unflushed());
        let mut directories = BTreeSet::new();
        for path in paths {
            match File::open(&path).and_then(|file| file.sync_all()) {
                Ok(()) => directories.extend(path.parent().map(Path::to_owned)),
                // Removed in the meantime.
                Err(cause) if cause.kind() == ErrorKind::NotFound => {}
                Err(cause) => return Err(StoreError::of("write", &path, cause)),
            }
        }
        directories.iter().try_for_each(|directory| sync_directory(directory))
    }

    fn unflushed(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        // A panic elsewhere leaves a set of paths whole.
        self.unflushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep_if_alone(&self) -> Result<(), StoreError> {
        let path = self.root.join(LOCK_FILE);
        match self.lock.try_lock() {
            Ok(()) => {
                self.sweep()?;
                self.lock.unlock().map_err(|cause| StoreError::of("unlock", &path, cause))?;
            }
            Err(TryLockError::WouldBlock) => {}
            // Without locks nobody can know whether a temporary file is still being written.
            Err(TryLockError::Error(cause)) if cause.kind() == ErrorKind::Unsupported => return Ok(()),
            Err(TryLockError::Error(cause)) => return Err(StoreError::of("lock", &path, cause)),
        }
        self.lock.lock_shared().map_err(|cause| StoreError::of("lock", &path, cause))
    }

    fn sweep(&self) -> Result<(), StoreError> {
        self.for_each_file(|path, name| {
            if !name.ends_with(TEMPORARY_SUFFIX) {
                return Ok(());
            }
            match fs::remove_file(path) {
                Err(cause) if cause.kind() != ErrorKind::NotFound => {
                    Err(StoreError::of("remove", path, cause))
                }
                _ => Ok(()),
            }
        })
    }

    /// Calls `visit` with the path and the name of every file in the shards.
    fn for_each_file(
        &self,
        mut visit: impl FnMut(&Path, &str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for shard in 0..SHARDS {
            let directory = self.root.join(format!("{shard:02x}"));
            let entries =
                fs::read_dir(&directory).map_err(|cause| StoreError::of("list", &directory, cause))?;
            for entry in entries {
                let path = entry.map_err(|cause| StoreError::of("list", &directory, cause))?.path();
                if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                    visit(&path, name)?;
                }
            }
        }
        Ok(())
    }

    /// Where a blob is in the directory of any such store, with `/` between.
    pub fn place(digest: &Digest) -> String {
        let name = digest.to_string();
        let (shard, rest) = name.split_at(SHARD_DIGITS);
        format!("{shard}/{rest}")
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(Self::place(digest))
    }

    fn write(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let size = bytes.len() as u64;
        if size > MAX_BLOB_BYTES {
            return Err(StoreError::TooLarge { bytes: size });
        }
        let path = self.path(digest);
        if self.get(digest).is_err() {
            // Absent, or not what its name says: written (again).
            let number = self.temporary_files.fetch_add(1, Ordering::Relaxed);
            let process = std::process::id();
            TemporaryFile { path: path.with_extension(format!("{process}.{number}{TEMPORARY_SUFFIX}")) }
                .become_blob(&path, bytes, self.durability)?;
            if self.durability == Durability::Later {
                self.unflushed().insert(path.clone());
            }
        }
        self.remove_partial(digest)?;
        if self.durability == Durability::Later {
            return Ok(());
        }
        // Also when the blob was there: another thread may have renamed it and not yet come this far.
        sync_directory(path.parent().expect("a blob's path has a shard"))
    }
}

impl BlobStore for FileStore {
    fn get(&self, digest: &Digest) -> Result<VerifiedBlob, StoreError> {
        let path = self.path(digest);
        let bytes = read_at_most(&path, MAX_BLOB_BYTES).map_err(|cause| match cause.kind() {
            ErrorKind::NotFound => StoreError::NotFound(*digest),
            _ => StoreError::of("read", &path, cause),
        })?;
        bytes
            .and_then(|bytes| VerifiedBlob::verify(*digest, bytes).ok())
            .ok_or(StoreError::Corrupt { digest: *digest, path })
    }

    fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        self.write(&digest, bytes)?;
        Ok(digest)
    }

    fn keep(&self, blob: &VerifiedBlob) -> Result<(), StoreError> {
        self.write(&blob.digest(), blob)
    }

    fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().filter(|found| found.is_file()).map(|found| found.len())
    }

    fn list(&self) -> Result<Vec<Digest>, StoreError> {
        let mut digests = Vec::new();
        self.for_each_file(|path, name| {
            let shard = path.parent().and_then(|parent| parent.file_name()).and_then(|shard| shard.to_str());
            digests.extend(shard.and_then(|shard| format!("{shard}{name}").parse::<Digest>().ok()));
            Ok(())
        })?;
        digests.sort_unstable();
        Ok(digests)
    }

    fn find(&self, prefix: &DigestPrefix) -> Result<Option<Digest>, StoreError> {
        let wanted: String = prefix.iter().map(|byte| format!("{byte:02x}")).collect();
        let (shard, start) = wanted.split_at(SHARD_DIGITS);
        let directory = self.root.join(shard);
        let failure = |cause| StoreError::of("list", &directory, cause);
        let mut found: Option<Digest> = None;
        for entry in fs::read_dir(&directory).map_err(failure)? {
            let name = entry.map_err(failure)?.file_name();
            let Some(rest) = name.to_str().filter(|name| name.starts_with(start)) else { continue };
            if let Ok(digest) = format!("{shard}{rest}").parse() {
                found = Some(found.map_or(digest, |first| first.min(digest)));
            }
        }
        Ok(found)
    }

    fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(false),
            Err(cause) => Err(StoreError::of("remove", &path, cause)),
        }
    }
}

/// A file on its way to be a blob; removed if it does not become one.
struct TemporaryFile {
    path: PathBuf,
}

impl TemporaryFile {
    fn become_blob(self, path: &Path, bytes: &[u8], durability: Durability) -> Result<(), StoreError> {
        // No two writers share a name, so what is there is from a killed process and may go.
        let mut file =
            File::create(&self.path).map_err(|cause| StoreError::of("create", &self.path, cause))?;
        file.write_all(bytes).map_err(|cause| StoreError::of("write", &self.path, cause))?;
        if durability == Durability::AtOnce {
            file.sync_all().map_err(|cause| StoreError::of("write", &self.path, cause))?;
        }
        drop(file);
        fs::rename(&self.path, path).map_err(|cause| StoreError::of("rename", &self.path, cause))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // Gone already when it became a blob; otherwise the next sweep is the second chance.
        let _ = fs::remove_file(&self.path);
    }
}

/// The bytes of a file; `None` if there are more than `limit`.
fn read_at_most(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > limit {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // The file may have grown since its size was read.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Makes the names in a directory survive a crash.
fn sync_directory(path: &Path) -> Result<(), StoreError> {
    // Only unix systems open directories as files; elsewhere renaming is as durable as it gets.
    if cfg!(unix) {
        let synced = File::open(path).and_then(|directory| directory.sync_all());
        synced.map_err(|cause| StoreError::of("sync", path, cause))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_forbidden_file_are_errors_of_their_own_with_a_hint() {
        let cases = [
            (ErrorKind::StorageFull, "no space left to write /data/ab/cd\nhint: free some space"),
            (ErrorKind::QuotaExceeded, "no space left to write /data/ab/cd\nhint: free some space"),
            (
                ErrorKind::PermissionDenied,
                "permission denied for /data/ab/cd\nhint: the data directory must be",
            ),
            (ErrorKind::ReadOnlyFilesystem, "permission denied for /data/ab/cd\nhint: the data directory"),
            (ErrorKind::TimedOut, "cannot write /data/ab/cd: timed out"),
        ];
        for (kind, message) in cases {
            let error = StoreError::of("write", Path::new("/data/ab/cd"), kind.into());
            assert!(error.to_string().starts_with(message), "{kind:?}: {error}");
        }
    }
}
