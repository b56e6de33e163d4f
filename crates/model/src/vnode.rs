//! The unit of everything: one component of the network as a stateful agent.

use std::sync::Arc;

use zoo_kernels::Profile;

use crate::buffer::{Buffer, Pool};
use crate::component::{Cache, Component, Cost, Gradients, Head, Kept, Pass, RopeTables};
use crate::definition::{NodeDefinition, Scope};
use crate::loss::LossSum;
use crate::optimizer::Optimizer;
use crate::parameter::{Gradient, Parameter, Weight};

/// One component of a network. It holds its parameters, their gradients, its optimiser state and
/// what it kept of its inputs; its backward pass uses only these and the gradient that arrives.
pub struct VNode {
    definition: NodeDefinition,
    component: Component,
    parameters: Vec<Parameter>,
    /// A tied head's share of the gradient of the table it borrows. It is added to the embedding's own at
    /// the end of a step, so that the sum does not depend on how the step was cut into micro-batches.
    borrowed: Gradient,
    kept: Kept,
}

impl VNode {
    pub(crate) fn new(
        definition: NodeDefinition,
        context: usize,
        profile: Profile,
        tables: &mut RopeTables,
    ) -> Self {
        let component = Component::new(&definition.kind, context, profile, tables);
        let parameters = definition.parameters().into_iter().map(Parameter::new).collect();
        Self { definition, component, parameters, borrowed: Gradient::default(), kept: Kept::default() }
    }

    /// Unique name within the network.
    pub fn id(&self) -> &str {
        &self.definition.id
    }

    /// What it is.
    pub fn definition(&self) -> &NodeDefinition {
        &self.definition
    }

    /// With whom its parameters are synchronised.
    pub fn scope(&self) -> Scope {
        self.definition.scope
    }

    /// Its parameters, in canonical order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Its parameters, to change their values.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    /// Number of parameter elements.
    pub fn parameter_count(&self) -> usize {
        self.definition.parameter_count()
    }

    /// Draws the values before training. They depend on the seed, the VNode's id and the parameter's
    /// name alone, so a VNode starts equal wherever it is placed.
    pub(crate) fn initialise(&mut self, seed: u64) {
        for parameter in &mut self.parameters {
            let stream = crate::initialise::stream(&self.definition.id, parameter.name());
            parameter.initialise(seed, stream);
            parameter.moments = Default::default();
        }
        self.discard_step();
    }

    /// The output; keeps what [`VNode::backward`] needs.
    pub(crate) fn forward(&mut self, pass: &Pass, inputs: Vec<Arc<Buffer>>) -> Buffer {
        self.kept.clear();
        self.component.forward(pass, &self.parameters, inputs, Some(&mut self.kept), None)
    }

    /// The output, and nothing kept.
    pub(crate) fn evaluate(&self, pass: &Pass, inputs: Vec<Arc<Buffer>>) -> Buffer {
        self.component.forward(pass, &self.parameters, inputs, None, None)
    }

    /// The output for positions that follow those in `cache`, which receives theirs.
    pub(crate) fn decode(&self, pass: &Pass, inputs: Vec<Arc<Buffer>>, cache: &mut Cache) -> Buffer {
        self.component.forward(pass, &self.parameters, inputs, None, Some(cache))
    }

    /// Adds to the parameters' gradients and hands on those of the inputs.
    pub(crate) fn backward(&mut self, pass: &Pass, arriving: Buffer, gradients: &mut Gradients) {
        self.component.backward(pass, &mut self.parameters, arriving, gradients, &mut self.kept);
    }

    /// A head's cost; `borrowed` is the table it is tied to.
    pub(crate) fn cost(
        &mut self,
        pool: &Pool,
        borrowed: Option<&[f32]>,
        x: &Buffer,
        targets: &[u32],
        scale: f32,
    ) -> Cost {
        let head = self.head().clone();
        match borrowed {
            Some(table) => head.cost(pool, table, &mut self.borrowed, x, targets, scale),
            None => {
                let Parameter { value, gradient, .. } = &mut self.parameters[0];
                head.cost(pool, value, gradient, x, targets, scale)
            }
        }
    }

    /// A head's loss, without gradients.
    pub(crate) fn loss(
        &self,
        pool: &Pool,
        borrowed: Option<&Parameter>,
        x: &[f32],
        targets: &[u32],
    ) -> LossSum {
        self.head().evaluate(pool, self.head_weight(borrowed), x, targets)
    }

    /// A head's logits, `[rows of x, vocab_size]`.
    pub(crate) fn logits(&self, pool: &Pool, borrowed: Option<&Parameter>, x: &[f32]) -> Buffer {
        self.head().logits(pool, self.head_weight(borrowed), x)
    }

    /// Changes the parameters by their gradients times `gradient_scale`, and starts the next step.
    pub(crate) fn update(&mut self, optimizer: &Optimizer, step: u64, lr: f64, gradient_scale: f32) {
        for parameter in &mut self.parameters {
            optimizer.update(parameter, step, lr, gradient_scale);
        }
        self.discard_step();
    }

    /// Empties gradients and whatever a forward pass kept.
    pub(crate) fn discard_step(&mut self) {
        self.parameters.iter_mut().for_each(|parameter| parameter.gradient.clear());
        self.borrowed.clear();
        self.kept.clear();
    }

    /// Adds a tied head's share to the gradient of this embedding's table.
    pub(crate) fn add_borrowed(&mut self, head: &VNode) {
        let Some(share) = head.borrowed.get() else { return };
        match self.parameters[0].gradient.get_mut() {
            Some(own) => zoo_kernels::elementwise::add_assign(own, share),
            None => unreachable!("a backward pass that reached the head reaches the embedding"),
        }
    }

    /// Packs the weights of its linear layers for a network that is only read.
    pub(crate) fn prepare(&mut self, profile: Profile, is_borrowed: bool) {
        self.discard_step();
        match self.component {
            Component::Attention(_) | Component::Mlp(_) | Component::Head(_) => {
                self.parameters.iter_mut().for_each(|parameter| parameter.prepare(profile, false));
            }
            Component::Embedding(_) if is_borrowed => self.parameters[0].prepare(profile, true),
            _ => {}
        }
    }

    fn head(&self) -> &Head {
        match &self.component {
            Component::Head(head) => head,
            _ => unreachable!("the plan puts a head where the cost is"),
        }
    }

    fn head_weight<'a>(&'a self, borrowed: Option<&'a Parameter>) -> Weight<'a> {
        borrowed.unwrap_or_else(|| &self.parameters[0]).weight()
    }
}
