//! Activations.

use super::fma;
use crate::activation::Activation;
use crate::math::sigmoid;

/// `y = activation(x)`.
pub fn forward(kind: Activation, x: &[f32], y: &mut [f32]) {
    for (x, y) in x.iter().zip(y) {
        let x = *x;
        *y = match kind {
            Activation::Relu if x < 0.0 => 0.0,
            Activation::Relu => x,
            Activation::Gelu => x * sigmoid(gelu_argument(x)),
            Activation::Silu => x * sigmoid(x),
        };
    }
}

/// Gradient of [`forward`]: `x` receives it, `dy` receives the output.
pub fn backward(kind: Activation, x: &mut [f32], dy: &mut [f32]) {
    let mut y = vec![0.0; x.len()];
    forward(kind, x, &mut y);
    for (x, dy) in x.iter_mut().zip(dy.iter()) {
        let at = *x;
        *x = match kind {
            Activation::Relu if at <= 0.0 => 0.0,
            Activation::Relu => *dy,
            Activation::Gelu => {
                let s = sigmoid(gelu_argument(at));
                dy * fma((1.0 - s) * fma(at * at, 3.0 * 0.071_354_82, 1.595_769_2), at * s, s)
            }
            Activation::Silu => {
                let s = sigmoid(at);
                dy * fma(1.0 - s, at * s, s)
            }
        };
    }
    dy.copy_from_slice(&y);
}

/// `2 sqrt(2/pi) (x + 0.044715 x^3)`.
fn gelu_argument(x: f32) -> f32 {
    x * fma(x * x, 0.071_354_82, 1.595_769_2)
}

/// SwiGLU.
pub fn swiglu_forward(gate_up: &[f32], hidden: usize, out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        let at = i / hidden * 2 * hidden + i % hidden;
        let (gate, up) = (gate_up[at], gate_up[at + hidden]);
        *out = gate * sigmoid(gate) * up;
    }
}

/// Gradient of [`swiglu_forward`]: `gate_up` receives it, `dout` receives the output.
pub fn swiglu_backward(gate_up: &mut [f32], hidden: usize, dout: &mut [f32]) {
    let mut out = vec![0.0; dout.len()];
    swiglu_forward(gate_up, hidden, &mut out);
    for (i, dout) in dout.iter().enumerate() {
        let at = i / hidden * 2 * hidden + i % hidden;
        let (gate, up) = (gate_up[at], gate_up[at + hidden]);
        let s = sigmoid(gate);
        gate_up[at] = dout * up * fma(1.0 - s, gate * s, s);
        gate_up[at + hidden] = dout * (gate * s);
    }
    dout.copy_from_slice(&out);
}
