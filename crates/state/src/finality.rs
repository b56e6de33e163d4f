//! Which rounds are final, and what is taken back out of those that are not.
//!
//! A round is open from its end until it is settled what comes of every window that counted in it: until no lot can fall on one any more,
//! and none is being trained again. Rounds become final in order. What a node gave to open rounds is taken back when it is convicted:
//! the next outer step adds what each of these rounds would have come to without, less what it came to ([`Amendment`]). So a conviction costs the
//! others an addition and none of their work; whoever is convicted on purpose holds up nobody.
//!
//! It is the same as if the contribution had not been there up to what others made of it meanwhile: the outer step is linear in the
//! mean, its momentum included, and windows that were trained from parameters with it in them stay as they are.
//!
//! What it takes to do a round again is with those who took its outer step, for as long as a round can be open. Where most of them do not have
//! it the contribution stays, and the journal says so.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zoo_protocol::{Amendment, Form, NodeId, Summand};

use crate::aggregation::Attempt;
use crate::limits::MAX_WORK_BYTES;
use crate::{
    Aggregating, Answer, Contribution, Event, Gathering, Phase, Refusal, Running, State, Unverified,
};

/// What a round that is not final was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRound {
    /// The norm that its updates were clipped to.
    pub norm_limits: Vec<u64>,
    /// How its contributions came together.
    pub gathering: Gathering,
    /// What counted.
    pub contributions: BTreeMap<NodeId, Contribution>,
    /// Of these, what counted together as one.
    pub alike: Vec<NodeId>,
    /// And what was taken back.
    pub withdrawn: BTreeSet<NodeId>,
}

/// Earlier rounds that the outer step amends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amends {
    /// Which.
    pub rounds: BTreeSet<u32>,
    /// Voters that cannot have what it takes.
    pub unamendable: BTreeSet<NodeId>,
}

impl OpenRound {
    /// What is said of it to who takes it back, bytes, at most.
    fn wire_bytes(&self) -> usize {
        2 * self.contributions.values().map(Contribution::wire_bytes).sum::<usize>()
    }

    fn summands_of(&self, makers: &BTreeSet<NodeId>) -> Vec<Summand> {
        let summand = |maker: &NodeId| {
            let Contribution { round, tokens, updates, .. } = self.contributions.get(maker)?;
            let (form, updates) = (Form::Contribution, updates.clone());
            Some(Summand { node: *maker, form, round: *round, tokens: *tokens, first_vnode: 0, updates })
        };
        makers.iter().filter_map(summand).collect()
    }

    fn amendment(&self, round: u32, makers: &BTreeSet<NodeId>) -> Amendment {
        let vnodes = self.norm_limits.len();
        Amendment {
            round,
            norm_limits: self.norm_limits.clone(),
            summands: self.gathering.summands(round, &self.gathering.top, 0..vnodes, &self.contributions),
            alike: self.alike.clone(),
            withdrawn: self.summands_of(&self.withdrawn),
            withdraws: self.summands_of(makers),
        }
    }
}

impl Running {
    /// Rounds from the first on out of which nothing is taken back any more.
    pub fn final_rounds(&self) -> u32 {
        let ended = self.round + u32::from(matches!(self.phase, Phase::Evaluating(_)));
        self.open.first_key_value().map_or(ended, |(round, _)| *round)
    }

    /// The present round has ended, made of this.
    pub(crate) fn open_round(&mut self, round: OpenRound) {
        if self.description.plan.verified_in_1000 > 0 {
            self.open.insert(self.round, round);
        }
    }

    /// What the node gave to open rounds is to be taken back.
    pub(crate) fn withdraw(&mut self, node: NodeId) {
        for (round, open) in &self.open {
            if open.contributions.contains_key(&node) && !open.withdrawn.contains(&node) {
                self.withdrawals.entry(*round).or_default().insert(node);
            }
        }
    }

    /// The rounds that the next outer step amends: the oldest, as far as what is said of them fits beside these contributions.
    pub(crate) fn to_be_amended(&self, contributions: &BTreeMap<NodeId, Contribution>) -> Option<Amends> {
        let mut bytes: usize = contributions.values().map(Contribution::wire_bytes).sum();
        let mut rounds = BTreeSet::new();
        for round in self.withdrawals.keys() {
            let with_it = bytes + self.open[round].wire_bytes();
            if with_it <= MAX_WORK_BYTES {
                bytes = with_it;
                rounds.insert(*round);
            }
        }
        (!rounds.is_empty()).then(|| Amends { rounds, unamendable: BTreeSet::new() })
    }

