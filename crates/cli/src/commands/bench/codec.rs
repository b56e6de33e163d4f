//! `zoo bench codec`: what rounds cost in loss and what they put on the wire.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use zoo_content::VerifiedBlob;
use zoo_job::{Corpus, Layer, RunConfig, build};
use zoo_protocol::{OVERLAP_PARTS, Stretch};
use zoo_training::{
    LocalJob, Part, Progress, Share, TrainingSpec, UpdateFormat, WindowResult, equal_shares, evaluate, layout,
};
use zoo_update::{Header, dense, sparse};

use super::exchange::Exchange;
use crate::commands::train::layers;
use crate::progress::Progress as ProgressBar;
use crate::reading::watched;

/// Arguments of `zoo bench codec`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo bench codec --data input.txt --json
  zoo bench codec --preset bench-s --data input.txt --replicas 8 --steps 900 --set rounds.inner_steps=10
  zoo bench codec --set training.update.type=dense --steps 60

Trains replicas in this process, round by round, with real text and the codec's real bytes; every update is decoded and
encoded again, and travels between the replicas over QUIC on this machine. What is counted, per parameter and inner
step of one replica, is all that their sockets send for it to one other replica: updates, requests, acknowledgements,
headers and encryption of the transport; connections are made once, and are counted beside.")]
pub struct Codec {
    /// A YAML or TOML file that says what to train
    config: Option<PathBuf>,
    /// Start from this preset
    #[arg(long, value_name = "NAME", default_value = "bench-s")]
    preset: String,
    /// A file or folder of text. Default: the packages that cargo has here
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Start from this model: a run's folder, or that of a Hugging Face model
    #[arg(long, value_name = "MODEL")]
    from: Option<PathBuf>,
    /// Replicas that train side by side
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=16))]
    replicas: u16,
    /// Steps that every replica trains
    #[arg(long, default_value_t = 60)]
    steps: u64,
    /// Set any key; sparse updates and rounds of 30 steps unless it says otherwise
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Layer::parse_setting)]
    settings: Vec<(String, Value)>,
    /// Threads to compute with
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct CodecReport {
    preset: String,
    parameters: usize,
    replicas: u16,
    rhythm: Vec<Stretch>,
    steps: u64,
    rounds: u64,
    update: UpdateFormat,
    seed: u64,
    /// Tokens of all replicas.
    tokens: u64,
    /// Counted on the sockets, to one other replica.
    upload_bits_per_parameter_per_inner_step: f64,
    /// Counted on the sockets, where every replica fetches all others' updates.
    download_bits_per_parameter_per_inner_step: f64,
    /// The updates alone.
    update_bits_per_parameter_per_inner_step: f64,
    /// What a replica sent until its connections were up, bytes.
    connection_bytes: u64,
    /// Whether every update, decoded and encoded again, was the same bytes.
    exact: bool,
    /// Held-out loss after the last round, nats per token.
    val_loss: f64,
    bits_per_byte: f64,
    seconds: f64,
}

