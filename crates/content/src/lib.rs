//! Digests, blobs and the stores that hold them.
//!
//! Everything Zoo keeps or sends in bulk is a blob: bytes named by their
//! BLAKE3 digest. A [`VerifiedBlob`] is the proof that bytes match their name;
//! stores give out nothing else, so whoever holds one need not check again.
//!
//! ```
//! use zoo_content::{BlobStore, Digest, MemoryStore};
//!
//! let store = MemoryStore::new();
//! let digest = store.put(b"some bytes")?;
//! assert_eq!(digest, Digest::of(b"some bytes"));
//! assert_eq!(store.get(&digest)?.bytes(), b"some bytes");
//! # Ok::<(), zoo_content::StoreError>(())
//! ```
//!
//! This crate knows no network and no format: what is inside a blob is the
//! business of the rooms above.

mod blob;
mod digest;
mod file;
pub mod hex;
mod memory;
mod merkle;
mod partial;
pub mod slice;

pub use blob::{BlobStore, MAX_BLOB_BYTES, Mismatch, StoreError, VerifiedBlob};
pub use digest::{Digest, DigestPrefix, Hasher, ParseDigestError};
pub use file::{Durability, FileStore};
pub use memory::MemoryStore;
pub use merkle::{InclusionProof, merkle_root};
pub use partial::{LEAF_BYTES, Partial};
