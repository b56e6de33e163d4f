//! What can go wrong between a checkpoint and where it is kept.

use std::path::PathBuf;

use zoo_content::{Digest, StoreError};

use crate::dag::folder::FolderTooLarge;
use crate::{ParseAddressError, SnapshotError};

/// Why something was not stored, or could not be had again.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] ParseAddressError),
    /// There is nothing to prove who asks with.
    #[error(
        "there are no credentials for {0}\n\
         hint: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for what everybody may read"
    )]
    Credentials(String),
    /// It answers, and does not let us.
    #[error("{storage} refuses: {cause}\nhint: check the credentials and what they may do there")]
    Forbidden {
        /// Where.
        storage: String,
        /// What it said.
        cause: String,
    },
    /// No answer, or not one that helps.
    #[error(
        "{storage}: {cause}\n\
         hint: check that it is there and can be reached; what was stored stays, and the same command goes on from there"
    )]
    Failed {
        /// Where.
        storage: String,
        /// What happened.
        cause: String,
    },
    /// There is nothing at a path.
    #[error("there is no storage in {}\nhint: check the path; zoo storage put makes one", .0.display())]
    NoStorage(PathBuf),
    /// What would be made is there already.
    #[error("{} exists already\nhint: remove it, or choose another --out", .0.display())]
    Exists(PathBuf),
    /// The name is none, or the beginning of none or several.
    #[error("{name}: {cause}\nhint: zoo storage list shows the snapshots")]
    Name {
        /// What was asked for.
        name: String,
        /// Why it cannot be meant.
        cause: &'static str,
    },
    /// It does not have the snapshot.
    #[error("{storage} has no snapshot {name}\nhint: zoo storage list shows what it has")]
    NoSnapshot {
        /// Where.
        storage: String,
        /// Which.
        name: String,
    },
    /// It has the snapshot, and not all of it.
    #[error(
        "{what} is missing from the storage\nhint: put the snapshot there again from a machine that has it"
    )]
    Missing {
        /// What of it.
        what: String,
    },
    /// What it has under this name is something else.
    #[error(
        "{what} was changed in the storage: its bytes do not match their name\n\
         hint: remove it there and put the snapshot there again, or get it from elsewhere"
    )]
    Damaged {
        /// What it is.
        what: String,
    },
    /// It is whole, but not as this program writes it.
    #[error(
        "{what} is not part of a snapshot as zoo stores it\nhint: check the name; zoo storage list shows what is there"
    )]
    NotOurs {
        /// What it is.
        what: String,
    },
    /// What should be stored has changed since it was listed.
    #[error(
        "{what} changed while it was stored\n\
         hint: is something else writing there? zoo train --storage stores a run while it trains"
    )]
    Changed {
        /// What it is.
        what: String,
    },
    /// The bytes of a snapshot's listing are not one.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A disk of this machine.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot become a folder of IPFS.
    #[error("{0}\nhint: store it in a dir: or s3: storage instead")]
    Folder(#[from] FolderTooLarge),
    /// Names of one kind of storage are not known to another.
    #[error("only ipfs: and car: storages know snapshots by CID\nhint: zoo storage list shows the digests")]
    NotByCid,
}

impl StorageError {
    /// The error for a blob that is not what its name says.
    pub(crate) fn damaged_blob(digest: &Digest) -> Self {
        Self::Damaged { what: format!("blob {digest}") }
    }

    /// The error for a blob that is not there.
    pub(crate) fn missing_blob(digest: &Digest) -> Self {
        Self::Missing { what: format!("blob {digest}") }
    }
}
