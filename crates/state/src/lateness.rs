//! Windows that go on although their round was sealed without them.
//!
//! A round is sealed when its quorum has contributed and the others have had as long again (the *grace*). Who is late then goes on
//! with its window while the others aggregate, and has no part in the next round; what it comes to until that is sealed is
//! aggregated with it, at half the weight, since it starts from older parameters. So a hiccup costs neither the others their time nor
//! the late one its work. It goes on only while enough others are there: where few are, all are needed for the next checkpoint. Nobody waits for
//! newcomers ([`crate::newcomers`]): they are late as soon as the others are done.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zoo_protocol::{NodeId, TrainWindow};

use crate::gathering::COMMITTEE;
use crate::limits::MAX_ROUND_BYTES;
use crate::{Contribution, Event, Missed, Phase, Running, State, Training};

/// The grace is at least this: what takes less is noise.
const GRACE_MIN_MS: u64 = 1_000;

/// A window that goes on after its round was sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// The window.
    pub window: TrainWindow,
    /// When it began.
    pub started_ms: u64,
    /// What it came to; `None` while the node trains.
    pub given: Option<Contribution>,
}

impl Training {
    /// When those who still work are late: at the deadline, or once the quorum has waited for them as long as it took itself.
    pub(crate) fn ends_ms(&self, patience_ms: u64) -> u64 {
        let deadline_ms = self.started_ms.saturating_add(patience_ms);
        let Some(quorum_ms) = self.quorum_ms else { return deadline_ms };
        let grace_ms = quorum_ms.saturating_sub(self.started_ms).max(GRACE_MIN_MS);
        quorum_ms.saturating_add(grace_ms).min(deadline_ms)
    }

    /// Whether so many have contributed that the others can be late: most, and as many as a round needs.
    pub(crate) fn has_quorum(&self, minimum_nodes: u32) -> bool {
        let enough = self.contributed >= minimum_nodes.max(COMMITTEE as u32);
        enough && 2 * u64::from(self.contributed) > (self.seats.len() - self.newcomers.len()) as u64
    }
}

impl Running {
    /// The window that a node goes on with although its round was sealed.
    pub(crate) fn late_window(&self, node: &NodeId) -> Option<&TrainWindow> {
        self.late.get(node).filter(|late| late.given.is_none()).map(|late| &late.window)
    }

    /// Nodes that go on with such a window.
    pub(crate) fn latecomers(&self) -> impl Iterator<Item = &NodeId> {
        self.late.iter().filter(|(_, late)| late.given.is_none()).map(|(node, _)| node)
    }
}

impl State {
    /// Whether the round can do without those who are late, `more` of whom are about to be: enough others have time for it.
    pub(crate) fn can_spare(&self, more: usize) -> bool {
        let Some(running) = &self.running else { return false };
        let enough = COMMITTEE.max(running.description.plan.minimum_nodes as usize);
        self.eligible().len() >= enough + more
    }

    /// The round is sealed without these windows: they go on.
    pub(crate) fn let_go_on(&mut self, windows: Vec<(NodeId, TrainWindow)>, events: &mut Vec<Event>) {
        let Some(running) = &mut self.running else { return };
        let Phase::Training(Training { started_ms, .. }) = running.phase else { return };
        for (node, window) in windows {
            let Running { job, round, .. } = *running;
            events.push(Event::ContributionLate { job, round, node });
            running.late.insert(node, Late { window, started_ms, given: None });
        }
    }

    /// The round is about to be sealed: takes what came late for the one before, of nodes that gave nothing to this one, as far as it
    /// fits beside `contributions`; nobody waits for the rest any longer.
    pub(crate) fn take_late(
        &mut self,
        contributions: &mut BTreeMap<NodeId, Contribution>,
        events: &mut Vec<Event>,
    ) {
        let Some(running) = &mut self.running else { return };
        let late = std::mem::take(&mut running.late);
        let mut bytes: u64 = contributions.values().map(|given| given.wire_bytes() as u64).sum();
        for (node, late) in late {
            match late.given {
                Some(given)
                    if !contributions.contains_key(&node)
                        && bytes + given.wire_bytes() as u64 <= MAX_ROUND_BYTES =>
                {
                    bytes += given.wire_bytes() as u64;
                    contributions.insert(node, given);
                }
                Some(_) => {}
                None => self.miss_window(node, &late.window, Missed::Deadline, events),
            }
        }
    }

    /// Ends the windows that go on of nodes for which there is a reason.
    pub(crate) fn end_late(
        &mut self,
        reason: impl Fn(&NodeId, &Late) -> Option<Missed>,
        events: &mut Vec<Event>,
    ) {
        let Some(running) = &mut self.running else { return };
        let over = running.late.iter().filter(|(_, late)| late.given.is_none());
        let over: Vec<_> = over.filter_map(|(node, late)| Some((*node, reason(node, late)?))).collect();
        for (node, why) in over {
            let Some(late) = self.running.as_mut().and_then(|running| running.late.remove(&node)) else {
                continue;
            };
            self.miss_window(node, &late.window, why, events);
        }
    }

    /// Where too few others are left, the late are needed; but for newcomers, on whom nobody counts.
    pub(crate) fn call_late_back(&mut self, events: &mut Vec<Event>) {
        let needed: BTreeSet<NodeId> = self.needed_latecomers().copied().collect();
        if !needed.is_empty() && !self.can_spare(0) {
            self.end_late(|node, _| needed.contains(node).then_some(Missed::Deadline), events);
        }
    }

    /// Nodes that go on with a window of a round before and would be of use for this one.
    pub(crate) fn needed_latecomers(&self) -> impl Iterator<Item = &NodeId> {
        let everybody = !self.can_do_without_newcomers();
        let late = self.running.iter().flat_map(Running::latecomers);
        late.filter(move |node| everybody || !self.is_newcomer(node))
    }

    fn miss_window(&mut self, node: NodeId, window: &TrainWindow, why: Missed, events: &mut Vec<Event>) {
        self.credit(&node, |account| account.missed += 1);
        events.push(Event::ContributionMissed { job: window.job, round: window.round, node, why });
    }
}
