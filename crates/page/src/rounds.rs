//! What became of the rounds that a node worked on, as far as the node itself can know.
//!
//! A contribution is *accepted* when the plan by which the node is to add up the round includes it, and the network then goes on from
//! that round; *rejected* when such a plan has all contributions but this one. A checkpoint that the node came to is accepted when
//! the network goes on from the same one, bit for bit. Where a node sees only sums of others, it does not know, and nothing is said.

use std::collections::VecDeque;

use serde::Serialize;
use zoo_content::Digest;
use zoo_protocol::{Commitment, Form, JobId, Keep, NodeId, Summand, Work};

/// Rounds that are remembered.
const ROUNDS_MAX: usize = 50;

/// What others made of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The node has not heard.
    Pending,
    /// It counts.
    Accepted,
    /// It does not.
    Rejected,
}

/// How many of which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub pending: u64,
    pub accepted: u64,
    pub rejected: u64,
}

impl Tally {
    /// One more of `new`, and one less of what it was before.
    fn moved(&mut self, old: Option<Verdict>, new: Verdict) {
        if let Some(old) = old {
            *self.of(old) -= 1;
        }
        *self.of(new) += 1;
    }

    fn of(&mut self, verdict: Verdict) -> &mut u64 {
        match verdict {
            Verdict::Pending => &mut self.pending,
            Verdict::Accepted => &mut self.accepted,
            Verdict::Rejected => &mut self.rejected,
        }
    }
}

/// One round of a job, as the node saw it.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    pub job: JobId,
    /// From 0.
    pub round: u32,
    /// Of the node's own window.
    pub tokens: u64,
    /// Its mean loss, nats per token.
    pub loss: Option<f64>,
    /// What became of the node's contribution.
    pub contribution: Option<Verdict>,
    /// What became of the checkpoint that the node came to.
    pub checkpoint: Option<Verdict>,
    /// By the latest plan, in which round the contribution is added up, and whether it is.
    #[serde(skip)]
    plan: Option<(u32, bool)>,
    #[serde(skip)]
    computed: Option<Digest>,
}

/// The latest rounds, and the totals of all.
#[derive(Debug, Default)]
pub struct Rounds {
    latest: VecDeque<Round>,
    pub contributions: Tally,
    pub checkpoints: Tally,
}

impl Rounds {
    /// The latest first.
    pub fn latest(&self) -> Vec<Round> {
        self.latest.iter().rev().cloned().collect()
    }

    /// The node has trained a window.
    pub fn trained(&mut self, commitment: &Commitment) {
        let place = self.place(commitment.work.job, commitment.work.round);
        let round = &mut self.latest[place];
        round.tokens = commitment.outcome.tokens;
        round.loss = Some(f64::from_bits(commitment.outcome.mean_loss_bits));
        round.plan = None;
        self.contributions.moved(round.contribution.replace(Verdict::Pending), Verdict::Pending);
    }

    /// The node has aggregated a round.
    pub fn aggregated(&mut self, job: JobId, round: u32, checkpoint: Digest) {
        let place = self.place(job, round);
        let round = &mut self.latest[place];
        round.computed = Some(checkpoint);
        self.checkpoints.moved(round.checkpoint.replace(Verdict::Pending), Verdict::Pending);
    }

    /// The node `me` is told what to do.
    pub fn works(&mut self, me: &NodeId, work: &Work) {
        match work {
            Work::Idle | Work::Verify(_) | Work::Benchmark(_) | Work::Tell(_) => {}
            Work::Train(window) => self.goes_on_from(window.job, window.round, &window.base),
            Work::Sum(work) => self.plans(me, work.job, work.round, &work.summands, false),
            Work::Aggregate(work) => {
                self.goes_on_from(work.job, work.round, &work.base);
                let has_all = work.summands.iter().all(|summand| summand.form == Form::Contribution);
                self.plans(me, work.job, work.round, &work.summands, has_all);
            }
            Work::Evaluate(work) => self.sealed(work.job, work.round, &work.checkpoint),
        }
    }

    /// The node is told what to keep.
    pub fn keeps(&mut self, keeps: &[Keep]) {
        keeps.iter().for_each(|keep| self.sealed(keep.job, keep.round, &keep.checkpoint));
    }

