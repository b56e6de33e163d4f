//! The steps that a replica takes between two windows.
//!
//! While nobody knows yet what a round comes to, its replicas go on from where their windows ended: the *lead* of the next. Once the
//! next checkpoint is there, what the lead moved is moved from there on:
//!
//! ```text
//! p <- base + (p - end)
//! ```
//!
//! So the wire and slower replicas cost no time, only that these few steps know nothing of what the others learned
//! (Douillard and others 2025, "Streaming DiLoCo with overlapping communication"). A lead follows from what the replica kept, like
//! everything else; that it may be in memory and taken already is a matter of time alone.

use std::ops::ControlFlow;

use zoo_content::Digest;

use crate::checkpoint::Checkpoint;
use crate::dataset::Dataset;
use crate::error::TrainError;
use crate::estimate::Estimate;
use crate::network_state::values;
use crate::spec::TrainingSpec;
use crate::trainer::Trainer;
use crate::window::{Share, Steps, Watch};

/// A replica on its way from one window to the next. See the module.
pub struct Lead {
    /// What it kept when the window ended.
    kept: Digest,
    replica: Trainer,
    residuals: Vec<Vec<f32>>,
    /// Where the window ended: the parameters of every VNode.
    end: Vec<Vec<f32>>,
    share: Share,
    first_step: u64,
    steps: Steps,
}

impl Lead {
    /// Of a replica that has just ended a window, and kept the state called `kept`.
    pub(crate) fn new(kept: Digest, replica: Trainer, residuals: Vec<Vec<f32>>, share: Share) -> Self {
        let end = replica.network().vnodes().iter().map(values).collect();
        let first_step = replica.progress().step;
        Self { kept, replica, residuals, end, share, first_step, steps: Steps::default() }
    }

    /// From what the replica kept; the lead ends before inner step `next_step` of the job.
    ///
    /// # Errors
    /// What is no replica's state at the end of a window, and a share that cannot be trained on.
    pub fn restore(
        spec: &TrainingSpec,
        data: &Dataset,
        kept: &[u8],
        next_step: u64,
        share: Share,
    ) -> Result<Self, TrainError> {
        share.check(spec)?;
        let (mut replica, residuals) = Trainer::at_end_of_window(spec.clone(), data, kept)?;
        let first_step = next_step.checked_sub(share.inner_steps.into());
        replica.start_at(first_step.ok_or_else(|| {
            TrainError::Share(format!("a lead of {} steps before step {next_step}", share.inner_steps))
        })?);
        Ok(Self::new(Digest::of(kept), replica, residuals, share))
    }

    /// Whether it is the lead that a window asks for whose share starts at inner step `next_step`: of the replica that kept
    /// `kept`, on the sequences of `share`.
    pub fn is(&self, kept: &Digest, next_step: u64, share: Share) -> bool {
        let ends_at = self.first_step.checked_add(share.inner_steps.into());
        (&self.kept, self.share, ends_at) == (kept, share, Some(next_step))
    }

    /// Steps taken so far.
    pub fn steps_taken(&self) -> u32 {
        self.steps.leaves.len() as u32
    }

    /// Whether all are.
    pub fn is_done(&self) -> bool {
        self.steps_taken() >= self.share.inner_steps
    }

    /// Memory that it takes between steps, MiB: parameters where they are and where they were, optimiser state, what is left unsaid.
    pub fn memory_mib(&self) -> u64 {
        let Estimate { state_bytes, parameters, .. } = Estimate::of(self.replica.spec(), 1, 1);
        (state_bytes + 8 * parameters).div_ceil(1 << 20)
    }

    /// Takes one more, if any is left.
    ///
    /// # Errors
    /// NaN or infinity, with step and VNode named.
    pub fn step(&mut self) -> Result<(), TrainError> {
        self.take(&mut |_, _| ControlFlow::Continue(()))
    }

    fn take(&mut self, watch: &mut Watch) -> Result<(), TrainError> {
        if self.is_done() {
            return Ok(());
        }
        let inner_step = self.steps_taken();
        self.steps.take(&mut self.replica, self.share, inner_step, 1.0, watch)
    }

    /// Takes the steps that are left, then moves to where the round starts. The replica there, what its updates have left unsaid, and
    /// what the lead came to.
    pub(crate) fn join(
        mut self,
        base: &Checkpoint,
        watch: &mut Watch,
    ) -> Result<(Trainer, Vec<Vec<f32>>, Steps), TrainError> {
        while !self.is_done() {
            self.take(watch)?;
        }
        self.replica.move_to(base, &self.end)?;
        Ok((self.replica, self.residuals, self.steps))
    }
}
