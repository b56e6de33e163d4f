//! Cross-entropy of next-token predictions, fused with its gradient.

use rayon::prelude::*;

use crate::math::{exp, log};
use crate::multiversion::multiversion;
use crate::parallel::rows_per_task;
use crate::reduce::{LANES, max, sum_by, tree};

/// Loss of every row of `logits` (rows x `vocab`) against its target, in nats.
///
/// # Panics
/// If a target is not below `vocab`.
pub fn losses(logits: &[f32], vocab: usize, targets: &[u32], losses: &mut [f32]) {
    check(logits, vocab, targets, losses);
    let task = rows_per_task(targets.len(), vocab);
    (logits.par_chunks(task * vocab), targets.par_chunks(task), losses.par_chunks_mut(task))
        .into_par_iter()
        .for_each(|(logits, targets, losses)| losses_task(logits, vocab, targets, losses));
}

/// [`losses`], and `logits` replaced by the gradient of `scale` times their sum.
///
/// # Panics
/// If a target is not below `vocab`.
pub fn losses_and_gradient(
    logits: &mut [f32],
    vocab: usize,
    targets: &[u32],
    scale: f32,
    losses: &mut [f32],
) {
    check(logits, vocab, targets, losses);
    let task = rows_per_task(targets.len(), vocab);
    (logits.par_chunks_mut(task * vocab), targets.par_chunks(task), losses.par_chunks_mut(task))
        .into_par_iter()
        .for_each(|(logits, targets, losses)| gradient_task(logits, vocab, targets, scale, losses));
}

fn check(logits: &[f32], vocab: usize, targets: &[u32], losses: &[f32]) {
    assert!(vocab > 0, "cross-entropy needs a vocabulary");
    assert_eq!(logits.len(), targets.len() * vocab, "one row of logits for every target");
    assert_eq!(losses.len(), targets.len(), "one loss for every target");
    for target in targets {
        assert!((*target as usize) < vocab, "target {target} is outside the vocabulary of {vocab}");
    }
}

/// Replaces every value by `exp(value - greatest)` and returns their sum.
#[inline(always)]
fn exponentiate(row: &mut [f32], greatest: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            chunk[i] = exp(chunk[i] - greatest);
            lanes[i] += chunk[i];
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *value = exp(*value - greatest);
        *lane += *value;
    }
    tree(lanes, |a, b| a + b)
}

multiversion! {
    fn losses_task(logits: &[f32], vocab: usize, targets: &[u32], losses: &mut [f32]) {
        for ((row, target), loss) in logits.chunks_exact(vocab).zip(targets).zip(losses) {
            let greatest = max(row);
            let total = sum_by(row, |lane, value| lane + exp(value - greatest));
            *loss = log(total) + (greatest - row[*target as usize]);
        }
    }

    fn gradient_task(logits: &mut [f32], vocab: usize, targets: &[u32], scale: f32, losses: &mut [f32]) {
        for ((row, target), loss) in logits.chunks_exact_mut(vocab).zip(targets).zip(losses) {
            let target = *target as usize;
            let greatest = max(row);
            let at_target = row[target];
            let total = exponentiate(row, greatest);
            *loss = log(total) + (greatest - at_target);
            let factor = scale / total;
            for value in &mut *row {
                *value *= factor;
            }
            row[target] -= scale;
        }
    }
}
