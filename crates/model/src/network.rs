//! A network of VNodes: the training step.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;
use zoo_content::Digest;
use zoo_kernels::{Profile, clip, random};

use crate::buffer::{Buffer, Pool};
use crate::component::{Gradients, Noise, Pass};
use crate::definition::NetworkDefinition;
use crate::error::{DefinitionError, NetworkError};
use crate::execution::{Execution, Unit};
use crate::loss::LossSum;
use crate::optimizer::Optimizer;
use crate::parameter::Parameter;
use crate::plan::{Plan, PlannedNode};
use crate::vnode::VNode;

/// Sums over tokens are cut at multiples of this, so micro-batches of whole chunks give the same bits.
pub(crate) const CHUNK_TOKENS: usize = 256;

/// The random stream of the steps' seeds.
pub(crate) const NOISE_STREAM: u64 = u64::from_le_bytes(*b"dropout ");

/// How a network runs; no option changes a bit of any result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Keep less of the forward pass and compute it again in the backward pass: less memory, more time.
    pub recompute: bool,
    /// Run every VNode by itself, also where several could be one operator: slower.
    pub separate: bool,
}

/// VNodes in topological order, the cost last.
pub struct Network {
    definition: NetworkDefinition,
    profile: Profile,
    pub(crate) vnodes: Vec<VNode>,
    pub(crate) edges: Vec<Edges>,
    execution: Execution,
    pub(crate) pool: Pool,
    options: NetworkOptions,
    /// What dropout draws from.
    noise_seed: u64,
    /// Optimiser steps applied.
    step: u64,
    /// Tokens whose gradient has been added since.
    tokens_in_step: usize,
}

/// The producers of a VNode's inputs, and for each whether no later VNode needs it.
pub(crate) struct Edges {
    pub producers: Vec<usize>,
    pub last_use: Vec<bool>,
    /// The embedding whose table is the VNode's weight.
    pub borrows: Option<usize>,
}

/// What an optimiser step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateReport {
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
}

impl Network {
    /// A network with all parameters zero, its products by the rule of `profile`.
    pub fn build(
        definition: &NetworkDefinition,
        profile: Profile,
        options: NetworkOptions,
    ) -> Result<Self, DefinitionError> {
        let Plan { nodes } = Plan::new(definition)?;
        let execution = if options.separate { Execution::separate(&nodes) } else { Execution::fused(&nodes) };
        let mut tables = BTreeMap::new();
        let (vnodes, edges) = nodes
            .into_iter()
            .map(|PlannedNode { definition: node, inputs, last_use, borrows, .. }| {
                let vnode = VNode::new(node, definition.context, profile, &mut tables);
                (vnode, Edges { producers: inputs, last_use, borrows })
            })
            .unzip();
        let (definition, pool) = (definition.clone(), Pool::default());
        let (noise_seed, step, tokens_in_step) = (0, 0, 0);
        Ok(Self {
            definition,
            profile,
            vnodes,
            edges,
            execution,
            pool,
            options,
            noise_seed,
            step,
            tokens_in_step,
        })
    }

    /// Draws all parameters and forgets gradients and optimiser state.
    pub fn initialise(&mut self, seed: u64) {
        self.vnodes.iter_mut().for_each(|vnode| vnode.initialise(seed));
        (self.noise_seed, self.step, self.tokens_in_step) = (seed, 0, 0);
    }

    /// Sets what dropout draws from, which [`Network::initialise`] sets to its seed: with the step and the place of an
    /// element, it decides whether the element is dropped.
    pub fn set_noise(&mut self, seed: u64) {
        self.noise_seed = seed;
    }

    /// One micro-batch of a step of `total_tokens` tokens: adds the gradient of the step's mean loss.
    ///
    /// `inputs` and `targets` are whole sequences, one after the other. The bits of the step do not
    /// depend on how its tokens are cut into micro-batches of whole 256-token chunks; after a
    /// micro-batch that is not whole chunks only [`Network::apply`] may follow.
    pub fn forward_backward(
        &mut self,
        inputs: &[u32],
        targets: &[u32],
        total_tokens: usize,
    ) -> Result<LossSum, NetworkError> {
        self.check_batch(inputs, targets)?;
        if !self.tokens_in_step.is_multiple_of(CHUNK_TOKENS) {
            return Err(NetworkError::Chunks { tokens: self.tokens_in_step });
        }
        let step = random::bits(self.noise_seed, NOISE_STREAM, self.step + 1);
        let noise = Noise { seed: step, first_row: self.tokens_in_step };
        self.tokens_in_step += inputs.len();

        let pool = self.pool.clone();
        let pass = Pass { noise: Some(noise), ..self.pass(&pool, inputs) };
        let hidden = self.forward(&pass);
        let scale = (1.0 / total_tokens as f64) as f32;
        let (head, table) = with_table(&mut self.vnodes, self.execution.cost, &self.edges);
        let cost = head.cost(&pool, table, hidden, targets, scale);
        if !cost.loss.nats.is_finite() {
            let error = self.not_finite();
            self.discard_step();
            return Err(error);
        }
        self.backward(&pass, cost.gradient);
        Ok(cost.loss)
    }

