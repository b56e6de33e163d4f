//! Keys that let their bearer change something, with what each allows.
//!
//! A key is 256 random bits, shown once. The file beside the journal holds its digest only: who reads the file cannot use it. A digest
//! without salt or stretching is enough, since nobody guesses 256 bits.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;

/// The file's name in the orchestrator's directory.
const FILE: &str = "api-keys.json";
/// What every key begins with, so that people and scanners recognise one.
const PREFIX: &str = "zoo_";
/// Most keys.
const KEYS_MAX: usize = 1024;
/// Largest file of keys, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest name of a key, bytes.
const NAME_BYTES_MAX: usize = 64;

/// What a key allows; each allows what those before it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// To look.
    Read,
    /// To submit jobs and text.
    Submit,
    /// To cancel, pause and resume any job.
    Manage,
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read" => Ok(Self::Read),
            "submit" => Ok(Self::Submit),
            "manage" => Ok(Self::Manage),
            _ => Err("a scope is read, submit or manage".to_owned()),
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Manage => "manage",
        })
    }
}

/// A key, as the file holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What people call it.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    /// Digest of the key.
    pub digest: Digest,
}

/// Why the keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file.
    #[error("cannot {what} the keys in {}: {cause}", .path.display())]
    File {
        /// What was attempted.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the operating system said, or what is wrong with it.
        cause: String,
    },
    /// A name that cannot be.
    #[error("{0:?} cannot be the name of a key\nhint: 1 to {NAME_BYTES_MAX} bytes that can be shown")]
    Name(String),
    /// The name is another key's.
    #[error("there is a key {0:?} already\nhint: zoo keys revoke {0} ends it")]
    Taken(String),
    /// No key has the name.
    #[error("there is no key {0:?}\nhint: zoo keys lists them")]
    Unknown(String),
    /// There are enough.
    #[error("there are {KEYS_MAX} keys already, which is the limit")]
    TooMany,
    /// No entropy for a new key.
    #[error("the system has no randomness for a new key: {0}")]
    Entropy(String),
}

/// The keys of one orchestrator. The file may change under it, by `zoo keys`: it is read each time, and understood again when it has.
///
/// That a file is the same as before is seen by its bytes and not by its time: two changes within one tick of the file system's clock
/// have one time, and a key that the second of them revoked would go on opening.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    known: Mutex<Known>,
}

/// The file as it was read last, and what it says; without a file there are no keys.
#[derive(Debug, Default)]
struct Known {
    text: Option<Vec<u8>>,
    keys: Vec<Key>,
}

impl Keys {
    /// Those of the orchestrator in `directory`; none if there is no file yet.
    ///
    /// # Errors
    /// A file that cannot be read, or is something else.
    pub fn open(directory: &Path) -> Result<Self, KeysError> {
        let keys = Self { path: directory.join(FILE), known: Mutex::default() };
        keys.refresh()?;
        Ok(keys)
    }

    /// All of them, ordered by name.
    ///
    /// # Errors
    /// As [`Keys::open`].
    pub fn list(&self) -> Result<Vec<Key>, KeysError> {
        self.refresh()
    }

