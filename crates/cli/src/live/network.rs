//! What a watcher knows of a whole network: its nodes, and every job there ever was.

use zoo_content::Digest;
use zoo_orchestrator::Notice;
use zoo_protocol::{JobId, RoundPlan};
use zoo_state::Event;

use super::overview::{NodeState, Overview};

/// A network, from the outside.
#[derive(Clone, Debug, Default)]
pub struct NetworkView {
    /// Every job, in the order in which they were accepted.
    pub jobs: Vec<JobView>,
    /// The nodes, with what they do for the job that runs.
    pub overview: Overview,
}

/// One job, from the outside.
#[derive(Clone, Debug)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// How its rounds run.
    pub plan: RoundPlan,
    /// Where it stands.
    pub state: JobState,
    /// Rounds that are finished.
    pub rounds: u32,
    /// Inner steps of those rounds.
    pub steps: u64,
    /// Tokens of the finished rounds.
    pub tokens: u64,
    /// Held-out bits per byte, of every evaluation so far.
    pub bits_per_byte: Vec<f64>,
    /// The newest checkpoint.
    pub checkpoint: Option<Digest>,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Others run before it, or nobody has taken it up.
    Queued,
    /// Nodes work on it, or are waited for.
    Running,
    /// It is over.
    Finished,
    /// It will not go on by itself, and why.
    Failed(String),
    /// It waits until it is resumed.
    Paused,
    /// It ended before its last step, and why.
    Stopped(String),
}

impl JobState {
    /// In a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed(_) => "failed",
            Self::Paused => "paused",
            Self::Stopped(_) => "stopped",
        }
    }
}

impl NetworkView {
    /// Takes in what a watcher is told.
    pub fn hear(&mut self, notice: &Notice) {
        if let Notice::Event { event, .. } = notice {
            self.hear_event(event);
        }
        self.overview.hear(notice);
    }

    /// The job that runs.
    pub fn running(&self) -> Option<&JobView> {
        self.jobs.iter().find(|job| job.state == JobState::Running)
    }

    /// The jobs whose id begins with `prefix`, or whose name it is.
    pub fn find(&self, prefix: &str) -> Vec<&JobView> {
        let wanted = |job: &&JobView| job.name == prefix || job.id.to_string().starts_with(prefix);
        self.jobs.iter().filter(wanted).collect()
    }

    /// Nodes that are there.
    pub fn live(&self) -> usize {
        self.overview.nodes.values().filter(|node| node.state != NodeState::Lost).count()
    }

    fn hear_event(&mut self, event: &Event) {
        match event {
            Event::JobAccepted { job, name, plan, .. } => {
                // A job that failed may be submitted again.
                self.jobs.retain(|known| known.id != *job);
                self.jobs.push(JobView {
                    id: *job,
                    name: name.clone(),
                    plan: plan.clone(),
                    state: JobState::Queued,
                    rounds: 0,
                    steps: 0,
                    tokens: 0,
                    bits_per_byte: Vec::new(),
                    checkpoint: None,
                });
            }
            Event::RoundWaiting { job, .. } | Event::RoundStarted { job, .. } => {
                if let Some(known) = self.jobs.iter_mut().find(|known| known.id == *job)
                    && known.state == JobState::Queued
                {
                    known.state = JobState::Running;
                    self.overview.begin(known.plan.clone());
                }
            }
            Event::RoundFinished { job, round, checkpoint, tokens, step, .. } => self.change(job, |job| {
                (job.rounds, job.steps, job.tokens) = (round + 1, *step, *tokens);
                job.checkpoint = Some(*checkpoint);
            }),
            Event::EvaluationFinished { job, bits_per_byte_bits, .. } => {
                self.change(job, |job| job.bits_per_byte.push(f64::from_bits(*bits_per_byte_bits)));
            }
            Event::JobFinished { job, checkpoint, tokens } => self.change(job, |job| {
                (job.state, job.tokens, job.checkpoint) = (JobState::Finished, *tokens, Some(*checkpoint));
            }),
            Event::JobPaused { job } => self.change(job, |job| job.state = JobState::Paused),
            Event::JobResumed { job, .. } => self.change(job, |job| job.state = JobState::Queued),
            Event::JobStopped { job, why, .. } => {
                self.change(job, |job| job.state = JobState::Stopped(why.to_string()));
            }
            Event::JobFailed { job, why } => {
                self.change(job, |job| job.state = JobState::Failed(why.to_string()));
            }
            _ => {}
        }
    }

    fn change(&mut self, id: &JobId, change: impl FnOnce(&mut JobView)) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.id == *id) {
            change(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> RoundPlan {
        RoundPlan {
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
        }
    }

    fn hear(view: &mut NetworkView, event: Event) {
        view.hear(&Notice::Event { sequence: 0, at_ms: 0, event });
    }

    #[test]
    fn a_job_is_followed_from_the_queue_to_its_end() {
        let (first, second, base) = (Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"base"));
        let mut view = NetworkView::default();
        for (job, name) in [(first, "first"), (second, "second")] {
            let name = name.to_owned();
            hear(&mut view, Event::JobAccepted { job, name, plan: plan(), ahead: 0 });
        }
        let states =
            |view: &NetworkView| -> Vec<&str> { view.jobs.iter().map(|job| job.state.word()).collect() };
        assert_eq!(states(&view), ["queued", "queued"]);
        hear(
            &mut view,
            Event::RoundStarted {
                job: first,
                round: 0,
                start: 1,
                base,
                shares: Vec::new(),
                lead_steps: 0,
                ahead_steps: 0,
            },
        );
        assert_eq!((states(&view), view.running().unwrap().id), (vec!["running", "queued"], first));
        hear(
            &mut view,
            Event::RoundFinished {
                job: first,
                round: 0,
                checkpoint: base,
                holders: Vec::new(),
                tokens: 7,
                step: 10,
            },
        );
        assert_eq!((view.jobs[0].rounds, view.jobs[0].tokens, view.jobs[0].checkpoint), (1, 7, Some(base)));
        hear(&mut view, Event::JobFinished { job: first, checkpoint: second, tokens: 9 });
        hear(&mut view, Event::RoundWaiting { job: second, round: 0, nodes: 0, minimum: 1 });
        assert_eq!(states(&view), ["finished", "running"]);
        assert_eq!((view.overview.round, view.overview.finished_rounds), (0, 0), "the table starts anew");
        assert_eq!(view.find("second").len(), 1);
        assert_eq!(view.find(&first.to_string()[..8])[0].name, "first");
        assert_eq!(view.find("").len(), 2);
    }

    #[test]
    fn a_job_that_is_tried_again_is_listed_once() {
        let job = Digest::of(b"1");
        let mut view = NetworkView::default();
        let accepted = || Event::JobAccepted { job, name: "again".into(), plan: plan(), ahead: 0 };
        hear(&mut view, accepted());
        hear(
            &mut view,
            Event::JobFailed {
                job,
                why: zoo_state::Failure::NoProgress { round: 0, last: zoo_state::Restart::NoContribution },
            },
        );
        assert!(matches!(&view.jobs[0].state, JobState::Failed(why) if !why.is_empty()));
        hear(&mut view, accepted());
        assert_eq!((view.jobs.len(), view.jobs[0].state.word()), (1, "queued"));
    }
}
