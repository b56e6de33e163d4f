//! A model that trains in milliseconds, and text for it.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::ops::ControlFlow;

use zoo_content::Digest;
use zoo_model::preset;
use zoo_training::{
    Checkpoint, Dataset, Evaluation, Part, Schedule, StepReport, Trainer, TrainingSpec, evaluate,
};

/// Sequences of 64 tokens; four of them are a chunk.
pub fn spec() -> TrainingSpec {
    TrainingSpec {
        seed: 11,
        batch_sequences: 8,
        schedule: Schedule::Constant { learning_rate: 3e-3, warmup_steps: 4 },
        ..TrainingSpec::new(preset::by_name("qwen3-tiny").unwrap())
    }
}

/// About 16 kB of text that repeats itself enough to be learnt.
pub fn text() -> Dataset {
    let verbs = ["trains", "checks", "pays", "governs", "serves"];
    let nouns = ["model", "network", "round", "window", "replica", "journal", "digest"];
    let mut text = String::new();
    for line in 0..400u64 {
        let pick = |list: &[&'static str], salt| {
            list[(zoo_kernels::random::bits(5, salt, line) % list.len() as u64) as usize]
        };
        text.push_str(&format!("the {} {} the {}.\n", pick(&nouns, 1), pick(&verbs, 2), pick(&nouns, 3)));
    }
    bytes_as_tokens(text.as_bytes())
}

pub fn bytes_as_tokens(text: &[u8]) -> Dataset {
    let tokens: Vec<u32> = text.iter().map(|&byte| u32::from(byte)).collect();
    Dataset::encode(256, &tokens, text.len() as u64).unwrap()
}

/// The name of a checkpoint: every bit of the state is in it.
pub fn name(checkpoint: &Checkpoint) -> Digest {
    Digest::of(&checkpoint.manifest().to_bytes())
}

pub fn whole(spec: &TrainingSpec, checkpoint: &Checkpoint, data: &Dataset) -> Evaluation {
    let network = checkpoint.network(spec).unwrap();
    evaluate(&network, data, Part { shard: 0, shards: 1, batch_windows: 8 }).unwrap()
}

pub fn go_on(_: &StepReport) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub fn with_threads<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

pub fn advance(trainer: &mut Trainer, steps: u64) {
    for _ in 0..steps {
        trainer.step().unwrap();
    }
}
