//! The name of bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hex;

/// BLAKE3-256 of some bytes: their name everywhere in Zoo.
///
/// Orders and hashes by its bytes. Binary formats carry the 32 bytes;
/// human-readable ones carry 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(#[serde(with = "hex")] [u8; 32]);

/// How a digest begins: enough to tell one blob of a store from the others, where nobody gains by a mistake.
pub type DigestPrefix = [u8; 8];

impl Digest {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// How it begins.
    pub fn prefix(&self) -> DigestPrefix {
        *self.0.first_chunk().expect("a digest is longer")
    }

    /// First twelve hex digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_string()
    }
}

/// Hashes bytes that come piece by piece: what a large state does not have to be copied for.
///
/// ```
/// use zoo_content::{Digest, Hasher};
///
/// let mut hasher = Hasher::default();
/// hasher.update(b"in two ");
/// hasher.update(b"pieces");
/// assert_eq!(hasher.finish(), Digest::of(b"in two pieces"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes so far.
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(&self.0, f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

/// The text is not 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("digest is not 64 lower-case hex digits")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;

    /// Upper-case digits are refused: a digest has one spelling.
    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        hex::read_32(text).map(Self).ok_or(ParseDigestError)
    }
}
