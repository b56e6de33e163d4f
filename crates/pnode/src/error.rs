//! Why a PNode does not run.

use std::fmt;

use zoo_network::NetworkError;

use crate::home::HomeError;

/// What ends a PNode. Everything else it survives, and tries again.
#[derive(Debug, thiserror::Error)]
pub enum PNodeError {
    /// Its directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its socket cannot be opened.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The orchestrator speaks another version.
    #[error(
        "the orchestrator speaks protocol version {theirs}, this node speaks {ours}\nhint: update zoo on {}",
        Older { ours: *ours, theirs: *theirs }
    )]
    Version {
        /// What this node speaks.
        ours: u16,
        /// What the orchestrator speaks.
        theirs: u16,
    },
    /// The orchestrator does not accept the node.
    #[error("the orchestrator rejects this node: {0}")]
    Rejected(String),
    /// What the node would say of itself is more than it may.
    #[error("this node cannot introduce itself: {0}\nhint: choose another name")]
    Profile(zoo_protocol::WireError),
    /// Nobody can get into the storage.
    #[error(transparent)]
    Storage(#[from] zoo_storage::StorageError),
    /// The machine cannot compute.
    #[error("this machine cannot train: {0}")]
    Compute(String),
}

/// The side that has to be updated.
struct Older {
    ours: u16,
    theirs: u16,
}

impl fmt::Display for Older {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.ours < self.theirs { "this machine" } else { "the orchestrator's machine" })
    }
}
