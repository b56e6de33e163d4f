//! What goes into the agent, and what comes out.

use std::collections::BTreeSet;

use zoo_content::Digest;
use zoo_protocol::{
    Aggregate, Benchmark, Challenge, Commitment, Evaluate, JobId, Keep, NodeId, Peer, RefusedSummand, Report,
    Sum, TrainWindow, VNodeUpdate, VerifyWindow, Work,
};

use crate::needs::Need;

/// Numbers the times an agent took up work, so that what arrives late is recognised as late.
pub type Assignment = u64;

/// What a PNode can be asked to compute. This closed list is the security
/// boundary: whatever the network sends, nothing else is ever executed.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Train one window.
    Train(TrainWindow),
    /// Aggregate a round and take the outer step.
    Aggregate(Aggregate),
    /// Evaluate one shard of the held-out data.
    Evaluate(Evaluate),
    /// Add part of a round.
    Sum(Sum),
    /// Train another's window again.
    Verify(VerifyWindow),
    /// Compute a part of a benchmark.
    Benchmark(Benchmark),
}

/// What a task came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A window is trained; its blobs are in the store.
    Trained(Box<Commitment>),
    /// Some of what was made for this work is not what it must be.
    Refused {
        /// All of it, each with its reason.
        summands: Vec<RefusedSummand>,
    },
    /// Part of a round is added; the sums are in the store.
    Summed {
        /// One per VNode, in network order.
        sums: Vec<VNodeUpdate>,
    },
    /// A round is aggregated; the checkpoint is in the store.
    Aggregated {
        /// Manifest of the new checkpoint.
        checkpoint: Digest,
        /// Whose contributions did not count.
        left_out: Vec<NodeId>,
        /// Whose counted only as a part.
        alike: Vec<NodeId>,
    },
    /// A shard is evaluated.
    Evaluated {
        /// Sum of the losses, nats.
        nats: f64,
        /// Tokens scored.
        tokens: u64,
        /// Bytes of text those tokens stand for.
        bytes: u64,
    },
    /// Another's window is trained again.
    Verified {
        /// Digest of what came of it.
        outcome: Digest,
    },
    /// A part of a benchmark is computed.
    Benchmarked {
        /// What it comes to.
        answer: Digest,
    },
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The orchestrator accepted the control connection.
    Connected,
    /// The control connection is gone.
    Disconnected,
    /// The orchestrator said what this node should be doing now.
    WorkChanged {
        /// The work.
        work: Box<Work>,
        /// Who may hold the blobs it names.
        peers: Vec<Peer>,
    },
    /// The orchestrator said what this node should be keeping now, all of it.
    KeepsChanged {
        /// The checkpoints.
        keeps: Vec<Keep>,
        /// Who holds those that this node has not said to hold.
        peers: Vec<Peer>,
    },
    /// A blob is in the store.
    Fetched {
        /// Which.
        digest: Digest,
        /// What it lists, if it is a manifest: blobs and their sizes, bytes.
        lists: Vec<(Digest, u64)>,
    },
    /// A blob could be had from nobody.
    FetchFailed {
        /// Which.
        digest: Digest,
        /// Why.
        reason: String,
        /// What its maker answered that it never should, if it did: more bytes than it committed to, or others.
        wrong: Option<String>,
    },
    /// The wait that [`Effect::RetryAfter`] asked for is over.
    Retry(Assignment),
    /// The wait that [`Effect::RetryKeepAfter`] asked for is over.
    RetryKeep,
    /// What [`Effect::Prove`] came to.
    Proved {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Of the challenge.
        nonce: u64,
        /// The proof; empty if the blob is not here any more.
        proof: Vec<u8>,
    },
    /// A task came to its end.
    TaskFinished {
        /// Of which assignment.
        assignment: Assignment,
        /// With this result.
        outcome: Outcome,
    },
    /// A task could not be done.
    TaskFailed {
        /// Of which assignment.
        assignment: Assignment,
        /// Why.
        reason: String,
    },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make sure the store holds a blob; answer with `Fetched` or `FetchFailed`. What is under way already, because work or keeping
    /// needs it, is not fetched twice.
    Fetch {
        /// Which.
        digest: Digest,
        /// What it is, and how large it can be.
        need: Need,
        /// Whom to ask, in this order.
        sources: Vec<Peer>,
    },
    /// Stop fetching a blob; no answer is expected.
    Forget(Digest),
    /// Start a task; answer with `TaskFinished` or `TaskFailed`.
    Run {
        /// Of this assignment.
        assignment: Assignment,
        /// The task.
        task: Task,
    },
    /// Stop the running task between two of its steps; no answer is expected.
    Cancel,
    /// Wait, the longer the more `failures` there were, then say `Retry`.
    RetryAfter {
        /// Of this assignment.
        assignment: Assignment,
        /// Failures in a row, from 1.
        failures: u32,
    },
    /// Tell the orchestrator.
    Report(Report),
    /// These blobs belong to a checkpoint that is to be kept: let none of them go until it is released.
    Hold {
        /// Its manifest.
        checkpoint: Digest,
        /// Some of its blobs, here or not.
        blobs: Vec<Digest>,
    },
    /// Of all the checkpoints that were ever to be kept, only these still are.
    HoldOnly(BTreeSet<Digest>),
    /// Wait, the longer the more `failures` there were, then say `RetryKeep`.
    RetryKeepAfter {
        /// Failures in a row, from 1.
        failures: u32,
    },
    /// Show that a part of a blob is here; answer with `Proved`.
    Prove {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// What is to be shown.
        challenge: Challenge,
    },
}