    /// The loss of whole sequences; changes nothing.
    pub fn evaluate(&self, inputs: &[u32], targets: &[u32]) -> Result<LossSum, NetworkError> {
        self.check_batch(inputs, targets)?;
        let hidden = self.hidden(&self.pass(&self.pool, inputs));
        let loss = self.head().loss(&self.pool, self.borrowed_table(), &hidden, targets);
        if loss.nats.is_finite() { Ok(loss) } else { Err(self.not_finite()) }
    }

    /// The logits of whole sequences, `[inputs, vocab_size]`, as training computes them.
    pub fn logits(&self, inputs: &[u32]) -> Result<Vec<f32>, NetworkError> {
        self.check_batch(inputs, inputs)?;
        let hidden = self.hidden(&self.pass(&self.pool, inputs));
        Ok(self.head().logits(&self.pool, self.borrowed_table(), &hidden).to_vec())
    }

    /// Ends a step, numbered from 1: clips the gradient to a global norm of `clip`, then lets every
    /// VNode update itself. On an error nothing is changed, and the gradient is forgotten.
    pub fn apply(
        &mut self,
        optimizer: &Optimizer,
        step: u64,
        lr: f64,
        clip: Option<f64>,
    ) -> Result<UpdateReport, NetworkError> {
        if self.tokens_in_step == 0 {
            return Err(NetworkError::NoGradient { step });
        }
        for (borrower, edges) in self.edges.iter().enumerate() {
            if let Some(embedding) = edges.borrows {
                let both = self.vnodes.get_disjoint_mut([embedding, borrower]);
                let [embedding, borrower] = both.expect("an embedding borrows nothing");
                embedding.add_borrowed(borrower);
            }
        }
        let gradient_norm = self.gradient_norm(step).inspect_err(|_| self.discard_step())?;
        let scale = clip.map_or(1.0, |most| (most / (gradient_norm + 1e-6)).min(1.0)) as f32;
        self.vnodes.iter_mut().for_each(|vnode| vnode.update(optimizer, step, lr, scale));
        (self.step, self.tokens_in_step) = (step, 0);
        Ok(UpdateReport { gradient_norm })
    }

    /// Forgets the gradient of a step that will not be applied.
    pub fn discard_step(&mut self) {
        self.vnodes.iter_mut().for_each(VNode::discard_step);
        self.tokens_in_step = 0;
    }

    /// Tells a network whose state was loaded how many optimiser steps it has behind it; errors name the next.
    pub fn set_step(&mut self, step: u64) {
        self.step = step;
    }

    /// Gives memory that only another batch shape would use back to the system.
    pub fn release_memory(&self) {
        self.pool.clear();
    }

    /// The most bytes that activations and gradients took at once, since [`Network::release_memory`].
    pub fn peak_bytes(&self) -> usize {
        self.pool.peak_bytes()
    }

    fn forward(&mut self, pass: &Pass) -> Arc<Buffer> {
        let mut outputs = Outputs::new(&self.edges);
        for unit in &self.execution.units {
            match unit {
                &Unit::One(at) => {
                    let inputs = outputs.inputs(&self.edges[at]);
                    let (vnode, table) = with_table(&mut self.vnodes, at, &self.edges);
                    outputs.push(vnode.forward(pass, table, inputs));
                }
                Unit::Heads(range) => {
                    let input = outputs.only_input(&self.edges[range.start]);
                    let heads = &mut self.vnodes[range.start + 1..range.end - 1];
                    outputs.push_last(range.len(), VNode::heads_forward(heads, pass, input));
                }
            }
        }
        outputs.input_of(self.execution.cost)
    }

