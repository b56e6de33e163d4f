//! What a job's owner decides while it waits or runs: to cancel it, to pause it, to let it go on.
//!
//! A paused job keeps its finished rounds, and their checkpoints are kept as before; the round that it was in begins again when it
//! goes on, since the nodes that worked on it have gone to the next job by then. Nobody is blamed for what was left undone.

use std::fmt;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{JobDescription, JobId};

use crate::jobs::Queued;
use crate::limits::MAX_QUEUED_JOBS;
use crate::{Event, FinishedJob, JobStatus, Outcome, Refusal, Running, State, Stop};

/// What its owner wants of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Steer {
    /// That it ends, with the checkpoint that it has.
    Cancel,
    /// That it waits until it is told to go on.
    Pause,
    /// That it goes on: before the jobs that wait, after the one that runs.
    Resume,
}

impl fmt::Display for Steer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Steer::Cancel => "cancel",
            Steer::Pause => "pause",
            Steer::Resume => "resume",
        })
    }
}

impl State {
    /// Does what the job's owner wants. What is so already changes nothing.
    pub(crate) fn steer(&mut self, job: JobId, steer: Steer, events: &mut Vec<Event>) -> Result<(), Refusal> {
        match (steer, self.job_status(&job).ok_or(Refusal::UnknownJob(job))?) {
            (_, JobStatus::Over(_)) => Err(Refusal::JobIsOver { job, steer }),
            (Steer::Cancel, _) => {
                let taken = self.take_job(&job);
                self.stop_job(taken, Stop::Cancelled, events);
                Ok(())
            }
            (Steer::Pause, JobStatus::Paused { .. }) => Ok(()),
            (Steer::Pause, _) if self.paused.len() >= MAX_QUEUED_JOBS => Err(Refusal::TooManyPaused),
            (Steer::Pause, _) => {
                if let Some(running) = self.running.as_mut().filter(|running| running.job == job) {
                    running.release(|_, _| true, None, events);
                }
                let taken = self.take_job(&job);
                self.paused.insert(job, taken);
                events.push(Event::JobPaused { job });
                Ok(())
            }
            (Steer::Resume, JobStatus::Paused { .. }) => {
                let taken = self.take_job(&job);
                self.queue.push_front(taken);
                events.push(Event::JobResumed { job, ahead: u32::from(self.running.is_some()) });
                Ok(())
            }
            (Steer::Resume, _) => Ok(()),
        }
    }

    /// Takes a job that is not over out of wherever it is.
    fn take_job(&mut self, job: &JobId) -> Queued {
        if let Some(running) = self.running.take_if(|running| running.job == *job) {
            return Queued::Begun(Box::new(running.set_aside()));
        }
        if let Some(at) = self.queue.iter().position(|queued| queued.description().id() == *job)
            && let Some(queued) = self.queue.remove(at)
        {
            return queued;
        }
        self.paused.remove(job).expect("a job that is not over runs, waits or is paused")
    }

    /// The job ends before its last step.
    pub(crate) fn stop_job(&mut self, mut job: Queued, why: Stop, events: &mut Vec<Event>) {
        if let Queued::Begun(running) = &mut job {
            running.leave_unsettled(events);
        }
        let (tokens, checkpoint) = match &job {
            Queued::New(_) => (0, None),
            Queued::Begun(running) => (running.tokens, self.latest_checkpoint(running)),
        };
        let description = job.into_description();
        let job = description.id();
        events.push(Event::JobStopped { job, checkpoint, tokens, why });
        let outcome = Outcome::Stopped { checkpoint, why };
        self.remember(FinishedJob { job, description, tokens, outcome });
    }

    /// The checkpoint of the job's last finished round.
    fn latest_checkpoint(&self, running: &Running) -> Option<Digest> {
        let mut kept = self.checkpoints.iter();
        let is_kept = kept.any(|(job, _, kept)| *job == running.job && kept.digest == running.base);
        is_kept.then_some(running.base)
    }
}

impl Queued {
    /// What the job is.
    pub fn description(&self) -> &JobDescription {
        match self {
            Self::New(description) => description,
            Self::Begun(running) => &running.description,
        }
    }

    fn into_description(self) -> JobDescription {
        match self {
            Self::New(description) => *description,
            Self::Begun(running) => running.description,
        }
    }
}
