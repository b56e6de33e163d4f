//! The linear layer: `y = x w^T + b`, with w as `[outputs, inputs]`.

use rayon::prelude::*;

use crate::matmul::{Operand, View, ViewMut, matmul, with_elements};
use crate::multiversion::multiversion;
use crate::norm::{TOKEN_BLOCK, add_blocks};
use crate::onto::Onto;
use crate::profile::Profile;

/// Sizes of a linear layer applied to `rows` tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Tokens.
    pub rows: usize,
    /// Width of the input.
    pub inputs: usize,
    /// Width of the output.
    pub outputs: usize,
}

/// `y = x w^T` (or `y += x w^T`): x `[rows, inputs]`, w `[outputs, inputs]`, y `[rows, outputs]`.
pub fn forward<'a>(
    profile: Profile,
    shape: Shape,
    x: impl Into<Operand<'a>>,
    w: &[f32],
    y: &mut [f32],
    onto: Onto,
) {
    let Shape { rows, inputs, outputs } = shape;
    let (w, y) = (View::row_major(w, outputs, inputs).transposed(), ViewMut::row_major(y, rows, outputs));
    with_elements!(x.into(), x => matmul(profile, View::row_major(x, rows, inputs), w, y, onto));
}

/// `dx = dy w` (or `dx += dy w`): the gradient of the input.
pub fn backward_input(profile: Profile, shape: Shape, dy: &[f32], w: &[f32], dx: &mut [f32], onto: Onto) {
    let Shape { rows, inputs, outputs } = shape;
    matmul(
        profile,
        View::row_major(dy, rows, outputs),
        View::row_major(w, outputs, inputs),
        ViewMut::row_major(dx, rows, inputs),
        onto,
    );
}

/// `dw = dy^T x` (or `dw += dy^T x`): the gradient of the weight, rows cut as the profile says.
pub fn backward_weight<'a>(
    profile: Profile,
    shape: Shape,
    dy: &[f32],
    x: impl Into<Operand<'a>>,
    dw: &mut [f32],
    onto: Onto,
) {
    let Shape { rows, inputs, outputs } = shape;
    let (dy, dw) = (View::row_major(dy, rows, outputs).transposed(), ViewMut::row_major(dw, outputs, inputs));
    with_elements!(x.into(), x => matmul(profile, dy, View::row_major(x, rows, inputs), dw, onto));
}

/// Adds `bias` to every row of `y`.
pub fn add_bias(y: &mut [f32], bias: &[f32]) {
    y.par_chunks_mut(bias.len() * TOKEN_BLOCK).for_each(|rows| {
        rows.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
    });
}

/// Gradient of a bias: the sum of the rows of `dy`, in token order, cut at multiples of 64 rows.
pub fn backward_bias(dy: &[f32], dbias: &mut [f32], onto: Onto) {
    let width = dbias.len();
    let mut blocks = vec![0.0; dy.len().div_ceil(width * TOKEN_BLOCK) * width];
    blocks.par_chunks_mut(width).zip(dy.par_chunks(width * TOKEN_BLOCK)).for_each(|(sum, rows)| {
        rows.chunks_exact(width).for_each(|row| add(sum, row));
    });
    add_blocks(dbias, onto, &blocks);
}

multiversion! {
    fn add(to: &mut [f32], from: &[f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to += *from;
        }
    }
}
