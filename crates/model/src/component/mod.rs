//! What VNodes compute. A component has no state: parameters, gradients and what a forward pass
//! keeps belong to the VNode that runs it.

mod attention;
mod attention_heads;
mod cost;
mod elementwise;
mod embedding;
mod head;
mod linear;
mod mlp;
mod norm;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use zoo_kernels::activation::Activation;
use zoo_kernels::attention::Cached;
use zoo_kernels::{Onto, Profile, rope};

use crate::buffer::{Buffer, Operand, Pool};
use crate::definition::{Function, NodeDefinition, NodeKind};
use crate::pages::NodePages;
use crate::parameter::Parameter;

pub(crate) use attention::Attention;
pub(crate) use attention_heads::AttentionHeads;
pub(crate) use cost::PlainCost;
pub(crate) use elementwise::{Dropout, Pointwise, Rope, Stack};
pub(crate) use embedding::{Embedding, PositionEmbedding};
pub(crate) use head::{Cost, Head};
pub(crate) use linear::{Linear, Trained};
pub(crate) use mlp::Mlp;
pub(crate) use norm::Norm;

/// The function of one VNode.
#[derive(Clone)]
pub(crate) enum Component {
    Embedding(Embedding),
    PositionEmbedding(PositionEmbedding),
    Norm(Norm),
    Attention(Attention),
    Mlp(Mlp),
    Linear(Linear),
    Pointwise(Pointwise),
    AttentionHead(AttentionHeads),
    Rope(Rope),
    Stack(Stack),
    Identity,
    Dropout(Dropout),
    Add,
    Head(Head),
    Cost(PlainCost),
}

/// The rows that flow through the network together.
pub(crate) struct Pass<'a> {
    /// Where activations come from.
    pub pool: &'a Pool,
    /// The token of every row.
    pub tokens: &'a [u32],
    /// Rows of one sequence; the batch is whole sequences.
    pub context: usize,
    /// The position of every row, where sequences are continued; else each starts at 0.
    pub positions: Option<&'a [u32]>,
    /// The rule of its matrix products.
    pub profile: Profile,
    /// Whether a backward pass will recompute what is cheap to recompute.
    pub recompute: bool,
    /// Where dropout takes its randomness from; none outside training.
    pub noise: Option<Noise>,
}

/// The randomness of a step.
#[derive(Clone, Copy)]
pub(crate) struct Noise {
    pub seed: u64,
    /// The rows of the step before this pass.
    pub first_row: usize,
}

impl Pass<'_> {
    /// What only products will read of `activation`.
    pub fn operand(&self, activation: impl Into<Arc<Buffer>>) -> Operand {
        Operand::new(self.pool, self.profile, activation.into())
    }
}

/// What attention knows of the sequences that a pass continues.
pub(crate) struct Cache<'a> {
    pub sequences: &'a [Cached<'a>],
    /// This VNode's keys and values.
    pub pages: &'a mut NodePages,
}

/// What a forward pass keeps for its backward pass, which takes it in the same order.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    buffers: VecDeque<Arc<Buffer>>,
    operands: VecDeque<Operand>,
    pub tokens: Vec<u32>,
}

impl Kept {
    pub fn keep(&mut self, buffer: impl Into<Arc<Buffer>>) {
        self.buffers.push_back(buffer.into());
    }

    pub fn take(&mut self) -> Arc<Buffer> {
        self.buffers.pop_front().expect("a backward pass follows a forward pass that kept its inputs")
    }

    pub fn keep_operand(&mut self, operand: Operand) {
        self.operands.push_back(operand);
    }

    pub fn take_operand(&mut self) -> Operand {
        self.operands.pop_front().expect("a backward pass follows a forward pass that kept its inputs")
    }

    pub fn clear(&mut self) {
        self.buffers.clear();
        self.operands.clear();
        self.tokens.clear();
    }
}

/// The gradients that have arrived at every VNode's output so far, seen from one consumer.
pub(crate) struct Gradients<'a> {
    /// By producer.
    pub arrived: &'a mut [Option<Buffer>],
    /// The producer of each of the consumer's slots.
    pub producers: &'a [usize],
}

