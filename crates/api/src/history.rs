//! What the events say of every job: its rounds with their times, and what was measured.
//!
//! The state forgets how it came to be; people ask how it went. So this is folded from the journal's events, from the first one on, and
//! bounded: of very many jobs the newest are known, and of very many rounds the newest.

use std::collections::{BTreeMap, VecDeque};

use zoo_content::Digest;
use zoo_protocol::{JobId, NodeId, RoundPlan};
use zoo_state::{Event, FaultKind, Stop};

/// Jobs that are known; of more, the newest.
const JOBS_MAX: usize = 1024;
/// Rounds of a job that are known; of more, the newest.
const ROUNDS_MAX: usize = 4096;
/// Contributions of a round that are listed one by one.
const CONTRIBUTIONS_MAX: usize = 256;

/// Every job that is known, in the order in which they were accepted.
#[derive(Debug, Default)]
pub struct History {
    jobs: BTreeMap<JobId, JobRecord>,
    /// By the number of the event that accepted it.
    order: BTreeMap<u64, JobId>,
    trust: Trust,
}

/// What came of windows that were trained again, in all jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Windows that others came to the same with.
    pub verified: u64,
    /// Windows of which nobody could tell; nobody is accused of them.
    pub unverified: u64,
    /// Windows, and verdicts on those of others, that turned out to be wrong.
    pub convictions: u64,
}

/// What is known of a job.
#[derive(Clone, Debug)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// Number of the event that accepted it.
    pub sequence: u64,
    /// Its name.
    pub name: String,
    /// How its rounds run.
    pub plan: RoundPlan,
    /// When it was accepted.
    pub accepted_ms: u64,
    /// When its first round began.
    pub started_ms: Option<u64>,
    /// When it was over.
    pub ended_ms: Option<u64>,
    /// Number of the event that ended it.
    pub ended_sequence: Option<u64>,
    /// Where it stands.
    pub standing: Standing,
    /// Its rounds, finished or not.
    pub rounds: VecDeque<RoundRecord>,
    /// Rounds that are finished.
    pub finished_rounds: u32,
    /// Inner steps of those.
    pub steps: u64,
    /// Tokens of those.
    pub tokens: u64,
    /// The newest checkpoint.
    pub checkpoint: Option<Digest>,
    /// The latest evaluation, bits per byte.
    pub bits_per_byte: Option<f64>,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Others run before it.
    Queued,
    /// It runs, or waits for nodes.
    Running,
    /// It was paused.
    Paused,
    /// It is over.
    Finished,
    /// It will not go on by itself, and why.
    Failed(String),
    /// It ended before its last step, and why.
    Stopped(Stop),
}

/// One round.
#[derive(Clone, Debug)]
pub struct RoundRecord {
    /// Which, from 0.
    pub round: u32,
    /// Times it was started.
    pub starts: u32,
    /// When its last start was.
    pub started_ms: u64,
    /// When its contributions were fixed.
    pub sealed_ms: Option<u64>,
    /// When it ended.
    pub finished_ms: Option<u64>,
    /// Inner steps of the job after it.
    pub step: Option<u64>,
    /// Nodes that took part.
    pub participants: u32,
    /// Tokens of the contributions.
    pub tokens: u64,
    /// Sum of the losses, each times its tokens.
    loss_tokens: f64,
    /// Bytes of updates.
    pub bytes: u64,
    /// Contributions, in the order in which they came; the first of very many.
    pub contributions: Vec<ContributionRecord>,
    /// How many there are.
    pub contributed: u32,
    /// How many were missed.
    pub missed: u32,
    /// Its checkpoint.
    pub checkpoint: Option<Digest>,
    /// What its checkpoint was measured at, bits per byte.
    pub bits_per_byte: Option<f64>,
    /// And nats per token.
    pub held_out_loss: Option<f64>,
}

impl RoundRecord {
    /// Mean training loss, nats per token.
    pub fn loss(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.loss_tokens / self.tokens as f64)
    }
}

