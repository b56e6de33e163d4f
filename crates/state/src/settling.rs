//! The last windows of a job are settled before it ends.
//!
//! A window is drawn with a secret that its node tells with its next one; after the last there is no next one. So when the last round of a job is sealed, and nothing
//! of its windows can be changed any more, those who gave something to it are asked for the secrets that they pledged with it ([`zoo_protocol::Tell`]).
//! What they tell draws among all windows that are left; those of whoever tells nothing are drawn for certain, so that silence is of no use.
//! Everybody who has time then verifies, since nobody has anything else to do, and what was convicted has no part in the last outer step, which also takes back what it
//! gave to rounds before ([`crate::OpenRound`]). Where nobody can verify any more, or after [`SETTLED_WITHIN`] deadlines, the job ends with what is settled.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zoo_protocol::{Beacon, JobId, NodeId, Secret, Tell};

use crate::{Contribution, Event, Missed, Phase, Refusal, Restart, Running, State};

/// The last windows are settled within so many deadlines of a contribution, or not at all.
pub const SETTLED_WITHIN: u64 = 8;

/// The last round is sealed, and its windows are drawn and verified before it is aggregated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settling {
    /// Since when.
    pub since_ms: u64,
    /// What the last round will be made of.
    pub contributions: BTreeMap<NodeId, Contribution>,
    /// What those who gave it have told, and the round of the window with which it was pledged.
    pub told: BTreeMap<NodeId, (u32, Secret)>,
    /// Whether the windows are drawn: nobody is asked to tell anything any more.
    pub is_drawn: bool,
}

impl Running {
    /// Whether no round follows the present one, if it comes to these contributions.
    pub(crate) fn ends_with(&self, contributions: &BTreeMap<NodeId, Contribution>) -> bool {
        let given: u64 = contributions.values().map(|contribution| contribution.tokens).sum();
        let tokens = self.tokens.saturating_add(given);
        let is_budget_used = self.description.tokens_max.is_some_and(|most| tokens >= most);
        self.step_after() >= self.description.plan.steps || is_budget_used
    }

    /// The secret that a node is asked for.
    pub(crate) fn to_tell(&self, node: &NodeId) -> Option<Tell> {
        let Phase::Settling(settling) = &self.phase else { return None };
        let is_asked = !settling.is_drawn
            && settling.contributions.contains_key(node)
            && !settling.told.contains_key(node);
        let (round, _) = self.trails.get(node).filter(|_| is_asked)?.pledges.last_key_value()?;
        Some(Tell { network: self.description.network, job: self.job, round: *round })
    }

    /// When the settling goes on although somebody has not answered.
    pub(crate) fn settling_deadline_ms(&self, settling: &Settling) -> u64 {
        let deadlines = if settling.is_drawn { SETTLED_WITHIN } else { 1 };
        let patience_ms = self.description.plan.contribution_deadline_ms.saturating_mul(deadlines);
        settling.since_ms.saturating_add(patience_ms)
    }

    /// Draws among all windows that are left.
    fn draw_the_last(&mut self, trusted: &BTreeSet<NodeId>) {
        let Phase::Settling(settling) = &mut self.phase else { return };
        settling.is_drawn = true;
        let told = settling.told.clone();
        let secrets = told.iter().map(|(node, (_, secret))| (*node, *secret));
        let beacon = Beacon::of(&self.job, self.round, secrets);
        let beacon = beacon.unwrap_or_else(|| Beacon::foreseen(&self.job, self.round));
        for ((_, maker), claim) in &mut self.verification.undrawn {
            claim.suspected |= !told.contains_key(maker);
        }
        self.draw_windows(beacon, |_| true, trusted);
        self.note_told(told.iter().map(|(node, (round, _))| (*node, *round)));
    }
}

impl State {
    /// The round is sealed. Before the last one is aggregated, all windows are settled.
    pub(crate) fn settle_or_aggregate(
        &mut self,
        contributions: BTreeMap<NodeId, Contribution>,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) {
        let Some(running) = &mut self.running else { return };
        let is_verified = running.description.plan.verified_in_1000 > 0;
        if !is_verified || !running.ends_with(&contributions) {
            return self.begin_aggregating(contributions, events);
        }
        let (job, round) = (running.job, running.round);
        let told = BTreeMap::new();
        running.phase = Phase::Settling(Settling { since_ms: now_ms, contributions, told, is_drawn: false });
        events.push(Event::JobSettling { job, round });
        // There is no round that they could still count in.
        self.end_late(|_, _| Some(Missed::Deadline), events);
    }

    /// A node tells a secret that it has pledged.
    pub(crate) fn told(
        &mut self,
        node: NodeId,
        job: JobId,
        round: u32,
        secret: Secret,
    ) -> Result<(), Refusal> {
        let not_assigned = |why| Refusal::NotAssigned { node, why };
        let running = self.running.as_mut().filter(|running| running.job == job);
        let running = running.ok_or_else(|| not_assigned("that job does not run"))?;
        if let Phase::Settling(settling) = &running.phase
            && settling.told.get(&node) == Some(&(round, secret))
        {
            return Ok(());
        }
        if running.to_tell(&node).is_none_or(|asked| asked.round != round) || running.is_barred(&node) {
            return Err(not_assigned("it is not asked for that secret"));
        }
        let pledge = running.trails.get(&node).and_then(|trail| trail.pledges.get(&round));
        if pledge != Some(&secret.pledge()) {
            return Err(Refusal::Invalid("the secret is not the one that was pledged".into()));
        }
        if let Phase::Settling(settling) = &mut running.phase {
            settling.told.insert(node, (round, secret));
        }
        Ok(())
    }

    pub(crate) fn advance_settling(&mut self, now_ms: u64, events: &mut Vec<Event>) -> bool {
        let awaited = self.eligible();
        let Some(running) = &self.running else { return false };
        let Phase::Settling(settling) = &running.phase else { return false };
        let is_over = now_ms >= running.settling_deadline_ms(settling);
        if !settling.is_drawn {
            if !is_over && awaited.iter().any(|node| running.to_tell(node).is_some()) {
                return false;
            }
            let trusted = self.trusted_at(now_ms);
            if let Some(running) = &mut self.running {
                running.draw_the_last(&trusted);
            }
            return true;
        }
        self.settle_contested(events);
        if !matches!(self.running, Some(Running { phase: Phase::Settling(_), .. })) {
            return true;
        }
        let mut free = self.eligible();
        let spare = free.len();
        self.appoint_verifiers(&mut free, spare, now_ms, events);
        let Some(running) = &mut self.running else { return false };
        let Phase::Settling(settling) = &mut running.phase else { return true };
        let verification = &running.verification;
        let is_stuck = verification.verifiers.is_empty() && !free.is_empty();
        if !is_over && !is_stuck && !verification.checks.is_empty() {
            return false;
        }
        let contributions = std::mem::take(&mut settling.contributions);
        running.release(|_, _| true, None, events);
        self.begin_aggregating(contributions, events);
        true
    }

    /// What a convicted node gave to the last round is not used.
    pub(crate) fn drop_from_settling(&mut self, node: &NodeId, events: &mut Vec<Event>) {
        let Some(Running { phase: Phase::Settling(settling), .. }) = &mut self.running else { return };
        settling.contributions.remove(node);
        settling.told.remove(node);
        if settling.contributions.is_empty() {
            self.restart_round(Restart::NothingLeft, events);
        }
    }
}
