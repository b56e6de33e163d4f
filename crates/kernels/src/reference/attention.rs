//! Causal attention with grouped queries.

use super::{TOKEN_BLOCK, fma, greatest, lane_rule, product};
use crate::heads::Heads;
use crate::math::{exp, log};
use crate::profile::Profile;

/// Attention over whole sequences; `lse` is `[batch, query_heads, context]`.
pub fn forward(profile: Profile, heads: Heads, context: usize, qkv: &[f32], z: &mut [f32], lse: &mut [f32]) {
    let (row, width) = (heads.row_width(), heads.query_width());
    for sequence in 0..qkv.len() / (row * context) {
        let qkv = &qkv[sequence * context * row..][..context * row];
        let keys = columns(qkv, row, width, heads.kv_width());
        let values = columns(qkv, row, width + heads.kv_width(), heads.kv_width());
        for h in 0..heads.query_heads {
            for i in 0..context {
                let query = &qkv[i * row + h * heads.head_dim..][..heads.head_dim];
                let z = &mut z[(sequence * context + i) * width + h * heads.head_dim..][..heads.head_dim];
                let at = (sequence * heads.query_heads + h) * context + i;
                lse[at] = attend(profile, heads, h, query, i + 1, &keys, &values, z);
            }
        }
    }
}

/// Attention of the last rows over a cache.
pub fn decode(profile: Profile, heads: Heads, qkv: &[f32], keys: &[f32], values: &[f32], z: &mut [f32]) {
    let (row, width) = (heads.row_width(), heads.query_width());
    let (m, n) = (qkv.len() / row, keys.len() / heads.kv_width());
    for i in 0..m {
        for h in 0..heads.query_heads {
            let query = &qkv[i * row + h * heads.head_dim..][..heads.head_dim];
            let z = &mut z[i * width + h * heads.head_dim..][..heads.head_dim];
            attend(profile, heads, h, query, n - m + i + 1, keys, values, z);
        }
    }
}

/// One query over the first `valid` positions; returns its log-sum-exp.
#[expect(clippy::too_many_arguments, reason = "an operator's operands, each once")]
fn attend(
    profile: Profile,
    heads: Heads,
    h: usize,
    query: &[f32],
    valid: usize,
    keys: &[f32],
    values: &[f32],
    z: &mut [f32],
) -> f32 {
    let scale = 1.0 / (heads.head_dim as f32).sqrt();
    // Element d of the key or value of position j.
    let at = |j: usize, d: usize| j * heads.kv_width() + h / heads.group() * heads.head_dim + d;
    let scores: Vec<f32> =
        (0..valid).map(|j| product(profile, 0.0, heads.head_dim, |d| query[d], |d| keys[at(j, d)])).collect();
    let scaled_greatest = greatest(valid, |j| scores[j]) * scale;
    let e: Vec<f32> = scores.iter().map(|s| exp(fma(*s, scale, -scaled_greatest))).collect();
    let total = lane_rule(valid, |lane, j| lane + e[j]);
    let inverse = 1.0 / total;
    for d in 0..heads.head_dim {
        z[d] = product(profile, 0.0, valid, |j| e[j], |j| values[at(j, d)]) + 0.0;
        z[d] *= inverse;
    }
    scaled_greatest + log(total)
}

