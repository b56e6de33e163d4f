//! The queue of jobs, and how a job begins and ends.

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{JobDescription, JobId};

use crate::limits::{MAX_FINISHED_JOBS, MAX_QUEUED_JOBS, check_job};
use crate::{Event, Failure, Refusal, Running, State};

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
    /// It is over.
    Over(Outcome),
}

impl State {
    /// Where a job stands; `None` if it is unknown or was forgotten.
    pub fn job_status(&self, id: &JobId) -> Option<JobStatus> {
        if let Some(running) = self.running.as_ref().filter(|running| running.job == *id) {
            return Some(JobStatus::Running { round: running.round });
        }
        if let Some(position) = self.queue.iter().position(|job| job.id() == *id) {
            return Some(JobStatus::Queued { ahead: position + usize::from(self.running.is_some()) });
        }
        let over = self.finished.iter().find(|finished| finished.job == *id)?;
        Some(JobStatus::Over(over.outcome.clone()))
    }

    /// Submitting what is there already changes nothing, so that a client which lost its connection
    /// can submit again; a job that failed is tried again from its start.
    pub(crate) fn submit(&mut self, job: &JobDescription, events: &mut Vec<Event>) -> Result<(), Refusal> {
        check_job(job)?;
        let id = job.id();
        match self.job_status(&id) {
            None | Some(JobStatus::Over(Outcome::Failed(_))) => {}
            Some(_) => return Ok(()),
        }
        if self.queue.len() >= MAX_QUEUED_JOBS {
            return Err(Refusal::QueueFull);
        }
        self.finished.retain(|finished| finished.job != id);
        self.checkpoints.forget(&id);
        let ahead = self.queue.len() + usize::from(self.running.is_some());
        self.queue.push_back(job.clone());
        let (name, plan) = (job.name.clone(), job.plan.clone());
        events.push(Event::JobAccepted { job: id, name, plan, ahead: ahead as u32 });
        Ok(())
    }

    pub(crate) fn start_next_job(&mut self, events: &mut Vec<Event>) -> bool {
        let Some(description) = self.queue.pop_front() else { return false };
        self.running = Some(Running::new(description));
        self.wait_for_nodes(events);
        true
    }

    pub(crate) fn finish_job(&mut self, events: &mut Vec<Event>) {
        let Some(running) = self.running.take() else { return };
        let (job, checkpoint, tokens) = (running.job, running.base, running.tokens);
        events.push(Event::JobFinished { job, checkpoint, tokens });
        self.remember(running, Outcome::Finished { checkpoint });
    }

    pub(crate) fn fail_job(&mut self, why: Failure, events: &mut Vec<Event>) {
        let Some(running) = self.running.take() else { return };
        events.push(Event::JobFailed { job: running.job, why: why.clone() });
        self.remember(running, Outcome::Failed(why));
    }

    fn remember(&mut self, running: Running, outcome: Outcome) {
        let Running { job, description, tokens, .. } = running;
        if let Some(before) = self.finished.back() {
            self.checkpoints.keep_last(&before.job);
        }
        self.finished.push_back(FinishedJob { job, description, tokens, outcome });
        if self.finished.len() > MAX_FINISHED_JOBS
            && let Some(oldest) = self.finished.pop_front()
        {
            self.checkpoints.forget(&oldest.job);
        }
    }
}
