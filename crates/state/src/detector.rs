//! Who is silent, and what others say of them: leases, and SWIM's indirect probes.
//!
//! A host hears of every node before its lease ends, or asks. In the last third of a lease that nobody renewed, up to
//! [`WITNESSES_MAX`] other nodes are asked to reach the silent one (Das, Gupta, Motivala: SWIM, DSN 2002, 3.1). When the lease is
//! over, one who reached it is enough: then only the wire to here is cut. If nobody did, the node is dead, and no later than it
//! would have been without asking, but for the time that the last answer may take.
//!
//! This is no part of the [`State`](crate::State): it is volatile, as heartbeats are, and what it finds becomes commands. Time is an
//! argument, in ms of any clock that never goes back.

use std::collections::{BTreeMap, BTreeSet};

use zoo_protocol::NodeId;

use crate::WITNESSES_MAX;

/// Watches over the leases of live nodes.
#[derive(Clone, Debug)]
pub struct Detector {
    lease_ms: u64,
    nodes: BTreeMap<NodeId, Watched>,
    /// Where the search for witnesses begins, so that not the same ones are asked every time.
    turn: usize,
}

#[derive(Clone, Debug)]
struct Watched {
    lease_end_ms: u64,
    /// Under way since the node has been silent for long.
    probe: Option<Probe>,
}

#[derive(Clone, Debug)]
struct Probe {
    /// No answer is waited for after this time.
    until_ms: u64,
    /// Who has not answered yet.
    asked: BTreeSet<NodeId>,
    /// Who reached the node.
    reached_by: Vec<NodeId>,
}

/// What is to be done about a silent node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Ask these nodes to reach it, and say what came of it with [`Detector::answered`].
    Ask {
        /// The silent one.
        node: NodeId,
        /// Whom to ask.
        witnesses: Vec<NodeId>,
    },
    /// It is silent here and alive for these. It has a new lease, at the end of which they are asked again.
    Reached {
        /// The silent one.
        node: NodeId,
        /// Who reached it.
        by: Vec<NodeId>,
    },
    /// Nobody reaches it. It is not watched any more.
    Dead {
        /// The silent one.
        node: NodeId,
    },
}

impl Detector {
    /// Nobody is watched yet.
    pub fn new(lease_ms: u64) -> Self {
        Self { lease_ms, nodes: BTreeMap::new(), turn: 0 }
    }

    /// A node was heard of: its lease begins anew.
    pub fn heard(&mut self, node: NodeId, now_ms: u64) {
        self.expect(node, now_ms.saturating_add(self.lease_ms));
    }

    /// A node has to be heard of until then.
    pub fn expect(&mut self, node: NodeId, lease_end_ms: u64) {
        self.nodes.insert(node, Watched { lease_end_ms, probe: None });
    }

    /// A node is gone for another reason than silence.
    pub fn forget(&mut self, node: &NodeId) {
        self.nodes.remove(node);
    }

    /// A witness says whether it reached a node. Whoever was not asked is not heard.
    pub fn answered(&mut self, witness: NodeId, node: &NodeId, reached: bool) {
        let Some(probe) = self.nodes.get_mut(node).and_then(|watched| watched.probe.as_mut()) else { return };
        if probe.asked.remove(&witness) && reached {
            probe.reached_by.push(witness);
        }
    }

