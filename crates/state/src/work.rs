//! What a node should be doing now, derived from the state alone.

use std::collections::BTreeSet;

use zoo_protocol::limits::MAX_PEERS;
use zoo_protocol::{Aggregate, Evaluate, JobId, NodeId, Peer, Sum, Work};

use crate::{
    Aggregating, Answer, Command, Event, Missed, PartialSum, Phase, Refusal, Running, SeatState, State,
};

/// Peers that a node is told of beside those who are likely to have what it needs.
const SOURCES: usize = 64;

impl State {
    /// What a node should be doing now. A node that has lost its connection or its process
    /// asks again and carries on; a node that is not live, has answered, or has no part in the
    /// phase is idle. A suspect goes on with its window; what others can do as well is theirs.
    /// Who has nothing else to do may be measured, or check others.
    pub fn work_for(&self, node: &NodeId) -> Work {
        match self.work_of_job(node) {
            Work::Idle if self.is_live(node) => self.benchmark_for(node).map_or(Work::Idle, Work::Benchmark),
            work => work,
        }
    }

    /// What a node should be doing now for the job that runs.
    pub(crate) fn work_of_job(&self, node: &NodeId) -> Work {
        let Some(running) = self.running.as_ref().filter(|running| !running.is_barred(node)) else {
            return Work::Idle;
        };
        if !self.is_live(node) {
            return Work::Idle;
        }
        if let Some(window) = running.late_window(node) {
            return Work::Train(window.clone());
        }
        if let Some(verification) = running.verification_of(node) {
            return Work::Verify(verification);
        }
        match &running.phase {
            Phase::Waiting => Work::Idle,
            Phase::Settling(_) | Phase::Aggregating(_) | Phase::Evaluating(_) if self.is_suspect(node) => {
                Work::Idle
            }
            Phase::Training(training) => match training.seats.get(node) {
                Some(seat) if seat.state == SeatState::Working => {
                    running.window_of(node).map_or(Work::Idle, Work::Train)
                }
                _ => Work::Idle,
            },
            Phase::Settling(_) | Phase::Aggregating(_) if !self.counts(node) => Work::Idle,
            Phase::Settling(_) => running.to_tell(node).map_or(Work::Idle, Work::Tell),
            Phase::Aggregating(aggregating) => running.aggregation_for(node, aggregating),
            Phase::Evaluating(evaluating) => evaluating
                .shard_of(node)
                .map_or(Work::Idle, |shard| Work::Evaluate(running.evaluation(shard))),
        }
    }

    /// Whom a node asks for the blobs of its work, out of `peers`, which are ordered by node: first who made what it adds,
    /// then those who said that they hold the checkpoint it starts from, those of its own region before others; then the
    /// orchestrator, then some of the rest. Each node begins at another place, so that not all ask the same one.
    pub fn sources_for(
        &self,
        node: &NodeId,
        work: &Work,
        peers: &[Peer],
        orchestrator: &NodeId,
    ) -> Vec<Peer> {
        let (checkpoint, summands) = match work {
            Work::Idle | Work::Benchmark(_) | Work::Tell(_) => return Vec::new(),
            Work::Train(window) => (Some(window.base), &[][..]),
            Work::Aggregate(aggregate) => (Some(aggregate.base), &aggregate.summands[..]),
            Work::Evaluate(evaluate) => (Some(evaluate.checkpoint), &[][..]),
            Work::Sum(sum) => (None, &sum.summands[..]),
            Work::Verify(verification) => (Some(verification.window.base), &[][..]),
        };
        let verified = if let Work::Verify(verification) = work { Some(&verification.maker) } else { None };
        let place = |node: &NodeId| peers.binary_search_by_key(node, |peer| peer.node).ok();
        let start = peers.partition_point(|peer| peer.node <= *node);
        let turn = |place: usize| (place + peers.len() - start) % peers.len();
        let region = |node: &NodeId| self.nodes.get(node).map(|known| &known.profile.region);
        let home = region(node);
        let makers = summands.iter().map(|summand| &summand.node).chain(verified).filter_map(place);
        let mut holders: Vec<usize> = checkpoint
            .map(|checkpoint| self.holders(&checkpoint))
            .iter()
            .flatten()
            .filter_map(place)
            .collect();
        holders.sort_by_key(|&place| (region(&peers[place].node) != home, turn(place)));
        let rest = (0..peers.len().min(SOURCES)).map(|step| (start + step) % peers.len());
        let mut seen = BTreeSet::from_iter(place(node));
        let ordered = makers.chain(holders).chain(place(orchestrator)).chain(rest);
        ordered
            .filter(|place| seen.insert(*place))
            .take(MAX_PEERS)
            .map(|place| peers[place].clone())
            .collect()
    }