impl Gradients<'_> {
    /// Where to put the gradient of a slot's input, and whether others came before.
    pub fn receive(&mut self, slot: usize, pool: &Pool, length: usize) -> (&mut Buffer, Onto) {
        let arrived = &mut self.arrived[self.producers[slot]];
        let onto = if arrived.is_some() { Onto::Value } else { Onto::Zero };
        (arrived.get_or_insert_with(|| pool.take(length)), onto)
    }

    /// Hands over the gradient of a slot's input: moved when it is the first, added when it is not.
    pub fn give(&mut self, slot: usize, gradient: Buffer) {
        match &mut self.arrived[self.producers[slot]] {
            Some(sum) => zoo_kernels::elementwise::add_assign(sum, &gradient),
            none => *none = Some(gradient),
        }
    }

    pub fn slots(&self) -> usize {
        self.producers.len()
    }
}

/// Tables of sines and cosines, shared by the layers that rotate alike.
pub(crate) type RopeTables = BTreeMap<(usize, u64), Arc<rope::Table>>;

fn rope_table(tables: &mut RopeTables, context: usize, head_dim: usize, theta: f64) -> Arc<rope::Table> {
    let table = || Arc::new(rope::Table::new(context, head_dim, theta));
    Arc::clone(tables.entry((head_dim, theta.to_bits())).or_insert_with(table))
}

impl Component {
    pub fn new(
        definition: &NodeDefinition,
        context: usize,
        profile: Profile,
        tables: &mut RopeTables,
    ) -> Self {
        match definition.kind {
            NodeKind::Embedding { vocab_size: _, width } => Self::Embedding(Embedding { width }),
            NodeKind::PositionEmbedding { context: _, width } => {
                Self::PositionEmbedding(PositionEmbedding { width })
            }
            NodeKind::Norm { form, width, epsilon, bias } => Self::Norm(Norm { form, width, epsilon, bias }),
            NodeKind::Attention { .. } => Self::Attention(Attention::new(&definition.kind, context, tables)),
            NodeKind::Mlp { width, hidden, activation, bias } => {
                Self::Mlp(Mlp { width, hidden, activation, bias })
            }
            NodeKind::Linear { inputs, outputs, bias, .. } => {
                Self::Linear(Linear { inputs, outputs, bias, profile })
            }
            NodeKind::Activation { function, .. } => Self::Pointwise(Pointwise::Function(match function {
                Function::Relu => Activation::Relu,
                Function::Gelu => Activation::Gelu,
                Function::Silu => Activation::Silu,
            })),
            NodeKind::Swiglu { width } => Self::Pointwise(Pointwise::Swiglu(width)),
            NodeKind::AttentionHead { width, head_dim, rope_theta } => {
                Self::AttentionHead(AttentionHeads::new((width, head_dim), rope_theta, context, tables))
            }
            NodeKind::Rope { width, head_dim, theta } => {
                Self::Rope(Rope { width, table: rope_table(tables, context, head_dim, theta) })
            }
            NodeKind::Stack { ref widths } => Self::Stack(Stack { widths: widths.clone() }),
            NodeKind::Identity { .. } => Self::Identity,
            NodeKind::Dropout { width, rate } => Self::Dropout(Dropout {
                width,
                rate,
                stream: crate::initialise::stream(&definition.id, "dropout"),
            }),
            NodeKind::Add { .. } => Self::Add,
            NodeKind::CrossEntropy { vocab_size, width, .. } => {
                Self::Head(Head { vocab_size, width, profile })
            }
            NodeKind::Cost { cost: function, width } => Self::Cost(PlainCost { function, width }),
        }
    }

