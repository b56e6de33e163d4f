//! The directory that a process of the network calls its own. One process at a time.
//!
//! ```text
//! key     the secret key, 64 hex digits, readable for its owner only; beside it `key.next` and `key.old` while it changes
//! lock    locked while a process uses the directory
//! wish    what somebody at the machine asks of that process, until it has heard
//! paused  there while that process, and every later one, is to rest
//! ```
//!
//! What else is in it is the business of whoever owns it.
//!
//! ```
//! use zoo_home::Home;
//!
//! let directory = tempfile::tempdir()?;
//! let id = Home::open(directory.path())?.key().id();
//! let home = Home::open(directory.path())?;
//! assert_eq!(home.key().id(), id, "an identity outlives its process");
//! home.write("port", b"4040\n")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod rotation;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zoo_content::hex;
use zoo_protocol::NodeKey;

/// Why a directory cannot be a process's home.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another process uses it.
    #[error(
        "directory {} is in use by another process\n\
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
         hint: restore it from a copy; without the file a new identity is made, and tickets given out under \
         this one are void",
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

const LOCK: &str = "lock";

/// The directory, held until this is dropped.
#[derive(Debug)]
pub struct Home {
    directory: PathBuf,
    key: Arc<NodeKey>,
    _lock: File,
}

impl Home {
    /// Takes possession of `directory`, creating what is not there yet.
    pub fn open(directory: &Path) -> Result<Self, HomeError> {
        fs::create_dir_all(directory).map_err(|cause| os_error("create", directory, cause))?;
        let lock = lock(directory)?;
        let key = load_or_create_key(&directory.join("key"))?;
        Ok(Self { directory: directory.to_owned(), key: Arc::new(key), _lock: lock })
    }

    /// The identity of whoever owns it.
    pub fn key(&self) -> &Arc<NodeKey> {
        &self.key
    }

    /// Where something in it is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The content of a file in it, if there is one.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, HomeError> {
        read(&self.path(name))
    }

    /// Writes a file that is there whole or not at all, readable for its owner only.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        write_whole(&self.path(name), bytes)
    }
}

/// What somebody at the machine asks of the process that uses a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Stop now.
    Leave,
    /// Finish what is begun, then stop.
    Drain,
}

const WISH: &str = "wish";

impl Wish {
    fn word(self) -> &'static str {
        match self {
            Self::Leave => "leave",
            Self::Drain => "drain",
        }
    }
}

/// Asks the process that uses `directory`.
pub fn make_wish(directory: &Path, wish: Wish) -> Result<(), HomeError> {
    write_whole(&directory.join(WISH), wish.word().as_bytes())
}

/// What was asked since this was last called.
pub fn take_wish(directory: &Path) -> Option<Wish> {
    let path = directory.join(WISH);
    let text = fs::read_to_string(&path).ok()?;
    fs::remove_file(&path).ok()?;
    [Wish::Leave, Wish::Drain].into_iter().find(|wish| wish.word() == text.trim())
}

const PAUSED: &str = "paused";

/// Asks every process that uses `directory`, now or later, to rest until [`resume`].
///
/// # Errors
/// When the directory cannot be written.
pub fn pause(directory: &Path) -> Result<(), HomeError> {
    write_whole(&directory.join(PAUSED), b"")
}

/// Takes [`pause`] back. Where nothing is paused, nothing happens.
///
/// # Errors
/// When the directory cannot be written.
pub fn resume(directory: &Path) -> Result<(), HomeError> {
    let path = directory.join(PAUSED);
    match fs::remove_file(&path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(os_error("remove", &path, cause)),
        _ => Ok(()),
    }
}

/// Whether whoever uses `directory` is to rest.
pub fn is_paused(directory: &Path) -> bool {
    directory.join(PAUSED).exists()
}

