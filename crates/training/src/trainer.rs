//! The inner loop: batches in, updated parameters out.

use std::ops::Range;

use zoo_content::VerifiedBlob;
use zoo_model::{LossSum, Network, NetworkError};

use crate::checkpoint::{Checkpoint, Lineage, Progress};
use crate::dataset::Dataset;
use crate::error::TrainError;
use crate::network_state::{self, build};
use crate::sequences::Sequences;
use crate::spec::TrainingSpec;

/// Trains one network on one machine.
///
/// A step is a pure function of the specification, the data, the parameters, the optimiser state and
/// the sequences; threads, instruction set and micro-batch size do not reach its bits.
pub struct Trainer {
    spec: TrainingSpec,
    sequences: Sequences,
    network: Network,
    lineage: Lineage,
    progress: Progress,
    inputs: Vec<u32>,
    targets: Vec<u32>,
}

/// What one inner step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The inner step of the job, from 0.
    pub step: u64,
    /// Summed loss of the batch before the update.
    pub loss: LossSum,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
}

impl Trainer {
    /// A job's first state: parameters drawn from the specification's seed.
    ///
    /// # Errors
    /// When the specification, the data and the model do not fit together.
    pub fn new(spec: TrainingSpec, data: &Dataset) -> Result<Self, TrainError> {
        let mut trainer = Self::unfilled(spec, data)?;
        trainer.network.initialise(trainer.spec.seed);
        Ok(trainer)
    }

    /// A job's first state with the parameters of `start`, a network of the same definition, and a fresh optimiser.
    ///
    /// # Errors
    /// As [`Trainer::new`], and when the network is another.
    pub fn starting_from(spec: TrainingSpec, data: &Dataset, start: &Network) -> Result<Self, TrainError> {
        let mut trainer = Self::unfilled(spec, data)?;
        Checkpoint::of(start, trainer.lineage, Progress::default()).load_parameters(&mut trainer.network)?;
        Ok(trainer)
    }

    /// The state that `checkpoint` holds; its optimiser state too, where it has one.
    ///
    /// # Errors
    /// As [`Trainer::new`], and when the checkpoint belongs to another program, network or data.
    pub fn resume(spec: TrainingSpec, data: &Dataset, checkpoint: &Checkpoint) -> Result<Self, TrainError> {
        let mut trainer = Self::unfilled(spec, data)?;
        checkpoint.check_lineage(&trainer.lineage)?;
        checkpoint.load_parameters(&mut trainer.network)?;
        checkpoint.load_optimizer(&mut trainer.network)?;
        trainer.network.set_step(checkpoint.progress.optimizer_updates);
        trainer.progress = checkpoint.progress;
        Ok(trainer)
    }

    /// A replica at the start of a round: the parameters of `base`, and what the replica kept (as [`Trainer::kept`]
    /// gave it), or the fresh state. Also, by VNode, what its updates have left unsaid.
    pub(crate) fn replica(
        spec: TrainingSpec,
        data: &Dataset,
        base: &Checkpoint,
        kept: Option<&[u8]>,
    ) -> Result<(Self, Vec<Vec<f32>>), TrainError> {
        let mut trainer = Self::unfilled(spec, data)?;
        base.check_lineage(&trainer.lineage)?;
        let residuals = match kept {
            Some(kept) => trainer.load_kept(kept)?.residuals,
            None => vec![Vec::new(); trainer.network.vnodes().len()],
        };
        base.load_parameters(&mut trainer.network)?;
        trainer.progress =
            Progress { optimizer_updates: trainer.progress.optimizer_updates, ..base.progress };
        Ok((trainer, residuals))
    }

    /// A replica at the end of a window, as it was kept; also what its updates have left unsaid.
    pub(crate) fn at_end_of_window(
        spec: TrainingSpec,
        data: &Dataset,
        kept: &[u8],
    ) -> Result<(Self, Vec<Vec<f32>>), TrainError> {
        let mut trainer = Self::unfilled(spec, data)?;
        let kept = trainer.load_kept(kept)?;
        if !kept.has_parameters {
            return Err(TrainError::ReplicaState("it does not say where the window ended".into()));
        }
        Ok((trainer, kept.residuals))
    }

