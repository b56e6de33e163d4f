//! One replica's part of a round: H inner steps from a checkpoint, and what came of them.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use zoo_content::{Digest, VerifiedBlob, merkle_root};
use zoo_model::{LossSum, Network, VNode};
use zoo_update::Header;

use crate::checkpoint::Checkpoint;
use crate::dataset::Dataset;
use crate::error::TrainError;
use crate::network_state::layout;
use crate::schedule::rewarm;
use crate::spec::{BATCH_TOKENS_MAX, TrainingSpec};
use crate::trainer::{StepReport, Trainer};

/// Which sequences of a round belong to a replica: step `i` of the window trains on
/// `first_sequence + i * sequences_per_step ..+ sequences_per_step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Index of the first sequence in the job's keyed order.
    pub first_sequence: u64,
    /// Sequences per inner step.
    pub sequences_per_step: u32,
    /// Inner steps.
    pub inner_steps: u32,
}

/// Everything that decides the bits of a window.
#[derive(Clone, Copy, Debug)]
pub struct WindowTask<'a> {
    /// The job's training specification.
    pub spec: &'a TrainingSpec,
    /// The job's training data.
    pub data: &'a Dataset,
    /// The checkpoint that the round starts from.
    pub base: &'a Checkpoint,
    /// What the replica kept after its last window; none is the fresh state.
    pub replica: Option<&'a [u8]>,
    /// The round, from 0.
    pub round: u32,
    /// Inner step of the job at which the window starts, for the schedule.
    pub first_step: u64,
    /// The replica's sequences.
    pub share: Share,
}

/// What a window came to.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowResult {
    /// The pseudo-gradient of every VNode, in network order.
    pub updates: Vec<VNodeUpdate>,
    /// What the replica keeps for its next window: optimiser state, and what its updates left unsaid.
    pub replica: VerifiedBlob,
    /// Loss over the whole window, each batch before its update.
    pub loss: LossSum,
    /// One digest of the replica's state per inner step.
    pub leaves: Vec<Digest>,
    /// The Merkle root over `leaves`.
    pub steps_root: Digest,
}

/// One VNode's part of a contribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VNodeUpdate {
    /// The VNode's id.
    pub vnode: String,
    /// The encoded update.
    pub blob: VerifiedBlob,
    /// Its norm ([`zoo_update::Update::norm`]).
    pub norm: u64,
}

impl WindowResult {
    /// Tokens trained on: the weight of the contribution.
    pub fn tokens(&self) -> u64 {
        self.loss.tokens
    }

    /// The norms of the updates, in network order.
    pub fn norms(&self) -> Vec<u64> {
        self.updates.iter().map(|update| update.norm).collect()
    }
}

/// Trains a window. Pure: equal tasks give equal results anywhere.
///
/// `progress` hears of every inner step and may stop the work.
///
/// # Errors
/// Inputs that do not fit together, NaN or infinity with step and VNode named, a pseudo-gradient
/// beyond what an update can hold, or [`TrainError::Stopped`].
pub fn train_window(
    task: WindowTask<'_>,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<WindowResult, TrainError> {
    let share = task.share;
    share.check(task.spec)?;
    let (mut replica, mut residuals) =
        Trainer::replica(task.spec.clone(), task.data, task.base, task.replica)?;
    replica.start_at(task.first_step);
    let mut loss = LossSum::default();
    let mut leaves = Vec::new();
    for inner_step in 0..u64::from(share.inner_steps) {
        let step = task.first_step + inner_step;
        let rate = task.spec.schedule.learning_rate(step) * rewarm(inner_step, task.spec.rewarm_steps);
        let first = share.first_sequence + inner_step * u64::from(share.sequences_per_step);
        let report = replica.step_on(first..first + u64::from(share.sequences_per_step), rate)?;
        loss += report.loss;
        leaves.push(step_leaf(step, report.loss, replica.network().digest()));
        if progress(&report).is_break() {
            return Err(TrainError::Stopped { step });
        }
    }
    Ok(WindowResult {
        updates: pseudo_gradient(&task, replica.network(), &mut residuals, loss.tokens)?,
        replica: replica.kept(&residuals),
        loss,
        steps_root: merkle_root(&leaves),
        leaves,
    })
}

impl Share {
    fn check(&self, spec: &TrainingSpec) -> Result<(), TrainError> {
        if self.sequences_per_step == 0 || self.inner_steps == 0 {
            return Err(TrainError::Share("it has no sequences".into()));
        }
        if u64::from(self.sequences_per_step) * spec.model.context as u64 > BATCH_TOKENS_MAX {
            return Err(TrainError::Share(format!("a step has more than {BATCH_TOKENS_MAX} tokens")));
        }
        let sequences = u64::from(self.sequences_per_step) * u64::from(self.inner_steps);
        if self.first_sequence.checked_add(sequences).is_none() {
            return Err(TrainError::Share("its sequences pass the end of u64".into()));
        }
        Ok(())
    }
}

/// The state after one inner step: what an audit of that step compares.
fn step_leaf(step: u64, loss: LossSum, parameters: Digest) -> Digest {
    let mut bytes = b"zoo/training/1 step".to_vec();
    bytes.extend_from_slice(&step.to_le_bytes());
    bytes.extend_from_slice(&loss.nats.to_bits().to_le_bytes());
    bytes.extend_from_slice(&loss.tokens.to_le_bytes());
    bytes.extend_from_slice(parameters.as_bytes());
    Digest::of(&bytes)
}

/// Per VNode, where the window started minus where it ended, as far as the codec says it now; `residuals` is the rest.
fn pseudo_gradient(
    task: &WindowTask<'_>,
    local: &Network,
    residuals: &mut [Vec<f32>],
    tokens: u64,
) -> Result<Vec<VNodeUpdate>, TrainError> {
    let start = task.base.network(task.spec)?;
    let codec = task.spec.update.codec();
    let places = start.vnodes().iter().zip(local.vnodes()).zip(residuals);
    let update = |((start, local), residual): ((&VNode, &VNode), &mut Vec<f32>)| {
        let mut difference = Vec::with_capacity(start.parameter_count());
        for (start, local) in start.parameters().iter().zip(local.parameters()) {
            difference.extend(start.value.iter().zip(&local.value).map(|(start, local)| start - local));
        }
        let vnode = local.id().to_owned();
        let mut encode = || {
            let header = Header { round: task.round, vnode: vnode.clone(), tokens, layout: layout(local)? };
            let bytes = codec.encode(&header, &difference, residual)?;
            let norm = codec.decode(&bytes, &header)?.norm();
            Ok((bytes, norm))
        };
        match encode() {
            Ok((bytes, norm)) => Ok(VNodeUpdate { vnode, blob: VerifiedBlob::new(bytes), norm }),
            Err(cause) => Err(TrainError::Update { vnode, cause }),
        }
    };
    places.map(update).collect()
}
