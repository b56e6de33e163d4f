//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use zoo_content::StoreError;

/// Writes a file: to a name beside it, to the disk, then under its own name.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = beside(path, ".new");
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|cause| failure("write", &temporary, cause))?;
    fs::rename(&temporary, path).map_err(|cause| failure("write", path, cause))?;
    sync_folder_of(path)
}

/// Writes a folder of files, in place of the one that may be there.
pub fn write_folder(path: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    let temporary = beside(path, ".new");
    remove_folder(&temporary)?;
    make_folder(&temporary)?;
    for (name, bytes) in files {
        write(&temporary.join(name), bytes)?;
    }
    remove_folder(path)?;
    fs::rename(&temporary, path).map_err(|cause| failure("write", path, cause))?;
    sync_folder_of(path)
}

/// Reads a file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let read = || {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut bytes = Vec::with_capacity(size.min(limit) as usize);
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|cause| failure("read", path, cause))?;
    if bytes.len() as u64 > limit {
        bail!("{}: more than the {limit} bytes it may have", path.display());
    }
    Ok(bytes)
}

/// Makes a folder and those above it.
pub fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|cause| failure("make", path, cause))
}

/// The error for what the system refused; a full disk and a forbidden place have hints of their own.
pub fn failure(action: &'static str, path: &Path, cause: io::Error) -> anyhow::Error {
    let path = path.to_owned();
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::StorageFull { path }.into(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StoreError::PermissionDenied { path }.into()
        }
        _ => anyhow!("cannot {action} {}: {cause}", path.display()),
    }
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(failure("remove", path, cause)),
        _ => Ok(()),
    }
}

/// Makes the names in the folder of `path` survive a power cut; only unix opens folders as files.
fn sync_folder_of(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if cfg!(unix) && !parent.as_os_str().is_empty() => {
            let synced = File::open(parent).and_then(|folder| folder.sync_all());
            synced.map_err(|cause| failure("sync", parent, cause))
        }
        _ => Ok(()),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_replaces_the_one_before_whole() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("model");
        let files = |names: &[&str]| {
            names.iter().map(|name| (name.to_string(), name.as_bytes().to_vec())).collect::<Vec<_>>()
        };
        write_folder(&path, &files(&["a", "b"])).unwrap();
        write_folder(&path, &files(&["c"])).unwrap();
        let left: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!((left, fs::read_dir(root.path()).unwrap().count()), (vec!["c".into()], 1));
    }

    #[test]
    fn what_the_system_refuses_is_said_with_a_hint() {
        let cases = [
            (ErrorKind::StorageFull, "no space left to write /x/run.json\nhint: free some space"),
            (ErrorKind::PermissionDenied, "permission denied for /x/run.json\nhint: "),
            (ErrorKind::ReadOnlyFilesystem, "permission denied for /x/run.json\nhint: "),
            (ErrorKind::TimedOut, "cannot write /x/run.json: timed out"),
        ];
        for (kind, message) in cases {
            let error = failure("write", Path::new("/x/run.json"), kind.into()).to_string();
            assert!(error.starts_with(message), "{kind:?}: {error}");
        }
    }

    #[test]
    fn a_file_larger_than_its_limit_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(read(&path, 4).unwrap_err().to_string().contains("more than the 4 bytes"));
    }
}
