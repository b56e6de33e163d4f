//! What a folder was at one point: its files, each named by its digest.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use zoo_content::{Digest, MAX_BLOB_BYTES, VerifiedBlob};

/// The version of the listing that this code writes.
pub const SNAPSHOT_FORMAT: u32 = 1;
/// Largest listing, bytes.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 << 20;
/// Most files of a snapshot.
pub const FILES_MAX: usize = 1 << 18;
/// Longest path of a file, bytes.
pub const PATH_BYTES_MAX: usize = 255;
/// Deepest path of a file, folders and file.
const PATH_PARTS_MAX: usize = 8;
/// The listing's own name among the files, where a storage keeps it there.
pub const LISTING: &str = "snapshot.json";
/// Longest name of a run, bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// The files of a run or a model at one point. The digest of its canonical JSON names it,
/// so whoever has the name can check every byte of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Version of this layout.
    pub format: u32,
    /// What it is a snapshot of, for people.
    pub name: String,
    /// Steps that are behind it.
    pub step: u64,
    /// Its files, ascending by path.
    pub files: Vec<FileEntry>,
}

/// A file of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it stands in the folder, with `/` between.
    pub path: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// Why a listing is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("snapshot: {cause}\nhint: {hint}")]
pub struct SnapshotError {
    cause: String,
    hint: &'static str,
}

const HINT_OTHER: &str = "take another snapshot; zoo storage list shows them";
const HINT_NEWER: &str = "open it with the version of zoo that wrote it, or a later one";

impl Snapshot {
    /// A snapshot of these files, in any order.
    ///
    /// # Errors
    /// Paths that no folder has, or too many files.
    pub fn new(name: &str, step: u64, mut files: Vec<FileEntry>) -> Result<Self, SnapshotError> {
        files.sort_unstable();
        let snapshot = Self { format: SNAPSHOT_FORMAT, name: name.to_owned(), step, files };
        snapshot.validate()?;
        Ok(snapshot)
    }

    /// The canonical JSON: fields in order, no space. Its digest is the snapshot's.
    pub fn to_blob(&self) -> VerifiedBlob {
        VerifiedBlob::new(serde_json::to_vec(self).expect("a snapshot is plain data with text keys"))
    }

    /// Reads a listing; only its canonical encoding is accepted.
    ///
    /// # Errors
    /// Too large, not JSON, another format, not canonical, or files that no folder has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        if bytes.len() as u64 > SNAPSHOT_BYTES_MAX {
            return Err(refuse(format!("{} bytes are too many", bytes.len())));
        }
        if let Ok(FormatOnly { format }) = serde_json::from_slice(bytes)
            && format != SNAPSHOT_FORMAT
        {
            let cause = format!("format {format} is not known, only {SNAPSHOT_FORMAT} is");
            return Err(SnapshotError { cause, hint: HINT_NEWER });
        }
        let snapshot: Self = serde_json::from_slice(bytes).map_err(|cause| refuse(cause.to_string()))?;
        if *snapshot.to_blob() != *bytes {
            return Err(refuse("not in canonical form".to_owned()));
        }
        snapshot.validate()?;
        Ok(snapshot)
    }

    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn validate(&self) -> Result<(), SnapshotError> {
        if self.name.len() > NAME_BYTES_MAX || self.name.chars().any(char::is_control) {
            return Err(refuse(format!(
                "a name has at most {NAME_BYTES_MAX} bytes, none that steer a terminal"
            )));
        }
        if self.files.len() > FILES_MAX {
            return Err(refuse(format!("more than {FILES_MAX} files")));
        }
        if let Some(file) = self.files.iter().find(|file| !is_plain_path(&file.path)) {
            return Err(refuse(format!("{:?} is not the path of a file in it", file.path)));
        }
        if let Some(file) = self.files.iter().find(|file| file.bytes > MAX_BLOB_BYTES) {
            return Err(refuse(format!(
                "{} has {} bytes, more than {MAX_BLOB_BYTES}",
                file.path, file.bytes
            )));
        }
        if let Some(pair) = self.files.windows(2).find(|pair| pair[0].path >= pair[1].path) {
            return Err(refuse(format!("{} is out of order or twice there", pair[1].path)));
        }
        let folders: BTreeSet<&str> = self.files.iter().flat_map(|file| folders_of(&file.path)).collect();
        if let Some(file) = self.files.iter().find(|file| folders.contains(file.path.as_str())) {
            return Err(refuse(format!("{} is both a file and a folder", file.path)));
        }
        Ok(())
    }
}

