//! The phase in which participants train their windows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{Commitment, NodeId, Sealed, Secret, Share, TrainWindow, VNodeUpdate, WindowOutcome};

use crate::limits::{MAX_ROUND_BYTES, MAX_TOKENS, UPDATE_BYTES_APART, UPDATE_SIZES_APART, check_commitment};
use crate::round::winner;
use crate::{Event, FaultKind, Missed, Phase, Refusal, Restart, Running, State};

/// Participants train their windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    /// When the phase started.
    pub started_ms: u64,
    /// The participants.
    pub seats: BTreeMap<NodeId, Seat>,
    /// How many of those that are waited for still work.
    pub working: u32,
    /// How many of those that are waited for have contributed.
    pub contributed: u32,
    /// Since when there is a quorum.
    pub quorum_ms: Option<u64>,
    /// What is said of the contributions so far, bytes.
    pub bytes: u64,
    /// Participants that nobody waits for: they have given nothing yet.
    pub newcomers: BTreeSet<NodeId>,
}

/// A participant's part in a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Its sequences.
    pub share: Share,
    /// How far it is.
    pub state: SeatState,
}

/// How far a participant is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeatState {
    /// It trains.
    Working,
    /// It contributed. That it may be lost since does not matter here.
    Contributed(Contribution),
    /// It was lost before it contributed; if it is back before the seal, it works again.
    Lost,
    /// Its work failed, and why in its words.
    Failed(String),
}

/// What the state keeps of an accepted commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution {
    /// Digest of the commitment's canonical encoding.
    pub commitment: Digest,
    /// The round of the window it was trained in.
    pub round: u32,
    /// Tokens it was trained on.
    pub tokens: u64,
    /// Sequences it was trained on: those of the node's share, and of its lead.
    pub sequences: u64,
    /// One update per VNode, in network order.
    pub updates: Vec<VNodeUpdate>,
    /// The secret that its node told with it, and the round of the window with which that was pledged.
    pub told: Option<(u32, Secret)>,
}

impl SeatState {
    /// Whether a contribution has the very updates of this one: two replicas never train on the same sequence.
    fn repeats(&self, other: &Contribution) -> bool {
        matches!(self, SeatState::Contributed(given) if given.updates == other.updates)
    }
}

impl Contribution {
    /// Digest of what all honest contributions to a round have in common. The state does not know
    /// the job's context length or network; it can only see that somebody differs from most.
    pub(crate) fn outline(&self) -> Digest {
        let vnodes: Vec<&str> = self.updates.iter().map(|update| update.vnode.as_str()).collect();
        Digest::of(&zoo_protocol::encode(&(self.tokens / self.sequences.max(1), vnodes)))
    }

    /// What is said of it when it is to be aggregated, bytes: a `Summand`, at most.
    pub(crate) fn wire_bytes(&self) -> usize {
        const VARINT_MAX: usize = 10;
        const DIGEST: usize = 32;
        let update = |update: &VNodeUpdate| update.vnode.len() + 3 * VARINT_MAX + DIGEST;
        DIGEST + 3 * VARINT_MAX + self.updates.iter().map(update).sum::<usize>()
    }
}

impl Training {
    /// Everybody works.
    pub(crate) fn new(started_ms: u64, seats: BTreeMap<NodeId, Seat>, newcomers: BTreeSet<NodeId>) -> Self {
        let working = (seats.len() - newcomers.len()) as u32;
        Self { started_ms, seats, working, contributed: 0, quorum_ms: None, bytes: 0, newcomers }
    }

    /// Whether somebody is waited for: who counts, and anybody while nothing has been given.
    fn is_awaited(&self) -> bool {
        let is_given = |seat: &Seat| matches!(seat.state, SeatState::Contributed(_));
        let works = |seat: &Seat| seat.state == SeatState::Working;
        self.working > 0 || !self.seats.values().any(is_given) && self.seats.values().any(works)
    }

