//! Where checkpoints outlive the machines that made them.
//!
//! What is stored is a [`Snapshot`]: the files of a run's folder at one checkpoint, each named by its digest. The digest of
//! the listing names the snapshot, so whoever has it can check every byte that comes back, whoever kept it. A
//! [`Storage`] is one of four: a folder, a bucket of an S3 server, a node of IPFS, a CAR file.
//!
//! ```
//! use zoo_storage::{Address, Item, Name, Parcel, Storage};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let folder = tempfile::tempdir()?;
//! let address: Address = format!("dir:{}/backup", folder.path().display()).parse()?;
//! let storage = Storage::open(&address)?;
//!
//! let files = vec![Item::memory("notes/first", b"one".to_vec()), Item::memory("latest", b"two".to_vec())];
//! let sent = storage.put(&Parcel::new("my run", 400, files)?, &mut |_, _| {}).await?;
//! assert_eq!(sent.sent_bytes, 6);
//! assert_eq!(storage.list().await?[0].snapshot.name, "my run");
//!
//! let out = folder.path().join("again");
//! storage.get(&Name::Digest(sent.digest), &out, &mut |_, _| {}).await?;
//! assert_eq!(std::fs::read(out.join("notes/first"))?, b"one");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Putting and getting may be cut off at any moment, by dropping the future or killing the process. A
//! snapshot that is listed is whole; what was moved before the cut is not moved again.
//!
//! This crate does not know what a checkpoint is: which files belong to one is the business of the rooms above.

mod address;
mod archive;
mod bucket;
mod catalog;
mod dag;
mod error;
mod folder;
mod limits;
mod node;
mod parcel;
mod snapshot;
mod transfer;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use zoo_content::{Digest, VerifiedBlob};

pub use address::{Address, BucketAddress, ParseAddressError};
pub use dag::cid::{Cid, ParseCidError};
pub use error::StorageError;
pub use parcel::{Item, Parcel};
pub use snapshot::{
    FILES_MAX, FileEntry, LISTING, NAME_BYTES_MAX, PATH_BYTES_MAX, SNAPSHOT_BYTES_MAX, SNAPSHOT_FORMAT,
    Snapshot, SnapshotError,
};
pub use transfer::Tell;

use archive::Archive;
use bucket::Bucket;
use catalog::Catalog;
use folder::Folder;
use node::Node;

/// A place that keeps snapshots.
#[derive(Debug)]
pub struct Storage {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder(Folder),
    Bucket(Bucket),
    Node(Node),
    Archive(Archive),
}

/// What a snapshot is asked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// The digest of its listing.
    Digest(Digest),
    /// Its folder, where IPFS keeps it.
    Cid(Cid),
}

/// What putting a snapshot came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The snapshot's name.
    pub digest: Digest,
    /// Its folder, where IPFS keeps it.
    pub cid: Option<Cid>,
    /// Bytes of files that were not there yet.
    pub sent_bytes: u64,
}

/// A snapshot that a storage has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub digest: Digest,
    /// Its folder, where IPFS keeps it.
    pub cid: Option<Cid>,
    /// Its listing.
    pub snapshot: Snapshot,
}

