//! A blob on its way: the leaves that have arrived and were checked, in memory or in a file that outlives the process.
//!
//! ```text
//! size u64 | one byte a leaf, 1 once it is here | the bytes, each leaf at its place
//! ```
//!
//! A leaf's bytes are written before its mark, so whatever a killed process leaves behind says the truth. A loss of power may leave a
//! mark without its bytes; that shows when the whole blob is hashed, and then the file goes.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::{Digest, Mismatch, VerifiedBlob};

/// Bytes of a leaf of a blob on its way.
pub const LEAF_BYTES: u64 = 64 << 10;
const SIZE_BYTES: u64 = 8;

/// A blob on its way.
#[derive(Debug)]
pub struct Partial {
    bytes: u64,
    here: Vec<bool>,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Memory(Vec<u8>),
    File { file: File, path: PathBuf },
}

impl Partial {
    /// One of this size, which has been proved, in memory.
    pub fn in_memory(bytes: u64) -> Self {
        Self { bytes, here: vec![false; leaves(bytes)], kept: Kept::Memory(vec![0; bytes as usize]) }
    }

    /// One of this size, which has been proved, in a new file.
    pub(crate) fn create(path: PathBuf, bytes: u64) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        let here = vec![false; leaves(bytes)];
        file.write_all(&bytes.to_le_bytes())?;
        file.write_all(&vec![0; here.len()])?;
        Ok(Self { bytes, here, kept: Kept::File { file, path } })
    }

    /// The one that an earlier process has left in a file; `None` if there is none, or it is no such file or over `bytes_max`.
    pub(crate) fn open(path: PathBuf, bytes_max: u64) -> io::Result<Option<Self>> {
        let mut file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(cause),
        };
        let (length, mut size) = (file.metadata()?.len(), [0; SIZE_BYTES as usize]);
        if length < SIZE_BYTES {
            return Ok(None);
        }
        file.read_exact(&mut size)?;
        let bytes = u64::from_le_bytes(size);
        if bytes > bytes_max || length < SIZE_BYTES + leaves(bytes) as u64 {
            return Ok(None);
        }
        let mut marks = vec![0; leaves(bytes)];
        file.read_exact(&mut marks)?;
        let here = marks.iter().map(|mark| *mark == 1).collect();
        Ok(Some(Self { bytes, here, kept: Kept::File { file, path } }))
    }

    /// Size of the whole blob, bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of leaves of the whole blob.
    pub fn leaves(&self) -> usize {
        self.here.len()
    }

    /// Whether a leaf is here.
    pub fn has(&self, leaf: usize) -> bool {
        self.here.get(leaf).is_some_and(|here| *here)
    }

    /// Whether all of it is.
    pub fn is_whole(&self) -> bool {
        self.here.iter().all(|here| *here)
    }

    /// Keeps a leaf that was checked.
    pub fn keep(&mut self, leaf: usize, bytes: &[u8]) -> io::Result<()> {
        let at = leaf as u64 * LEAF_BYTES;
        assert_eq!(bytes.len() as u64, LEAF_BYTES.min(self.bytes - at), "a leaf has its size");
        match &mut self.kept {
            Kept::Memory(blob) => blob[at as usize..at as usize + bytes.len()].copy_from_slice(bytes),
            Kept::File { file, .. } => {
                file.seek(SeekFrom::Start(SIZE_BYTES + self.here.len() as u64 + at))?;
                file.write_all(bytes)?;
                file.seek(SeekFrom::Start(SIZE_BYTES + leaf as u64))?;
                file.write_all(&[1])?;
            }
        }
        self.here[leaf] = true;
        Ok(())
    }

    /// The whole blob. A file stays until the blob is stored; one whose bytes are others goes.
    pub fn finish(self, digest: Digest) -> io::Result<Result<VerifiedBlob, Mismatch>> {
        match self.kept {
            Kept::Memory(bytes) => Ok(VerifiedBlob::verify(digest, bytes)),
            Kept::File { mut file, path } => {
                let mut bytes = Vec::with_capacity(self.bytes as usize);
                file.seek(SeekFrom::Start(SIZE_BYTES + self.here.len() as u64))?;
                file.take(self.bytes).read_to_end(&mut bytes)?;
                let verified = VerifiedBlob::verify(digest, bytes);
                if verified.is_err() {
                    fs::remove_file(&path)?;
                }
                Ok(verified)
            }
        }
    }
}

/// The blobs on their way in a directory.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<Digest>> {
    let names = fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name()));
    let names: Vec<_> = names.collect::<io::Result<_>>()?;
    Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
}

fn leaves(bytes: u64) -> usize {
    bytes.div_ceil(LEAF_BYTES).max(1) as usize
}
