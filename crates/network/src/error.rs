//! What can go wrong between two machines.

use std::fmt;
use std::net::SocketAddr;

use crate::limits::RELAYED_BLOB_BYTES_MAX;
use zoo_content::Digest;
use zoo_content::slice::SliceError;
use zoo_protocol::{NodeId, WireError};

/// Why an endpoint or a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Another process listens there.
    #[error(
        "address {address} is in use by another process\n\
         hint: stop that process, choose another port, or port 0 for any free one"
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
        /// What the operating system or the transport said.
        cause: String,
    },
    /// The relay cannot be used.
    #[error(
        "relay {relay} cannot be used: {cause}\n\
         hint: check that `zoo relay` is running there, and that its port can be reached from here over TCP"
    )]
    Relay {
        /// Its URL.
        relay: String,
        /// What came of it.
        cause: String,
    },
    /// Nobody answered under this identity at these addresses.
    #[error(
        "node {} is unreachable at {}: {cause}\n\
         hint: check that it is running and that the ticket is its current one",
        node.short(), Addresses(addresses)
    )]
    Unreachable {
        /// Who was called.
        node: NodeId,
        /// Where.
        addresses: Vec<SocketAddr>,
        /// What came of it.
        cause: String,
    },
    /// The connection broke.
    #[error("connection to node {} lost: {cause}", node.short())]
    Lost {
        /// The other side.
        node: NodeId,
        /// How it broke.
        cause: String,
    },
    /// The other side ended the conversation in the middle of a message.
    #[error("node {} stopped in the middle of a message", node.short())]
    Truncated {
        /// The other side.
        node: NodeId,
    },
    /// A message announces more bytes than any message may have; nothing of it was read.
    #[error("message of {bytes} bytes from or to node {} is longer than any of its kind", node.short())]
    FrameTooLarge {
        /// The other side.
        node: NodeId,
        /// Announced size.
        bytes: u64,
    },
    /// The bytes are not a message.
    #[error("node {} sent what is not a message: {cause}\nhint: it may run another version of zoo", node.short())]
    Wire {
        /// The other side.
        node: NodeId,
        /// What is wrong with them.
        cause: WireError,
    },
}

/// A blob could not be had.
#[derive(Debug)]
pub struct FetchError {
    /// The blob.
    pub digest: Digest,
    /// Who was asked, in order, and what came of it.
    pub attempts: Vec<(NodeId, FetchFailure)>,
}

impl std::error::Error for FetchError {}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blob = self.digest.short();
        match self.attempts.as_slice() {
            [] => write!(f, "blob {blob} cannot be fetched: no peer to ask"),
            [(node, failure)] => write!(f, "blob {blob} not fetched: node {} {failure}", node.short()),
            several => {
                write!(f, "blob {blob} not fetched from any of {} peers:", several.len())?;
                several.iter().enumerate().try_for_each(|(index, (node, failure))| {
                    let separator = if index == 0 { "" } else { ";" };
                    write!(f, "{separator} node {} {failure}", node.short())
                })
            }
        }
    }
}

/// Why one peer did not give one blob. Reads as "node ... `failure`".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchFailure {
    /// The peer is this node; it has only what its own store has.
    #[error("is this node itself")]
    Itself,
    /// No connection.
    #[error("is unreachable at {}: {cause}", Addresses(addresses))]
    Unreachable {
        /// Where it was looked for.
        addresses: Vec<SocketAddr>,
        /// What came of it.
        cause: String,
    },
    /// It said that it does not hold the blob.
    #[error("does not hold it")]
    Absent,
    /// It said that it holds the blob and cannot read it.
    #[error("holds it but cannot read it")]
    Unreadable,
    /// It holds the blob, which is too large for the relay, the only way to it.
    #[error(
        "is reached through the relay only, which carries no blob of more than {RELAYED_BLOB_BYTES_MAX} bytes\n\
         hint: open a UDP port to either side, or let the relay carry everything: zoo up --relay URL --bulk-over-relay"
    )]
    Relayed,
    /// It announced more bytes than the caller allows; none was read.
    #[error("says it has {bytes} bytes, over the limit of {max_bytes}")]
    TooLarge {
        /// Announced size.
        bytes: u64,
        /// The caller's limit.
        max_bytes: u64,
    },
    /// It sent other bytes than were asked for.
    #[error("sent false bytes: {0}")]
    False(SliceError),
    /// What it sent cannot be kept here.
    #[error("sent what cannot be kept: {0}")]
    Unkept(String),
    /// It sent something that is not an answer.
    #[error("answered against the protocol: {0}")]
    Protocol(&'static str),
    /// It went silent, or is too slow to wait for.
    #[error("stalled after {received_bytes} bytes")]
    Stalled {
        /// What had arrived.
        received_bytes: u64,
    },
    /// The connection broke.
    #[error("lost the connection after {received_bytes} bytes: {cause}")]
    Lost {
        /// What had arrived.
        received_bytes: u64,
        /// How it broke.
        cause: String,
    },
}

/// A list of addresses, for people.
struct Addresses<'a>(&'a [SocketAddr]);

impl fmt::Display for Addresses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no address");
        }
        self.0.iter().enumerate().try_for_each(|(index, address)| {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{address}")
        })
    }
}
