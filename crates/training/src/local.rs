//! A whole round in one process: what a network of replicas has to agree with, bit for bit.

use std::ops::ControlFlow;

use zoo_content::VerifiedBlob;

use crate::aggregate::{AggregateTask, Summand, aggregate, norm_limits};
use crate::checkpoint::Checkpoint;
use crate::dataset::Dataset;
use crate::error::TrainError;
use crate::spec::TrainingSpec;
use crate::trainer::{StepReport, Trainer};
use crate::window::{Share, WindowResult, WindowTask, train_window};

/// A job's replicas, simulated one after the other.
#[derive(Clone, Debug)]
pub struct LocalJob<'a> {
    spec: &'a TrainingSpec,
    data: &'a Dataset,
    checkpoint: Checkpoint,
    /// What every replica kept after its last window.
    replicas: Vec<Option<VerifiedBlob>>,
    /// What those who trained in the last round train on before the next.
    leads: Vec<Option<Share>>,
}

impl<'a> LocalJob<'a> {
    /// A job of `replicas` replicas at its first state.
    ///
    /// # Errors
    /// When specification, data and model do not fit together.
    pub fn new(spec: &'a TrainingSpec, data: &'a Dataset, replicas: usize) -> Result<Self, TrainError> {
        let checkpoint = Trainer::new(spec.clone(), data)?.checkpoint();
        Ok(Self::starting_at(spec, data, replicas, checkpoint))
    }

    /// A job of `replicas` replicas at `checkpoint`, which must be of this job.
    pub fn starting_at(
        spec: &'a TrainingSpec,
        data: &'a Dataset,
        replicas: usize,
        checkpoint: Checkpoint,
    ) -> Self {
        Self { spec, data, checkpoint, replicas: vec![None; replicas], leads: vec![None; replicas] }
    }

    /// The state after the rounds so far.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// One round: replica `i` trains `shares[i]`; a replica without a share sits out. Returns what
    /// each came to. Those who trained then go on for `ahead_steps` steps, which is their lead in the next round ([`crate::Lead`]).
    ///
    /// # Errors
    /// As [`train_window`] and [`aggregate`].
    pub fn round(
        &mut self,
        shares: &[Option<Share>],
        ahead_steps: u32,
        progress: &mut dyn FnMut(usize, &StepReport) -> ControlFlow<()>,
    ) -> Result<Vec<Option<WindowResult>>, TrainError> {
        if shares.len() > self.replicas.len() {
            let cause = format!("{} shares for {} replicas", shares.len(), self.replicas.len());
            return Err(TrainError::Share(cause));
        }
        let round = self.checkpoint.progress.round as u32;
        let lead_steps = self.leads.iter().flatten().map(|lead| lead.inner_steps).max().unwrap_or(0);
        let first_step = self.checkpoint.progress.step + u64::from(lead_steps);
        let mut results = Vec::with_capacity(shares.len());
        for (replica, share) in shares.iter().enumerate() {
            let Some(share) = *share else {
                results.push(None);
                continue;
            };
            let kept = self.replicas[replica].as_ref().map(VerifiedBlob::bytes);
            let (spec, data, base) = (self.spec, self.data, &self.checkpoint);
            let lead = self.leads[replica];
            let task =
                WindowTask { spec, data, base, replica: kept, round, first_step, lead, share, ahead_steps };
            results.push(Some(train_window(task, &mut |report| progress(replica, report))?));
        }
        let inner_steps = shares.iter().flatten().map(|share| share.inner_steps).max().unwrap_or(0);
        self.checkpoint = self.aggregated(round, first_step + u64::from(inner_steps), &results)?;
        self.leads = vec![None; self.replicas.len()];
        for (lead, share) in self.leads.iter_mut().zip(shares) {
            *lead = share.filter(|_| ahead_steps > 0).map(|share| share.after(ahead_steps));
        }
        for (replica, result) in self.replicas.iter_mut().zip(&results) {
            if let Some(result) = result {
                *replica = Some(result.replica.clone());
            }
        }
        Ok(results)
    }

    fn aggregated(
        &self,
        round: u32,
        step: u64,
        results: &[Option<WindowResult>],
    ) -> Result<Checkpoint, TrainError> {
        let trained: Vec<&WindowResult> = results.iter().flatten().collect();
        let blobs =
            |result: &&WindowResult| result.updates.iter().map(|update| update.blob.clone()).collect();
        let updates: Vec<Vec<VerifiedBlob>> = trained.iter().map(blobs).collect();
        let norms: Vec<Vec<u64>> = trained.iter().map(|result| result.norms()).collect();
        let contributions = trained.iter().zip(&updates).zip(&norms);
        let summands: Vec<Summand> = contributions
            .map(|((result, updates), norms)| Summand::contribution(round, result.tokens(), norms, updates))
            .collect();
        let task = AggregateTask {
            spec: self.spec,
            base: &self.checkpoint,
            round,
            step,
            norm_limits: &norm_limits(&norms),
            summands: &summands,
            amendments: &[],
            is_last: false,
        };
        aggregate(task).map(|aggregation| aggregation.checkpoint)
    }
}

/// The shares of a round for equal replicas: contiguous, one after the other from `first_sequence`.
pub fn equal_shares(
    replicas: usize,
    first_sequence: u64,
    sequences_per_step: u32,
    inner_steps: u32,
) -> Vec<Share> {
    let each = u64::from(sequences_per_step) * u64::from(inner_steps);
    let share =
        |replica| Share { first_sequence: first_sequence + replica * each, sequences_per_step, inner_steps };
    (0..replicas as u64).map(share).collect()
}