    /// Notes how far a participant is, if there is such a participant and it was as far as `from` says.
    pub(crate) fn set(&mut self, node: &NodeId, from: impl Fn(&SeatState) -> bool, to: SeatState) {
        let Some(seat) = self.seats.get_mut(node).filter(|seat| from(&seat.state)) else { return };
        if !self.newcomers.contains(node) {
            self.working -= u32::from(seat.state == SeatState::Working);
            self.working += u32::from(to == SeatState::Working);
            let has_contributed = |state: &SeatState| u32::from(matches!(state, SeatState::Contributed(_)));
            self.contributed -= has_contributed(&seat.state);
            self.contributed += has_contributed(&to);
        }
        seat.state = to;
    }
}

impl Running {
    /// The window that a node was assigned: in the training phase, or late.
    pub(crate) fn window_of(&self, node: &NodeId) -> Option<TrainWindow> {
        if let Some(window) = self.late_window(node) {
            return Some(window.clone());
        }
        let Phase::Training(training) = &self.phase else { return None };
        let seat = training.seats.get(node)?;
        Some(TrainWindow {
            network: self.description.network,
            job: self.job,
            round: self.round,
            program: self.description.program,
            profile: self.description.profile,
            base: self.base,
            data: self.description.training_data,
            first_step: self.first_step(),
            share: seat.share,
            lead: self.leads.get(node).copied(),
            ahead_steps: self.tempo.ahead_steps,
            kept: self.kept_by(node),
            reveals: self.to_be_told_by(node),
        })
    }

    /// Takes a contribution to the window that its node was assigned, which began at the returned time.
    fn accept(&mut self, node: NodeId, contribution: Contribution) -> Result<u64, Refusal> {
        let mut late = self.late.iter().filter_map(|(of, late)| Some((of, late.given.as_ref()?)));
        if let Some((of, _)) = late.find(|(_, given)| given.updates == contribution.updates) {
            return Err(Refusal::Repeated { node, of: *of });
        }
        if let Phase::Training(training) = &self.phase
            && let Some((of, _)) = training.seats.iter().find(|(_, seat)| seat.state.repeats(&contribution))
        {
            return Err(Refusal::Repeated { node, of: *of });
        }
        if let Some(late) = self.late.get_mut(&node).filter(|late| late.given.is_none()) {
            late.given = Some(contribution);
            return Ok(late.started_ms);
        }
        let Phase::Training(training) = &mut self.phase else {
            return Err(Refusal::NotAssigned { node, why: "the round is sealed" });
        };
        let said = training.bytes + contribution.wire_bytes() as u64;
        if said > MAX_ROUND_BYTES {
            return Err(Refusal::RoundFull);
        }
        training.bytes = said;
        training.set(&node, |_| true, SeatState::Contributed(contribution));
        Ok(training.started_ms)
    }

    /// The contribution to `round` that was accepted from a node, by this start of it.
    pub fn accepted_from(&self, node: &NodeId, round: u32) -> Option<&Contribution> {
        let late = self.late.get(node).and_then(|late| late.given.as_ref());
        if late.is_some_and(|given| given.round == round) {
            return late;
        }
        let in_time = match &self.phase {
            Phase::Training(training) => match &training.seats.get(node)?.state {
                SeatState::Contributed(contribution) => Some(contribution),
                _ => None,
            },
            Phase::Settling(settling) => settling.contributions.get(node),
            Phase::Aggregating(aggregating) => aggregating.contributions.get(node),
            Phase::Waiting | Phase::Evaluating(_) => None,
        };
        in_time.filter(|given| given.round == round)
    }
}

