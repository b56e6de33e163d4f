//! What every node is doing, without saying on what.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use zoo_protocol::NodeId;

use crate::{Aggregating, Phase, Running, SeatState, ShardState, State};

/// What a node is doing: the kind of its [`State::work_for`], and whether it is here at all; a benchmark, which gives way to everything, and telling a secret, which takes no time, count as waiting. It is for those who
/// look at thousands of nodes at thousands of moments, and takes a lookup where the work itself takes copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// It is not here.
    Away,
    /// It is here and has nothing to do.
    Waiting,
    /// It trains its window.
    Training,
    /// It adds sealed contributions, some or all.
    Aggregating,
    /// It evaluates shards of the held-out data.
    Evaluating,
    /// It trains another's window again.
    Verifying,
}

impl Activity {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Waiting => "waiting",
            Self::Training => "training",
            Self::Aggregating => "aggregating",
            Self::Evaluating => "evaluating",
            Self::Verifying => "verifying",
        }
    }

    /// Whether it costs the node more than being there.
    pub fn is_busy(self) -> bool {
        !matches!(self, Self::Away | Self::Waiting)
    }
}

impl State {
    /// What a node is doing.
    pub fn activity_of(&self, node: &NodeId) -> Activity {
        let evaluating = |running: &Running| match &running.phase {
            Phase::Evaluating(evaluating) => evaluating.shard_of(node).is_some(),
            _ => false,
        };
        self.activity(node, self.running.as_ref().is_some_and(evaluating))
    }

    /// What every node that ever joined is doing, ordered by node.
    pub fn activities(&self) -> impl Iterator<Item = (NodeId, Activity)> {
        let evaluators: BTreeSet<NodeId> = match self.running.as_ref().map(|running| &running.phase) {
            Some(Phase::Evaluating(evaluating)) => {
                let holder = |shard: &ShardState| match shard {
                    ShardState::Open(holder) => *holder,
                    ShardState::Done(_) => None,
                };
                evaluating.shards.iter().filter_map(holder).collect()
            }
            _ => BTreeSet::new(),
        };
        self.nodes.keys().map(move |node| (*node, self.activity(node, evaluators.contains(node))))
    }

    fn activity(&self, node: &NodeId, has_shard: bool) -> Activity {
        if !self.is_live(node) {
            return Activity::Away;
        }
        let Some(running) = self.running.as_ref().filter(|running| !running.is_barred(node)) else {
            return Activity::Waiting;
        };
        match &running.phase {
            _ if running.late_window(node).is_some() => Activity::Training,
            _ if running.is_verifying(node) => Activity::Verifying,
            Phase::Training(training)
                if training.seats.get(node).is_some_and(|seat| seat.state == SeatState::Working) =>
            {
                Activity::Training
            }
            Phase::Settling(_) | Phase::Aggregating(_) | Phase::Evaluating(_) if self.is_suspect(node) => {
                Activity::Waiting
            }
            Phase::Aggregating(aggregating) if aggregating.asks(node) && self.counts(node) => {
                Activity::Aggregating
            }
            Phase::Evaluating(_) if has_shard => Activity::Evaluating,
            _ => Activity::Waiting,
        }
    }
}

impl Aggregating {
    /// Whether a node has a sum to add, or the outer step to take.
    fn asks(&self, node: &NodeId) -> bool {
        let Self { gathering, answers, .. } = self;
        let takes_outer_step =
            || gathering.is_voter(node) && !answers.contains_key(node) && gathering.are_there(&gathering.top);
        gathering.open_for(node).is_some() || takes_outer_step()
    }
}