/// Whether a process uses `directory`.
pub fn is_in_use(directory: &Path) -> bool {
    let Ok(file) = OpenOptions::new().write(true).open(directory.join(LOCK)) else { return false };
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

fn lock(directory: &Path) -> Result<File, HomeError> {
    let path = directory.join(LOCK);
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
    if let Some(key) = read_key(path)? {
        return Ok(key);
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|cause| HomeError::Entropy(cause.to_string()))?;
    let key = NodeKey::from_seed(seed);
    write_key(path, &key)?;
    Ok(key)
}

fn read_key(path: &Path) -> Result<Option<NodeKey>, HomeError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).ok().map(str::trim_ascii);
    let seed = text.and_then(hex::read_32).ok_or_else(|| HomeError::Key(path.to_owned()))?;
    Ok(Some(NodeKey::from_seed(seed)))
}

fn write_key(path: &Path, key: &NodeKey) -> Result<(), HomeError> {
    let text: String = key.seed().iter().map(|byte| format!("{byte:02x}")).collect();
    write_whole(path, format!("{text}\n").as_bytes())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, HomeError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(os_error("read", path, cause)),
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let unfinished = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    // Also while it is being written.
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
    fn a_wish_is_heard_once_and_use_is_seen_from_outside() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_in_use(directory.path()));
        let home = Home::open(directory.path()).unwrap();
        assert!(is_in_use(directory.path()));
        assert_eq!(take_wish(directory.path()), None);
        for wish in [Wish::Leave, Wish::Drain] {
            make_wish(directory.path(), wish).unwrap();
            assert_eq!(take_wish(directory.path()), Some(wish));
            assert_eq!(take_wish(directory.path()), None);
        }
        drop(home);
        assert!(!is_in_use(directory.path()));
    }

    #[test]
    fn a_pause_outlives_the_process_that_it_was_asked_of() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        assert!(!is_paused(directory.path()));
        for _ in 0..2 {
            pause(directory.path()).unwrap();
            assert!(is_paused(directory.path()), "asked twice is asked once");
        }
        drop(home);
        let _home = Home::open(directory.path()).unwrap();
        assert!(is_paused(directory.path()));
        for _ in 0..2 {
            resume(directory.path()).unwrap();
            assert!(!is_paused(directory.path()));
        }
        assert!(pause(&directory.path().join("nowhere")).is_err());
    }

    #[test]
    fn a_home_keeps_its_key_and_only_its_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let nested = directory.path().join("some/node");
        let first = Home::open(&nested).unwrap().key().id();
        assert_eq!(Home::open(&nested).unwrap().key().id(), first);

        let other = tempfile::tempdir().unwrap();
        assert_ne!(Home::open(other.path()).unwrap().key().id(), first, "keys are random");

        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(nested.join("key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn two_processes_cannot_share_a_home() {
        let directory = tempfile::tempdir().unwrap();
        let first = Home::open(directory.path()).unwrap();
        let second = Home::open(directory.path()).unwrap_err();
        assert!(matches!(second, HomeError::InUse(_)), "{second}");
        drop(first);
        Home::open(directory.path()).unwrap();
    }

    #[test]
    fn a_damaged_key_is_named_with_what_to_do_and_not_overwritten() {
        let short = &"ab".repeat(32)[1..];
        for content in ["", "abc", "é", short] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("key");
            fs::write(&path, content).unwrap();
            let message = Home::open(directory.path()).unwrap_err().to_string();
            assert!(
                message.contains(path.to_str().unwrap()) && message.contains("hint: restore"),
                "{message}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Home::open(&file.join("node")).is_err());

        let unwritable = Path::new("/proc/zoo-node");
        if unwritable.parent().is_some_and(Path::exists) {
            let message = Home::open(unwritable).unwrap_err().to_string();
            assert!(message.contains("/proc/zoo-node"), "{message}");
        }
    }

    #[test]
    fn files_are_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        assert_eq!(home.read("port").unwrap(), None);
        home.write("port", b"4040").unwrap();
        home.write("port", b"5050").unwrap();
        assert_eq!(home.read("port").unwrap().as_deref(), Some(&b"5050"[..]));
        assert!(!home.path("port.new").exists());
    }
}