impl Storage {
    /// The storage at `address`. Nothing is dialled or made yet.
    ///
    /// # Errors
    /// When there are no credentials, or no client can be made.
    pub fn open(address: &Address) -> Result<Self, StorageError> {
        // Whoever comes first in a process decides; both clients here take what is there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kind = match address {
            Address::Folder(path) => Kind::Folder(Folder::new(path.clone())),
            Address::Bucket(bucket) => Kind::Bucket(Bucket::open(bucket, address.to_string())?),
            Address::Node(authority) => Kind::Node(Node::open(authority)?),
            Address::Archive(path) => Kind::Archive(Archive::new(path.clone())),
        };
        Ok(Self { kind })
    }

    /// Stores a snapshot: first the files that are not there yet, then its listing. A CAR file is written anew.
    ///
    /// # Errors
    /// The storage's, or those of the disk that the files are on. What was sent stays for the next attempt.
    pub async fn put(&self, parcel: &Parcel, tell: Tell<'_>) -> Result<Sent, StorageError> {
        match &self.kind {
            Kind::Folder(folder) => folder.put(parcel, tell).await,
            Kind::Bucket(bucket) => bucket.put(parcel, tell).await,
            Kind::Node(node) => node.put(parcel, tell).await,
            Kind::Archive(archive) => archive.put(parcel, tell).await,
        }
    }

    /// Makes the folder `out` of a snapshot, every byte checked. It appears when it is complete.
    ///
    /// # Errors
    /// A snapshot that is not there, or not whole; a folder that is there already; a disk that refuses.
    pub async fn get(&self, name: &Name, out: &Path, tell: Tell<'_>) -> Result<Snapshot, StorageError> {
        match (&self.kind, name) {
            (Kind::Folder(folder), Name::Digest(digest)) => {
                let (snapshot, blobs) = (folder.snapshot(digest)?, folder.blobs()?);
                transfer::restore(&snapshot, out, tell, async |_, file| folder::get(&blobs, file).await)
                    .await?;
                Ok(snapshot)
            }
            (Kind::Bucket(bucket), Name::Digest(digest)) => {
                let snapshot = bucket.snapshot(digest).await?;
                transfer::restore(&snapshot, out, tell, async |_, file| bucket.get(file).await).await?;
                Ok(snapshot)
            }
            (Kind::Node(node), name) => {
                let root = match name {
                    Name::Digest(digest) => node.root(digest).await?,
                    Name::Cid(cid) => *cid,
                };
                let listing = node.listing(&root).await?;
                get_from_blocks(node, &root, name, &listing, out, tell).await
            }
            (Kind::Archive(archive), name) => {
                let open = archive.open()?;
                let listing = open.listing().await?;
                get_from_blocks(&open, &open.root(), name, &listing, out, tell).await
            }
            (Kind::Folder(_) | Kind::Bucket(_), Name::Cid(_)) => Err(StorageError::NotByCid),
        }
    }

    /// Every snapshot here, by name and step.
    ///
    /// # Errors
    /// The storage's, or a listing that was changed.
    pub async fn list(&self) -> Result<Vec<Stored>, StorageError> {
        let mut found = match &self.kind {
            Kind::Folder(folder) => {
                let stored = |digest| Ok(Stored { digest, cid: None, snapshot: folder.snapshot(&digest)? });
                folder.list()?.into_iter().map(stored).collect::<Result<Vec<_>, StorageError>>()?
            }
            Kind::Bucket(bucket) => {
                let mut found = Vec::new();
                for digest in bucket.list().await? {
                    found.push(Stored { digest, cid: None, snapshot: bucket.snapshot(&digest).await? });
                }
                found
            }
            Kind::Node(node) => {
                let mut found = Vec::new();
                for digest in node.list().await? {
                    let root = node.root(&digest).await?;
                    found.push(stored_at(root, &node.listing(&root).await?)?);
                }
                found
            }
            Kind::Archive(archive) => {
                let open = archive.open()?;
                vec![stored_at(open.root(), &open.listing().await?)?]
            }
        };
        found.sort_by(|one, other| {
            let key = |stored: &Stored| (stored.snapshot.name.clone(), stored.snapshot.step, stored.digest);
            key(one).cmp(&key(other))
        });
        Ok(found)
    }

    /// The snapshot that a person means: by its digest, by how that begins, by a CID, or, saying nothing, by being
    /// the newest of the only run here.
    ///
    /// # Errors
    /// When it is nobody's name, or that of several.
    pub async fn find(&self, text: Option<&str>) -> Result<Name, StorageError> {
        if let Some(name) = text.and_then(|text| text.parse().ok()) {
            return Ok(name);
        }
        let refuse = |cause| {
            let name = text.unwrap_or("the newest snapshot").to_owned();
            Err(StorageError::Name { name, cause })
        };
        let stored = self.list().await?;
        let Some(start) = text else {
            return match (stored.first(), stored.last()) {
                (Some(first), Some(last)) if first.snapshot.name == last.snapshot.name => {
                    Ok(Name::Digest(last.digest))
                }
                (None, _) => refuse("there is none"),
                _ => refuse("there are several runs here"),
            };
        };
        let mut meant = stored.iter().filter(|stored| stored.digest.to_string().starts_with(start));
        match (meant.next(), meant.next()) {
            (Some(one), None) => Ok(Name::Digest(one.digest)),
            (None, _) => refuse("no snapshot here is called so"),
            (Some(_), Some(_)) => refuse("several snapshots begin so"),
        }
    }
}

async fn get_from_blocks(
    blocks: &impl dag::read::Blocks,
    root: &Cid,
    name: &Name,
    listing: &VerifiedBlob,
    out: &Path,
    tell: Tell<'_>,
) -> Result<Snapshot, StorageError> {
    let meant = match name {
        Name::Digest(digest) => *digest == listing.digest(),
        Name::Cid(cid) => cid == root,
    };
    if !meant {
        return Err(StorageError::Name { name: name.to_string(), cause: "another snapshot is there" });
    }
    let catalog = Catalog::read(blocks, root, listing).await?;
    transfer::restore(&catalog.snapshot, out, tell, async |index, _| catalog.file(blocks, index).await)
        .await?;
    Ok(catalog.snapshot)
}

fn stored_at(root: Cid, listing: &VerifiedBlob) -> Result<Stored, StorageError> {
    Ok(Stored { digest: listing.digest(), cid: Some(root), snapshot: Snapshot::from_bytes(listing)? })
}

impl FromStr for Name {
    type Err = ParseCidError;

    fn from_str(text: &str) -> Result<Self, ParseCidError> {
        match text.parse() {
            Ok(digest) => Ok(Self::Digest(digest)),
            Err(_) => text.parse().map(Self::Cid),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Cid(cid) => cid.fmt(f),
        }
    }
}
