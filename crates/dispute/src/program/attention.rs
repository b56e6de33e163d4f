//! Causal self-attention.

use zoo_kernels::heads::Heads;
use zoo_model::NodeKind;

use super::build::{Builder, Kept, Made, Place};
use crate::operator::{Fold, Operator, OverQueries, Point, Product, Rotate, Row, Sum, Terms, TokenSum, Walk};

/// What the backward pass of attention takes.
pub struct Attended {
    x: usize,
    /// Before the norm of the heads, and its deviations.
    raw: Option<(usize, usize)>,
    /// Normalised and rotated.
    qkv: usize,
    scores: usize,
    lse: usize,
    z: usize,
}

/// An attention VNode's sizes and places.
struct Attention {
    heads: Heads,
    theta: Option<f64>,
    epsilon: Option<f32>,
    qkv: (Place, Option<Place>),
    gains: [Place; 2],
    output: (Place, Option<Place>),
    scale: f32,
}

impl Attention {
    fn of(at: usize, kind: &NodeKind) -> Self {
        let &NodeKind::Attention { heads, kv_heads, head_dim, rope_theta, qk_norm_epsilon, bias, .. } = kind
        else {
            unreachable!("only attention is attention")
        };
        let gains = 1 + usize::from(bias);
        let output = gains + 2 * usize::from(qk_norm_epsilon.is_some());
        let with_bias = |place: usize| ((at, place), bias.then_some((at, place + 1)));
        Self {
            heads: Heads { query_heads: heads, kv_heads, head_dim },
            theta: rope_theta,
            epsilon: qk_norm_epsilon,
            qkv: with_bias(0),
            gains: [(at, gains), (at, gains + 1)],
            output: with_bias(output),
            scale: 1.0 / (head_dim as f32).sqrt(),
        }
    }
}

const IN_ORDER: [usize; 5] = [0, 1, 2, 3, 4];
/// Rows of tokens: sequence, query, heads, element of the head.
const BY_TOKEN: [usize; 5] = [0, 3, 1, 2, 4];

impl Builder {
    pub fn attention(&mut self, at: usize, kind: &NodeKind, inputs: &[usize]) -> (usize, Made) {
        let attention = Attention::of(at, kind);
        let Attention { heads, scale, .. } = attention;
        let x = inputs[0];
        let projected = self.linear("qkv", x, attention.qkv, None);
        let (qkv, raw) = self.turn(&attention, projected);
        let (tokens, context) = (self.tokens, self.context);
        let sequences = tokens / context;
        let by_query = [sequences, heads.query_heads, context];
        let by_key = [sequences, heads.query_heads, context, context];
        let queries = Self::heads_of(heads, context, heads.row_width());
        let scores = self.by_key(heads, queries, heads.query_width());
        let scores = Operator::Product(scores);
        let scores = self.tensor("scores", &by_key, scores, &[qkv, qkv]);
        let words = self.tensors[scores].len();
        let causal = |fold| Operator::Row(Row { causal: true, ..Row::of(fold, context, words) });
        let most = self.tensor("greatest score", &by_query, causal(Fold::Maximum { scale }), &[scores]);
        let weight = Operator::Point(Point::Weight { context, scale });
        let weights = self.tensor("exponentials", &by_key, weight, &[scores, most]);
        let total = self.tensor("sum of exponentials", &by_query, causal(Fold::Total), &[weights]);
        let lse = self.tensor("log of the sum", &by_query, Operator::Point(Point::LogSum), &[most, total]);
        let first_value = heads.turning_heads() * heads.head_dim;
        let sum = Operator::Product(self.over_keys(heads, first_value));
        let by_token = [tokens, heads.query_width()];
        let sum = self.tensor("weighted values", &by_token, sum, &[weights, qkv]);
        let weighted = Operator::Point(Point::Weighted { heads, context });
        let z = self.tensor("attended", &by_token, weighted, &[sum, total]);
        let y = self.linear("output", z, attention.output, inputs.get(1).copied());
        (y, Made::Attention(Attended { x, raw, qkv, scores, lse, z }))
    }

