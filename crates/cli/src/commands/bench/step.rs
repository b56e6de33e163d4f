//! `zoo bench step`: one training step on the shapes that PyTorch is measured on, or of a network of one's own.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use zoo_kernels::{isa, random};
use zoo_model::{
    AdamWSettings, Decay, Network, NetworkDefinition, NetworkOptions, Optimizer, Profile, preset,
};

use super::measure::{median, on_threads, peak_mib};
use crate::commands::profile_parser;

/// Arguments of `zoo bench step`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  zoo bench step --config M --threads 2\n  \
                        zoo bench step --config S --threads 1 --isa avx2 --micro-batch 4 --steps 10 --json\n  \
                        zoo bench step --network examples/networks/heads-27m.yaml --threads 2")]
pub struct Step {
    /// Shape: S (0.87M parameters), M (10.8M) or L (97.5M)
    #[arg(long, value_enum, required_unless_present = "network", conflicts_with = "network")]
    config: Option<Shape>,
    /// A network of your own, as YAML
    #[arg(long, value_name = "FILE")]
    network: Option<PathBuf>,
    /// Run every VNode by itself, also where several could be one operator: slower, the same digest
    #[arg(long)]
    no_fuse: bool,
    /// Threads to compute with
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Sequences in a micro-batch: changes memory and speed, never the digest. Default: the whole batch
    #[arg(long, value_name = "SEQUENCES")]
    micro_batch: Option<usize>,
    /// Steps in all. Default: as many as the PyTorch script runs
    #[arg(long)]
    steps: Option<usize>,
    /// Compute activations again in the backward pass: less memory, more time, the same digest
    #[arg(long)]
    recompute: bool,
    /// Numeric profile: the rule of the matrix products. Default: what the network's file says, or f32-exact
    #[arg(long, value_parser = profile_parser())]
    profile: Option<Profile>,
    /// Start from `init.bin` and `tokens.bin` in this folder, as PyTorch's script dumps them
    #[arg(long, value_name = "DIR", conflicts_with = "network")]
    from: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Shape {
    #[value(name = "S")]
    S,
    #[value(name = "M")]
    M,
    #[value(name = "L")]
    L,
}

/// What is measured.
struct Subject {
    name: String,
    definition: NetworkDefinition,
    profile: Profile,
    /// Sequences of a batch.
    batch: usize,
    /// Steps that are counted, after those that are not.
    counted: usize,
    warm_up: usize,
}

/// Tokens in a batch for a network of one's own, as far as whole sequences allow.
const NETWORK_BATCH_TOKENS: usize = 2048;

impl Shape {
    fn subject(self) -> Result<Subject> {
        let (name, preset_name, batch, counted, warm_up) = match self {
            Shape::S => ("S", "bench-s", 12, 30, 10),
            Shape::M => ("M", "bench-m", 8, 8, 2),
            Shape::L => ("L", "bench-l", 2, 4, 1),
        };
        let config = preset::by_name(preset_name).context("the benchmark preset is missing")?;
        let (name, definition) = (name.to_owned(), NetworkDefinition::decoder(&config)?);
        Ok(Subject { name, definition, profile: Profile::F32Exact, batch, counted, warm_up })
    }
}

impl Subject {
    fn of_file(path: &Path) -> Result<Self> {
        let file = crate::commands::definition::read(path)?;
        let batch = (NETWORK_BATCH_TOKENS / file.definition.context).max(1);
        let profile = file.profile.unwrap_or(Profile::F32Exact);
        Ok(Self { name: file.name, definition: file.definition, profile, batch, counted: 4, warm_up: 1 })
    }
}

/// Batches that exist; step i trains on batch i mod this.
const BATCHES: usize = 8;

#[derive(Serialize)]
struct StepReport {
    engine: &'static str,
    config: String,
    vnodes: usize,
    operators: usize,
    profile: &'static str,
    threads: usize,
    isa: String,
    micro_batch: usize,
    steps: usize,
    tokens_per_s: f64,
    step_ms: f64,
    peak_mib: f64,
    digest: String,
    loss_first: f64,
    loss_last: f64,
}

impl Step {
    /// Measures and prints.
    pub fn run(self) -> Result<()> {
        let report = on_threads(self.threads, || self.measure())??;
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            println!(
                "{} in {} on {} thread(s), {}:",
                report.config, report.profile, report.threads, report.isa
            );
            println!("  {} VNodes, run as {} operators", report.vnodes, report.operators);
            println!(
                "  {:.0} tokens/s, {:.2} ms a step, {:.0} MiB at most",
                report.tokens_per_s, report.step_ms, report.peak_mib
            );
            println!(
                "  loss {:.6} -> {:.6} over {} steps",
                report.loss_first, report.loss_last, report.steps
            );
            println!("  parameters {}", report.digest);
        }
        Ok(())
    }

