//! What a run would take.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use zoo_job::{Corpus, CorpusDigests, RunConfig};
use zoo_kernels::probe;
use zoo_training::{Estimate, TrainingSpec};

use crate::commands::presets::family_name;
use crate::progress::{count, duration, speed};
use crate::reading::watched;

/// Steps are measured for about so long, seconds.
const MEASURE_SECONDS: f64 = 2.0;
/// A step that would take longer is not tried, seconds.
const STEP_SECONDS_MAX: f64 = 20.0;
/// The share of the multiply-add peak that a step reaches, roughly, where it is not measured.
const PEAK_SHARE: f64 = 0.5;
/// An evaluated token costs so much of a trained one: only the forward pass.
const EVALUATION_COST: f64 = 1.0 / 3.0;

#[derive(Serialize)]
struct Plan<'a> {
    event: &'static str,
    config: serde_json::Value,
    family: &'static str,
    parameters: u64,
    memory_mib: f64,
    state_mib: f64,
    working_mib: f64,
    available_mib: Option<f64>,
    data: &'a CorpusDigests,
    training_tokens: u64,
    held_out_tokens: u64,
    steps: u64,
    tokens_per_step: u64,
    tokens: u64,
    epochs: f64,
    threads: usize,
    tokens_per_s: f64,
    /// Whether the speed is of real steps; otherwise it follows from the machine's peak.
    measured: bool,
    seconds: f64,
}

/// Prepares the data, tries a few steps, prints, and leaves nothing behind.
///
/// # Errors
/// Everything that would stop the run before its first step.
pub fn run(mut config: RunConfig, json: bool) -> Result<()> {
    let corpus = watched(json, |reading| Corpus::prepare(&mut config, reading))?;
    let config = &config;
    let spec = corpus.spec(config);
    let estimate = Estimate::of(&spec, config.steps, corpus.training.len());
    let available = zoo_job::available_bytes().map(|bytes| bytes as f64 / f64::from(1 << 20));
    let too_large = available.is_some_and(|available| estimate.memory_mib() > available);
    let (tokens_per_s, measured) = tokens_per_second(&spec, &corpus, &estimate, too_large)?;
    let evaluated = evaluated_tokens(config, corpus.held_out.len());
    let plan = Plan {
        event: "dry-run",
        config: config.to_value(),
        family: family_name(spec.model.family),
        parameters: estimate.parameters,
        memory_mib: estimate.memory_mib(),
        state_mib: estimate.state_bytes as f64 / f64::from(1 << 20),
        working_mib: estimate.working_bytes as f64 / f64::from(1 << 20),
        available_mib: available,
        data: &corpus.digests(),
        training_tokens: corpus.training.len(),
        held_out_tokens: corpus.held_out.len(),
        steps: config.steps,
        tokens_per_step: estimate.tokens_per_step,
        tokens: estimate.tokens,
        epochs: estimate.epochs,
        threads: rayon::current_num_threads(),
        tokens_per_s,
        measured,
        seconds: (estimate.tokens as f64 + evaluated * EVALUATION_COST) / tokens_per_s,
    };
    if json {
        println!("{}", serde_json::to_string(&plan)?);
    } else {
        print(&plan, &spec, too_large);
    }
    Ok(())
}

fn tokens_per_second(
    spec: &TrainingSpec,
    corpus: &Corpus,
    estimate: &Estimate,
    too_large: bool,
) -> Result<(f64, bool)> {
    let guess = PEAK_SHARE * peak_flops() / estimate.flops_per_token;
    if too_large || estimate.tokens_per_step as f64 / guess > STEP_SECONDS_MAX {
        return Ok((guess, false));
    }
    let mut trainer = corpus.trainer(spec.clone())?;
    trainer.step()?; // takes the memory that the others reuse
    let (start, mut steps) = (Instant::now(), 0);
    while steps == 0 || start.elapsed().as_secs_f64() < MEASURE_SECONDS {
        trainer.step()?;
        steps += 1;
    }
    Ok(((steps * estimate.tokens_per_step) as f64 / start.elapsed().as_secs_f64(), true))
}

/// Floating-point operations a second that all threads reach together where nothing touches memory.
fn peak_flops() -> f64 {
    let start = Instant::now();
    let done: u64 = rayon::broadcast(|_| probe::fused_multiply_adds(1 << 20)).into_iter().sum();
    2.0 * done as f64 / start.elapsed().as_secs_f64()
}

/// Held-out tokens that all evaluations of a run score together.
fn evaluated_tokens(config: &RunConfig, held_out: u64) -> f64 {
    let on_the_way = config.steps.checked_div(config.evaluate_every).unwrap_or(0);
    let part =
        if config.evaluate_tokens_max == 0 { held_out } else { held_out.min(config.evaluate_tokens_max) };
    on_the_way as f64 * part as f64 + held_out as f64
}

fn print(plan: &Plan, spec: &TrainingSpec, too_large: bool) {
    let model = &spec.model;
    println!(
        "model       {}: {} layers, width {}, {} heads of {} ({} for keys), MLP {}, context {}, vocabulary {}",
        plan.family,
        model.layers,
        model.width,
        model.heads,
        model.head_dim,
        model.kv_heads,
        model.hidden,
        model.context,
        count(model.vocab_size as f64)
    );
    println!("parameters  {}, products in {}", count(plan.parameters as f64), spec.profile);
    println!(
        "memory      {:.0} MiB: {:.0} for parameters and optimiser, about {:.0} for activations and gradients",
        plan.memory_mib, plan.state_mib, plan.working_mib
    );
    if too_large {
        println!(
            "            more than the {:.0} MiB that are free: lower training.micro_batch_sequences, set training.recompute=true, or make the model smaller",
            plan.available_mib.unwrap_or_default()
        );
    }
    println!(
        "data        {} tokens to train on, {} held out (digest {})",
        count(plan.training_tokens as f64),
        count(plan.held_out_tokens as f64),
        plan.data.held_out.short()
    );
    println!(
        "training    {} steps of {} tokens: {} tokens, {:.2} epochs",
        count(plan.steps as f64),
        count(plan.tokens_per_step as f64),
        count(plan.tokens as f64),
        plan.epochs
    );
    let source = if plan.measured { "measured" } else { "a guess from the machine's peak" };
    println!("speed       {} on {} threads, {source}", speed(plan.tokens_per_s), plan.threads);
    println!("time        {} with evaluations", duration(plan.seconds));
}
