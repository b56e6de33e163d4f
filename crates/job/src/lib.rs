//! What people write of a job, what a network takes of it, and the model that comes back.
//!
//! ```text
//! preset < file < options ── build ──> RunConfig ── Corpus::prepare ──> text as tokens ── Job ──> a network
//!                                                                    a model <── Fetched <── its checkpoint
//! ```
//!
//! One definition serves everybody: `zoo train`, `zoo submit`, the HTTP API and the Python package read the same keys, refuse the same
//! mistakes in the same words, and fill what is not written from the same presets.

pub mod config;
mod corpus;
mod description;
mod fetched;
mod memory;

/// The same keys as a JSON Schema (draft 2020-12), for editors and other programs. Its tests hold it against what reads documents.
pub const SCHEMA: &str = include_str!("../job.schema.json");

pub use config::{Layer, RunConfig, build};
pub use corpus::{Corpus, CorpusDigests, Reading};
pub use description::{Job, Terms};
pub use fetched::{Fetched, begins_with, listed};
pub use memory::available_bytes;
