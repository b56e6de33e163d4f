//! Causal self-attention: projection, rotation, attention, output projection.

use std::sync::Arc;

use zoo_kernels::heads::{self, Heads};
use zoo_kernels::linear::{self, Shape};
use zoo_kernels::rope::{self, Direction};
use zoo_kernels::{Onto, attention};

use super::{Cache, Gradients, Kept, Pass, RopeTables, rope_table};
use crate::buffer::{Buffer, Operand};
use crate::definition::NodeKind;
use crate::pages::NodePages;
use crate::parameter::Parameter;

/// One attention layer. Parameters: qkv, [qkv_bias], [query_gain, key_gain], output, [output_bias].
#[derive(Clone)]
pub(crate) struct Attention {
    width: usize,
    heads: Heads,
    rope: Option<Arc<rope::Table>>,
    qk_norm_epsilon: Option<f32>,
    bias: bool,
}

/// Queries, keys and values as attention reads them, and what it took to make them.
struct Projected {
    /// Normalised and rotated.
    qkv: Buffer,
    /// Before the norm of the heads, and the reciprocal deviation of every head.
    raw: Option<(Buffer, Buffer)>,
}

/// Where each parameter is in the VNode's list.
struct Places {
    qkv_bias: usize,
    gains: usize,
    output: usize,
    output_bias: usize,
}

const QKV: usize = 0;

/// What the backward pass takes beside the input.
fn keep(kept: &mut Kept, qkv: Operand, raw: Option<(Buffer, Buffer)>, z: Buffer, lse: Buffer) {
    kept.keep_operand(qkv);
    [z, lse].into_iter().for_each(|buffer| kept.keep(buffer));
    if let Some((raw, rstd)) = raw {
        [raw, rstd].into_iter().for_each(|buffer| kept.keep(buffer));
    }
}

impl Attention {
    pub fn new(kind: &NodeKind, context: usize, tables: &mut RopeTables) -> Self {
        let NodeKind::Attention { width, heads, kv_heads, head_dim, rope_theta, qk_norm_epsilon, bias } =
            *kind
        else {
            unreachable!("only attention is made of attention")
        };
        let rope = rope_theta.map(|theta| rope_table(tables, context, head_dim, theta));
        Self { width, heads: Heads { query_heads: heads, kv_heads, head_dim }, rope, qk_norm_epsilon, bias }
    }

    pub fn forward(
        &self,
        pass: &Pass,
        parameters: &[Parameter],
        input: Arc<Buffer>,
        residual: Option<Arc<Buffer>>,
        kept: Option<&mut Kept>,
        cache: Option<&mut Cache>,
    ) -> Buffer {
        let x = pass.operand(input);
        let Projected { qkv, raw } = self.project(pass, parameters, &x);
        let (z, attended) = match cache {
            Some(cache) => (self.attend_cached(pass, &qkv, cache), None),
            None => {
                let qkv = pass.operand(qkv);
                let (z, lse) = self.attend(pass, &qkv);
                (z, Some((qkv, lse)))
            }
        };
        let (mut y, onto) = match residual {
            Some(residual) => (pass.pool.own(residual), Onto::Value),
            None => (pass.pool.take(x.len()), Onto::Zero),
        };
        let places = self.places();
        let weight = parameters[places.output].weight();
        weight.forward(pass.profile, self.output_shape(pass), &z[..], &mut y, onto);
        if self.bias {
            linear::add_bias(&mut y, &parameters[places.output_bias].value);
        }
        if let (Some(kept), Some((qkv, lse))) = (kept, attended) {
            kept.keep_operand(x);
            if !pass.recompute {
                keep(kept, qkv, raw, z, lse);
            }
        }
        y
    }

    pub fn backward(
        &self,
        pass: &Pass,
        parameters: &mut [Parameter],
        arriving: Buffer,
        gradients: &mut Gradients,
        kept: &mut Kept,
    ) {
        let x = kept.take_operand();
        if pass.recompute {
            let Projected { qkv, raw } = self.project(pass, parameters, &x);
            let qkv = pass.operand(qkv);
            let (z, lse) = self.attend(pass, &qkv);
            keep(kept, qkv, raw, z, lse);
        }
        let (qkv, z, lse) = (kept.take_operand(), kept.take(), kept.take());
        let dz = self.output_backward(pass, parameters, &arriving, &z);
        if gradients.slots() > 1 {
            gradients.give(1, arriving);
        } else {
            drop(arriving);
        }
        let mut dqkv = pass.pool.take(qkv.len());
        attention::backward(pass.profile, self.heads, pass.context, qkv.read(), &z, &lse, &dz, &mut dqkv);
        drop((qkv, z, lse, dz));
        self.heads_backward(pass, parameters, &mut dqkv, kept);
        self.projection_backward(pass, parameters, &dqkv, &x, gradients);
    }