/// Contributions with an update that is far larger than half of those for the same VNode: nobody is to fetch it before it
/// turns out to be no update. A minority cannot make others look large.
fn oversized(contributions: &BTreeMap<NodeId, Contribution>) -> BTreeMap<NodeId, FaultKind> {
    let mut found = BTreeMap::new();
    let vnodes = contributions.values().next().map_or(0, |contribution| contribution.updates.len());
    for vnode in 0..vnodes {
        let size =
            |contribution: &Contribution| contribution.updates.get(vnode).map_or(0, |update| update.bytes);
        let mut sizes: Vec<u64> = contributions.values().map(size).collect();
        sizes.sort_unstable();
        let limit =
            sizes[sizes.len() / 2].saturating_mul(UPDATE_SIZES_APART).saturating_add(UPDATE_BYTES_APART);
        for (node, contribution) in contributions.iter().filter(|(_, given)| size(given) > limit) {
            let (vnode, bytes) = (vnode as u32, size(contribution));
            found.entry(*node).or_insert(FaultKind::Oversized { vnode, bytes, limit });
        }
    }
    found
}

impl State {
    pub(crate) fn contribute(
        &mut self,
        node: NodeId,
        sealed: &Sealed<Commitment>,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        if sealed.signer() != node {
            return Err(Refusal::ForeignSeal { reporter: node, signer: sealed.signer() });
        }
        let commitment = sealed.open()?;
        let not_assigned = |why| Refusal::NotAssigned { node, why };
        let running = self.running.as_mut().ok_or_else(|| not_assigned("no job runs"))?;
        if commitment.work.network != running.description.network {
            return Err(not_assigned("it was signed for another network"));
        }
        let (job, round) = (commitment.work.job, commitment.work.round);
        let digest = Digest::of(&zoo_protocol::encode(&commitment));
        if job == running.job
            && let Some(accepted) = running.accepted_from(&node, round)
        {
            let duplicate = accepted.commitment == digest;
            return if duplicate { Ok(()) } else { Err(Refusal::AnsweredOtherwise(node)) };
        }
        let late = running.late_window(&node).map(|window| window.round);
        if (job, round) != (running.job, late.unwrap_or(running.round)) {
            return Err(not_assigned("it is for another job or round"));
        }
        let assigned = running
            .window_of(&node)
            .ok_or_else(|| not_assigned("it has no part in the round, or the round is sealed"))?;
        if commitment.work != assigned {
            return Err(Refusal::OtherWindow(node));
        }
        check_commitment(&commitment)?;
        running.check_trail(&node, &commitment)?;
        if self.tokens >= MAX_TOKENS {
            return Err(Refusal::Invalid(format!(
                "{} tokens are accounted for, which is the limit",
                self.tokens
            )));
        }
        let sequences = commitment.shares().map(|share| share.sequences()).sum();
        let WindowOutcome { tokens, updates, mean_loss_bits, .. } = commitment.outcome.clone();
        let told = commitment.work.reveals.zip(commitment.secret);
        let contribution = Contribution { commitment: digest, round, tokens, sequences, updates, told };
        let bytes = contribution.updates.iter().fold(0, |sum: u64, update| sum.saturating_add(update.bytes));
        let started_ms = running.accept(node, contribution)?;
        running.note_trail(node, &commitment);
        running.note_claim(node, &commitment, commitment.outcome.digest());
        running.note_pace(node, assigned.share.sequences(), now_ms.saturating_sub(started_ms));
        self.credit(&node, |account| account.contributions += 1);
        let commitment = digest;
        events.push(Event::ContributionAccepted {
            job,
            round,
            node,
            commitment,
            tokens,
            mean_loss_bits,
            bytes,
        });
        Ok(())
    }

