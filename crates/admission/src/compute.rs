//! Computing: matrix products, each of what came of the one before, then training steps of a small network.

use std::ops::ControlFlow;

use zoo_content::Digest;
use zoo_kernels::matmul::{View, ViewMut, matmul};
use zoo_kernels::{Onto, digest};
use zoo_model::{Profile, preset};
use zoo_protocol::{BENCHMARK_STEP_TOKENS, Effort};
use zoo_training::{Dataset, StepReport, TrainError, Trainer, TrainingSpec};

use crate::{BenchmarkError, checked};

/// The network that is trained.
pub const PRESET: &str = "qwen3-1m";
/// Rows and columns of the matrices that are multiplied.
const SIDE: usize = 512;

pub(crate) fn compute(
    profile: Profile,
    seed: &Digest,
    effort: &Effort,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Digest, BenchmarkError> {
    let start = multiply(profile, seed, effort.products, go_on)?;
    train(profile, &start, effort.steps, go_on)
}

/// So many products; the operands of each are drawn from the digest of the one before.
fn multiply(
    profile: Profile,
    seed: &Digest,
    products: u32,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Digest, BenchmarkError> {
    let mut so_far = Chain::from(seed);
    let mut product = vec![0.0; SIDE * SIDE];
    for _ in 0..products {
        checked(go_on)?;
        let operands = values(&so_far.0, 2 * SIDE * SIDE);
        let (a, b) = operands.split_at(SIDE * SIDE);
        let (a, b) = (View::row_major(a, SIDE, SIDE), View::row_major(b, SIDE, SIDE));
        matmul(profile, a, b, ViewMut::row_major(&mut product, SIDE, SIDE), Onto::Zero);
        so_far.add(&digest::tensor(&[SIDE, SIDE], &product));
    }
    Ok(so_far.0)
}

/// So many steps on made-up text from made-up parameters. Each starts from what the one before left, so the last needs all.
fn train(
    profile: Profile,
    seed: &Digest,
    steps: u32,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Digest, BenchmarkError> {
    let mut trainer = trainer(profile, seed, steps)?;
    let mut so_far = Chain::from(seed);
    for _ in 0..steps {
        checked(go_on)?;
        let StepReport { loss, gradient_norm, .. } = trainer.step()?;
        so_far.add(&loss.mean().to_bits().to_le_bytes());
        so_far.add(&gradient_norm.to_bits().to_le_bytes());
    }
    so_far.add(trainer.network().digest().as_bytes());
    Ok(so_far.0)
}

fn trainer(profile: Profile, seed: &Digest, steps: u32) -> Result<Trainer, TrainError> {
    let model = preset::by_name(PRESET).expect("it is in the table of presets");
    let batch_sequences = (BENCHMARK_STEP_TOKENS / model.context as u32).max(1);
    let vocab_size = model.vocab_size as u32;
    let (first_bytes, _) = seed.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
    let first = u64::from_le_bytes(*first_bytes);
    let length = steps as usize * BENCHMARK_STEP_TOKENS as usize + 1;
    let tokens: Vec<u32> = words(seed, length).map(|word| word % vocab_size).collect();
    let data = Dataset::encode(vocab_size, &tokens, tokens.len() as u64)?;
    Trainer::new(TrainingSpec { batch_sequences, profile, seed: first, ..TrainingSpec::new(model) }, &data)
}

/// A digest of everything so far.
struct Chain(Digest);

impl Chain {
    fn from(seed: &Digest) -> Self {
        Self(*seed)
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0 = Digest::of(&[&self.0.as_bytes()[..], bytes].concat());
    }
}

/// Numbers from [-1, 1), each one of 2^24: exact in both profiles' operands up to the rounding that is theirs.
fn values(seed: &Digest, count: usize) -> Vec<f32> {
    words(seed, count).map(|word| (word >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn words(seed: &Digest, count: usize) -> impl Iterator<Item = u32> {
    let mut bytes = vec![0; 4 * count];
    blake3::Hasher::new_keyed(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    let word = move |at: usize| {
        let (word, _) = bytes[4 * at..].split_first_chunk().expect("four bytes for each");
        u32::from_le_bytes(*word)
    };
    (0..count).map(word)
}
