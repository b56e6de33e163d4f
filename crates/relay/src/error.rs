//! Why a relay cannot run.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a relay did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Another process listens there.
    #[error(
        "address {address} is in use by another process\n\
         hint: a relay takes a port of both TCP and UDP; stop that process, choose another port, or port 0 for any free one"
    )]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// This machine cannot listen there.
    #[error("cannot listen on {address}: {cause}\nhint: the address must belong to this machine")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        cause: String,
    },
    /// A file of the certificate cannot be used.
    #[error("{} cannot be used: {cause}\nhint: both files are PEM; the certificate comes first in its chain", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The server did not start, or ended without being told to.
    #[error("the relay does not run: {0}")]
    Server(String),
}
