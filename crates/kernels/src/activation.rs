//! Activations of the feed-forward block, with their gradients.

use rayon::prelude::*;

use crate::math::sigmoid;
use crate::multiversion::multiversion;
use crate::parallel::{elements_per_task, rows_per_task};

/// An activation of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// GELU in its tanh form (Hendrycks and Gimpel, 2016), written as
    /// `x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))`, which is the same function.
    Gelu,
    /// `x sigmoid(x)`, also called swish.
    Silu,
}

/// `2 sqrt(2/pi)`, and that times 0.044715.
const GELU_LINEAR: f32 = 1.595_769_2;
const GELU_CUBIC: f32 = 0.071_354_82;

/// `y = activation(x)`.
pub fn forward(kind: Activation, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "an activation keeps its shape");
    let task = elements_per_task(x.len(), 16);
    (x.par_chunks(task), y.par_chunks_mut(task)).into_par_iter().for_each(|(x, y)| match kind {
        Activation::Relu => relu_task(x, y),
        Activation::Gelu => gelu_task(x, y),
        Activation::Silu => silu_task(x, y),
    });
}

/// Gradient of [`forward`] at `x`: `gradient` holds the one with respect to `y`
/// Gradient of [`forward`]. Values and gradients trade places: `x` holds the input and receives the
/// gradient with respect to it; `dy` holds the gradient of the output and receives the output, which the
/// layer above needs next and which costs nothing more here.
pub fn backward(kind: Activation, x: &mut [f32], dy: &mut [f32]) {
    assert_eq!(x.len(), dy.len(), "an activation's input and output have one shape");
    let task = elements_per_task(x.len(), 16);
    (x.par_chunks_mut(task), dy.par_chunks_mut(task)).into_par_iter().for_each(|(x, dy)| match kind {
        Activation::Relu => relu_backward_task(x, dy),
        Activation::Gelu => gelu_backward_task(x, dy),
        Activation::Silu => silu_backward_task(x, dy),
    });
}

/// SwiGLU (Shazeer, 2020): `out = silu(gate) * up`, where each row of `gate_up`
/// is `hidden` values of gate, then `hidden` of up.
pub fn swiglu_forward(gate_up: &[f32], hidden: usize, out: &mut [f32]) {
    let rows = swiglu_rows(gate_up, hidden, out);
    let task = rows_per_task(rows, hidden);
    (gate_up.par_chunks(task * 2 * hidden), out.par_chunks_mut(task * hidden))
        .into_par_iter()
        .for_each(|(gate_up, out)| swiglu_task(gate_up, hidden, out));
}

/// Gradient of [`swiglu_forward`]. As in [`backward`], values and gradients trade places: `gate_up`
/// receives the gradient with respect to it, `dout` receives the output.
pub fn swiglu_backward(gate_up: &mut [f32], hidden: usize, dout: &mut [f32]) {
    let rows = swiglu_rows(gate_up, hidden, dout);
    let task = rows_per_task(rows, hidden);
    (gate_up.par_chunks_mut(task * 2 * hidden), dout.par_chunks_mut(task * hidden))
        .into_par_iter()
        .for_each(|(gate_up, dout)| swiglu_backward_task(gate_up, hidden, dout));
}

fn swiglu_rows(gate_up: &[f32], hidden: usize, out: &[f32]) -> usize {
    assert!(hidden > 0, "SwiGLU needs a width");
    assert_eq!(out.len() % hidden, 0, "SwiGLU's output has whole rows");
    assert_eq!(gate_up.len(), 2 * out.len(), "a row of SwiGLU's input is gate and up");
    out.len() / hidden
}

/// GELU's sigmoid, and the derivative of its argument.
#[inline(always)]
fn gelu_parts(x: f32) -> (f32, f32) {
    let square = x * x;
    let s = sigmoid(x * square.mul_add(GELU_CUBIC, GELU_LINEAR));
    (s, square.mul_add(3.0 * GELU_CUBIC, GELU_LINEAR))
}

/// Derivative of `x sigmoid(u)`, given s = sigmoid(u), u' and x s.
#[inline(always)]
fn gated_derivative(s: f32, slope: f32, value: f32) -> f32 {
    ((1.0 - s) * slope).mul_add(value, s)
}

multiversion! {
    fn relu_task(x: &[f32], y: &mut [f32]) {
        for (x, y) in x.iter().zip(y) {
            // Written so that NaN passes.
            *y = if *x < 0.0 { 0.0 } else { *x };
        }
    }
    fn relu_backward_task(x: &mut [f32], dy: &mut [f32]) {
        for (x, dy) in x.iter_mut().zip(dy) {
            let y = if *x < 0.0 { 0.0 } else { *x };
            *x = if *x <= 0.0 { 0.0 } else { *dy };
            *dy = y;
        }
    }
    fn gelu_task(x: &[f32], y: &mut [f32]) {
        for (x, y) in x.iter().zip(y) {
            *y = *x * gelu_parts(*x).0;
        }
    }
    fn gelu_backward_task(x: &mut [f32], dy: &mut [f32]) {
        for (x, dy) in x.iter_mut().zip(dy) {
            let (s, slope) = gelu_parts(*x);
            let y = *x * s;
            *x = *dy * gated_derivative(s, slope, y);
            *dy = y;
        }
    }
    fn silu_task(x: &[f32], y: &mut [f32]) {
        for (x, y) in x.iter().zip(y) {
            *y = *x * sigmoid(*x);
        }
    }
    fn silu_backward_task(x: &mut [f32], dy: &mut [f32]) {
        for (x, dy) in x.iter_mut().zip(dy) {
            let s = sigmoid(*x);
            let y = *x * s;
            *x = *dy * gated_derivative(s, 1.0, y);
            *dy = y;
        }
    }
    fn swiglu_task(gate_up: &[f32], hidden: usize, out: &mut [f32]) {
        for (gate_up, out) in gate_up.chunks_exact(2 * hidden).zip(out.chunks_exact_mut(hidden)) {
            let (gate, up) = gate_up.split_at(hidden);
            let up = &up[..hidden];
            for i in 0..hidden {
                out[i] = gate[i] * sigmoid(gate[i]) * up[i];
            }
        }
    }
    fn swiglu_backward_task(gate_up: &mut [f32], hidden: usize, dout: &mut [f32]) {
        for (gate_up, dout) in gate_up.chunks_exact_mut(2 * hidden).zip(dout.chunks_exact_mut(hidden)) {
            let (gate, up) = gate_up.split_at_mut(hidden);
            let up = &mut up[..hidden];
            for i in 0..hidden {
                let s = sigmoid(gate[i]);
                let silu = gate[i] * s;
                let out = silu * up[i];
                gate[i] = dout[i] * up[i] * gated_derivative(s, 1.0, silu);
                up[i] = dout[i] * silu;
                dout[i] = out;
            }
        }
    }
}