/// One contribution.
#[derive(Clone, Debug)]
pub struct ContributionRecord {
    /// Whose.
    pub node: NodeId,
    /// When.
    pub at_ms: u64,
    /// Tokens it was trained on.
    pub tokens: u64,
    /// Mean training loss, nats per token.
    pub loss: f64,
    /// Bytes of its updates.
    pub bytes: u64,
}

impl History {
    /// Jobs in the order in which they were accepted, from the one that event `from` accepted on.
    pub fn jobs_from(&self, from: u64) -> impl DoubleEndedIterator<Item = &JobRecord> {
        self.order.range(from..).filter_map(|(_, id)| self.jobs.get(id))
    }

    /// Every job, in the order in which they were accepted.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &JobRecord> {
        self.jobs_from(0)
    }

    /// One job.
    pub fn job(&self, id: &JobId) -> Option<&JobRecord> {
        self.jobs.get(id)
    }

    /// What came of windows that were trained again.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Takes in an event. They come in order, from the first one on.
    pub fn hear(&mut self, sequence: u64, at_ms: u64, event: &Event) {
        match event {
            Event::JobAccepted { job, name, plan, .. } => self.accept(sequence, at_ms, *job, name, plan),
            Event::RoundWaiting { job, .. } => self.change(job, |record| record.standing = Standing::Running),
            Event::JobPaused { job } => self.change(job, |record| record.standing = Standing::Paused),
            Event::JobResumed { job, .. } => self.change(job, |record| record.standing = Standing::Queued),
            Event::JobFinished { job, .. } => self.end(job, (sequence, at_ms), Standing::Finished),
            Event::JobFailed { job, why } => {
                self.end(job, (sequence, at_ms), Standing::Failed(why.to_string()))
            }
            Event::JobStopped { job, why, .. } => self.end(job, (sequence, at_ms), Standing::Stopped(*why)),
            Event::RoundStarted { job, round, start, shares, .. } => self.change(job, |record| {
                record.standing = Standing::Running;
                record.started_ms.get_or_insert(at_ms);
                record.rounds.retain(|known| known.round != *round);
                if record.rounds.len() >= ROUNDS_MAX {
                    record.rounds.pop_front();
                }
                record.rounds.push_back(RoundRecord::new(*round, *start, at_ms, shares.len() as u32));
            }),
            Event::ContributionAccepted { job, round, node, tokens, mean_loss_bits, bytes, .. } => {
                let loss = f64::from_bits(*mean_loss_bits);
                let given = ContributionRecord { node: *node, at_ms, tokens: *tokens, loss, bytes: *bytes };
                self.change_round(job, *round, |record| record.add(given));
            }
            Event::ContributionMissed { job, round, .. } => {
                self.change_round(job, *round, |record| record.missed += 1);
            }
            Event::RoundSealed { job, round, .. } | Event::JobSettling { job, round } => {
                self.change_round(job, *round, |record| _ = record.sealed_ms.get_or_insert(at_ms));
            }
            Event::RoundFinished { job, round, checkpoint, tokens, step, .. } => {
                self.change_round(job, *round, |record| {
                    record.finished_ms = Some(at_ms);
                    (record.step, record.checkpoint) = (Some(*step), Some(*checkpoint));
                });
                self.change(job, |record| {
                    (record.finished_rounds, record.steps, record.tokens) = (round + 1, *step, *tokens);
                    record.checkpoint = Some(*checkpoint);
                });
            }
            Event::EvaluationFinished { job, round, nats_bits, tokens, bits_per_byte_bits, .. } => {
                let bits_per_byte = f64::from_bits(*bits_per_byte_bits);
                let loss = f64::from_bits(*nats_bits) / (*tokens).max(1) as f64;
                self.change_round(job, *round, |record| {
                    (record.bits_per_byte, record.held_out_loss) = (Some(bits_per_byte), Some(loss));
                });
                self.change(job, |record| record.bits_per_byte = Some(bits_per_byte));
            }
            Event::WindowVerified { .. } => self.trust.verified += 1,
            Event::WindowUnverified { .. } => self.trust.unverified += 1,
            Event::Fault { kind: FaultKind::WrongWindow { .. } | FaultKind::WrongVerdict { .. }, .. } => {
                self.trust.convictions += 1
            }
            _ => {}
        }
    }

    fn accept(&mut self, sequence: u64, at_ms: u64, id: JobId, name: &str, plan: &RoundPlan) {
        // A job that failed or was stopped may be submitted again.
        if let Some(before) = self.jobs.remove(&id) {
            self.order.remove(&before.sequence);
        }
        if self.jobs.len() >= JOBS_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.jobs.remove(&oldest);
        }
        self.order.insert(sequence, id);
        self.jobs.insert(
            id,
            JobRecord {
                id,
                sequence,
                name: name.to_owned(),
                plan: plan.clone(),
                accepted_ms: at_ms,
                started_ms: None,
                ended_ms: None,
                ended_sequence: None,
                standing: Standing::Queued,
                rounds: VecDeque::new(),
                finished_rounds: 0,
                steps: 0,
                tokens: 0,
                checkpoint: None,
                bits_per_byte: None,
            },
        );
    }

    fn end(&mut self, job: &JobId, (sequence, at_ms): (u64, u64), standing: Standing) {
        self.change(job, |record| {
            (record.standing, record.ended_sequence, record.ended_ms) =
                (standing, Some(sequence), Some(at_ms));
        });
    }

    fn change(&mut self, job: &JobId, change: impl FnOnce(&mut JobRecord)) {
        if let Some(record) = self.jobs.get_mut(job) {
            change(record);
        }
    }

    fn change_round(&mut self, job: &JobId, round: u32, change: impl FnOnce(&mut RoundRecord)) {
        // What is said of a round is said of one of the latest.
        let rounds = self.jobs.get_mut(job).into_iter().flat_map(|record| record.rounds.iter_mut().rev());
        if let Some(record) = rounds.take(4).find(|record| record.round == round) {
            change(record);
        }
    }
}

