//! The phase in which everyone aggregates the sealed contributions.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{JobId, NodeId};

use crate::round::winner;
use crate::{
    Checkpoint, Contribution, Event, Failure, FaultKind, Missed, Phase, Refusal, Restart, Running, State,
};

/// Every live node in good standing (a *voter*) aggregates the same contributions.
///
/// The phase ends when every voter has answered, or at the deadline. The checkpoint that most
/// nodes reported is the round's; an answer counts also if its node was lost since, but the round
/// finishes only if a live node holds the checkpoint.
///
/// # When a contribution is dropped
///
/// "I cannot fetch it" is a claim that can be wrong or a lie, so it is believed only if
///
/// - the contributor says so itself; or
/// - the contributor is lost, and no voter has aggregated, that is, none is known to hold a copy; or
/// - more than half of the voters say so.
///
/// Otherwise the claimant alone is excused: it will find the finished checkpoint at its holders.
/// When a contribution is dropped everybody aggregates the rest, as a new attempt. Every
/// attempt has fewer contributions than the one before, so attempts are bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregating {
    /// Which attempt at this round.
    pub attempt: u32,
    /// Since when there are voters to wait for; `None` while there are none.
    pub since_ms: Option<u64>,
    /// What is aggregated.
    pub contributions: BTreeMap<NodeId, Contribution>,
    /// What nodes answered to this attempt.
    pub answers: BTreeMap<NodeId, Answer>,
}

/// What a node answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It aggregated, and holds this checkpoint.
    Checkpoint(Digest),
    /// It cannot fetch the contributions of these nodes.
    Missing(BTreeSet<NodeId>),
    /// Its work failed.
    Failed,
}

impl Aggregating {
    /// The contributions to drop, by the rule above.
    fn to_be_dropped(&self, voters: &[NodeId], is_live: impl Fn(&NodeId) -> bool) -> Vec<NodeId> {
        let mut claims: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut copied = false;
        for voter in voters {
            match self.answers.get(voter) {
                Some(Answer::Missing(missing)) => {
                    missing.iter().for_each(|contributor| *claims.entry(*contributor).or_default() += 1);
                }
                Some(Answer::Checkpoint(_)) => copied = true,
                Some(Answer::Failed) | None => {}
            }
        }
        let says_so_itself = |contributor: &NodeId| matches!(self.answers.get(contributor), Some(Answer::Missing(missing)) if missing.contains(contributor));
        claims
            .into_iter()
            .filter(|(contributor, claims)| {
                says_so_itself(contributor) || (!is_live(contributor) && !copied) || 2 * claims > voters.len()
            })
            .map(|(contributor, _)| contributor)
            .collect()
    }

    /// Reported checkpoints and who reported them.
    fn ballots(&self) -> BTreeMap<Digest, Vec<NodeId>> {
        let mut ballots: BTreeMap<Digest, Vec<NodeId>> = BTreeMap::new();
        for (node, answer) in &self.answers {
            if let Answer::Checkpoint(checkpoint) = answer {
                ballots.entry(*checkpoint).or_default().push(*node);
            }
        }
        ballots
    }
}

/// Which attempt a report of aggregation is about.
pub(crate) struct Attempt {
    pub(crate) job: JobId,
    pub(crate) round: u32,
    pub(crate) attempt: u32,
}

impl State {
    pub(crate) fn begin_aggregating(
        &mut self,
        contributions: BTreeMap<NodeId, Contribution>,
        events: &mut Vec<Event>,
    ) {
        let Some(running) = &mut self.running else { return };
        let attempt = running.next_attempt;
        running.next_attempt += 1;
        events.push(Event::RoundSealed {
            job: running.job,
            round: running.round,
            attempt,
            contributors: contributions.keys().copied().collect(),
            tokens: contributions.values().map(|contribution| contribution.tokens).sum(),
        });
        let answers = BTreeMap::new();
        running.phase = Phase::Aggregating(Aggregating { attempt, since_ms: None, contributions, answers });
    }

    pub(crate) fn aggregated(
        &mut self,
        node: NodeId,
        about: &Attempt,
        checkpoint: Digest,
    ) -> Result<(), Refusal> {
        // Late, but it adds a holder.
        if let Some(agreed) = self.checkpoints.get(&about.job, about.round) {
            let agreed = agreed.digest;
            if agreed != checkpoint {
                return Err(Refusal::OtherCheckpoint { node, reported: checkpoint, agreed });
            }
            self.checkpoints.add_holder(&about.job, about.round, node);
            return Ok(());
        }
        let aggregating = self.attempt_of(node, about)?;
        match aggregating.answers.get(&node) {
            Some(Answer::Checkpoint(before)) if *before == checkpoint => Ok(()),
            Some(Answer::Checkpoint(_)) => Err(Refusal::AnsweredOtherwise(node)),
            // It has found what it missed, or a second try went well.
            Some(Answer::Missing(_) | Answer::Failed) | None => {
                aggregating.answers.insert(node, Answer::Checkpoint(checkpoint));
                Ok(())
            }
        }
    }

