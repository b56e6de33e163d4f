//! Windows are trained again, by others, and compared with `==`.
//!
//! Who is checked, and by whom, is drawn when nothing can be changed any more: when a round is sealed, from the secrets that its
//! contributors tell, which they had pledged with their windows of the round before ([`Beacon`]); the lot falls on windows of that round
//! before, and on those that had nothing to do with the others of their round, were given before or are alike (`zoo_update::Agreement`) without any lot. A verifier is told the window and what it started from, and not what came of it; it says the digest of what it comes to.
//!
//! - The first verifier comes to what was committed to: the window is verified.
//! - It does not: two more are asked. What two of the three come to is what is right. If that is another outcome than the maker's, the maker is
//!   convicted; verifiers who came to anything but what is right are at fault.
//! - No two of them agree, or not enough could train it: it stays unverified, and nobody is accused.
//!
//! A verifier has no part in the round while it trains, so what is drawn costs the network that part of its work and no time: as many nodes
//! verify as the round can spare, the others' windows wait for the next.
//!
//! Who is convicted is in quarantine for some rounds, and for twice as many each time; what it gave to the present round is not used, and
//! what it gave to rounds that are not final yet is taken back ([`crate::OpenRound`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{Beacon, Commitment, JobId, NodeId, TrainWindow, VerifyWindow};

use crate::{
    Contribution, Event, FaultKind, Phase, Refusal, Restart, Running, SeatState, ShardState, State,
    Unverified,
};

/// Verifiers of a window that is in doubt.
const PANEL: usize = 3;
/// So many of them settle it.
const MAJORITY: usize = 2;
/// A window that was drawn is verified within so many rounds, or not at all: nodes keep what it started from no longer.
pub const CHALLENGE_ROUNDS: u32 = 6;
/// Rounds of the first quarantine.
pub const QUARANTINE_ROUNDS: u32 = 16;
/// Quarantines double so often.
const QUARANTINE_DOUBLINGS: u64 = 10;
/// The longest quarantine, rounds.
pub(crate) const QUARANTINE_MAX: u32 = QUARANTINE_ROUNDS << QUARANTINE_DOUBLINGS;

/// A window: its round, and whose it is.
pub type WindowName = (u32, NodeId);

/// What is verified of the running job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Accepted windows for which no lot was drawn yet.
    pub undrawn: BTreeMap<WindowName, Claim>,
    /// Windows that were drawn, and are not settled.
    pub checks: BTreeMap<WindowName, Check>,
    /// Who trains one of them again.
    pub verifiers: BTreeMap<NodeId, Verifier>,
}

/// What a node committed to, as far as it can be verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The round that it is part of: that of the window, or the one after.
    pub counts_in: u32,
    /// The window.
    pub window: TrainWindow,
    /// What it started from.
    pub replica_in: Option<Digest>,
    /// Digest of what came of it.
    pub outcome: Digest,
    /// It had nothing to do with the others of its round, was given before, or is like another: no lot is needed.
    pub suspected: bool,
}

/// A window that others train again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was committed to.
    pub claim: Claim,
    /// What decides who verifies it.
    pub beacon: Beacon,
    /// What those say who have answered.
    pub opinions: BTreeMap<NodeId, Opinion>,
}

/// What a verifier says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opinion {
    /// It came to an outcome with this digest.
    Came(Digest),
    /// What the window started from can be had from nobody.
    Withheld,
    /// It could not, or took too long.
    GaveUp,
}

/// Somebody who trains a window again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    /// Which.
    pub window: WindowName,
    /// The round in which it was asked.
    pub asked_in: u32,
    /// When, ms.
    pub since_ms: u64,
}

/// How a check ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// This is what comes of the window.
    Is(Digest),
    /// Nobody can tell.
    Open(Unverified),
}

impl Check {
    fn came(&self) -> impl Iterator<Item = (NodeId, Digest)> {
        self.opinions.iter().filter_map(|(node, opinion)| match opinion {
            Opinion::Came(outcome) => Some((*node, *outcome)),
            Opinion::Withheld | Opinion::GaveUp => None,
        })
    }

    fn withheld(&self) -> usize {
        self.opinions.values().filter(|opinion| **opinion == Opinion::Withheld).count()
    }

    /// Whether somebody came to something else than was committed to, or could not have what the window started from.
    pub fn is_in_doubt(&self) -> bool {
        self.withheld() > 0 || self.came().any(|(_, outcome)| outcome != self.claim.outcome)
    }

    /// How many verifiers it takes beside those who have answered and `open`, who have not.
    fn wanted(&self, open: usize) -> usize {
        let answered = self.opinions.values().filter(|opinion| **opinion != Opinion::GaveUp).count();
        let panel = if self.is_in_doubt() { PANEL } else { 1 };
        panel.saturating_sub(answered + open)
    }

