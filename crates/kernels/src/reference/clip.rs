//! The norm of a gradient.

use super::{fma, lane_rule};

/// Sum of squares: blocks of 16384 by the lane rule, block sums added in f64.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let mut total = 0.0;
    for block in x.chunks(16_384) {
        total += f64::from(lane_rule(block.len(), |lane, i| fma(block[i], block[i], lane)));
    }
    total
}

/// Whether no value is NaN or infinite.
pub fn all_finite(x: &[f32]) -> bool {
    x.iter().all(|x| x.is_finite())
}
