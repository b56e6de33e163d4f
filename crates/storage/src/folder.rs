//! `dir:` storage: two stores of blobs in a folder, `blobs/` for files and `snapshots/` for listings.

use std::path::PathBuf;
use std::sync::Arc;

use zoo_content::{BlobStore, Digest, FileStore, StoreError, VerifiedBlob};

use crate::parcel::Parcel;
use crate::transfer::{Tell, for_each_file, in_background};
use crate::{FileEntry, Sent, Snapshot, StorageError};

const BLOBS: &str = "blobs";
const SNAPSHOTS: &str = "snapshots";

/// A folder.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub async fn put(&self, parcel: &Parcel, tell: Tell<'_>) -> Result<Sent, StorageError> {
        let blobs = Arc::new(FileStore::open(self.root.join(BLOBS))?);
        let snapshots = FileStore::open(self.root.join(SNAPSHOTS))?;
        let sent = for_each_file(parcel.snapshot(), tell, async |index, file| {
            if blobs.size(&file.digest) == Some(file.bytes) {
                return Ok(0);
            }
            let (blobs, blob) = (Arc::clone(&blobs), parcel.read(index).await?);
            in_background(move || Ok(blobs.keep(&blob)?)).await?;
            Ok(file.bytes)
        });
        let sent_bytes = sent.await?.iter().sum();
        // Last, so that it stands for all of it.
        let digest = snapshots.put(&parcel.snapshot().to_blob())?;
        Ok(Sent { digest, cid: None, sent_bytes })
    }

    pub fn snapshot(&self, digest: &Digest) -> Result<Snapshot, StorageError> {
        let listing = match self.open(SNAPSHOTS)?.get(digest) {
            Err(StoreError::NotFound(_)) => {
                return Err(StorageError::NoSnapshot { storage: self.shown(), name: digest.to_string() });
            }
            listing => listing?,
        };
        Ok(Snapshot::from_bytes(&listing)?)
    }

    pub fn blobs(&self) -> Result<Arc<FileStore>, StorageError> {
        Ok(Arc::new(self.open(BLOBS)?))
    }

    pub fn list(&self) -> Result<Vec<Digest>, StorageError> {
        Ok(self.open(SNAPSHOTS)?.list()?)
    }

    /// A store that is there: looking makes none.
    fn open(&self, name: &str) -> Result<FileStore, StorageError> {
        let path = self.root.join(name);
        if !path.is_dir() {
            return Err(StorageError::NoStorage(self.root.clone()));
        }
        Ok(FileStore::open(path)?)
    }

    fn shown(&self) -> String {
        format!("dir:{}", self.root.display())
    }
}

/// A file's bytes out of a store.
pub async fn get(blobs: &Arc<FileStore>, file: &FileEntry) -> Result<VerifiedBlob, StorageError> {
    let (blobs, digest) = (Arc::clone(blobs), file.digest);
    in_background(move || match blobs.get(&digest) {
        Ok(blob) => Ok(blob),
        Err(StoreError::NotFound(_)) => Err(StorageError::missing_blob(&digest)),
        Err(cause) => Err(cause.into()),
    })
    .await
}