    fn plans(&mut self, me: &NodeId, job: JobId, round: u32, summands: &[Summand], has_all: bool) {
        for mine in self.latest.iter_mut().filter(|mine| mine.job == job && mine.tokens > 0) {
            let is_mine = |summand: &Summand| {
                summand.node == *me && summand.form == Form::Contribution && summand.round == mine.round
            };
            if summands.iter().any(is_mine) {
                mine.plan = Some((round, true));
            } else if has_all && mine.round == round {
                mine.plan = Some((round, false));
            }
        }
    }

    /// `round` begins with `base`.
    fn goes_on_from(&mut self, job: JobId, round: u32, base: &Digest) {
        if let Some(before) = round.checked_sub(1) {
            self.sealed(job, before, base);
        }
    }

    /// `round` has ended with `checkpoint`.
    fn sealed(&mut self, job: JobId, round: u32, checkpoint: &Digest) {
        let verdict = |holds| if holds { Verdict::Accepted } else { Verdict::Rejected };
        for mine in self.latest.iter_mut().filter(|mine| mine.job == job) {
            if let (Some(Verdict::Pending), Some((_, is_in))) =
                (mine.contribution, mine.plan.filter(|(planned, _)| *planned == round))
            {
                self.contributions.moved(mine.contribution.replace(verdict(is_in)), verdict(is_in));
            }
            if let (Some(Verdict::Pending), Some(computed), true) =
                (mine.checkpoint, mine.computed, mine.round == round)
            {
                let verdict = verdict(computed == *checkpoint);
                self.checkpoints.moved(mine.checkpoint.replace(verdict), verdict);
            }
        }
    }

