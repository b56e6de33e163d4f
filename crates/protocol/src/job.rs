//! What a job is to the network: digests, and the plan of its rounds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_kernels::Profile;

use crate::limits::{
    self, MAX_EVALUATION_SHARDS, MAX_FAN_IN, MAX_KEPT_CHECKPOINTS, MAX_NAME_BYTES, MAX_REDUNDANCY,
    MAX_STRETCHES, MAX_TRUST_DISCOUNT,
};
use crate::{Message, NodeId, StorageKind, WireError, encode};

/// Digest of a [`JobDescription`]'s encoding: the same job of the same network has the same id everywhere.
pub type JobId = Digest;

/// A training job. The network schedules it without understanding it: model,
/// optimiser and data are blobs, named by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDescription {
    /// The network that it is for, by its orchestrator's key: what is signed about the job of one network says nothing in another.
    pub network: NodeId,
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
    /// The job ends after the round in which it has been trained on so many tokens, if not before.
    pub tokens_max: Option<u64>,
}

impl JobDescription {
    /// The id of this job; another one on every network.
    pub fn id(&self) -> JobId {
        Digest::of(&encode(self))
    }
}

impl Message for JobDescription {
    fn validate(&self) -> Result<(), WireError> {
        limits::name("job name", &self.name, MAX_NAME_BYTES)?;
        let plan = &self.plan;
        limits::positive("steps", plan.steps)?;
        check_rhythm(&plan.rhythm)?;
        limits::positive("sequences_per_step", plan.sequences_per_step.into())?;
        limits::positive("evaluate_every", plan.evaluate_every)?;
        limits::positive("evaluation_shards", plan.evaluation_shards.into())?;
        limits::at_most("evaluation_shards", plan.evaluation_shards.into(), MAX_EVALUATION_SHARDS)?;
        limits::positive("minimum_nodes", plan.minimum_nodes.into())?;
        limits::positive("contribution_deadline_ms", plan.contribution_deadline_ms)?;
        limits::at_most("verified windows of 1000", plan.verified_in_1000.into(), 1000)?;
        limits::positive("trust_discount", plan.trust_discount.into())?;
        limits::at_most("trust_discount", plan.trust_discount.into(), MAX_TRUST_DISCOUNT)?;
        if let Topology::Tree { fan_in } = plan.topology {
            limits::at_least("fan_in", fan_in.into(), 2)?;
            limits::at_most("fan_in", fan_in.into(), MAX_FAN_IN)?;
        }
        limits::positive("tokens_max", self.tokens_max.unwrap_or(1))?;
        let CheckpointPlan { redundancy, interval, keep, storage: _ } = self.checkpoints;
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
    /// Nodes that store them in this are asked first.
    pub storage: Option<StorageKind>,
}

impl Default for CheckpointPlan {
    fn default() -> Self {
        Self { redundancy: 3, interval: 10, keep: 2, storage: None }
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
    /// Inner steps of every replica in total; the last round has what is left of them.
    pub steps: u64,
    /// How many of them a round has: stretch after stretch, the first from step 0.
    pub rhythm: Vec<Stretch>,
    /// Sequences every replica trains on in one inner step.
    pub sequences_per_step: u32,
    /// Evaluate after every so many inner steps, at the end of the round that they fall into, and always after the last.
    pub evaluate_every: u64,
    /// The held-out data is evaluated in so many shards (at most
    /// [`MAX_EVALUATION_SHARDS`]), summed in shard order.
    pub evaluation_shards: u32,
    /// No round starts with fewer live nodes.
    pub minimum_nodes: u32,
    /// A round waits this long for a contribution before it goes on without it, ms.
    pub contribution_deadline_ms: u64,
    /// How contributions come together.
    pub topology: Topology,
    /// Whether replicas go on training while a round comes together, from where their windows ended.
    pub overlap: bool,
    /// Of 1,000 windows that went into a round, so many are trained again by other nodes, drawn when nothing can be changed any more.
    pub verified_in_1000: u32,
    /// Of nodes for which an operator or their hardware vouches, so many times fewer are; 1 is as many, and at most [`MAX_TRUST_DISCOUNT`].
    pub trust_discount: u32,
}

impl RoundPlan {
    /// Of 1,000 windows of a node for which somebody vouches, so many are drawn to be trained again: never none of what is drawn from others.
    pub fn verified_of_trusted_in_1000(&self) -> u32 {
        let lowered = self.verified_in_1000 / self.trust_discount.max(1);
        lowered.max(TRUSTED_IN_1000_MIN).min(self.verified_in_1000)
    }
}

/// Of 1,000 windows of a trusted node at least so many are drawn, if as many are of any node.
pub const TRUSTED_IN_1000_MIN: u32 = 5;

/// With [`RoundPlan::overlap`], at most one part in so many of a round's inner steps is taken before its checkpoint is there: they know
/// nothing of what the others learned in the round before.
pub const OVERLAP_PARTS: u32 = 4;

/// Part of a job, and how often its replicas synchronise in it.
///
/// Few inner steps in a round cost traffic, many cost loss. So a round has the fewest whose traffic hides behind its training,
/// within these bounds; equal bounds make it a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// The first inner step of the job that belongs to it; the next stretch ends it.
    pub from_step: u64,
    /// A round has at least so many inner steps (H), but for the last of the stretch,
    pub inner_steps: u32,
    /// and at most so many.
    pub most_inner_steps: u32,
}

impl RoundPlan {
    /// `inner_steps` in every round, from the first step to the last.
    pub fn constant(inner_steps: u32) -> Vec<Stretch> {
        vec![Stretch { from_step: 0, inner_steps, most_inner_steps: inner_steps }]
    }