    fn measure(&self) -> Result<StepReport> {
        let subject = match (&self.network, self.config) {
            (Some(path), _) => Subject::of_file(path)?,
            (None, Some(shape)) => shape.subject()?,
            (None, None) => bail!("nothing to measure\nhint: add --config M, or --network FILE"),
        };
        let Subject { batch, counted, warm_up, .. } = subject;
        let (context, profile) = (subject.definition.context, self.profile.unwrap_or(subject.profile));
        let micro_batch = self.micro_batch.unwrap_or(batch);
        ensure!(
            micro_batch > 0 && batch % micro_batch == 0,
            "--micro-batch {micro_batch} does not divide the batch of {batch} sequences\nhint: use a divisor of {batch}"
        );
        let options = NetworkOptions { recompute: self.recompute, separate: self.no_fuse };
        let mut network = Network::build(&subject.definition, profile, options)?;
        match &self.from {
            Some(folder) => network.load_flat(&floats(&folder.join("init.bin"))?)?,
            None => network.initialise(1),
        }
        let tokens = match &self.from {
            Some(folder) => token_file(&folder.join("tokens.bin"), context, batch)?,
            None => made_tokens(context, network.vocab_size(), batch),
        };
        let steps = self.steps.unwrap_or(counted + warm_up);
        ensure!(steps > 0, "--steps must be at least 1");
        let (mut times, mut losses) = (Vec::new(), Vec::new());
        for step in 0..steps {
            let sequences = &tokens[step % BATCHES * batch * (context + 1)..][..batch * (context + 1)];
            let (inputs, targets) = inputs_and_targets(sequences, context);
            let start = Instant::now();
            losses.push(train(&mut network, step as u64 + 1, &inputs, &targets, micro_batch * context)?);
            times.push(start.elapsed().as_secs_f64());
        }
        let step_seconds = median(times.split_off(warm_up.min(times.len() - 1)));
        Ok(StepReport {
            engine: "zoo",
            config: subject.name,
            vnodes: network.vnodes().len(),
            operators: network.operators(),
            profile: profile.name(),
            threads: self.threads,
            isa: isa::active().to_string(),
            micro_batch,
            steps,
            tokens_per_s: (batch * context) as f64 / step_seconds,
            step_ms: step_seconds * 1e3,
            peak_mib: peak_mib(),
            digest: network.digest().to_string(),
            loss_first: losses[0],
            loss_last: losses[losses.len() - 1],
        })
    }
}

/// Forward, backward and AdamW, as in the PyTorch script: weight decay on everything, no clipping.
fn train(
    network: &mut Network,
    step: u64,
    inputs: &[u32],
    targets: &[u32],
    micro_batch: usize,
) -> Result<f64> {
    let optimizer = Optimizer::AdamW(AdamWSettings {
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        decay: Decay::All,
    });
    let mut nats = 0.0;
    for (micro_inputs, micro_targets) in inputs.chunks(micro_batch).zip(targets.chunks(micro_batch)) {
        nats += network.forward_backward(micro_inputs, micro_targets, inputs.len())?.nats;
    }
    network.apply(&optimizer, step, 1e-3, None)?;
    Ok(nats / inputs.len() as f64)
}

/// Sequences of `context + 1` tokens: all but the last are inputs, all but the first are targets.
fn inputs_and_targets(sequences: &[u32], context: usize) -> (Vec<u32>, Vec<u32>) {
    let rows = sequences.chunks_exact(context + 1);
    (
        rows.clone().flat_map(|row| &row[..context]).copied().collect(),
        rows.flat_map(|row| &row[1..]).copied().collect(),
    )
}

/// Sequences that rise by 0, 7 or 14 at random: something to learn, as in the PyTorch script.
fn made_tokens(context: usize, vocab_size: usize, batch: usize) -> Vec<u32> {
    let mut tokens = Vec::new();
    for sequence in 0..BATCHES * batch {
        let mut sum = 0;
        for position in 0..=context {
            sum += random::bits(7, sequence as u64, position as u64) % 3;
            tokens.push((sum * 7 % vocab_size as u64) as u32);
        }
    }
    tokens
}

fn floats(path: &Path) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn token_file(path: &Path, context: usize, batch: usize) -> Result<Vec<u32>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let tokens: Vec<u32> =
        bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let expected = BATCHES * batch * (context + 1);
    ensure!(
        tokens.len() == expected,
        "{} holds {} tokens instead of {expected}",
        path.display(),
        tokens.len()
    );
    Ok(tokens)
}
