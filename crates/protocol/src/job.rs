//! What a job is to the network: digests, and the plan of its rounds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_kernels::Profile;

use crate::limits::{
    self, MAX_EVALUATION_SHARDS, MAX_FAN_IN, MAX_KEPT_CHECKPOINTS, MAX_NAME_BYTES, MAX_REDUNDANCY,
};
use crate::{Message, WireError, encode};

/// Digest of a [`JobDescription`]'s encoding: the same job has the same id everywhere.
pub type JobId = Digest;

/// A training job. The network schedules it without understanding it: model,
/// optimiser and data are blobs, named by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDescription {
    /// A name for people, at most 64 bytes.
    pub name: String,
    /// The training specification (model, optimiser, schedule, seed).
    pub program: Digest,
    /// Its numeric profile, which nodes have to know before they hold the specification: it decides who is fast.
    pub profile: Profile,
    /// Manifest of the checkpoint that round 0 starts from.
    pub initial: Digest,
    /// Tokenised training data.
    pub training_data: Digest,
    /// Tokenised held-out data, fixed before the first step.
    pub held_out_data: Digest,
    /// How the rounds run.
    pub plan: RoundPlan,
    /// Which checkpoints nodes keep, and how many of them.
    pub checkpoints: CheckpointPlan,
}

impl JobDescription {
    /// The id of this job on every network.
    pub fn id(&self) -> JobId {
        Digest::of(&encode(self))
    }
}

impl Message for JobDescription {
    fn validate(&self) -> Result<(), WireError> {
        limits::name("job name", &self.name, MAX_NAME_BYTES)?;
        let plan = &self.plan;
        limits::positive("rounds", plan.rounds.into())?;
        limits::positive("inner_steps", plan.inner_steps.into())?;
        limits::positive("sequences_per_step", plan.sequences_per_step.into())?;
        limits::positive("evaluate_every", plan.evaluate_every.into())?;
        limits::positive("evaluation_shards", plan.evaluation_shards.into())?;
        limits::at_most("evaluation_shards", plan.evaluation_shards.into(), MAX_EVALUATION_SHARDS)?;
        limits::positive("minimum_nodes", plan.minimum_nodes.into())?;
        limits::positive("contribution_deadline_ms", plan.contribution_deadline_ms)?;
        if let Topology::Tree { fan_in } = plan.topology {
            limits::at_least("fan_in", fan_in.into(), 2)?;
            limits::at_most("fan_in", fan_in.into(), MAX_FAN_IN)?;
        }
        let CheckpointPlan { redundancy, interval, keep } = self.checkpoints;
        limits::positive("redundancy", redundancy.into())?;
        limits::at_most("redundancy", redundancy.into(), MAX_REDUNDANCY)?;
        limits::positive("interval", interval.into())?;
        limits::at_most("keep", keep.into(), MAX_KEPT_CHECKPOINTS)
    }
}

/// Which checkpoints of a job nodes keep. The newest always is, and so is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPlan {
    /// So many nodes keep each, at most [`MAX_REDUNDANCY`].
    pub redundancy: u32,
    /// Beside the newest, that of every so manieth round is kept.
    pub interval: u32,
    /// Of those, so many are; older ones go. At most [`MAX_KEPT_CHECKPOINTS`], and 0 keeps the newest alone.
    pub keep: u32,
}

impl Default for CheckpointPlan {
    fn default() -> Self {
        Self { redundancy: 3, interval: 10, keep: 2 }
    }
}

impl CheckpointPlan {
    /// Whether the checkpoint that `round` ended with is kept also when there are newer ones.
    pub fn outlasts(&self, round: u32) -> bool {
        (u64::from(round) + 1).is_multiple_of(self.interval.into())
    }
}

/// How the rounds of a job run. Every number is at least 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundPlan {
    /// Rounds in total.
    pub rounds: u32,
    /// Inner steps (H) of every replica in a round.
    pub inner_steps: u32,
    /// Sequences every replica trains on in one inner step.
    pub sequences_per_step: u32,
    /// Evaluate after every so many rounds, and always after the last.
    pub evaluate_every: u32,
    /// The held-out data is evaluated in so many shards (at most
    /// [`MAX_EVALUATION_SHARDS`]), summed in shard order.
    pub evaluation_shards: u32,
    /// No round starts with fewer live nodes.
    pub minimum_nodes: u32,
    /// A round waits this long for a contribution before it goes on without it, ms.
    pub contribution_deadline_ms: u64,
    /// How contributions come together.
    pub topology: Topology,
}

/// How the contributions of a round come together. None of it shows in any bit of the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topology {
    /// [`Topology::AllGather`] for a few contributions, a [`Topology::Tree`] for more.
    #[default]
    Auto,
    /// Every node fetches every contribution and adds them all: most checked, and least traffic where updates are much
    /// smaller than parameters.
    AllGather,
    /// A few nodes fetch every contribution, the others what comes of them.
    Star,
    /// Nodes add up to so many contributions or sums each, VNodes apart; a few nodes put the sums together.
    Tree {
        /// At least 2.
        fan_in: u32,
    },
}

/// A text that is no topology.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no topology\nhint: auto, all-gather, star, or tree:N with N from 2 to {MAX_FAN_IN}")]
pub struct ParseTopologyError(String);

impl FromStr for Topology {
    type Err = ParseTopologyError;

    fn from_str(text: &str) -> Result<Self, ParseTopologyError> {
        let unknown = || ParseTopologyError(text.chars().take(40).collect());
        match text {
            "auto" => Ok(Self::Auto),
            "all-gather" => Ok(Self::AllGather),
            "star" => Ok(Self::Star),
            _ => {
                let fan_in: u32 =
                    text.strip_prefix("tree:").and_then(|fan_in| fan_in.parse().ok()).ok_or_else(unknown)?;
                let fits = (2..=MAX_FAN_IN).contains(&fan_in.into());
                if fits { Ok(Self::Tree { fan_in }) } else { Err(unknown()) }
            }
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::AllGather => f.write_str("all-gather"),
            Self::Star => f.write_str("star"),
            Self::Tree { fan_in } => write!(f, "tree:{fan_in}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_is_written_as_it_is_read() {
        for text in ["auto", "all-gather", "star", "tree:2", "tree:256"] {
            assert_eq!(text.parse::<Topology>().map(|topology| topology.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "tree", "tree:", "tree:1", "tree:257", "tree:-2", "Star", "ring"] {
            let error = text.parse::<Topology>().unwrap_err().to_string();
            assert!(error.contains("hint: auto, all-gather, star, or tree:N"), "{error}");
        }
    }
}
