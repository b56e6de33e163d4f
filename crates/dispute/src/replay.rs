//! What a party knows of a window: it trains it again.

use std::ops::Range;

use zoo_content::Digest;
use zoo_training::{Checkpoint, Dataset, Sequences, Share, TrainError, Trainer, TrainingSpec};

use crate::program::Program;
use crate::terms::{Task, TermsError};
use crate::trace::{Batch, State, Trace};

/// What a player answers from.
pub trait Knowledge {
    /// The window.
    fn task(&self) -> &Task;

    /// The digest of the state after every step of the window.
    ///
    /// # Errors
    /// Why it cannot be trained again.
    fn steps(&mut self) -> Result<Vec<Digest>, ReplayError>;

    /// An inner step of the window, from 0, with everything in it.
    ///
    /// # Errors
    /// As [`Knowledge::steps`].
    fn trace(&mut self, step: u32) -> Result<Trace, ReplayError>;

    /// The data that the window was trained on.
    fn data(&self) -> &Dataset;
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
}

/// A window, and all it takes to train it again.
#[derive(Clone)]
pub struct Window<'a> {
    /// The program.
    pub spec: &'a TrainingSpec,
    /// The training data.
    pub data: &'a Dataset,
    /// The state before the window, with the optimiser's.
    pub base: &'a Checkpoint,
    /// The window's sequences.
    pub share: Share,
}

/// A window done again as it should be.
#[derive(Clone)]
pub struct Replay<'a> {
    window: Window<'a>,
    task: Task,
}

impl<'a> Replay<'a> {
    /// Of a window.
    ///
    /// # Errors
    /// A checkpoint that does not belong to program and data, or what no dispute can be about.
    pub fn new(window: Window<'a>) -> Result<Self, ReplayError> {
        let Window { spec, data, base, share } = window;
        let trainer = Trainer::resume(spec.clone(), data, base)?;
        let task = Task {
            program: spec.to_bytes(),
            data: data.digest(),
            data_bytes: data.blob().len() as u64,
            start: State::digest_of(trainer.network()),
            first_step: base.progress.step,
            updates: base.progress.optimizer_updates,
            share,
        };
        task.check()?;
        Ok(Self { window, task })
    }

    /// The state before an inner step.
    ///
    /// # Errors
    /// Why it cannot be trained.
    pub fn state_before(&self, step: u32) -> Result<State, ReplayError> {
        let mut trainer = self.trainer()?;
        for step in 0..step {
            self.take(&mut trainer, step)?;
        }
        Ok(State::of(trainer.network()))
    }

    /// The digests of the states after the first `count` steps.
    ///
    /// # Errors
    /// Why they cannot be trained.
    pub fn first_steps(&self, count: u32) -> Result<Vec<Digest>, ReplayError> {
        let mut trainer = self.trainer()?;
        let mut digests = Vec::new();
        for step in 0..count {
            self.take(&mut trainer, step)?;
            digests.push(State::digest_of(trainer.network()));
        }
        Ok(digests)
    }

    /// The tokens of an inner step.
    ///
    /// # Errors
    /// Data that is too short.
    pub fn batch(&self, step: u32) -> Result<Batch, ReplayError> {
        let Window { spec, data, .. } = self.window;
        let sequences = Sequences::new(data, spec.seed, spec.model.context).map_err(TrainError::from)?;
        let mut batch = Batch::default();
        sequences.batch(self.sequences(step), &mut batch.inputs, &mut batch.targets);
        Ok(batch)
    }

    fn trainer(&self) -> Result<Trainer, ReplayError> {
        let Window { spec, data, base, .. } = self.window;
        Ok(Trainer::resume(spec.clone(), data, base)?)
    }

    fn take(&self, trainer: &mut Trainer, step: u32) -> Result<(), ReplayError> {
        let rate = self.task.learning_rate(self.window.spec, step);
        trainer.step_on(self.sequences(step), rate)?;
        Ok(())
    }

    fn sequences(&self, step: u32) -> Range<u64> {
        let first = self.task.first_sequence(step);
        first..first + u64::from(self.task.share.sequences_per_step)
    }
}

impl Knowledge for Replay<'_> {
    fn task(&self) -> &Task {
        &self.task
    }

    fn steps(&mut self) -> Result<Vec<Digest>, ReplayError> {
        self.first_steps(self.task.share.inner_steps)
    }

    fn trace(&mut self, step: u32) -> Result<Trace, ReplayError> {
        let program = Program::of(&self.task, step)?;
        Ok(Trace::of(program, &self.batch(step)?, self.state_before(step)?, |_, _| ()))
    }

    fn data(&self) -> &Dataset {
        self.window.data
    }
}
