//! `zoo pipeline`: one replica of several machines, of which none needs the memory for all of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use zoo_content::{BlobStore, FileStore};
use zoo_home::Home;
use zoo_job::{Corpus, Layer, RunConfig, build};
use zoo_kernels::Profile;
use zoo_model::{Network, NetworkDefinition, hugging_face};
use zoo_network::{BindOptions, Endpoint, Ticket};
use zoo_pipeline::{Correction, Format, Order, Schedule};
use zoo_stages::{
    Event, JoinOptions, NodeEvent, Rules, RunOptions, StagesError, Summary, Tokens, coordinate, join,
    stage_bytes, states,
};
use zoo_training::{Sequences, network_of};

use super::bench::peak_mib;
use super::train::{files, layers};
use super::{definition, profile_parser};
use crate::foreground;
use crate::interrupt::INTERRUPTED;
use crate::live::format::bytes;
use crate::live::print_line;
use crate::progress::{Progress, count, speed};
use crate::reading::{available_threads, watched};

/// What can be done with a pipeline.
#[derive(clap::Subcommand)]
pub enum PipelineCommand {
    /// Cut a network into stages, place them on the nodes that join, and train it
    Run(Box<Run>),
    /// Host stages of a run
    Join(Join),
}

/// Arguments of `zoo pipeline run`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo pipeline run --preset qwen3-1m --set model.tied_embeddings=false --data text.txt --stages 3 --nodes 3 --steps 50
  zoo pipeline run --network examples/networks/mlp-tiny.yaml --data text.txt --stages 2 --nodes 2 --steps 20
  zoo pipeline join TICKET        on every machine that is to host a part

It prints the ticket, and begins when so many nodes have joined. The parameters that come out follow from network, text and schedule:
they are the same on one node and on many, also when some are killed on the way. Ctrl-C ends it.")]
pub struct Run {
    /// A YAML or TOML file that says what to train, as for zoo train
    config: Option<PathBuf>,
    /// Start from this preset (zoo presets lists them)
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// A network of your own, as YAML, in place of the preset's
    #[arg(long, value_name = "FILE")]
    network: Option<PathBuf>,
    /// A file or folder of text. Default: the sources and documentation of the packages that cargo has here
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Set any key, as in training.batch_sequences=8
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Layer::parse_setting)]
    settings: Vec<(String, Value)>,
    /// Steps to train
    #[arg(long)]
    steps: Option<u64>,
    /// Numeric profile: the rule of the matrix products [default: the one this machine is fastest in]
    #[arg(long, value_parser = profile_parser())]
    profile: Option<Profile>,
    /// Parts that the network is cut into
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    stages: u32,
    /// Nodes to wait for before the first step; at most as many as there are stages host one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    nodes: u32,
    /// Micro-batches of a step. Default: 8, or as many as divide its sequences
    #[arg(long, value_name = "N")]
    micro_batches: Option<u32>,
    /// stream: a step begins while the last one is on its way. flush: it waits for it
    #[arg(long, value_enum, default_value = "stream")]
    order: OrderName,
    /// How far forward passes may be ahead, micro-batches for every stage that follows
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    ahead: u32,
    /// What a stream does about gradients of older weights: passes with the weights that a stage will have when they are applied,
    /// a smaller learning rate at first, or nothing
    #[arg(long, value_enum, default_value = "look-ahead")]
    correction: CorrectionName,
    /// Steps over which --correction rate comes back to the whole learning rate. Default: half of them
    #[arg(long, value_name = "STEPS")]
    anneal: Option<u64>,
    /// How activations and their gradients travel: f32, bf16, or eight bits
    #[arg(long, value_enum, default_value = "f32")]
    format: FormatName,
    /// Steps between two checkpoints of a stage: a node that is lost costs its successor as many at most
    #[arg(long, value_name = "STEPS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    checkpoint_steps: u32,
    /// Write the model into this folder, as Hugging Face does. Not with --network
    #[arg(long, value_name = "DIR", conflicts_with = "network")]
    out: Option<PathBuf>,
    /// Where to listen; port 0 takes any free port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Seconds that a stage waits for a fresh node when its own is gone, before another takes it as well
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    patience: u64,
    /// Hold every message between stages for so long, ms: to measure what distance costs
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency: u64,
    /// Print what happens as JSON lines
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum OrderName {
    Stream,
    Flush,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum CorrectionName {
    LookAhead,
    Rate,
    None,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum FormatName {
    F32,
    Bf16,
    Eight,
}

/// Arguments of `zoo pipeline join`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  zoo pipeline join zoo1ab...\n  zoo pipeline join zoo1ab... --threads 1 --max-memory 500"
)]
pub struct Join {
    /// What zoo pipeline run, or zoo serve --network, printed
    ticket: Ticket,
    /// Threads to compute with: changes the speed, never the bits. Default: all cores
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Memory that this node may take, MiB: stages that need more are refused before they begin
    #[arg(long, value_name = "MIB")]
    max_memory: Option<u64>,
    /// Name, for people
    #[arg(long, default_value = "")]
    name: String,
    /// Where to listen for the nodes of other stages; port 0 takes any free port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Print what happens as JSON lines
    #[arg(long)]
    json: bool,
    /// Stop when stdin ends: whoever started this process is gone
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

impl PipelineCommand {
    /// Runs until the run is over.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Run(run) => run.run(),
            Self::Join(join) => join.run(),
        }
    }
}

