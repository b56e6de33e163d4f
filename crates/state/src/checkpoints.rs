//! Which nodes reported to hold which checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{JobId, NodeId};

use crate::limits::MAX_CHECKPOINTS_PER_JOB;

/// A checkpoint that was agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its manifest.
    pub digest: Digest,
    /// Who reported to hold it, live or not.
    pub holders: BTreeSet<NodeId>,
}

/// The latest checkpoints of every job, and the last of jobs that are over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoints(BTreeMap<JobId, BTreeMap<u32, Checkpoint>>);

impl Checkpoints {
    /// The checkpoint that `round` of `job` finished with, if it is still remembered.
    pub fn get(&self, job: &JobId, round: u32) -> Option<&Checkpoint> {
        self.0.get(job)?.get(&round)
    }

    /// Everyone who reported to hold `digest`.
    pub fn holders(&self, digest: &Digest) -> BTreeSet<NodeId> {
        self.iter().filter(|(_, _, checkpoint)| checkpoint.digest == *digest).fold(
            BTreeSet::new(),
            |mut holders, (_, _, checkpoint)| {
                holders.extend(&checkpoint.holders);
                holders
            },
        )
    }

    /// Every remembered checkpoint with its job and round.
    pub fn iter(&self) -> impl Iterator<Item = (&JobId, u32, &Checkpoint)> {
        self.0.iter().flat_map(|(job, rounds)| rounds.iter().map(move |(round, kept)| (job, *round, kept)))
    }

    pub(crate) fn record(&mut self, job: JobId, round: u32, checkpoint: Checkpoint) {
        let rounds = self.0.entry(job).or_default();
        rounds.insert(round, checkpoint);
        while rounds.len() > MAX_CHECKPOINTS_PER_JOB {
            rounds.pop_first();
        }
    }

    pub(crate) fn add_holder(&mut self, job: &JobId, round: u32, node: NodeId) {
        if let Some(checkpoint) = self.0.get_mut(job).and_then(|rounds| rounds.get_mut(&round)) {
            checkpoint.holders.insert(node);
        }
    }

    /// Called when a job is over.
    pub(crate) fn keep_last(&mut self, job: &JobId) {
        if let Some(rounds) = self.0.get_mut(job) {
            while rounds.len() > 1 {
                rounds.pop_first();
            }
        }
    }

    pub(crate) fn forget(&mut self, job: &JobId) {
        self.0.remove(job);
    }
}