    /// Makes a key and returns it: the only time that it can be seen.
    ///
    /// # Errors
    /// A name that is taken or cannot be; a file that cannot be written.
    pub fn create(&self, name: &str, scope: Scope) -> Result<String, KeysError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
            return Err(KeysError::Name(name.chars().take(NAME_BYTES_MAX).collect()));
        }
        let mut keys = self.refresh()?;
        if keys.iter().any(|key| key.name == name) {
            return Err(KeysError::Taken(name.to_owned()));
        }
        if keys.len() >= KEYS_MAX {
            return Err(KeysError::TooMany);
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|cause| KeysError::Entropy(cause.to_string()))?;
        let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("{PREFIX}{text}");
        keys.push(Key { name: name.to_owned(), scope, digest: Digest::of(text.as_bytes()) });
        keys.sort_by(|one, other| one.name.cmp(&other.name));
        self.write(&keys)?;
        Ok(text)
    }

    /// Ends a key.
    ///
    /// # Errors
    /// A name that no key has; a file that cannot be written.
    pub fn revoke(&self, name: &str) -> Result<(), KeysError> {
        let mut keys = self.refresh()?;
        let before = keys.len();
        keys.retain(|key| key.name != name);
        if keys.len() == before {
            return Err(KeysError::Unknown(name.to_owned()));
        }
        self.write(&keys)
    }

    /// The key that `text` is, if it is one.
    pub fn find(&self, text: &str) -> Option<Key> {
        // Equal digests of unequal texts do not exist, and how long comparing takes says nothing of the text.
        let digest = Digest::of(text.as_bytes());
        let keys = self.refresh().inspect_err(|cause| tracing::warn!(%cause, "nobody is let in")).ok()?;
        keys.into_iter().find(|key| key.digest == digest)
    }

    fn refresh(&self) -> Result<Vec<Key>, KeysError> {
        let text = self.read()?;
        let mut known = self.known.lock().expect("understanding a file does not panic");
        if text != known.text {
            let keys = text.as_deref().map_or(Ok(Vec::new()), serde_json::from_slice);
            *known = Known { keys: keys.map_err(|cause| self.fail("read", &cause))?, text };
        }
        Ok(known.keys.clone())
    }

    /// The file's bytes; nothing if there is none.
    fn read(&self) -> Result<Option<Vec<u8>>, KeysError> {
        let file = match fs::File::open(&self.path) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|cause| self.fail("read", &cause))?,
        };
        let mut text = Vec::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text);
        read.map_err(|cause| self.fail("read", &cause))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(self.fail("read", &"it is too large"));
        }
        Ok(Some(text))
    }

    /// Writes a file for its owner's eyes only, whole or not at all.
    fn write(&self, keys: &[Key]) -> Result<(), KeysError> {
        let unfinished = self.path.with_extension("unfinished");
        let text = serde_json::to_string_pretty(keys).expect("keys are plain data");
        let written = private_file(&unfinished).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, &self.path)
        });
        written.map_err(|cause| self.fail("write", &cause))
    }

    fn fail(&self, what: &'static str, cause: &dyn ToString) -> KeysError {
        KeysError::File { what, path: self.path.clone(), cause: cause.to_string() }
    }
}

/// A new file that only its owner reads.
pub(crate) fn private_file(path: &Path) -> std::io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_allows_its_scope_until_it_is_revoked_and_the_file_does_not_hold_it() {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys::open(directory.path()).unwrap();
        assert_eq!(keys.find("zoo_00").map(|key| key.scope), None);
        let key = keys.create("mine", Scope::Submit).unwrap();
        assert_eq!(key.len(), PREFIX.len() + 64);
        assert_eq!(keys.find(&key).map(|key| key.scope), Some(Scope::Submit));
        for other in [&key[..key.len() - 1], &key.to_uppercase(), "", PREFIX] {
            assert_eq!(keys.find(other).map(|key| key.scope), None, "{other}");
        }
        let file = fs::read_to_string(directory.path().join(FILE)).unwrap();
        assert!(!file.contains(&key[PREFIX.len()..]), "{file}");

        let another_process = Keys::open(directory.path()).unwrap();
        assert_eq!(another_process.find(&key).map(|key| key.scope), Some(Scope::Submit));
        assert!(matches!(another_process.create("mine", Scope::Read), Err(KeysError::Taken(_))));
        keys.revoke("mine").unwrap();
        assert_eq!(keys.find(&key).map(|key| key.scope), None);
        assert!(matches!(keys.revoke("mine"), Err(KeysError::Unknown(_))));
        assert!(matches!(keys.create("", Scope::Read), Err(KeysError::Name(_))));
        assert!(matches!(keys.create("a\nb", Scope::Read), Err(KeysError::Name(_))));
    }

    #[test]
    fn a_key_is_revoked_also_within_one_tick_of_the_file_systems_clock() {
        let directory = tempfile::tempdir().unwrap();
        let (keys, another_process) =
            (Keys::open(directory.path()).unwrap(), Keys::open(directory.path()).unwrap());
        let path = directory.path().join(FILE);
        let at = std::time::SystemTime::UNIX_EPOCH;
        let now_at = || fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        let key = another_process.create("mine", Scope::Manage).unwrap();
        now_at();
        assert_eq!(keys.find(&key).map(|key| key.scope), Some(Scope::Manage));
        another_process.revoke("mine").unwrap();
        now_at();
        assert_eq!(keys.find(&key), None);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        Keys::open(directory.path()).unwrap().create("mine", Scope::Read).unwrap();
        let mode = fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_broken_file_lets_nobody_in() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "[{").unwrap();
        assert!(matches!(Keys::open(directory.path()), Err(KeysError::File { what: "read", .. })));
    }

    #[test]
    fn scopes_are_written_as_they_are_read() {
        for scope in [Scope::Read, Scope::Submit, Scope::Manage] {
            assert_eq!(scope.to_string().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.to_string());
        }
        assert!("admin".parse::<Scope>().is_err());
        assert!(Scope::Manage > Scope::Submit && Scope::Submit > Scope::Read);
    }
}