/// Gradient of [`forward`].
#[expect(clippy::too_many_arguments, reason = "an operator's operands, each once")]
pub fn backward(
    profile: Profile,
    heads: Heads,
    context: usize,
    qkv: &[f32],
    z: &[f32],
    lse: &[f32],
    dz: &[f32],
    dqkv: &mut [f32],
) {
    let (row, width, dim) = (heads.row_width(), heads.query_width(), heads.head_dim);
    for sequence in 0..qkv.len() / (row * context) {
        let qkv = &qkv[sequence * context * row..][..context * row];
        let dqkv = &mut dqkv[sequence * context * row..][..context * row];
        let (z, dz) = (&z[sequence * context * width..], &dz[sequence * context * width..]);
        for kv_head in 0..heads.kv_heads {
            let key_at = |j: usize| j * row + width + kv_head * dim;
            let value_at = |j: usize| key_at(j) + heads.kv_width();
            for j in 0..context {
                dqkv[key_at(j)..][..dim].fill(0.0);
                dqkv[value_at(j)..][..dim].fill(0.0);
            }
            for h in kv_head * heads.group()..(kv_head + 1) * heads.group() {
                let lse = &lse[(sequence * heads.query_heads + h) * context..][..context];
                let query = |i: usize| &qkv[i * row + h * dim..][..dim];
                let dz = |i: usize| &dz[i * width + h * dim..][..dim];
                let z = |i: usize| &z[i * width + h * dim..][..dim];
                // The weights and the gradients of the scores, row by row.
                let (p, ds) = weights(
                    profile,
                    dim,
                    context,
                    query,
                    |j| &qkv[key_at(j)..][..dim],
                    |j| &qkv[value_at(j)..][..dim],
                    z,
                    lse,
                    dz,
                );
                // Masked keys of the query's block take part with a gradient of +0.
                let end = |i: usize| context.min((i / TOKEN_BLOCK + 1) * TOKEN_BLOCK);
                for i in 0..context {
                    for d in 0..dim {
                        dqkv[i * row + h * dim + d] =
                            product(profile, 0.0, end(i), |j| masked(&ds[i], j), |j| qkv[key_at(j) + d]);
                    }
                }
                for j in 0..context {
                    for d in 0..dim {
                        let key = &mut dqkv[key_at(j) + d];
                        *key =
                            over_queries(profile, *key, j, context, |i| masked(&ds[i], j), |i| query(i)[d]);
                        let value = &mut dqkv[value_at(j) + d];
                        *value =
                            over_queries(profile, *value, j, context, |i| masked(&p[i], j), |i| dz(i)[d]);
                    }
                }
            }
        }
    }
}

/// For every query, the weights of its keys and the gradients of its scores.
#[expect(clippy::too_many_arguments, reason = "an operator's operands, each once")]
fn weights<'a>(
    profile: Profile,
    dim: usize,
    context: usize,
    query: impl Fn(usize) -> &'a [f32],
    key: impl Fn(usize) -> &'a [f32],
    value: impl Fn(usize) -> &'a [f32],
    z: impl Fn(usize) -> &'a [f32],
    lse: &[f32],
    dz: impl Fn(usize) -> &'a [f32],
) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let scale = 1.0 / (dim as f32).sqrt();
    let row = |i: usize| {
        let shared = lane_rule(dim, |lane, d| fma(dz(i)[d], z(i)[d], lane));
        let pair = |j: usize| {
            let score = product(profile, 0.0, dim, |d| query(i)[d], |d| key(j)[d]);
            let p = exp(fma(score, scale, -lse[i]));
            let dp = product(profile, 0.0, dim, |d| dz(i)[d], |d| value(j)[d]);
            (p, p * (dp - shared) * scale)
        };
        (0..=i).map(pair).unzip()
    };
    (0..context).map(row).unzip()
}

/// One query's value for key `j`: +0 for the keys after it.
fn masked(row: &[f32], j: usize) -> f32 {
    row.get(j).copied().unwrap_or(0.0)
}

/// The queries of every block of 64 positions that has some from position `j` on, each block one product.
fn over_queries(
    profile: Profile,
    start: f32,
    j: usize,
    context: usize,
    a: impl Fn(usize) -> f32,
    b: impl Fn(usize) -> f32,
) -> f32 {
    let mut sum = start;
    for first in (j / TOKEN_BLOCK * TOKEN_BLOCK..context).step_by(TOKEN_BLOCK) {
        let count = TOKEN_BLOCK.min(context - first);
        sum = product(profile, sum, count, |i| a(first + i), |i| b(first + i));
    }
    sum
}

/// Columns `from..from + count` of a matrix with rows of `width`.
fn columns(matrix: &[f32], width: usize, from: usize, count: usize) -> Vec<f32> {
    matrix.chunks(width).flat_map(|row| row[from..from + count].iter().copied()).collect()
}
