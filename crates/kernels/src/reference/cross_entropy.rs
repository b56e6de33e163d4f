//! Cross-entropy.

use super::{greatest, lane_rule};
use crate::math::{exp, log};

/// Loss of every row.
pub fn losses(logits: &[f32], vocab: usize, targets: &[u32], losses: &mut [f32]) {
    losses_and_gradient(&mut logits.to_vec(), vocab, targets, 1.0, losses);
}

/// Loss of every row, and the gradient of `scale` times their sum in place.
pub fn losses_and_gradient(
    logits: &mut [f32],
    vocab: usize,
    targets: &[u32],
    scale: f32,
    losses: &mut [f32],
) {
    for (t, row) in logits.chunks_mut(vocab).enumerate() {
        let target = targets[t] as usize;
        let m = greatest(vocab, |j| row[j]);
        let e: Vec<f32> = row.iter().map(|z| exp(z - m)).collect();
        let total = lane_rule(vocab, |lane, j| lane + e[j]);
        losses[t] = log(total) + (m - row[target]);
        for j in 0..vocab {
            row[j] = e[j] * (scale / total);
        }
        row[target] -= scale;
    }
}
