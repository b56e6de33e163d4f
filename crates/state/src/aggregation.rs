//! The phase in which the sealed contributions become the next checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{JobId, NodeId, VNodeUpdate};
use zoo_update::norm_limit;

use crate::finality::Amends;
use crate::gathering::COMMITTEE;
use crate::round::winner;
use crate::{
    Checkpoint, Contribution, Event, Failure, FaultKind, Gathering, Missed, OpenRound, Phase, Refusal,
    Restart, Running, State, SumState,
};

/// Contributions come together over the partial sums of a [`Gathering`], then the *voters* (every live node in good standing, or the
/// committee's) take the outer step.
///
/// The phase ends when every voter has answered, or at the deadline if by then three live nodes (or all that are there) hold a
/// checkpoint; if not, it is put off up to three times, and where only a committee votes, others take the place of those who
/// are silent or could not; then two copies are enough, and with one the round starts again. The checkpoint that most nodes reported is the round's; an answer counts also if its node was
/// lost since, but the round finishes only if a live node holds the checkpoint. Who was lost and came back says again
/// what it holds: its disk may be another.
///
/// # When a contribution is dropped
///
/// "I cannot fetch it" is a claim that can be wrong or a lie, so it is believed only if
///
/// - the contributor says so itself; or
/// - the contributor is lost, and no voter has aggregated, that is, none is known to hold a copy; or
/// - more than half of the voters say so; or, in a tree, two nodes that were to add it.
///
/// So is "it is not what it must be", by the last of these rules. Whether it is follows from the digests that the contributor
/// signed, so honest nodes agree, and where most are honest nobody else's word counts. The contributor is then at fault.
/// Nor is a checkpoint believed for which no more nodes stand than refuse something in it: the round starts again.
///
/// Otherwise the claimant alone is excused: it will find the finished checkpoint at its holders, and a sum of its
/// goes to another node.
/// When a contribution is dropped everybody aggregates the rest, as a new attempt. Every
/// attempt has fewer contributions than the one before, so attempts are bounded.
///
/// What has nothing to do with the other contributions, or was given in a round before, is no fault: the outer step leaves it out
/// (`zoo_update::Agreement`, `zoo_update::Recurrence`), voters say so beside the checkpoint, nobody is credited with it, and the window is trained
/// again for certain ([`crate::Verification`]). So are the windows of contributions that are alike; these count together as one.
///
/// # When a sum is made again
///
/// When its maker was lost before it was there, failed, or kept everybody waiting; or when who adds it further cannot fetch it or
/// cannot use it. No bit depends on who makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregating {
    /// Which attempt at this round.
    pub attempt: u32,
    /// Since when there are voters to wait for, or when a sum was last there or asked for again; `None` while there are none.
    pub since_ms: Option<u64>,
    /// How often the deadline was put off since then, because too little had come.
    pub moves: u32,
    /// Voters that have kept everybody waiting: nobody waits for them any longer.
    pub silent: BTreeSet<NodeId>,
    /// What is aggregated.
    pub contributions: BTreeMap<NodeId, Contribution>,
    /// The norm that updates of each VNode are clipped to: the median of what is said of them.
    pub norm_limits: Vec<u64>,
    /// The partial sums, and who takes the outer step.
    pub gathering: Gathering,
    /// Contributions that nodes of the tree cannot fetch, and which nodes say so.
    pub claims: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// What voters answered to this attempt.
    pub answers: BTreeMap<NodeId, Answer>,
    /// Contributions that nodes refuse to add, and why each of them does; they count as claims and answers as well.
    pub refusals: BTreeMap<NodeId, BTreeMap<NodeId, String>>,
    /// Contributions that did not count whole in the checkpoints of voters.
    pub doubted: BTreeMap<NodeId, Doubted>,
    /// Earlier rounds, out of which something is taken back.
    pub amends: Option<Box<Amends>>,
}

/// A contribution that did not count whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubted {
    /// Voters that left it out.
    pub left_out: BTreeSet<NodeId>,
    /// Voters that found it to be like another, and let it count as a part.
    pub alike: BTreeSet<NodeId>,
}

