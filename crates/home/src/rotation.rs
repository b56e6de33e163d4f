//! The key of a directory is followed by another one.
//!
//! ```text
//! key.next  the key that is to come: made once, and the same until it is taken
//! key.old   the key that was there before
//! ```
//!
//! Whoever has to tell others of it does so in between. A process that dies at any point is done again from its beginning.

use std::fs;

use zoo_protocol::NodeKey;

use crate::{Home, HomeError, load_or_create_key, os_error, read_key, write_key};

const NEXT: &str = "key.next";
const OLD: &str = "key.old";

impl Home {
    /// The key that is to follow: made when this is first asked, and the same until it is [taken](Home::take_next_key).
    pub fn next_key(&self) -> Result<NodeKey, HomeError> {
        load_or_create_key(&self.path(NEXT))
    }

    /// The key that was begun to follow, if there is one.
    pub fn pending_key(&self) -> Result<Option<NodeKey>, HomeError> {
        read_key(&self.path(NEXT))
    }

    /// The next key is the directory's from now on; the old one is kept aside. Who opened the directory before goes on with the old one.
    pub fn take_next_key(self) -> Result<(), HomeError> {
        if self.pending_key()?.is_none() {
            return Ok(());
        }
        write_key(&self.path(OLD), self.key())?;
        let (next, key) = (self.path(NEXT), self.path("key"));
        fs::rename(&next, &key).map_err(|cause| os_error("write", &key, cause))?;
        // What was told to others must not come undone.
        let directory = fs::File::open(&self.directory).and_then(|directory| directory.sync_all());
        directory.map_err(|cause| os_error("sync", &self.directory, cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_follows_another_whenever_the_process_dies() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Home::open(directory.path()).unwrap();
        let old = open().key().id();
        assert!(open().pending_key().unwrap().is_none());
        let next = open().next_key().unwrap().id();
        for _ in 0..2 {
            let home = open();
            assert_eq!(
                (home.key().id(), home.next_key().unwrap().id()),
                (old, next),
                "begun twice is begun once"
            );
        }
        open().take_next_key().unwrap();
        assert_eq!(open().key().id(), next);
        assert_eq!(read_key(&directory.path().join(OLD)).unwrap().unwrap().id(), old, "it is kept aside");
        open().take_next_key().unwrap();
        assert_eq!(open().key().id(), next, "taken twice is taken once");
        assert_ne!(open().next_key().unwrap().id(), next);
    }

    #[test]
    #[cfg(unix)]
    fn only_the_owner_reads_any_of_the_keys() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        home.next_key().unwrap();
        let mode = |name| fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(NEXT), 0o600);
        home.take_next_key().unwrap();
        assert_eq!((mode("key"), mode(OLD)), (0o600, 0o600));
    }

    #[test]
    fn a_damaged_next_key_is_named_and_takes_no_place() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let before = home.key().id();
        fs::write(directory.path().join(NEXT), "ab").unwrap();
        assert!(home.take_next_key().unwrap_err().to_string().contains("key.next"));
        assert_eq!(Home::open(directory.path()).unwrap().key().id(), before);
    }
}
