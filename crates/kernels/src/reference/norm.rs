//! Norms of rows.

use super::{block_rule, fma, lane_rule};
use crate::math::rsqrt;
use crate::onto::Onto;

/// RMS norm.
pub fn rms_forward(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
    let width = gain.len();
    for t in 0..rstd.len() {
        let x = &x[t * width..][..width];
        let squares = lane_rule(width, |lane, i| fma(x[i], x[i], lane));
        rstd[t] = rsqrt(squares / width as f32 + eps);
        for i in 0..width {
            y[t * width + i] = x[i] * rstd[t] * gain[i];
        }
    }
}

/// Gradient of RMS norm.
#[expect(clippy::too_many_arguments, reason = "an operator's operands, each once")]
pub fn rms_backward(
    dy: &[f32],
    x: &[f32],
    gain: &[f32],
    rstd: &[f32],
    dx: &mut [f32],
    dx_onto: Onto,
    dgain: &mut [f32],
    dgain_onto: Onto,
) {
    let (rows, width) = (rstd.len(), gain.len());
    for t in 0..rows {
        let (dy, x) = (&dy[t * width..][..width], &x[t * width..][..width]);
        let r = rstd[t];
        let s = lane_rule(width, |lane, i| fma(dy[i] * gain[i], x[i], lane));
        let projection = s * r * r * r / width as f32;
        for i in 0..width {
            let dx = &mut dx[t * width + i];
            *dx = dx_onto.start(*dx) + fma(-projection, x[i], dy[i] * gain[i] * r);
        }
    }
    for i in 0..width {
        let step = |chain, t: usize| fma(dy[t * width + i], x[t * width + i] * rstd[t], chain);
        dgain[i] = block_rule(dgain_onto.start(dgain[i]), rows, step);
    }
}

/// LayerNorm.
pub fn layer_forward(
    x: &[f32],
    gain: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    y: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let width = gain.len();
    for t in 0..rstd.len() {
        let x = &x[t * width..][..width];
        let m = lane_rule(width, |lane, i| lane + x[i]) / width as f32;
        let squares = lane_rule(width, |lane, i| fma(x[i] - m, x[i] - m, lane));
        let r = rsqrt(squares / width as f32 + eps);
        for i in 0..width {
            let normal = (x[i] - m) * r;
            y[t * width + i] = match bias {
                Some(bias) => fma(normal, gain[i], bias[i]),
                None => normal * gain[i],
            };
        }
        (mean[t], rstd[t]) = (m, r);
    }
}

/// Gradient of LayerNorm.
#[expect(clippy::too_many_arguments, reason = "an operator's operands, each once")]
pub fn layer_backward(
    dy: &[f32],
    x: &[f32],
    gain: &[f32],
    mean: &[f32],
    rstd: &[f32],
    dx: &mut [f32],
    dx_onto: Onto,
    dgain: &mut [f32],
    dbias: Option<&mut [f32]>,
    param_onto: Onto,
) {
    let (rows, width) = (rstd.len(), gain.len());
    let normal = |t: usize, i: usize| (x[t * width + i] - mean[t]) * rstd[t];
    for t in 0..rows {
        let dy = &dy[t * width..][..width];
        let a = lane_rule(width, |lane, i| lane + dy[i] * gain[i]) / width as f32;
        let b = lane_rule(width, |lane, i| fma(dy[i] * gain[i], normal(t, i), lane)) / width as f32;
        for i in 0..width {
            let dx = &mut dx[t * width + i];
            *dx = dx_onto.start(*dx) + fma(-b, normal(t, i), dy[i] * gain[i] - a) * rstd[t];
        }
    }
    for i in 0..width {
        let step = |chain, t: usize| fma(dy[t * width + i], normal(t, i), chain);
        dgain[i] = block_rule(param_onto.start(dgain[i]), rows, step);
    }
    if let Some(dbias) = dbias {
        for i in 0..width {
            dbias[i] = block_rule(param_onto.start(dbias[i]), rows, |chain, t| chain + dy[t * width + i]);
        }
    }
}
