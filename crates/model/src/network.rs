//! A network of VNodes: the training step.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;
use zoo_content::Digest;
use zoo_kernels::{Profile, clip};

use crate::buffer::{Buffer, Pool};
use crate::component::{Gradients, Pass};
use crate::definition::{NetworkDefinition, NodeKind};
use crate::error::{DefinitionError, NetworkError};
use crate::loss::LossSum;
use crate::optimizer::Optimizer;
use crate::parameter::Parameter;
use crate::plan::{Plan, PlannedNode};
use crate::vnode::VNode;

/// Sums over tokens are cut at multiples of this, so micro-batches of whole chunks give the same bits.
pub(crate) const CHUNK_TOKENS: usize = 256;

/// How a network runs; no option changes a bit of any result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Keep less of the forward pass and compute it again in the backward pass: less memory, more time.
    pub recompute: bool,
}

/// VNodes in topological order, the cost last.
pub struct Network {
    definition: NetworkDefinition,
    profile: Profile,
    pub(crate) vnodes: Vec<VNode>,
    pub(crate) edges: Vec<Edges>,
    /// The embedding whose table the head borrows.
    tied: Option<usize>,
    pub(crate) pool: Pool,
    options: NetworkOptions,
    /// Optimiser steps applied.
    step: u64,
    /// Tokens whose gradient has been added since.
    tokens_in_step: usize,
}

