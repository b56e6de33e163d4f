//! Root mean square normalisation (Zhang and Sennrich, 2019).

use rayon::prelude::*;

use super::{TOKEN_BLOCK, add_blocks, shape};
use crate::math::rsqrt;
use crate::multiversion::multiversion;
use crate::onto::Onto;
use crate::parallel::rows_per_task;
use crate::reduce::{dot, sum_by3};

/// `y = x / rms(x) * gain` for every row; `rstd` receives 1 / rms.
pub fn rms_forward(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
    let (rows, width) = shape(rstd, gain, &[x, y]);
    let task = rows_per_task(rows, width);
    (x.par_chunks(task * width), y.par_chunks_mut(task * width), rstd.par_chunks_mut(task))
        .into_par_iter()
        .for_each(|(x, y, rstd)| forward_rows(x, gain, eps, y, rstd));
}

/// Gradient of [`rms_forward`]: `dx` with respect to its rows, `dgain` with
/// respect to the gain, summed over rows in blocks of 64.
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
    let (rows, width) = shape(rstd, gain, &[dy, x, dx]);
    assert_eq!(dgain.len(), width, "a gain's gradient has its width");
    let blocks = rows.div_ceil(TOKEN_BLOCK);
    let mut block_sums = vec![0f32; blocks * width];
    let chunk = TOKEN_BLOCK * width;
    (
        dy.par_chunks(chunk),
        x.par_chunks(chunk),
        rstd.par_chunks(TOKEN_BLOCK),
        dx.par_chunks_mut(chunk),
        block_sums.par_chunks_mut(width),
    )
        .into_par_iter()
        .with_min_len(rows_per_task(blocks, chunk))
        .for_each(|(dy, x, rstd, dx, dgain)| backward_block(dy, x, gain, rstd, dx, dx_onto, dgain));
    add_blocks(dgain, dgain_onto, &block_sums);
}

/// One row of [`rms_forward`]; returns 1 / rms.
#[inline(always)]
pub(crate) fn rms_row(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]) -> f32 {
    let width = gain.len();
    let (x, y) = (&x[..width], &mut y[..width]);
    let rstd = rsqrt(dot(x, x) / width as f32 + eps);
    for i in 0..width {
        y[i] = x[i] * rstd * gain[i];
    }
    rstd
}

/// The factor of `x` in one row's gradient: `sum(dy gain x) rstd^3 / width`.
#[inline(always)]
pub(crate) fn rms_projection(dy: &[f32], x: &[f32], gain: &[f32], rstd: f32) -> f32 {
    let s = sum_by3(dy, x, gain, |lane, dy, x, gain| (dy * gain).mul_add(x, lane));
    s * rstd * rstd * rstd / gain.len() as f32
}

/// One element of a row's gradient.
#[inline(always)]
pub(crate) fn rms_gradient(dy: f32, x: f32, gain: f32, rstd: f32, projection: f32) -> f32 {
    (-projection).mul_add(x, dy * gain * rstd)
}

multiversion! {
    fn forward_rows(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
        let width = gain.len();
        for ((x, y), rstd) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(rstd) {
            *rstd = rms_row(x, gain, eps, y);
        }
    }

    /// At most a block of rows; `dgain` is the block's own, zero at the start.
    fn backward_block(
        dy: &[f32], x: &[f32], gain: &[f32], rstd: &[f32], dx: &mut [f32], dx_onto: Onto, dgain: &mut [f32],
    ) {
        let width = gain.len();
        let dgain = &mut dgain[..width];
        let rows = dy.chunks_exact(width).zip(x.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for (((dy, x), dx), &rstd) in rows.zip(rstd) {
            let (dy, x, dx) = (&dy[..width], &x[..width], &mut dx[..width]);
            let projection = rms_projection(dy, x, gain, rstd);
            for i in 0..width {
                dx[i] = dx_onto.start(dx[i]) + rms_gradient(dy[i], x[i], gain[i], rstd, projection);
                dgain[i] = dy[i].mul_add(x[i] * rstd, dgain[i]);
            }
        }
    }
}
