//! From logits to a token.

use serde::{Deserialize, Serialize};
use zoo_kernels::{math, random};

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
        let mut candidates: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
        let likelier = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if self.temperature <= 0.0 {
            return candidates.into_iter().min_by(likelier).expect("a vocabulary has tokens").1;
        }
        candidates.sort_unstable_by(likelier);
        if self.top_k > 0 {
            candidates.truncate(self.top_k);
        }
        let most = candidates[0].0;
        for (weight, _) in &mut candidates {
            *weight = math::exp((*weight - most) / self.temperature);
        }
        let total: f64 = candidates.iter().map(|(weight, _)| f64::from(*weight)).sum();
        let kept = nucleus(&candidates, self.top_p * total);
        let kept_total: f64 = kept.iter().map(|(weight, _)| f64::from(*weight)).sum();
        let mut left = random::uniform(self.seed, STREAM, position) * kept_total;
        for &(weight, token) in kept {
            left -= f64::from(weight);
            if left < 0.0 {
                return token;
            }
        }
        kept[kept.len() - 1].1
    }
}

/// The shortest start of `candidates` whose weights reach `mass`, at least one.
fn nucleus(candidates: &[(f32, u32)], mass: f64) -> &[(f32, u32)] {
    let mut sum = 0.0;
    for (at, (weight, _)) in candidates.iter().enumerate() {
        sum += f64::from(*weight);
        if sum >= mass {
            return &candidates[..=at];
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

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
