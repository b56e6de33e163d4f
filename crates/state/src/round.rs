//! The running job and the phases of its rounds: what they share, and how one leads to the next.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{JobDescription, JobId, NodeId, Share};

use crate::limits::{MAX_FRUITLESS, MAX_PARTICIPANTS};
use crate::shares::Pace;
use crate::tempo::Tempo;
use crate::{
    Aggregating, Evaluating, Event, Failure, FaultKind, Late, Missed, OpenRound, Restart, Seat, SeatState,
    Settling, State, Trail, Training, Verification,
};

/// The job that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its id.
    pub job: JobId,
    /// What it is.
    pub description: JobDescription,
    /// The current round, from 0.
    pub round: u32,
    /// Manifest of the newest checkpoint: the current round starts from it, or, while
    /// evaluating, has ended with it.
    pub base: Digest,
    /// Inner steps of all finished rounds.
    pub step: u64,
    /// Inner steps of this round, and what decides those of the next.
    pub tempo: Tempo,
    /// First sequence that no replica was given yet.
    pub cursor: u64,
    /// Times the current round was started.
    pub starts: u32,
    /// The next attempt at aggregating the current round. It grows also over restarts, so that
    /// a late report of an earlier start is never taken for one of this start.
    pub next_attempt: u32,
    /// Times the current round, or its evaluation, got nowhere although nodes were live.
    pub fruitless: u32,
    /// Tokens of all finished rounds.
    pub tokens: u64,
    /// How fast nodes have been in this job.
    pub paces: BTreeMap<NodeId, Pace>,
    /// Nodes that were at fault, and through which round they are barred.
    pub barred: BTreeMap<NodeId, u32>,
    /// Windows that go on although their round is sealed.
    pub late: BTreeMap<NodeId, Late>,
    /// What those who contributed to the round before have trained on ahead of this one's checkpoint.
    pub leads: BTreeMap<NodeId, Share>,
    /// What those who contributed to this one train on meanwhile, ahead of the next.
    pub ahead: BTreeMap<NodeId, Share>,
    /// What nodes' accepted windows have left behind.
    pub trails: BTreeMap<NodeId, Trail>,
    /// Windows that others train again.
    pub verification: Verification,
    /// Rounds that are over and not final.
    pub open: BTreeMap<u32, OpenRound>,
    /// Whose contributions are to be taken back out of which of them.
    pub withdrawals: BTreeMap<u32, BTreeSet<NodeId>>,
    /// Where the round stands.
    pub phase: Phase,
}

/// Where a round stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// For enough nodes to be live.
    Waiting,
    /// Participants train their windows.
    Training(Training),
    /// The last round is sealed, and what is left to be verified is.
    Settling(Settling),
    /// Everyone aggregates the sealed contributions.
    Aggregating(Aggregating),
    /// The new checkpoint is evaluated.
    Evaluating(Evaluating),
}

impl Running {
    pub(crate) fn new(description: JobDescription) -> Self {
        Running {
            job: description.id(),
            base: description.initial,
            description,
            round: 0,
            step: 0,
            tempo: Tempo::new(),
            cursor: 0,
            starts: 0,
            next_attempt: 0,
            fruitless: 0,
            tokens: 0,
            paces: BTreeMap::new(),
            barred: BTreeMap::new(),
            late: BTreeMap::new(),
            leads: BTreeMap::new(),
            ahead: BTreeMap::new(),
            trails: BTreeMap::new(),
            verification: Verification::default(),
            open: BTreeMap::new(),
            withdrawals: BTreeMap::new(),
            phase: Phase::Waiting,
        }
    }

    /// Whether a node was at fault lately and has no part in the current round.
    pub fn is_barred(&self, node: &NodeId) -> bool {
        self.barred.get(node).is_some_and(|&through| through >= self.round)
    }

    pub(crate) fn deadline_after(&self, since_ms: u64) -> u64 {
        since_ms.saturating_add(self.description.plan.contribution_deadline_ms)
    }

    /// As it waits while other jobs run: with what its finished rounds came to, and nothing of the present one.
    pub(crate) fn set_aside(mut self) -> Self {
        self.late.clear();
        self.ahead.clear();
        self.verification.verifiers.clear();
        self.phase = match self.phase {
            Phase::Evaluating(_) => {
                Phase::Evaluating(Evaluating::new(self.description.plan.evaluation_shards))
            }
            _ => Phase::Waiting,
        };
        self
    }

