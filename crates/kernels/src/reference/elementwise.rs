//! Sums and multiples of tensors.

use super::fma;

/// `x += y`.
pub fn add_assign(x: &mut [f32], y: &[f32]) {
    for i in 0..x.len() {
        x[i] += y[i];
    }
}

/// `out = x + y`.
pub fn add(x: &[f32], y: &[f32], out: &mut [f32]) {
    for i in 0..x.len() {
        out[i] = x[i] + y[i];
    }
}

/// `x += factor * y`.
pub fn add_scaled(x: &mut [f32], factor: f32, y: &[f32]) {
    for i in 0..x.len() {
        x[i] = fma(factor, y[i], x[i]);
    }
}

/// `x *= factor`.
pub fn scale(x: &mut [f32], factor: f32) {
    for x in x {
        *x *= factor;
    }
}

/// `x = exp((x - most) / temperature)`.
pub fn exp_below(x: &mut [f32], most: f32, temperature: f32) {
    for x in x {
        *x = crate::math::exp((*x - most) / temperature);
    }
}
