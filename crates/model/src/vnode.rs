//! The unit of everything: one component of the network as a stateful agent.

use std::sync::Arc;

use zoo_kernels::{Onto, Profile};

use crate::buffer::{Buffer, Pool};
use crate::component::{
    AttentionHeads, Cache, Component, Cost, Gradients, Head, Kept, Pass, RopeTables, Trained,
};
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
    /// A borrower's share of the gradient of the table it borrows. It is added to the embedding's own at
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
        let component = Component::new(&definition, context, profile, tables);
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

    /// The output; keeps what [`VNode::backward`] needs. `table` is what it borrows.
    pub(crate) fn forward(
        &mut self,
        pass: &Pass,
        table: Option<&Parameter>,
        inputs: Vec<Arc<Buffer>>,
    ) -> Arc<Buffer> {
        self.kept.clear();
        self.component.forward(pass, &self.parameters, table, inputs, Some(&mut self.kept), None)
    }

    /// The output, and nothing kept.
    pub(crate) fn evaluate(
        &self,
        pass: &Pass,
        table: Option<&Parameter>,
        inputs: Vec<Arc<Buffer>>,
    ) -> Arc<Buffer> {
        self.component.forward(pass, &self.parameters, table, inputs, None, None)
    }

    /// The output for positions that follow those in `cache`, which receives theirs.
    pub(crate) fn decode(
        &self,
        pass: &Pass,
        table: Option<&Parameter>,
        inputs: Vec<Arc<Buffer>>,
        cache: &mut Cache,
    ) -> Arc<Buffer> {
        self.component.forward(pass, &self.parameters, table, inputs, None, Some(cache))
    }

    /// Adds to the parameters' gradients and hands on those of the inputs.
    pub(crate) fn backward(
        &mut self,
        pass: &Pass,
        table: Option<&Parameter>,
        arriving: Buffer,
        gradients: &mut Gradients,
    ) {
        let borrowed = table.map(|table| Trained { value: &table.value, gradient: &mut self.borrowed });
        self.component.backward(pass, &mut self.parameters, borrowed, arriving, gradients, &mut self.kept);
    }

    /// The outputs of attention heads that read the same rows, side by side. The first keeps what
    /// [`VNode::heads_backward`] needs.
    pub(crate) fn heads_forward(heads: &mut [VNode], pass: &Pass, input: Arc<Buffer>) -> Arc<Buffer> {
        let mut kept = std::mem::take(&mut heads[0].kept);
        kept.clear();
        let output =
            Self::all_heads(heads).forward(pass, &first_parameters(heads), input, Some(&mut kept), None);
        heads[0].kept = kept;
        output
    }

    /// As [`VNode::heads_forward`], and nothing kept.
    pub(crate) fn heads_evaluate(heads: &[VNode], pass: &Pass, input: Arc<Buffer>) -> Arc<Buffer> {
        Self::all_heads(heads).forward(pass, &first_parameters(heads), input, None, None)
    }

    /// Adds to the gradients of all heads; returns that of the rows they read.
    pub(crate) fn heads_backward(heads: &mut [VNode], pass: &Pass, arriving: Buffer) -> Buffer {
        let operator = Self::all_heads(heads);
        let mut kept = std::mem::take(&mut heads[0].kept);
        let mut gradient = pass.pool.take(operator.input_len(pass));
        let mut parameters: Vec<&mut Parameter> =
            heads.iter_mut().map(|head| &mut head.parameters[0]).collect();
        operator.backward(pass, &mut parameters, arriving, &mut gradient, Onto::Zero, &mut kept);
        gradient
    }

    fn all_heads(heads: &[VNode]) -> AttentionHeads {
        match &heads[0].component {
            Component::AttentionHead(head) => head.times(heads.len()),
            _ => unreachable!("only attention heads are run as such"),
        }
    }

    /// A cost, and the gradient of what it is of; `table` is what it borrows. A linear layer's is that of its output as logits.
    pub(crate) fn cost(
        &mut self,
        pool: &Pool,
        table: Option<&Parameter>,
        x: Arc<Buffer>,
        targets: &[u32],
        scale: f32,
    ) -> Cost {
        if let Component::Cost(cost) = &self.component {
            return cost.cost(pool, x, targets, scale);
        }
        let head = self.head();
        match table {
            Some(table) => head.cost(pool, &table.value, &mut self.borrowed, &x, targets, scale),
            None => {
                let Parameter { value, gradient, .. } = &mut self.parameters[0];
                head.cost(pool, value, gradient, &x, targets, scale)
            }
        }
    }

    /// A cost, without gradients.
    pub(crate) fn loss(&self, pool: &Pool, table: Option<&Parameter>, x: &[f32], targets: &[u32]) -> LossSum {
        match &self.component {
            Component::Cost(cost) => cost.evaluate(pool, x, targets),
            _ => self.head().evaluate(pool, self.head_weight(table), x, targets),
        }
    }

    /// What a cost is of, `[rows of x, logits]`.
    pub(crate) fn logits(&self, pool: &Pool, table: Option<&Parameter>, x: &[f32]) -> Buffer {
        match &self.component {
            Component::Cost(_) => pool.copy_of(x),
            _ => self.head().logits(pool, self.head_weight(table), x),
        }
    }

    /// Changes the parameters by their gradients times `gradient_scale`, as its definition or else `optimizer` says, and
    /// starts the next step.
    pub(crate) fn update(&mut self, optimizer: &Optimizer, step: u64, lr: f64, gradient_scale: f32) {
        for parameter in &mut self.parameters {
            match &self.definition.optimizer {
                Some(own) => own.update(parameter, step, lr, gradient_scale),
                None => optimizer.update(parameter, step, lr, gradient_scale),
            }
        }
        self.discard_step();
    }

    /// Empties gradients and whatever a forward pass kept.
    pub(crate) fn discard_step(&mut self) {
        self.parameters.iter_mut().for_each(|parameter| parameter.gradient.clear());
        self.borrowed.clear();
        self.kept.clear();
    }

    /// Adds a borrower's share to the gradient of this embedding's table.
    pub(crate) fn add_borrowed(&mut self, borrower: &VNode) {
        let Some(share) = borrower.borrowed.get() else { return };
        match self.parameters[0].gradient.get_mut() {
            Some(own) => zoo_kernels::elementwise::add_assign(own, share),
            None => unreachable!("a backward pass that reached the head reaches the embedding"),
        }
    }

    /// Packs the weights of its linear layers for a network that is only read.
    pub(crate) fn prepare(&mut self, profile: Profile, is_borrowed: bool) {
        self.discard_step();
        match self.component {
            Component::Attention(_)
            | Component::AttentionHead(_)
            | Component::Mlp(_)
            | Component::Linear(_)
            | Component::Head(_) => {
                self.parameters.iter_mut().for_each(|parameter| parameter.prepare(profile, false));
            }
            Component::Embedding(_) if is_borrowed => self.parameters[0].prepare(profile, true),
            _ => {}
        }
    }

    fn head(&self) -> Head {
        match &self.component {
            Component::Head(head) => head.clone(),
            Component::Linear(linear) => linear.as_head(),
            _ => unreachable!("the plan puts a head where the cost is"),
        }
    }

    fn head_weight<'a>(&'a self, table: Option<&'a Parameter>) -> Weight<'a> {
        table.unwrap_or_else(|| &self.parameters[0]).weight()
    }
}

fn first_parameters(vnodes: &[VNode]) -> Vec<&Parameter> {
    vnodes.iter().map(|vnode| &vnode.parameters[0]).collect()
}
