//! The checkpoints that are kept, and who holds each.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{CheckpointPlan, JobDescription, JobId, NodeId};

use crate::Keeper;

/// A checkpoint that was agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its manifest.
    pub digest: Digest,
    /// Who reported to hold it, live or not. Once enough nodes keep it, only they are counted.
    pub holders: BTreeSet<NodeId>,
    /// Who is asked to keep it.
    pub keepers: BTreeMap<NodeId, Keeper>,
    /// Who did not keep it when asked, or could not show it: asked again only if nobody else is there.
    pub unfit: BTreeSet<NodeId>,
    /// Times that somebody was asked.
    pub asks: u32,
}

impl Checkpoint {
    pub(crate) fn new(digest: Digest, holders: BTreeSet<NodeId>) -> Self {
        Self { digest, holders, keepers: BTreeMap::new(), unfit: BTreeSet::new(), asks: 0 }
    }
}

/// What is kept of one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCheckpoints {
    /// What the job says about it.
    pub plan: CheckpointPlan,
    /// A round of the job waits this long, ms.
    pub patience_ms: u64,
    /// By the round that ended with it.
    pub rounds: BTreeMap<u32, Checkpoint>,
}

/// The checkpoints of the running job and of those that are over.
///
/// Kept are the newest, and of those that the plan lets outlast it the last so many. When a job is over its newest is its last;
/// when the next one is over, that is all that is kept of it, for as long as the job is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoints(BTreeMap<JobId, JobCheckpoints>);

impl Checkpoints {
    /// The checkpoint that `round` of `job` finished with, if it is kept.
    pub fn get(&self, job: &JobId, round: u32) -> Option<&Checkpoint> {
        self.0.get(job)?.rounds.get(&round)
    }

    /// The newest of a job that is kept, with the round that finished with it.
    pub fn newest(&self, job: &JobId) -> Option<(u32, Digest)> {
        let (round, newest) = self.0.get(job)?.rounds.last_key_value()?;
        Some((*round, newest.digest))
    }

    pub(crate) fn get_mut(&mut self, job: &JobId, round: u32) -> Option<&mut Checkpoint> {
        self.0.get_mut(job)?.rounds.get_mut(&round)
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

    /// Every kept checkpoint with its job and round.
    pub fn iter(&self) -> impl Iterator<Item = (&JobId, u32, &Checkpoint)> {
        self.jobs().flat_map(|(job, kept)| kept.rounds.iter().map(move |(round, kept)| (job, *round, kept)))
    }

    /// Every job of which something is kept.
    pub fn jobs(&self) -> impl Iterator<Item = (&JobId, &JobCheckpoints)> {
        self.0.iter()
    }

    pub(crate) fn jobs_mut(&mut self) -> impl Iterator<Item = (&JobId, &mut JobCheckpoints)> {
        self.0.iter_mut()
    }

    /// Whether a job names a storage for its checkpoints.
    pub(crate) fn name_storages(&self) -> bool {
        self.jobs().any(|(_, kept)| kept.plan.storage.is_some())
    }

    pub(crate) fn record(&mut self, job: &JobDescription, id: JobId, round: u32, checkpoint: Checkpoint) {
        let (plan, patience_ms) = (job.checkpoints, job.plan.contribution_deadline_ms);
        let kept = JobCheckpoints { plan, patience_ms, rounds: BTreeMap::new() };
        let rounds = &mut self.0.entry(id).or_insert(kept).rounds;
        rounds.insert(round, checkpoint);
        let outlasting = rounds.keys().rev().copied().filter(|round| plan.outlasts(*round));
        let outlasting: BTreeSet<u32> = outlasting.take(plan.keep as usize).collect();
        rounds.retain(|kept, _| *kept == round || outlasting.contains(kept));
    }

    pub(crate) fn add_holder(&mut self, job: &JobId, round: u32, node: NodeId) {
        if let Some(checkpoint) = self.get_mut(job, round) {
            checkpoint.holders.insert(node);
        }
    }

    /// Called when another job is over.
    pub(crate) fn keep_last(&mut self, job: &JobId) {
        if let Some(kept) = self.0.get_mut(job) {
            while kept.rounds.len() > 1 {
                kept.rounds.pop_first();
            }
        }
    }

    pub(crate) fn forget(&mut self, job: &JobId) {
        self.0.remove(job);
    }
}