    /// The inner step of the job at which shares of the current round start.
    pub(crate) fn first_step(&self) -> u64 {
        self.step + u64::from(self.tempo.lead_steps)
    }

    /// The inner steps of the job when the current round is over.
    pub(crate) fn step_after(&self) -> u64 {
        self.first_step() + u64::from(self.tempo.steps_from_base())
    }

    fn is_done(&self) -> bool {
        let JobDescription { plan, tokens_max, .. } = &self.description;
        self.step >= plan.steps || tokens_max.is_some_and(|most| self.tokens >= most)
    }
}

impl State {
    /// Moves on as far as can be without another command. It ends: a phase begins only when there
    /// is somebody to wait for, and whatever gets nowhere is counted against [`MAX_FRUITLESS`].
    pub(crate) fn settle(&mut self, now_ms: u64, events: &mut Vec<Event>) {
        self.call_back(events);
        while self.advance(now_ms, events) {
            self.call_back(events);
        }
    }

    /// Where too few others are left, those are needed who are busy with something else than the round.
    fn call_back(&mut self, events: &mut Vec<Event>) {
        self.call_verifiers_back(events);
        self.call_late_back(events);
    }

    fn advance(&mut self, now_ms: u64, events: &mut Vec<Event>) -> bool {
        match self.running.as_ref().map(|running| &running.phase) {
            None => self.start_next_job(events),
            Some(Phase::Waiting) => self.start_round(now_ms, events),
            Some(Phase::Training(_)) => self.advance_training(now_ms, events),
            Some(Phase::Settling(_)) => self.advance_settling(now_ms, events),
            Some(Phase::Aggregating(_)) => self.advance_aggregating(now_ms, events),
            Some(Phase::Evaluating(_)) => self.advance_evaluating(now_ms, events),
        }
    }

    pub(crate) fn wait_for_nodes(&mut self, events: &mut Vec<Event>) {
        let nodes = self.eligible().len() as u32;
        let Some(running) = &mut self.running else { return };
        running.phase = Phase::Waiting;
        let minimum = running.description.plan.minimum_nodes;
        if nodes < minimum {
            let Running { job, round, .. } = *running;
            events.push(Event::RoundWaiting { job, round, nodes, minimum });
        }
    }

    fn start_round(&mut self, now_ms: u64, events: &mut Vec<Event>) -> bool {
        self.settle_contested(events);
        let mut nodes = self.eligible();
        let spare = self.to_spare(nodes.len());
        self.appoint_verifiers(&mut nodes, spare, now_ms, events);
        let newcomers = self.newcomers_in_turn(nodes.len());
        let Some(base) = self.running.as_ref().map(|running| running.base) else { return false };
        let room = MAX_PARTICIPANTS - newcomers.len().min(MAX_PARTICIPANTS / 2);
        let mut nodes = self.best_of(nodes, room, &base);
        nodes.extend(newcomers.iter().take(MAX_PARTICIPANTS / 2));
        nodes.sort_unstable();
        let newcomers: BTreeSet<NodeId> = newcomers.into_iter().take(MAX_PARTICIPANTS / 2).collect();
        let Some(running) = &self.running else { return false };
        let plan = &running.description.plan;
        if nodes.len() < plan.minimum_nodes as usize {
            return false;
        }
        let wanted = running.tempo.inner_steps;
        let inner_steps = plan.inner_steps_at(running.step, wanted);
        let tempo = Tempo { inner_steps, ..running.tempo.clone() };
        let step_after = running.first_step() + u64::from(tempo.steps_from_base());
        let next_steps = if step_after < plan.steps { plan.inner_steps_at(step_after, wanted) } else { 0 };
        let ahead_steps = if plan.overlap { tempo.ahead_of(next_steps) } else { 0 };
        let (tempo, inner_steps) = (Tempo { ahead_steps, ..tempo }, tempo.steps_from_base());
        let in_step = self.divide(running, &nodes);
        let steps = u64::from(inner_steps) + u64::from(ahead_steps);
        let total: u64 = in_step.iter().map(|count| u64::from(*count) * steps).sum();
        let Some(running) = &mut self.running else { return false };
        let mut first_sequence = running.cursor;
        let Some(cursor) = running.cursor.checked_add(total) else {
            self.fail_job(Failure::SequencesExhausted, events);
            return true;
        };
        let mut seats = BTreeMap::new();
        for (node, sequences_per_step) in nodes.into_iter().zip(in_step) {
            let share = Share { first_sequence, sequences_per_step, inner_steps };
            seats.insert(node, Seat { share, state: SeatState::Working });
            first_sequence += share.sequences() + share.after(ahead_steps).sequences();
        }
        running.cursor = cursor;
        running.tempo = tempo;
        running.ahead.clear();
        running.starts = running.starts.saturating_add(1);
        let shares = seats.iter().map(|(node, seat)| (*node, seat.share)).collect();
        let Running { job, round, base, starts: start, .. } = *running;
        let lead_steps = running.tempo.lead_steps;
        events.push(Event::RoundStarted { job, round, start, base, shares, lead_steps, ahead_steps });
        running.phase = Phase::Training(Training::new(now_ms, seats, newcomers));
        true
    }

