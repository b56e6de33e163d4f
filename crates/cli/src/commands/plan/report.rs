//! A plan, for people and for programs.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};
use zoo_model::NetworkDefinition;
use zoo_placement::{Move, Plan, Problem, Replica, WhyIdle, bottleneck, explain, size};
use zoo_training::{SparseSettings, TrainingSpec, UpdateFormat};

use crate::live::format::{bytes, several};
use crate::progress::{count, speed};

/// Replicas and moves that people are shown; of more there is a line that says how many.
const LINES_MAX: usize = 40;

/// What is said of a plan.
pub struct Report<'a> {
    problem: Problem<'a>,
    spec: &'a TrainingSpec,
    plan: &'a Plan,
    network: &'a NetworkDefinition,
    change: Option<(&'a Plan, &'a [Move])>,
}

impl<'a> Report<'a> {
    /// A report of `plan`.
    pub fn new(
        problem: Problem<'a>,
        spec: &'a TrainingSpec,
        plan: &'a Plan,
        network: &'a NetworkDefinition,
    ) -> Self {
        Self { problem, spec, plan, network, change: None }
    }

    /// The same, where the plan follows `before` by these moves.
    pub fn after(self, before: &'a Plan, moves: &'a [Move]) -> Self {
        Self { change: Some((before, moves)), ..self }
    }