/// What is trained, and what it is trained on.
struct Subject {
    config: RunConfig,
    corpus: Corpus,
    network: NetworkDefinition,
    rules: Rules,
    sequences: Sequences,
}

impl Run {
    fn run(self) -> Result<()> {
        let subject = self.subject()?;
        let stage_bytes = stage_bytes(&subject.network, &subject.rules)?;
        foreground::block_on(self.serve(&subject, &stage_bytes))
    }

    fn subject(&self) -> Result<Subject> {
        let named = [
            ("preset", self.preset.clone().map(Value::from)),
            ("data", layers::path(self.data.as_deref())?),
            ("steps", self.steps.map(Value::from)),
            ("training.profile", self.profile.map(|profile| profile.name().into())),
        ];
        let mut config = build(None, &layers::of(self.config.as_deref(), &self.settings, named)?)?;
        let own = self.network.as_deref().map(definition::read).transpose()?;
        let corpus = watched(self.json, |reading| Corpus::prepare(&mut config, reading))?;
        ensure!(
            corpus.start.is_none(),
            "a pipeline begins with parameters of its own\nhint: leave out `from`"
        );
        let profile = match &own {
            Some(own) if self.profile.is_none() => own.profile.unwrap_or(config.training.profile),
            _ => config.training.profile,
        };
        let network = match own {
            Some(own) => own.definition,
            None => NetworkDefinition::decoder(&config.training.model)?,
        };
        let rules = self.rules(&config, &network, profile)?;
        let sequences = Sequences::new(&corpus.training, config.training.seed, network.context)?;
        Ok(Subject { config, corpus, network, rules, sequences })
    }

    fn rules(&self, config: &RunConfig, network: &NetworkDefinition, profile: Profile) -> Result<Rules> {
        ensure!(
            self.anneal.is_none() || self.correction == CorrectionName::Rate,
            "--anneal is for --correction rate\nhint: say that too, or leave --anneal out"
        );
        let training = &config.training;
        let sequences = training.batch_sequences;
        let most = (1..=8).rev().find(|count| sequences.is_multiple_of(*count)).unwrap_or(1);
        let micro_batches = self.micro_batches.unwrap_or(most);
        ensure!(
            micro_batches > 0 && sequences.is_multiple_of(micro_batches),
            "--micro-batches {micro_batches}: a step has {sequences} sequences, which are not so many parts\n\
             hint: choose a divisor, or set training.batch_sequences"
        );
        let tokens = (sequences / micro_batches) as usize * network.context;
        let schedule = Schedule {
            stages: self.stages,
            micro_batches,
            micro_batch_tokens: u32::try_from(tokens).context("a micro-batch is too large")?,
            steps: config.steps,
            ahead_per_stage: self.ahead,
            order: match self.order {
                OrderName::Stream => Order::Stream,
                OrderName::Flush => Order::Flush,
            },
            correction: match self.correction {
                CorrectionName::LookAhead => Correction::LookAhead,
                CorrectionName::Rate => {
                    Correction::Rate { anneal_steps: self.anneal.unwrap_or(config.steps / 2) }
                }
                CorrectionName::None => Correction::None,
            },
            checkpoint_steps: self.checkpoint_steps,
        };
        schedule.check().map_err(|cause| anyhow!(cause))?;
        let format = match self.format {
            FormatName::F32 => Format::F32,
            FormatName::Bf16 => Format::Bf16,
            FormatName::Eight => Format::Eight,
        };
        Ok(Rules {
            epoch: 1,
            schedule,
            optimizer: training.optimizer,
            clip: training.clip,
            activations: format,
            gradients: format,
            rate: training.schedule,
            profile,
            seed: training.seed,
        })
    }

