//! The queue of jobs, and how a job begins and ends.

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{JobDescription, JobId};

use crate::limits::{MAX_FINISHED_JOBS, MAX_QUEUED_JOBS, check_job};
use crate::{Event, Failure, Phase, Refusal, Running, State, Stop};

/// A job that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedJob {
    /// Its id.
    pub job: JobId,
    /// What it was.
    pub description: JobDescription,
    /// Tokens of all its finished rounds.
    pub tokens: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// With this checkpoint.
    Finished {
        /// Its manifest.
        checkpoint: Digest,
    },
    /// Not.
    Failed(Failure),
    /// Before its last step.
    Stopped {
        /// The manifest of its last checkpoint, if a round of it was finished.
        checkpoint: Option<Digest>,
        /// Why.
        why: Stop,
    },
}

/// A job that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Queued {
    /// It has not begun.
    New(Box<JobDescription>),
    /// It was paused.
    Begun(Box<Running>),
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// It waits for others.
    Queued {
        /// Jobs that run before it.
        ahead: usize,
    },
    /// It runs.
    Running {
        /// The current round.
        round: u32,
    },
    /// It was paused.
    Paused {
        /// The round that it goes on with; none if it has not begun.
        round: Option<u32>,
    },
    /// It is over.
    Over(Outcome),
}

impl State {
    /// Where a job stands; `None` if it is unknown or was forgotten.
    pub fn job_status(&self, id: &JobId) -> Option<JobStatus> {
        if let Some(running) = self.running.as_ref().filter(|running| running.job == *id) {
            return Some(JobStatus::Running { round: running.round });
        }
        if let Some(position) = self.queue.iter().position(|queued| queued.description().id() == *id) {
            return Some(JobStatus::Queued { ahead: position + usize::from(self.running.is_some()) });
        }
        if let Some(paused) = self.paused.get(id) {
            let round = if let Queued::Begun(running) = paused { Some(running.round) } else { None };
            return Some(JobStatus::Paused { round });
        }
        let over = self.finished.iter().find(|finished| finished.job == *id)?;
        Some(JobStatus::Over(over.outcome.clone()))
    }

    /// What a job is; `None` if it is unknown or was forgotten.
    pub fn description(&self, id: &JobId) -> Option<&JobDescription> {
        if let Some(running) = self.running.as_ref().filter(|running| running.job == *id) {
            return Some(&running.description);
        }
        if let Some(over) = self.finished.iter().find(|over| over.job == *id) {
            return Some(&over.description);
        }
        let paused = self.paused.get(id).map(Queued::description);
        paused.or_else(|| {
            self.queue.iter().map(Queued::description).find(|description| description.id() == *id)
        })
    }

    /// Submitting what is there already changes nothing, so that a client which lost its connection
    /// can submit again; a job that failed or was stopped is tried again from its start.
    pub(crate) fn submit(&mut self, job: &JobDescription, events: &mut Vec<Event>) -> Result<(), Refusal> {
        check_job(job)?;
        if let Some(here) = self.network.filter(|here| *here != job.network) {
            return Err(Refusal::ForeignJob { meant: job.network, here });
        }
        let id = job.id();
        match self.job_status(&id) {
            None | Some(JobStatus::Over(Outcome::Failed(_) | Outcome::Stopped { .. })) => {}
            Some(_) => return Ok(()),
        }
        if self.queue.len() >= MAX_QUEUED_JOBS {
            return Err(Refusal::QueueFull);
        }
        self.finished.retain(|finished| finished.job != id);
        self.checkpoints.forget(&id);
        let ahead = self.queue.len() + usize::from(self.running.is_some());
        self.queue.push_back(Queued::New(Box::new(job.clone())));
        let (name, plan) = (job.name.clone(), job.plan.clone());
        events.push(Event::JobAccepted { job: id, name, plan, ahead: ahead as u32 });
        Ok(())
    }

    pub(crate) fn start_next_job(&mut self, events: &mut Vec<Event>) -> bool {
        let Some(queued) = self.queue.pop_front() else { return false };
        let running = match queued {
            Queued::New(description) => Running::new(*description),
            Queued::Begun(running) => *running,
        };
        let evaluates = matches!(running.phase, Phase::Evaluating(_));
        self.running = Some(running);
        if !evaluates {
            self.wait_for_nodes(events);
        }
        true
    }

    pub(crate) fn finish_job(&mut self, events: &mut Vec<Event>) {
        let Some(mut running) = self.running.take() else { return };
        if running.step < running.description.plan.steps {
            return self.stop_job(Queued::Begun(Box::new(running)), Stop::Budget, events);
        }
        running.leave_unsettled(events);
        let Running { job, base: checkpoint, tokens, description, .. } = running;
        events.push(Event::JobFinished { job, checkpoint, tokens });
        self.remember(FinishedJob { job, description, tokens, outcome: Outcome::Finished { checkpoint } });
    }

    pub(crate) fn fail_job(&mut self, why: Failure, events: &mut Vec<Event>) {
        let Some(mut running) = self.running.take() else { return };
        running.leave_unsettled(events);
        let Running { job, tokens, description, .. } = running;
        events.push(Event::JobFailed { job, why: why.clone() });
        self.remember(FinishedJob { job, description, tokens, outcome: Outcome::Failed(why) });
    }

    pub(crate) fn remember(&mut self, over: FinishedJob) {
        if let Some(before) = self.finished.back() {
            self.checkpoints.keep_last(&before.job);
        }
        self.finished.push_back(over);
        if self.finished.len() > MAX_FINISHED_JOBS
            && let Some(oldest) = self.finished.pop_front()
        {
            self.checkpoints.forget(&oldest.job);
        }
    }
}
