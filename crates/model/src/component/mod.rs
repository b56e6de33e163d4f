//! What VNodes compute. A component has no state: parameters, gradients and what a forward pass
//! keeps belong to the VNode that runs it.

mod attention;
mod embedding;
mod head;
mod mlp;
mod norm;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use zoo_kernels::attention::Cached;
use zoo_kernels::{Onto, Profile, elementwise, rope};

use crate::buffer::{Buffer, Operand, Pool};
use crate::definition::NodeKind;
use crate::pages::NodePages;
use crate::parameter::Parameter;

pub(crate) use attention::Attention;
pub(crate) use embedding::{Embedding, PositionEmbedding};
pub(crate) use head::{Cost, Head};
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
    Add,
    Head(Head),
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
            Some(sum) => elementwise::add_assign(sum, &gradient),
            none => *none = Some(gradient),
        }
    }

    pub fn slots(&self) -> usize {
        self.producers.len()
    }
}

/// Tables of sines and cosines, shared by the layers that rotate alike.
pub(crate) type RopeTables = BTreeMap<(usize, u64), Arc<rope::Table>>;

impl Component {
    pub fn new(kind: &NodeKind, context: usize, profile: Profile, tables: &mut RopeTables) -> Self {
        match *kind {
            NodeKind::Embedding { vocab_size: _, width } => Self::Embedding(Embedding { width }),
            NodeKind::PositionEmbedding { context: _, width } => {
                Self::PositionEmbedding(PositionEmbedding { width })
            }
            NodeKind::Norm { form, width, epsilon, bias } => Self::Norm(Norm { form, width, epsilon, bias }),
            NodeKind::Attention { .. } => Self::Attention(Attention::new(kind, context, tables)),
            NodeKind::Mlp { width, hidden, activation, bias } => {
                Self::Mlp(Mlp { width, hidden, activation, bias })
            }
            NodeKind::Add { .. } => Self::Add,
            NodeKind::CrossEntropy { vocab_size, width, .. } => {
                Self::Head(Head { vocab_size, width, profile })
            }
        }
    }

    /// The output of every component but the head. `kept` is where to keep what the backward pass
    /// needs; `cache` is what attention knows of earlier positions.
    pub fn forward(
        &self,
        pass: &Pass,
        parameters: &[Parameter],
        mut inputs: Vec<Arc<Buffer>>,
        kept: Option<&mut Kept>,
        cache: Option<&mut Cache>,
    ) -> Buffer {
        let residual = if inputs.len() > 1 { inputs.pop() } else { None };
        let input = inputs.pop();
        let input = || input.expect("a checked network fills every slot");
        match self {
            Self::Embedding(embedding) => embedding.forward(pass, parameters, kept),
            Self::PositionEmbedding(embedding) => embedding.forward(pass, parameters, input()),
            Self::Norm(norm) => norm.forward(pass, parameters, input(), kept),
            Self::Attention(attention) => attention.forward(pass, parameters, input(), residual, kept, cache),
            Self::Mlp(mlp) => mlp.forward(pass, parameters, input(), residual, kept),
            Self::Add => {
                let mut sum = pass.pool.own(input());
                elementwise::add_assign(&mut sum, &residual.expect("a checked network fills every slot"));
                sum
            }
            Self::Head(_) => unreachable!("a head has logits and a cost, no output"),
        }
    }

    /// From the gradient of the output to the gradients of parameters and inputs.
    pub fn backward(
        &self,
        pass: &Pass,
        parameters: &mut [Parameter],
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
            Self::Add => {
                gradients.give(1, pass.pool.copy_of(&arriving));
                gradients.give(0, arriving);
            }
            Self::Head(_) => unreachable!("a head's gradient comes with its cost"),
        }
    }
}
