//! Who has given nothing yet, so that a flood of keys is only a flood of keys.
//!
//! A key costs nothing. A node is a *newcomer* until something of it went into a finished round; the others *count*. As long as as many
//! nodes count as a job needs:
//!
//! - newcomers take part in turn, as many as count (and at least [`IN_TURN_MIN`]), with a share that is no larger than usual;
//! - nobody waits for a newcomer: the round is sealed when those who count are done, and the newcomer goes on with its window, which
//!   counts in the next round;
//! - newcomers have no vote, evaluate nothing, verify nobody, and are the last that are asked to keep a checkpoint.
//!
//! Where fewer do, as in the first round of a network, everybody counts.
//!
//! A newcomer that is gone and has left nothing is forgotten, once there are more than [`GONE_MAX`] of those.

use std::collections::BTreeSet;

use zoo_protocol::{Account, NodeId};

use crate::gathering::COMMITTEE;
use crate::keeping::turn;
use crate::{Phase, Queued, Running, State};

/// Newcomers that take part in a round although fewer nodes count.
pub const IN_TURN_MIN: usize = COMMITTEE;
/// Newcomers that are gone and still known.
pub const GONE_MAX: usize = 1 << 10;

impl State {
    /// Whether nothing of a node has gone into a finished round.
    pub fn is_newcomer(&self, id: &NodeId) -> bool {
        self.nodes.get(id).is_none_or(|node| node.account.rounds == 0)
    }

    /// Whether a node counts in what is under way: it is no newcomer, or there are too few others.
    pub(crate) fn counts(&self, id: &NodeId) -> bool {
        !self.is_newcomer(id) || !self.can_do_without_newcomers()
    }

    /// Whether a round can do with those who are no newcomers.
    pub(crate) fn can_do_without_newcomers(&self) -> bool {
        let Some(running) = &self.running else { return false };
        let needed = running.description.plan.minimum_nodes.max(1) as usize;
        self.free().filter(|id| !self.is_newcomer(id)).take(needed).count() == needed
    }

    /// The newcomers that get a window in a round beside so many who count, those first who have missed the least; ordered.
    pub(crate) fn newcomers_in_turn(&self, counted: usize) -> Vec<NodeId> {
        let Some(running) = self.running.as_ref().filter(|_| self.can_do_without_newcomers()) else {
            return Vec::new();
        };
        let mut newcomers: Vec<NodeId> = self.free().filter(|id| self.is_newcomer(id)).collect();
        let missed = |id: &NodeId| self.nodes.get(id).map_or(0, |node| node.account.missed);
        // Nobody can choose a key that is always the first: the base is another one in every round.
        newcomers.sort_by_cached_key(|id| (missed(id), turn(&running.base, id)));
        newcomers.truncate(counted.max(IN_TURN_MIN));
        newcomers.sort_unstable();
        newcomers
    }

    /// Forgets newcomers that are gone and have left nothing, if there are many.
    pub(crate) fn forget_newcomers(&mut self) {
        let is_blank = |account: &Account| Account { missed: 0, ..account.clone() } == Account::default();
        let gone = self.nodes.iter().filter(|(_, node)| !node.live && is_blank(&node.account));
        let gone: BTreeSet<NodeId> = gone.map(|(id, _)| *id).collect();
        if gone.len() <= GONE_MAX {
            return;
        }
        let named = self.named();
        let forgotten: BTreeSet<NodeId> = gone.difference(&named).copied().collect();
        self.nodes.retain(|id, _| !forgotten.contains(id));
        forgotten.iter().for_each(|id| self.trusted.forget(id));
        for running in self.jobs_begun() {
            running.paces.retain(|id, _| !forgotten.contains(id));
        }
    }

    /// Everybody whom something else in the state is about.
    fn named(&self) -> BTreeSet<NodeId> {
        let checkpoints = self.checkpoints.iter().map(|(_, _, checkpoint)| checkpoint);
        let kept = checkpoints.flat_map(|it| it.keepers.keys().chain(&it.holders).chain(&it.unfit));
        let waiting = self.queue.iter().chain(self.paused.values());
        let begun =
            waiting.filter_map(|it| if let Queued::Begun(begun) = it { Some(&**begun) } else { None });
        kept.copied().chain(self.running.iter().chain(begun).flat_map(Running::named)).collect()
    }

    fn jobs_begun(&mut self) -> impl Iterator<Item = &mut Running> {
        let waiting = self.queue.iter_mut().chain(self.paused.values_mut());
        let begun =
            waiting.filter_map(|it| if let Queued::Begun(begun) = it { Some(&mut **begun) } else { None });
        self.running.iter_mut().chain(begun)
    }
}

impl Running {
    /// Everybody who has a part in the job; that somebody once had a pace is no part.
    pub(crate) fn named(&self) -> BTreeSet<NodeId> {
        let mut named: BTreeSet<NodeId> = self.barred.keys().chain(self.late.keys()).copied().collect();
        named.extend(self.leads.keys().chain(self.ahead.keys()).chain(self.trails.keys()));
        let verification = &self.verification;
        named.extend(verification.undrawn.keys().chain(verification.checks.keys()).map(|(_, maker)| *maker));
        named.extend(verification.checks.values().flat_map(|check| check.opinions.keys()));
        named.extend(verification.verifiers.keys());
        match &self.phase {
            Phase::Waiting => {}
            Phase::Training(training) => named.extend(training.seats.keys()),
            Phase::Settling(settling) => named.extend(settling.contributions.keys()),
            Phase::Aggregating(aggregating) => {
                named.extend(aggregating.contributions.keys().chain(aggregating.answers.keys()));
                named.extend(aggregating.claims.values().chain([&aggregating.silent]).flatten());
                named.extend(aggregating.refusals.values().flat_map(|judges| judges.keys()));
                for sum in &aggregating.gathering.sums {
                    named.extend(&sum.excused);
                    named.extend(sum.maker());
                }
                named.extend(aggregating.gathering.committee.iter().flatten());
            }
            Phase::Evaluating(evaluating) => named.extend(&evaluating.excused),
        }
        named
    }
}
