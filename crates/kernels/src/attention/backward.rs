//! Gradients of queries, keys and values, from recomputed scores.

use std::cell::RefCell;

use rayon::prelude::*;

use super::{QUERY_BLOCK, SharedRows, scale};
use crate::heads::Heads;
use crate::matmul::{Element, Operand, Packed, View, ViewMut, matmul_serial, with_elements};
use crate::multiversion::multiversion;
use crate::onto::Onto;
use crate::profile::Profile;
use crate::{math, reduce};

/// Gradient of [`super::forward`].
///
/// * `qkv`, `z`, `lse`: what the forward pass read and wrote
/// * `dz`: `[batch * context, query_heads * head_dim]`
/// * `dqkv`: `[batch * context, heads.row_width()]`, written
///
/// # Panics
/// If the lengths do not match.
#[expect(clippy::too_many_arguments, reason = "an operator's operands, each once")]
pub fn backward<'a>(
    profile: Profile,
    heads: Heads,
    context: usize,
    qkv: impl Into<Operand<'a>>,
    z: &[f32],
    lse: &[f32],
    dz: &[f32],
    dqkv: &mut [f32],
) {
    with_elements!(qkv.into(), qkv => backward_of(profile, heads, context, qkv, z, lse, dz, dqkv));
}

#[expect(clippy::too_many_arguments, reason = "an operator's operands, each once")]
fn backward_of<T: Element>(
    profile: Profile,
    heads: Heads,
    context: usize,
    qkv: &[T],
    z: &[f32],
    lse: &[f32],
    dz: &[f32],
    dqkv: &mut [f32],
) {
    let (row, width) = (heads.row_width(), heads.query_heads * heads.head_dim);
    let tokens = qkv.len() / row;
    assert!(tokens * row == qkv.len() && tokens.is_multiple_of(context), "qkv is not whole sequences");
    assert!(z.len() == tokens * width && dz.len() == z.len(), "lengths do not match");
    assert!(lse.len() == tokens * heads.query_heads && dqkv.len() == qkv.len(), "lengths do not match");
    let gradient = SharedRows(dqkv.as_mut_ptr());
    let group = heads.query_heads / heads.kv_heads;
    (0..tokens / context * heads.kv_heads).into_par_iter().with_max_len(1).for_each(|task| {
        let (sequence, kv_head) = (task / heads.kv_heads, task % heads.kv_heads);
        let first = sequence * context;
        let in_qkv = |head: usize| first * row + head * heads.head_dim;
        let in_z = |head: usize| first * width + head * heads.head_dim;
        let head = |index| head_view(qkv, in_qkv(index), context, heads.head_dim, row);
        let output = |rows, index| head_view(rows, in_z(index), context, heads.head_dim, width);
        // SAFETY: this task alone writes this sequence, these query heads and this key-value head.
        let gradient =
            |index| unsafe { ViewMut::from_raw(gradient.at(in_qkv(index)), context, heads.head_dim, row) };
        let (key_head, value_head) =
            (heads.query_heads + kv_head, heads.query_heads + heads.kv_heads + kv_head);
        let (mut dkeys, mut dvalues) = (gradient(key_head), gradient(value_head));
        (0..context).for_each(|i| dkeys.row(i).fill(0.0));
        (0..context).for_each(|i| dvalues.row(i).fill(0.0));
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.keys_transposed.pack(profile, head(key_head).transposed());
            scratch.values_transposed.pack(profile, head(value_head).transposed());
            scratch.keys.pack(profile, head(key_head));
            for index in kv_head * group..(kv_head + 1) * group {
                let query = QueryHead {
                    queries: head(index),
                    z: output(z, index),
                    dz: output(dz, index),
                    lse: &lse[(sequence * heads.query_heads + index) * context..][..context],
                };
                scratch.one_head(profile, query, &mut gradient(index), &mut dkeys, &mut dvalues);
            }
        });
    });
}

fn head_view<T: Element>(
    rows: &[T],
    first: usize,
    context: usize,
    head_dim: usize,
    row: usize,
) -> View<'_, T> {
    View::strided(&rows[first..], context, head_dim, row, 1)
}

/// What the forward pass left of one query head, and the gradient that arrives.
struct QueryHead<'a, T> {
    queries: View<'a, T>,
    z: View<'a>,
    dz: View<'a>,
    lse: &'a [f32],
}

/// What a thread works in.
#[derive(Default)]
struct Scratch {
    keys: Packed,
    keys_transposed: Packed,
    values_transposed: Packed,
    weights: Vec<f32>,
    dscores: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    fn one_head<T: Element>(
        &mut self,
        profile: Profile,
        query: QueryHead<T>,
        dqueries: &mut ViewMut,
        dkeys: &mut ViewMut,
        dvalues: &mut ViewMut,
    ) {
        let (context, head_dim) = (query.queries.rows(), query.queries.cols());
        let scale = scale(head_dim);
        self.weights.resize(QUERY_BLOCK * context, 0.0);
        self.dscores.resize(QUERY_BLOCK * context, 0.0);
        for from in (0..context).step_by(QUERY_BLOCK) {
            let to = (from + QUERY_BLOCK).min(context);
            let (rows, keys) = (to - from, to);
            let queries = query.queries.rows_range(from, to);
            let dz = query.dz.rows_range(from, to);
            let mut scores = ViewMut::strided(&mut self.weights, rows, keys, context);
            self.keys_transposed.multiply(queries, &mut scores, Onto::Zero);
            let mut dweights = ViewMut::strided(&mut self.dscores, rows, keys, context);
            self.values_transposed.multiply(dz, &mut dweights, Onto::Zero);
            for i in 0..rows {
                let at = i * context;
                let shared = reduce_dot(query.dz.row(from + i), query.z.row(from + i));
                let (weights, dscores) = (&mut self.weights[at..at + keys], &mut self.dscores[at..at + keys]);
                score_gradients(weights, dscores, from + i + 1, scale, query.lse[from + i], shared);
            }
            let weights = View::strided(&self.weights, rows, keys, context, 1);
            let dscores = View::strided(&self.dscores, rows, keys, context, 1);
            self.keys.multiply(dscores, &mut dqueries.rows_range(from, to), Onto::Zero);
            matmul_serial(profile, dscores.transposed(), queries, dkeys.rows_range(0, keys), Onto::Value);
            matmul_serial(profile, weights.transposed(), dz, dvalues.rows_range(0, keys), Onto::Value);
        }
    }
}

multiversion! {
    fn reduce_dot(a: &[f32], b: &[f32]) -> f32 {
        reduce::dot(a, b)
    }
}

multiversion! {
    /// Scores become weights, gradients of weights become gradients of scores; masked ones become zero.
    fn score_gradients(scores: &mut [f32], dweights: &mut [f32], valid: usize, scale: f32, lse: f32, shared: f32) {
        let (scores, masked) = scores.split_at_mut(valid);
        masked.fill(0.0);
        let (dweights, masked) = dweights.split_at_mut(valid);
        masked.fill(0.0);
        for (score, dweight) in scores.iter_mut().zip(dweights) {
            let weight = math::exp(score.mul_add(scale, -lse));
            *dweight = weight * (*dweight - shared) * scale;
            *score = weight;
        }
    }
}