/// The deadline is put off so often before the round restarts, or finishes with what there is.
const MOVES_MAX: u32 = 3;
/// So many nodes of a tree have to say that a contribution is missing.
pub(crate) const CLAIMS: usize = 2;

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
    /// The contributions to drop, by the rule above; `there` are the nodes that could add them.
    fn to_be_dropped(
        &self,
        voters: &[NodeId],
        there: usize,
        is_live: impl Fn(&NodeId) -> bool,
    ) -> BTreeSet<NodeId> {
        let of_the_tree = self.claims.iter().filter(|(contributor, nodes)| {
            nodes.contains(*contributor)
                || (!is_live(contributor) && nodes.iter().any(|node| !self.refuses(node, contributor)))
                || nodes.len() >= CLAIMS.min(there)
        });
        let of_the_tree = of_the_tree.map(|(contributor, _)| *contributor);
        let mut claims: BTreeMap<NodeId, usize> = BTreeMap::new();
        let (mut copied, mut unfetchable) = (false, BTreeSet::new());
        for voter in voters {
            match self.answers.get(voter) {
                Some(Answer::Missing(missing)) => {
                    missing.iter().for_each(|contributor| *claims.entry(*contributor).or_default() += 1);
                    unfetchable.extend(missing.iter().filter(|maker| !self.refuses(voter, maker)).copied());
                }
                Some(Answer::Checkpoint(_)) => copied = true,
                Some(Answer::Failed) | None => {}
            }
        }
        let says_so_itself = |contributor: &NodeId| matches!(self.answers.get(contributor), Some(Answer::Missing(missing)) if missing.contains(contributor));
        claims
            .into_iter()
            .filter(|(contributor, claims)| {
                says_so_itself(contributor)
                    || (!is_live(contributor) && !copied && unfetchable.contains(contributor))
                    || 2 * claims > voters.len()
            })
            .map(|(contributor, _)| contributor)
            .chain(of_the_tree)
            .collect()
    }

    /// When late sums are given to others, or the phase ends.
    pub(crate) fn deadline_ms(&self, patience_ms: u64) -> Option<u64> {
        let since_ms = self.since_ms?;
        if self.gathering.are_there(&self.gathering.top) {
            return Some(since_ms.saturating_add(patience_ms.saturating_mul(u64::from(self.moves) + 1)));
        }
        let share = u128::from(patience_ms) * u128::from(self.moves + 1) / u128::from(MOVES_MAX + 1);
        Some(since_ms.saturating_add(share as u64))
    }

    /// Voters from whom no checkpoint is to be expected.
    fn useless(&self) -> BTreeSet<NodeId> {
        let gave_up = |answer: &Answer| !matches!(answer, Answer::Checkpoint(_));
        let could_not = self.answers.iter().filter(|(_, answer)| gave_up(answer)).map(|(node, _)| *node);
        could_not.chain(self.silent.iter().copied()).collect()
    }

    /// The contributions of which more than half of these voters say so. All who are honest say the same.
    fn doubted_by(&self, voters: &[NodeId], say_so: impl Fn(&Doubted) -> &BTreeSet<NodeId>) -> Vec<NodeId> {
        let are_most = |nodes: &BTreeSet<NodeId>| {
            2 * voters.iter().filter(|voter| nodes.contains(voter)).count() > voters.len()
        };
        let doubted = self.doubted.iter().filter(|(_, doubted)| are_most(say_so(doubted)));
        doubted.map(|(maker, _)| *maker).collect()
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

fn norm_limits(contributions: &BTreeMap<NodeId, Contribution>) -> Vec<u64> {
    let norm = |vnode: usize| {
        move |contribution: &Contribution| contribution.updates.get(vnode).map_or(0, |update| update.norm)
    };
    let vnodes = contributions.values().next().map_or(0, |contribution| contribution.updates.len());
    (0..vnodes).map(|vnode| norm_limit(contributions.values().map(norm(vnode)))).collect()
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
        let gathering = Gathering::plan(running.description.plan.topology, &contributions, &self.nodes);
        let amends = running.to_be_amended(&contributions).map(Box::new);
        running.phase = Phase::Aggregating(Aggregating {
            attempt,
            since_ms: None,
            moves: 0,
            silent: BTreeSet::new(),
            norm_limits: norm_limits(&contributions),
            contributions,
            gathering,
            claims: BTreeMap::new(),
            answers: BTreeMap::new(),
            refusals: BTreeMap::new(),
            doubted: BTreeMap::new(),
            amends,
        });
    }

    pub(crate) fn aggregated(
        &mut self,
        node: NodeId,
        about: &Attempt,
        checkpoint: Digest,
        left_out: &[NodeId],
        alike: &[NodeId],
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
        if !aggregating.gathering.is_voter(&node) {
            return Err(Refusal::NotAssigned { node, why: "others take the outer step of this round" });
        }
        if left_out.iter().chain(alike).any(|maker| !aggregating.contributions.contains_key(maker)) {
            return Err(Refusal::Invalid("who is left out or alike has contributed nothing".into()));
        }
        match aggregating.answers.get(&node) {
            Some(Answer::Checkpoint(before)) if *before == checkpoint => Ok(()),
            Some(Answer::Checkpoint(_)) => Err(Refusal::AnsweredOtherwise(node)),
            // It has found what it missed, or a second try went well.
            Some(Answer::Missing(_) | Answer::Failed) | None => {
                aggregating.answers.insert(node, Answer::Checkpoint(checkpoint));
                for maker in left_out {
                    aggregating.doubted.entry(*maker).or_default().left_out.insert(node);
                }
                for maker in alike {
                    aggregating.doubted.entry(*maker).or_default().alike.insert(node);
                }
                Ok(())
            }
        }
    }

    /// A node has added part of a round.
    pub(crate) fn summed(
        &mut self,
        node: NodeId,
        about: &Attempt,
        sum: u32,
        sums: &[VNodeUpdate],
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let aggregating = self.attempt_of(node, about)?;
        let not_assigned = |why| Refusal::NotAssigned { node, why };
        let Aggregating { contributions, gathering, .. } = &mut *aggregating;
        let slot =
            gathering.sums.get_mut(sum as usize).ok_or_else(|| not_assigned("there is no such sum"))?;
        match &slot.state {
            SumState::Done(_, before) if before == sums => return Ok(()),
            SumState::Done(..) => return Err(Refusal::OtherSum { node, sum }),
            // Whose sum was given to another node may still be the first.
            SumState::Open(with) if *with == Some(node) || slot.excused.contains(&node) => {}
            SumState::Open(_) => return Err(not_assigned("the sum is with another node")),
        }
        let vnodes = slot.first_vnode as usize..(slot.first_vnode + slot.vnodes) as usize;
        let expected =
            contributions.values().next().and_then(|given| given.updates.get(vnodes)).unwrap_or_default();
        let names =
            |updates: &[VNodeUpdate]| updates.iter().map(|update| update.vnode.clone()).collect::<Vec<_>>();
        if names(sums) != names(expected) || sums.iter().any(|sum| sum.bytes == 0) {
            return Err(Refusal::Invalid(format!("sum {sum} has other VNodes than its contributions")));
        }
        slot.state = SumState::Done(node, sums.to_vec());
        (aggregating.since_ms, aggregating.moves) = (Some(now_ms), 0);
        let Attempt { job, round, .. } = *about;
        let bytes = sums.iter().map(|sum| sum.bytes).sum();
        self.credit(&node, |account| account.aggregations += 1);
        events.push(Event::PartSummed { job, round, sum, node, bytes });
        Ok(())
    }

    /// A node cannot fetch what `maker` made for its work.
    pub(crate) fn missing(&mut self, node: NodeId, about: &Attempt, maker: NodeId) -> Result<(), Refusal> {
        let aggregating = self.attempt_of(node, about)?;
        let item = aggregating.item_of(&node, |made_by, _| made_by == maker)?;
        aggregating.claim(node, &[item])
    }

    pub(crate) fn attempt_of(&mut self, node: NodeId, about: &Attempt) -> Result<&mut Aggregating, Refusal> {
        let not_assigned = |why| Refusal::NotAssigned { node, why };
        if !self.counts(&node) {
            return Err(not_assigned("it has given nothing to any round yet"));
        }
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
        let there = self.eligible();
        let Some(running) = &mut self.running else { return false };
        let patience_ms = running.description.plan.contribution_deadline_ms;
        let Phase::Aggregating(aggregating) = &mut running.phase else { return false };
        if there.is_empty() {
            aggregating.since_ms = None;
            return false;
        }
        aggregating.since_ms.get_or_insert(now_ms);
        let (job, round) = (running.job, running.round);
        let useless = aggregating.useless();
        for sum in aggregating.gathering.staff(&there, &useless, round.into(), &self.nodes) {
            let SumState::Open(node) = aggregating.gathering.sums[sum as usize].state else { continue };
            events.push(Event::PartMoved { job, round, sum, node });
        }
        let voters: Vec<NodeId> =
            there.iter().copied().filter(|node| aggregating.gathering.is_voter(node)).collect();
        let is_over = aggregating.deadline_ms(patience_ms).is_some_and(|deadline_ms| deadline_ms <= now_ms);
        if self.drop_missing(&voters, there.len(), events) || self.drop_amendment(&voters, events) {
            return true;
        }
        let Some(Running { phase: Phase::Aggregating(aggregating), .. }) = &mut self.running else {
            return false;
        };
        if !aggregating.gathering.are_there(&aggregating.gathering.top) {
            if is_over {
                self.move_late_sums(events);
            }
            return is_over;
        }
        let has_answered =
            |voter: &NodeId| aggregating.answers.contains_key(voter) || aggregating.silent.contains(voter);
        let everyone_answered = voters.iter().all(has_answered);
        if !everyone_answered && !is_over {
            return false;
        }
        let holds = |node: &&NodeId| matches!(aggregating.answers.get(*node), Some(Answer::Checkpoint(_)));
        let copies = there.iter().filter(holds).count();
        if everyone_answered || copies >= COMMITTEE.min(there.len()) {
            self.tally(&voters, now_ms, events);
        } else if aggregating.moves == MOVES_MAX {
            // One copy may be gone already, and nobody has noticed.
            if copies < 2.min(there.len()) {
                self.restart_round(Restart::NotAggregated, events);
            } else {
                self.tally(&voters, now_ms, events);
            }
        } else {
            aggregating.moves += 1;
            let silent = voters.iter().filter(|voter| !aggregating.answers.contains_key(voter));
            aggregating.silent.extend(silent.filter(|_| aggregating.gathering.committee.is_some()));
        }
        true
    }

    /// Nothing has come for long: whoever could add something now is excused, so that others do.
    fn move_late_sums(&mut self, events: &mut Vec<Event>) {
        let Some(Running { phase: Phase::Aggregating(aggregating), .. }) = &mut self.running else { return };
        if aggregating.moves == MOVES_MAX {
            return self.restart_round(Restart::NotAggregated, events);
        }
        aggregating.moves += 1;
        let gathering = &mut aggregating.gathering;
        for at in 0..gathering.sums.len() {
            let SumState::Open(Some(late)) = gathering.sums[at].state else { continue };
            if gathering.are_there(&gathering.sums[at].items) {
                gathering.sums[at].excused.insert(late);
            }
        }
    }

    fn drop_missing(&mut self, voters: &[NodeId], there: usize, events: &mut Vec<Event>) -> bool {
        let Some(Running { phase: Phase::Aggregating(aggregating), .. }) = &self.running else {
            return false;
        };
        let dropped = aggregating.to_be_dropped(voters, there, |node| self.is_live(node));
        if dropped.is_empty() {
            return false;
        }
        let mut left = aggregating.contributions.clone();
        let verdict = |node: &NodeId| aggregating.verdict(node, voters, there);
        let verdicts: Vec<Option<String>> = dropped.iter().map(verdict).collect();
        for (contributor, verdict) in dropped.into_iter().zip(verdicts) {
            left.remove(&contributor);
            match verdict {
                Some(reason) => self.fault(contributor, FaultKind::Refused { reason }, events),
                None => self.miss(contributor, Missed::Unavailable, events),
            }
        }
        if left.is_empty() {
            self.restart_round(Restart::NothingLeft, events);
        } else {
            self.begin_aggregating(left, events);
        }
        true
    }

    fn tally(&mut self, voters: &[NodeId], now_ms: u64, events: &mut Vec<Event>) {
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
        if ballots[&agreed].len() <= aggregating.judges() {
            return self.restart_round(Restart::Tie, events);
        }
        let mut contributions = aggregating.contributions.clone();
        let (norm_limits, gathering) = (aggregating.norm_limits.clone(), aggregating.gathering.clone());
        let amended = aggregating.amends.as_ref().map(|amends| amends.rounds.clone()).unwrap_or_default();
        let left_out = aggregating.doubted_by(&ballots[&agreed], |doubted| &doubted.left_out);
        let alike = aggregating.doubted_by(&ballots[&agreed], |doubted| &doubted.alike);
        for (&reported, nodes) in ballots.iter().filter(|(checkpoint, _)| **checkpoint != agreed) {
            for &node in nodes {
                self.fault(node, FaultKind::Disagreement { reported, agreed }, events);
            }
        }
        let suspects = left_out.iter().chain(&alike);
        let suspects: Vec<_> = suspects.map(|maker| (contributions[maker].round, *maker)).collect();
        if let Some(running) = &mut self.running {
            suspects.into_iter().for_each(|window| running.suspect(window));
        }
        for maker in left_out {
            contributions.remove(&maker);
            self.miss(maker, Missed::Outlier, events);
        }
        let holders = ballots[&agreed].clone();
        if holders.iter().any(|holder| self.is_live(holder)) {
            self.amended(amended, events);
            if let Some(running) = &mut self.running {
                let (contributions, withdrawn) = (contributions.clone(), BTreeSet::new());
                running.open_round(OpenRound { norm_limits, gathering, contributions, alike, withdrawn });
            }
            self.finish_round(agreed, holders, contributions, now_ms, events);
        } else {
            self.restart_round(Restart::HoldersLost, events);
        }
    }

    fn finish_round(
        &mut self,
        checkpoint: Digest,
        holders: Vec<NodeId>,
        contributions: BTreeMap<NodeId, Contribution>,
        now_ms: u64,
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
        let record = Checkpoint::new(checkpoint, holders.iter().copied().collect());
        let step = running.step + u64::from(running.tempo.inner_steps);
        self.checkpoints.record(&running.description, job, round, record);
        events.push(Event::RoundFinished { job, round, checkpoint, holders, tokens, step });
        self.end_round(checkpoint, now_ms, events);
    }
}
