//! Windows are trained again, by others, and compared with `==`.
//!
//! Who is checked, and by whom, is drawn when nothing can be changed any more: when a round is sealed, from the secrets that its
//! contributors tell, which they had pledged with their windows of the round before ([`Beacon`]); the lot falls on windows of that round
//! before, and on those that had nothing to do with the others of their round, were given before or are alike (`zoo_update::Agreement`) without any lot. A verifier is told the window and what it started from, and not what came of it; it says the digest of what it comes to.
//!
//! - The first verifier comes to what was committed to: the window is verified.
//! - It does not: more are asked, until one outcome is [`LEAD`] voices ahead of every other, the maker's among them, or those who have not
//!   been asked could change nothing. That is what is right. If it is another outcome than the maker's, the maker is convicted; verifiers who came to anything
//!   else are at fault.
//! - There is none, or not enough could train it: it stays unverified, and nobody is accused.
//!
//! A verifier has no part in the round while it trains, so what is drawn costs the network that part of its work and no time: as many nodes
//! verify as the round can spare, the others' windows wait for the next.
//!
//! After the last round of a job nobody has a next window to tell a secret with, and is asked for it ([`crate::Settling`]).
//!
//! Who is convicted is in quarantine for some rounds, and for twice as many each time; what it gave to the present round is not used, and
//! what it gave to rounds that are not final yet is taken back ([`crate::OpenRound`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{Beacon, Commitment, JobId, NodeId, TrainWindow, VerifyWindow};

use crate::{
    Contribution, Event, FaultKind, Phase, Refusal, Restart, Running, SeatState, ShardState, State,
    Unverified,
};

/// An outcome is right when it has so many more voices than any other. Where a part q of all nodes tell the same lie, that lie gets so far ahead with a probability of
/// `1 / (1 + ((1 - q) / q)^LEAD)` from a tie (a sequential test; Wald, 1945): 0.6 % of three in ten, and 1.5 % of a third. Where there are fewer
/// nodes the majority of all decides.
const LEAD: usize = 6;
/// So many who could not have what a window started from settle that it cannot be had.
const WITHHELD: usize = 2;
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

/// Those who could be asked what comes of a window.
#[derive(Debug, Default)]
struct Silent(BTreeSet<NodeId>);

