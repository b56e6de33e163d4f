//! The inner loop, pseudo-gradients, the outer step, schedules and checkpoints.
//!
//! Everything here is a pure function of content-addressed inputs: a [`TrainingSpec`], a [`Dataset`]
//! and a [`Checkpoint`]. The same functions train on one machine ([`Trainer`]), as a replica of a
//! network ([`train_window`], [`aggregate`]) and as all replicas in one process ([`LocalJob`]).
//!
//! ```
//! use zoo_training::{Dataset, Part, Trainer, evaluate, preset};
//!
//! let text = "the network trains the model. ".repeat(20);
//! let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
//! let data = Dataset::encode(256, &tokens, text.len() as u64)?;
//!
//! let mut trainer = Trainer::new(preset::by_name("qwen3-tiny").expect("a preset").spec, &data)?;
//! let first = trainer.step()?.loss.mean();
//! for _ in 0..20 {
//!     trainer.step()?;
//! }
//! assert!(trainer.step()?.loss.mean() < first);
//!
//! let checkpoint = trainer.checkpoint();
//! let resumed = Trainer::resume(trainer.spec().clone(), &data, &checkpoint)?;
//! assert_eq!(resumed.network().digest(), trainer.network().digest());
//!
//! let part = Part { shard: 0, shards: 1, batch_windows: 4 };
//! assert!(evaluate(trainer.network(), &data, part)?.bits_per_byte() < 8.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate knows no wall clock, no network and no terminal. Files are touched by
//! [`RunDirectory`] and [`ModelFolder`] alone.

mod aggregate;
mod amendment;
mod checkpoint;
mod comparison;
mod dataset;
mod error;
mod estimate;
mod evaluate;
mod kept_layout;
mod lead;
mod local;
mod model_folder;
mod network_state;
pub mod preset;
mod run_directory;
mod schedule;
mod sequences;
mod spec;
mod trainer;
mod window;

pub use aggregate::{
    AggregateTask, Aggregation, Form, SumTask, Summand, aggregate, inspect, norm_limits, partial_sums,
};
pub use amendment::{Amendment, Given};
pub use checkpoint::{
    BlobEntry, Checkpoint, CheckpointError, Lineage, MANIFEST_BYTES_MAX, MANIFEST_FORMAT, Manifest, Progress,
    VNodeEntry, VNodeState,
};
pub use dataset::{Dataset, DatasetError, VOCABULARY_MAX};
pub use error::TrainError;
pub use estimate::Estimate;
pub use evaluate::{Evaluation, Part, evaluate};
pub use kept_layout::{Held, KeptLayout, parameter_layout};
pub use lead::Lead;
pub use local::{LocalJob, equal_shares};
pub use model_folder::{ChatTemplate, ModelFolder, ModelFolderError, prompt};
pub use network_state::{KeptFacts, kept_facts, layout, layout_of, network_of};
pub use run_directory::{RunDirectory, RunDirectoryError};
pub use schedule::{Schedule, rewarm};
pub use sequences::{Order, Sequences, Windows};
pub use spec::{
    Outer, ReadSpecError, SPEC_BYTES_MAX, SparseSettings, SpecError, TrainingSpec, UpdateFormat,
    whole_chunk_sequences,
};
pub use trainer::{StepReport, Trainer};
pub use window::{
    PARAMETERS_EVERY, Share, VNodeUpdate, Watch, WindowResult, WindowTask, step_leaf, train_window,
    train_window_from, watch_window,
};
pub use zoo_model::Profile;
