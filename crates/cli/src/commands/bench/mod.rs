//! `zoo bench`: how fast this machine is, and how far from its limits.

mod admission;
mod codec;
mod exchange;
mod gemm;
mod journal;
mod kernels;
pub mod made_up;
mod measure;
mod step;

use anyhow::Result;

pub use measure::peak_mib;

/// What can be measured.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// What a network would measure of this machine: computing, memory, and the tier that follows
    Admission(admission::Admission),
    /// One training step (forward, backward, AdamW) on a benchmark shape, with the digest of the result
    Step(step::Step),
    /// Matrix products on the shapes of M and L, as a share of the measured FMA peak
    Gemm(gemm::Gemm),
    /// Every other operator, as a share of the measured memory bandwidth
    Kernels(kernels::Kernels),
    /// Rounds of replicas: bits on the wire and loss, by update format and steps between synchronisations
    Codec(codec::Codec),
    /// An orchestrator's journal: appending, opening with and without snapshots, looking back
    Journal(journal::JournalBench),
}

impl Bench {
    /// Runs the measurement and prints it.
    pub fn run(self) -> Result<()> {
        match self {
            Bench::Admission(command) => command.run(),
            Bench::Step(command) => command.run(),
            Bench::Gemm(command) => command.run(),
            Bench::Kernels(command) => command.run(),
            Bench::Codec(command) => command.run(),
            Bench::Journal(command) => command.run(),
        }
    }
}