impl Silent {
    /// How many of them have not said anything of it.
    fn about(&self, (_, maker): &WindowName, check: &Check) -> usize {
        let has_spoken = |id: &&NodeId| *id == maker || check.opinions.contains_key(*id);
        self.0.len() - self.0.iter().filter(has_spoken).count()
    }
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
        self.withheld() > 0 || self.is_contested()
    }

    /// The outcome with the most voices, its maker's among them; how many these are, and how many the next has.
    fn leader(&self) -> (Digest, usize, usize) {
        let mut voices = BTreeMap::from([(self.claim.outcome, 1)]);
        self.came().for_each(|(_, outcome)| *voices.entry(outcome).or_insert(0) += 1);
        let mut most: Vec<(usize, Digest)> =
            voices.into_iter().map(|(outcome, count)| (count, outcome)).collect();
        most.sort_unstable_by(|a, b| b.cmp(a));
        (most[0].1, most[0].0, most.get(1).map_or(0, |(count, _)| *count))
    }

    /// Whether somebody came to something else than was committed to.
    fn is_contested(&self) -> bool {
        self.came().any(|(_, outcome)| outcome != self.claim.outcome)
    }

    /// How many verifiers it takes beside those who have answered and `open`, who have not; at most `silent` more could.
    fn wanted(&self, open: usize, silent: usize) -> usize {
        let (_, first, second) = self.leader();
        let settles = match (self.is_contested(), first - second) {
            (false, _) => 1,
            // One alone lies, as it seems: if all others agree it takes no more.
            (true, lead) if second < 2 => (LEAD - lead).min(silent.saturating_sub(lead) / 2 + 1),
            // Several tell the same lie: there will be more of them.
            (true, _) => (2 * LEAD).min(silent),
        };
        settles.saturating_sub(open)
    }

    /// What comes of it, when `silent` could still say something.
    fn verdict(&self, silent: usize) -> Option<Verdict> {
        let (leader, first, second) = self.leader();
        let lead = first - second;
        if !self.is_contested() {
            let (came, withheld) = (self.came().count(), self.withheld());
            let cannot_be_had = withheld >= WITHHELD && withheld > came;
            return match () {
                () if cannot_be_had => Some(Verdict::Open(Unverified::Withheld)),
                () if came > withheld => Some(Verdict::Is(leader)),
                () => None,
            };
        }
        match lead >= LEAD || lead > silent {
            true => Some(Verdict::Is(leader)),
            false => (silent == 0).then_some(Verdict::Open(Unverified::Undecided)),
        }
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
        let round = self.round;
        self.draw_windows(beacon, |claim| claim.counts_in < round, trusted);
    }

    /// Decides which of the windows that are meant are verified. Those of `trusted` nodes are drawn more seldom.
    pub(crate) fn draw_windows(
        &mut self,
        beacon: Beacon,
        is_meant: impl Fn(&Claim) -> bool,
        trusted: &BTreeSet<NodeId>,
    ) {
        let plan = &self.description.plan;
        let (cases, of_trusted) = (plan.verified_in_1000, plan.verified_of_trusted_in_1000());
        let Verification { undrawn, checks, .. } = &mut self.verification;
        undrawn.retain(|name, claim| {
            let is_drawn = is_meant(claim);
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
    /// Some of those who could have been asked about a contested window may be gone: what was open may be settled now.
    pub(crate) fn settle_contested(&mut self, events: &mut Vec<Event>) {
        let checks = self.running.iter().flat_map(|running| &running.verification.checks);
        let contested: Vec<WindowName> =
            checks.filter(|(_, check)| check.is_contested()).map(|(window, _)| *window).collect();
        contested.into_iter().for_each(|window| self.settle_window(window, events));
    }

    /// Of so many who could train in a round, how many can be spared to verify.
    pub(crate) fn to_spare(&self, nodes: usize) -> usize {
        let Some(running) = &self.running else { return 0 };
        // Where lies are being settled, liars are about: the sooner that is over the better.
        let is_contested = running.verification.checks.values().any(Check::is_contested);
        let trains = nodes.div_ceil(if is_contested { 4 } else { 2 });
        nodes.saturating_sub(trains.max(running.description.plan.minimum_nodes as usize))
    }

    /// Takes those out of `nodes` that verify: `spare` of them at most.
    pub(crate) fn appoint_verifiers(
        &mut self,
        nodes: &mut Vec<NodeId>,
        spare: usize,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) {
        let silent = self.silent();
        let Some(running) = &mut self.running else { return };
        let (job, asked_in) = (running.job, running.round);
        let Verification { checks, verifiers, .. } = &mut running.verification;
        let open = |window: &WindowName| verifiers.values().filter(|busy| busy.window == *window).count();
        // What is in doubt first, the oldest before it expires; of the rest the newest, so that where there is not time for all there is enough for some.
        let mut pending: Vec<_> = checks.iter().collect();
        pending.sort_by_key(|((round, maker), check)| match check.opinions.is_empty() {
            false => (false, *round, *maker),
            true => (true, u32::MAX - *round, *maker),
        });
        let wanted: Vec<WindowName> = pending
            .into_iter()
            .flat_map(|(window, check)| {
                std::iter::repeat_n(*window, check.wanted(open(window), silent.about(window, check)))
            })
            .take(spare)
            .collect();
        for window in wanted {
            let ((round, maker), check) = (window, &checks[&window]);
            if nodes.is_empty() {
                break;
            }
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
        self.settle_window(window, events);
        Ok(())
    }

    /// Those who could be asked what comes of a window.
    fn silent(&self) -> Silent {
        let everybody = !self.can_do_without_newcomers();
        let Some(running) = &self.running else { return Silent::default() };
        let could = |id: &NodeId| !running.is_barred(id) && (everybody || !self.is_newcomer(id));
        Silent(self.live().map(|(id, _)| *id).filter(could).collect())
    }

    /// Whether it can be told by now what comes of a window.
    fn settle_window(&mut self, window: WindowName, events: &mut Vec<Event>) {
        let check = self.running.as_ref().and_then(|running| running.verification.checks.get(&window));
        let verdict = check.and_then(|check| check.verdict(self.silent().about(&window, check)));
        if let Some(verdict) = verdict {
            self.conclude(window, verdict, events);
        }
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
            Phase::Settling(_) => self.drop_from_settling(&node, events),
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
        // While the last windows are settled there is nothing else that they could be needed for.
        let is_settling = |running: &Running| matches!(running.phase, Phase::Settling(_));
        let verifies =
            |running: &Running| !running.verification.verifiers.is_empty() && !is_settling(running);
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
