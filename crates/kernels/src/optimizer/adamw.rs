//! AdamW.

use rayon::prelude::*;

use super::power;
use crate::multiversion::multiversion;
use crate::parallel::elements_per_task;

/// AdamW (Loshchilov and Hutter, 2019) with decoupled decay, as PyTorch
/// computes it: `p = p (1 - lr decay) - lr m' / (sqrt(v') + eps)`, with `m'` and
/// `v'` the averages corrected for their start at zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the average of gradients.
    pub beta1: f64,
    /// Decay of the average of squared gradients.
    pub beta2: f64,
    /// Added to the root of the average of squared gradients.
    pub eps: f64,
    /// Decay of the parameters, times the learning rate.
    pub weight_decay: f64,
}

impl AdamW {
    /// One step. `step` counts from 1. `decay` says whether weight decay
    /// applies to this tensor. The gradient is multiplied by `gradient_scale`
    /// first, which is how clipping enters.
    #[expect(clippy::too_many_arguments, reason = "an operator's operands, each once")]
    pub fn step(
        &self,
        step: u64,
        decay: bool,
        parameters: &mut [f32],
        gradients: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        gradient_scale: f32,
    ) {
        assert!(step > 0, "steps count from 1");
        let n = parameters.len();
        assert!(gradients.len() == n && m.len() == n && v.len() == n, "all tensors have one shape");
        let factors = self.factors(step, decay, gradient_scale);
        let task = elements_per_task(n, 16);
        (
            parameters.par_chunks_mut(task),
            gradients.par_chunks(task),
            m.par_chunks_mut(task),
            v.par_chunks_mut(task),
        )
            .into_par_iter()
            .for_each(|(p, g, m, v)| update(factors, p, g, m, v));
    }

    /// What every element needs, computed in f64 and rounded once.
    pub(crate) fn factors(&self, step: u64, decay: bool, gradient_scale: f32) -> Factors {
        let decay = if decay { self.weight_decay } else { 0.0 };
        Factors {
            gradient_scale,
            beta1: self.beta1 as f32,
            one_minus_beta1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            root_correction: (1.0 / (1.0 - power(self.beta2, step)).sqrt()) as f32,
            eps: self.eps as f32,
            step_size: (self.lr / (1.0 - power(self.beta1, step))) as f32,
            keep: (1.0 - self.lr * decay) as f32,
        }
    }
}

/// The constants of one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    pub gradient_scale: f32,
    pub beta1: f32,
    pub one_minus_beta1: f32,
    pub beta2: f32,
    pub one_minus_beta2: f32,
    pub root_correction: f32,
    pub eps: f32,
    pub step_size: f32,
    pub keep: f32,
}

multiversion! {
    fn update(f: Factors, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let n = p.len();
        let (g, m, v) = (&g[..n], &mut m[..n], &mut v[..n]);
        for i in 0..n {
            let gradient = g[i] * f.gradient_scale;
            m[i] = f.beta1.mul_add(m[i], f.one_minus_beta1 * gradient);
            v[i] = f.beta2.mul_add(v[i], f.one_minus_beta2 * gradient * gradient);
            let root = v[i].sqrt().mul_add(f.root_correction, f.eps);
            p[i] = (-f.step_size).mul_add(m[i] / root, p[i] * f.keep);
        }
    }
}
