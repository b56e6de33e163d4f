//! Heads of causal self-attention, each with queries, keys and values of its own: one VNode, or several that read the
//! same rows and are run as one operator.
//!
//! What several are together has the bits of each by itself. Elements of a product do not depend on those beside them, and
//! attention is computed head by head; only the gradient of the input is a sum over heads, and it is
//! added up head by head, the last first, as it is where each runs by itself.

use std::sync::Arc;

use zoo_kernels::columns::{self, Columns};
use zoo_kernels::heads::{self, Heads};
use zoo_kernels::linear::{self, Shape};
use zoo_kernels::rope::{self, Direction};
use zoo_kernels::{Onto, attention};

use super::{Cache, Kept, Pass, RopeTables, rope_table};
use crate::buffer::{Buffer, Operand};
use crate::pages::NodePages;
use crate::parameter::Parameter;

/// `count` heads. Parameters, one a head: qkv.
#[derive(Clone)]
pub(crate) struct AttentionHeads {
    width: usize,
    head_dim: usize,
    count: usize,
    rope: Option<Arc<rope::Table>>,
}

/// Queries, keys and values.
const PARTS: usize = 3;

impl AttentionHeads {
    pub fn new(
        (width, head_dim): (usize, usize),
        rope_theta: Option<f64>,
        context: usize,
        tables: &mut RopeTables,
    ) -> Self {
        let rope = rope_theta.map(|theta| rope_table(tables, context, head_dim, theta));
        Self { width, head_dim, count: 1, rope }
    }

    /// As many of these as one operator.
    pub fn times(&self, count: usize) -> Self {
        Self { count, ..self.clone() }
    }

    /// Elements of the input of a pass.
    pub fn input_len(&self, pass: &Pass) -> usize {
        pass.tokens.len() * self.width
    }

    /// The outputs of the heads, side by side.
    pub fn forward(
        &self,
        pass: &Pass,
        parameters: &[&Parameter],
        input: Arc<Buffer>,
        kept: Option<&mut Kept>,
        cache: Option<&mut Cache>,
    ) -> Arc<Buffer> {
        let x = pass.operand(input);
        let qkv = self.project(pass, parameters, &x);
        if let Some(cache) = cache {
            return Arc::new(self.attend_cached(pass, &qkv, cache));
        }
        let qkv = pass.operand(qkv);
        let (z, lse) = self.attend(pass, &qkv);
        let z = Arc::new(z);
        if let Some(kept) = kept {
            kept.keep_operand(x);
            if !pass.recompute {
                kept.keep_operand(qkv);
                kept.keep(Arc::clone(&z));
                kept.keep(lse);
            }
        }
        z
    }

    /// Adds to the gradients of the parameters, and puts that of the input where it belongs.
    pub fn backward(
        &self,
        pass: &Pass,
        parameters: &mut [&mut Parameter],
        dz: Buffer,
        dx: &mut Buffer,
        dx_onto: Onto,
        kept: &mut Kept,
    ) {
        let x = kept.take_operand();
        let (qkv, z, lse) = match pass.recompute {
            true => {
                let readable: Vec<&Parameter> = parameters.iter().map(|parameter| &**parameter).collect();
                let qkv = pass.operand(self.project(pass, &readable, &x));
                let (z, lse) = self.attend(pass, &qkv);
                (qkv, Arc::new(z), Arc::new(lse))
            }
            false => (kept.take_operand(), kept.take(), kept.take()),
        };
        let (heads, mut dqkv) = (self.heads(), pass.pool.take(qkv.len()));
        attention::backward(pass.profile, heads, pass.context, qkv.read(), &z, &lse, &dz, &mut dqkv);
        drop((qkv, z, lse, dz));
        if let Some(table) = &self.rope {
            heads::rotate(heads, table, &mut dqkv, pass.context, 0, Direction::Inverse);
        }
        self.weights_backward(pass, parameters, &dqkv, &x);
        self.input_backward(pass, parameters, &dqkv, dx, dx_onto);
    }

    fn project(&self, pass: &Pass, parameters: &[&Parameter], x: &Operand) -> Buffer {
        let shape = self.shape(pass, self.count);
        let mut qkv = pass.pool.take(shape.rows * shape.outputs);
        match parameters {
            [only] => only.weight().forward(pass.profile, shape, x.read(), &mut qkv, Onto::Zero),
            several => {
                let mut weight = pass.pool.take(shape.outputs * self.width);
                for (head, parameter) in several.iter().enumerate() {
                    self.put(head, &parameter.value, &mut weight);
                }
                linear::forward(pass.profile, shape, x.read(), &weight, &mut qkv, Onto::Zero);
            }
        }
        if let Some(table) = &self.rope {
            match pass.positions {
                None => heads::rotate(self.heads(), table, &mut qkv, pass.context, 0, Direction::Forward),
                Some(positions) => heads::rotate_at(self.heads(), table, &mut qkv, positions),
            }
        }
        qkv
    }