    fn load_kept(&mut self, kept: &[u8]) -> Result<network_state::Kept, TrainError> {
        let kept = network_state::load_replica(&mut self.network, kept)?;
        self.progress.optimizer_updates = kept.updates;
        Ok(kept)
    }

    fn unfilled(spec: TrainingSpec, data: &Dataset) -> Result<Self, TrainError> {
        spec.validate()?;
        check_vocabulary(&spec, data)?;
        let (network, definition) = build(&spec)?;
        let lineage = Lineage { program: spec.digest(), network: definition, data: data.digest() };
        Ok(Self {
            sequences: Sequences::new(data, spec.seed, spec.model.context)?,
            network,
            lineage,
            progress: Progress::default(),
            inputs: Vec::new(),
            targets: Vec::new(),
            spec,
        })
    }

    /// Trains on the next `batch_sequences` sequences, at the schedule's learning rate.
    ///
    /// # Errors
    /// NaN or infinity, with the step and the VNode named.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        let first = self.progress.sequences;
        let learning_rate = self.spec.schedule.learning_rate(self.progress.step);
        self.step_on(first..first + u64::from(self.spec.batch_sequences), learning_rate)
    }

    /// Trains on these sequences, at this learning rate.
    ///
    /// # Errors
    /// NaN or infinity, with the step and the VNode named.
    pub fn step_on(&mut self, sequences: Range<u64>, learning_rate: f64) -> Result<StepReport, TrainError> {
        let step = self.progress.step;
        let failed = |cause| TrainError::in_step(step, cause);
        let loss = self.accumulate_gradients(sequences.clone()).map_err(failed)?;
        let updates = self.progress.optimizer_updates + 1;
        let report = self.network.apply(&self.spec.optimizer, updates, learning_rate, self.spec.clip);
        let gradient_norm = report.map_err(failed)?.gradient_norm;
        self.progress.step += 1;
        self.progress.optimizer_updates = updates;
        self.progress.sequences += sequences.end - sequences.start;
        Ok(StepReport { step, loss, gradient_norm, learning_rate })
    }

    /// The gradient of the mean loss over `sequences`, one micro-batch after the other.
    fn accumulate_gradients(&mut self, sequences: Range<u64>) -> Result<LossSum, NetworkError> {
        let count = sequences.end - sequences.start;
        let total_tokens = count as usize * self.spec.model.context;
        let micro = u64::from(self.spec.micro_batch_sequences.unwrap_or(u32::MAX));
        let mut loss = LossSum::default();
        let mut next = sequences.start;
        while next < sequences.end {
            let end = next.saturating_add(micro).min(sequences.end);
            self.inputs.clear();
            self.targets.clear();
            self.sequences.batch(next..end, &mut self.inputs, &mut self.targets);
            loss += self.network.forward_backward(&self.inputs, &self.targets, total_tokens)?;
            next = end;
        }
        Ok(loss)
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The network, to evaluate it or to generate text.
    pub fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    /// The specification.
    pub fn spec(&self) -> &TrainingSpec {
        &self.spec
    }

    /// How far the job is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The whole state: what [`Trainer::resume`] continues from, bit for bit.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::of(&self.network, self.lineage, self.progress)
    }

    /// Sets the inner step of the job that the next step is.
    pub(crate) fn start_at(&mut self, step: u64) {
        self.progress.step = step;
    }

    /// Moves to `base` together with what every parameter has moved since `from`: `base + (p - from)`.
    pub(crate) fn move_to(&mut self, base: &Checkpoint, from: &[Vec<f32>]) -> Result<(), TrainError> {
        base.check_lineage(&self.lineage)?;
        base.load_parameters_under(&mut self.network, from)?;
        self.progress = Progress { optimizer_updates: self.progress.optimizer_updates, ..base.progress };
        Ok(())
    }

    /// What a replica keeps from round to round, as one blob; where its window ended too, if it goes on from there.
    pub(crate) fn kept(&self, residuals: &[Vec<f32>], goes_on: bool) -> VerifiedBlob {
        network_state::save_replica(&self.network, self.progress.optimizer_updates, residuals, goes_on)
    }
}

fn check_vocabulary(spec: &TrainingSpec, data: &Dataset) -> Result<(), TrainError> {
    if data.vocab_size() as usize == spec.model.vocab_size {
        return Ok(());
    }
    Err(TrainError::Vocabulary { data: data.vocab_size(), model: spec.model.vocab_size })
}
