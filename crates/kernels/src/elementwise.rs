//! Sums and multiples of whole tensors.

use rayon::prelude::*;

use crate::math;
use crate::multiversion::multiversion;
use crate::parallel::elements_per_task;

/// `x += y`.
pub fn add_assign(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "both tensors have one shape");
    let task = elements_per_task(x.len(), 16);
    (x.par_chunks_mut(task), y.par_chunks(task)).into_par_iter().for_each(|(x, y)| add_assign_task(x, y));
}

/// `out = x + y`.
pub fn add(x: &[f32], y: &[f32], out: &mut [f32]) {
    assert!(x.len() == y.len() && y.len() == out.len(), "all tensors have one shape");
    let task = elements_per_task(x.len(), 16);
    (x.par_chunks(task), y.par_chunks(task), out.par_chunks_mut(task))
        .into_par_iter()
        .for_each(|(x, y, out)| add_task(x, y, out));
}

/// `x += factor * y`, one fma per element.
pub fn add_scaled(x: &mut [f32], factor: f32, y: &[f32]) {
    assert_eq!(x.len(), y.len(), "both tensors have one shape");
    let task = elements_per_task(x.len(), 16);
    (x.par_chunks_mut(task), y.par_chunks(task))
        .into_par_iter()
        .for_each(|(x, y)| add_scaled_task(x, factor, y));
}

/// `x *= factor`.
pub fn scale(x: &mut [f32], factor: f32) {
    let task = elements_per_task(x.len(), 16);
    x.par_chunks_mut(task).for_each(|x| scale_task(x, factor));
}

/// `to = from`.
pub fn copy(from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "both tensors have one shape");
    let task = elements_per_task(from.len(), 16);
    (from.par_chunks(task), to.par_chunks_mut(task))
        .into_par_iter()
        .for_each(|(from, to)| to.copy_from_slice(from));
}

/// `x = exp((x - most) / temperature)`: the weights of a choice, of which the greatest is 1.
pub fn exp_below(x: &mut [f32], most: f32, temperature: f32) {
    exp_below_task(x, most, temperature);
}

multiversion! {
    fn exp_below_task(x: &mut [f32], most: f32, temperature: f32) {
        for x in x {
            *x = math::exp((*x - most) / temperature);
        }
    }
    pub(crate) fn add_assign_task(x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }
    fn add_task(x: &[f32], y: &[f32], out: &mut [f32]) {
        for ((x, y), out) in x.iter().zip(y).zip(out) {
            *out = x + y;
        }
    }
    fn add_scaled_task(x: &mut [f32], factor: f32, y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = factor.mul_add(*y, *x);
        }
    }
    fn scale_task(x: &mut [f32], factor: f32) {
        for x in x {
            *x *= factor;
        }
    }
}