impl Codec {
    /// Trains, measures and prints.
    pub fn run(self) -> Result<()> {
        let config = build(None, &self.layers()?)?;
        let pool = super::measure::on_threads(self.threads, || self.measure(config))?;
        let report = pool?;
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
            return Ok(());
        }
        println!(
            "{}: {} replicas, {} steps in {} rounds, {} parameters",
            report.preset, report.replicas, report.steps, report.rounds, report.parameters
        );
        println!(
            "sent {:.5} bits per parameter and inner step, of which updates are {:.5}; fetched from all others {:.5}",
            report.upload_bits_per_parameter_per_inner_step,
            report.update_bits_per_parameter_per_inner_step,
            report.download_bits_per_parameter_per_inner_step
        );
        println!("every update has one encoding: {}", if report.exact { "yes" } else { "NO" });
        println!(
            "held-out loss {:.4} nats per token after {} tokens, {:.1} s",
            report.val_loss, report.tokens, report.seconds
        );
        Ok(())
    }

    fn layers(&self) -> Result<Vec<Layer>> {
        let set = |key: &str| self.settings.iter().any(|(path, _)| path.starts_with(key));
        let unless_set = |key: &str, value: Value| (!set(key)).then_some(value);
        let named = [
            ("preset", Some(self.preset.clone().into())),
            ("data", layers::path(self.data.as_deref())?),
            ("from", layers::path(self.from.as_deref())?),
            ("steps", Some(self.steps.into())),
            ("rounds.inner_steps", unless_set("rounds.inner_steps", 30.into())),
            ("rounds.overlap", unless_set("rounds.overlap", false.into())),
            ("training.update.type", unless_set("training.update.type", "sparse".into())),
        ];
        layers::of(self.config.as_deref(), &self.settings, named)
    }

    fn measure(&self, mut config: RunConfig) -> Result<CodecReport> {
        let corpus = watched(self.json, |reading| Corpus::prepare(&mut config, reading))?;
        let spec = corpus.spec(&config);
        let plan = config.round_plan();
        let first = corpus.trainer(spec.clone())?.checkpoint();
        let mut job = LocalJob::starting_at(&spec, &corpus.training, self.replicas.into(), first);
        let mut exchange = Exchange::new(self.replicas.into())?;
        let mut bar = ProgressBar::start(plan.steps, self.json);
        let started = Instant::now();
        let (mut bytes, mut tokens, mut exact) = (0, 0, true);
        let (mut next_sequence, mut lead_steps) = (0, 0);
        while job.checkpoint().progress.step < plan.steps {
            let Progress { round, step, .. } = job.checkpoint().progress;
            bar.update(step, || "steps".into());
            let steps = plan.inner_steps_at(step, 1);
            let left = plan.steps - step - u64::from(steps);
            let ahead_steps = if plan.overlap && left > 0 { steps / OVERLAP_PARTS } else { 0 };
            let (sequences, own_steps) = (plan.sequences_per_step, steps - lead_steps);
            let shares =
                equal_shares(self.replicas.into(), next_sequence, sequences, own_steps + ahead_steps);
            let own = |share| Some(Share { inner_steps: own_steps, ..share });
            let shares: Vec<_> = shares.into_iter().map(own).collect();
            let results = job.round(&shares, ahead_steps, &mut |_, _| ControlFlow::Continue(()))?;
            next_sequence +=
                u64::from(self.replicas) * u64::from(sequences) * u64::from(own_steps + ahead_steps);
            lead_steps = ahead_steps;
            exchange.round(results.iter().flatten().map(updates_of))?;
            for result in results.iter().flatten() {
                bytes += result.updates.iter().map(|update| update.blob.len() as u64).sum::<u64>();
                tokens += result.tokens();
                exact &= comes_back(&spec, round as u32, result)?;
            }
        }
        drop(bar);
        let seconds = started.elapsed().as_secs_f64();
        let network = job.checkpoint().network(&spec)?;
        let part = Part { shard: 0, shards: 1, batch_windows: spec.micro_batch(spec.batch_sequences) };
        let evaluation = evaluate(&network, &corpus.held_out, part)?;
        let parameters = network.parameter_count();
        let rounds = job.checkpoint().progress.round;
        let steps = f64::from(self.replicas) * plan.steps as f64;
        let bits = |bytes: u64| 8.0 * bytes as f64 / (parameters as f64 * steps);
        let others = f64::from(self.replicas - 1);
        Ok(CodecReport {
            preset: config.preset.clone(),
            parameters,
            replicas: self.replicas,
            rhythm: plan.rhythm,
            steps: plan.steps,
            rounds,
            update: spec.update,
            seed: spec.seed,
            tokens,
            upload_bits_per_parameter_per_inner_step: bits(exchange.traffic.sent_bytes) / others,
            download_bits_per_parameter_per_inner_step: bits(exchange.traffic.received_bytes),
            update_bits_per_parameter_per_inner_step: bits(bytes),
            connection_bytes: exchange.connection_bytes,
            exact,
            val_loss: evaluation.nats / evaluation.tokens as f64,
            bits_per_byte: evaluation.bits_per_byte(),
            seconds,
        })
    }
}

fn updates_of(result: &WindowResult) -> Vec<VerifiedBlob> {
    result.updates.iter().map(|update| update.blob.clone()).collect()
}

/// Whether every update of a window, decoded and encoded again, is the same bytes.
fn comes_back(spec: &TrainingSpec, round: u32, result: &WindowResult) -> Result<bool> {
    let (codec, tokens) = (spec.update.codec(), result.tokens());
    let network = zoo_training::network_of(spec)?;
    for (vnode, update) in network.vnodes().iter().zip(&result.updates) {
        let header = Header { round, vnode: vnode.id().to_owned(), tokens, layout: layout(vnode)? };
        let decoded = codec.decode(update.blob.bytes(), &header)?;
        let again = match spec.update {
            UpdateFormat::Dense => dense::encode(&header, &decoded.values()),
            UpdateFormat::Sparse(settings) => sparse::encode(&decoded, settings.keep),
        };
        if again != update.blob.bytes() {
            return Ok(false);
        }
    }
    Ok(true)
}
