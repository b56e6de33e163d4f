//! What a node computes to show how fast it is.
//!
//! A [`Benchmark`] is work with one answer, the same on every machine. Its seed follows from a number that nobody could know before, from
//! the node that is measured, and from what came of the part before. So nothing of it can be done in advance, two nodes on one machine
//! have twice the work, and what another answered is no answer. Whoever is measured says a *pledge* of the answer, which tells nobody the
//! answer; whoever checks computes the answer and says that, and the two are compared by `==`.

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_kernels::Profile;

use crate::limits;
use crate::{Message, NodeId, Speeds, WireError, encode};

/// Tokens of a training step of a benchmark: whole chunks, enough for several threads.
pub const BENCHMARK_STEP_TOKENS: u32 = 1024;
/// Most training steps of a part, and most products of large matrices.
const STEPS_MAX: u64 = 1 << 16;
/// Largest area of a walk, MiB.
const AREA_MIB_MAX: u64 = 1 << 20;
/// Most passes over it.
const PASSES_MAX: u64 = 16;
/// Longest time for a part, ms.
const ANSWER_MS_MAX: u64 = 1 << 22;

/// A part of a benchmark. They come in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// Matrix products and training steps in `f32-exact`.
    F32Exact,
    /// The same in `bf16-exact`.
    Bf16Exact,
    /// A walk over memory.
    Memory,
}

impl Part {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::F32Exact, Self::Bf16Exact, Self::Memory];

    /// The numeric profile that it computes in, if it computes.
    pub fn profile(self) -> Option<Profile> {
        match self {
            Self::F32Exact => Some(Profile::F32Exact),
            Self::Bf16Exact => Some(Profile::Bf16Exact),
            Self::Memory => None,
        }
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::F32Exact => "f32-exact",
            Self::Bf16Exact => "bf16-exact",
            Self::Memory => "memory",
        }
    }
}

/// How much there is to do in a benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effort {
    /// Products of large matrices in each part that computes.
    pub products: u32,
    /// Training steps after them, of [`BENCHMARK_STEP_TOKENS`] tokens.
    pub steps: u32,
    /// Memory that the walk goes over, MiB.
    pub area_mib: u32,
    /// How often.
    pub passes: u32,
}

impl Default for Effort {
    /// About two seconds a profile on two cores, and half a second for the memory.
    fn default() -> Self {
        Self { products: 8, steps: 8, area_mib: 64, passes: 3 }
    }
}

/// One part of what a node is to compute, and all that its answer follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Benchmark {
    /// Who is measured.
    pub node: NodeId,
    /// Which part it is.
    pub part: Part,
    /// What everything in it is drawn from.
    pub seed: Digest,
    /// How much there is to do.
    pub effort: Effort,
}

impl Benchmark {
    /// The first part for a node, after a draw.
    pub fn first(draw: &Digest, node: NodeId, effort: Effort) -> Self {
        let part = Part::F32Exact;
        Self { node, part, seed: seed(&(draw, node, part)), effort }
    }

    /// The part that follows, which depends on what came of this one; none after the last.
    pub fn next(&self, pledge: &Digest) -> Option<Self> {
        let part = *Part::ALL.get(self.part as usize + 1)?;
        Some(Self { part, seed: seed(&(self.seed, pledge, part)), ..*self })
    }

    /// Says that the node has this answer, and not what it is.
    pub fn pledge(&self, answer: &Digest) -> Digest {
        Digest::of(&[&b"zoo/benchmark pledge\0"[..], &encode(&(self, answer))].concat())
    }

    /// Tokens that are trained on in it.
    pub fn tokens(&self) -> u64 {
        let steps = if self.part == Part::Memory { 0 } else { self.effort.steps };
        u64::from(steps) * u64::from(BENCHMARK_STEP_TOKENS)
    }
}

fn seed(of: &impl Serialize) -> Digest {
    Digest::of(&[&b"zoo/benchmark seed\0"[..], &encode(of)].concat())
}

/// What a node is taken for, by what was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Whatever there is.
    #[default]
    Community,
    /// The first threshold.
    Bronze,
    /// The second.
    Silver,
    /// The third.
    Gold,
}

impl Tier {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Community => "community",
            Self::Bronze => "bronze",
            Self::Silver => "silver",
            Self::Gold => "gold",
        }
    }
}

/// What it takes to be in a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// Tokens a second on the benchmark network, of half the tokens in each profile.
    pub tokens_per_second: u32,
    /// Of the walk, MiB a second.
    pub memory_mib_per_s: u32,
}

/// How a network measures those who join it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// How much they have to do.
    pub effort: Effort,
    /// A part that takes longer is late, ms.
    pub answer_ms: u64,
    /// What it takes to be bronze, silver and gold.
    pub thresholds: [Threshold; 3],
}

impl Default for Terms {
    fn default() -> Self {
        let threshold = |tokens_per_second| Threshold { tokens_per_second, memory_mib_per_s: 100 };
        Self {
            effort: Effort::default(),
            answer_ms: 20_000,
            thresholds: [100_000, 400_000, 1_600_000].map(threshold),
        }
    }
}

