//! One replica's part of a round: H inner steps from a checkpoint, and what came of them.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use zoo_content::{Digest, VerifiedBlob, merkle_root};
use zoo_model::{LossSum, Network, VNode};
use zoo_update::Header;

use crate::checkpoint::{Checkpoint, VNodeState};
use crate::dataset::Dataset;
use crate::error::TrainError;
use crate::lead::Lead;
use crate::network_state::layout;
use crate::schedule::rewarm;
use crate::spec::{BATCH_TOKENS_MAX, TrainingSpec};
use crate::trainer::{StepReport, Trainer};

/// The leaf of every so manyth step of a window covers all parameters, and those between only what the step scored: to hash a model takes as long
/// as a fiftieth of a small step, and an audit that begins at one such state and ends at the next takes no more than these steps.
pub const PARAMETERS_EVERY: usize = 4;

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
    /// Inner step of the job at which the share starts, for the schedule.
    pub first_step: u64,
    /// What the replica trains on before, from where its last window ended ([`Lead`]); a fresh one does not.
    pub lead: Option<Share>,
    /// The replica's sequences.
    pub share: Share,
    /// So many steps the replica takes afterwards, from where this window ends, on the sequences that follow its share: the lead of the
    /// next window.
    pub ahead_steps: u32,
}

impl<'a> WindowTask<'a> {
    /// The first window of a job, of a replica that has kept nothing and does not go on afterwards.
    pub fn first(spec: &'a TrainingSpec, data: &'a Dataset, base: &'a Checkpoint, share: Share) -> Self {
        let (replica, lead) = (None, None);
        Self { spec, data, base, replica, round: 0, first_step: 0, lead, share, ahead_steps: 0 }
    }
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
    /// What each inner step came to, as one digest; every [`PARAMETERS_EVERY`]th covers all parameters.
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
    train_window_from(task, None, progress).map(|(result, _)| result)
}

/// Hears of every inner step, and sees the network after it; may stop the work.
pub type Watch<'a> = dyn FnMut(&StepReport, &Network) -> ControlFlow<()> + 'a;

/// As [`train_window`]; `watch` sees the network after every step, those of the lead too.
///
/// # Errors
/// As [`train_window`].
pub fn watch_window(task: WindowTask<'_>, watch: &mut Watch) -> Result<WindowResult, TrainError> {
    train_watched(task, None, watch).map(|(result, _)| result)
}

/// As [`train_window`], from the task's lead as far as it was taken already; also returns that of the next window, not yet taken.
///
/// # Errors
/// As [`train_window`].
pub fn train_window_from(
    task: WindowTask<'_>,
    lead: Option<Lead>,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<(WindowResult, Option<Lead>), TrainError> {
    train_watched(task, lead, &mut |report, _| progress(report))
}

fn train_watched(
    task: WindowTask<'_>,
    lead: Option<Lead>,
    watch: &mut Watch,
) -> Result<(WindowResult, Option<Lead>), TrainError> {
    let share = task.share;
    share.with_steps(share.inner_steps.saturating_add(task.ahead_steps)).check(task.spec)?;
    let (mut replica, mut residuals, mut steps) = match (lead, task.lead, task.replica) {
        (Some(lead), ..) => lead.join(task.base, watch)?,
        (None, Some(share), Some(kept)) => {
            let lead = Lead::restore(task.spec, task.data, kept, task.first_step, share)?;
            lead.join(task.base, watch)?
        }
        (None, _, kept) => {
            let (replica, residuals) = Trainer::replica(task.spec.clone(), task.data, task.base, kept)?;
            (replica, residuals, Steps::default())
        }
    };
    replica.start_at(task.first_step);
    for inner_step in 0..share.inner_steps {
        let rewarm = rewarm(inner_step.into(), task.spec.rewarm_steps);
        steps.take(&mut replica, share, inner_step, rewarm, watch)?;
    }
    let updates = pseudo_gradient(&task, replica.network(), &mut residuals, steps.loss.tokens)?;
    let kept = replica.kept(&residuals, task.ahead_steps > 0);
    let ahead = (task.ahead_steps > 0).then(|| {
        let share = share.after(task.ahead_steps);
        Lead::new(kept.digest(), replica, residuals, share)
    });
    let Steps { loss, leaves } = steps;
    Ok((WindowResult { updates, replica: kept, loss, steps_root: merkle_root(&leaves), leaves }, ahead))
}

/// What the steps of a window have come to so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub loss: LossSum,
    pub leaves: Vec<Digest>,
}

impl Steps {
    /// Takes the step of `share` with this index, at the schedule's learning rate times `rate`.
    pub fn take(
        &mut self,
        replica: &mut Trainer,
        share: Share,
        inner_step: u32,
        rate: f64,
        watch: &mut Watch,
    ) -> Result<(), TrainError> {
        let step = replica.progress().step;
        let rate = replica.spec().schedule.learning_rate(step) * rate;
        let first = share.first_sequence + u64::from(inner_step) * u64::from(share.sequences_per_step);
        let report = replica.step_on(first..first + u64::from(share.sequences_per_step), rate)?;
        self.loss += report.loss;
        let is_covered = (self.leaves.len() + 1).is_multiple_of(PARAMETERS_EVERY);
        let parameters = is_covered.then(|| replica.network().digest());
        self.leaves.push(step_leaf(step, report.loss, parameters));
        if watch(&report, replica.network()).is_break() { Err(TrainError::Stopped { step }) } else { Ok(()) }
    }
}

impl Share {
    /// The same with so many steps.
    fn with_steps(self, inner_steps: u32) -> Self {
        Self { inner_steps, ..self }
    }

    /// So many steps on the sequences that follow.
    pub fn after(self, inner_steps: u32) -> Self {
        let sequences = u64::from(self.inner_steps) * u64::from(self.sequences_per_step);
        Self { first_sequence: self.first_sequence + sequences, ..self.with_steps(inner_steps) }
    }

    pub(crate) fn check(&self, spec: &TrainingSpec) -> Result<(), TrainError> {
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

/// What one inner step came to: what an audit of that step compares. `parameters` is the digest of the network after every [`PARAMETERS_EVERY`]th.
pub fn step_leaf(step: u64, loss: LossSum, parameters: Option<Digest>) -> Digest {
    let mut bytes = b"zoo/training/2 step".to_vec();
    bytes.extend_from_slice(&step.to_le_bytes());
    bytes.extend_from_slice(&loss.nats.to_bits().to_le_bytes());
    bytes.extend_from_slice(&loss.tokens.to_le_bytes());
    parameters.iter().for_each(|parameters| bytes.extend_from_slice(parameters.as_bytes()));
    Digest::of(&bytes)
}

/// Per VNode, where the window started minus where it ended, as far as the codec says it now; `residuals` is the rest.
fn pseudo_gradient(
    task: &WindowTask<'_>,
    local: &Network,
    residuals: &mut [Vec<f32>],
    tokens: u64,
) -> Result<Vec<VNodeUpdate>, TrainError> {
    let codec = task.spec.update.codec();
    let places = task.base.vnodes.iter().zip(local.vnodes()).zip(residuals);
    let update = |((start, local), residual): ((&VNodeState, &VNode), &mut Vec<f32>)| {
        let difference = local
            .difference_to(start.parameters.bytes())
            .map_err(|cause| TrainError::State { what: "parameters", cause })?;
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
