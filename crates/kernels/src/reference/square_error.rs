//! Mean squared error against one-hot targets.

use super::{fma, lane_rule};

/// Loss of every row.
pub fn losses(x: &[f32], width: usize, targets: &[u32], losses: &mut [f32]) {
    losses_and_gradient(&mut x.to_vec(), width, targets, 1.0, losses);
}

/// Loss of every row, and the gradient of `scale` times their sum in place.
pub fn losses_and_gradient(x: &mut [f32], width: usize, targets: &[u32], scale: f32, losses: &mut [f32]) {
    for (t, row) in x.chunks_mut(width).enumerate() {
        row[targets[t] as usize] -= 1.0;
        losses[t] = lane_rule(width, |lane, j| fma(row[j], row[j], lane)) / width as f32;
        for j in 0..width {
            row[j] *= 2.0 * scale / width as f32;
        }
    }
}