    /// Prints it on stdout.
    pub fn print(&self, json: bool, explained: bool) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            writeln!(out, "{}", self.value(explained))?;
            return Ok(());
        }
        self.print_network(&mut out)?;
        self.print_plan(&mut out)?;
        self.print_change(&mut out)?;
        if explained {
            writeln!(out, "why")?;
            for it in explain(&self.problem, self.plan) {
                writeln!(out, "  {}: {}", it.about, it.why)?;
            }
        }
        Ok(())
    }

    fn print_network(&self, out: &mut impl Write) -> Result<()> {
        let workload = self.problem.workload;
        writeln!(
            out,
            "network     {}, {} parameters; {} on one node; {:.3} GFLOP a token",
            several(self.network.nodes.len() as u64, "VNode"),
            count(self.spec.model.parameter_count() as f64),
            size(workload.alone_bytes()),
            workload.flops() / 1e9
        )?;
        let again = if self.spec.recompute { ", activations computed again" } else { "" };
        let micro_batch = self.spec.micro_batch(self.spec.batch_sequences);
        writeln!(out, "micro-batch {}{again}", several(micro_batch.into(), "sequence"))?;
        Ok(())
    }

    fn print_plan(&self, out: &mut impl Write) -> Result<()> {
        let plan = self.plan;
        writeln!(
            out,
            "plan        {} on {}: {}, at most {:.1} % short of the best",
            several(plan.replicas.len() as u64, "replica"),
            several((self.problem.cluster.nodes().len() - plan.idle.len()) as u64, "node"),
            speed(plan.speed),
            100.0 * plan.gap_max()
        )?;
        for replica in plan.replicas.iter().take(LINES_MAX) {
            writeln!(out, "  {}", self.line(replica))?;
        }
        if plan.replicas.len() > LINES_MAX {
            writeln!(out, "  and {} more (--json lists all)", plan.replicas.len() - LINES_MAX)?;
        }
        writeln!(out, "traffic     {} a second within replicas", bytes(plan.bytes_per_s() as u64))?;
        let (update, seconds) = self.round();
        writeln!(
            out,
            "round       an update of {} from every replica; the others' take {seconds:.1} s to fetch where that takes the longest",
            bytes(update as u64)
        )?;
        writeln!(out, "price       {:.2} an hour", plan.price())?;
        let kept = plan.keepers.iter().map(|keepers| keepers.lost).fold(0.0, f64::max);
        writeln!(
            out,
            "risk        {} are lost with nodes that leave within an hour; state is lost with a chance of {kept:.1e}",
            speed(plan.expected_loss())
        )?;
        if !plan.idle.is_empty() {
            writeln!(out, "idle        {} (--explain says why)", several(plan.idle.len() as u64, "node"))?;
        }
        Ok(())
    }

    /// Bytes of a replica's update, and how long it takes until everybody has those of the others, seconds.
    fn round(&self) -> (f64, f64) {
        let bits = update_bits(self.spec.update);
        let bytes = self.spec.model.parameter_count() as f64 * bits / 8.0;
        (bytes, self.plan.synchronise_s(&self.problem, bits))
    }

    fn line(&self, replica: &Replica) -> String {
        let nodes = self.problem.cluster.nodes();
        let memory = self.problem.memory(&replica.stages);
        let stages = replica.stages.iter().zip(memory).map(|(stage, bytes)| {
            let node = &nodes[stage.node];
            format!("{} ({} of {})", node.id, size(bytes), size(node.memory_bytes))
        });
        let held_back = bottleneck(&self.problem, replica);
        format!(
            "{}: {}, held back by {held_back}",
            stages.collect::<Vec<_>>().join(" > "),
            speed(replica.speed)
        )
    }

    fn print_change(&self, out: &mut impl Write) -> Result<()> {
        let Some((before, moves)) = self.change else { return Ok(()) };
        let moved = moves.iter().map(|it| it.bytes).sum();
        writeln!(out, "change      {} before; {} of state move", speed(before.speed), size(moved))?;
        for it in moves.iter().take(LINES_MAX) {
            let id = &self.problem.cluster.nodes()[it.node].id;
            writeln!(out, "  {id} fetches {}: {}", size(it.bytes), self.vnodes(&it.units))?;
        }
        Ok(())
    }

    /// The ids of these units' VNodes: the first and the last.
    fn vnodes(&self, units: &[usize]) -> String {
        let ids = |unit: usize| &self.problem.workload.units()[unit].vnodes;
        match units {
            [] => String::new(),
            [unit] => ids(*unit).join(" and "),
            [first, .., last] => {
                format!("{} to {}", ids(*first)[0], ids(*last).last().map_or("", String::as_str))
            }
        }
    }

    fn value(&self, explained: bool) -> Value {
        let (plan, nodes) = (self.plan, self.problem.cluster.nodes());
        let keepers = plan.keepers.iter().map(|keepers| {
            json!({
                "vnodes": self.all_vnodes(keepers.units.clone()),
                "nodes": keepers.nodes.iter().map(|&node| &nodes[node].id).collect::<Vec<_>>(),
                "regions": keepers.regions,
                "lost": keepers.lost,
            })
        });
        let idle = plan.idle.iter().map(|idle| json!({ "node": nodes[idle.node].id, "why": why(idle.why) }));
        let (update_bytes, synchronise_s) = self.round();
        let mut value = json!({
            "event": "plan",
            "parameters": self.spec.model.parameter_count(),
            "micro_batch_sequences": self.spec.micro_batch(self.spec.batch_sequences),
            "recompute": self.spec.recompute,
            "alone_mib": mib(self.problem.workload.alone_bytes()),
            "flops_per_token": self.problem.workload.flops(),
            "tokens_per_s": plan.speed,
            "value": plan.value,
            "value_max": plan.value_max,
            "bytes_per_s": plan.bytes_per_s(),
            "update_bytes": update_bytes,
            "synchronise_s": synchronise_s,
            "price": plan.price(),
            "expected_loss_tokens_per_s": plan.expected_loss(),
            "replicas": plan.replicas.iter().map(|replica| self.replica(replica)).collect::<Vec<_>>(),
            "idle": idle.collect::<Vec<_>>(),
            "keepers": keepers.collect::<Vec<_>>(),
        });
        let keys = value.as_object_mut().expect("written as an object above");
        if let Some((before, moves)) = self.change {
            let moves = moves.iter().map(|it| {
                let vnodes: Vec<&String> =
                    it.units.iter().flat_map(|&unit| self.all_vnodes(unit..unit + 1)).collect();
                json!({ "node": nodes[it.node].id, "vnodes": vnodes, "bytes": it.bytes })
            });
            keys.insert("moves".to_owned(), moves.collect::<Vec<_>>().into());
            keys.insert("tokens_per_s_before".to_owned(), before.speed.into());
        }
        if explained {
            let said = explain(&self.problem, plan);
            let said = said.into_iter().map(|it| json!({ "about": it.about, "why": it.why }));
            keys.insert("why".to_owned(), said.collect::<Vec<_>>().into());
        }
        value
    }

    fn replica(&self, replica: &Replica) -> Value {
        let nodes = self.problem.cluster.nodes();
        let stages = replica.stages.iter().zip(self.problem.memory(&replica.stages)).map(|(stage, bytes)| {
            let (compute_s, link_s) = self.problem.times(stage);
            json!({
                "node": nodes[stage.node].id,
                "vnodes": self.all_vnodes(stage.units.clone()),
                "memory_mib": mib(bytes),
                "computes": compute_s / replica.period_s,
                "sends": link_s / replica.period_s,
            })
        });
        json!({
            "tokens_per_s": replica.speed,
            "bottleneck": bottleneck(&self.problem, replica),
            "price": replica.price,
            "stays": replica.stays,
            "bytes_per_s": replica.bytes_per_s,
            "stages": stages.collect::<Vec<_>>(),
        })
    }

    fn all_vnodes(&self, units: std::ops::Range<usize>) -> Vec<&String> {
        self.problem.workload.units()[units].iter().flat_map(|unit| &unit.vnodes).collect()
    }
}

/// Bits of an update for each parameter, about. Of 4096 elements a sparse one says `keep`, in two bits of value each and as many of place as
/// Golomb's code takes for gaps of that length.
fn update_bits(update: UpdateFormat) -> f64 {
    match update {
        UpdateFormat::Dense => 32.0,
        UpdateFormat::Sparse(SparseSettings { keep, .. }) => {
            let place_bits = f64::from((4096 / u32::from(keep.max(1))).ilog2()) + 1.5;
            f64::from(keep) * (2.0 + place_bits) / 4096.0
        }
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn why(idle: WhyIdle) -> &'static str {
    match idle {
        WhyIdle::Tier => "tier",
        WhyIdle::Memory => "memory",
        WhyIdle::Price => "price",
        WhyIdle::Partners => "partners",
    }
}
