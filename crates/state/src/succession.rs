//! Keys that go: a node goes on under another one, or its key is void.
//!
//! A key that has gone never joins again. What the network knows of a node stays with the node: faults, quarantine, credit, what its replica kept,
//! the checkpoints that it keeps and what is said of its windows pass to the new key, so that nobody gets rid of a past by a new name. Two things do not:
//! secrets that it pledged, which follow from the old key and will not be told; and what others vouch for, which is for one key.
//!
//! Nobody else is disturbed by it, and nobody gets out of anything: as long as a round comes together, or a window of the node is
//! trained again by others, it has to wait. A node may do it once for every round that it gave something to, so that a chain of keys costs work.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zoo_protocol::{Declaration, NodeId, Retirement, Succession};

use crate::newcomers::GONE_MAX;
use crate::{Event, LossCause, Phase, Queued, Refusal, Running, ShardState, State};

/// Keys that have gone and of which something went into a round: no more than these.
const GONE_COUNTED_MAX: usize = 1 << 16;

/// A key that has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Under which key its node goes on; `None` if the key is void.
    pub successor: Option<NodeId>,
    /// Nothing of it had gone into a round.
    pub was_newcomer: bool,
}

impl State {
    /// The network that this is the state of, once its host has said so.
    pub fn network(&self) -> Option<NodeId> {
        self.network
    }

    /// Keys that have gone.
    pub fn gone(&self) -> &BTreeMap<NodeId, Gone> {
        &self.gone
    }

    /// The host says whose network this is, and whose word counts in it.
    pub(crate) fn name_network(
        &mut self,
        network: NodeId,
        operators: &[NodeId],
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        if let Some(named) = self.network.filter(|named| *named != network) {
            return Err(Refusal::OtherNetwork { named, said: network });
        }
        self.network = Some(network);
        self.trusted.operators = operators.iter().copied().collect();
        events.push(Event::NetworkNamed { network, operators: operators.to_vec() });
        Ok(())
    }

    /// Whether a declaration has been heard, so that nothing comes of it: a host does not journal it again.
    pub fn has_heard(&self, declaration: &Declaration) -> bool {
        let gone = |key: NodeId| self.gone.get(&key).map(|gone| gone.successor);
        match declaration {
            Declaration::Succession { by_old, .. } => {
                by_old.open().is_ok_and(|it| gone(it.old) == Some(Some(it.new)))
            }
            Declaration::Retirement(sealed) => sealed.open().is_ok_and(|it| gone(it.node) == Some(None)),
            Declaration::Credential(_) | Declaration::Revocation(_) => self.has_heard_of_trust(declaration),
        }
    }

    /// Somebody brought what a key says about keys.
    pub(crate) fn declared(
        &mut self,
        declaration: &Declaration,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let here = self.here()?;
        match declaration {
            Declaration::Succession { by_old, by_new } => {
                self.succeed(Declaration::succession(by_old, by_new, here)?, events)
            }
            Declaration::Retirement(sealed) => self.retire(Declaration::retirement(sealed, here)?, events),
            Declaration::Credential(sealed) => self.vouch(sealed, now_ms, events),
            Declaration::Revocation(sealed) => self.revoke(sealed, now_ms, events),
        }
    }

    /// The network that this is, by which everything signed is told from what was signed for another.
    pub(crate) fn here(&self) -> Result<NodeId, Refusal> {
        self.network.ok_or(Refusal::Unnamed)
    }

    /// A key that has gone does not join.
    pub(crate) fn check_key(&self, key: &NodeId) -> Result<(), Refusal> {
        match self.gone.get(key) {
            Some(Gone { successor, .. }) => Err(Refusal::KeyGone { key: *key, successor: *successor }),
            None => Ok(()),
        }
    }

    fn retire(
        &mut self,
        Retirement { node, .. }: Retirement,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        if self.gone.get(&node).is_some_and(|gone| gone.successor.is_none()) {
            return Ok(());
        }
        self.check_key(&node)?;
        self.let_go(node, None, events)?;
        events.push(Event::NodeRetired { node });
        Ok(())
    }