    fn verdict(&self) -> Option<Verdict> {
        let mut votes: BTreeMap<Digest, usize> = BTreeMap::new();
        self.came().for_each(|(_, outcome)| *votes.entry(outcome).or_default() += 1);
        let undisputed = votes.len() == 1 && votes.contains_key(&self.claim.outcome) && self.withheld() == 0;
        if undisputed {
            return Some(Verdict::Is(self.claim.outcome));
        }
        if let Some((outcome, _)) = votes.iter().find(|(_, votes)| **votes >= MAJORITY) {
            return Some(Verdict::Is(*outcome));
        }
        let answered = votes.values().sum::<usize>() + self.withheld();
        let why = if self.withheld() >= MAJORITY { Unverified::Withheld } else { Unverified::Undecided };
        (answered >= PANEL).then_some(Verdict::Open(why))
    }
}

impl Verification {
    /// Takes those verifiers off what they do who are meant.
    fn release(&mut self, is_meant: impl Fn(&NodeId, &Verifier) -> bool) -> Vec<(NodeId, WindowName)> {
        let meant = self.verifiers.iter().filter(|(node, verifier)| is_meant(node, verifier));
        let meant: Vec<_> = meant.map(|(node, verifier)| (*node, verifier.window)).collect();
        meant.iter().for_each(|(node, _)| _ = self.verifiers.remove(node));
        meant
    }
}

impl Running {
    /// The window that a node trains again.
    pub(crate) fn verification_of(&self, node: &NodeId) -> Option<VerifyWindow> {
        let Verifier { window, asked_in, .. } = *self.verification.verifiers.get(node)?;
        let Claim { window: work, replica_in, .. } = &self.verification.checks.get(&window)?.claim;
        Some(VerifyWindow { asked_in, maker: window.1, window: work.clone().into(), replica_in: *replica_in })
    }

    /// Whether a node trains somebody's window again.
    pub(crate) fn is_verifying(&self, node: &NodeId) -> bool {
        self.verification.verifiers.contains_key(node)
    }

    /// A commitment was accepted, whose outcome has this digest.
    pub(crate) fn note_claim(&mut self, node: NodeId, commitment: &Commitment, outcome: Digest) {
        if self.description.plan.verified_in_1000 > 0 {
            let (window, replica_in) = (commitment.work.clone(), commitment.replica_in);
            let is_sealed = !matches!(self.phase, Phase::Training(_));
            let counts_in = self.round + u32::from(is_sealed);
            let claim = Claim { counts_in, window, replica_in, outcome, suspected: false };
            self.verification.undrawn.insert((commitment.work.round, node), claim);
        }
    }

    /// The round is sealed: what its contributors tell decides which of the windows are verified that were accepted in rounds before. If
    /// nobody tells anything, they wait for the next seal.
    /// Windows of `trusted` nodes are drawn more seldom.
    pub(crate) fn draw(
        &mut self,
        contributions: &BTreeMap<NodeId, Contribution>,
        trusted: &BTreeSet<NodeId>,
    ) {
        let told = contributions.iter().filter_map(|(node, given)| Some((*node, given.told?)));
        let told: Vec<_> = told.collect();
        self.note_told(told.iter().map(|(node, (round, _))| (*node, *round)));
        let secrets = told.iter().map(|(node, (_, secret))| (*node, *secret));
        let Some(beacon) = Beacon::of(&self.job, self.round, secrets) else { return };
        let (round, plan) = (self.round, &self.description.plan);
        let (cases, of_trusted) = (plan.verified_in_1000, plan.verified_of_trusted_in_1000());
        let Verification { undrawn, checks, .. } = &mut self.verification;
        undrawn.retain(|name, claim| {
            let is_drawn = claim.counts_in < round;
            let cases = if trusted.contains(&name.1) { of_trusted } else { cases };
            if is_drawn && (claim.suspected || beacon.in_1000(cases, &("window", *name))) {
                checks.insert(*name, Check { claim: claim.clone(), beacon, opinions: BTreeMap::new() });
            }
            !is_drawn
        });
    }

    fn verification_deadline(&self, since_ms: u64) -> u64 {
        since_ms.saturating_add(self.description.plan.contribution_deadline_ms.saturating_mul(2))
    }

    /// What comes of these windows is not settled any more.
    pub(crate) fn close_checks(
        &mut self,
        is_meant: impl Fn(&WindowName) -> bool,
        why: Unverified,
        events: &mut Vec<Event>,
    ) {
        self.release(|_, verifier| is_meant(&verifier.window), None, events);
        let job = self.job;
        self.verification.checks.retain(|window, _| {
            let (round, maker) = *window;
            if is_meant(window) {
                events.push(Event::WindowUnverified { job, round, maker, why });
            }
            !is_meant(window)
        });
    }

