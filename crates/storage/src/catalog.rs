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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::file::CHUNK_BYTES;
    use crate::parcel::{Item, Parcel};

    impl Blocks for BTreeMap<Cid, Bytes> {
        async fn block(&self, cid: &Cid) -> Result<Bytes, StorageError> {
            self.get(cid).cloned().ok_or_else(|| missing(&cid.to_string()))
        }
    }

    /// A snapshot's folder with files of these bytes, and what holds all its blocks.
    fn folder(files: &[(&str, Vec<u8>)]) -> (Snapshot, Cid, BTreeMap<Cid, Bytes>) {
        let items = files.iter().map(|(path, bytes)| Item::memory(path, bytes.clone())).collect();
        let snapshot = Parcel::new("run", 1, items).unwrap().snapshot().clone();
        over(snapshot, files)
    }

    /// The same, whatever the snapshot says about them.
    fn over(snapshot: Snapshot, files: &[(&str, Vec<u8>)]) -> (Snapshot, Cid, BTreeMap<Cid, Bytes>) {
        let (mut links, mut held) = (Vec::new(), Vec::new());
        for (_, bytes) in files {
            let (link, blocks) = blocks_of(VerifiedBlob::new(bytes.clone()));
            links.push(link);
            held.extend(blocks);
        }
        let (root, blocks) = folder_over(&snapshot, &links).unwrap();
        held.extend(blocks);
        (snapshot, root, held.into_iter().map(|block| (block.cid, block.bytes)).collect())
    }

    async fn read(root: &Cid, held: &BTreeMap<Cid, Bytes>) -> Result<Vec<VerifiedBlob>, StorageError> {
        let catalog = Catalog::read(held, root, &read_listing(held, root).await?).await?;
        let mut files = Vec::new();
        for index in 0..catalog.snapshot.files.len() {
            files.push(catalog.file(held, index).await?);
        }
        Ok(files)
    }

    #[tokio::test]
    async fn files_of_every_shape_come_back() {
        // Chunks that are alike are one block, so a deep file takes no more room than a flat one.
        for bytes in
            [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 174 * CHUNK_BYTES, 175 * CHUNK_BYTES, 176 * CHUNK_BYTES + 9]
        {
            let body = vec![5; bytes];
            let (_, root, held) = folder(&[("a/b/c", body.clone()), ("d", b"other".to_vec())]);
            assert_eq!(read(&root, &held).await.unwrap()[0].bytes(), body, "{bytes} bytes");
        }
    }

    #[tokio::test]
    async fn a_listing_that_says_another_size_or_digest_gets_no_file() {
        let bytes = 3 * CHUNK_BYTES + 5;
        let files = [("file", vec![5; bytes])];
        let (snapshot, ..) = folder(&files);
        for said in [0, 1, CHUNK_BYTES, bytes - 1, bytes + 1, bytes * 500, 4 << 30] {
            let mut lying = snapshot.clone();
            lying.files[0].bytes = said as u64;
            let (_, root, held) = over(lying, &files);
            let error = read(&root, &held).await.unwrap_err();
            assert!(matches!(error, StorageError::NotOurs { .. }), "{said}: {error}");
        }
        let mut lying = snapshot;
        lying.files[0].digest = zoo_content::Digest::of(b"other");
        let (_, root, held) = over(lying, &files);
        assert!(matches!(read(&root, &held).await, Err(StorageError::Damaged { .. })));
    }

    #[tokio::test]
    async fn a_block_that_is_gone_or_other_bytes_is_an_error() {
        let (_, root, held) =
            folder(&[("a/large", vec![5; 3 * CHUNK_BYTES + 5]), ("small", b"small".to_vec())]);
        for cid in held.keys() {
            let mut less = held.clone();
            less.remove(cid);
            assert!(matches!(read(&root, &less).await, Err(StorageError::Missing { .. })), "{cid}");
            let mut other = held.clone();
            other.insert(*cid, Bytes::from_static(b"other"));
            assert!(matches!(read(&root, &other).await, Err(StorageError::Damaged { .. })), "{cid}");
        }
        let (listing_only, blocks) = blocks_of(VerifiedBlob::new(b"no folder".to_vec()));
        let held = blocks.into_iter().map(|block| (block.cid, block.bytes)).collect();
        assert!(matches!(read(&listing_only.cid, &held).await, Err(StorageError::NotOurs { .. })));
    }
}