    /// The inner steps of the round that starts at inner step `step`, as near to `wanted` as its stretch allows; at least 1.
    pub fn inner_steps_at(&self, step: u64, wanted: u32) -> u32 {
        let next = self.rhythm.partition_point(|stretch| stretch.from_step <= step);
        let end = self.rhythm.get(next).map_or(self.steps, |stretch| stretch.from_step.min(self.steps));
        let bounded = match next.checked_sub(1).and_then(|at| self.rhythm.get(at)) {
            Some(stretch) => wanted.min(stretch.most_inner_steps).max(stretch.inner_steps),
            None => wanted,
        };
        u64::from(bounded).min(end.saturating_sub(step)).max(1) as u32
    }

    /// The most inner steps that a round can have.
    pub fn most_inner_steps(&self) -> u32 {
        self.rhythm.iter().map(|stretch| stretch.most_inner_steps).max().unwrap_or(1)
    }

    /// The rounds of the job, if that can be known before: where the bounds of every stretch are equal.
    pub fn rounds(&self) -> Option<u64> {
        let constant = |stretch: &Stretch| stretch.inner_steps == stretch.most_inner_steps;
        self.rhythm.iter().all(constant).then(|| self.most_rounds())
    }

    /// The rounds of the job, if every one has as few inner steps as it may.
    pub fn most_rounds(&self) -> u64 {
        let ends = self.rhythm.iter().skip(1).map(|stretch| stretch.from_step).chain([self.steps]);
        let rounds = self.rhythm.iter().zip(ends).map(|(stretch, end)| {
            let steps = end.min(self.steps).saturating_sub(stretch.from_step);
            steps.div_ceil(stretch.inner_steps.max(1).into())
        });
        rounds.fold(0, u64::saturating_add)
    }
}

fn check_rhythm(rhythm: &[Stretch]) -> Result<(), WireError> {
    limits::positive("stretches", rhythm.len() as u64)?;
    limits::at_most("stretches", rhythm.len() as u64, MAX_STRETCHES)?;
    limits::at_most("from_step of the first stretch", rhythm[0].from_step, 0)?;
    for stretch in rhythm {
        limits::positive("inner_steps", stretch.inner_steps.into())?;
        limits::at_least("most_inner_steps", stretch.most_inner_steps.into(), stretch.inner_steps.into())?;
    }
    rhythm.windows(2).try_for_each(|pair| {
        limits::at_least("from_step of a stretch", pair[1].from_step, pair[0].from_step.saturating_add(1))
    })
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

    fn plan(steps: u64, rhythm: &[(u64, u32, u32)]) -> RoundPlan {
        let stretch = |&(from_step, inner_steps, most_inner_steps): &(u64, u32, u32)| Stretch {
            from_step,
            inner_steps,
            most_inner_steps,
        };
        RoundPlan {
            steps,
            rhythm: rhythm.iter().map(stretch).collect(),
            sequences_per_step: 1,
            evaluate_every: 1,
            evaluation_shards: 1,
            minimum_nodes: 1,
            contribution_deadline_ms: 1,
            topology: Topology::Auto,
            overlap: false,
            verified_in_1000: 0,
            trust_discount: 4,
        }
    }

    #[test]
    fn trust_lowers_how_often_a_node_is_checked_and_never_to_nothing() {
        let of = |verified_in_1000, trust_discount| {
            RoundPlan { verified_in_1000, trust_discount, ..plan(1, &[(0, 1, 1)]) }
                .verified_of_trusted_in_1000()
        };
        assert_eq!(of(100, 4), 25);
        assert_eq!(of(50, 16), TRUSTED_IN_1000_MIN);
        assert_eq!((of(50, 1), of(1000, 16)), (50, 62));
        for verified in 1..=1000 {
            assert!((1..=verified).contains(&of(verified, 16)), "{verified}");
        }
        assert_eq!(of(0, 4), 0, "where nobody is checked, nobody is");
    }

    #[test]
    fn a_round_stays_within_its_stretch_and_the_job() {
        let plan = plan(100, &[(0, 1, 1), (10, 3, 30), (90, 8, 8)]);
        let spans =
            [(0, 7, 1), (9, 7, 1), (10, 7, 7), (10, 1, 3), (10, 99, 30), (88, 99, 2), (90, 1, 8), (98, 1, 2)];
        for (step, wanted, inner_steps) in spans {
            assert_eq!(plan.inner_steps_at(step, wanted), inner_steps, "from {step}, {wanted} wanted");
        }
        assert_eq!((plan.most_inner_steps(), plan.most_rounds()), (30, 10 + 27 + 2));
    }

    #[test]
    fn a_rhythm_without_sense_is_refused() {
        for rhythm in [&[][..], &[(1, 1, 1)], &[(0, 0, 1)], &[(0, 3, 2)], &[(0, 1, 1), (0, 2, 2)]] {
            assert!(check_rhythm(&plan(9, rhythm).rhythm).is_err(), "{rhythm:?}");
        }
        check_rhythm(&RoundPlan::constant(30)).unwrap();
    }

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
