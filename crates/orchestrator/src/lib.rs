//! Hosts the state machine over a journal and serves the nodes.
//!
//! ```text
//! nodes, clients --- sessions --> host: state + journal --> sessions --- work, events -->
//! ```
//!
//! # Invariants
//!
//! - **Durable before visible.** The host applies a batch of commands, appends them to
//!   the [`journal`] with one `fsync`, and only then does anybody hear of it: no node gets
//!   work, no client an answer, no watcher an event that a crash could take back.
//! - **The journal is the state.** Starting is replaying, from the newest snapshot that the journal's digests
//!   vouch for; the root written last must come out again. Leases, sessions and heartbeats are volatile: after a restart every
//!   node that was live has one fresh lease, and the transport's idle timeout, to come back.
//! - **Silence is asked about.** Before a worker's lease ends, up to three others are asked to reach it
//!   ([`zoo_state::Detector`]); only whom nobody reaches is lost when the lease is over.
//! - **One clock.** Only host stamps commands, with a time that never goes back.
//! - **Work is level-triggered.** A session knows the latest assignment, never a queue of them.
//! - **Nobody waits for the slow.** Watchers read the journal at their own speed; who
//!   does not take a message in time is let go.
//!
//! # What is not here
//!
//! No rule of training, membership or scheduling: those are `zoo_state`'s. No model: jobs are
//! digests. No authority over results: what nodes report is judged by the state machine alone.
//!
//! # Use
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use zoo_orchestrator::{Orchestrator, OrchestratorOptions};
//!
//! let orchestrator = Orchestrator::start(OrchestratorOptions {
//!     directory: "zoo-data".into(),
//!     listen: "127.0.0.1:4040".parse()?,
//!     relay: None,
//!     lease_ms: zoo_orchestrator::LEASE_MS,
//!     tick_ms: zoo_orchestrator::TICK_MS,
//!     audits: None,
//!     operators: Default::default(),
//!     evidence: None,
//!     admission: None,
//! })
//! .await?;
//! println!("zoo join {}", orchestrator.ticket());
//! orchestrator.run_until(async { /* Ctrl-C */ }).await?;
//! # Ok(())
//! # }
//! ```

mod audit;
mod client;
mod clock;
mod copies;
mod door;
mod evidence;
mod handle;
mod home;
mod host;
mod intake;
pub mod journal;
mod orchestrator;
mod sessions;
mod watching;

pub use audit::{Audits, Lists};
pub use client::{Client, ClientError, NodeStatus, Notice, Watch};
pub use evidence::{EvidenceCheck, Whose};
pub use handle::{Followed, Handle, RequestError};
pub use host::Head;
pub use journal::JournalError;
pub use orchestrator::{Admission, LEASE_MS, Orchestrator, OrchestratorError, OrchestratorOptions, TICK_MS};
pub use zoo_home::HomeError;
