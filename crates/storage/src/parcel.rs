//! A snapshot on its way: its listing, and where the bytes of its files are.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use zoo_content::{Digest, MAX_BLOB_BYTES, StoreError, VerifiedBlob};

use crate::{FileEntry, Snapshot, StorageError};

/// A file to be stored: its place in the snapshot, and its bytes.
#[derive(Clone, Debug)]
pub struct Item {
    entry: FileEntry,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Memory(VerifiedBlob),
    Disk(PathBuf),
}

impl Item {
    /// Bytes that are in memory.
    pub fn memory(path: &str, bytes: Vec<u8>) -> Self {
        let blob = VerifiedBlob::new(bytes);
        let entry = FileEntry { path: path.to_owned(), digest: blob.digest(), bytes: blob.len() as u64 };
        Self { entry, source: Source::Memory(blob) }
    }

    /// A file whose digest is not known yet: it is read here, and again when it is stored.
    ///
    /// # Errors
    /// When it cannot be read or is larger than a blob may be.
    pub fn hashed(path: &str, file: PathBuf) -> Result<Self, StorageError> {
        let blob = VerifiedBlob::new(read(&file)?);
        let entry = FileEntry { path: path.to_owned(), digest: blob.digest(), bytes: blob.len() as u64 };
        Ok(Self { entry, source: Source::Disk(file) })
    }

    /// A file that was named by its digest before.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn named(path: &str, file: PathBuf, digest: Digest) -> Result<Self, StorageError> {
        let found = file.metadata().map_err(|cause| StoreError::of("read", &file, cause))?;
        let entry = FileEntry { path: path.to_owned(), digest, bytes: found.len() };
        Ok(Self { entry, source: Source::Disk(file) })
    }
}

/// A snapshot with the bytes of its files.
#[derive(Clone, Debug)]
pub struct Parcel {
    snapshot: Snapshot,
    /// As the files of the snapshot.
    sources: Vec<Source>,
}

impl Parcel {
    /// A parcel of these files.
    ///
    /// # Errors
    /// As [`Snapshot::new`].
    pub fn new(name: &str, step: u64, mut items: Vec<Item>) -> Result<Self, StorageError> {
        items.sort_by(|one, other| one.entry.cmp(&other.entry));
        let (entries, sources) = items.into_iter().map(|item| (item.entry, item.source)).unzip();
        Ok(Self { snapshot: Snapshot::new(name, step, entries)?, sources })
    }

    /// What is in it.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The bytes of its file number `index`.
    pub(crate) async fn read(&self, index: usize) -> Result<VerifiedBlob, StorageError> {
        let FileEntry { path, digest, .. } = &self.snapshot.files[index];
        let file = match &self.sources[index] {
            Source::Memory(blob) => return Ok(blob.clone()),
            Source::Disk(file) => file.clone(),
        };
        let (digest, what) = (*digest, path.clone());
        let verified =
            move || VerifiedBlob::verify(digest, read(&file)?).map_err(|_| StorageError::Changed { what });
        tokio::task::spawn_blocking(verified).await.expect("reading does not panic and is not aborted")
    }
}

/// The bytes of a file of at most [`MAX_BLOB_BYTES`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    let failure = |cause: std::io::Error| StoreError::of("read", path, cause);
    let file = File::open(path).map_err(failure)?;
    let size = file.metadata().map_err(failure)?;
    if !size.is_file() {
        return Err(failure(ErrorKind::InvalidInput.into()));
    }
    if size.len() > MAX_BLOB_BYTES {
        return Err(StoreError::TooLarge { bytes: size.len() });
    }
    let mut bytes = Vec::with_capacity(size.len() as usize);
    // It may have grown since its size was read; its digest is checked next.
    file.take(size.len()).read_to_end(&mut bytes).map_err(failure)?;
    Ok(bytes)
}
