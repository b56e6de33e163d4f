//! `zoo simulate`: a whole network in virtual time, and everything that can go wrong in it.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use zoo_protocol::Topology;
use zoo_simulator::{CheckpointPlan, Faults, Options, Outcome, simulate};

use crate::live::format::{bytes, count, several};
use crate::live::print_line;
use crate::progress::Progress;

/// Largest file of faults, bytes.
const FAULTS_BYTES_MAX: u64 = 1 << 16;

/// Arguments of `zoo simulate`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  zoo simulate                                   20 nodes, every fault, seed 1\n  \
                        zoo simulate --nodes 50 --seeds 100            a hundred histories\n  \
                        zoo simulate --faults faults.json --seed 7     {\"partition_ms\": 5000, \"slowness\": 8}\n\n\
                        The orchestrator's state machine and the nodes' agents are the real ones; sockets, disks and clocks are\n\
                        simulated. One seed gives one history. The exit code is 0 only if no invariant was broken."
)]
pub struct Simulate {
    /// Nodes
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    nodes: u16,
    /// Rounds of the job
    #[arg(long, value_name = "R", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// How contributions come together: auto, all-gather, star or tree:N
    #[arg(long, value_name = "TOPOLOGY", default_value = "auto")]
    topology: Topology,
    /// Of 1,000 windows, so many are trained again by other nodes
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1000))]
    verified_in_1000: u32,
    /// The seed that decides everything
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Simulate so many seeds from --seed on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// What goes wrong: all, none, or a JSON file that names faults
    #[arg(long, value_name = "all|none|FILE", default_value = "all")]
    faults: String,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
}

impl Simulate {
    /// Runs the histories and tells of the first that broke an invariant.
    pub fn run(self) -> Result<()> {
        let faults = self.faults()?;
        let mut progress = Progress::start(if self.seeds == 1 { 0 } else { self.seeds }, self.json);
        let mut broken = None;
        let mut last = None;
        for seed in self.seed..self.seed.saturating_add(self.seeds) {
            progress.update(seed - self.seed, || format!("seed {seed}"));
            let options = Options {
                nodes: self.nodes.into(),
                rounds: self.rounds,
                topology: self.topology,
                checkpoints: CheckpointPlan::default(),
                verified_in_1000: self.verified_in_1000,
                seed,
                faults: faults.clone(),
                bug: None,
            };
            let started = Instant::now();
            let outcome = simulate(&options);
            let line = self.line(seed, &outcome, started.elapsed().as_secs_f64());
            if !outcome.violations.is_empty() && broken.is_none() {
                broken = Some((seed, outcome.violations.clone()));
            }
            if self.json {
                print_line(&line);
            }
            last = Some((seed, outcome));
        }
        drop(progress);
        if let Some((seed, violations)) = broken {
            bail!(
                "seed {seed} breaks an invariant: {}\nhint: zoo simulate --nodes {} --rounds {} --verified-in-1000 {} --seed {seed} --faults {} is the \
                 same history again",
                violations.join("; "),
                self.nodes,
                self.rounds,
                self.verified_in_1000,
                self.faults
            );
        }
        if let (false, Some((seed, outcome))) = (self.json, last) {
            self.tell(seed, &outcome);
        }
        Ok(())
    }

    fn faults(&self) -> Result<Faults> {
        let path = match self.faults.as_str() {
            "all" => return Ok(Faults::all()),
            "none" => return Ok(Faults::none()),
            path => PathBuf::from(path),
        };
        let shown = path.display();
        let size = std::fs::metadata(&path)
            .with_context(|| {
                format!("cannot read {shown}\nhint: write --faults all, none, or the path of a JSON file")
            })?
            .len();
        if size > FAULTS_BYTES_MAX {
            bail!("{shown}: {size} bytes are too much for a file of faults");
        }
        let text = std::fs::read(&path).with_context(|| format!("cannot read {shown}"))?;
        serde_json::from_slice(&text).with_context(|| {
            format!(
                "{shown}: not a file of faults\nhint: it is a JSON object such as {{\"partition_ms\": 5000}}"
            )
        })
    }

    fn line(&self, seed: u64, outcome: &Outcome, wall_seconds: f64) -> Value {
        let mut line = serde_json::to_value(outcome).expect("an outcome is plain data with text keys");
        let more =
            json!({ "seed": seed, "nodes": self.nodes, "rounds": self.rounds, "wall_seconds": wall_seconds });
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        line
    }

    fn tell(&self, seed: u64, outcome: &Outcome) {
        if self.seeds > 1 {
            println!("{}: no invariant was broken; the last:", several(self.seeds, "seed"));
        } else {
            println!("no invariant was broken");
        }
        println!(
            "seed {seed}: {} on {} in {:.1} s of virtual time",
            several(outcome.rounds_committed.into(), "round"),
            several(self.nodes.into(), "node"),
            outcome.virtual_seconds
        );
        println!(
            "{} of nodes, {} of the orchestrator; {} moved, {} in the journal",
            several(outcome.node_crashes, "crash").replace("crashs", "crashes"),
            several(outcome.orchestrator_crashes, "crash").replace("crashs", "crashes"),
            bytes(outcome.bytes_moved),
            count(outcome.journal_entries) + " entries"
        );
        println!("history {}", outcome.digest);
    }
}
