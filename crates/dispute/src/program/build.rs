//! The builder that VNodes put their tensors into.

use std::collections::BTreeMap;

use zoo_kernels::Profile;
use zoo_model::{NodeKind, NormForm};
use zoo_training::TrainingSpec;

use super::attention::Attended;
use super::{Group, Pass, Tensor};
use crate::account::Claim;
use crate::operator::{Operator, Point, Product, Sum, TokenSum};

/// A parameter: its VNode's place in the network, its place there.
pub type Place = (usize, usize);

/// A program on its way.
pub struct Builder {
    pub tensors: Vec<Tensor>,
    pub groups: Vec<Group>,
    pub profile: Profile,
    /// Tokens of the step.
    pub tokens: usize,
    pub context: usize,
    pub ids: usize,
    pub targets: usize,
    /// Of every parameter its value and what the optimiser remembers of it: before the step, and once it is done, after it.
    pub state: BTreeMap<Place, Vec<usize>>,
    /// Tensors whose words were said with the account.
    pub claims: Vec<(usize, Claim)>,
    /// The loss of every token.
    pub losses: usize,
    pub gradients: BTreeMap<Place, usize>,
    /// The gradient that has arrived at every VNode's output so far.
    pub arrived: Vec<Option<usize>>,
    /// A tied head's share of the gradient of its table.
    pub borrowed: Option<usize>,
}

/// What a forward pass made.
pub struct Kept {
    /// The VNode's output.
    pub output: usize,
    /// The VNodes that its inputs come from.
    pub slots: Vec<usize>,
    pub made: Made,
}

/// What the backward pass of a VNode takes.
pub enum Made {
    Nothing,
    Norm { x: usize, mean: Option<usize>, rstd: usize },
    Attention(Attended),
    Mlp { x: usize, inner: usize, activated: usize },
    Head { x: usize, logits: usize, most: usize, total: usize, table: Place },
}

impl Builder {
    pub fn new(spec: &TrainingSpec, tokens: usize) -> Self {
        Self {
            tensors: Vec::new(),
            groups: Vec::new(),
            profile: spec.profile,
            tokens,
            context: spec.model.context,
            ids: 0,
            targets: 0,
            state: BTreeMap::new(),
            claims: Vec::new(),
            losses: 0,
            gradients: BTreeMap::new(),
            arrived: Vec::new(),
            borrowed: None,
        }
    }

    pub fn tensor(&mut self, name: &str, shape: &[usize], operator: Operator, inputs: &[usize]) -> usize {
        let (name, shape, inputs) = (name.to_owned(), shape.to_vec(), inputs.to_vec());
        self.tensors.push(Tensor { name, shape, operator, inputs });
        self.tensors.len() - 1
    }

    /// A group of one tensor, whose words were said with the account.
    pub fn claim(&mut self, vnode: &str, pass: Pass, tensor: usize, claim: Claim) {
        self.claims.push((tensor, claim));
        self.end_group(vnode, pass);
    }

    /// The tensors since the last group are one, if there are any.
    pub fn end_group(&mut self, vnode: &str, pass: Pass) {
        let first = self.groups.last().map_or(0, |group| group.tensors.end);
        if first < self.tensors.len() {
            let tensors = first..self.tensors.len();
            self.groups.push(Group { vnode: vnode.to_owned(), pass, tensors });
        }
    }

    pub fn parameter(&self, place: Place) -> usize {
        self.state[&place][0]
    }

    /// The gradient of a parameter.
    pub fn gradient(&mut self, place: Place, operator: Operator, inputs: &[usize]) {
        let value = &self.tensors[self.parameter(place)];
        let (name, shape) = (format!("gradient of {}", value.name), value.shape.clone());
        let gradient = self.tensor(&name, &shape, operator, inputs);
        self.gradients.insert(place, gradient);
    }

    /// `y = x w^T`, landing on a residual if there is one, and then the bias if there is one.
    pub fn linear(
        &mut self,
        name: &str,
        x: usize,
        (weight, bias): (Place, Option<Place>),
        residual: Option<usize>,
    ) -> usize {
        let w = self.parameter(weight);
        let [outputs, inputs] = self.tensors[w].shape[..] else { unreachable!("a weight is a matrix") };
        let product = Product::forward(self.profile, self.tokens, inputs, outputs, residual.is_some());
        let operands: Vec<usize> = [x, w].into_iter().chain(residual).collect();
        let y = self.tensor(name, &[self.tokens, outputs], Operator::Product(product), &operands);
        let Some(bias) = bias else { return y };
        let bias = self.parameter(bias);
        let add = Operator::Point(Point::AddBias { width: outputs });
        self.tensor(&format!("{name} with bias"), &[self.tokens, outputs], add, &[y, bias])
    }

