//! A contiguous part of a network, run by itself: rows in and rows out, a gradient in and a gradient out.
//!
//! A stage keeps nothing between a forward pass and its backward pass but the rows that arrived: the backward pass runs
//! the forward pass again (Huang et al., 2019, "GPipe"). So what is in flight is small, it is plain data that a
//! checkpoint can hold, and any number of micro-batches may be in flight under different weights. The stage with the cost
//! runs forward only once, in its backward pass.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zoo_kernels::{Profile, clip, random};

use crate::buffer::{Buffer, Pool};
use crate::component::{Cost, Gradients, Noise, Pass};
use crate::definition::{NetworkDefinition, NodeKind};
use crate::error::{DefinitionError, NetworkError};
use crate::loss::LossSum;
use crate::network::{Edges, NOISE_STREAM, Outputs};
use crate::optimizer::Optimizer;
use crate::plan::{Plan, PlannedNode};
use crate::vnode::VNode;

/// Some VNodes that follow each other. Only the last one's output leaves them.
pub struct Stage {
    context: usize,
    profile: Profile,
    vnodes: Vec<VNode>,
    /// Producers as places among the stage's outputs: the rows that arrive, if any do, then its VNodes'.
    edges: Vec<Edges>,
    arriving_width: Option<usize>,
    leaving_width: Option<usize>,
    /// Parameter elements of the whole network, of which a VNode's share of the clipping limit is a part.
    network_parameters: usize,
    noise_seed: u64,
    pool: Pool,
}

/// The rows that pass a stage together, and where in the run they are.
#[derive(Clone, Copy, Debug)]
pub struct StageBatch<'a> {
    /// The optimiser step to which their gradient belongs, counted from 1.
    pub step: u64,
    /// Rows of that step before them.
    pub first_row: usize,
    /// Whole sequences, one after the other; only the first stage reads more of them than their number.
    pub inputs: &'a [u32],
}

/// The values of all parameters of a stage at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageWeights(Vec<Vec<f32>>);

/// Why a network is not cut into stages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// It is not a network.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// A VNode's weight is another's table, which would have two versions at once.
    #[error(
        "network: node '{node}' borrows its table from another stage\nhint: a pipeline needs a network with tied_embeddings = false"
    )]
    Tied {
        /// The borrower.
        node: String,
    },
    /// There are not so many places to cut.
    #[error(
        "{stages} stages of a network that can be cut into 1 to {most}\nhint: use fewer stages; a cut is where one output alone goes on"
    )]
    Stages {
        /// How many were asked for.
        stages: usize,
        /// How many are possible.
        most: usize,
    },
}

impl Stage {
    /// Cuts a network into `stages` of about equal work, all parameters zero. Where it is cut depends on the definition alone.
    pub fn cut(
        definition: &NetworkDefinition,
        profile: Profile,
        stages: usize,
    ) -> Result<Vec<Self>, StageError> {
        (0..stages).map(|stage| Self::one(definition, profile, stages, stage)).collect()
    }

    /// The stage of this number of a network cut into `stages`: no memory is taken for the others.
    pub fn one(
        definition: &NetworkDefinition,
        profile: Profile,
        stages: usize,
        stage: usize,
    ) -> Result<Self, StageError> {
        let Plan { mut nodes } = Plan::new(definition)?;
        if let Some(node) = nodes.iter().find(|node| node.borrows.is_some()) {
            return Err(StageError::Tied { node: node.definition.id.clone() });
        }
        let starts = starts(&nodes, stages)?;
        let start = *starts.get(stage).ok_or(StageError::Stages { stages: stage + 1, most: stages })?;
        let arriving_width = start.checked_sub(1).map(|before| nodes[before].definition.kind.output_width());
        nodes.truncate(starts.get(stage + 1).copied().unwrap_or(nodes.len()));
        let part = nodes.split_off(start);
        let last = &part.last().expect("a stage has VNodes").definition.kind;
        let leaving_width = (!last.is_cost()).then(|| last.output_width());
        let mut tables = Default::default();
        let (vnodes, edges) = part
            .into_iter()
            .map(|PlannedNode { definition: node, inputs, last_use, .. }| {
                let vnode = VNode::new(node, definition.context, profile, &mut tables);
                let place = |producer: usize| producer + 1 - start.max(1);
                let producers = inputs.into_iter().map(place).collect();
                (vnode, Edges { producers, last_use, borrows: None })
            })
            .unzip();
        Ok(Self {
            context: definition.context,
            profile,
            vnodes,
            edges,
            arriving_width,
            leaving_width,
            network_parameters: definition.parameter_count(),
            noise_seed: 0,
            pool: Pool::default(),
        })
    }