    async fn serve(&self, subject: &Subject, stage_bytes: &[u64]) -> Result<()> {
        let stop = foreground::told_to_stop(false)?;
        let folder = temporary_folder()?;
        let home = Home::open(folder.path())?;
        let store: Arc<dyn BlobStore> = Arc::new(FileStore::open(folder.path().join("blobs"))?);
        let key = home.key();
        let endpoint = Endpoint::bind(BindOptions { key, listen: self.listen, relay: None }).await?;
        self.announce(subject, &endpoint)?;
        let steps = subject.rules.schedule.steps;
        let mut progress = Progress::start(steps, self.json);
        let options = RunOptions {
            network: &subject.network,
            rules: &subject.rules,
            nodes: self.nodes.min(self.stages) as usize,
            stage_bytes,
            patience: Duration::from_secs(self.patience),
            latency_ms: self.latency,
            endpoint: endpoint.clone(),
            store: store.clone(),
        };
        let size = u64::from(subject.rules.schedule.micro_batch_tokens) / subject.network.context as u64;
        let batch = |at: u64| {
            let (mut inputs, mut targets) = (Vec::new(), Vec::new());
            subject.sequences.batch(at * size..(at + 1) * size, &mut inputs, &mut targets);
            Tokens { inputs, targets }
        };
        let watch = |event: Event| self.tell(&event, &mut progress);
        let outcome = tokio::select! {
            outcome = coordinate(&options, batch, watch) => Some(outcome),
            () = stop => None,
        };
        drop(progress);
        endpoint.close().await;
        match outcome {
            Some(summary) => self.finish(subject, &*store, &summary?),
            None => {
                if self.json {
                    print_line(&json!({ "event": "stopped" }));
                } else {
                    eprintln!("stopped: what was not written is lost");
                }
                drop((home, folder));
                std::process::exit(i32::from(INTERRUPTED));
            }
        }
    }

    fn announce(&self, subject: &Subject, endpoint: &Endpoint) -> Result<()> {
        let ticket = endpoint.ticket();
        let parameters = subject.network.parameter_count();
        if self.json {
            print_line(&json!({
                "event": "listening", "ticket": ticket.to_string(), "parameters": parameters,
                "stages": self.stages, "nodes": self.nodes,
            }));
            return Ok(());
        }
        println!(
            "{} parameters in {} stages, for {} nodes; on each of them run\n\n  zoo pipeline join {ticket}\n",
            count(parameters as f64),
            self.stages,
            self.nodes
        );
        Ok(())
    }

    fn tell(&self, event: &Event, progress: &mut Progress) {
        let line = match event {
            Event::Step { step, loss } => {
                progress.update(*step, || format!("loss {loss:.3}"));
                json!({ "event": "step", "step": step, "loss": loss })
            }
            Event::Joined { name, nodes, .. } => {
                progress.note(&format!("{name} joined: {nodes} of {}", self.nodes));
                json!({ "event": "joined", "name": name, "nodes": nodes })
            }
            Event::Placed { stage, name, resumes } => {
                let from = if *resumes { ", from its last checkpoint" } else { "" };
                progress.note(&format!("stage {} of {} is on {name}{from}", stage + 1, self.stages));
                json!({ "event": "placed", "stage": stage, "name": name, "resumes": resumes })
            }
            Event::Gone { name, stages } => {
                progress.note(&format!("{name} is gone, with {} stages", stages.len()));
                json!({ "event": "gone", "name": name, "stages": stages })
            }
        };
        if self.json {
            print_line(&line);
        }
    }

    fn finish(&self, subject: &Subject, store: &dyn BlobStore, summary: &Summary) -> Result<()> {
        let schedule = &subject.rules.schedule;
        let tokens = schedule.total() as f64 * f64::from(schedule.micro_batch_tokens);
        let (seconds, sent) = (summary.elapsed.as_secs_f64(), sent_bytes(summary));
        let busiest = summary.reports.iter().filter(|(_, report)| report.span_us > 0);
        let busiest = busiest.map(|(_, report)| report.busy_us as f64 / report.span_us as f64);
        let busiest = busiest.fold(0.0, f64::max);
        if let Some(out) = &self.out {
            self.export(subject, store, summary, out)?;
        }
        if self.json {
            let nodes: BTreeMap<&str, Value> = summary
                .reports
                .iter()
                .map(|(name, report)| {
                    let part = report.busy_us as f64 / report.span_us.max(1) as f64;
                    let value = json!({
                        "busy": part, "peak_mib": report.peak_kib / 1024, "sent_bytes": report.sent_bytes,
                    });
                    (name.as_str(), value)
                })
                .collect();
            print_line(&json!({
                "event": "finished", "digest": summary.digest, "loss": summary.loss, "seconds": seconds,
                "tokens_per_s": tokens / seconds, "bytes_per_token": sent as f64 / tokens, "busiest": busiest,
                "nodes": nodes,
            }));
            return Ok(());
        }
        println!(
            "{} steps in {seconds:.1} s: {}, loss {:.4}",
            schedule.steps,
            speed(tokens / seconds),
            summary.loss
        );
        println!(
            "{} between nodes, {:.0} bytes a token; the busiest node computed {:.0} % of the time",
            bytes(sent),
            sent as f64 / tokens,
            100.0 * busiest
        );
        println!("digest {}", summary.digest);
        Ok(())
    }