    pub(crate) fn advance_training(&mut self, now_ms: u64, events: &mut Vec<Event>) -> bool {
        let Some(running) = &mut self.running else { return false };
        let plan = &running.description.plan;
        let Phase::Training(training) = &mut running.phase else { return false };
        if training.quorum_ms.is_none() && training.has_quorum(plan.minimum_nodes) {
            training.quorum_ms = Some(now_ms);
        }
        if training.is_awaited() && now_ms < training.ends_ms(plan.contribution_deadline_ms) {
            return false;
        }
        let newcomers = training.newcomers.clone();
        let (seats, elapsed_ms) = (training.seats.clone(), now_ms.saturating_sub(training.started_ms));
        let late = seats.iter().filter(|(_, seat)| seat.state == SeatState::Working);
        let late: Vec<(NodeId, u64)> = late.map(|(node, seat)| (*node, seat.share.sequences())).collect();
        late.iter().for_each(|(node, sequences)| running.note_lateness(*node, *sequences, elapsed_ms));
        let windows: Vec<_> =
            late.iter().filter_map(|(node, _)| Some((*node, running.window_of(node)?))).collect();
        let mut contributions = BTreeMap::new();
        let mut everyone_lost = true;
        for (node, seat) in seats {
            everyone_lost &= seat.state == SeatState::Lost;
            match seat.state {
                SeatState::Contributed(contribution) => _ = contributions.insert(node, contribution),
                SeatState::Working => {}
                SeatState::Lost => self.miss(node, Missed::Lost, events),
                SeatState::Failed(reason) => self.miss(node, Missed::Failed(reason), events),
            }
        }
        if !contributions.is_empty() {
            self.take_late(&mut contributions, events);
        }
        let is_needed = |node: &NodeId| !newcomers.contains(node);
        let needed = windows.iter().filter(|(node, _)| is_needed(node)).count();
        let (go_on, missed): (Vec<_>, Vec<_>) = match (contributions.is_empty(), self.can_spare(needed)) {
            (true, _) => (Vec::new(), windows),
            (false, true) => (windows, Vec::new()),
            (false, false) => windows.into_iter().partition(|(node, _)| !is_needed(node)),
        };
        self.let_go_on(go_on, events);
        missed.iter().for_each(|(node, _)| self.miss(*node, Missed::Deadline, events));
        if contributions.is_empty() {
            let why = if everyone_lost { Restart::EveryoneLost } else { Restart::NoContribution };
            self.restart_round(why, events);
        } else {
            self.seal(contributions, now_ms, events);
        }
        true
    }

    fn seal(
        &mut self,
        mut contributions: BTreeMap<NodeId, Contribution>,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) {
        if let Some(Running { phase: Phase::Training(training), tempo, ahead, .. }) = &mut self.running {
            tempo.sealed(training.started_ms, now_ms);
            let gave = training.seats.iter().filter(|(node, _)| contributions.contains_key(node));
            let went_on = gave.filter(|(_, seat)| matches!(seat.state, SeatState::Contributed(_)));
            let lead = |seat: &Seat| seat.share.after(tempo.ahead_steps);
            *ahead = went_on
                .map(|(node, seat)| (*node, lead(seat)))
                .filter(|(_, lead)| lead.inner_steps > 0)
                .collect();
        }
        let Some(outline) = winner(contributions.values().map(Contribution::outline)) else {
            return self.restart_round(Restart::OutlineTie, events);
        };
        let odd_ones: Vec<NodeId> = contributions
            .iter()
            .filter(|(_, contribution)| contribution.outline() != outline)
            .map(|(node, _)| *node)
            .collect();
        for node in odd_ones {
            contributions.remove(&node);
            self.fault(node, FaultKind::Outline, events);
        }
        for (node, kind) in oversized(&contributions) {
            contributions.remove(&node);
            self.fault(node, kind, events);
        }
        let trusted = self.trusted_at(now_ms);
        if let Some(running) = &mut self.running {
            running.draw(&contributions, &trusted);
        }
        self.settle_or_aggregate(contributions, now_ms, events);
    }

    pub(crate) fn miss(&mut self, node: NodeId, why: Missed, events: &mut Vec<Event>) {
        let Some(Running { job, round, .. }) = self.running else { return };
        self.credit(&node, |account| account.missed += 1);
        events.push(Event::ContributionMissed { job, round, node, why });
    }
}
