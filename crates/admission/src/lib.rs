//! Work with one answer, by which a node shows how fast it computes and how much memory it holds.
//!
//! A [`Benchmark`] says all of it: [`answer`] is a pure function, and gives the same digest on every machine. Whoever measures takes the
//! time; whoever checks computes the same and compares.
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use zoo_content::Digest;
//! use zoo_protocol::{Benchmark, Effort, NodeId};
//!
//! let effort = Effort { products: 1, steps: 1, area_mib: 1, passes: 1 };
//! let mine = Benchmark::first(&Digest::of(b"a draw"), NodeId([1; 32]), effort);
//! let answer = zoo_admission::answer(&mine, &mut || ControlFlow::Continue(()))?;
//! // This is said; whoever checks comes to the same answer, and so to the same pledge.
//! let pledge = mine.pledge(&answer);
//! let checked = zoo_admission::answer(&mine, &mut || ControlFlow::Continue(()))?;
//! assert_eq!(mine.pledge(&checked), pledge);
//! # Ok::<(), zoo_admission::BenchmarkError>(())
//! ```
//!
//! # What can be skipped, and what cannot
//!
//! Each product's operands follow from the product before, and each training step starts from the parameters that the one before left, so
//! more machines do not answer sooner than one. Each block of the walk is made of the one before and of one that this one names, so
//! the next read is not known before. Who holds every second block only takes 30 times the steps over an area of 64 blocks and 231 times over 512, in
//! proportion to the area (`tests/benchmark.rs` counts them); that there is no better way to save memory is not proven.
//!
//! This crate takes no time: a clock is whoever's who asks.

mod compute;
pub mod walk;

use std::ops::ControlFlow;

pub use compute::PRESET;
use zoo_content::Digest;
use zoo_protocol::Benchmark;
use zoo_training::TrainError;

/// What a part takes beside the area of the walk, MiB.
const BESIDE_MIB: u64 = 64;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum BenchmarkError {
    /// The caller did not want to go on.
    #[error("the benchmark was stopped")]
    Stopped,
    /// The computation itself failed.
    #[error(transparent)]
    Train(#[from] TrainError),
}

/// What a benchmark comes to. `go_on` is asked many times a second whether it is still wanted. Threads are rayon's current pool.
///
/// # Errors
/// When it was stopped.
///
/// # Panics
/// If the effort is not [valid](zoo_protocol::Message::validate), or the area does not fit into memory: see [`memory_mib`].
pub fn answer(
    benchmark: &Benchmark,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Digest, BenchmarkError> {
    let Benchmark { seed, effort, part, .. } = benchmark;
    match part.profile() {
        Some(profile) => compute::compute(profile, seed, effort, go_on),
        None => walk::walk(seed, effort, go_on),
    }
}

/// About what a benchmark takes in memory, MiB.
pub fn memory_mib(benchmark: &Benchmark) -> u64 {
    let area_mib = if benchmark.part.profile().is_none() { benchmark.effort.area_mib } else { 0 };
    u64::from(area_mib) + BESIDE_MIB
}

fn checked(go_on: &mut dyn FnMut() -> ControlFlow<()>) -> Result<(), BenchmarkError> {
    if go_on().is_break() { Err(BenchmarkError::Stopped) } else { Ok(()) }
}