    fn succeed(&mut self, succession: Succession, events: &mut Vec<Event>) -> Result<(), Refusal> {
        let Succession { old, new, .. } = succession;
        if self.gone.get(&old).is_some_and(|gone| gone.successor == Some(new)) {
            return Ok(());
        }
        self.check_key(&old)?;
        self.check_key(&new)?;
        if self.nodes.contains_key(&new) {
            return Err(Refusal::KeyHasPast(new));
        }
        let node = self.nodes.get(&old).ok_or(Refusal::UnknownNode(old))?;
        let rounds = node.account.rounds;
        if rounds > 0 && node.renamed_after == Some(rounds) {
            return Err(Refusal::KeyTooFresh(old));
        }
        if let Some(running) = &self.running {
            let is_checked = running.verification.checks.keys().any(|(_, maker)| *maker == old);
            if matches!(running.phase, Phase::Settling(_) | Phase::Aggregating(_)) || is_checked {
                return Err(Refusal::NotNow("what it has done is with others at the moment"));
            }
        }
        self.let_go(old, Some(new), events)?;
        if let Some(mut node) = self.nodes.remove(&old) {
            node.renamed_after = Some(rounds);
            self.nodes.insert(new, node);
        }
        self.rename(&old, new);
        events.push(Event::NodeSucceeded { old, new });
        Ok(())
    }

    /// The key's node leaves, and the key does not come back.
    fn let_go(
        &mut self,
        key: NodeId,
        successor: Option<NodeId>,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let was_newcomer = self.is_newcomer(&key);
        let most = if was_newcomer { GONE_MAX } else { GONE_COUNTED_MAX };
        if self.gone.values().filter(|gone| gone.was_newcomer == was_newcomer).count() >= most {
            return Err(Refusal::TooManyGone);
        }
        self.lose(key, LossCause::Left, events)?;
        self.trusted.forget(&key);
        self.gone.insert(key, Gone { successor, was_newcomer });
        Ok(())
    }

    /// Everything that is about the old key is about the new one.
    fn rename(&mut self, old: &NodeId, new: NodeId) {
        for (_, kept) in self.checkpoints.jobs_mut() {
            for checkpoint in kept.rounds.values_mut() {
                rekey(&mut checkpoint.keepers, old, new);
                replace(&mut checkpoint.holders, old, new);
                replace(&mut checkpoint.unfit, old, new);
            }
        }
        let waiting = self.queue.iter_mut().chain(self.paused.values_mut());
        let begun =
            waiting.filter_map(|it| if let Queued::Begun(begun) = it { Some(&mut **begun) } else { None });
        self.running.iter_mut().chain(begun).for_each(|running| running.rename(old, new));
    }
}

impl Running {
    fn rename(&mut self, old: &NodeId, new: NodeId) {
        rekey(&mut self.paces, old, new);
        rekey(&mut self.barred, old, new);
        rekey(&mut self.late, old, new);
        rekey(&mut self.leads, old, new);
        rekey(&mut self.ahead, old, new);
        rekey(&mut self.trails, old, new);
        if let Some(trail) = self.trails.get_mut(&new) {
            trail.pledges.clear();
        }
        rename_windows(&mut self.verification.undrawn, old, new);
        rename_windows(&mut self.verification.checks, old, new);
        self.verification.checks.values_mut().for_each(|check| rekey(&mut check.opinions, old, new));
        for open in self.open.values_mut() {
            rekey(&mut open.contributions, old, new);
            replace(&mut open.withdrawn, old, new);
            open.alike.iter_mut().filter(|node| *node == old).for_each(|node| *node = new);
            open.gathering.rename(old, new);
        }
        self.withdrawals.values_mut().for_each(|makers| replace(makers, old, new));
        match &mut self.phase {
            // While a round comes together, nobody is renamed in it.
            Phase::Waiting | Phase::Settling(_) | Phase::Aggregating(_) => {}
            Phase::Training(training) => {
                rekey(&mut training.seats, old, new);
                replace(&mut training.newcomers, old, new);
            }
            Phase::Evaluating(evaluating) => {
                replace(&mut evaluating.excused, old, new);
                for shard in &mut evaluating.shards {
                    match shard {
                        ShardState::Done(score) if score.node == *old => score.node = new,
                        _ => {}
                    }
                }
            }
        }
    }
}

fn rekey<V>(map: &mut BTreeMap<NodeId, V>, old: &NodeId, new: NodeId) {
    if let Some(value) = map.remove(old) {
        map.insert(new, value);
    }
}

fn replace(set: &mut BTreeSet<NodeId>, old: &NodeId, new: NodeId) {
    if set.remove(old) {
        set.insert(new);
    }
}

fn rename_windows<V>(windows: &mut BTreeMap<(u32, NodeId), V>, old: &NodeId, new: NodeId) {
    let rounds: Vec<u32> =
        windows.keys().filter(|(_, maker)| maker == old).map(|(round, _)| *round).collect();
    for round in rounds {
        if let Some(window) = windows.remove(&(round, *old)) {
            windows.insert((round, new), window);
        }
    }
}
