//! What gradient clipping and the watch for broken numbers need.

use rayon::prelude::*;

use crate::multiversion::multiversion;
use crate::parallel::rows_per_task;
use crate::reduce::dot;

/// A sum of squares is cut at multiples of this.
const BLOCK: usize = 16_384;

/// Sum of squares: f32 within blocks of 16384 (16 lanes, one fma an element),
/// block sums added in f64 in order. NaN or infinity in the tensor shows in the
/// result; so does a block whose sum of squares leaves the range of f32.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let blocks = x.len().div_ceil(BLOCK);
    let mut sums = vec![0f32; blocks];
    (x.par_chunks(BLOCK), &mut sums[..])
        .into_par_iter()
        .with_min_len(rows_per_task(blocks, BLOCK))
        .for_each(|(x, sum)| *sum = squares_task(x));
    sums.into_iter().fold(0.0, |total, sum| total + f64::from(sum))
}

/// Whether no value is NaN or infinite.
pub fn all_finite(x: &[f32]) -> bool {
    let blocks = x.len().div_ceil(BLOCK);
    x.par_chunks(BLOCK).with_min_len(rows_per_task(blocks, BLOCK)).all(finite_task)
}

multiversion! {
    fn squares_task(x: &[f32]) -> f32 {
        dot(x, x)
    }
    fn finite_task(x: &[f32]) -> bool {
        // Without the sign, the bits of infinity and NaN are above all others.
        let greatest = x.iter().fold(0, |greatest, x| greatest.max(x.to_bits() & 0x7fff_ffff));
        greatest < f32::INFINITY.to_bits()
    }
}