    fn project(&self, pass: &Pass, parameters: &[Parameter], x: &Operand) -> Projected {
        let mut qkv = pass.pool.take(pass.tokens.len() * self.heads.row_width());
        let weight = parameters[QKV].weight();
        weight.forward(pass.profile, self.projection_shape(pass), x.read(), &mut qkv, Onto::Zero);
        let places = self.places();
        if self.bias {
            linear::add_bias(&mut qkv, &parameters[places.qkv_bias].value);
        }
        let mut raw = None;
        if let Some(epsilon) = self.qk_norm_epsilon {
            let mut normed = pass.pool.take(qkv.len());
            let mut rstd = pass.pool.take(pass.tokens.len() * self.heads.turning_heads());
            let [query_gain, key_gain] = [0, 1].map(|gain| &parameters[places.gains + gain].value[..]);
            heads::normalise_qk(self.heads, &qkv, query_gain, key_gain, epsilon, &mut normed, &mut rstd);
            raw = Some((std::mem::replace(&mut qkv, normed), rstd));
        }
        if let Some(table) = &self.rope {
            match pass.positions {
                None => heads::rotate(self.heads, table, &mut qkv, pass.context, 0, Direction::Forward),
                Some(positions) => heads::rotate_at(self.heads, table, &mut qkv, positions),
            }
        }
        Projected { qkv, raw }
    }

    fn attend(&self, pass: &Pass, qkv: &Operand) -> (Buffer, Buffer) {
        let mut z = pass.pool.take(pass.tokens.len() * self.heads.query_width());
        let mut lse = pass.pool.take(pass.tokens.len() * self.heads.query_heads);
        attention::forward(pass.profile, self.heads, pass.context, qkv.read(), &mut z, &mut lse);
        (z, lse)
    }

    fn attend_cached(&self, pass: &Pass, qkv: &Buffer, cache: &mut Cache) -> Buffer {
        let NodePages { keys, values } = &mut *cache.pages;
        attention::store(self.heads, qkv, cache.sequences, keys, values);
        let mut z = pass.pool.take(pass.tokens.len() * self.heads.query_width());
        attention::decode(pass.profile, self.heads, qkv, cache.sequences, keys, values, &mut z);
        z
    }

    fn output_backward(&self, pass: &Pass, parameters: &mut [Parameter], dy: &Buffer, z: &Buffer) -> Buffer {
        let (shape, places) = (self.output_shape(pass), self.places());
        if self.bias {
            let (dbias, onto) = parameters[places.output_bias].gradient.receive(pass.pool, self.width);
            linear::backward_bias(dy, dbias, onto);
        }
        let Parameter { value: w, gradient, .. } = &mut parameters[places.output];
        let (dw, onto) = gradient.receive(pass.pool, w.len());
        linear::backward_weight(pass.profile, shape, dy, &z[..], dw, onto);
        let mut dz = pass.pool.take(z.len());
        linear::backward_input(pass.profile, shape, dy, w, &mut dz, Onto::Zero);
        dz
    }

    /// Back through the rotation and the norm of the heads, in place.
    fn heads_backward(&self, pass: &Pass, parameters: &mut [Parameter], dqkv: &mut Buffer, kept: &mut Kept) {
        if let Some(table) = &self.rope {
            heads::rotate(self.heads, table, dqkv, pass.context, 0, Direction::Inverse);
        }
        if self.qk_norm_epsilon.is_some() {
            let [raw, rstd] = [kept.take(), kept.take()];
            let gains = self.places().gains;
            let [query, key] = parameters.get_disjoint_mut([gains, gains + 1]).expect("two gains");
            let (dquery, onto) = query.gradient.receive(pass.pool, self.heads.head_dim);
            let (dkey, _) = key.gradient.receive(pass.pool, self.heads.head_dim);
            let (query, key) = (&query.value, &key.value);
            heads::normalise_qk_backward(self.heads, &raw, query, key, &rstd, dqkv, dquery, dkey, onto);
        }
    }

    fn projection_backward(
        &self,
        pass: &Pass,
        parameters: &mut [Parameter],
        dqkv: &Buffer,
        x: &Operand,
        gradients: &mut Gradients,
    ) {
        let shape = self.projection_shape(pass);
        if self.bias {
            let bias = &mut parameters[self.places().qkv_bias];
            let (dbias, onto) = bias.gradient.receive(pass.pool, self.heads.row_width());
            linear::backward_bias(dqkv, dbias, onto);
        }
        let Parameter { value: w, gradient, .. } = &mut parameters[QKV];
        let (dw, onto) = gradient.receive(pass.pool, w.len());
        linear::backward_weight(pass.profile, shape, dqkv, x.read(), dw, onto);
        let (dx, onto) = gradients.receive(0, pass.pool, x.len());
        linear::backward_input(pass.profile, shape, dqkv, w, dx, onto);
    }

    fn places(&self) -> Places {
        let gains = 1 + usize::from(self.bias);
        let output = gains + 2 * usize::from(self.qk_norm_epsilon.is_some());
        Places { qkv_bias: 1, gains, output, output_bias: output + 1 }
    }

    fn projection_shape(&self, pass: &Pass) -> Shape {
        Shape { rows: pass.tokens.len(), inputs: self.width, outputs: self.heads.row_width() }
    }

    fn output_shape(&self, pass: &Pass) -> Shape {
        Shape { rows: pass.tokens.len(), inputs: self.heads.query_width(), outputs: self.width }
    }
}
