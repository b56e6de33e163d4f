//! Bytes that match their name, and what it is to keep them.

use std::fmt;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Digest, DigestPrefix};

/// Largest blob, bytes. Whoever reads a blob's size off a wire or a disk
/// compares it with this before reserving memory.
pub const MAX_BLOB_BYTES: u64 = 4 << 30;

/// Bytes together with their digest; exists only after the digest was checked.
///
/// Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedBlob {
    digest: Digest,
    bytes: Arc<Vec<u8>>,
}

impl VerifiedBlob {
    /// Hashes `bytes`: they are what they are.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), bytes: Arc::new(bytes) }
    }

    /// Checks that `bytes` hash to `expected`.
    pub fn verify(expected: Digest, bytes: Vec<u8>) -> Result<Self, Mismatch> {
        let blob = Self::new(bytes);
        if blob.digest == expected { Ok(blob) } else { Err(Mismatch { expected, actual: blob.digest }) }
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, copied only if another clone still shares them.
    pub fn into_bytes(self) -> Vec<u8> {
        Arc::unwrap_or_clone(self.bytes)
    }
}

impl Deref for VerifiedBlob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for VerifiedBlob {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for VerifiedBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedBlob({}, {} bytes)", self.digest.short(), self.bytes.len())
    }
}

/// Bytes do not hash to the digest they were given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes hash to {actual}, not to the expected {expected}")]
pub struct Mismatch {
    /// What the bytes should hash to.
    pub expected: Digest,
    /// What they hash to.
    pub actual: Digest,
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store does not hold this blob.
    #[error("blob {0} is not in the store")]
    NotFound(Digest),
    /// What is stored under the digest hashes to something else.
    #[error(
        "blob {digest} in {} is corrupt: its bytes hash to something else\n\
         hint: check the disk, then remove the file; it is fetched again when it is needed", path.display()
    )]
    Corrupt {
        /// The blob asked for.
        digest: Digest,
        /// The file that holds other bytes.
        path: PathBuf,
    },
    /// The disk is full, or the quota is used up.
    #[error(
        "no space left to write {}\nhint: free some space on that disk, or move the data directory to a larger one",
        path.display()
    )]
    StorageFull {
        /// What was being written.
        path: PathBuf,
    },
    /// The operating system does not let this process at its files.
    #[error(
        "permission denied for {}\nhint: the data directory must be readable and writable for the user who runs zoo",
        path.display()
    )]
    PermissionDenied {
        /// What was being read or written.
        path: PathBuf,
    },
    /// Larger than [`MAX_BLOB_BYTES`].
    #[error("blob of {bytes} bytes is larger than the limit of {MAX_BLOB_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// Any other failure of the operating system.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was attempted: `read`, `write`, ...
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
}

impl StoreError {
    /// What the operating system refused; a full disk and a forbidden file are errors of their own.
    pub fn of(action: &'static str, path: &Path, cause: std::io::Error) -> Self {
        let path = path.to_path_buf();
        match cause.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::StorageFull { path },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::PermissionDenied { path },
            _ => Self::Io { action, path, cause },
        }
    }
}

/// Keeps blobs under their digests.
pub trait BlobStore: Send + Sync {
    /// The blob named `digest`. Bytes that come from a disk are hashed again on the way.
    fn get(&self, digest: &Digest) -> Result<VerifiedBlob, StoreError>;

    /// Keeps `bytes` and says their name. Keeping what is there already is not
    /// an error. When this returns, the blob survives a crash, if anything in
    /// this store does.
    fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError>;

    /// Keeps a blob whose digest is known already: no second hash.
    fn keep(&self, blob: &VerifiedBlob) -> Result<(), StoreError> {
        self.put(blob).map(drop)
    }

    /// Whether `digest` can be asked for; says nothing about its bytes.
    fn contains(&self, digest: &Digest) -> bool {
        self.size(digest).is_some()
    }

    /// Size of the blob in bytes, if it is here.
    fn size(&self, digest: &Digest) -> Option<u64>;

    /// Every digest here, ascending.
    fn list(&self) -> Result<Vec<Digest>, StoreError>;

    /// The blob whose digest begins so, if one is here; of several the first.
    fn find(&self, prefix: &DigestPrefix) -> Result<Option<Digest>, StoreError> {
        Ok(self.list()?.into_iter().find(|digest| digest.prefix() == *prefix))
    }

    /// Forgets a blob. True if it was here.
    fn remove(&self, digest: &Digest) -> Result<bool, StoreError>;

    /// Sum of the sizes of all blobs, bytes.
    fn total_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.list()?.iter().filter_map(|digest| self.size(digest)).sum())
    }
}
