//! Digests, blobs, manifests and the stores that hold them.
//!
//! Everything Zoo keeps or sends in bulk is a blob: bytes named by their
//! BLAKE3 digest. A [`VerifiedBlob`] is the proof that bytes match their name;
//! stores give out nothing else, so whoever holds one need not check again.
//!
//! This crate knows no network and no format: what is inside a blob is the
//! business of the rooms above.

mod blob;
mod digest;
pub mod hex;

pub use blob::{BlobStore, MAX_BLOB_BYTES, Mismatch, StoreError, VerifiedBlob};
pub use digest::{Digest, ParseDigestError};
