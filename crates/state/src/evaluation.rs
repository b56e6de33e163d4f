//! The phase in which a checkpoint is evaluated on the held-out data.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::LN_2;

use serde::{Deserialize, Serialize};
use zoo_protocol::{JobId, NodeId};

use crate::limits::{MAX_FRUITLESS, check_score};
use crate::{Event, Failure, Phase, Refusal, Running, State};

/// Live nodes evaluate shards of the held-out data.
///
/// An open shard is always with a live node, if there is any. A shard stays where it is until its
/// node is lost, fails, or none of the shards comes in for as long as the deadline allows;
/// then it goes to the node with the fewest open shards (among equals the one of the best [reputation](crate::Reputation), then the first by id).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluating {
    /// When a shard was last given to a node or came in; `None` while nobody is live.
    pub progress_ms: Option<u64>,
    /// The shards, in order.
    pub shards: Vec<ShardState>,
    /// Nodes that failed or were too slow and get no more shards unless all have.
    pub excused: BTreeSet<NodeId>,
}

/// How far a shard is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShardState {
    /// With this node; with none while nobody is live.
    Open(Option<NodeId>),
    /// Evaluated.
    Done(ShardScore),
}

/// The outcome of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardScore {
    /// Who evaluated it.
    pub node: NodeId,
    /// Sum of the losses, nats, as f64 bits.
    pub nats_bits: u64,
    /// Tokens scored.
    pub tokens: u64,
    /// Bytes of text those tokens stand for.
    pub bytes: u64,
}

impl Evaluating {
    pub(crate) fn new(shards: u32) -> Self {
        let shards = vec![ShardState::Open(None); shards as usize];
        Evaluating { progress_ms: None, shards, excused: BTreeSet::new() }
    }

    /// The first open shard that a node has.
    pub(crate) fn shard_of(&self, node: &NodeId) -> Option<u32> {
        let position = self.shards.iter().position(|shard| *shard == ShardState::Open(Some(*node)))?;
        Some(position as u32)
    }

    /// Open shards per node.
    fn loads(&self) -> BTreeMap<NodeId, usize> {
        let mut loads = BTreeMap::new();
        for shard in &self.shards {
            if let ShardState::Open(Some(node)) = shard {
                *loads.entry(*node).or_default() += 1;
            }
        }
        loads
    }

    /// Gives open shards of nodes that are not `able` to those that are, the first of them first. True if any was given.
    fn assign(&mut self, able: &[NodeId]) -> bool {
        let before = self.loads();
        let mut loads: BTreeMap<NodeId, usize> =
            able.iter().map(|node| (*node, before.get(node).copied().unwrap_or(0))).collect();
        let place: BTreeMap<NodeId, usize> = able.iter().enumerate().map(|(at, node)| (*node, at)).collect();
        let mut given = false;
        for shard in &mut self.shards {
            let ShardState::Open(holder) = shard else { continue };
            if holder.is_some_and(|holder| loads.contains_key(&holder)) {
                continue;
            }
            *holder = loads.iter().min_by_key(|(node, load)| (**load, place[*node])).map(|(node, _)| *node);
            if let Some(holder) = holder {
                *loads.entry(*holder).or_default() += 1;
                given = true;
            }
        }
        given
    }

    fn total(&self) -> Option<ShardTotal> {
        let mut total = ShardTotal { nats: 0.0, tokens: 0, bytes: 0 };
        for shard in &self.shards {
            let ShardState::Done(score) = shard else { return None };
            total.nats += f64::from_bits(score.nats_bits);
            total.tokens += score.tokens;
            total.bytes += score.bytes;
        }
        Some(total)
    }
}

struct ShardTotal {
    nats: f64,
    tokens: u64,
    bytes: u64,
}

impl State {
    pub(crate) fn evaluated(
        &mut self,
        job: JobId,
        round: u32,
        shard: u32,
        score: ShardScore,
    ) -> Result<(), Refusal> {
        let node = score.node;
        let not_assigned = |why| Refusal::NotAssigned { node, why };
        let running = self.running.as_mut().ok_or_else(|| not_assigned("no job runs"))?;
        if (job, round) != (running.job, running.round) {
            return Err(not_assigned("it is for another job or round"));
        }
        let Phase::Evaluating(evaluating) = &mut running.phase else {
            return Err(not_assigned("the round is not being evaluated"));
        };
        match evaluating.shards.get_mut(shard as usize) {
            None => return Err(not_assigned("there is no such shard")),
            Some(ShardState::Done(before)) if *before == score => return Ok(()),
            Some(ShardState::Done(before)) if before.node == node => {
                return Err(Refusal::AnsweredOtherwise(node));
            }
            Some(ShardState::Open(Some(holder))) if *holder == node => {}
            Some(_) => return Err(not_assigned("the shard is with another node")),
        }
        check_score(&score)?;
        evaluating.shards[shard as usize] = ShardState::Done(score);
        evaluating.progress_ms = None;
        self.credit(&node, |account| account.shards += 1);
        Ok(())
    }

    pub(crate) fn advance_evaluating(&mut self, now_ms: u64, events: &mut Vec<Event>) -> bool {
        let mut live = self.eligible();
        live.sort_by_cached_key(|node| (Reverse(self.reputation_of(node)), *node));
        let Some(running) = &mut self.running else { return false };
        let deadline_ms = running.description.plan.contribution_deadline_ms;
        let Phase::Evaluating(evaluating) = &mut running.phase else { return false };
        if let Some(total) = evaluating.total() {
            self.finish_evaluation(&total, events);
            return true;
        }
        if live.is_empty() {
            evaluating.assign(&[]);
            evaluating.progress_ms = None;
            return false;
        }
        if evaluating.progress_ms.is_some_and(|progress| now_ms >= progress.saturating_add(deadline_ms)) {
            let slow = evaluating.loads().into_keys();
            evaluating.excused.extend(slow);
        }
        let mut able: Vec<NodeId> =
            live.iter().filter(|node| !evaluating.excused.contains(node)).copied().collect();
        if able.is_empty() {
            if running.fruitless == MAX_FRUITLESS {
                let round = running.round;
                self.fail_job(Failure::NoEvaluation { round }, events);
                return true;
            }
            running.fruitless += 1;
            evaluating.excused.clear();
            evaluating.progress_ms = None;
            able = live;
        }
        let given = evaluating.assign(&able);
        if given || evaluating.progress_ms.is_none() {
            evaluating.progress_ms = Some(now_ms);
        }
        false
    }

    fn finish_evaluation(&mut self, total: &ShardTotal, events: &mut Vec<Event>) {
        let Some(Running { job, round, .. }) = self.running else { return };
        if total.bytes == 0 {
            return self.fail_job(Failure::NothingToEvaluate, events);
        }
        let bits_per_byte = total.nats / (LN_2 * total.bytes as f64);
        events.push(Event::EvaluationFinished {
            job,
            round,
            nats_bits: total.nats.to_bits(),
            tokens: total.tokens,
            bytes: total.bytes,
            bits_per_byte_bits: bits_per_byte.to_bits(),
        });
        self.next_round(events);
    }
}