    /// The output of every component but a cost; `borrowed` is the table that is its weight. `kept` is where to keep what
    /// the backward pass needs; `cache` is what attention knows of earlier positions.
    pub fn forward(
        &self,
        pass: &Pass,
        parameters: &[Parameter],
        borrowed: Option<&Parameter>,
        mut inputs: Vec<Arc<Buffer>>,
        kept: Option<&mut Kept>,
        cache: Option<&mut Cache>,
    ) -> Arc<Buffer> {
        if let Self::Stack(stack) = self {
            return Arc::new(stack.forward(pass, inputs));
        }
        let residual = if inputs.len() > 1 { inputs.pop() } else { None };
        let input = inputs.pop();
        let input = || input.expect("a checked network fills every slot");
        let output = match self {
            Self::Embedding(embedding) => embedding.forward(pass, parameters, kept),
            Self::PositionEmbedding(embedding) => embedding.forward(pass, parameters, input()),
            Self::Norm(norm) => norm.forward(pass, parameters, input(), kept),
            Self::Attention(attention) => attention.forward(pass, parameters, input(), residual, kept, cache),
            Self::Mlp(mlp) => mlp.forward(pass, parameters, input(), residual, kept),
            Self::Linear(linear) => {
                let weight = borrowed.unwrap_or_else(|| &parameters[0]).weight();
                linear.forward(pass, weight, parameters, input(), kept)
            }
            Self::Pointwise(pointwise) => pointwise.forward(pass, input(), kept),
            Self::AttentionHead(head) => return head.forward(pass, &[&parameters[0]], input(), kept, cache),
            Self::Rope(rope) => rope.forward(pass, input()),
            Self::Identity => return input(),
            Self::Dropout(dropout) => return dropout.forward(pass, input()),
            Self::Add => {
                let mut sum = pass.pool.own(input());
                let other = residual.expect("a checked network fills every slot");
                zoo_kernels::elementwise::add_assign(&mut sum, &other);
                sum
            }
            Self::Stack(_) => unreachable!("it has more slots, and was run above"),
            Self::Head(_) | Self::Cost(_) => unreachable!("a cost has no output"),
        };
        Arc::new(output)
    }

    /// From the gradient of the output to the gradients of parameters and inputs.
    pub fn backward(
        &self,
        pass: &Pass,
        parameters: &mut [Parameter],
        borrowed: Option<Trained>,
        arriving: Buffer,
        gradients: &mut Gradients,
        kept: &mut Kept,
    ) {
        match self {
            Self::Embedding(embedding) => embedding.backward(pass, parameters, &arriving, kept),
            Self::PositionEmbedding(embedding) => {
                embedding.backward(pass, parameters, &arriving);
                gradients.give(0, arriving);
            }
            Self::Norm(norm) => norm.backward(pass, parameters, &arriving, gradients, kept),
            Self::Attention(attention) => attention.backward(pass, parameters, arriving, gradients, kept),
            Self::Mlp(mlp) => mlp.backward(pass, parameters, arriving, gradients, kept),
            Self::Linear(linear) => {
                let mut own = parameters.iter_mut();
                let mut trained =
                    || own.next().map(|Parameter { value, gradient, .. }| Trained { value, gradient });
                let weight = borrowed.or_else(&mut trained).expect("a weight is borrowed or its own");
                linear.backward(pass, weight, trained(), &arriving, gradients, kept);
            }
            Self::Pointwise(pointwise) => pointwise.backward(pass, arriving, gradients, kept),
            Self::AttentionHead(head) => {
                let (dx, onto) = gradients.receive(0, pass.pool, head.input_len(pass));
                head.backward(pass, &mut [&mut parameters[0]], arriving, dx, onto, kept);
            }
            Self::Rope(rope) => rope.backward(pass, arriving, gradients),
            Self::Stack(stack) => stack.backward(pass, &arriving, gradients),
            Self::Identity => gradients.give(0, arriving),
            Self::Dropout(dropout) => dropout.backward(pass, arriving, gradients),
            Self::Add => {
                gradients.give(1, pass.pool.copy_of(&arriving));
                gradients.give(0, arriving);
            }
            Self::Head(_) | Self::Cost(_) => unreachable!("a cost's gradient comes with it"),
        }
    }
}
