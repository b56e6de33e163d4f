//! The worker daemon: joins a network, fetches what it needs, runs tasks, serves blobs.
//!
//! ```text
//! orchestrator -- connection --> agent (decides) -- effects --> fetches, compute thread, reports
//! ```
//!
//! # Invariants
//!
//! - **The agent decides, the daemon obeys.** [`zoo_agent::Agent`] has no clock, socket or disk, so that
//!   tests and simulations run the logic that production runs.
//! - **The tasks are a closed list** ([`zoo_agent::Task`]): nothing that arrives is ever executed.
//! - **A task is a pure function of blobs** ([`zoo_tasks`]): anybody can do it again and compare ([`verify`]).
//! - **A blob is noted before it is looked for** ([`zoo_agent`]), so that tidying never removes what is
//!   about to be used, and the disk holds a bounded number of rounds.
//! - **What can pass is waited out**: lost connections, absent blobs, full disks and silent storages end no node.
//!
//! # What is not here
//!
//! No scheduling, no judging of others' work, no HTTP but what `zoo_storage` speaks for a node whose operator wants
//! checkpoints stored, no terminal: people hear of [`PNodeEvent`]s.

mod backoff;
mod connection;
mod daemon;
mod error;
mod event;
pub mod home;
mod keeping;
mod papers;
mod profile;
mod progress;
mod storing;

pub mod verify;
mod worker;
mod writer;

pub use daemon::{PNodeOptions, run};
pub use error::PNodeError;
pub use event::{EventSink, PNodeEvent, Snapshot};
pub use home::HomeError;
pub use zoo_agent::rounds::Retention;
pub use zoo_network::Traffic;
