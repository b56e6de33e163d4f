//! What a party knows of a window: it trains it again.

use std::ops::ControlFlow;

use zoo_content::{Digest, slice};
use zoo_protocol::{VNodeUpdate, WindowOutcome};
use zoo_training::{StepReport, TrainError, WindowResult, WindowTask, watch_window};

use crate::account::{Account, Step, is_covered};
use crate::operator::Blob;
use crate::terms::{Kept, Task, TermsError};
use crate::trace::{Blobs, State, Trace};

/// What a player answers from.
pub trait Knowledge {
    /// The window.
    fn task(&self) -> &Task;

    /// What the window came to.
    ///
    /// # Errors
    /// Why it cannot be trained again.
    fn account(&mut self) -> Result<Account, ReplayError>;

    /// A step of the window, from 0, with everything in it.
    ///
    /// # Errors
    /// As [`Knowledge::account`].
    fn trace(&mut self, step: u32) -> Result<Trace, ReplayError>;

    /// The data, the parameters of the base, and what the replica kept.
    fn blobs(&self) -> Blobs<'_>;
}

/// Why a window cannot be done again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be trained.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// There can be no dispute about it.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// The dispute is about another window.
    #[error("the dispute is about another window than the one that was done again")]
    OtherTask,
    /// A blob that the window begins with is not here, or is too short.
    #[error("blob {0} is not here whole\nhint: fetch it from whoever holds it")]
    Blob(Digest),
}

/// A window done again as it should be.
#[derive(Clone)]
pub struct Replay<'a> {
    window: WindowTask<'a>,
    task: Task,
}

impl<'a> Replay<'a> {
    /// Of a window.
    ///
    /// # Errors
    /// A checkpoint or a replica's state that does not belong to program and data, or what no dispute can be about.
    pub fn new(window: WindowTask<'a>) -> Result<Self, ReplayError> {
        let WindowTask { spec, data, base, replica, round, first_step, lead, share, ahead_steps } = window;
        let task = Task {
            program: spec.to_bytes(),
            base: base.manifest().to_bytes(),
            data: Blob { digest: data.digest(), bytes: data.blob().len() as u64 },
            kept: replica.map(kept_of).transpose()?,
            round,
            first_step,
            // A replica that kept nothing has nothing to go on from.
            lead: lead.filter(|_| replica.is_some()),
            share,
            ahead_steps,
        };
        task.check()?;
        Ok(Self { window, task })
    }

    /// The steps before `step`, and the state there; nothing is known of that before the first, which is stored.
    ///
    /// # Errors
    /// Why they cannot be trained.
    pub fn before(&self, step: u32) -> Result<(Vec<Step>, State), ReplayError> {
        let (mut steps, mut state) = (Vec::new(), State(Vec::new()));
        if step == 0 {
            return Ok((steps, state));
        }
        let result = watch_window(self.window, &mut |report, network| {
            steps.push(said_of(steps.len() as u32, report, network));
            if steps.len() < step as usize {
                return ControlFlow::Continue(());
            }
            state = State::of(network);
            ControlFlow::Break(())
        });
        match result {
            Ok(_) | Err(TrainError::Stopped { .. }) => Ok((steps, state)),
            Err(cause) => Err(cause.into()),
        }
    }
}

impl Knowledge for Replay<'_> {
    fn task(&self) -> &Task {
        &self.task
    }

    fn account(&mut self) -> Result<Account, ReplayError> {
        let mut steps = Vec::new();
        let result = watch_window(self.window, &mut |report, network| {
            steps.push(said_of(steps.len() as u32, report, network));
            ControlFlow::Continue(())
        })?;
        Ok(Account { outcome: outcome_of(&result), steps })
    }

    fn trace(&mut self, step: u32) -> Result<Trace, ReplayError> {
        let (_, state) = self.before(step)?;
        Trace::of((&self.task, step), &self.blobs(), state, |_, _| ())
    }

    fn blobs(&self) -> Blobs<'_> {
        let WindowTask { data, base, .. } = self.window;
        let parameters = base.vnodes.iter().map(|vnode| &vnode.parameters);
        let base = parameters.map(|blob| (blob.digest(), blob.bytes()));
        let kept = self.task.kept.as_ref().zip(self.window.replica);
        let kept = kept.map(|(kept, blob)| (kept.blob.digest, blob));
        Blobs([(data.digest(), data.blob().bytes())].into_iter().chain(base).chain(kept).collect())
    }
}

fn said_of(step: u32, report: &StepReport, network: &zoo_model::Network) -> Step {
    Step {
        state: State::digest_of(network),
        nats: report.loss.nats.to_bits(),
        parameters: is_covered(step).then(|| network.digest()),
    }
}

/// What there is to commit to.
fn outcome_of(result: &WindowResult) -> WindowOutcome {
    let updates = result.updates.iter().map(|update| VNodeUpdate {
        vnode: update.vnode.clone(),
        update: update.blob.digest(),
        bytes: update.blob.len() as u64,
        norm: update.norm,
    });
    WindowOutcome {
        tokens: result.tokens(),
        replica_out: result.replica.digest(),
        steps_root: result.steps_root,
        steps: result.leaves.len() as u32,
        updates: updates.collect(),
        mean_loss_bits: result.loss.mean().to_bits(),
    }
}

/// What is said of the state that a replica kept.
fn kept_of(blob: &[u8]) -> Result<Kept, TrainError> {
    let zoo_training::KeptFacts { updates, residuals, parameters } = zoo_training::kept_facts(blob)?;
    let head = slice::Outline::of(blob, slice::CHUNK_BYTES).prove(0..1, |at| &blob[at]);
    let blob = Blob { digest: Digest::of(blob), bytes: blob.len() as u64 };
    Ok(Kept { blob, updates, residuals, parameters, head })
}