    fn export(
        &self,
        subject: &Subject,
        store: &dyn BlobStore,
        summary: &Summary,
        out: &std::path::Path,
    ) -> Result<()> {
        let spec = &subject.config.training;
        let mut network: Network = network_of(spec)?;
        let mut states: BTreeMap<String, Vec<u8>> =
            states(&subject.network, &subject.rules, store, summary)?.into_iter().collect();
        for vnode in network.vnodes_mut() {
            let state =
                states.remove(vnode.id()).with_context(|| format!("VNode {} is missing", vnode.id()))?;
            vnode.load_state(&state)?;
        }
        let files = hugging_face::export(&network, &spec.model, &subject.corpus.tokenizer)?;
        files::write_folder(out, &files)
    }
}

fn sent_bytes(summary: &Summary) -> u64 {
    summary.reports.iter().map(|(_, report)| report.sent_bytes).sum()
}

impl Join {
    fn run(self) -> Result<()> {
        foreground::block_on(self.serve())
    }

    async fn serve(self) -> Result<()> {
        let stop = foreground::told_to_stop(self.exit_with_stdin)?;
        let folder = temporary_folder()?;
        let home = Home::open(folder.path())?;
        let store: Arc<dyn BlobStore> = Arc::new(FileStore::open(folder.path().join("blobs"))?);
        let key = home.key();
        let endpoint = Endpoint::bind(BindOptions { key, listen: self.listen, relay: None }).await?;
        let mut progress = Progress::start(0, self.json);
        let options = JoinOptions {
            ticket: &self.ticket,
            endpoint: endpoint.clone(),
            store,
            name: self.name.clone(),
            threads: self.threads.map_or_else(available_threads, NonZeroUsize::get),
            memory_bytes: self.max_memory.map(|mib| mib << 20),
            peak_kib: || (1024.0 * peak_mib()) as u64,
        };
        let watch = |event: NodeEvent| self.tell(&event, &mut progress);
        let outcome = tokio::select! {
            outcome = join(options, watch) => outcome,
            () = stop => Ok(()),
        };
        drop(progress);
        endpoint.close().await;
        match outcome {
            Err(cause @ StagesError::Refused(_)) => Err(anyhow!("the run refused this node: {cause}")),
            other => Ok(other?),
        }
    }

    fn tell(&self, event: &NodeEvent, progress: &mut Progress) {
        let line = match event {
            NodeEvent::Joined => {
                progress.note("joined: waiting for the run to begin");
                json!({ "event": "joined" })
            }
            NodeEvent::Hosts { stage, stages, resumes } => {
                let from = if *resumes { ", from its last checkpoint" } else { "" };
                progress.note(&format!("hosting stage {} of {stages}{from}", stage + 1));
                json!({ "event": "hosts", "stage": stage, "stages": stages, "resumes": resumes })
            }
            NodeEvent::Report(report) => {
                let busy = 100.0 * report.busy_us as f64 / report.span_us.max(1) as f64;
                let done: u64 = report.positions.iter().map(|(_, at)| at.backwards).sum();
                let passes = match report.passes {
                    0 => format!("{done} backward passes"),
                    written => format!("{written} passes"),
                };
                progress.update(0, || format!("{passes}, computing {busy:.0} % of the time"));
                return;
            }
        };
        if self.json {
            print_line(&line);
        }
    }
}

/// A folder for as long as the process lives, under a name that nobody guesses: what outlives it is with others.
pub(super) fn temporary_folder() -> Result<TempDir> {
    tempfile::Builder::new().prefix("zoo-pipeline-").tempdir().context("cannot make a temporary folder")
}