/// The folders that a file at `path` stands in, the innermost last.
pub(crate) fn folders_of(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// Any version's listing, to tell a newer format from broken bytes.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// A path that stays in its folder and means the same on every system.
fn is_plain_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let good = |part: &str| !part.is_empty() && part.chars().all(plain) && !part.trim_matches('.').is_empty();
    path != LISTING
        && path.len() <= PATH_BYTES_MAX
        && path.split('/').count() <= PATH_PARTS_MAX
        && path.split('/').all(good)
}

fn refuse(cause: String) -> SnapshotError {
    SnapshotError { cause, hint: HINT_OTHER }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str) -> FileEntry {
        FileEntry { path: path.to_owned(), digest: Digest::of(path.as_bytes()), bytes: path.len() as u64 }
    }

    #[test]
    fn a_snapshot_has_one_name_whatever_the_order_of_its_files() {
        let one = Snapshot::new("run", 7, vec![file("b/c"), file("a")]).unwrap();
        let other = Snapshot::new("run", 7, vec![file("a"), file("b/c")]).unwrap();
        assert_eq!(one.to_blob().digest(), other.to_blob().digest());
        assert_eq!(Snapshot::from_bytes(&one.to_blob()), Ok(one));
    }

    #[test]
    fn the_first_format_still_opens() {
        let bytes = include_bytes!("../tests/fixtures/snapshot-1.json").trim_ascii_end();
        let snapshot = Snapshot::from_bytes(bytes).unwrap();
        assert_eq!((snapshot.step, snapshot.files.len(), snapshot.total_bytes()), (7, 2, 4));
    }

    #[test]
    fn paths_that_leave_the_folder_or_stand_in_each_others_way_are_refused() {
        for paths in [
            &["../a"][..],
            &["/a"],
            &["a//b"],
            &["a/./b"],
            &["..."],
            &[""],
            &["a\\b"],
            &["c:a"],
            &["a", "a"],
            &["a", "a/b"],
            &["a", "a-b", "a/b"],
            &["é"],
            &[LISTING],
            &["1/2/3/4/5/6/7/8/9"],
            &[&"a".repeat(256)],
        ] {
            let error = Snapshot::new("run", 7, paths.iter().map(|path| file(path)).collect()).unwrap_err();
            assert!(error.to_string().contains("\nhint: "), "{paths:?}");
        }
        for path in ["a", ".hidden", "blobs/ab/cd", "model.safetensors"] {
            Snapshot::new("run", 7, vec![file(path)]).unwrap();
        }
        assert!(Snapshot::new("\u{1b}[2J", 7, vec![]).is_err());
        let large = FileEntry { bytes: MAX_BLOB_BYTES + 1, ..file("a") };
        assert!(Snapshot::new("run", 7, vec![large]).is_err());
    }

    #[test]
    fn only_the_canonical_listing_is_accepted() {
        let text =
            String::from_utf8(Snapshot::new("run", 7, vec![file("a")]).unwrap().to_blob().into_bytes())
                .unwrap();
        for (changed, message) in [
            (text.replace("\"format\":1", "\"format\":2"), "format 2 is not known"),
            (text.replace(':', ": "), "not in canonical form"),
            (text.replace("\"a\"", "\"..\""), "is not the path"),
            (text.replace("\"step\"", "\"steps\""), "unknown field"),
            ("nonsense".to_owned(), "snapshot: "),
        ] {
            let error = Snapshot::from_bytes(changed.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{message}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_snapshot_or_an_error(bytes: Vec<u8>) {
            prop_assert!(Snapshot::from_bytes(&bytes).is_err());
        }
    }
}
