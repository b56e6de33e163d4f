//! What a node should be doing now, derived from the state alone.

use std::collections::BTreeSet;

use zoo_protocol::limits::MAX_PEERS;
use zoo_protocol::{Aggregate, ContributionRef, Evaluate, JobId, NodeId, Peer, Work};

use crate::{Aggregating, Answer, Event, Phase, Refusal, Running, SeatState, State};

impl State {
    /// What a node should be doing now. A node that has lost its connection or its process
    /// asks again and carries on; a node that is not live, has answered, or has no part in the
    /// phase is idle.
    pub fn work_for(&self, node: &NodeId) -> Work {
        let Some(running) = self.running.as_ref().filter(|running| !running.is_barred(node)) else {
            return Work::Idle;
        };
        if !self.is_live(node) {
            return Work::Idle;
        }
        match &running.phase {
            Phase::Waiting => Work::Idle,
            Phase::Training(training) => match training.seats.get(node) {
                Some(seat) if seat.state == SeatState::Working => {
                    running.window_of(node).map_or(Work::Idle, Work::Train)
                }
                _ => Work::Idle,
            },
            Phase::Aggregating(aggregating) if aggregating.answers.contains_key(node) => Work::Idle,
            Phase::Aggregating(aggregating) => Work::Aggregate(running.aggregation(aggregating)),
            Phase::Evaluating(evaluating) => evaluating
                .shard_of(node)
                .map_or(Work::Idle, |shard| Work::Evaluate(running.evaluation(shard))),
        }
    }

    /// Whom a node asks for the blobs of its work, out of `peers`, which are ordered by node: first those who said that
    /// they hold the checkpoint it starts from, then the orchestrator, then the rest. Each node begins its round at
    /// another place, so that not all ask the same one.
    pub fn sources_for(
        &self,
        node: &NodeId,
        work: &Work,
        peers: &[Peer],
        orchestrator: &NodeId,
    ) -> Vec<Peer> {
        let checkpoint = match work {
            Work::Idle => return Vec::new(),
            Work::Train(window) => window.base,
            Work::Aggregate(aggregate) => aggregate.base,
            Work::Evaluate(evaluate) => evaluate.checkpoint,
        };
        let holders: BTreeSet<NodeId> = self.holders(&checkpoint).into_iter().collect();
        let (before, after) = peers.split_at(peers.partition_point(|peer| peer.node <= *node));
        let others = after.iter().chain(before).filter(|peer| peer.node != *node);
        let mut ordered: Vec<Peer> = others.cloned().collect();
        ordered.sort_by_key(|peer| (!holders.contains(&peer.node), peer.node != *orchestrator));
        ordered.truncate(MAX_PEERS);
        ordered
    }

    /// A node's work failed: nobody waits for it any longer, and it gets other work in the next phase.
    pub(crate) fn failed(
        &mut self,
        node: NodeId,
        job: JobId,
        round: u32,
        reason: &str,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let not_assigned = |why| Refusal::NotAssigned { node, why };
        if self.work_for(&node) == Work::Idle {
            return Err(not_assigned("it has no work that could fail"));
        }
        let running = self.running.as_mut().ok_or_else(|| not_assigned("no job runs"))?;
        if (job, round) != (running.job, running.round) {
            return Err(not_assigned("it is for another job or round"));
        }
        match &mut running.phase {
            Phase::Waiting => {}
            Phase::Training(training) => {
                if let Some(seat) = training.seats.get_mut(&node) {
                    seat.state = SeatState::Failed(reason.to_owned());
                }
            }
            Phase::Aggregating(aggregating) => _ = aggregating.answers.insert(node, Answer::Failed),
            Phase::Evaluating(evaluating) => _ = evaluating.excused.insert(node),
        }
        events.push(Event::WorkFailed { job, round, node, reason: reason.to_owned() });
        Ok(())
    }
}

impl Running {
    fn aggregation(&self, aggregating: &Aggregating) -> Aggregate {
        let contributions = aggregating.contributions.iter().map(|(node, contribution)| ContributionRef {
            node: *node,
            tokens: contribution.tokens,
            updates: contribution.updates.clone(),
        });
        Aggregate {
            job: self.job,
            round: self.round,
            attempt: aggregating.attempt,
            program: self.description.program,
            base: self.base,
            data: self.description.training_data,
            contributions: contributions.collect(),
            step: (u64::from(self.round) + 1) * u64::from(self.description.plan.inner_steps),
        }
    }

    fn evaluation(&self, shard: u32) -> Evaluate {
        Evaluate {
            job: self.job,
            round: self.round,
            program: self.description.program,
            checkpoint: self.base,
            data: self.description.held_out_data,
            shard,
            shards: self.description.plan.evaluation_shards,
        }
    }
}
