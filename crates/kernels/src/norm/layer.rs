//! LayerNorm (Ba, Kiros and Hinton, 2016), with or without a bias.

use rayon::prelude::*;

use super::{TOKEN_BLOCK, add_blocks, shape};
use crate::math::rsqrt;
use crate::multiversion::multiversion;
use crate::onto::Onto;
use crate::parallel::rows_per_task;
use crate::reduce::{sum, sum_by, sum_by3};

/// `y = (x - mean(x)) / sqrt(var(x) + eps) * gain + bias` for every row; `mean`
/// and `rstd` (1 / the root) are kept for the gradient.
pub fn layer_forward(
    x: &[f32],
    gain: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    y: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let (rows, width) = shape(rstd, gain, &[x, y]);
    assert_eq!(mean.len(), rows, "one mean for every row");
    assert!(bias.is_none_or(|bias| bias.len() == width), "a bias has the width of its gain");
    let task = rows_per_task(rows, width);
    (
        x.par_chunks(task * width),
        y.par_chunks_mut(task * width),
        mean.par_chunks_mut(task),
        rstd.par_chunks_mut(task),
    )
        .into_par_iter()
        .for_each(|(x, y, mean, rstd)| forward_rows(x, gain, bias, eps, y, mean, rstd));
}

/// Gradient of [`layer_forward`]: `dx` with respect to its rows, `dgain` and
/// `dbias` summed over rows in blocks of 64.
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
    let (rows, width) = shape(rstd, gain, &[dy, x, dx]);
    assert_eq!(mean.len(), rows, "one mean for every row");
    assert_eq!(dgain.len(), width, "a gain's gradient has its width");
    let blocks = rows.div_ceil(TOKEN_BLOCK);
    let chunk = TOKEN_BLOCK * width;
    let mut gain_sums = vec![0f32; blocks * width];
    let mut bias_sums = vec![0f32; blocks * width];
    (
        dy.par_chunks(chunk),
        x.par_chunks(chunk),
        mean.par_chunks(TOKEN_BLOCK),
        rstd.par_chunks(TOKEN_BLOCK),
        dx.par_chunks_mut(chunk),
        gain_sums.par_chunks_mut(width),
        bias_sums.par_chunks_mut(width),
    )
        .into_par_iter()
        .with_min_len(rows_per_task(blocks, chunk))
        .for_each(|(dy, x, mean, rstd, dx, dgain, dbias)| {
            backward_block(dy, x, gain, mean, rstd, dx, dx_onto, dgain, dbias);
        });
    add_blocks(dgain, param_onto, &gain_sums);
    if let Some(dbias) = dbias {
        assert_eq!(dbias.len(), width, "a bias's gradient has its width");
        add_blocks(dbias, param_onto, &bias_sums);
    }
}

multiversion! {
    fn forward_rows(
        x: &[f32], gain: &[f32], bias: Option<&[f32]>, eps: f32, y: &mut [f32], mean: &mut [f32], rstd: &mut [f32],
    ) {
        let width = gain.len();
        let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
        for (((x, y), mean), rstd) in rows.zip(mean).zip(rstd) {
            let (x, y) = (&x[..width], &mut y[..width]);
            *mean = sum(x) / width as f32;
            let square = |lane: f32, x: f32| (x - *mean).mul_add(x - *mean, lane);
            *rstd = rsqrt(sum_by(x, square) / width as f32 + eps);
            let (mean, rstd) = (*mean, *rstd);
            match bias {
                Some(bias) => {
                    let bias = &bias[..width];
                    for i in 0..width {
                        y[i] = ((x[i] - mean) * rstd).mul_add(gain[i], bias[i]);
                    }
                }
                None => {
                    for i in 0..width {
                        y[i] = (x[i] - mean) * rstd * gain[i];
                    }
                }
            }
        }
    }

    /// At most a block of rows; `dgain` and `dbias` are the block's own, zero
    /// at the start.
    fn backward_block(
        dy: &[f32], x: &[f32], gain: &[f32], mean: &[f32], rstd: &[f32], dx: &mut [f32], dx_onto: Onto,
        dgain: &mut [f32], dbias: &mut [f32],
    ) {
        let width = gain.len();
        let (dgain, dbias) = (&mut dgain[..width], &mut dbias[..width]);
        let rows = dy.chunks_exact(width).zip(x.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for (((dy, x), dx), (&mean, &rstd)) in rows.zip(mean.iter().zip(rstd)) {
            let (dy, x, dx) = (&dy[..width], &x[..width], &mut dx[..width]);
            let a = sum_by3(dy, gain, gain, |lane, dy, gain, _| lane + dy * gain) / width as f32;
            let along = |lane: f32, dy: f32, x: f32, gain: f32| (dy * gain).mul_add((x - mean) * rstd, lane);
            let b = sum_by3(dy, x, gain, along) / width as f32;
            for i in 0..width {
                let normal = (x[i] - mean) * rstd;
                let gradient = (-b).mul_add(normal, dy[i] * gain[i] - a) * rstd;
                dx[i] = dx_onto.start(dx[i]) + gradient;
                dgain[i] = dy[i].mul_add(normal, dgain[i]);
                dbias[i] += dy[i];
            }
        }
    }
}