    /// Whether [`Detector::look`] would find anything.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.nodes.values().any(|watched| self.is_late(watched, now_ms))
    }

    /// Looks at all leases. `is_there` says whom the host can ask.
    pub fn look(&mut self, now_ms: u64, is_there: impl Fn(&NodeId) -> bool) -> Vec<Finding> {
        let late: Vec<NodeId> =
            self.nodes.iter().filter(|(_, it)| self.is_late(it, now_ms)).map(|(id, _)| *id).collect();
        if late.is_empty() {
            return Vec::new();
        }
        let is_fresh = |watched: &Watched| now_ms < self.asking_ms(watched);
        let fresh = self.nodes.iter().filter(|(id, watched)| is_fresh(watched) && is_there(id));
        let fresh: Vec<NodeId> = fresh.map(|(id, _)| *id).collect();
        late.into_iter().flat_map(|node| self.look_at(node, now_ms, &fresh)).collect()
    }

    fn look_at(&mut self, node: NodeId, now_ms: u64, fresh: &[NodeId]) -> Vec<Finding> {
        let (lease_ms, turn) = (self.lease_ms, self.turn);
        let Some(watched) = self.nodes.get_mut(&node) else { return Vec::new() };
        let mut findings = Vec::new();
        let probe = watched.probe.get_or_insert_with(|| {
            let some = (0..fresh.len().min(WITNESSES_MAX)).map(|step| fresh[(turn + step) % fresh.len()]);
            let witnesses: Vec<NodeId> = some.collect();
            self.turn = turn.wrapping_add(WITNESSES_MAX);
            if !witnesses.is_empty() {
                findings.push(Finding::Ask { node, witnesses: witnesses.clone() });
            }
            let until_ms = now_ms.saturating_add(lease_ms / 3);
            Probe { until_ms, asked: witnesses.into_iter().collect(), reached_by: Vec::new() }
        });
        let all_said = probe.asked.is_empty() || now_ms >= probe.until_ms || !probe.reached_by.is_empty();
        if now_ms < watched.lease_end_ms || !all_said {
            return findings;
        }
        let by = std::mem::take(&mut probe.reached_by);
        if by.is_empty() {
            self.nodes.remove(&node);
            findings.push(Finding::Dead { node });
        } else {
            self.heard(node, now_ms);
            findings.push(Finding::Reached { node, by });
        }
        findings
    }

    /// From when on others are asked: the last third of a lease.
    fn asking_ms(&self, watched: &Watched) -> u64 {
        watched.lease_end_ms.saturating_sub(self.lease_ms / 3)
    }

    /// Whether others are to be asked about a node, or its lease is over.
    fn is_late(&self, watched: &Watched, now_ms: u64) -> bool {
        match watched.probe {
            None => now_ms >= self.asking_ms(watched),
            Some(_) => now_ms >= watched.lease_end_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE_MS: u64 = 3_000;

    fn id(node: u8) -> NodeId {
        NodeId([node; 32])
    }

    /// A detector of five nodes; the first is silent from the beginning, the others are heard every second.
    fn play(until_ms: u64, answers: impl Fn(NodeId) -> Option<bool>) -> Vec<(u64, Finding)> {
        let mut detector = Detector::new(LEASE_MS);
        (0..5).for_each(|node| detector.heard(id(node), 0));
        let mut findings = Vec::new();
        for now_ms in (0..=until_ms).step_by(250) {
            if now_ms % 1_000 == 0 {
                (1..5).for_each(|node| detector.heard(id(node), now_ms));
            }
            let found = detector.look(now_ms, |_| true);
            assert!(found.is_empty() || !detector.is_due(now_ms) || now_ms >= LEASE_MS);
            for finding in &found {
                if let Finding::Ask { node, witnesses } = finding {
                    for witness in witnesses {
                        if let Some(reached) = answers(*witness) {
                            detector.answered(*witness, node, reached);
                        }
                    }
                }
            }
            findings.extend(found.into_iter().map(|finding| (now_ms, finding)));
        }
        findings
    }

    #[test]
    fn three_others_are_asked_before_the_lease_ends_and_nobody_reaches_the_dead() {
        let findings = play(10_000, |_| Some(false));
        let witnesses = vec![id(1), id(2), id(3)];
        assert_eq!(
            findings,
            [(2_000, Finding::Ask { node: id(0), witnesses }), (3_000, Finding::Dead { node: id(0) })]
        );
    }

    #[test]
    fn who_does_not_answer_delays_nothing_beyond_the_lease() {
        assert_eq!(play(10_000, |_| None).last(), Some(&(3_000, Finding::Dead { node: id(0) })));
    }

    #[test]
    fn one_who_reaches_it_is_enough_and_is_asked_again_before_the_next_lease_ends() {
        let findings = play(6_000, |witness| Some(witness == id(2)));
        let reached = |by| Finding::Reached { node: id(0), by };
        assert_eq!(findings[1], (3_000, reached(vec![id(2)])));
        // The next three are 4, 1 and 2.
        let witnesses = vec![id(4), id(1), id(2)];
        assert_eq!(findings[2], (5_000, Finding::Ask { node: id(0), witnesses }));
        assert_eq!(findings[3], (6_000, reached(vec![id(2)])));
    }

    #[test]
    fn nobody_is_asked_who_is_silent_too_or_cannot_be_asked() {
        let mut detector = Detector::new(LEASE_MS);
        (0..3).for_each(|node| detector.heard(id(node), 0));
        detector.heard(id(2), 1_500);
        let witnesses = vec![id(2)];
        let asks: Vec<Finding> =
            (0..2).map(|node| Finding::Ask { node: id(node), witnesses: witnesses.clone() }).collect();
        assert_eq!(detector.clone().look(2_000, |_| true), asks);
        assert_eq!(detector.look(2_000, |node| *node != id(2)), []);
        assert_eq!(detector.look(3_000, |_| true).len(), 2, "alone, a lease is over when it is over");
    }

    #[test]
    fn only_those_who_were_asked_are_heard_and_a_heartbeat_ends_the_question() {
        let mut detector = Detector::new(LEASE_MS);
        (0..3).for_each(|node| detector.heard(id(node), 0));
        (1..3).for_each(|node| detector.heard(id(node), 2_000));
        assert_eq!(detector.look(2_000, |_| true).len(), 1);
        detector.answered(id(9), &id(0), true);
        assert_eq!(detector.clone().look(3_000, |_| true), [Finding::Dead { node: id(0) }]);
        detector.heard(id(0), 2_900);
        detector.answered(id(1), &id(0), false);
        assert!(!detector.is_due(3_000));
        assert_eq!(detector.look(3_000, |_| true), []);
    }
}