    fn attend(&self, pass: &Pass, qkv: &Operand) -> (Buffer, Buffer) {
        let rows = pass.tokens.len();
        let (mut z, mut lse) =
            (pass.pool.take(rows * self.count * self.head_dim), pass.pool.take(rows * self.count));
        attention::forward(pass.profile, self.heads(), pass.context, qkv.read(), &mut z, &mut lse);
        (z, lse)
    }

    fn attend_cached(&self, pass: &Pass, qkv: &Buffer, cache: &mut Cache) -> Buffer {
        let (heads, NodePages { keys, values }) = (self.heads(), &mut *cache.pages);
        attention::store(heads, qkv, cache.sequences, keys, values);
        let mut z = pass.pool.take(pass.tokens.len() * self.count * self.head_dim);
        attention::decode(pass.profile, heads, qkv, cache.sequences, keys, values, &mut z);
        z
    }

    fn weights_backward(&self, pass: &Pass, parameters: &mut [&mut Parameter], dqkv: &Buffer, x: &Operand) {
        let shape = self.shape(pass, self.count);
        if let [only] = parameters {
            let (dw, onto) = only.gradient.receive(pass.pool, only.value.len());
            return linear::backward_weight(pass.profile, shape, dqkv, x.read(), dw, onto);
        }
        // One product for all: what is there already is put where the product adds to it.
        let mut stacked = pass.pool.take(shape.outputs * self.width);
        let mut all_onto = Onto::Zero;
        for (head, parameter) in parameters.iter_mut().enumerate() {
            let (dw, onto) = parameter.gradient.receive(pass.pool, parameter.value.len());
            if onto == Onto::Value {
                self.put(head, dw, &mut stacked);
            }
            all_onto = onto;
        }
        linear::backward_weight(pass.profile, shape, dqkv, x.read(), &mut stacked, all_onto);
        for (head, parameter) in parameters.iter_mut().enumerate() {
            let (dw, _) = parameter.gradient.receive(pass.pool, parameter.value.len());
            for part in 0..PARTS {
                dw[self.own_rows(part)].copy_from_slice(&stacked[self.stacked_rows(part, head)]);
            }
        }
    }

    fn input_backward(
        &self,
        pass: &Pass,
        parameters: &[&mut Parameter],
        dqkv: &Buffer,
        dx: &mut Buffer,
        mut onto: Onto,
    ) {
        if let [only] = parameters {
            let shape = self.shape(pass, 1);
            return linear::backward_input(pass.profile, shape, dqkv, &only.value, dx, onto);
        }
        let (shape, own) = (self.shape(pass, 1), PARTS * self.head_dim);
        let mut one = pass.pool.take(shape.rows * own);
        for (head, parameter) in parameters.iter().enumerate().rev() {
            for part in 0..PARTS {
                let source =
                    Columns { width: self.count * own, first: (part * self.count + head) * self.head_dim };
                let target = Columns { width: own, first: part * self.head_dim };
                columns::copy(self.head_dim, dqkv, source, &mut one, target);
            }
            linear::backward_input(pass.profile, shape, &one, &parameter.value, dx, onto);
            onto = Onto::Value;
        }
    }

    /// Copies one head's matrix to where it lies among those of all: all queries, all keys, all values.
    fn put(&self, head: usize, own: &[f32], stacked: &mut [f32]) {
        for part in 0..PARTS {
            stacked[self.stacked_rows(part, head)].copy_from_slice(&own[self.own_rows(part)]);
        }
    }

    fn own_rows(&self, part: usize) -> std::ops::Range<usize> {
        let rows = self.head_dim * self.width;
        part * rows..(part + 1) * rows
    }

    fn stacked_rows(&self, part: usize, head: usize) -> std::ops::Range<usize> {
        self.own_rows(part * self.count + head)
    }

    fn heads(&self) -> Heads {
        Heads { query_heads: self.count, kv_heads: self.count, head_dim: self.head_dim }
    }

    fn shape(&self, pass: &Pass, count: usize) -> Shape {
        Shape { rows: pass.tokens.len(), inputs: self.width, outputs: PARTS * count * self.head_dim }
    }
}
