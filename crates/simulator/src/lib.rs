//! A network in one thread and virtual time.
//!
//! The orchestrator's real state machine and the PNodes' real agents run over simulated sockets, disks and clocks. One
//! seed decides everything that goes wrong: what is lost, late, doubled, cut off, killed, wiped or full. One seed
//! gives one history; a seed that breaks an invariant is a test.
//!
//! ```
//! use zoo_simulator::{CheckpointPlan, Faults, Options, Topology, simulate};
//!
//! let (topology, checkpoints, faults) = (Topology::Auto, CheckpointPlan::default(), Faults::all());
//! let outcome = simulate(&Options { nodes: 5, rounds: 2, topology, checkpoints, verified_in_1000: 100, seed: 1, faults, bug: None });
//! assert_eq!(outcome.violations, Vec::<String>::new());
//! assert_eq!(outcome.rounds_committed, 2);
//! ```
//!
//! # What is simulated and what is not
//!
//! Training is a name made of its inputs: who computes what from what is real, the numbers are not. Conversations are
//! streams that break; they do not reorder what one side says, but reports may arrive twice. The orchestrator's host is
//! a model of the real one with the same order of steps: apply, write, publish.

mod chance;
mod faults;
mod host;
mod keeping;
mod node;
mod work;
mod world;

pub use faults::Faults;
use serde::Serialize;
use zoo_content::Digest;
pub use zoo_protocol::{CheckpointPlan, Topology};

/// A network to simulate.
#[derive(Clone, Debug)]
pub struct Options {
    /// PNodes.
    pub nodes: usize,
    /// Rounds of the job.
    pub rounds: u32,
    /// How contributions come together.
    pub topology: Topology,
    /// Which checkpoints are kept.
    pub checkpoints: CheckpointPlan,
    /// Of 1,000 windows, so many are trained again by others.
    pub verified_in_1000: u32,
    /// What decides everything.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// A mistake of the orchestrator's, to see whether the invariants find it.
    pub bug: Option<Bug>,
}

/// What became of a node's forged windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Forgeries {
    /// So many were accepted: up to the one for which it was convicted the first time, or all.
    pub accepted: u32,
    /// Whether it was convicted.
    pub convicted: bool,
}

/// Mistakes that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Others see what is not written yet.
    TellsBeforeItWrites,
    /// A restart loses the newest entry of the journal.
    ForgetsItsLastEntry,
    /// What a node said in a conversation that another one has replaced still counts.
    HearsReplacedConversations,
    /// Nodes add whatever they fetch.
    AddsGarbage,
    /// Who is silent counts as lost, whatever its peers would say.
    AsksNobody,
    /// Nobody has to prove that it holds a checkpoint.
    NeverAudits,
    /// Nobody is told what to keep.
    AsksNobodyToKeep,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Of the history: every event with its time, and the journal.
    pub digest: Digest,
    /// Invariants that were broken, and when.
    pub violations: Vec<String>,
    /// Rounds that were finished.
    pub rounds_committed: u32,
    /// Virtual time until the job was over, seconds.
    pub virtual_seconds: f64,
    /// Bytes of blobs that passed from disk to disk.
    pub bytes_moved: u64,
    /// Entries of the journal.
    pub journal_entries: u64,
    /// Contributions that were refused.
    pub refused: u64,
    /// Windows that others trained again to the same.
    pub verified: u64,
    /// Windows that were drawn, and about which nothing could be settled.
    pub unverified: u64,
    /// Contributions of convicted nodes that were taken back out of rounds that were not final.
    pub withdrawn: u64,
    /// Those that stayed, since most had no more what it takes to take them back.
    pub stayed: u64,
    /// Convictions of nodes that lied about their own windows, or about others'.
    pub convictions: u64,
    /// Convictions of nodes that did not.
    pub wronged: u64,
    /// Of each node that forges, in how manieth of its forged windows it was convicted; of those who were not, how many they were.
    pub forgeries: Vec<Forgeries>,
    /// Nodes that were killed, and times the orchestrator was.
    pub node_crashes: u64,
    /// Times the orchestrator was killed.
    pub orchestrator_crashes: u64,
    /// Times a node was silent for the orchestrator and alive for its peers.
    pub suspicions: u64,
    /// Times that all holders of a checkpoint but one were killed.
    pub drills: u64,
    /// Tokens a second, in `f32-exact`, that each node was rated at the first time; 0 of those who never were.
    pub rated: Vec<u32>,
    /// Times that a node was measured and had no rating.
    pub unrated: u64,
}

/// Runs a network until its job is over, or should be.
pub fn simulate(options: &Options) -> Outcome {
    world::World::new(options).run()
}