    /// Draws all parameters, to what they are in the whole network, and forgets gradients and optimiser state.
    pub fn initialise(&mut self, seed: u64) {
        self.vnodes.iter_mut().for_each(|vnode| vnode.initialise(seed));
        self.noise_seed = seed;
    }

    /// What leaves the stage, `[rows, leaving width]`, of what arrives, `[rows, arriving width]`, which is empty for the first.
    pub fn forward(&mut self, batch: StageBatch, arriving: &[f32]) -> Result<Vec<f32>, NetworkError> {
        let pool = self.pool.clone();
        let pass = self.pass(&pool, batch)?;
        check_rows(&pass, arriving, self.arriving_width)?;
        let output = self.run(&pass, arriving, self.vnodes.len(), Keep::Nothing);
        if clip::all_finite(&output) { Ok(output.to_vec()) } else { Err(self.not_finite(batch.step)) }
    }

    /// Adds the gradients of a micro-batch of which `arriving` came in and `gradient` came back; the gradient of
    /// `arriving`, empty for the first stage.
    pub fn backward(
        &mut self,
        batch: StageBatch,
        arriving: &[f32],
        gradient: &[f32],
    ) -> Result<Vec<f32>, NetworkError> {
        let pool = self.pool.clone();
        let pass = self.pass(&pool, batch)?;
        check_rows(&pass, arriving, self.arriving_width)?;
        check_rows(&pass, gradient, self.leaving_width)?;
        let count = self.vnodes.len();
        self.run(&pass, arriving, count, Keep::ForBackward);
        self.descend(&pass, batch.step, count, pool.copy_of(gradient))
    }

    /// For the stage with the cost: the loss of a micro-batch of a step of `total_tokens`, and as [`Stage::backward`]
    /// the gradient of what arrived.
    pub fn cost(
        &mut self,
        batch: StageBatch,
        arriving: &[f32],
        targets: &[u32],
        total_tokens: usize,
    ) -> Result<(LossSum, Vec<f32>), NetworkError> {
        let pool = self.pool.clone();
        let pass = self.pass(&pool, batch)?;
        check_rows(&pass, arriving, self.arriving_width)?;
        let cost = self.vnodes.len() - 1;
        if targets.len() != batch.inputs.len() || !self.vnodes[cost].definition().kind.is_cost() {
            let (inputs, targets) = (batch.inputs.len(), targets.len());
            return Err(NetworkError::Batch { inputs, targets, context: self.context });
        }
        self.check_targets(targets)?;
        let scale = (1.0 / total_tokens as f64) as f32;
        let hidden = self.run(&pass, arriving, cost, Keep::ForBackward);
        let Cost { loss, gradient } = self.vnodes[cost].cost(&pool, None, hidden, targets, scale);
        if !loss.nats.is_finite() {
            return Err(self.not_finite(batch.step));
        }
        Ok((loss, self.descend(&pass, batch.step, cost, gradient)?))
    }

    /// Ends a step, numbered from 1: every VNode clips its own gradient and updates itself.
    ///
    /// The norm of the whole network's gradient would have to be waited for, so each VNode is held to its part of the
    /// limit: `clip` times the root of its share of the parameters. If all are at their limits, so is the whole.
    pub fn update(
        &mut self,
        optimizer: &Optimizer,
        step: u64,
        lr: f64,
        clip: Option<f64>,
    ) -> Result<(), NetworkError> {
        let norms: Vec<f64> = self.vnodes.iter().map(gradient_norm).collect();
        if let Some(at) = norms.iter().position(|norm| !norm.is_finite()) {
            let vnode = self.vnodes[at].id().to_owned();
            return Err(NetworkError::NotFinite { step, vnode, what: "a gradient" });
        }
        for (vnode, norm) in self.vnodes.iter_mut().zip(norms) {
            let share = (vnode.parameter_count() as f64 / self.network_parameters as f64).sqrt();
            let scale = clip.map_or(1.0, |most| (most * share / (norm + 1e-6)).min(1.0)) as f32;
            vnode.update(optimizer, step, lr, scale);
        }
        Ok(())
    }

    /// Its VNodes, producers before consumers.
    pub fn vnodes(&self) -> &[VNode] {
        &self.vnodes
    }