    /// Takes those verifiers off what they do who are meant; they `then` have said this, or nothing.
    pub(crate) fn release(
        &mut self,
        is_meant: impl Fn(&NodeId, &Verifier) -> bool,
        then: Option<Opinion>,
        events: &mut Vec<Event>,
    ) {
        let job = self.job;
        for (verifier, window) in self.verification.release(is_meant) {
            let (round, maker) = window;
            if let (Some(check), Some(opinion)) = (self.verification.checks.get_mut(&window), then) {
                check.opinions.insert(verifier, opinion);
            }
            events.push(Event::VerifierReleased { job, round, maker, verifier });
        }
    }

    /// A window had nothing to do with the others that the present round was made of, or too much.
    pub(crate) fn suspect(&mut self, window: WindowName) {
        if let Some(claim) = self.verification.undrawn.get_mut(&window) {
            claim.suspected = true;
        }
    }
}

impl State {
    /// Of `nodes`, who could train in a round, takes those that verify instead: as many as can be spared.
    pub(crate) fn appoint_verifiers(
        &mut self,
        nodes: &mut Vec<NodeId>,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) {
        let Some(running) = &mut self.running else { return };
        let needed = (running.description.plan.minimum_nodes as usize).max(nodes.len().div_ceil(2));
        let spare = nodes.len().saturating_sub(needed);
        let (job, asked_in) = (running.job, running.round);
        let Verification { checks, verifiers, .. } = &mut running.verification;
        let open = |window: &WindowName| verifiers.values().filter(|busy| busy.window == *window).count();
        // What is in doubt first; of the rest the newest, so that where there is not time for all there is enough for a panel.
        let mut pending: Vec<_> = checks.iter().collect();
        pending.sort_by_key(|((round, maker), check)| (check.opinions.is_empty(), Reverse(*round), *maker));
        let wanted: Vec<WindowName> = pending
            .into_iter()
            .flat_map(|(window, check)| std::iter::repeat_n(*window, check.wanted(open(window))))
            .take(spare)
            .collect();
        for window in wanted {
            let ((round, maker), check) = (window, &checks[&window]);
            let first =
                (check.beacon.draw(&("verifier", window, nodes.len() as u64)) % nodes.len() as u64) as usize;
            let is_fit = |at: &usize| nodes[*at] != maker && !check.opinions.contains_key(&nodes[*at]);
            let Some(at) = (first..nodes.len()).chain(0..first).find(is_fit) else { continue };
            let verifier = nodes.remove(at);
            verifiers.insert(verifier, Verifier { window, asked_in, since_ms: now_ms });
            events.push(Event::VerificationAsked { job, round, maker, verifier });
        }
    }

    /// A node has trained a window again, or could not have what it started from.
    pub(crate) fn verified(
        &mut self,
        node: NodeId,
        job: JobId,
        window: WindowName,
        opinion: Opinion,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let not_assigned = |why| Refusal::NotAssigned { node, why };
        let running = self.running.as_mut().filter(|running| running.job == job);
        let verification = &mut running.ok_or_else(|| not_assigned("that job does not run"))?.verification;
        let check = verification.checks.get_mut(&window);
        let check = check.ok_or_else(|| not_assigned("nobody verifies that window"))?;
        match check.opinions.get(&node) {
            Some(said) if *said == opinion => return Ok(()),
            Some(_) => return Err(Refusal::AnsweredOtherwise(node)),
            None => {}
        }
        if verification.verifiers.get(&node).is_none_or(|verifier| verifier.window != window) {
            return Err(not_assigned("others verify that window"));
        }
        verification.verifiers.remove(&node);
        check.opinions.insert(node, opinion);
        let (round, maker) = window;
        let outcome = match opinion {
            Opinion::Came(outcome) => Some((outcome, outcome == check.claim.outcome)),
            Opinion::Withheld | Opinion::GaveUp => None,
        };
        events.push(Event::VerdictGiven { job, round, maker, verifier: node, outcome });
        if let Some(verdict) = check.verdict() {
            self.conclude(window, verdict, events);
        }
        Ok(())
    }

    fn conclude(&mut self, window: WindowName, verdict: Verdict, events: &mut Vec<Event>) {
        let Some(running) = &mut self.running else { return };
        let Some(check) = running.verification.checks.remove(&window) else { return };
        running.release(|_, verifier| verifier.window == window, None, events);
        let (job, (round, maker)) = (running.job, window);
        let right = match verdict {
            Verdict::Is(outcome) => outcome,
            Verdict::Open(why) => {
                return events.push(Event::WindowUnverified { job, round, maker, why });
            }
        };
        let (stood, fell): (Vec<_>, Vec<_>) = check.came().partition(|(_, outcome)| *outcome == right);
        let verifiers: Vec<NodeId> = stood.into_iter().map(|(node, _)| node).collect();
        verifiers.iter().for_each(|node| self.credit(node, |account| account.verifications += 1));
        let committed = check.claim.outcome;
        if committed == right {
            self.credit(&maker, |account| account.verified += 1);
            events.push(Event::WindowVerified { job, round, maker, verifiers });
        } else {
            let kind = FaultKind::WrongWindow { window: round, committed, right, verifiers };
            self.convict(maker, kind, events);
        }
        for (node, said) in fell {
            self.convict(node, FaultKind::WrongVerdict { window: round, maker, said, right }, events);
        }
    }

