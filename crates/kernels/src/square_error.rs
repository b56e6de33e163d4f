//! Mean squared error of predictions against one-hot targets (Brier, 1950), fused with its gradient.

use rayon::prelude::*;

use crate::multiversion::multiversion;
use crate::parallel::rows_per_task;
use crate::reduce::sum_by;

/// Loss of every row of `x` (rows x `width`): the mean of the squares of what it differs from the row that is 1
/// at its target and 0 elsewhere.
///
/// # Panics
/// If a target is not below `width`.
pub fn losses(x: &[f32], width: usize, targets: &[u32], losses: &mut [f32]) {
    check(x, width, targets, losses);
    let task = rows_per_task(targets.len(), width);
    (x.par_chunks(task * width), targets.par_chunks(task), losses.par_chunks_mut(task))
        .into_par_iter()
        .for_each(|(x, targets, losses)| losses_task(&mut x.to_vec(), width, targets, 0.0, losses));
}

/// [`losses`], and `x` replaced by the gradient of `scale` times their sum.
///
/// # Panics
/// If a target is not below `width`.
pub fn losses_and_gradient(x: &mut [f32], width: usize, targets: &[u32], scale: f32, losses: &mut [f32]) {
    check(x, width, targets, losses);
    let task = rows_per_task(targets.len(), width);
    (x.par_chunks_mut(task * width), targets.par_chunks(task), losses.par_chunks_mut(task))
        .into_par_iter()
        .for_each(|(x, targets, losses)| losses_task(x, width, targets, scale, losses));
}

fn check(x: &[f32], width: usize, targets: &[u32], losses: &[f32]) {
    assert!(width > 0, "a prediction has elements");
    assert_eq!(x.len(), targets.len() * width, "one row of predictions for every target");
    assert_eq!(losses.len(), targets.len(), "one loss for every target");
    for target in targets {
        assert!(
            (*target as usize) < width,
            "target {target} is outside the {width} elements of a prediction"
        );
    }
}

multiversion! {
    fn losses_task(x: &mut [f32], width: usize, targets: &[u32], scale: f32, losses: &mut [f32]) {
        let factor = (2.0 * scale) / width as f32;
        for ((row, target), loss) in x.chunks_exact_mut(width).zip(targets).zip(losses) {
            row[*target as usize] -= 1.0;
            *loss = sum_by(row, |lane, d| d.mul_add(d, lane)) / width as f32;
            for d in row {
                *d *= factor;
            }
        }
    }
}