    /// The norm of the heads and the rotation, as far as there are any.
    fn turn(&mut self, attention: &Attention, projected: usize) -> (usize, Option<(usize, usize)>) {
        let (heads, mut qkv, mut raw) = (attention.heads, projected, None);
        let shape = [self.tokens, heads.row_width()];
        if let Some(epsilon) = attention.epsilon {
            let deviation = self.head_row(Fold::RmsDeviation { epsilon }, heads);
            let by_head = [self.tokens, heads.turning_heads()];
            let rstd = self.tensor("rstd of heads", &by_head, deviation, &[projected]);
            let gains = attention.gains.map(|gain| self.parameter(gain));
            let norm = Operator::Point(Point::HeadNorm { heads });
            qkv = self.tensor("qkv with norm", &shape, norm, &[projected, rstd, gains[0], gains[1]]);
            raw = Some((projected, rstd));
        }
        if let Some(theta) = attention.theta {
            let rotate = Rotate { heads, context: self.context, theta, inverse: false };
            qkv = self.tensor("qkv rotated", &shape, Operator::Point(Point::Rotate(rotate)), &[qkv]);
        }
        (qkv, raw)
    }

    pub fn attention_backward(
        &mut self,
        at: usize,
        kind: &NodeKind,
        kept: &Kept,
        attended: &Attended,
        dy: usize,
    ) {
        let attention = Attention::of(at, kind);
        let &Attended { x, qkv, z, .. } = attended;
        self.linear_gradients(dy, z, attention.output);
        let dz = self.linear_input("gradient of attended", dy, attention.output.0, None);
        if let Some(&residual) = kept.slots.get(1) {
            self.give(residual, dy);
        }
        let (weights, dscores) = self.score_gradients(&attention, attended, dz);
        let mut dqkv = self.gather_gradients(attention.heads, [weights, dscores, qkv, dz]);
        dqkv = self.turn_back(&attention, dqkv, attended.raw);
        self.linear_gradients(dqkv, x, attention.qkv);
        let there = self.arrived[kept.slots[0]];
        let dx = self.linear_input("gradient of the input", dqkv, attention.qkv.0, there);
        self.arrived[kept.slots[0]] = Some(dx);
    }

    /// The weights again, from the log of their sum, and the gradients of scores.
    fn score_gradients(&mut self, attention: &Attention, attended: &Attended, dz: usize) -> (usize, usize) {
        let Attention { heads, scale, .. } = *attention;
        let &Attended { qkv, scores, lse, z, .. } = attended;
        let (tokens, context) = (self.tokens, self.context);
        let by_key = self.tensors[scores].shape.clone();
        let dot = Operator::Row(Row::of(Fold::Dot, heads.head_dim, self.tensors[dz].len()));
        let shared = self.tensor("shared by a row", &[tokens, heads.query_heads], dot, &[dz, z]);
        let weight = Operator::Point(Point::Weight { context, scale });
        let weights = self.tensor("weights", &by_key, weight, &[scores, lse]);
        let first_value = heads.turning_heads() * heads.head_dim;
        let dweights = Self::heads_of(heads, context, heads.query_width());
        let dweights = Operator::Product(self.by_key(heads, dweights, first_value));
        let dweights = self.tensor("gradient of weights", &by_key, dweights, &[dz, qkv]);
        let gradient = Point::ScoreGradient { heads: heads.query_heads, context, scale };
        let inputs = [weights, dweights, shared];
        let dscores = self.tensor("gradient of scores", &by_key, Operator::Point(gradient), &inputs);
        (weights, dscores)
    }

