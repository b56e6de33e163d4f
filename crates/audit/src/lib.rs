//! An audit: everything that a journal says of a job is done again, and compared with `==`.
//!
//! ```text
//! journal --> Auditor: state machine --> what was asked --> zoo_tasks, again --> what was reported?
//!                                                     \---> scratch: what comes of it is what the next round starts from
//! ```
//!
//! Work is a pure function of blobs, and the journal holds every commitment as its maker signed it. So the journal, the program and the
//! data are enough to come to every byte of a job once more: windows, sums, outer steps and evaluations. Where something else comes out
//! than was reported, the audit names the round, the node and the VNode.
//!
//! # Invariants
//!
//! - **The auditor believes nothing but the journal's commands**: it applies each to a state of its own, and takes from that what a node
//!   was asked to do when it reported.
//! - **A window starts from what its node's own windows left**, or fresh: a state that is in no commitment is not taken, though its blob be at hand.
//! - **What is made again is not believed either**: it is used because it is equal to what was reported, and named by its digest.
//! - **What cannot be done again is said** ([`Verdict::Unavailable`]), and is never counted as equal.
//!
//! # What is not here
//!
//! No journal file, no network, no terminal: commands go in one after the other, findings come out.

mod auditor;
mod finding;
mod layered;

pub use auditor::{Auditor, Extent, JobError};
pub use finding::{Checked, Deed, Tally, Verdict};
