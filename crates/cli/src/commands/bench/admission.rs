//! `zoo bench admission`: what a network would measure of this machine.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use zoo_content::Digest;
use zoo_kernels::isa;
use zoo_protocol::{Benchmark, Effort, NodeId, Part, Speeds, Terms};

use super::measure::on_threads;
use crate::live::format::{count, several};

/// Arguments of `zoo bench admission`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  zoo bench admission               what a network would measure of this machine\n  \
                        zoo bench admission --nodes 2     and of each of two nodes that share it\n\n\
                        The answers depend on the seed alone: whoever asks for the same seed, on whatever machine, gets the same digests."
)]
pub struct Admission {
    /// Threads each node computes with [default: all there are]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<u16>>,
    /// Nodes that answer at the same moment on this machine
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=64))]
    nodes: u8,
    /// What everything is drawn from
    #[arg(long, value_name = "TEXT", default_value = "zoo")]
    seed: String,
    /// Training steps of each part that computes
    #[arg(long, value_name = "N", default_value_t = Effort::default().steps,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    steps: u32,
    /// Memory that the walk goes over, MiB
    #[arg(long, value_name = "MIB", default_value_t = Effort::default().area_mib,
          value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    memory: u32,
    /// Print one JSON line for each node
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct NodeReport {
    node: u8,
    tier: &'static str,
    isa: String,
    threads: usize,
    parts: Vec<PartReport>,
    f32_exact_tokens_per_s: u32,
    bf16_exact_tokens_per_s: u32,
    memory_touched_mib: u32,
    memory_mib_per_s: u32,
}

#[derive(Serialize)]
struct PartReport {
    part: &'static str,
    ms: u64,
    answer: Digest,
}

impl Admission {
    /// Measures and prints.
    pub fn run(self) -> Result<()> {
        let available = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = self.threads.map_or(available, |threads| threads.get().into());
        let effort = Effort { steps: self.steps, area_mib: self.memory, ..Effort::default() };
        let draw = Digest::of(self.seed.as_bytes());
        let start = Barrier::new(self.nodes.into());
        let reports = thread::scope(|scope| {
            let answer = |node: u8| on_threads(threads, || answer_all(node, &draw, effort, &start))?;
            let nodes: Vec<_> = (0..self.nodes).map(|node| scope.spawn(move || answer(node))).collect();
            let joined = nodes.into_iter().map(|node| node.join().map_err(|_| anyhow!("a node panicked"))?);
            joined.collect::<Result<Vec<_>>>()
        })?;
        for report in reports {
            if self.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                print(&report);
            }
        }
        Ok(())
    }
}

/// All parts for one node, each begun when all nodes have answered the one before, as in a network.
fn answer_all(node: u8, draw: &Digest, effort: Effort, start: &Barrier) -> Result<NodeReport> {
    let mut asked = Some(Benchmark::first(draw, NodeId([node; 32]), effort));
    let (mut parts, mut speeds, mut memory_mib_per_s) = (Vec::new(), Speeds::default(), 0);
    let mut failed = None;
    while let Some(benchmark) = asked {
        // Also after a failure: the others wait here.
        start.wait();
        let began = Instant::now();
        let answer = zoo_admission::answer(&benchmark, &mut || ControlFlow::Continue(()));
        let seconds = began.elapsed().as_secs_f64();
        let answer = answer.unwrap_or_else(|cause| {
            failed = Some(cause);
            Digest::of(b"")
        });
        match benchmark.part {
            Part::F32Exact => speeds.f32_exact = (benchmark.tokens() as f64 / seconds) as u32,
            Part::Bf16Exact => speeds.bf16_exact = (benchmark.tokens() as f64 / seconds) as u32,
            Part::Memory => {
                memory_mib_per_s = (f64::from(effort.area_mib) * f64::from(effort.passes) / seconds) as u32;
            }
        }
        parts.push(PartReport { part: benchmark.part.word(), ms: (seconds * 1000.0) as u64, answer });
        asked = benchmark.next(&benchmark.pledge(&answer));
    }
    if let Some(cause) = failed {
        return Err(cause).context("cannot compute the benchmark");
    }
    Ok(NodeReport {
        node,
        tier: Terms::default().tier(speeds, memory_mib_per_s).word(),
        isa: isa::active().to_string(),
        threads: rayon::current_num_threads(),
        parts,
        f32_exact_tokens_per_s: speeds.f32_exact,
        bf16_exact_tokens_per_s: speeds.bf16_exact,
        memory_touched_mib: effort.area_mib,
        memory_mib_per_s,
    })
}

fn print(report: &NodeReport) {
    let NodeReport { node, tier, isa, threads, parts, .. } = report;
    println!("node {node}: {tier}, on {} with {isa}", several(*threads as u64, "thread"));
    for PartReport { part, ms, answer } in parts {
        let speed = match *part {
            "f32-exact" => format!("{} tokens/s", count(report.f32_exact_tokens_per_s.into())),
            "bf16-exact" => format!("{} tokens/s", count(report.bf16_exact_tokens_per_s.into())),
            _ => format!("{} MiB touched, {} MiB/s", report.memory_touched_mib, report.memory_mib_per_s),
        };
        println!("  {part:<12} {ms:>7} ms   {speed:<32} answer {}", answer.short());
    }
}
