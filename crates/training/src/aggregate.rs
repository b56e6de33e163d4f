//! The outer step: from the contributions of a round to the next checkpoint.
//!
//! Per VNode the updates are summed as integers, weighted by tokens and clipped to the round's median norm, so the mean
//! pseudo-gradient `g` has the same bits for any order of the contributions. What was trained a round ago and came late weighs
//! half. Where contributions come one by one, those that have nothing to do with the others are left out ([`zoo_update::Agreement`]), as are those that
//! were given in a round before ([`zoo_update::Recurrence`]), and copies count as much as what they are of, once. The step is SGD, in f32, every
//! operation rounded on its own:
//!
//! ```text
//! momentum 0:  p <- p - lr * g
//! otherwise:   v <- momentum * v + g
//!              p <- p - lr * (g + momentum * v)        (Nesterov, as PyTorch's SGD)
//! ```
//!
//! `v` starts at zero and travels in the checkpoint, as does that by which updates are known again ([`zoo_update::Memory`]).

use zoo_content::VerifiedBlob;
use zoo_kernels::clip;
use zoo_model::{Network, Parameter, VNode};
use zoo_update::{
    Aggregate, Header, Update, UpdateError, norm_limit, weight_of_late_tokens, weight_of_tokens,
};

use crate::amendment::Amendment;
use crate::checkpoint::{Checkpoint, Progress, VNodeState};
use crate::comparison::{Comparison, Counted};
use crate::error::TrainError;
use crate::network_state::{build, layout};
use crate::spec::{Outer, TrainingSpec};

/// What is added up: a replica's contribution to a round, or a sum of several.
#[derive(Clone, Copy, Debug)]
pub struct Summand<'a> {
    /// Which of the two.
    pub form: Form<'a>,
    /// The round of the window that it was trained in, or that it sums up.
    pub round: u32,
    /// Tokens that it stands for: its weight.
    pub tokens: u64,
    /// Place in the network of the VNode that `blobs` begins with.
    pub first_vnode: usize,
    /// One encoded update or partial sum of every VNode from there on, in network order.
    pub blobs: &'a [VerifiedBlob],
}

impl<'a> Summand<'a> {
    /// One replica's contribution: the encoded update of every VNode, and the norms it says they have.
    pub fn contribution(round: u32, tokens: u64, norms: &'a [u64], updates: &'a [VerifiedBlob]) -> Self {
        Self { form: Form::Updates { norms }, round, tokens, first_vnode: 0, blobs: updates }
    }

    /// What it says of the VNode at `place`, if anything: the blob, and its place in the summand.
    fn blob(&self, place: usize) -> Option<(usize, &'a VerifiedBlob)> {
        let at = place.checked_sub(self.first_vnode)?;
        self.blobs.get(at).map(|blob| (at, blob))
    }
}

/// How a summand is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// As the updates of one replica.
    Updates {
        /// The norm that it says each has ([`Update::norm`]).
        norms: &'a [u64],
    },
    /// As sums over this many contributions.
    Sums(u32),
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
    /// What the updates of each VNode are clipped to ([`zoo_update::norm_limit`]), in network order.
    pub norm_limits: &'a [u64],
    /// What goes in; neither the order nor how contributions were summed up before matters.
    pub summands: &'a [Summand<'a>],
    /// Earlier rounds, out of which something is taken back, in order.
    pub amendments: &'a [Amendment<'a>],
    /// Whether no outer step follows.
    pub is_last: bool,
}

/// Part of a sealed round: some VNodes of some contributions.
#[derive(Clone, Copy, Debug)]
pub struct SumTask<'a> {
    /// The job's training specification.
    pub spec: &'a TrainingSpec,
    /// The round, from 0.
    pub round: u32,
    /// Places of the VNodes in the network.
    pub vnodes: (usize, usize),
    /// What the updates of each of these are clipped to.
    pub norm_limits: &'a [u64],
    /// What goes in; each has those VNodes and perhaps more.
    pub summands: &'a [Summand<'a>],
}