/// The producers of a VNode's inputs, and for each whether no later VNode needs it.
pub(crate) struct Edges {
    pub producers: Vec<usize>,
    pub last_use: Vec<bool>,
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
        let Plan { nodes, tied } = Plan::new(definition)?;
        let mut tables = BTreeMap::new();
        let (vnodes, edges) = nodes
            .into_iter()
            .map(|PlannedNode { definition: node, inputs, last_use }| {
                let vnode = VNode::new(node, definition.context, profile, &mut tables);
                (vnode, Edges { producers: inputs, last_use })
            })
            .unzip();
        let (definition, pool) = (definition.clone(), Pool::default());
        Ok(Self { definition, profile, vnodes, edges, tied, pool, options, step: 0, tokens_in_step: 0 })
    }

    /// Draws all parameters and forgets gradients and optimiser state.
    pub fn initialise(&mut self, seed: u64) {
        self.vnodes.iter_mut().for_each(|vnode| vnode.initialise(seed));
        (self.step, self.tokens_in_step) = (0, 0);
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
        self.tokens_in_step += inputs.len();

        let pool = self.pool.clone();
        let pass = self.pass(&pool, inputs);
        let hidden = self.forward(&pass);
        let scale = (1.0 / total_tokens as f64) as f32;
        let (vnodes, head) = self.vnodes.split_at_mut(self.edges.len() - 1);
        let table = self.tied.map(|embedding| &vnodes[embedding].parameters()[0].value[..]);
        let cost = head[0].cost(&pool, table, &hidden, targets, scale);
        drop(hidden);
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
        if let Some(embedding) = self.tied {
            let (vnodes, head) = self.vnodes.split_at_mut(self.edges.len() - 1);
            vnodes[embedding].add_borrowed(&head[0]);
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

    fn forward(&mut self, pass: &Pass) -> Arc<Buffer> {
        let mut outputs = Outputs::new(&self.edges);
        for (vnode, edges) in self.vnodes.iter_mut().zip(&self.edges).take(self.edges.len() - 1) {
            let output = vnode.forward(pass, outputs.inputs(edges));
            outputs.push(output);
        }
        outputs.cost_input()
    }

    fn hidden(&self, pass: &Pass) -> Arc<Buffer> {
        let mut outputs = Outputs::new(&self.edges);
        for (vnode, edges) in self.vnodes.iter().zip(&self.edges).take(self.edges.len() - 1) {
            let output = vnode.evaluate(pass, outputs.inputs(edges));
            outputs.push(output);
        }
        outputs.cost_input()
    }

    fn backward(&mut self, pass: &Pass, gradient: Buffer) {
        let mut arrived: Vec<Option<Buffer>> = self.vnodes.iter().map(|_| None).collect();
        let cost = self.vnodes.len() - 1;
        arrived[self.edges[cost].producers[0]] = Some(gradient);
        for at in (0..cost).rev() {
            let arriving = arrived[at].take().expect("every VNode leads to the cost");
            let mut gradients = Gradients { arrived: &mut arrived, producers: &self.edges[at].producers };
            self.vnodes[at].backward(pass, arriving, &mut gradients);
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

    pub(crate) fn head(&self) -> &VNode {
        self.vnodes.last().expect("a plan has a cost")
    }

    pub(crate) fn borrowed_table(&self) -> Option<&Parameter> {
        self.tied.map(|embedding| &self.vnodes[embedding].parameters()[0])
    }

    /// Logits of a position.
    pub(crate) fn head_vocab_size(&self) -> usize {
        match self.head().definition().kind {
            NodeKind::CrossEntropy { vocab_size, .. } => vocab_size,
            _ => unreachable!("the plan puts a head where the cost is"),
        }
    }

    /// Refuses parameters that are not finite.
    pub(crate) fn check_finite(&self) -> Result<(), NetworkError> {
        let parameters = self.vnodes.iter().flat_map(VNode::parameters);
        let all = parameters.into_iter().all(|parameter| clip::all_finite(&parameter.value));
        if all { Ok(()) } else { Err(self.not_finite()) }
    }

    /// Packs every weight for products: from here on the network can only be read.
    pub(crate) fn prepare(&mut self) {
        let (profile, tied) = (self.profile, self.tied);
        for (at, vnode) in self.vnodes.iter_mut().enumerate() {
            vnode.prepare(profile, tied == Some(at));
        }
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
        let tables = self.definition.nodes.iter().filter_map(|node| match node.kind {
            NodeKind::Embedding { vocab_size, .. } | NodeKind::CrossEntropy { vocab_size, .. } => {
                Some(vocab_size)
            }
            _ => None,
        });
        tables.min().expect("a plan has a cost")
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

    pub fn push(&mut self, output: Buffer) {
        self.outputs.push(Some(Arc::new(output)));
    }

    pub fn cost_input(mut self) -> Arc<Buffer> {
        let cost = self.edges.last().expect("a plan has a cost");
        self.inputs(cost).pop().expect("a cost has an input")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    /// The most that activations and gradients took together in each of three steps, each of `parts` micro-batches.
    fn peaks(
        name: &str,
        profile: Profile,
        options: NetworkOptions,
        tokens: usize,
        parts: usize,
    ) -> [usize; 3] {
        let config = preset::by_name(name).expect("a preset");
        let definition = NetworkDefinition::decoder(&config).expect("valid");
        let mut network = Network::build(&definition, profile, options).expect("valid");
        network.initialise(1);
        let tokens = vec![3; tokens];
        [1, 2, 3].map(|step| {
            for part in tokens.chunks(tokens.len() / parts) {
                network.forward_backward(part, part, tokens.len()).expect("finite");
            }
            network.apply(&Optimizer::default(), step, 1e-3, None).expect("finite");
            assert_eq!(network.pool.bytes_in_use(), 0, "nothing is held between steps");
            let peak = network.pool.peak_bytes();
            network.release_memory();
            peak
        })
    }

    #[test]
    fn every_step_takes_the_same_memory_and_close_to_what_was_foretold() {
        for name in ["qwen3-1m", "gpt2-1m", "bench-m"] {
            let config = preset::by_name(name).expect("a preset");
            for (profile, recompute, parts) in [
                (Profile::F32Exact, false, 1),
                (Profile::F32Exact, true, 1),
                (Profile::F32Exact, false, 2),
                (Profile::Bf16Exact, false, 1),
                (Profile::Bf16Exact, true, 2),
            ] {
                let tokens = 2 * config.context.max(CHUNK_TOKENS);
                let [peak, second, third] = peaks(name, profile, NetworkOptions { recompute }, tokens, parts);
                assert_eq!((peak, peak), (second, third), "{name}");
                let foretold = config.working_bytes(tokens / parts, parts > 1, profile, recompute);
                let ratio = peak as f64 / foretold as f64;
                assert!(
                    (0.8..=1.2).contains(&ratio),
                    "{name} {profile} {recompute} {parts}: {peak} for {foretold}"
                );
            }
        }
    }

    #[test]
    fn gradients_take_the_room_of_the_activations_they_were_made_of() {
        let config = preset::by_name("bench-m").expect("a preset");
        let gradients = 4 * config.parameter_count();
        let [peak, ..] = peaks("bench-m", Profile::F32Exact, NetworkOptions::default(), 1024, 1);
        let activations = config.activation_bytes(1024, Profile::F32Exact, false);
        assert!(peak < activations + gradients / 4, "{peak} for {activations} and {gradients}");
    }
}
