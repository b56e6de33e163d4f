//! The orchestrator's directory.
//!
//! ```text
//! key, lock       see `zoo_home`
//! port            the port listened on last, so that tickets survive a restart
//! ticket          what others connect with, for the commands that people run beside it
//! journal.sqlite  the journal
//! blobs/          the store
//! copies          the copies of the journal that are in the store
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use zoo_content::Digest;
use zoo_home::HomeError;
use zoo_network::Ticket;
use zoo_protocol::NodeKey;

const PORT: &str = "port";
const TICKET: &str = "ticket";
const COPIES: &str = "copies";

/// The directory, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Home(zoo_home::Home);

impl Home {
    /// Takes possession of `directory`, creating what is not there yet.
    pub(crate) fn open(directory: &Path) -> Result<Self, HomeError> {
        zoo_home::Home::open(directory).map(Self)
    }

    pub(crate) fn key(&self) -> &NodeKey {
        self.0.key()
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.0.path("journal.sqlite")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.0.path("blobs")
    }

    /// Where a copy of the journal is made.
    pub(crate) fn copy(&self) -> PathBuf {
        self.0.path("journal-copy.sqlite")
    }

    /// The copies of the journal that were in the store last.
    pub(crate) fn copies(&self) -> Vec<Digest> {
        let text = self.0.read(COPIES).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok());
        text.unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    }

    pub(crate) fn remember_copies(&self, copies: &[Digest]) -> Result<(), HomeError> {
        let lines: String = copies.iter().map(|copy| format!("{copy}\n")).collect();
        self.0.write(COPIES, lines.as_bytes())
    }

    /// Where to listen: as asked, and when any port will do, the one of the last time.
    pub(crate) fn preferred(&self, listen: SocketAddr) -> SocketAddr {
        let remembered = || String::from_utf8(self.0.read(PORT).ok()??).ok()?.trim().parse().ok();
        match listen.port() {
            0 => SocketAddr::new(listen.ip(), remembered().unwrap_or(0)),
            _ => listen,
        }
    }

    pub(crate) fn remember_port(&self, port: u16) -> Result<(), HomeError> {
        self.0.write(PORT, format!("{port}\n").as_bytes())
    }

    pub(crate) fn remember_ticket(&self, ticket: &Ticket) -> Result<(), HomeError> {
        self.0.write(TICKET, format!("{ticket}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_remembers_its_port_and_belongs_to_one_process() {
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
    }
}