/// The partial sums of a [`SumTask`], encoded, by VNode id.
///
/// # Errors
/// As [`aggregate`].
pub fn partial_sums(task: SumTask<'_>) -> Result<Vec<(String, VerifiedBlob)>, TrainError> {
    let (network, _) = build(task.spec)?;
    let (first, end) = task.vnodes;
    let vnodes = network.vnodes().get(first..end).filter(|vnodes| !vnodes.is_empty()).ok_or_else(|| {
        let cause =
            format!("there are no vnodes {first} to {end} in a network of {}", network.vnodes().len());
        TrainError::Contribution(cause)
    })?;
    check_limits(task.norm_limits, vnodes.len())?;
    let counted = &Counted::all(task.summands.len());
    let adding = Adding { spec: task.spec, round: task.round, summands: task.summands, counted };
    let sum = |((place, vnode), &limit): ((usize, &VNode), &u64)| {
        let sum = adding.sum(first + place, vnode, limit, None)?;
        Ok((vnode.id().to_owned(), VerifiedBlob::new(sum.encode())))
    };
    vnodes.iter().enumerate().zip(task.norm_limits).map(sum).collect()
}

/// Looks at one summand by itself: whether it can be added, with others of its round.
///
/// # Errors
/// [`TrainError::Update`] or [`TrainError::Contribution`]; equal on every machine, with the VNode named.
pub fn inspect(spec: &TrainingSpec, round: u32, summand: Summand<'_>) -> Result<(), TrainError> {
    let (network, _) = build(spec)?;
    check_tokens(spec, &summand)?;
    let vnodes = network.vnodes();
    let end = summand.first_vnode.saturating_add(summand.blobs.len());
    let Some(covered) = vnodes.get(summand.first_vnode..end) else {
        return Err(outside(&summand, vnodes.len()));
    };
    let adding = Adding { spec, round, summands: &[summand], counted: &Counted::all(1) };
    for (place, vnode) in covered.iter().enumerate() {
        adding.sum(summand.first_vnode + place, vnode, u64::MAX, None)?;
    }
    Ok(())
}

/// What the updates of each VNode are clipped to, from what every contribution says of their norms.
pub fn norm_limits(norms: &[Vec<u64>]) -> Vec<u64> {
    let vnodes = norms.first().map_or(0, Vec::len);
    let said = |vnode: usize| norms.iter().map(move |of_one| of_one.get(vnode).copied().unwrap_or(0));
    (0..vnodes).map(|vnode| norm_limit(said(vnode))).collect()
}

fn check_limits(limits: &[u64], vnodes: usize) -> Result<(), TrainError> {
    if limits.len() == vnodes {
        return Ok(());
    }
    Err(TrainError::Contribution(format!("{} limits of norms for {vnodes} vnodes", limits.len())))
}

fn check_tokens(spec: &TrainingSpec, summand: &Summand<'_>) -> Result<(), TrainError> {
    let context = spec.model.context as u64;
    if summand.tokens == 0 || !summand.tokens.is_multiple_of(context) {
        let cause = format!("{} tokens are no whole sequences of {context}", summand.tokens);
        return Err(TrainError::Contribution(cause));
    }
    Ok(())
}

fn outside(summand: &Summand<'_>, vnodes: usize) -> TrainError {
    let (first, updates) = (summand.first_vnode, summand.blobs.len());
    TrainError::Contribution(format!("{updates} updates from vnode {first} on for {vnodes} vnodes"))
}

/// What came of a sealed round.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregation {
    /// The next checkpoint.
    pub checkpoint: Checkpoint,
    /// Summands that did not count, in order: contributions that have nothing to do with the others, or were given in a round before.
    pub left_out: Vec<usize>,
    /// Summands that counted only as a part, in order: contributions that are alike.
    pub alike: Vec<usize>,
}

