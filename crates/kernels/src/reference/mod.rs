//! The specification in code: every operator as plain scalar loops.
//!
//! Nothing here is tiled, vectorised or parallel; each function has the name,
//! the arguments and, by the tests, the bits of the operator it specifies. It is
//! slow and meant to be read next to `SPEC.md`.
//!
//! The scalar functions of [`crate::math`], the tables of [`crate::rope`],
//! [`crate::random`] and [`crate::digest`] are plain scalar code already and are
//! their own reference.

pub mod activation;
pub mod attention;
pub mod bf16;
pub mod clip;
pub mod columns;
pub mod cross_entropy;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod heads;
pub mod linear;
pub mod matmul;
pub mod norm;
pub mod optimizer;
pub mod square_error;

use crate::profile::Profile;

/// Length of one chain of a matrix product.
const CHUNK: usize = 256;

/// Tokens in one chain of the other sums over tokens, and queries in one chain
/// of the gradients of keys and values.
const TOKEN_BLOCK: usize = 64;

/// `a b + c`, rounded once.
fn fma(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

/// A product by the rule of `profile`.
fn product(
    profile: Profile,
    start: f32,
    k: usize,
    a: impl Fn(usize) -> f32,
    b: impl Fn(usize) -> f32,
) -> f32 {
    match profile {
        Profile::F32Exact => chunk_rule(start, k, a, b),
        Profile::Bf16Exact => bf16::pair_rule(start, k, a, b),
    }
}

/// The chunk rule: `start` plus the products `a(i) b(i)`, which are chained from
/// +0 within chunks of 256 and added chunk by chunk.
fn chunk_rule(start: f32, k: usize, a: impl Fn(usize) -> f32, b: impl Fn(usize) -> f32) -> f32 {
    let mut sum = start;
    for first in (0..k).step_by(CHUNK) {
        let mut chain = 0.0;
        for i in first..k.min(first + CHUNK) {
            chain = fma(a(i), b(i), chain);
        }
        sum += chain;
    }
    sum
}

/// The block rule for sums over tokens: `start` plus block sums of 64 tokens,
/// each a chain of `step` from +0.
fn block_rule(start: f32, tokens: usize, step: impl Fn(f32, usize) -> f32) -> f32 {
    let mut sum = start;
    for first in (0..tokens).step_by(TOKEN_BLOCK) {
        let mut chain = 0.0;
        for token in first..tokens.min(first + TOKEN_BLOCK) {
            chain = step(chain, token);
        }
        sum += chain;
    }
    sum
}

/// The lane rule for rows: element `i` is folded into lane `i mod 16` by `step`,
/// and the lanes are added 8 apart, then 4, 2, 1.
fn lane_rule(elements: usize, step: impl Fn(f32, usize) -> f32) -> f32 {
    lanes(elements, 0.0, step, |a, b| a + b)
}

/// The greatest of a row, by the lane rule: the later of two values wins only
/// if it is greater, so NaN never does.
fn greatest(elements: usize, value: impl Fn(usize) -> f32) -> f32 {
    let greater = |kept: f32, new: f32| if new > kept { new } else { kept };
    lanes(elements, f32::NEG_INFINITY, |kept, i| greater(kept, value(i)), greater)
}

fn lanes(
    elements: usize,
    start: f32,
    step: impl Fn(f32, usize) -> f32,
    combine: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; 16];
    for i in 0..elements {
        lanes[i % 16] = step(lanes[i % 16], i);
    }
    for apart in [8, 4, 2, 1] {
        for i in 0..apart {
            lanes[i] = combine(lanes[i], lanes[i + apart]);
        }
    }
    lanes[0]
}
