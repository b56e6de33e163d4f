//! Scores, softmax and weighted values.

use std::cell::RefCell;

use rayon::prelude::*;

use super::{QUERY_BLOCK, SharedRows, scale};
use crate::heads::Heads;
use crate::matmul::{Element, Operand, Packed, View, ViewMut, with_elements};
use crate::multiversion::multiversion;
use crate::onto::Onto;
use crate::profile::Profile;
use crate::{math, reduce};

/// Attention over whole sequences.
///
/// * `qkv`: `[batch * context, heads.row_width()]`, queries and keys already rotated
/// * `z`: `[batch * context, query_heads * head_dim]`, written
/// * `lse`: `[batch, query_heads, context]`, written: log-sum-exp of each row of scores, for the backward pass
///
/// # Panics
/// If the lengths do not match.
pub fn forward<'a>(
    profile: Profile,
    heads: Heads,
    context: usize,
    qkv: impl Into<Operand<'a>>,
    z: &mut [f32],
    lse: &mut [f32],
) {
    with_elements!(qkv.into(), qkv => forward_of(profile, heads, context, qkv, z, lse));
}

fn forward_of<T: Element>(
    profile: Profile,
    heads: Heads,
    context: usize,
    qkv: &[T],
    z: &mut [f32],
    lse: &mut [f32],
) {
    let (row, width) = (heads.row_width(), heads.query_heads * heads.head_dim);
    let tokens = qkv.len() / row;
    assert!(tokens * row == qkv.len() && tokens.is_multiple_of(context), "qkv is not whole sequences");
    assert!(z.len() == tokens * width && lse.len() == tokens * heads.query_heads, "lengths do not match");
    let (z, lse) = (SharedRows(z.as_mut_ptr()), SharedRows(lse.as_mut_ptr()));
    let group = heads.query_heads / heads.kv_heads;
    (0..tokens / context * heads.kv_heads).into_par_iter().with_max_len(1).for_each(|task| {
        let (sequence, kv_head) = (task / heads.kv_heads, task % heads.kv_heads);
        let rows = &qkv[sequence * context * row..][..context * row];
        let head =
            |index: usize| View::strided(&rows[index * heads.head_dim..], context, heads.head_dim, row, 1);
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.keys.pack(profile, head(heads.query_heads + kv_head).transposed());
            scratch.values.pack(profile, head(heads.query_heads + heads.kv_heads + kv_head));
            for query_head in kv_head * group..(kv_head + 1) * group {
                // SAFETY: this task alone writes this sequence and these heads.
                unsafe {
                    let z = z.at(sequence * context * width + query_head * heads.head_dim);
                    let lse = lse.at((sequence * heads.query_heads + query_head) * context);
                    let z = ViewMut::from_raw(z, context, heads.head_dim, width);
                    attend(
                        scratch,
                        head(query_head),
                        0,
                        z,
                        Some(std::slice::from_raw_parts_mut(lse, context)),
                    );
                }
            }
        });
    });
}

/// What a thread works in.
#[derive(Default)]
pub(super) struct Scratch {
    pub keys: Packed,
    pub values: Packed,
    scores: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Runs `work` with what the calling thread works in.
pub(super) fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with_borrow_mut(work)
}

/// One head: the queries stand at positions `first..`, the packed keys and values at `0..`.
pub(super) fn attend<T: Element>(
    scratch: &mut Scratch,
    queries: View<T>,
    first: usize,
    mut z: ViewMut,
    mut lse: Option<&mut [f32]>,
) {
    let (count, head_dim) = (queries.rows(), queries.cols());
    let scale = scale(head_dim);
    let positions = first + count;
    scratch.scores.resize(QUERY_BLOCK * positions, 0.0);
    // Blocks are aligned to positions, as in the backward pass.
    let mut from = 0;
    while from < count {
        let to = (from + QUERY_BLOCK - (first + from) % QUERY_BLOCK).min(count);
        let (rows, keys) = (to - from, first + to);
        let mut scores = ViewMut::strided(&mut scratch.scores, rows, keys, positions);
        scratch.keys.multiply(queries.rows_range(from, to), &mut scores, Onto::Zero);
        let mut inverse = [0f32; QUERY_BLOCK];
        for (i, row) in scratch.scores.chunks_mut(positions).take(rows).enumerate() {
            let valid = first + from + i + 1;
            let (max, sum) = exponentials(&mut row[..keys], valid, scale);
            inverse[i] = 1.0 / sum;
            if let Some(lse) = lse.as_deref_mut() {
                lse[from + i] = max + math::log(sum);
            }
        }
        let weights = View::strided(&scratch.scores, rows, keys, positions, 1);
        let mut z = z.rows_range(from, to);
        scratch.values.multiply(weights, &mut z, Onto::Zero);
        for (i, inverse) in inverse.iter().enumerate().take(rows) {
            divide(z.row(i), *inverse);
        }
        from = to;
    }
}

multiversion! {
    /// Turns the first `valid` scores into exponentials, the rest into zeros; returns the scaled
    /// maximum and the sum.
    pub(super) fn exponentials(scores: &mut [f32], valid: usize, scale: f32) -> (f32, f32) {
        let (scores, masked) = scores.split_at_mut(valid);
        masked.fill(0.0);
        let max = reduce::max(scores) * scale;
        for score in scores.iter_mut() {
            *score = math::exp(score.mul_add(scale, -max));
        }
        (max, reduce::sum(scores))
    }
}

multiversion! {
    /// Weighted sums times one over the sum of their weights; a zero becomes +0, whatever masked keys made of it.
    pub(super) fn divide(row: &mut [f32], inverse: f32) {
        for value in row.iter_mut() {
            *value = (*value + 0.0) * inverse;
        }
    }
}