    /// Its VNodes, to change their values.
    pub fn vnodes_mut(&mut self) -> &mut [VNode] {
        &mut self.vnodes
    }

    /// Elements of a row that arrives; none for the first stage.
    pub fn arriving_width(&self) -> Option<usize> {
        self.arriving_width
    }

    /// Elements of a row that leaves; none for the stage with the cost.
    pub fn leaving_width(&self) -> Option<usize> {
        self.leaving_width
    }

    /// A copy of all parameters' values.
    pub fn weights(&self) -> StageWeights {
        let parameters = self.vnodes.iter().flat_map(VNode::parameters);
        StageWeights(parameters.map(|parameter| parameter.value.clone()).collect())
    }

    /// The present weights, moved on by `times` what they have moved since `before`, which fit.
    pub fn moved_on(&self, mut before: StageWeights, times: f32) -> StageWeights {
        let parameters = self.vnodes.iter().flat_map(VNode::parameters);
        for (values, now) in before.0.iter_mut().zip(parameters) {
            for (value, now) in values.iter_mut().zip(&now.value) {
                *value = now + times * (now - *value);
            }
        }
        before
    }

    /// Puts `weights`, which fit, in place of the parameters' values, and these into `weights`.
    pub fn exchange(&mut self, weights: &mut StageWeights) {
        let parameters = self.vnodes.iter_mut().flat_map(VNode::parameters_mut);
        for (parameter, values) in parameters.zip(&mut weights.0) {
            std::mem::swap(&mut parameter.value, values);
        }
    }

    /// Whether `weights` have the shape of this stage's.
    pub fn fits(&self, weights: &StageWeights) -> bool {
        let own = self.vnodes.iter().flat_map(VNode::parameters).map(|parameter| parameter.value.len());
        own.eq(weights.0.iter().map(Vec::len))
    }

    fn pass<'a>(&self, pool: &'a Pool, batch: StageBatch<'a>) -> Result<Pass<'a>, NetworkError> {
        let (tokens, context) = (batch.inputs, self.context);
        if tokens.is_empty() || !tokens.len().is_multiple_of(context) {
            let inputs = tokens.len();
            return Err(NetworkError::Batch { inputs, targets: inputs, context });
        }
        if let NodeKind::Embedding { vocab_size, .. } = self.vnodes[0].definition().kind {
            check_tokens(tokens, vocab_size)?;
        }
        let seed = random::bits(self.noise_seed, NOISE_STREAM, batch.step);
        Ok(Pass {
            pool,
            tokens,
            context,
            positions: None,
            profile: self.profile,
            recompute: false,
            noise: Some(Noise { seed, first_row: batch.first_row }),
        })
    }

    /// The output of the first `count` VNodes. The last of them feeds whatever comes next, and nothing else does.
    fn run(&mut self, pass: &Pass, arriving: &[f32], count: usize, keep: Keep) -> Arc<Buffer> {
        let mut outputs = Outputs::new(&self.edges);
        let mut last = None;
        if self.arriving_width.is_some() {
            let rows = Arc::new(pass.pool.copy_of(arriving));
            last = Some(Arc::clone(&rows));
            outputs.push(rows);
        }
        for (vnode, edges) in self.vnodes[..count].iter_mut().zip(&self.edges) {
            let inputs = outputs.inputs(edges);
            // Who is the last to use a buffer writes on it, and must be the only one to hold it.
            drop(last.take());
            let output = match keep {
                Keep::Nothing => vnode.evaluate(pass, None, inputs),
                Keep::ForBackward => vnode.forward(pass, None, inputs),
            };
            last = Some(Arc::clone(&output));
            outputs.push(output);
        }
        last.expect("rows arrive, or an embedding makes them")
    }

    /// Backward from the gradient of the output of the first `count` VNodes to that of what arrived.
    fn descend(
        &mut self,
        pass: &Pass,
        step: u64,
        count: usize,
        gradient: Buffer,
    ) -> Result<Vec<f32>, NetworkError> {
        let first = usize::from(self.arriving_width.is_some());
        let mut arrived: Vec<Option<Buffer>> = (0..first + count).map(|_| None).collect();
        *arrived.last_mut().expect("rows arrive, or an embedding makes them") = Some(gradient);
        for at in (0..count).rev() {
            let arriving = arrived[first + at].take().expect("every VNode leads to the last");
            let mut gradients = Gradients { arrived: &mut arrived, producers: &self.edges[at].producers };
            self.vnodes[at].backward(pass, None, arriving, &mut gradients);
        }
        if self.arriving_width.is_none() {
            return Ok(Vec::new());
        }
        let gradient = arrived[0].take().expect("what arrives is used");
        if clip::all_finite(&gradient) {
            return Ok(gradient.to_vec());
        }
        let vnode = self.vnodes[0].id().to_owned();
        Err(NetworkError::NotFinite { step, vnode, what: "a gradient" })
    }

