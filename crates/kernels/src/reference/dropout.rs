//! Dropout.

use crate::dropout::Dropout;
use crate::random::words;

/// Multiplies every element by 0 or by what keeps the mean.
pub fn apply(dropout: Dropout, x: &mut [f32], first: u64) {
    let (below, factor) = ((dropout.rate * 4_294_967_296.0) as u64, (1.0 / (1.0 - dropout.rate)) as f32);
    for i in 0..x.len() {
        let e = first + i as u64;
        let word = words(dropout.seed, dropout.stream, 16 * (e / 64) + e % 16)[(e % 64 / 16) as usize];
        x[i] *= if u64::from(word) < below { 0.0 } else { factor };
    }
}
