//! Message types of the network: versions, signatures, framing.
//!
//! Every message is a postcard encoding of one of the enums below. Enums only
//! grow at their end; a change that cannot be expressed so raises
//! [`VERSION`], which the first message of every connection carries.
//!
//! This crate knows no socket and no clock. It turns bytes that a stranger
//! sent into values whose every size was checked, or into an error.

mod admission;
mod attestation;
mod beacon;
mod declaration;
mod head;
mod identity;
mod job;
mod keep;
pub mod limits;
mod link;
mod message;
mod sealed;
mod standing;
mod storage;
mod wire;
mod work;

pub use admission::{BENCHMARK_STEP_TOKENS, Benchmark, Effort, Part, Terms, Threshold, Tier};
pub use attestation::{Attestation, ParseTcbStatusError, TcbStatus, TeeKind};
pub use beacon::{Beacon, Secret};
pub use declaration::{
    Build, CREDENTIAL_VALID_S_MAX, CREDENTIAL_VALID_S_MIN, Credential, CredentialId, Declaration,
    DeclarationError, DeclarationFileError, Retirement, Revocation, Succession,
};
pub use head::JournalHead;
pub use identity::{NodeId, NodeKey, NodeProfile, ParseNodeIdError, Speeds};
pub use job::{
    CheckpointPlan, JobDescription, JobId, OVERLAP_PARTS, ParseTopologyError, RoundPlan, Stretch,
    TRUSTED_IN_1000_MIN, Topology,
};
pub use keep::{Challenge, Keep};
pub use limits::MAX_JOB_BLOBS;
pub use link::Link;
pub use message::{FromOrchestrator, Peer, Rejection, Role, ToOrchestrator};
pub use sealed::{SealError, Sealed, Statement};
pub use standing::{Account, Standing};
pub use storage::{ParseStorageKindError, StorageKind};
pub use wire::{MAX_FRAME_BYTES, Message, WireError, decode, encode};
pub use work::{
    Aggregate, Amendment, Commitment, Evaluate, Form, RefusedSummand, Report, Share, Sum, Summand, Tell,
    TrainWindow, VNodeUpdate, VerifyWindow, WindowOutcome, Work,
};
pub use zoo_kernels::Profile;

/// Version of the messages in this crate. A node says it first; an
/// orchestrator that speaks another one answers [`Rejection::Version`].
pub const VERSION: u16 = 11;
