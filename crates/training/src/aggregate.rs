//! The outer step: from the contributions of a round to the next checkpoint.
//!
//! Per VNode the updates are summed as integers, weighted by tokens, so the mean pseudo-gradient `g`
//! has the same bits for any order of the contributions. The step is SGD, in f32, every operation
//! rounded on its own:
//!
//! ```text
//! momentum 0:  p <- p - lr * g
//! otherwise:   v <- momentum * v + g
//!              p <- p - lr * (g + momentum * v)        (Nesterov, as PyTorch's SGD)
//! ```
//!
//! `v` starts at zero and travels in the checkpoint.

use zoo_content::VerifiedBlob;
use zoo_kernels::clip;
use zoo_model::{Network, Parameter, VNode};
use zoo_update::{Aggregate, Header, weight_of_tokens};

use crate::checkpoint::{Checkpoint, Progress, VNodeState};
use crate::error::TrainError;
use crate::network_state::{build, layout};
use crate::spec::{Outer, TrainingSpec};

/// One replica's contribution to a round.
#[derive(Clone, Copy, Debug)]
pub struct Contribution<'a> {
    /// Tokens it was trained on: its weight.
    pub tokens: u64,
    /// The encoded update of every VNode, in network order.
    pub updates: &'a [VerifiedBlob],
}

/// A sealed round.
#[derive(Clone, Copy, Debug)]
pub struct AggregateTask<'a> {
    /// The job's training specification.
    pub spec: &'a TrainingSpec,
    /// The checkpoint that the round started from.
    pub base: &'a Checkpoint,
    /// The round, from 0.
    pub round: u32,
    /// Inner step of the job after the round.
    pub step: u64,
    /// What goes in; the order does not matter.
    pub contributions: &'a [Contribution<'a>],
}

/// Takes the outer step. Pure: equal tasks give equal checkpoints, in any order of contributions.
///
/// # Errors
/// No contribution, one of another round or network, a malformed update, or parameters that would
/// not be finite; with the VNode named.
pub fn aggregate(task: AggregateTask<'_>) -> Result<Checkpoint, TrainError> {
    let base = task.base;
    let mut network = base.network(task.spec)?;
    let sequences = contributed_sequences(&task, network.vnodes().len())?;
    let mut momentum =
        (task.spec.outer.momentum > 0.0).then(|| load_momentum(task.spec, base)).transpose()?;
    let mut vnodes = Vec::with_capacity(base.vnodes.len());
    for place in 0..base.vnodes.len() {
        let mean = mean_pseudo_gradient(&task, place, &network.vnodes()[place])?;
        let vnode = &mut network.vnodes_mut()[place];
        let velocity = momentum.as_mut().map(|momentum| &mut momentum.vnodes_mut()[place]);
        outer_step(task.spec.outer, vnode, velocity, &mean)?;
        vnodes.push(VNodeState {
            id: vnode.id().to_owned(),
            parameters: VerifiedBlob::new(vnode.state_bytes()),
            optimizer: None,
            momentum: momentum.as_ref().map(|all| VerifiedBlob::new(all.vnodes()[place].state_bytes())),
        });
    }
    let progress = Progress {
        round: u64::from(task.round) + 1,
        step: task.step,
        sequences: base.progress.sequences + sequences,
        optimizer_updates: 0,
    };
    Ok(Checkpoint { lineage: base.lineage, progress, vnodes })
}

/// Checks the contributions against the network; returns the sequences they were trained on.
fn contributed_sequences(task: &AggregateTask<'_>, vnodes: usize) -> Result<u64, TrainError> {
    let refuse = |cause: String| Err(TrainError::Contribution(cause));
    let context = task.spec.model.context as u64;
    let mut sequences = 0u64;
    for contribution in task.contributions {
        if contribution.updates.len() != vnodes {
            return refuse(format!("{} updates for {vnodes} vnodes", contribution.updates.len()));
        }
        if contribution.tokens == 0 || !contribution.tokens.is_multiple_of(context) {
            return refuse(format!("{} tokens are no whole sequences of {context}", contribution.tokens));
        }
        sequences = sequences.saturating_add(contribution.tokens / context);
    }
    if task.contributions.is_empty() {
        return refuse("a round needs at least one".into());
    }
    Ok(sequences)
}

/// The mean of the contributions to one VNode, weighted by tokens.
fn mean_pseudo_gradient(
    task: &AggregateTask<'_>,
    place: usize,
    vnode: &VNode,
) -> Result<Vec<f32>, TrainError> {
    let codec = task.spec.update.codec();
    let mean = || {
        let layout = layout(vnode)?;
        let mut aggregate = Aggregate::new(task.round, vnode.id(), layout.clone());
        let mut expected = Header { round: task.round, vnode: vnode.id().to_owned(), tokens: 0, layout };
        for contribution in task.contributions {
            expected.tokens = contribution.tokens;
            let update = codec.decode(contribution.updates[place].bytes(), &expected)?;
            aggregate.add(&update, weight_of_tokens(contribution.tokens))?;
        }
        aggregate.mean()
    };
    mean().map_err(|cause| TrainError::Update { vnode: vnode.id().to_owned(), cause })
}

/// A network whose values are the momentum: zero in a job's first round.
fn load_momentum(spec: &TrainingSpec, base: &Checkpoint) -> Result<Network, TrainError> {
    let (mut network, _) = build(spec)?;
    for (vnode, state) in network.vnodes_mut().iter_mut().zip(&base.vnodes) {
        if let Some(momentum) = &state.momentum {
            let failed = |cause| TrainError::State { what: "outer momentum", cause };
            vnode.load_state(momentum.bytes()).map_err(failed)?;
        }
    }
    Ok(network)
}

fn outer_step(
    outer: Outer,
    vnode: &mut VNode,
    velocity: Option<&mut VNode>,
    mean: &[f32],
) -> Result<(), TrainError> {
    match velocity {
        None => descend(vnode, outer.learning_rate, mean.iter().copied()),
        Some(velocity) => {
            let velocities = velocity.parameters_mut().iter_mut().flat_map(|parameter| &mut parameter.value);
            let nesterov = velocities.zip(mean).map(|(velocity, &gradient)| {
                *velocity = outer.momentum * *velocity + gradient;
                gradient + outer.momentum * *velocity
            });
            descend(vnode, outer.learning_rate, nesterov);
        }
    }
    let finite = |parameter: &Parameter| clip::all_finite(&parameter.value);
    if vnode.parameters().iter().all(finite) {
        return Ok(());
    }
    Err(TrainError::Contribution(format!(
        "parameters of vnode {} are not finite after the outer step\nhint: lower outer.learning_rate",
        vnode.id()
    )))
}

fn descend(vnode: &mut VNode, learning_rate: f32, directions: impl Iterator<Item = f32>) {
    let values = vnode.parameters_mut().iter_mut().flat_map(|parameter| &mut parameter.value);
    values.zip(directions).for_each(|(value, direction)| *value -= learning_rate * direction);
}