    fn hidden(&self, pass: &Pass) -> Arc<Buffer> {
        let mut outputs = Outputs::new(&self.edges);
        for unit in &self.execution.units {
            match unit {
                &Unit::One(at) => {
                    let edges = &self.edges[at];
                    let inputs = outputs.inputs(edges);
                    outputs.push(self.vnodes[at].evaluate(pass, self.table(edges), inputs));
                }
                Unit::Heads(range) => {
                    let input = outputs.only_input(&self.edges[range.start]);
                    let heads = &self.vnodes[range.start + 1..range.end - 1];
                    outputs.push_last(range.len(), VNode::heads_evaluate(heads, pass, input));
                }
            }
        }
        outputs.input_of(self.execution.cost)
    }

    fn backward(&mut self, pass: &Pass, gradient: Buffer) {
        let mut arrived: Vec<Option<Buffer>> = self.vnodes.iter().map(|_| None).collect();
        arrived[self.edges[self.execution.cost].producers[0]] = Some(gradient);
        for unit in self.execution.units.iter().rev() {
            let (first, last) = match unit {
                &Unit::One(at) => (at, at),
                Unit::Heads(range) => (range.start, range.end - 1),
            };
            let arriving = arrived[last].take().expect("every VNode leads to the cost");
            let mut gradients = Gradients { arrived: &mut arrived, producers: &self.edges[first].producers };
            if first == last {
                let (vnode, table) = with_table(&mut self.vnodes, first, &self.edges);
                vnode.backward(pass, table, arriving, &mut gradients);
            } else {
                let heads = &mut self.vnodes[first + 1..last];
                gradients.give(0, VNode::heads_backward(heads, pass, arriving));
            }
        }
    }

    /// The norm of all gradients, in f64, in the order of the parameters.
    fn gradient_norm(&self, step: u64) -> Result<f64, NetworkError> {
        let mut squares = 0.0;
        for vnode in &self.vnodes {
            let gradients = vnode.parameters().iter().filter_map(|parameter| parameter.gradient());
            squares += gradients.map(clip::sum_of_squares).sum::<f64>();
            if !squares.is_finite() {
                return Err(NetworkError::NotFinite {
                    step,
                    vnode: vnode.id().to_owned(),
                    what: "a gradient",
                });
            }
        }
        Ok(squares.sqrt())
    }

    /// Names the first VNode with a parameter that is not finite, or else the head.
    pub(crate) fn not_finite(&self) -> NetworkError {
        let sick = |vnode: &&VNode| vnode.parameters().iter().any(|it| !clip::all_finite(&it.value));
        let (vnode, what) = match self.vnodes.iter().find(sick) {
            Some(vnode) => (vnode, "a parameter"),
            None => (self.head(), "the output"),
        };
        NetworkError::NotFinite { step: self.step + 1, vnode: vnode.id().to_owned(), what }
    }

    fn pass<'a>(&self, pool: &'a Pool, tokens: &'a [u32]) -> Pass<'a> {
        Pass {
            pool,
            tokens,
            context: self.context(),
            positions: None,
            profile: self.profile,
            recompute: self.options.recompute,
            noise: None,
        }
    }

    fn check_batch(&self, inputs: &[u32], targets: &[u32]) -> Result<(), NetworkError> {
        let context = self.context();
        if inputs.is_empty() || !inputs.len().is_multiple_of(context) || inputs.len() != targets.len() {
            return Err(NetworkError::Batch { inputs: inputs.len(), targets: targets.len(), context });
        }
        self.check_tokens(inputs)?;
        self.check_tokens(targets)
    }

    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<(), NetworkError> {
        let vocab_size = self.vocab_size();
        match tokens.iter().find(|&&token| token as usize >= vocab_size) {
            Some(&token) => Err(NetworkError::Token { token, vocab_size }),
            None => Ok(()),
        }
    }

    /// The VNode that gives the cost.
    pub(crate) fn cost_at(&self) -> usize {
        self.execution.cost
    }

    pub(crate) fn head(&self) -> &VNode {
        &self.vnodes[self.execution.cost]
    }

    pub(crate) fn borrowed_table(&self) -> Option<&Parameter> {
        self.table(&self.edges[self.execution.cost])
    }

    /// The table that a VNode borrows.
    pub(crate) fn table(&self, edges: &Edges) -> Option<&Parameter> {
        edges.borrows.map(|embedding| &self.vnodes[embedding].parameters()[0])
    }