impl Terms {
    /// The tier of who was measured at this.
    pub fn tier(&self, speeds: Speeds, memory_mib_per_s: u32) -> Tier {
        // Who could show one profile only is not taken for who is as fast in both: two on one machine would share them out.
        let [one, other] = Profile::ALL.map(|profile| u64::from(speeds.of(profile)));
        let speed = 2 * one * other / (one + other).max(1);
        let meets = |threshold: &&Threshold| {
            speed >= threshold.tokens_per_second.into() && memory_mib_per_s >= threshold.memory_mib_per_s
        };
        match self.thresholds.iter().take_while(meets).count() {
            0 => Tier::Community,
            1 => Tier::Bronze,
            2 => Tier::Silver,
            _ => Tier::Gold,
        }
    }
}

impl Message for Effort {
    fn validate(&self) -> Result<(), WireError> {
        let Self { products, steps, area_mib, passes } = *self;
        limits::at_most("products of a benchmark", products.into(), STEPS_MAX)?;
        limits::positive("steps of a benchmark", steps.into())?;
        limits::at_most("steps of a benchmark", steps.into(), STEPS_MAX)?;
        limits::positive("MiB of a benchmark", area_mib.into())?;
        limits::at_most("MiB of a benchmark", area_mib.into(), AREA_MIB_MAX)?;
        limits::positive("passes of a benchmark", passes.into())?;
        limits::at_most("passes of a benchmark", passes.into(), PASSES_MAX)
    }
}

impl Message for Benchmark {
    fn validate(&self) -> Result<(), WireError> {
        self.effort.validate()
    }
}

impl Message for Terms {
    fn validate(&self) -> Result<(), WireError> {
        self.effort.validate()?;
        limits::positive("answer_ms of a benchmark", self.answer_ms)?;
        limits::at_most("answer_ms of a benchmark", self.answer_ms, ANSWER_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([7; 32]);

    #[test]
    fn every_node_draw_and_part_has_another_seed_and_the_next_part_waits_for_the_last_answer() {
        let (draw, effort) = (Digest::of(b"draw"), Effort::default());
        let first = Benchmark::first(&draw, NODE, effort);
        let answer = Digest::of(b"answer");
        let second = first.next(&first.pledge(&answer)).unwrap();
        let third = second.next(&second.pledge(&answer)).unwrap();
        assert_eq!([first, second, third].map(|benchmark| benchmark.part), Part::ALL);
        assert_eq!(third.next(&answer), None);
        let seeds = [
            first.seed,
            second.seed,
            third.seed,
            Benchmark::first(&Digest::of(b"another draw"), NODE, effort).seed,
            Benchmark::first(&draw, NodeId([8; 32]), effort).seed,
            first.next(&first.pledge(&Digest::of(b"another answer"))).unwrap().seed,
        ];
        assert!((1..seeds.len()).all(|at| !seeds[..at].contains(&seeds[at])), "{seeds:?}");
    }

    #[test]
    fn a_pledge_belongs_to_one_answer_of_one_node_to_one_benchmark() {
        let (draw, answer) = (Digest::of(b"draw"), Digest::of(b"answer"));
        let mine = Benchmark::first(&draw, NODE, Effort::default());
        let others = Benchmark::first(&draw, NodeId([8; 32]), Effort::default());
        assert_eq!(mine.pledge(&answer), mine.pledge(&answer));
        assert_ne!(mine.pledge(&answer), others.pledge(&answer));
        assert_ne!(mine.pledge(&answer), mine.pledge(&Digest::of(b"another")));
        assert_ne!(mine.pledge(&answer), answer);
    }

    #[test]
    fn a_tier_takes_speed_and_memory() {
        let terms = Terms::default();
        let tier = |f32_exact, bf16_exact, memory| terms.tier(Speeds { f32_exact, bf16_exact }, memory);
        assert_eq!(tier(99_999, 99_999, 1_000), Tier::Community);
        assert_eq!(tier(100_000, 100_000, 1_000), Tier::Bronze);
        assert_eq!(tier(50_000, u32::MAX, 1_000), Tier::Community, "both profiles count");
        assert_eq!(tier(300_000, 600_000, 1_000), Tier::Silver);
        assert_eq!(tier(0, 1_600_000, 1_000), Tier::Community);
        assert_eq!(tier(1_600_000, 1_600_000, 1_000), Tier::Gold);
        assert_eq!(tier(1_600_000, 1_600_000, 99), Tier::Community, "that cannot hold what it is given");
    }

    #[test]
    fn absurd_efforts_are_refused() {
        let good = Effort::default();
        good.validate().unwrap();
        for absurd in [
            Effort { steps: 0, ..good },
            Effort { steps: 1 << 17, ..good },
            Effort { products: u32::MAX, ..good },
            Effort { area_mib: 0, ..good },
            Effort { area_mib: u32::MAX, ..good },
            Effort { passes: 0, ..good },
            Effort { passes: 17, ..good },
        ] {
            assert!(absurd.validate().is_err(), "{absurd:?}");
            assert!(Terms { effort: absurd, ..Terms::default() }.validate().is_err());
        }
        assert!(Terms { answer_ms: 0, ..Terms::default() }.validate().is_err());
    }
}