    pub(crate) fn missing(
        &mut self,
        node: NodeId,
        about: &Attempt,
        contributor: NodeId,
    ) -> Result<(), Refusal> {
        let aggregating = self.attempt_of(node, about)?;
        if !aggregating.contributions.contains_key(&contributor) {
            return Err(Refusal::NotAssigned { node, why: "the round has no contribution of that node" });
        }
        match aggregating.answers.get_mut(&node) {
            Some(Answer::Checkpoint(_)) => return Err(Refusal::AnsweredOtherwise(node)),
            Some(Answer::Missing(missing)) => _ = missing.insert(contributor),
            Some(Answer::Failed) | None => {
                aggregating.answers.insert(node, Answer::Missing(BTreeSet::from([contributor])));
            }
        }
        Ok(())
    }

    fn attempt_of(&mut self, node: NodeId, about: &Attempt) -> Result<&mut Aggregating, Refusal> {
        let not_assigned = |why| Refusal::NotAssigned { node, why };
        let running = self.running.as_mut().ok_or_else(|| not_assigned("no job runs"))?;
        if (about.job, about.round) != (running.job, running.round) {
            return Err(not_assigned("it is for another job or round"));
        }
        if running.is_barred(&node) {
            return Err(not_assigned("it is barred from this round"));
        }
        match &mut running.phase {
            Phase::Aggregating(aggregating) if aggregating.attempt == about.attempt => Ok(aggregating),
            _ => Err(not_assigned("it is for another attempt")),
        }
    }

    pub(crate) fn advance_aggregating(&mut self, now_ms: u64, events: &mut Vec<Event>) -> bool {
        let voters = self.eligible();
        let Some(running) = &mut self.running else { return false };
        let Phase::Aggregating(aggregating) = &mut running.phase else { return false };
        if voters.is_empty() {
            aggregating.since_ms = None;
            return false;
        }
        let since_ms = *aggregating.since_ms.get_or_insert(now_ms);
        if self.drop_missing(&voters, events) {
            return true;
        }
        let Some(running) = &self.running else { return false };
        let Phase::Aggregating(aggregating) = &running.phase else { return false };
        let everyone_answered = voters.iter().all(|voter| aggregating.answers.contains_key(voter));
        if !everyone_answered && now_ms < running.deadline_after(since_ms) {
            return false;
        }
        self.tally(&voters, events);
        true
    }

    fn drop_missing(&mut self, voters: &[NodeId], events: &mut Vec<Event>) -> bool {
        let Some(Running { phase: Phase::Aggregating(aggregating), .. }) = &self.running else {
            return false;
        };
        let dropped = aggregating.to_be_dropped(voters, |node| self.is_live(node));
        if dropped.is_empty() {
            return false;
        }
        let mut left = aggregating.contributions.clone();
        for contributor in dropped {
            left.remove(&contributor);
            self.miss(contributor, Missed::Unavailable, events);
        }
        if left.is_empty() {
            self.restart_round(Restart::NothingLeft, events);
        } else {
            self.begin_aggregating(left, events);
        }
        true
    }

    fn tally(&mut self, voters: &[NodeId], events: &mut Vec<Event>) {
        let Some(running) = &self.running else { return };
        let Phase::Aggregating(aggregating) = &running.phase else { return };
        let round = running.round;
        let ballots = aggregating.ballots();
        if ballots.is_empty() {
            return self.restart_round(Restart::NotAggregated, events);
        }
        let votes = ballots.iter().flat_map(|(checkpoint, nodes)| nodes.iter().map(move |_| *checkpoint));
        let Some(agreed) = winner(votes) else {
            // Who could not aggregate might tip the scales next time.
            let has_voted = |voter| matches!(aggregating.answers.get(voter), Some(Answer::Checkpoint(_)));
            if !voters.iter().all(has_voted) {
                return self.restart_round(Restart::Tie, events);
            }
            let checkpoints = ballots.into_iter().collect();
            return self.fail_job(Failure::Disagreement { round, checkpoints }, events);
        };
        let contributions = aggregating.contributions.clone();
        for (&reported, nodes) in ballots.iter().filter(|(checkpoint, _)| **checkpoint != agreed) {
            for &node in nodes {
                self.fault(node, FaultKind::Disagreement { reported, agreed }, events);
            }
        }
        let holders = ballots[&agreed].clone();
        if holders.iter().any(|holder| self.is_live(holder)) {
            self.finish_round(agreed, holders, contributions, events);
        } else {
            self.restart_round(Restart::HoldersLost, events);
        }
    }

    fn finish_round(
        &mut self,
        checkpoint: Digest,
        holders: Vec<NodeId>,
        contributions: BTreeMap<NodeId, Contribution>,
        events: &mut Vec<Event>,
    ) {
        for (node, contribution) in &contributions {
            self.credit(node, |account| {
                account.rounds += 1;
                account.tokens += contribution.tokens;
            });
        }
        for holder in &holders {
            self.credit(holder, |account| account.aggregations += 1);
        }
        let tokens: u64 = contributions.values().map(|contribution| contribution.tokens).sum();
        self.tokens += tokens;
        let Some(running) = &mut self.running else { return };
        running.tokens += tokens;
        let Running { job, round, tokens, .. } = *running;
        let record = Checkpoint { digest: checkpoint, holders: holders.iter().copied().collect() };
        self.checkpoints.record(job, round, record);
        events.push(Event::RoundFinished { job, round, checkpoint, holders, tokens });
        self.end_round(checkpoint, events);
    }
}