impl RoundRecord {
    fn new(round: u32, starts: u32, started_ms: u64, participants: u32) -> Self {
        Self {
            round,
            starts,
            started_ms,
            sealed_ms: None,
            finished_ms: None,
            step: None,
            participants,
            tokens: 0,
            loss_tokens: 0.0,
            bytes: 0,
            contributions: Vec::new(),
            contributed: 0,
            missed: 0,
            checkpoint: None,
            bits_per_byte: None,
            held_out_loss: None,
        }
    }

    fn add(&mut self, given: ContributionRecord) {
        self.tokens += given.tokens;
        self.loss_tokens += given.loss * given.tokens as f64;
        self.bytes = self.bytes.saturating_add(given.bytes);
        self.contributed += 1;
        if self.contributions.len() < CONTRIBUTIONS_MAX {
            self.contributions.push(given);
        }
    }
}

#[cfg(test)]
mod tests {
    use zoo_protocol::Share;
    use zoo_state::Unverified;

    use super::*;

    fn accepted(job: JobId, name: &str) -> Event {
        let plan = RoundPlan {
            steps: 20,
            rhythm: RoundPlan::constant(10),
            sequences_per_step: 1,
            evaluate_every: 10,
            evaluation_shards: 1,
            minimum_nodes: 1,
            contribution_deadline_ms: 1,
            topology: Default::default(),
            overlap: false,
            verified_in_1000: 0,
            trust_discount: 4,
        };
        Event::JobAccepted { job, name: name.to_owned(), plan, ahead: 0 }
    }

