//! Dropout (Srivastava et al., 2014): elements set to zero at random, by their place and not by a generator.

use rayon::prelude::*;

use crate::multiversion::multiversion;
use crate::parallel::elements_per_task;
use crate::random::philox_lanes;

/// Which elements go: a rate, and where the randomness comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Share of elements set to zero, at least 0 and below 1.
    pub rate: f64,
    /// The step's.
    pub seed: u64,
    /// The layer's.
    pub stream: u64,
}

/// Elements whose fate one call of sixteen Philox counters decides.
const GROUP: usize = 64;
const LANES: usize = GROUP / 4;

/// `x = x m`, where the factor `m` of element `first + i` is 0 or `1 / (1 - rate)`: forward for activations,
/// backward for gradients.
///
/// # Panics
/// If the rate is not at least 0 and below 1.
pub fn apply(dropout: Dropout, x: &mut [f32], first: u64) {
    let (below, factor) = dropout.constants();
    let task = elements_per_task(x.len(), GROUP);
    x.par_chunks_mut(task).enumerate().for_each(|(at, x)| {
        multiply(dropout.seed, dropout.stream, below, factor, x, first + (at * task) as u64);
    });
}

impl Dropout {
    /// The random words that set an element to zero are those below the first; the others multiply by the second.
    pub(crate) fn constants(self) -> (u64, f32) {
        assert!((0.0..1.0).contains(&self.rate), "a rate is at least 0 and below 1");
        ((self.rate * (1u64 << 32) as f64) as u64, (1.0 / (1.0 - self.rate)) as f32)
    }
}

multiversion! {
    fn multiply(seed: u64, stream: u64, below: u64, factor: f32, x: &mut [f32], first: u64) {
        let (mut rest, mut place) = (x, first);
        while !rest.is_empty() {
            let within = (place % GROUP as u64) as usize;
            let count = rest.len().min(GROUP - within);
            let words = philox_lanes::<LANES>(seed, stream, place / GROUP as u64 * LANES as u64);
            let mut factors = [0f32; GROUP];
            for (factors, words) in factors.as_chunks_mut::<LANES>().0.iter_mut().zip(&words) {
                for (m, word) in factors.iter_mut().zip(words) {
                    *m = if u64::from(*word) < below { 0.0 } else { factor };
                }
            }
            let (part, after) = rest.split_at_mut(count);
            for (x, m) in part.iter_mut().zip(&factors[within..]) {
                *x *= m;
            }
            (rest, place) = (after, place + count as u64);
        }
    }
}
