//! Blobs in memory: for tests, and for work whose blobs need not outlive it.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{BlobStore, Digest, DigestPrefix, MAX_BLOB_BYTES, StoreError, VerifiedBlob};

/// A [`BlobStore`] that lives as long as the value. Getting a blob copies no bytes.
#[derive(Debug, Default)]
pub struct MemoryStore {
    blobs: RwLock<BTreeMap<Digest, VerifiedBlob>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    // Every change is one insertion or removal, so a thread that panicked
    // while it held the lock has left nothing half done.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Digest, VerifiedBlob>> {
        self.blobs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Digest, VerifiedBlob>> {
        self.blobs.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlobStore for MemoryStore {
    fn get(&self, digest: &Digest) -> Result<VerifiedBlob, StoreError> {
        self.read().get(digest).cloned().ok_or(StoreError::NotFound(*digest))
    }

    fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let blob = VerifiedBlob::new(bytes.to_vec());
        self.keep(&blob)?;
        Ok(blob.digest())
    }

    fn keep(&self, blob: &VerifiedBlob) -> Result<(), StoreError> {
        let bytes = blob.len() as u64;
        if bytes > MAX_BLOB_BYTES {
            return Err(StoreError::TooLarge { bytes });
        }
        self.write().entry(blob.digest()).or_insert_with(|| blob.clone());
        Ok(())
    }

    fn size(&self, digest: &Digest) -> Option<u64> {
        self.read().get(digest).map(|blob| blob.len() as u64)
    }

    fn list(&self) -> Result<Vec<Digest>, StoreError> {
        Ok(self.read().keys().copied().collect())
    }

    fn find(&self, prefix: &DigestPrefix) -> Result<Option<Digest>, StoreError> {
        let mut first = [0; 32];
        first[..prefix.len()].copy_from_slice(prefix);
        let blobs = self.read();
        let next = blobs.range(Digest::from_bytes(first)..).next().map(|(digest, _)| *digest);
        Ok(next.filter(|digest| digest.prefix() == *prefix))
    }

    fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.write().remove(digest).is_some())
    }
}