    #[test]
    fn a_round_is_told_from_its_start_to_its_evaluation() {
        let (job, node, digest) = (Digest::of(b"job"), NodeId([7; 32]), Digest::of(b"other"));
        let share = Share { first_sequence: 0, sequences_per_step: 1, inner_steps: 10 };
        let contribution = |tokens, loss: f64| Event::ContributionAccepted {
            job,
            round: 0,
            node,
            commitment: digest,
            tokens,
            mean_loss_bits: loss.to_bits(),
            bytes: 50,
        };
        let events = [
            accepted(job, "one"),
            Event::RoundWaiting { job, round: 0, nodes: 0, minimum: 1 },
            Event::RoundStarted {
                job,
                round: 0,
                start: 1,
                base: digest,
                shares: vec![(node, share)],
                lead_steps: 0,
                ahead_steps: 0,
            },
            contribution(100, 3.0),
            contribution(300, 2.0),
            Event::RoundSealed { job, round: 0, attempt: 0, contributors: vec![node], tokens: 400 },
            Event::RoundFinished {
                job,
                round: 0,
                checkpoint: digest,
                holders: vec![],
                tokens: 400,
                step: 10,
            },
            Event::EvaluationFinished {
                job,
                round: 0,
                nats_bits: 50.0f64.to_bits(),
                tokens: 20,
                bytes: 40,
                bits_per_byte_bits: 1.8f64.to_bits(),
            },
            Event::JobStopped { job, checkpoint: Some(digest), tokens: 400, why: Stop::Cancelled },
        ];
        let mut history = History::default();
        for (sequence, event) in (0..).zip(&events) {
            history.hear(sequence, 1000 + 10 * sequence, event);
        }
        let record = history.job(&job).unwrap();
        assert_eq!((record.accepted_ms, record.started_ms, record.ended_ms), (1000, Some(1020), Some(1080)));
        assert_eq!(record.standing, Standing::Stopped(Stop::Cancelled));
        assert_eq!((record.steps, record.tokens, record.bits_per_byte), (10, 400, Some(1.8)));
        let round = &record.rounds[0];
        assert_eq!((round.started_ms, round.sealed_ms, round.finished_ms), (1020, Some(1050), Some(1060)));
        assert_eq!((round.loss(), round.bytes, round.contributed), (Some(2.25), 100, 2));
        assert_eq!(round.held_out_loss, Some(2.5));
    }

    #[test]
    fn what_came_of_windows_that_were_trained_again_is_counted_and_other_faults_are_not() {
        let (job, maker, node) = (Digest::of(b"job"), NodeId([1; 32]), NodeId([2; 32]));
        let (right, wrong) = (Digest::of(b"right"), Digest::of(b"wrong"));
        let fault = |node, kind| Event::Fault { job, round: 2, node, kind };
        let events = [
            Event::WindowVerified { job, round: 1, maker, verifiers: vec![node] },
            Event::WindowVerified { job, round: 2, maker, verifiers: vec![node] },
            Event::WindowUnverified { job, round: 2, maker: node, why: Unverified::Withheld },
            fault(
                maker,
                FaultKind::WrongWindow { window: 1, committed: wrong, right, verifiers: vec![node] },
            ),
            fault(node, FaultKind::WrongVerdict { window: 1, maker, said: wrong, right }),
            fault(node, FaultKind::Outline),
        ];
        let mut history = History::default();
        events.iter().for_each(|event| history.hear(0, 0, event));
        assert_eq!(history.trust(), Trust { verified: 2, unverified: 1, convictions: 2 });
    }

    #[test]
    fn of_very_many_jobs_the_newest_are_known_and_one_that_comes_again_is_listed_once() {
        let mut history = History::default();
        let id = |at: u64| Digest::of(&at.to_le_bytes());
        for at in 0..JOBS_MAX as u64 + 2 {
            history.hear(at, at, &accepted(id(at), "job"));
        }
        assert_eq!((history.jobs().count(), history.job(&id(1)).is_some()), (JOBS_MAX, false));
        history.hear(5000, 5000, &accepted(id(2), "again"));
        assert_eq!(history.jobs().count(), JOBS_MAX);
        assert_eq!(history.jobs().next_back().unwrap().name, "again");
        assert_eq!(history.jobs_from(5000).count(), 1);
    }
}