    /// Refuses parameters that are not finite.
    pub(crate) fn check_finite(&self) -> Result<(), NetworkError> {
        let parameters = self.vnodes.iter().flat_map(VNode::parameters);
        let all = parameters.into_iter().all(|parameter| clip::all_finite(&parameter.value));
        if all { Ok(()) } else { Err(self.not_finite()) }
    }
}

/// Looking at a network, and moving whole parameter sets in and out.
impl Network {
    /// What it was built from.
    pub fn definition(&self) -> &NetworkDefinition {
        &self.definition
    }

    /// The rule of its matrix products.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Positions of a sequence.
    pub fn context(&self) -> usize {
        self.definition.context
    }

    /// Ids that every table of the network has.
    pub fn vocab_size(&self) -> usize {
        crate::decoder_stage::vocab_size(&self.definition)
    }

    /// How many operators a pass is: fewer than VNodes, where several are run as one.
    pub fn operators(&self) -> usize {
        self.execution.operators()
    }

    /// The VNodes, producers before consumers.
    pub fn vnodes(&self) -> &[VNode] {
        &self.vnodes
    }

    /// The VNodes, to change their values.
    pub fn vnodes_mut(&mut self) -> &mut [VNode] {
        &mut self.vnodes
    }

    /// Number of parameter elements; a tied table counts once.
    pub fn parameter_count(&self) -> usize {
        self.vnodes.iter().map(VNode::parameter_count).sum()
    }

    /// Writes all parameters: embedding; of each block attention norm, qkv, output, MLP norm, gate and up, down;
    /// final norm; head. Every weight is `[out, in]`.
    pub fn load_flat(&mut self, mut values: &[f32]) -> Result<(), NetworkError> {
        let expected = self.parameter_count();
        if values.len() != expected {
            return Err(NetworkError::Length { found: values.len(), expected });
        }
        for parameter in self.vnodes.iter_mut().flat_map(VNode::parameters_mut) {
            let (own, rest) = values.split_at(parameter.value.len());
            parameter.value.copy_from_slice(own);
            values = rest;
        }
        Ok(())
    }

    /// Digest of all parameters: of every VNode's id and digest, in order.
    pub fn digest(&self) -> Digest {
        let line = |vnode: &VNode| format!("{}\0{}\n", vnode.id(), vnode.digest());
        Digest::of(self.vnodes.par_iter().map(line).collect::<String>().as_bytes())
    }
}

/// The outputs of the VNodes that have run, each until its last use.
pub(crate) struct Outputs<'a> {
    edges: &'a [Edges],
    outputs: Vec<Option<Arc<Buffer>>>,
}

impl<'a> Outputs<'a> {
    pub fn new(edges: &'a [Edges]) -> Self {
        Self { edges, outputs: Vec::with_capacity(edges.len()) }
    }

    /// A VNode's inputs: moved where it is the last to use them.
    pub fn inputs(&mut self, edges: &Edges) -> Vec<Arc<Buffer>> {
        let inputs = edges.producers.iter().zip(&edges.last_use).map(|(&producer, &last)| {
            let output = &mut self.outputs[producer];
            if last { output.take() } else { output.clone() }.expect("outputs live until their last use")
        });
        inputs.collect()
    }

    pub fn push(&mut self, output: Arc<Buffer>) {
        self.outputs.push(Some(output));
    }

    /// The output of `count` VNodes that were run as one: the last one's.
    pub fn push_last(&mut self, count: usize, output: Arc<Buffer>) {
        self.outputs.extend((1..count).map(|_| None));
        self.push(output);
    }

    pub fn only_input(&mut self, edges: &Edges) -> Arc<Buffer> {
        self.inputs(edges).pop().expect("a checked network fills every slot")
    }

    pub fn input_of(mut self, cost: usize) -> Arc<Buffer> {
        let edges = &self.edges[cost];
        self.only_input(edges)
    }
}

/// A VNode, and the table that it borrows.
fn with_table<'a>(
    vnodes: &'a mut [VNode],
    at: usize,
    edges: &[Edges],
) -> (&'a mut VNode, Option<&'a Parameter>) {
    let Some(embedding) = edges[at].borrows else { return (&mut vnodes[at], None) };
    let both = vnodes.get_disjoint_mut([at, embedding]).expect("an embedding borrows nothing");
    let [vnode, embedding] = both;
    (vnode, Some(&embedding.parameters()[0]))
}
