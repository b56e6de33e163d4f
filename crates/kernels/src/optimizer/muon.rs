//! Muon.

use rayon::prelude::*;

use crate::clip::sum_of_squares;
use crate::elementwise::scale;
use crate::matmul::{View, ViewMut, matmul};
use crate::multiversion::multiversion;
use crate::onto::Onto;
use crate::parallel::elements_per_task;
use crate::profile::Profile;

/// Muon (Jordan et al., 2024): momentum, then the update replaced by a nearly
/// orthogonal matrix through five Newton-Schulz steps.
///
/// The orthogonal update is scaled by `0.2 sqrt(max(rows, cols))` (Liu et al.,
/// "Muon is scalable for LLM training", 2025), which gives its elements the
/// root mean square of an AdamW update, so both optimisers share a learning
/// rate and a weight decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the momentum.
    pub momentum: f64,
    /// Whether the update looks one momentum step ahead.
    pub nesterov: bool,
    /// Decay of the parameters, times the learning rate.
    pub weight_decay: f64,
}

/// Newton-Schulz steps per update.
pub const STEPS: usize = 5;

/// The quintic `a X + b (X X^T) X + c (X X^T)^2 X`, with the coefficients
/// published with Muon: steep at zero, loose around one.
pub const QUINTIC: [f32; 3] = [3.4445, -4.775, 2.0315];

/// Added to the norm the update is divided by.
pub const NORM_EPS: f64 = 1e-7;

impl Muon {
    /// One step for a matrix of `shape` (rows, cols). The gradient is
    /// multiplied by `gradient_scale` first, which is how clipping enters.
    pub fn step(
        &self,
        shape: (usize, usize),
        parameters: &mut [f32],
        gradients: &[f32],
        momentum: &mut [f32],
        gradient_scale: f32,
    ) {
        let n = shape.0 * shape.1;
        assert!(
            parameters.len() == n && gradients.len() == n && momentum.len() == n,
            "all matrices have the shape given"
        );
        let task = elements_per_task(n, 16);
        let beta = self.momentum as f32;
        let mut update = vec![0f32; n];
        (gradients.par_chunks(task), momentum.par_chunks_mut(task), update.par_chunks_mut(task))
            .into_par_iter()
            .for_each(|(g, m, u)| average(g, gradient_scale, beta, self.nesterov, m, u));
        let update = orthogonalise(shape, update);
        let (keep, step_size) = self.factors(shape);
        (parameters.par_chunks_mut(task), update.par_chunks(task))
            .into_par_iter()
            .for_each(|(p, u)| move_along(keep, step_size, p, u));
    }

    /// The factor of the parameters and that of the orthogonal update.
    pub fn factors(&self, (rows, cols): (usize, usize)) -> (f32, f32) {
        let scale = 0.2 * (rows.max(cols) as f64).sqrt();
        ((1.0 - self.lr * self.weight_decay) as f32, (self.lr * scale) as f32)
    }
}

/// Five Newton-Schulz steps, always with the smaller Gram matrix: `X X^T` of a
/// wide X, `X^T X` of a tall one.
fn orthogonalise((rows, cols): (usize, usize), mut x: Vec<f32>) -> Vec<f32> {
    let norm = sum_of_squares(&x).sqrt();
    scale(&mut x, (1.0 / (norm + NORM_EPS)) as f32);
    let small = rows.min(cols);
    let mut gram = vec![0f32; small * small];
    let mut polynomial = vec![0f32; small * small];
    let mut product = vec![0f32; rows * cols];
    let [a, b, c] = QUINTIC;
    for _ in 0..STEPS {
        let view = View::row_major(&x, rows, cols);
        let (left, right) = if rows <= cols { (view, view.transposed()) } else { (view.transposed(), view) };
        matmul(Profile::F32Exact, left, right, ViewMut::row_major(&mut gram, small, small), Onto::Zero);
        let square = View::row_major(&gram, small, small);
        matmul(
            Profile::F32Exact,
            square,
            square,
            ViewMut::row_major(&mut polynomial, small, small),
            Onto::Zero,
        );
        combine(c, &mut polynomial, b, &gram);
        let polynomial = View::row_major(&polynomial, small, small);
        let (left, right) = if rows <= cols { (polynomial, view) } else { (view, polynomial) };
        matmul(Profile::F32Exact, left, right, ViewMut::row_major(&mut product, rows, cols), Onto::Zero);
        combine(1.0, &mut product, a, &x);
        std::mem::swap(&mut x, &mut product);
    }
    x
}

/// `x = factor_x x + factor_y y`, the second product inside an fma.
fn combine(factor_x: f32, x: &mut [f32], factor_y: f32, y: &[f32]) {
    let task = elements_per_task(x.len(), 16);
    (x.par_chunks_mut(task), y.par_chunks(task))
        .into_par_iter()
        .for_each(|(x, y)| combine_task(factor_x, x, factor_y, y));
}

multiversion! {
    fn average(g: &[f32], gradient_scale: f32, beta: f32, nesterov: bool, momentum: &mut [f32], update: &mut [f32]) {
        for ((g, momentum), update) in g.iter().zip(momentum).zip(update) {
            let gradient = *g * gradient_scale;
            *momentum = beta.mul_add(*momentum, gradient);
            *update = if nesterov { beta.mul_add(*momentum, gradient) } else { *momentum };
        }
    }
    fn combine_task(factor_x: f32, x: &mut [f32], factor_y: f32, y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = factor_y.mul_add(*y, factor_x * *x);
        }
    }
    fn move_along(keep: f32, step_size: f32, p: &mut [f32], update: &[f32]) {
        for (p, update) in p.iter_mut().zip(update) {
            *p = (-step_size).mul_add(*update, *p * keep);
        }
    }
}