    /// A node did what makes its word worth nothing: it is in quarantine, and what it gave to the present round is not used.
    fn convict(&mut self, node: NodeId, kind: FaultKind, events: &mut Vec<Event>) {
        let convictions = self.nodes.get(&node).map_or(0, |known| known.account.convictions);
        let rounds = QUARANTINE_ROUNDS << convictions.min(QUARANTINE_DOUBLINGS);
        self.credit(&node, |account| account.convictions += 1);
        self.fault(node, kind, events);
        let Some(running) = &mut self.running else { return };
        running.barred.insert(node, running.round.saturating_add(rounds));
        running.trails.remove(&node);
        running.leads.remove(&node);
        running.ahead.remove(&node);
        running.verification.undrawn.retain(|(_, maker), _| *maker != node);
        running.close_checks(|(_, maker)| *maker == node, Unverified::Convicted, events);
        running.withdraw(node);
        running.verification.checks.values_mut().for_each(|check| _ = check.opinions.remove(&node));
        match &mut running.phase {
            Phase::Waiting => {}
            Phase::Training(training) => {
                let reason = "work of its was found to be wrong".to_owned();
                training.set(&node, |_| true, SeatState::Failed(reason));
            }
            Phase::Aggregating(aggregating) => {
                let mut left = aggregating.contributions.clone();
                left.remove(&node);
                if left.is_empty() {
                    self.restart_round(Restart::NothingLeft, events);
                } else {
                    self.begin_aggregating(left, events);
                }
            }
            Phase::Evaluating(evaluating) => {
                for shard in &mut evaluating.shards {
                    let is_its = match shard {
                        ShardState::Open(holder) => *holder == Some(node),
                        ShardState::Done(score) => score.node == node,
                    };
                    if is_its {
                        *shard = ShardState::Open(None);
                        evaluating.progress_ms = None;
                    }
                }
            }
        }
    }

    /// Verifiers that are gone or take too long are not waited for, and what nobody could settle in time stays unverified.
    pub(crate) fn tend_verification(&mut self, now_ms: u64, events: &mut Vec<Event>) {
        let Some(running) = &mut self.running else { return };
        let nodes = &self.nodes;
        running.release(|node, _| nodes.get(node).is_none_or(|known| !known.live), None, events);
        let patience_ms = running.verification_deadline(0);
        let is_late = |verifier: &Verifier| now_ms >= verifier.since_ms.saturating_add(patience_ms);
        running.release(|_, verifier| is_late(verifier), Some(Opinion::GaveUp), events);
        let round = running.round;
        let is_over = |window: &WindowName| window.0.saturating_add(CHALLENGE_ROUNDS) < round;
        running.verification.undrawn.retain(|window, _| !is_over(window));
        let over: Vec<_> =
            running.verification.checks.keys().filter(|window| is_over(window)).copied().collect();
        for window in over {
            self.conclude(window, Verdict::Open(Unverified::Expired), events);
        }
        if let Some(running) = &mut self.running {
            running.close_rounds(events);
        }
    }

    /// Where too few others are left, those who verify are needed.
    pub(crate) fn call_verifiers_back(&mut self, events: &mut Vec<Event>) {
        let verifies = |running: &Running| !running.verification.verifiers.is_empty();
        if !self.running.as_ref().is_some_and(verifies) {
            return;
        }
        let there = self.eligible().len();
        let Some(running) = &mut self.running else { return };
        if there < running.description.plan.minimum_nodes as usize {
            running.release(|_, _| true, None, events);
        }
    }

    /// A verifier could not: another one is asked.
    pub(crate) fn give_up_verifying(&mut self, node: NodeId, events: &mut Vec<Event>) {
        if let Some(running) = &mut self.running {
            running.release(|verifier, _| *verifier == node, Some(Opinion::GaveUp), events);
        }
    }

    /// When the first verifier is not waited for any longer.
    pub(crate) fn verification_deadline_ms(&self) -> Option<u64> {
        let running = self.running.as_ref()?;
        let since_ms = running.verification.verifiers.values().map(|verifier| verifier.since_ms).min()?;
        Some(running.verification_deadline(since_ms))
    }
}
