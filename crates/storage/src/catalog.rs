//! A snapshot as a folder of IPFS: its files by their paths, and beside them `snapshot.json`, the listing.

use std::collections::BTreeMap;

use bytes::Bytes;
use zoo_content::VerifiedBlob;

use crate::dag::cid::Cid;
use crate::dag::file::{Block, cut};
use crate::dag::folder::join;
use crate::dag::node::Link;
use crate::dag::read::{Blocks, read_file, read_folder, read_small_file};
use crate::snapshot::{LISTING, SNAPSHOT_BYTES_MAX, folders_of};
use crate::{FileEntry, Snapshot, StorageError};

/// Cuts a blob into blocks that share its memory.
pub fn blocks_of(blob: VerifiedBlob) -> (Link, Vec<Block>) {
    cut(&Bytes::from_owner(blob))
}

/// The folder over a snapshot's files, which are at `links`: its root, and the blocks of the listing and of
/// every folder, the root last.
pub fn folder_over(snapshot: &Snapshot, links: &[Link]) -> Result<(Cid, Vec<Block>), StorageError> {
    let (listing, mut blocks) = blocks_of(snapshot.to_blob());
    let paths = snapshot.files.iter().map(|file| file.path.as_str());
    let files: Vec<_> = paths.zip(links).chain([(LISTING, &listing)]).collect();
    let (root, folders) = join(&files)?;
    blocks.extend(folders);
    Ok((root.cid, blocks))
}

/// A snapshot whose listing has been read, and where its files are.
pub struct Catalog {
    /// The listing.
    pub snapshot: Snapshot,
    /// As the files of the snapshot.
    files: Vec<Cid>,
}

/// The listing in the folder at `root`.
pub async fn read_listing(blocks: &impl Blocks, root: &Cid) -> Result<VerifiedBlob, StorageError> {
    let entries = read_folder(blocks, root).await?;
    let listing = entries.get(LISTING).ok_or_else(|| not_ours(root))?;
    Ok(VerifiedBlob::new(read_small_file(blocks, listing, SNAPSHOT_BYTES_MAX).await?))
}

impl Catalog {
    /// Finds every file of the folder at `root` that its `listing` names.
    pub async fn read(
        blocks: &impl Blocks,
        root: &Cid,
        listing: &VerifiedBlob,
    ) -> Result<Self, StorageError> {
        let snapshot = Snapshot::from_bytes(listing)?;
        // Every folder once, each after the one it is in.
        let mut folders = BTreeMap::from([("", read_folder(blocks, root).await?)]);
        for folder in snapshot.files.iter().flat_map(|file| folders_of(&file.path)) {
            if !folders.contains_key(folder) {
                let cid = entry(&folders, folder).ok_or_else(|| missing(folder))?;
                folders.insert(folder, read_folder(blocks, &cid).await?);
            }
        }
        let file = |file: &FileEntry| entry(&folders, &file.path).ok_or_else(|| missing(&file.path));
        let files = snapshot.files.iter().map(file).collect::<Result<_, _>>()?;
        Ok(Self { snapshot, files })
    }

    /// The bytes of file number `index`.
    pub async fn file(&self, blocks: &impl Blocks, index: usize) -> Result<VerifiedBlob, StorageError> {
        let FileEntry { path, digest, bytes } = &self.snapshot.files[index];
        let body = read_file(blocks, &self.files[index], *bytes).await?;
        VerifiedBlob::verify(*digest, body).map_err(|_| StorageError::Damaged { what: path.clone() })
    }
}

/// What stands at a path whose folder has been read.
fn entry(folders: &BTreeMap<&str, BTreeMap<String, Cid>>, path: &str) -> Option<Cid> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    folders.get(folder)?.get(name).copied()
}

fn missing(path: &str) -> StorageError {
    StorageError::Missing { what: path.to_owned() }
}

fn not_ours(root: &Cid) -> StorageError {
    StorageError::NotOurs { what: root.to_string() }
}