    /// Where a round is, which may be new.
    fn place(&mut self, job: JobId, round: u32) -> usize {
        let known = self.latest.iter().position(|known| known.job == job && known.round == round);
        known.unwrap_or_else(|| {
            if self.latest.len() == ROUNDS_MAX {
                self.latest.pop_front();
            }
            self.latest.push_back(Round {
                job,
                round,
                tokens: 0,
                loss: None,
                contribution: None,
                checkpoint: None,
                plan: None,
                computed: None,
            });
            self.latest.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use zoo_protocol::{Aggregate, Evaluate, NodeKey, Profile, Share, TrainWindow, WindowOutcome};

    use super::*;

    const ME: NodeId = NodeId([1; 32]);
    const OTHER: NodeId = NodeId([2; 32]);

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn window(round: u32, base: &str) -> TrainWindow {
        TrainWindow {
            network: NodeId([42; 32]),
            job: digest("job"),
            round,
            program: digest("program"),
            profile: Profile::F32Exact,
            base: digest(base),
            data: digest("data"),
            first_step: 0,
            share: Share { first_sequence: 0, sequences_per_step: 1, inner_steps: 4 },
            lead: None,
            ahead_steps: 0,
            kept: None,
            reveals: None,
        }
    }

    fn commitment(round: u32) -> Commitment {
        let outcome = WindowOutcome {
            tokens: 100,
            replica_out: digest("replica"),
            steps_root: digest("steps"),
            steps: 4,
            updates: Vec::new(),
            mean_loss_bits: 2.5f64.to_bits(),
        };
        Commitment::new(window(round, "base"), None, outcome, &NodeKey::from_seed([1; 32]))
    }

    fn aggregate(round: u32, summands: &[(NodeId, u32, Form)]) -> Work {
        let summand = |(node, round, form): &(NodeId, u32, Form)| Summand {
            node: *node,
            form: *form,
            round: *round,
            tokens: 100,
            first_vnode: 0,
            updates: Vec::new(),
        };
        Work::Aggregate(Aggregate {
            job: digest("job"),
            round,
            attempt: 0,
            program: digest("program"),
            base: digest("base"),
            data: digest("data"),
            norm_limits: Vec::new(),
            summands: summands.iter().map(summand).collect(),
            step: 4,
            amendments: Vec::new(),
            is_last: false,
        })
    }

    fn verdicts(rounds: &Rounds) -> Vec<(u32, Option<Verdict>, Option<Verdict>)> {
        rounds.latest().iter().map(|round| (round.round, round.contribution, round.checkpoint)).collect()
    }

    const PENDING: Option<Verdict> = Some(Verdict::Pending);
    const ACCEPTED: Option<Verdict> = Some(Verdict::Accepted);
    const REJECTED: Option<Verdict> = Some(Verdict::Rejected);

    #[test]
    fn a_round_counts_when_the_network_goes_on_from_it() {
        let mut rounds = Rounds::default();
        rounds.trained(&commitment(0));
        rounds.works(&ME, &aggregate(0, &[(ME, 0, Form::Contribution), (OTHER, 0, Form::Contribution)]));
        rounds.aggregated(digest("job"), 0, digest("checkpoint"));
        assert_eq!(verdicts(&rounds), [(0, PENDING, PENDING)]);
        rounds.works(&ME, &Work::Idle);
        assert_eq!(verdicts(&rounds), [(0, PENDING, PENDING)], "silence says nothing");
        rounds.works(&ME, &Work::Train(window(1, "checkpoint")));
        assert_eq!(verdicts(&rounds), [(0, ACCEPTED, ACCEPTED)]);
        let one = Tally { accepted: 1, ..Tally::default() };
        assert_eq!((rounds.contributions, rounds.checkpoints), (one, one));
        rounds.works(&ME, &Work::Train(window(1, "another")));
        assert_eq!(verdicts(&rounds), [(0, ACCEPTED, ACCEPTED)], "what was settled stays");
    }

    #[test]
    fn whoever_is_left_out_or_comes_to_other_bits_sees_it() {
        let mut rounds = Rounds::default();
        rounds.trained(&commitment(0));
        rounds.works(&ME, &aggregate(0, &[(ME, 0, Form::Contribution), (OTHER, 0, Form::Contribution)]));
        // Those who were to add it refused it: another attempt, without.
        rounds.works(&ME, &aggregate(0, &[(OTHER, 0, Form::Contribution)]));
        rounds.aggregated(digest("job"), 0, digest("mine"));
        let evaluate = Evaluate {
            job: digest("job"),
            round: 0,
            program: digest("program"),
            checkpoint: digest("theirs"),
            data: digest("data"),
            shard: 0,
            shards: 1,
        };
        rounds.works(&ME, &Work::Evaluate(evaluate));
        assert_eq!(verdicts(&rounds), [(0, REJECTED, REJECTED)]);
        // The round begins again, and this time it counts.
        rounds.trained(&commitment(0));
        rounds.works(&ME, &aggregate(0, &[(ME, 0, Form::Contribution)]));
        rounds.aggregated(digest("job"), 0, digest("theirs"));
        let keep =
            Keep { job: digest("job"), round: 0, checkpoint: digest("theirs"), ask: 1, challenge: None };
        rounds.keeps(&[keep]);
        assert_eq!(verdicts(&rounds), [(0, ACCEPTED, ACCEPTED)]);
        assert_eq!(rounds.contributions, Tally { accepted: 1, ..Tally::default() }, "counted once");
    }

    #[test]
    fn a_late_contribution_counts_in_the_next_round() {
        let mut rounds = Rounds::default();
        rounds.trained(&commitment(0));
        rounds.works(&ME, &aggregate(1, &[(ME, 0, Form::Contribution), (OTHER, 1, Form::Contribution)]));
        assert_eq!(verdicts(&rounds), [(0, PENDING, None)]);
        rounds.works(&ME, &Work::Train(window(2, "next")));
        assert_eq!(verdicts(&rounds), [(0, ACCEPTED, None)]);
    }

    #[test]
    fn who_sees_only_sums_of_others_knows_nothing_and_memory_is_bounded() {
        let mut rounds = Rounds::default();
        for round in 0..200 {
            rounds.trained(&commitment(round));
            rounds.works(&ME, &aggregate(round, &[(OTHER, round, Form::Sum(9))]));
        }
        assert_eq!(rounds.contributions, Tally { pending: 200, ..Tally::default() });
        assert_eq!(rounds.latest().len(), ROUNDS_MAX);
        assert_eq!(rounds.latest()[0].round, 199);
    }
}
