//! `car:` storage: one snapshot in one file, which `ipfs dag import` takes and `ipfs dag export` makes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use zoo_content::{StoreError, VerifiedBlob};

use crate::catalog::{blocks_of, folder_over, read_listing};
use crate::dag::car::{
    HEADER_BYTES, SECTION_HEAD_BYTES_MAX, header, read_header, read_section_head, section_head,
};
use crate::dag::cid::{Cid, Codec};
use crate::dag::file::Block;
use crate::dag::read::Blocks;
use crate::parcel::Parcel;
use crate::transfer::Tell;
use crate::{Sent, StorageError};

/// A CAR file.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
}

impl Archive {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Writes the file, in place of the one that may be there.
    pub async fn put(&self, parcel: &Parcel, tell: Tell<'_>) -> Result<Sent, StorageError> {
        let unfinished = Unfinished::beside(&self.path);
        let failure = |cause| StoreError::of("write", &unfinished.0, cause);
        let mut writer = Writer::create(&unfinished.0).map_err(failure)?;
        let (snapshot, mut links, mut done) = (parcel.snapshot(), Vec::new(), 0);
        for (index, file) in snapshot.files.iter().enumerate() {
            tell(done, snapshot.total_bytes());
            let (link, blocks) = blocks_of(parcel.read(index).await?);
            writer.write(&blocks).map_err(failure)?;
            links.push(link);
            done += file.bytes;
        }
        let (root, blocks) = folder_over(snapshot, &links)?;
        writer.write(&blocks).map_err(failure)?;
        writer.finish(&root).map_err(failure)?;
        fs::rename(&unfinished.0, &self.path).map_err(|cause| StoreError::of("write", &self.path, cause))?;
        tell(done, snapshot.total_bytes());
        Ok(Sent { digest: snapshot.to_blob().digest(), cid: Some(root), sent_bytes: done })
    }

    /// The file's blocks.
    pub fn open(&self) -> Result<OpenArchive, StorageError> {
        OpenArchive::read(&self.path)
    }
}

/// A file on its way to be a CAR; removed if it does not become one.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(path: &Path) -> Self {
        let mut name = OsString::from(path);
        name.push(".unfinished");
        Self(name.into())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already when it has been renamed.
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes every block once, and the header at last, when the root is known.
struct Writer {
    file: BufWriter<File>,
    written: BTreeSet<Cid>,
}

impl Writer {
    fn create(path: &Path) -> std::io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        // Every header is as long as any other.
        file.write_all(&header(&Cid::of(Codec::Raw, b"")))?;
        Ok(Self { file, written: BTreeSet::new() })
    }

    fn write(&mut self, blocks: &[Block]) -> std::io::Result<()> {
        for block in blocks {
            if self.written.insert(block.cid) {
                self.file.write_all(&section_head(block))?;
                self.file.write_all(&block.bytes)?;
            }
        }
        Ok(())
    }

    fn finish(mut self, root: &Cid) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header(root))?;
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}

/// A CAR file, and where its blocks are.
#[derive(Debug)]
pub struct OpenArchive {
    path: PathBuf,
    file: Mutex<File>,
    root: Cid,
    blocks: Places,
}

/// Offset and length of every block.
type Places = BTreeMap<Cid, (u64, usize)>;

impl OpenArchive {
    fn read(path: &Path) -> Result<Self, StorageError> {
        let failure = |cause: std::io::Error| match cause.kind() {
            ErrorKind::NotFound => StorageError::NoStorage(path.to_owned()),
            ErrorKind::UnexpectedEof => StorageError::NotOurs { what: path.display().to_string() },
            _ => StoreError::of("read", path, cause).into(),
        };
        let file = File::open(path).map_err(failure)?;
        let (root, blocks) = index(&file).map_err(failure)?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file), root, blocks })
    }

    /// The root.
    pub fn root(&self) -> Cid {
        self.root
    }

    /// The listing of the snapshot in it.
    pub async fn listing(&self) -> Result<VerifiedBlob, StorageError> {
        read_listing(self, &self.root).await
    }
}

impl Blocks for OpenArchive {
    async fn block(&self, cid: &Cid) -> Result<Bytes, StorageError> {
        let what = || format!("block {cid}");
        let &(offset, bytes) = self.blocks.get(cid).ok_or_else(|| StorageError::Missing { what: what() })?;
        let mut block = vec![0; bytes];
        // A thread that panicked while it read has left nothing but a place in the file.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut block));
        read.map_err(|cause| StoreError::of("read", &self.path, cause))?;
        Ok(block.into())
    }
}

/// The root of a CAR file and where its blocks are; the end of the file inside something is an error.
fn index(file: &File) -> std::io::Result<(Cid, Places)> {
    let file_bytes = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let mut start = [0; HEADER_BYTES];
    reader.read_exact(&mut start)?;
    let root = read_header(&start).ok_or(ErrorKind::UnexpectedEof)?;
    let (mut at, mut blocks) = (HEADER_BYTES as u64, BTreeMap::new());
    while at < file_bytes {
        let mut head = Vec::with_capacity(SECTION_HEAD_BYTES_MAX);
        (&mut reader).take(SECTION_HEAD_BYTES_MAX as u64).read_to_end(&mut head)?;
        let (head_bytes, cid, block_bytes) = read_section_head(&head).ok_or(ErrorKind::UnexpectedEof)?;
        let block_at = at + head_bytes as u64;
        at = block_at + block_bytes as u64;
        if at > file_bytes {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        blocks.insert(cid, (block_at, block_bytes));
        let behind = head_bytes as i64 + block_bytes as i64 - head.len() as i64;
        reader.seek_relative(behind)?;
    }
    Ok((root, blocks))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_an_archive_or_an_error(bytes: Vec<u8>, with_header: bool) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let start = if with_header { header(&Cid::of(Codec::Raw, b"")) } else { Vec::new() };
            std::fs::write(file.path(), [start, bytes].concat()).unwrap();
            if let Err(error) = OpenArchive::read(file.path()) {
                let ours = matches!(error, StorageError::NotOurs { .. });
                prop_assert!(ours, "{}", error);
            }
        }
    }
}
