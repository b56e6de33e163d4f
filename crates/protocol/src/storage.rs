//! Where checkpoints are kept beside nodes' disks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of storage: what the address of one begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// A folder, perhaps of another machine.
    Dir,
    /// A bucket of a server that speaks S3.
    S3,
    /// IPFS.
    Ipfs,
    /// A file that IPFS imports.
    Car,
}

impl StorageKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Dir, Self::S3, Self::Ipfs, Self::Car];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dir => "dir",
            Self::S3 => "s3",
            Self::Ipfs => "ipfs",
            Self::Car => "car",
        }
    }
}

impl fmt::Display for StorageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of storage\nhint: dir, s3, ipfs or car")]
pub struct ParseStorageKindError(String);

impl FromStr for StorageKind {
    type Err = ParseStorageKindError;

    fn from_str(text: &str) -> Result<Self, ParseStorageKindError> {
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == text);
        kind.ok_or_else(|| ParseStorageKindError(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_written_as_they_are_read() {
        for kind in StorageKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("ftp".parse::<StorageKind>().is_err());
    }
}
