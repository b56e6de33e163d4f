//! Sums of losses that do not depend on how they were grouped.

use serde::{Deserialize, Serialize};

/// The summed cross-entropy of a number of tokens.
///
/// Every token's loss is rounded to a multiple of 2^-24 nats (f32 losses from 0.5 up are such
/// multiples already), so f64 additions are exact up to 2^29 nats: any grouping into micro-batches,
/// shards or nodes gives the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossSum {
    /// Summed loss, nats.
    pub nats: f64,
    /// How many tokens were predicted.
    pub tokens: u64,
}

const GRAINS_PER_NAT: f64 = (1u64 << 24) as f64;

impl LossSum {
    /// The sum of these losses, nats.
    pub fn of(losses: &[f32]) -> Self {
        let grain = |loss: &f32| (f64::from(*loss) * GRAINS_PER_NAT).round_ties_even() / GRAINS_PER_NAT;
        Self { nats: losses.iter().map(grain).sum(), tokens: losses.len() as u64 }
    }

    /// Mean loss of a token, nats; NaN when there was none.
    pub fn mean(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    /// Mean loss of a token, bits.
    pub fn bits_per_token(&self) -> f64 {
        self.mean() / std::f64::consts::LN_2
    }
}

impl std::ops::AddAssign for LossSum {
    fn add_assign(&mut self, other: Self) {
        self.nats += other.nats;
        self.tokens += other.tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_grouping_gives_the_same_bits() {
        let losses: Vec<f32> = (0..999).map(|at| 0.001 + (at as f32 * 0.7).sin().abs() * 9.0).collect();
        let whole = LossSum::of(&losses);
        for size in [1, 2, 7, 256] {
            let mut sum = LossSum::default();
            losses.chunks(size).rev().for_each(|part| sum += LossSum::of(part));
            assert_eq!(sum, whole, "in parts of {size}");
        }
        let plain = losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
        assert!((whole.nats - plain).abs() < 1e-5);
    }
}
