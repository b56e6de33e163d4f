//! The orchestrator's directory. One process at a time.
//!
//! ```text
//! key             the secret key, 64 hex digits, readable for its owner only
//! lock            locked while a process uses the directory
//! port            the port listened on last, so that tickets survive a restart
//! journal.sqlite  the journal
//! blobs/          the store
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use zoo_content::hex;
use zoo_protocol::NodeKey;

/// Why a directory cannot be an orchestrator's home.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another process uses it.
    #[error(
        "directory {} is in use by another orchestrator\n\
         hint: stop the other process, or give this one a directory of its own",
        .0.display()
    )]
    InUse(PathBuf),
    /// The operating system does not let this process write there.
    #[error(
        "cannot write in {}: permission denied\n\
         hint: choose a directory that belongs to you, or correct its permissions",
        .0.display()
    )]
    PermissionDenied(PathBuf),
    /// The disk is full.
    #[error(
        "cannot write {}: no space left\nhint: free some space on that disk, or choose a directory on another one",
        .0.display()
    )]
    StorageFull(PathBuf),
    /// The key file holds something else.
    #[error(
        "the key in {} is damaged: it is not 64 hex digits\n\
         hint: restore it from a copy; without it, tickets given out so far are void",
        .0.display()
    )]
    Key(PathBuf),
    /// No entropy for a new key.
    #[error("the operating system gives no random bytes for a new key: {0}")]
    Entropy(String),
    /// Any other failure of the operating system.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
}

/// The directory, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Home {
    directory: PathBuf,
    key: NodeKey,
    _lock: File,
}

impl Home {
    /// Takes possession of `directory`, creating what is not there yet.
    pub(crate) fn open(directory: &Path) -> Result<Self, HomeError> {
        fs::create_dir_all(directory).map_err(|cause| os_error("create", directory, cause))?;
        let lock = lock(directory)?;
        let key = load_or_create_key(&directory.join("key"))?;
        Ok(Self { directory: directory.to_owned(), key, _lock: lock })
    }

    pub(crate) fn key(&self) -> &NodeKey {
        &self.key
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.directory.join("journal.sqlite")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.directory.join("blobs")
    }

    /// Where to listen: as asked, and when any port will do, the one of the last time.
    pub(crate) fn preferred(&self, listen: SocketAddr) -> SocketAddr {
        let remembered = || fs::read_to_string(self.directory.join("port")).ok()?.trim().parse().ok();
        match listen.port() {
            0 => SocketAddr::new(listen.ip(), remembered().unwrap_or(0)),
            _ => listen,
        }
    }

    pub(crate) fn remember_port(&self, port: u16) -> Result<(), HomeError> {
        write_whole(&self.directory.join("port"), format!("{port}\n").as_bytes())
    }
}

fn lock(directory: &Path) -> Result<File, HomeError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|cause| os_error("open", &path, cause))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(HomeError::InUse(directory.to_owned())),
        Err(TryLockError::Error(cause)) => Err(os_error("lock", &path, cause)),
    }
}

fn load_or_create_key(path: &Path) -> Result<NodeKey, HomeError> {
    match fs::read(path) {
        Ok(bytes) => {
            let text = std::str::from_utf8(&bytes).ok().map(str::trim_ascii);
            let seed = text.and_then(hex::read_32).ok_or_else(|| HomeError::Key(path.to_owned()))?;
            Ok(NodeKey::from_seed(seed))
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|cause| HomeError::Entropy(cause.to_string()))?;
            let text: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
            write_whole(path, format!("{text}\n").as_bytes())?;
            Ok(NodeKey::from_seed(seed))
        }
        Err(cause) => Err(os_error("read", path, cause)),
    }
}

/// Writes a file that is there whole or not at all, readable for its owner only.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let unfinished = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|cause| os_error("write", &unfinished, cause))?;
    fs::rename(&unfinished, path).map_err(|cause| os_error("write", path, cause))
}

fn os_error(action: &'static str, path: &Path, cause: io::Error) -> HomeError {
    match cause.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            HomeError::PermissionDenied(path.to_owned())
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => HomeError::StorageFull(path.to_owned()),
        _ => HomeError::Io { action, path: path.to_owned(), cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_keeps_its_key_and_its_port_and_belongs_to_one_process() {
        let directory = tempfile::tempdir().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let first = Home::open(directory.path()).unwrap();
        assert_eq!(first.preferred(any), any);
        first.remember_port(4040).unwrap();
        assert!(matches!(Home::open(directory.path()), Err(HomeError::InUse(_))));
        let id = first.key().id();
        drop(first);

        let again = Home::open(directory.path()).unwrap();
        assert_eq!(again.key().id(), id);
        assert_eq!(again.preferred(any), "127.0.0.1:4040".parse().unwrap());
        let asked = "127.0.0.1:5050".parse().unwrap();
        assert_eq!(again.preferred(asked), asked, "who asks for a port gets no other");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(directory.path().join("key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "the key is its owner's only");
        }
        drop(again);
        for damaged in ["", "abc", "é"] {
            fs::write(directory.path().join("key"), damaged).unwrap();
            let error = Home::open(directory.path()).unwrap_err();
            assert!(matches!(error, HomeError::Key(_)) && error.to_string().contains("hint:"), "{error}");
        }
    }
}