    /// Gradients of a linear layer's weight and bias.
    pub fn linear_gradients(&mut self, dy: usize, x: usize, (weight, bias): (Place, Option<Place>)) {
        let w = self.parameter(weight);
        let [outputs, inputs] = self.tensors[w].shape[..] else { unreachable!("a weight is a matrix") };
        if let Some(bias) = bias {
            let sum = TokenSum { sum: Sum::Bias, tokens: self.tokens, width: outputs };
            self.gradient(bias, Operator::TokenSum(sum), &[dy]);
        }
        let product = Product::backward_weight(self.profile, self.tokens, inputs, outputs);
        self.gradient(weight, Operator::Product(product), &[dy, x]);
    }

    /// `dx = dy w`, landing on what is there.
    pub fn linear_input(&mut self, name: &str, dy: usize, weight: Place, onto: Option<usize>) -> usize {
        let w = self.parameter(weight);
        let [outputs, inputs] = self.tensors[w].shape[..] else { unreachable!("a weight is a matrix") };
        let product = Product::backward_input(self.profile, self.tokens, inputs, outputs, onto.is_some());
        let operands: Vec<usize> = [dy, w].into_iter().chain(onto).collect();
        self.tensor(name, &[self.tokens, inputs], Operator::Product(product), &operands)
    }

    /// Hands over the gradient of a slot's input: as it is where it is the first, added where it is not.
    pub fn give(&mut self, slot: usize, gradient: usize) {
        self.arrived[slot] = Some(match self.arrived[slot] {
            None => gradient,
            Some(there) => {
                let shape = self.tensors[there].shape.clone();
                self.tensor("sum of gradients", &shape, Operator::Point(Point::Add), &[there, gradient])
            }
        });
    }

    /// Makes a VNode's tensors from those of its inputs; `table` is the weight of a head.
    pub fn node_forward(&mut self, at: usize, kind: &NodeKind, inputs: &[usize], table: Place) -> Kept {
        let (output, made) = match *kind {
            NodeKind::Embedding { vocab_size, width } => self.embedding(at, vocab_size, width),
            NodeKind::PositionEmbedding { width, .. } => self.position(at, inputs[0], width),
            NodeKind::Norm { form: NormForm::Rms, width, epsilon, .. } => {
                self.rms_norm(at, inputs[0], width, epsilon)
            }
            NodeKind::Norm { form: NormForm::Layer, width, epsilon, bias } => {
                self.layer_norm(at, inputs[0], width, epsilon, bias)
            }
            NodeKind::Attention { .. } => self.attention(at, kind, inputs),
            NodeKind::Mlp { .. } => self.mlp(at, kind, inputs),
            NodeKind::Add { width } => {
                let shape = [self.tokens, width];
                (self.tensor("output", &shape, Operator::Point(Point::Add), inputs), Made::Nothing)
            }
            NodeKind::CrossEntropy { vocab_size, .. } => self.head(inputs[0], vocab_size, table),
            _ => unreachable!("a decoder is made of none of the other kinds"),
        };
        Kept { output, slots: Vec::new(), made }
    }

    /// Makes the gradients of a VNode's parameters and inputs from that of its output; a head has none.
    pub fn node_backward(&mut self, at: usize, kind: &NodeKind, kept: &Kept, arriving: Option<usize>) {
        if let Made::Head { x, logits, most, total, table } = kept.made {
            return self.head_backward(at, kept.slots[0], [x, logits, most, total], table);
        }
        let dy = arriving.expect("every VNode leads to the cost");
        match (kind, &kept.made) {
            (NodeKind::Embedding { width, .. }, _) => self.embedding_backward(at, dy, *width),
            (NodeKind::PositionEmbedding { width, .. }, _) => {
                self.position_backward(at, dy, *width);
                self.give(kept.slots[0], dy);
            }
            (NodeKind::Norm { width, bias, .. }, &Made::Norm { x, mean, rstd }) => {
                self.norm_backward(at, kept.slots[0], dy, (x, mean, rstd), *width, *bias);
            }
            (NodeKind::Attention { .. }, Made::Attention(attended)) => {
                self.attention_backward(at, kind, kept, attended, dy);
            }
            (NodeKind::Mlp { .. }, &Made::Mlp { x, inner, activated }) => {
                self.mlp_backward(at, kind, &kept.slots, (x, inner, activated), dy);
            }
            _ => {
                self.give(kept.slots[1], dy);
                self.give(kept.slots[0], dy);
            }
        }
    }
}