    /// What whoever takes the outer step is told of them, in order.
    pub(crate) fn amendments(&self, amends: &Amends) -> Vec<Amendment> {
        let of = |round: &u32| Some(self.open.get(round)?.amendment(*round, self.withdrawals.get(round)?));
        amends.rounds.iter().filter_map(of).collect()
    }

    /// What was to be taken back out of these rounds stays.
    fn give_up_amending(&mut self, is_meant: impl Fn(u32) -> bool, events: &mut Vec<Event>) {
        let job = self.job;
        self.withdrawals.retain(|&round, makers| {
            if is_meant(round) {
                let stays = |node: &NodeId| Event::ContributionWithdrawn {
                    job,
                    round,
                    node: *node,
                    withdrawn_in: None,
                };
                events.extend(makers.iter().map(stays));
            }
            !is_meant(round)
        });
    }

    /// The job is over: what is not settled by then is not settled any more.
    pub(crate) fn leave_unsettled(&mut self, events: &mut Vec<Event>) {
        self.close_checks(|_| true, Unverified::JobOver, events);
        self.give_up_amending(|_| true, events);
    }

    /// Rounds become final of which all windows are settled, and nothing is to be taken back.
    pub(crate) fn close_rounds(&mut self, events: &mut Vec<Event>) {
        // Who took part has what it was made of for so long.
        let oldest = self.round.saturating_sub(AMENDED_WITHIN);
        self.give_up_amending(|round| round < oldest, events);
        while let Some((round, _)) = self.open.first_key_value() {
            let counts = |counts_in: u32| counts_in == *round;
            let is_open = self.withdrawals.contains_key(round)
                || self.verification.undrawn.values().any(|claim| counts(claim.counts_in))
                || self.verification.checks.values().any(|check| counts(check.claim.counts_in));
            if is_open {
                break;
            }
            self.open.pop_first();
        }
    }
}

/// A round is amended within so many after it, or not at all.
pub const AMENDED_WITHIN: u32 = crate::CHALLENGE_ROUNDS + 2;

impl State {
    /// The outer step of the present round has amended these.
    pub(crate) fn amended(&mut self, rounds: BTreeSet<u32>, events: &mut Vec<Event>) {
        for round in rounds {
            let Some(running) = &mut self.running else { return };
            let (job, withdrawn_in) = (running.job, Some(running.round));
            let makers = running.withdrawals.remove(&round).unwrap_or_default();
            if let Some(open) = running.open.get_mut(&round) {
                open.withdrawn.extend(&makers);
            }
            for node in makers {
                self.credit(&node, |account| account.withdrawn += 1);
                events.push(Event::ContributionWithdrawn { job, round, node, withdrawn_in });
            }
        }
    }

    /// A node cannot have what the amendments take, from anybody.
    pub(crate) fn unamendable(&mut self, node: NodeId, about: &Attempt) -> Result<(), Refusal> {
        let aggregating = self.attempt_of(node, about)?;
        let Aggregating { amends, gathering, answers, .. } = aggregating;
        let is_asked = gathering.is_voter(&node) && gathering.are_there(&gathering.top);
        let amends = amends.as_mut().filter(|_| is_asked);
        let amends = amends.ok_or(Refusal::NotAssigned { node, why: "it is not to amend a round" })?;
        amends.unamendable.insert(node);
        answers.entry(node).or_insert(Answer::Failed);
        Ok(())
    }

    /// More than half of those who take the outer step cannot have what the amendment takes: they go on without.
    pub(crate) fn drop_amendment(&mut self, voters: &[NodeId], events: &mut Vec<Event>) -> bool {
        let Some(running) = &mut self.running else { return false };
        let Phase::Aggregating(aggregating) = &running.phase else { return false };
        let Some(amends) = &aggregating.amends else { return false };
        let claimants = voters.iter().filter(|voter| amends.unamendable.contains(voter)).count();
        if 2 * claimants <= voters.len() {
            return false;
        }
        let amended = amends.rounds.clone();
        let contributions = aggregating.contributions.clone();
        running.give_up_amending(|round| amended.contains(&round), events);
        self.begin_aggregating(contributions, events);
        true
    }
}
