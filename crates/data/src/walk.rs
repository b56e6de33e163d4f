//! The files below a folder, in one order on every machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Folders deeper than this are not entered: no source tree is, and a loop of
/// mounts would be.
const DEPTH_MAX: usize = 64;
/// Folders that hold what programs built or fetched.
const BUILT_FOLDERS: &[&str] = &["target", "node_modules"];

/// A regular file below the folder walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its path below the folder, parts joined by `/`.
    pub relative: String,
    /// Where to open it.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// What lies below a folder.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Regular files, in the order of their relative paths' parts.
    pub files: Vec<Found>,
    /// Relative paths of folders and files that could not be looked at.
    pub unreadable: Vec<String>,
    /// More files than the limit were there; the walk stopped.
    pub truncated: bool,
}

/// Walks `root`: symbolic links are not followed, hidden entries and
/// [`BUILT_FOLDERS`] are passed over, at most `files_max` files are listed. An
/// error is about `root` itself.
pub(crate) fn walk(root: &Path, files_max: usize) -> io::Result<Tree> {
    let mut tree = Tree::default();
    let entries = sorted_entries(root)?;
    enter(entries, "", 1, files_max, &mut tree);
    Ok(tree)
}

fn enter(
    entries: Vec<(String, fs::DirEntry)>,
    prefix: &str,
    depth: usize,
    files_max: usize,
    tree: &mut Tree,
) {
    for (name, entry) in entries {
        if tree.truncated {
            return;
        }
        let relative = format!("{prefix}{name}");
        // The type of the entry itself: a symbolic link is neither folder nor file here.
        let Ok(metadata) = entry.metadata() else {
            tree.unreadable.push(relative);
            continue;
        };
        if metadata.is_dir() && depth < DEPTH_MAX && !BUILT_FOLDERS.contains(&name.as_str()) {
            match sorted_entries(&entry.path()) {
                Ok(inner) => enter(inner, &format!("{relative}/"), depth + 1, files_max, tree),
                Err(_) => tree.unreadable.push(relative),
            }
        } else if metadata.is_file() {
            if tree.files.len() == files_max {
                tree.truncated = true;
                return;
            }
            tree.files.push(Found { relative, path: entry.path(), bytes: metadata.len() });
        }
    }
}

/// The entries of a folder that are not hidden, by name.
fn sorted_entries(folder: &Path) -> io::Result<Vec<(String, fs::DirEntry)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push((name, entry));
        }
    }
    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relative(tree: &Tree) -> Vec<&str> {
        tree.files.iter().map(|file| file.relative.as_str()).collect()
    }

    #[test]
    fn files_come_sorted_without_hidden_built_or_linked_ones() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in
            ["b.txt", "a/z.md", "a/b/c.rs", ".git/config", "target/x.rs", "a/node_modules/x.js", "a/.hidden"]
        {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text").unwrap();
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(root.join("b.txt"), root.join("link.txt")).unwrap();
            std::os::unix::fs::symlink(root, root.join("a/loop")).unwrap();
        }
        let tree = walk(root, 100).unwrap();
        assert_eq!(relative(&tree), ["a/b/c.rs", "a/z.md", "b.txt"]);
        assert!(tree.files.iter().all(|file| file.bytes == 4));
        assert!(!tree.truncated && tree.unreadable.is_empty());

        let tree = walk(root, 2).unwrap();
        assert!(tree.truncated);
        assert_eq!(relative(&tree), ["a/b/c.rs", "a/z.md"]);
    }

    #[test]
    fn a_missing_root_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(walk(&folder.path().join("none"), 1).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