    fn check_targets(&self, targets: &[u32]) -> Result<(), NetworkError> {
        match self.vnodes.last().expect("a stage has VNodes").definition().kind {
            NodeKind::CrossEntropy { vocab_size, .. } | NodeKind::Cost { width: vocab_size, .. } => {
                check_tokens(targets, vocab_size)
            }
            _ => Ok(()),
        }
    }

    /// Names the first VNode with a parameter that is not finite, or else the last.
    fn not_finite(&self, step: u64) -> NetworkError {
        let sick = |vnode: &&VNode| vnode.parameters().iter().any(|it| !clip::all_finite(&it.value));
        let (vnode, what) = match self.vnodes.iter().find(sick) {
            Some(vnode) => (vnode, "a parameter"),
            None => (self.vnodes.last().expect("a stage has VNodes"), "the output"),
        };
        NetworkError::NotFinite { step, vnode: vnode.id().to_owned(), what }
    }
}

/// What a forward pass is for.
#[derive(Clone, Copy)]
enum Keep {
    Nothing,
    ForBackward,
}

fn check_rows(pass: &Pass, rows: &[f32], width: Option<usize>) -> Result<(), NetworkError> {
    let (found, expected) = (rows.len(), pass.tokens.len() * width.unwrap_or(0));
    if found == expected { Ok(()) } else { Err(NetworkError::Length { found, expected }) }
}

fn check_tokens(tokens: &[u32], vocab_size: usize) -> Result<(), NetworkError> {
    match tokens.iter().find(|&&token| token as usize >= vocab_size) {
        Some(&token) => Err(NetworkError::Token { token, vocab_size }),
        None => Ok(()),
    }
}

fn gradient_norm(vnode: &VNode) -> f64 {
    let gradients = vnode.parameters().iter().filter_map(|parameter| parameter.gradient());
    gradients.map(clip::sum_of_squares).sum::<f64>().sqrt()
}

/// Where the stages begin.
pub(crate) fn starts(nodes: &[PlannedNode], stages: usize) -> Result<Vec<usize>, StageError> {
    let places = cuts(nodes);
    let most = places.len() + 1;
    if !(1..=most).contains(&stages) {
        return Err(StageError::Stages { stages, most });
    }
    let work_before: Vec<u128> =
        nodes.iter().scan(0, |sum, node| Some(std::mem::replace(sum, *sum + work(nodes, node)))).collect();
    let total: u128 = nodes.iter().map(|node| work(nodes, node)).sum();
    let (mut starts, mut from) = (vec![0], 0);
    for stage in 1..stages {
        let ideal = total * stage as u128;
        let left_over = stages - 1 - stage;
        let distance = |&at: &usize| (work_before[places[at]] * stages as u128).abs_diff(ideal);
        let at = (from..places.len() - left_over).min_by_key(distance).expect("there are enough places");
        starts.push(places[at]);
        from = at + 1;
    }
    Ok(starts)
}

/// Before which nodes one output alone goes on: that of the node before.
fn cuts(nodes: &[PlannedNode]) -> Vec<usize> {
    let mut earliest = nodes.len();
    let mut places = Vec::new();
    for at in (1..nodes.len()).rev() {
        earliest = nodes[at].inputs.iter().copied().fold(earliest, usize::min);
        if earliest + 1 >= at {
            places.push(at);
        }
    }
    places.reverse();
    places
}

/// Multiply-adds a token, about: every element of a weight once, also of one that is borrowed; a table costs none.
fn work(nodes: &[PlannedNode], node: &PlannedNode) -> u128 {
    let borrowed = node.borrows.map_or(0, |table| nodes[table].definition.parameter_count());
    let own = match node.definition.kind {
        NodeKind::Embedding { .. } | NodeKind::PositionEmbedding { .. } => 0,
        _ => node.definition.parameter_count(),
    };
    (own + borrowed) as u128
}
