//! The linear layer.

use super::block_rule;
use super::matmul::{Matrix, matmul};
use crate::linear::Shape;
use crate::onto::Onto;
use crate::profile::Profile;

/// `y = x w^T`.
pub fn forward(profile: Profile, shape: Shape, x: &[f32], w: &[f32], y: &mut [f32], onto: Onto) {
    let Shape { rows, inputs, outputs } = shape;
    let (x, w) = (Matrix::row_major(x, rows, inputs), Matrix::row_major(w, outputs, inputs));
    matmul(profile, x, w.transposed(), y, outputs, onto);
}

/// `dx = dy w`.
pub fn backward_input(profile: Profile, shape: Shape, dy: &[f32], w: &[f32], dx: &mut [f32], onto: Onto) {
    let Shape { rows, inputs, outputs } = shape;
    let (dy, w) = (Matrix::row_major(dy, rows, outputs), Matrix::row_major(w, outputs, inputs));
    matmul(profile, dy, w, dx, inputs, onto);
}

/// `dw = dy^T x`.
pub fn backward_weight(profile: Profile, shape: Shape, dy: &[f32], x: &[f32], dw: &mut [f32], onto: Onto) {
    let Shape { rows, inputs, outputs } = shape;
    let (dy, x) = (Matrix::row_major(dy, rows, outputs), Matrix::row_major(x, rows, inputs));
    matmul(profile, dy.transposed(), x, dw, inputs, onto);
}

/// `y += bias` for every row.
pub fn add_bias(y: &mut [f32], bias: &[f32]) {
    for (i, y) in y.iter_mut().enumerate() {
        *y += bias[i % bias.len()];
    }
}

/// `dbias = ` the sum of the rows of `dy`.
pub fn backward_bias(dy: &[f32], dbias: &mut [f32], onto: Onto) {
    let width = dbias.len();
    for i in 0..width {
        dbias[i] = block_rule(onto.start(dbias[i]), dy.len() / width, |chain, t| chain + dy[t * width + i]);
    }
}
