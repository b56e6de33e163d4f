//! Stochastic gradient descent.

use rayon::prelude::*;

use crate::multiversion::multiversion;
use crate::parallel::elements_per_task;

/// Plain descent (Robbins and Monro, 1951) with decoupled decay; it remembers nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the parameters, times the learning rate.
    pub weight_decay: f64,
}

impl Sgd {
    /// One step. `decay` says whether weight decay applies to this tensor. The gradient is multiplied by
    /// `gradient_scale` first, which is how clipping enters.
    pub fn step(&self, decay: bool, parameters: &mut [f32], gradients: &[f32], gradient_scale: f32) {
        assert_eq!(parameters.len(), gradients.len(), "both tensors have one shape");
        let keep = if decay { (1.0 - self.lr * self.weight_decay) as f32 } else { 1.0 };
        let step_size = self.lr as f32;
        let task = elements_per_task(parameters.len(), 16);
        (parameters.par_chunks_mut(task), gradients.par_chunks(task))
            .into_par_iter()
            .for_each(|(p, g)| update(step_size, keep, gradient_scale, p, g));
    }
}

multiversion! {
    fn update(step_size: f32, keep: f32, gradient_scale: f32, p: &mut [f32], g: &[f32]) {
        for (p, g) in p.iter_mut().zip(g) {
            *p = (-step_size).mul_add(g * gradient_scale, *p * keep);
        }
    }
}