    /// Starts the round again from the same base, or fails the job if it got nowhere too often.
    pub(crate) fn restart_round(&mut self, why: Restart, events: &mut Vec<Event>) {
        let Some(running) = &mut self.running else { return };
        let Running { job, round, .. } = *running;
        // Everybody leaving says nothing against the job; and it takes others to come before the next start.
        if why != Restart::EveryoneLost {
            if running.fruitless == MAX_FRUITLESS {
                return self.fail_job(Failure::NoProgress { round, last: why }, events);
            }
            running.fruitless += 1;
        }
        events.push(Event::RoundRestarted { job, round, why });
        // What this start began is over; what came late for the round before still counts.
        self.end_late(|_, late| (late.window.round == round).then_some(Missed::Deadline), events);
        if let Some(running) = &mut self.running {
            running.late.retain(|_, late| late.window.round < round);
        }
        self.wait_for_nodes(events);
    }

    /// The round has ended with the checkpoint `base`.
    pub(crate) fn end_round(&mut self, base: Digest, now_ms: u64, events: &mut Vec<Event>) {
        let Some(running) = &mut self.running else { return };
        running.base = base;
        let every = running.description.plan.evaluate_every;
        let before = running.step / every;
        running.step = running.step_after();
        running.leads = std::mem::take(&mut running.ahead);
        running.tempo.learn(now_ms, running.description.plan.overlap);
        running.tempo.lead_steps = if running.leads.is_empty() { 0 } else { running.tempo.ahead_steps };
        running.starts = 0;
        running.next_attempt = 0;
        running.fruitless = 0;
        if running.is_done() || running.step / every > before {
            running.phase = Phase::Evaluating(Evaluating::new(running.description.plan.evaluation_shards));
        } else {
            self.next_round(events);
        }
    }

    pub(crate) fn next_round(&mut self, events: &mut Vec<Event>) {
        let Some(running) = &mut self.running else { return };
        if running.is_done() {
            return self.finish_job(events);
        }
        running.round += 1;
        running.fruitless = 0;
        let round = running.round;
        running.barred.retain(|_, through| *through >= round);
        running.forget_old_trails();
        self.wait_for_nodes(events);
    }

    /// Records a fault and bars the node through the next round, if it is not barred for longer.
    pub(crate) fn fault(&mut self, node: NodeId, kind: FaultKind, events: &mut Vec<Event>) {
        let Some(running) = &mut self.running else { return };
        let Running { job, round, .. } = *running;
        let through = running.barred.entry(node).or_default();
        *through = (*through).max(round + 1);
        running.late.remove(&node);
        running.release(|verifier, _| *verifier == node, None, events);
        self.credit(&node, |account| account.faults += 1);
        self.end_trust(&node, events);
        events.push(Event::Fault { job, round, node, kind });
    }
}

/// What more votes were given for than for anything else.
pub(crate) fn winner<T: Ord>(votes: impl IntoIterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for vote in votes {
        *counts.entry(vote).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    let mut leaders = counts.into_iter().filter(|(_, count)| *count == most);
    let (leader, _) = leaders.next()?;
    leaders.next().is_none().then_some(leader)
}
