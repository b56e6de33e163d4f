//! Steps of the optimisers.

use super::clip::sum_of_squares;
use super::fma;
use super::matmul::{Matrix, matmul};
use crate::onto::Onto;
use crate::optimizer::{AdamW, Muon, Sgd};
use crate::profile::Profile;

/// `base^exponent` by binary exponentiation, lowest bit first.
fn power(base: f64, exponent: u64) -> f64 {
    let (mut result, mut square) = (1.0, base);
    for bit in 0..u64::BITS - exponent.leading_zeros() {
        if exponent >> bit & 1 == 1 {
            result *= square;
        }
        square *= square;
    }
    result
}

/// One step of AdamW.
#[expect(clippy::too_many_arguments, reason = "an operator's operands, each once")]
pub fn adamw(
    settings: &AdamW,
    step: u64,
    decay: bool,
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    gradient_scale: f32,
) {
    let AdamW { lr, beta1, beta2, eps, weight_decay } = *settings;
    let root_correction = (1.0 / (1.0 - power(beta2, step)).sqrt()) as f32;
    let step_size = (lr / (1.0 - power(beta1, step))) as f32;
    let keep = if decay { (1.0 - lr * weight_decay) as f32 } else { 1.0 };
    for i in 0..p.len() {
        let gradient = g[i] * gradient_scale;
        m[i] = fma(beta1 as f32, m[i], (1.0 - beta1) as f32 * gradient);
        v[i] = fma(beta2 as f32, v[i], (1.0 - beta2) as f32 * gradient * gradient);
        let root = fma(v[i].sqrt(), root_correction, eps as f32);
        p[i] = fma(-step_size, m[i] / root, p[i] * keep);
    }
}

/// One step of plain descent.
pub fn sgd(settings: &Sgd, decay: bool, p: &mut [f32], g: &[f32], gradient_scale: f32) {
    let keep = if decay { (1.0 - settings.lr * settings.weight_decay) as f32 } else { 1.0 };
    for i in 0..p.len() {
        p[i] = fma(-settings.lr as f32, g[i] * gradient_scale, p[i] * keep);
    }
}

/// One step of Muon.
pub fn muon(
    settings: &Muon,
    (rows, cols): (usize, usize),
    p: &mut [f32],
    g: &[f32],
    momentum: &mut [f32],
    gradient_scale: f32,
) {
    let beta = settings.momentum as f32;
    let mut update = vec![0.0; p.len()];
    for i in 0..p.len() {
        let gradient = g[i] * gradient_scale;
        momentum[i] = fma(beta, momentum[i], gradient);
        update[i] = if settings.nesterov { fma(beta, momentum[i], gradient) } else { momentum[i] };
    }
    let update = orthogonalise(rows, cols, update);
    let keep = (1.0 - settings.lr * settings.weight_decay) as f32;
    let step_size = (settings.lr * (0.2 * (rows.max(cols) as f64).sqrt())) as f32;
    for i in 0..p.len() {
        p[i] = fma(-step_size, update[i], p[i] * keep);
    }
}

/// Five Newton-Schulz steps.
fn orthogonalise(rows: usize, cols: usize, mut x: Vec<f32>) -> Vec<f32> {
    let inverse = (1.0 / (sum_of_squares(&x).sqrt() + 1e-7)) as f32;
    x.iter_mut().for_each(|x| *x *= inverse);
    let small = rows.min(cols);
    for _ in 0..5 {
        let view = Matrix::row_major(&x, rows, cols);
        let mut gram = vec![0.0; small * small];
        let (left, right) = if rows <= cols { (view, view.transposed()) } else { (view.transposed(), view) };
        matmul(Profile::F32Exact, left, right, &mut gram, small, Onto::Zero);
        let square = Matrix::row_major(&gram, small, small);
        let mut polynomial = vec![0.0; small * small];
        matmul(Profile::F32Exact, square, square, &mut polynomial, small, Onto::Zero);
        for i in 0..small * small {
            polynomial[i] = fma(-4.775, gram[i], 2.0315 * polynomial[i]);
        }
        let polynomial = Matrix::row_major(&polynomial, small, small);
        let mut next = vec![0.0; rows * cols];
        let (left, right) = if rows <= cols { (polynomial, view) } else { (view, polynomial) };
        matmul(Profile::F32Exact, left, right, &mut next, cols, Onto::Zero);
        for i in 0..rows * cols {
            next[i] = fma(3.4445, x[i], next[i]);
        }
        x = next;
    }
    x
}
