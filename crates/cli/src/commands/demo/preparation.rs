//! From text to a job: corpus, vocabulary, specification, first checkpoint.

use std::thread::available_parallelism;

use anyhow::{Context, Result};
use zoo_data::{CargoSource, HeldOut, Options, Prepared, Source, TokenizerChoice};
use zoo_job::{Job, Terms};
use zoo_protocol::{CheckpointPlan, NodeId, Profile, RoundPlan, Topology};
use zoo_training::{Outer, Schedule, SparseSettings, TrainingSpec, UpdateFormat};

use super::Demo;

/// Text that is prepared: more than is trained on by default, so that no sequence comes twice.
const TEXT_BYTES_MAX: u64 = 6_000_000;
/// Text that the vocabulary is learned from.
const SAMPLE_BYTES_MAX: usize = 1_000_000;
/// Text that is measured with. More would be more exact, and takes time in every evaluation.
const HELD_OUT_BYTES_MAX: u64 = 96 << 10;
/// The learning rate ends at this part of its peak, so that the last rounds learn something as well.
const FINAL_LEARNING_RATE: f64 = 0.1;
/// Steps after a synchronisation in which the learning rate rises again.
const REWARM_STEPS: u32 = 3;
/// A node that is alive and slower than this is left behind.
const CONTRIBUTION_DEADLINE_MS: u64 = 120_000;

/// The job, and the text it is about.
pub struct PreparedJob {
    /// What is submitted.
    pub job: Job,
    /// The text.
    pub prepared: Prepared,
}

/// Reads the text and makes the job. Takes seconds, on all threads.
pub fn prepare(demo: &Demo, network: NodeId) -> Result<PreparedJob> {
    let prepared = zoo_data::prepare(&data_options(demo)?, &mut |_| {})?;
    let Prepared { tokenizer, training, held_out, .. } = &prepared;
    let spec = specification(demo, tokenizer.vocab_size());
    let job = Job::new(
        format!("demo {}", demo.preset),
        spec,
        tokenizer,
        training,
        held_out,
        None,
        Terms { network, plan: plan(demo), checkpoints: CheckpointPlan::default(), tokens_max: None },
    )?;
    Ok(PreparedJob { job, prepared })
}

fn data_options(demo: &Demo) -> Result<Options> {
    let source = match &demo.data {
        Some(path) => Source::Path(path.clone()),
        None => {
            let here = std::env::current_dir().context("cannot tell the current folder")?;
            Source::Cargo(CargoSource::from_environment(&here))
        }
    };
    let tokenizer = match demo.vocabulary {
        256 => TokenizerChoice::Bytes,
        size => TokenizerChoice::Train { vocab_size: size as usize, sample_bytes_max: SAMPLE_BYTES_MAX },
    };
    Ok(Options {
        source,
        bytes_max: TEXT_BYTES_MAX,
        held_out: HeldOut { bytes_max: HELD_OUT_BYTES_MAX, ..HeldOut::default() },
        tokenizer,
        seed: demo.seed,
        threads: available_parallelism().map_or(1, usize::from),
    })
}

/// Plain averaging as the outer step: with few short rounds it does better than momentum.
fn specification(demo: &Demo, vocab_size: usize) -> TrainingSpec {
    let mut model = zoo_model::preset::by_name(&demo.preset).expect("the argument is one of the presets");
    model.vocab_size = vocab_size;
    let steps = demo.steps();
    let warmup_steps = (steps / 16).max(1);
    TrainingSpec {
        seed: demo.seed,
        profile: demo.profile.unwrap_or_else(Profile::best_here),
        batch_sequences: demo.sequences,
        schedule: Schedule::Cosine {
            learning_rate: demo.learning_rate,
            minimum_learning_rate: demo.learning_rate * FINAL_LEARNING_RATE,
            warmup_steps,
            decay_steps: steps.max(warmup_steps + 1),
        },
        update: demo.sparse.map_or(UpdateFormat::Dense, |keep| {
            UpdateFormat::Sparse(SparseSettings { keep, ..SparseSettings::default() })
        }),
        rewarm_steps: REWARM_STEPS.min(demo.inner_steps / 4).into(),
        outer: Outer { learning_rate: 1.0, momentum: 0.0 },
        ..TrainingSpec::new(model)
    }
}

/// How the rounds of the job run.
pub fn plan(demo: &Demo) -> RoundPlan {
    RoundPlan {
        steps: demo.steps(),
        rhythm: RoundPlan::constant(demo.inner_steps),
        sequences_per_step: demo.sequences,
        evaluate_every: u64::from(demo.evaluate_every) * u64::from(demo.inner_steps),
        evaluation_shards: 2 * u32::from(demo.nodes),
        // One may be missing: the others go on.
        minimum_nodes: u32::from(demo.nodes).saturating_sub(1).max(1),
        contribution_deadline_ms: CONTRIBUTION_DEADLINE_MS,
        topology: Topology::Auto,
        overlap: true,
        verified_in_1000: demo.verified_in_1000,
        trust_discount: 4,
    }
}
