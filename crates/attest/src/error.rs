//! Why evidence is worth nothing.

use zoo_content::Digest;
use zoo_protocol::{NodeId, TcbStatus, WireError};

/// Why evidence is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// The file is none of evidence.
    #[error(
        "not a file of evidence: {0}\nhint: zoo attest pack makes one of what the hardware and its vendor gave"
    )]
    File(String),
    /// Its parts are too large, or it is no encoding of evidence.
    #[error("the evidence cannot be read: {0}")]
    Wire(#[from] WireError),
    /// A part is not what it should be.
    #[error("{what} cannot be read: {cause}")]
    Malformed {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The software may be looked into.
    #[error("it was started for debugging: whoever runs the machine can read and change what is inside")]
    Debug,
    /// It is genuine, but not closed to whoever runs the machine.
    #[error("{0}")]
    Open(&'static str),
    /// The signatures do not lead to a root that is trusted.
    #[error("{what} does not hold under the vendor's keys: {cause}")]
    Chain {
        /// Where the chain breaks.
        what: &'static str,
        /// How.
        cause: String,
    },
    /// All of it holds, at another time.
    #[error(
        "it is valid from {from_s} until {until_s} (seconds since 1970), not at {now_s}\nhint: fetch what the vendor signs about the platform again"
    )]
    Expired {
        /// First second at which all of it is valid.
        from_s: u64,
        /// First second at which some of it is not any more.
        until_s: u64,
        /// When it was checked.
        now_s: u64,
    },
    /// It is about somebody else.
    #[error(
        "it is foreign: what the hardware signed is not about {node} in the network of {network}\nhint: zoo attest binding says what has to be signed"
    )]
    Foreign {
        /// The node that it should be about.
        node: NodeId,
        /// In the network of this orchestrator.
        network: NodeId,
    },
    /// It is other software than what is accepted.
    #[error("the software with measurement {0} is not accepted")]
    Measurement(Digest),
    /// The platform's firmware is not good enough.
    #[error("the platform is {status}, and the worst that is accepted is {worst}")]
    Tcb {
        /// How it stands.
        status: TcbStatus,
        /// How it may stand.
        worst: TcbStatus,
    },
}

impl AttestError {
    /// One word for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Wire(_) => "wire",
            Self::Malformed { .. } => "malformed",
            Self::Debug => "debug",
            Self::Open(_) => "open",
            Self::Chain { .. } => "chain",
            Self::Expired { .. } => "expired",
            Self::Foreign { .. } => "foreign",
            Self::Measurement(_) => "measurement",
            Self::Tcb { .. } => "tcb",
        }
    }
}