/// Takes the outer step. Pure: equal contributions give equal checkpoints, in any order; and equal parameters and momentum over any tree of
/// sums, but for contributions that do not count whole: only where all of them come one by one can they be compared, and remembered.
///
/// # Errors
/// No contribution, one of another round or network, a malformed update, or parameters that would
/// not be finite; with the VNode named.
pub fn aggregate(task: AggregateTask<'_>) -> Result<Aggregation, TrainError> {
    let mut comparison = Comparison::of(&task);
    let all = Counted::all(task.summands.len());
    let mut checkpoint = next_checkpoint(task, &all, comparison.as_mut())?;
    let counted = comparison.as_ref().map_or_else(|| all.clone(), Comparison::counted);
    if counted != all {
        checkpoint = next_checkpoint(task, &counted, None)?;
    }
    if let Some(comparison) = comparison {
        comparison.remember(&mut checkpoint);
    }
    Ok(Aggregation { checkpoint, left_out: counted.left_out(), alike: counted.alike() })
}

/// The checkpoint that summands lead to, as far as they count; what they say one by one is also compared, if that is asked for.
fn next_checkpoint(
    task: AggregateTask<'_>,
    counted: &Counted,
    mut comparison: Option<&mut Comparison<'_>>,
) -> Result<Checkpoint, TrainError> {
    let base = task.base;
    let mut network = base.network(task.spec)?;
    let adding = Adding { spec: task.spec, round: task.round, summands: task.summands, counted };
    let sequences = adding.sequences(network.vnodes().len())?;
    check_limits(task.norm_limits, network.vnodes().len())?;
    let mut momentum =
        (task.spec.outer.momentum > 0.0).then(|| load_momentum(task.spec, base)).transpose()?;
    let mut vnodes = Vec::with_capacity(base.vnodes.len());
    for (place, before) in base.vnodes.iter().enumerate() {
        let limit = task.norm_limits[place];
        let vnode = &mut network.vnodes_mut()[place];
        let sum = adding.sum(place, vnode, limit, comparison.as_deref_mut())?;
        let mut mean = sum.mean().map_err(|cause| update_error(vnode, cause))?;
        for amendment in task.amendments {
            let correction = amendment.correction(task.spec, place, vnode)?;
            let factor = if task.is_last { amendment.made_up(task.spec.outer, task.round) } else { 1.0 };
            mean.iter_mut().zip(correction).for_each(|(mean, more)| *mean += factor * more);
        }
        let velocity = momentum.as_mut().map(|momentum| &mut momentum.vnodes_mut()[place]);
        outer_step(task.spec.outer, vnode, velocity, &mean)?;
        vnodes.push(VNodeState {
            id: vnode.id().to_owned(),
            parameters: VerifiedBlob::new(vnode.state_bytes()),
            optimizer: None,
            momentum: momentum.as_ref().map(|all| VerifiedBlob::new(all.vnodes()[place].state_bytes())),
            memory: before.memory.clone(),
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

/// Summands that are to be added, and what each counts for.
pub(crate) struct Adding<'a> {
    pub spec: &'a TrainingSpec,
    pub round: u32,
    pub summands: &'a [Summand<'a>],
    pub counted: &'a Counted,
}

impl<'a> Adding<'a> {
    /// Those that count, and of how many copies each is one.
    fn counted(&self) -> impl Iterator<Item = (&'a Summand<'a>, u64)> {
        let counts = self.summands.iter().zip(self.counted.copies.iter().copied());
        counts.filter(|(_, copies)| *copies > 0)
    }

    /// Checks the summands against the network; returns the sequences that stand behind every VNode.
    fn sequences(&self, vnodes: usize) -> Result<u64, TrainError> {
        let refuse = |cause: String| Err(TrainError::Contribution(cause));
        let context = self.spec.model.context as u64;
        let mut tokens = vec![0u64; vnodes];
        for (summand, _) in self.counted() {
            let covered =
                tokens.get_mut(summand.first_vnode..).and_then(|rest| rest.get_mut(..summand.blobs.len()));
            let covered = covered.ok_or_else(|| outside(summand, vnodes))?;
            check_tokens(self.spec, summand)?;
            covered.iter_mut().for_each(|tokens| *tokens = tokens.saturating_add(summand.tokens));
        }
        match tokens.first() {
            None | Some(0) => refuse("a round needs at least one".into()),
            Some(&all) if tokens.iter().all(|&tokens| tokens == all) => Ok(all / context),
            Some(_) => refuse("not every vnode has the contributions of the others".into()),
        }
    }

    /// The sum of what the summands say of the VNode at `place`, each update clipped to `norm_limit` and compared, if that is asked for.
    pub(crate) fn sum(
        &self,
        place: usize,
        vnode: &VNode,
        norm_limit: u64,
        comparison: Option<&mut Comparison<'_>>,
    ) -> Result<Aggregate, TrainError> {
        let codec = self.spec.update.codec();
        let round = self.round;
        let sum = || {
            let layout = layout(vnode)?;
            let mut updates = Vec::new();
            let mut sum = Aggregate::new(round, vnode.id(), layout.clone());
            let mut expected = Header { round, vnode: vnode.id().to_owned(), tokens: 0, layout };
            for (summand, copies) in self.counted() {
                let Some((at, blob)) = summand.blob(place) else { continue };
                (expected.round, expected.tokens) = (summand.round, summand.tokens);
                match summand.form {
                    Form::Updates { norms } => {
                        let update = codec.decode(blob.bytes(), &expected)?;
                        check_norm(&update, norms.get(at).copied())?;
                        sum.add(&update, weight(summand, round).div_ceil(copies), norm_limit)?;
                        updates.extend(comparison.is_some().then_some(update));
                    }
                    Form::Sums(contributions) => {
                        sum.merge(&Aggregate::decode(blob.bytes(), &expected, contributions)?)?;
                    }
                }
            }
            if let Some(comparison) = comparison {
                comparison.take(place, &updates, norm_limit)?;
            }
            Ok(sum)
        };
        sum().map_err(|cause| update_error(vnode, cause))
    }
}

/// Calls `take` with the update of the VNode at `place` of every contribution.
pub(crate) fn each_update(
    spec: &TrainingSpec,
    contributions: &[Summand<'_>],
    place: usize,
    vnode: &VNode,
    mut take: impl FnMut(usize, Update) -> Result<(), UpdateError>,
) -> Result<(), UpdateError> {
    let codec = spec.update.codec();
    let layout = layout(vnode)?;
    for (number, contribution) in contributions.iter().enumerate() {
        let Some((_, blob)) = contribution.blob(place) else { continue };
        let (round, tokens, layout) = (contribution.round, contribution.tokens, layout.clone());
        let expected = Header { round, vnode: vnode.id().to_owned(), tokens, layout };
        take(number, codec.decode(blob.bytes(), &expected)?)?;
    }
    Ok(())
}

pub(crate) fn weight(summand: &Summand<'_>, round: u32) -> u64 {
    if summand.round < round {
        weight_of_late_tokens(summand.tokens)
    } else {
        weight_of_tokens(summand.tokens)
    }
}

/// Limits follow from what is said of norms, so who says less than is true would shorten everybody else.
fn check_norm(update: &Update, said: Option<u64>) -> Result<(), UpdateError> {
    let actual = update.norm();
    if said == Some(actual) {
        return Ok(());
    }
    let expected = said.map_or("none".into(), |said| said.to_string());
    Err(UpdateError::Unexpected { what: "a norm of", expected, actual: actual.to_string() })
}

pub(crate) fn update_error(vnode: &VNode, cause: UpdateError) -> TrainError {
    TrainError::Update { vnode: vnode.id().to_owned(), cause }
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
