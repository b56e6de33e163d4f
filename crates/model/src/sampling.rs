//! From logits to a token.

use serde::{Deserialize, Serialize};
use zoo_kernels::{elementwise, random};

use crate::likelihood::most_likely;

/// How to choose the next token. A choice depends on the logits, these settings and the position
/// alone: there is no generator state, so anyone can check any sampled token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampler {
    /// Divides the logits; 0 always takes the most likely token.
    pub temperature: f32,
    /// Only this many of the most likely tokens; 0: all.
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability; 1: all.
    pub top_p: f64,
    /// Seed of the choices.
    pub seed: u64,
}

/// Keeps these draws apart from every other use of a seed.
const STREAM: u64 = u64::from_le_bytes(*b"sampling");

impl Default for Sampler {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 0, top_p: 0.95, seed: 0 }
    }
}

impl Sampler {
    /// Always the most likely token; of equally likely ones the first.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 1, top_p: 1.0, seed: 0 }
    }

    /// The token at `position` of the sequence.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn sample(&self, logits: &[f32], position: u64) -> u32 {
        if self.temperature <= 0.0 {
            return most_likely(logits);
        }
        let mut candidates = by_likelihood(logits);
        if self.top_k > 0 {
            candidates.truncate(self.top_k);
        }
        let mut weights: Vec<f32> = candidates.iter().map(|token| logits[*token as usize]).collect();
        elementwise::exp_below(&mut weights, logits[candidates[0] as usize], self.temperature);
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        let kept = nucleus(&weights, self.top_p * total);
        let kept_total: f64 = kept.iter().copied().map(f64::from).sum();
        let mut left = random::uniform(self.seed, STREAM, position) * kept_total;
        for (weight, token) in kept.iter().zip(&candidates) {
            left -= f64::from(*weight);
            if left < 0.0 {
                return *token;
            }
        }
        candidates[kept.len() - 1]
    }
}

/// All tokens, the most likely first; of equally likely ones the smaller id. Integers of which the upper half grows
/// as the logit falls are sorted in a third of the time.
fn by_likelihood(logits: &[f32]) -> Vec<u32> {
    let key = |(logit, token): (&f32, u32)| {
        let bits = logit.to_bits();
        // The order of `total_cmp`, turned round.
        let falling = if bits >> 31 == 0 { !bits & 0x7fff_ffff } else { bits };
        u64::from(falling) << 32 | u64::from(token)
    };
    let mut keys: Vec<u64> = logits.iter().zip(0..).map(key).collect();
    keys.sort_unstable();
    keys.into_iter().map(|key| key as u32).collect()
}

/// The shortest start of `weights` that reaches `mass`, at least one.
fn nucleus(weights: &[f32], mass: f64) -> &[f32] {
    let mut sum = 0.0;
    for (at, weight) in weights.iter().enumerate() {
        sum += f64::from(*weight);
        if sum >= mass {
            return &weights[..=at];
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    use zoo_kernels::math;

    #[test]
    fn tokens_are_in_the_order_of_their_logits() {
        let logits = [0.0, -1.0, 2.5, -0.0, f32::MAX, 2.5, -3e-40, f32::MIN, 1e-40, 0.0];
        let mut expected: Vec<u32> = (0..logits.len() as u32).collect();
        expected.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        assert_eq!(by_likelihood(&logits), expected);
    }

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

    fn frequencies(sampler: Sampler) -> [usize; 5] {
        let mut counts = [0; 5];
        (0..10_000).for_each(|position| counts[sampler.sample(&LOGITS, position) as usize] += 1);
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_most_likely() {
        assert!((0..100).all(|position| Sampler::greedy().sample(&LOGITS, position) == 1));
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let all = Sampler { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 3 };
        let total: f64 = LOGITS.iter().map(|logit| f64::from(math::exp(*logit))).sum();
        for (count, logit) in frequencies(all).into_iter().zip(LOGITS) {
            let expected = f64::from(math::exp(logit)) / total;
            assert!((count as f64 / 10_000.0 - expected).abs() < 0.02, "{count} against {expected}");
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_unlikely() {
        let two = frequencies(Sampler { temperature: 1.0, top_k: 2, top_p: 1.0, seed: 1 });
        assert!(two[1] > 4500 && two[3] > 4500 && two[1] + two[3] == 10_000);
        let nucleus = frequencies(Sampler { temperature: 1.0, top_k: 0, top_p: 0.9, seed: 1 });
        assert!(nucleus[2] > 0 && nucleus[0] == 0 && nucleus[4] == 0, "{nucleus:?}");
    }

    #[test]
    fn a_choice_depends_on_seed_and_position_only() {
        let sampler = Sampler { temperature: 1.5, top_k: 0, top_p: 1.0, seed: 11 };
        let choices = |sampler: Sampler| (0..50).map(move |position| sampler.sample(&LOGITS, position));
        assert!(choices(sampler).eq(choices(sampler)));
        assert!(!choices(sampler).eq(choices(Sampler { seed: 12, ..sampler })));
    }
}