    /// The gradients of queries, keys and values, side by side.
    fn gather_gradients(&mut self, heads: Heads, [weights, dscores, qkv, dz]: [usize; 4]) -> usize {
        let (tokens, context, profile) = (self.tokens, self.context, self.profile);
        let queries = Operator::Product(self.over_keys(heads, heads.query_width()));
        let dq = self.tensor("gradient of queries", &[tokens, heads.query_width()], queries, &[dscores, qkv]);
        let over = |row| Operator::OverQueries(OverQueries { profile, heads, context, row });
        let by_head = [tokens, heads.kv_width()];
        let dk = self.tensor("gradient of keys", &by_head, over(heads.row_width()), &[dscores, qkv]);
        let dv = self.tensor("gradient of values", &by_head, over(heads.query_width()), &[weights, dz]);
        let columns = Operator::Point(Point::Columns { heads });
        self.tensor("gradient of qkv", &[tokens, heads.row_width()], columns, &[dq, dk, dv])
    }

    /// Back through the rotation and the norm of the heads.
    fn turn_back(&mut self, attention: &Attention, mut dqkv: usize, raw: Option<(usize, usize)>) -> usize {
        let heads = attention.heads;
        let shape = [self.tokens, heads.row_width()];
        if let Some(theta) = attention.theta {
            let rotate = Rotate { heads, context: self.context, theta, inverse: true };
            let rotate = Operator::Point(Point::Rotate(rotate));
            dqkv = self.tensor("gradient before rotation", &shape, rotate, &[dqkv]);
        }
        let Some((raw, rstd)) = raw else { return dqkv };
        let parts = [(0, heads.query_heads), (heads.query_heads, heads.kv_heads)];
        for (gain, (first, count)) in attention.gains.into_iter().zip(parts) {
            let sum = Sum::HeadGain { heads, first, count };
            let sum = TokenSum { sum, tokens: self.tokens, width: heads.head_dim };
            self.gradient(gain, Operator::TokenSum(sum), &[dqkv, raw, rstd]);
        }
        let gains = attention.gains.map(|gain| self.parameter(gain));
        let projection = self.head_row(Fold::RmsProjection, heads);
        let by_head = [self.tokens, heads.turning_heads()];
        let inputs = [dqkv, raw, rstd, gains[0], gains[1]];
        let projection = self.tensor("projection of heads", &by_head, projection, &inputs);
        let inputs = [dqkv, raw, rstd, projection, gains[0], gains[1]];
        let gradient = Operator::Point(Point::HeadGradient { heads });
        self.tensor("gradient before norm", &shape, gradient, &inputs)
    }

    fn head_row(&self, fold: Fold, heads: Heads) -> Operator {
        let words = self.tokens * heads.row_width();
        Operator::Row(Row { heads: Some(heads), ..Row::of(fold, heads.head_dim, words) })
    }

    /// The query heads of rows of tokens, as left operand.
    fn heads_of(heads: Heads, context: usize, row: usize) -> Walk {
        let dim = heads.head_dim;
        Walk { first: 0, strides: [context * row, heads.group() * dim, dim, row, 0], step: 1 }
    }

    /// A product of every query with every key (or value) at or before it.
    fn by_key(&self, heads: Heads, a: Walk, first: usize) -> Product {
        let (row, dim, context) = (heads.row_width(), heads.head_dim, self.context);
        Product {
            profile: self.profile,
            extents: [self.tokens / context, heads.kv_heads, heads.group(), context, context],
            order: IN_ORDER,
            a,
            b: Walk { first, strides: [context * row, dim, 0, 0, row], step: 1 },
            terms: Terms::All(dim),
            masked: true,
            onto: false,
        }
    }

    /// For every query, a sum over keys: weights of (sequence, head, query, key) with keys or values.
    fn over_keys(&self, heads: Heads, first: usize) -> Product {
        let (row, dim, context) = (heads.row_width(), heads.head_dim, self.context);
        let square = context * context;
        let strides = [heads.query_heads * square, heads.group() * square, square, context, 0];
        Product {
            profile: self.profile,
            extents: [self.tokens / context, heads.kv_heads, heads.group(), context, dim],
            order: BY_TOKEN,
            a: Walk { first: 0, strides, step: 1 },
            b: Walk { first, strides: [context * row, dim, 0, 0, 1], step: row },
            terms: Terms::ToBlock(context),
            masked: false,
            onto: false,
        }
    }
}