    /// Whose work, or what they keep, may be another after a command with these events: `None` is everybody's.
    ///
    /// In large networks most commands concern one node; asking all of them each time would take most of a host's time.
    pub fn concerned(&self, command: &Command, events: &[Event]) -> Option<BTreeSet<NodeId>> {
        // Who was to tell something is not any more once the windows are drawn.
        let concerns_all = |running: &Running| match &running.phase {
            Phase::Settling(settling) => settling.is_drawn,
            Phase::Evaluating(_) => true,
            Phase::Waiting | Phase::Training(_) | Phase::Aggregating(_) => false,
        };
        if self.running.as_ref().is_none_or(concerns_all) {
            return None;
        }
        let mut concerned = BTreeSet::new();
        match command {
            Command::NodeJoined { .. }
            | Command::NodeLost { .. }
            | Command::NodeSuspected { .. }
            | Command::NodeHeard { .. }
                if self.nodes.len() <= MAX_PEERS =>
            {
                return None;
            }
            Command::NodeJoined { node, .. }
            | Command::NodeLost { node, .. }
            | Command::NodeSuspected { node, .. }
            | Command::NodeHeard { node, .. }
            | Command::Reported { node, .. } => {
                concerned.insert(*node);
            }
            Command::Challenged { node, .. } => _ = concerned.insert(*node),
            Command::JobSteered { .. }
            | Command::Declared { .. }
            | Command::SittingOpened { .. }
            | Command::CheckersDrawn { .. } => return None,
            Command::JobSubmitted { .. }
            | Command::LinkMeasured { .. }
            | Command::NetworkNamed { .. }
            | Command::Attested { .. }
            | Command::Tick { .. } => {}
        }
        let gathering = match self.running.as_ref().map(|running| &running.phase) {
            Some(Phase::Aggregating(aggregating)) => Some(&aggregating.gathering),
            _ => None,
        };
        let waiting_for =
            |sum: u32| gathering.map(|gathering| gathering.waiting_for(sum)).unwrap_or_default();
        // The committee may have been filled up: for who is lost, could not, or is late.
        concerned.extend(gathering.and_then(|gathering| gathering.committee.as_ref()).into_iter().flatten());
        for event in events {
            match event {
                Event::ContributionMissed { node, .. } => _ = concerned.insert(*node),
                Event::ContributionAccepted { .. }
                | Event::ContributionLate { .. }
                | Event::NodeJoined { .. }
                | Event::NodeRejoined { .. }
                | Event::NodeLost { .. }
                | Event::WorkFailed { .. }
                | Event::LinkMeasured { .. }
                | Event::NodeSuspected { .. }
                | Event::NodeHeard { .. }
                | Event::NetworkNamed { .. }
                | Event::NodeAttested { .. }
                | Event::TrustEnded { .. }
                | Event::NodeRated { .. }
                | Event::NodeUnrated { .. }
                | Event::JobAccepted { .. } => {}
                Event::CheckpointAsked { node, .. }
                | Event::CheckpointKept { node, .. }
                | Event::CheckpointReleased { node, .. } => _ = concerned.insert(*node),
                Event::VerificationAsked { verifier, .. } | Event::VerifierReleased { verifier, .. } => {
                    concerned.insert(*verifier);
                }
                Event::VerdictGiven { .. }
                | Event::WindowVerified { .. }
                | Event::WindowUnverified { .. } => {}
                Event::PartSummed { sum, .. } => concerned.extend(waiting_for(*sum)),
                Event::PartMoved { sum, node, .. } => {
                    concerned.extend(node);
                    concerned.extend(waiting_for(*sum));
                }
                _ => return None,
            }
        }
        Some(concerned)
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
        if self.work_of_job(&node) == Work::Idle {
            return Err(not_assigned("it has no work that could fail"));
        }
        let running = self.running.as_mut().ok_or_else(|| not_assigned("no job runs"))?;
        let late = running.late_window(&node).map(|window| window.round);
        let verifies = running.verification.verifiers.get(&node).map(|verifier| verifier.asked_in);
        if (job, round) != (running.job, late.or(verifies).unwrap_or(running.round)) {
            return Err(not_assigned("it is for another job or round"));
        }
        if late.is_none() && verifies.is_some() {
            events.push(Event::WorkFailed { job, round, node, reason: reason.to_owned() });
            self.give_up_verifying(node, events);
            return Ok(());
        }
        if late.is_some() {
            events.push(Event::WorkFailed { job, round, node, reason: reason.to_owned() });
            self.end_late(|late, _| (*late == node).then(|| Missed::Failed(reason.to_owned())), events);
            return Ok(());
        }
        match &mut running.phase {
            // Who cannot tell its secret is silent.
            Phase::Waiting | Phase::Settling(_) => {}
            Phase::Training(training) => training.set(&node, |_| true, SeatState::Failed(reason.to_owned())),
            Phase::Aggregating(aggregating) => match aggregating.gathering.open_for(&node) {
                Some(sum) => _ = aggregating.gathering.sums[sum as usize].excused.insert(node),
                None => _ = aggregating.answers.insert(node, Answer::Failed),
            },
            Phase::Evaluating(evaluating) => _ = evaluating.excused.insert(node),
        }
        events.push(Event::WorkFailed { job, round, node, reason: reason.to_owned() });
        Ok(())
    }
}

impl Running {
    fn aggregation_for(&self, node: &NodeId, aggregating: &Aggregating) -> Work {
        let Aggregating { attempt, contributions, norm_limits, gathering, answers, .. } = aggregating;
        let (job, round, program) = (self.job, self.round, self.description.program);
        if let Some(number) = gathering.open_for(node) {
            let PartialSum { first_vnode, vnodes, items, .. } = &gathering.sums[number as usize];
            let places = *first_vnode as usize..(*first_vnode + *vnodes) as usize;
            return Work::Sum(Sum {
                job,
                round,
                attempt: *attempt,
                sum: number,
                program,
                first_vnode: *first_vnode,
                vnodes: *vnodes,
                norm_limits: norm_limits.get(places.clone()).unwrap_or_default().to_vec(),
                summands: gathering.summands(round, items, places, contributions),
            });
        }
        if !gathering.is_voter(node) || answers.contains_key(node) || !gathering.are_there(&gathering.top) {
            return Work::Idle;
        }
        let vnodes = contributions.values().next().map_or(0, |contribution| contribution.updates.len());
        Work::Aggregate(Aggregate {
            job,
            round,
            attempt: *attempt,
            program,
            base: self.base,
            data: self.description.training_data,
            norm_limits: norm_limits.clone(),
            summands: gathering.summands(round, &gathering.top, 0..vnodes, contributions),
            step: self.step_after(),
            amendments: aggregating.amends.as_ref().map(|amends| self.amendments(amends)).unwrap_or_default(),
            is_last: self.ends_with(contributions),
        })
    }

    /// What whoever evaluates this shard of the held-out data is asked.
    pub fn evaluation(&self, shard: u32) -> Evaluate {
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
