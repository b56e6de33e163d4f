//! One replica: which machines host which units, and what comes of it.

use std::ops::Range;

use serde::Serialize;

use crate::cluster::Cluster;
use crate::objective::Objective;
use crate::workload::{StageMemory, Workload};

/// What a plan is made for.
#[derive(Clone, Copy)]
pub struct Problem<'a> {
    /// The machines.
    pub cluster: &'a Cluster,
    /// What the network asks of them.
    pub workload: &'a Workload,
    /// What counts.
    pub objective: &'a Objective,
}

/// A node's part of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The node, as a place in the cluster.
    pub node: usize,
    /// What it hosts.
    pub units: Range<usize>,
}

/// What bounds a replica's speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bottleneck {
    /// Arithmetic of this stage.
    Compute(usize),
    /// What this stage sends and receives.
    Link(usize),
    /// The way from this stage to the next.
    Latency(usize),
}

/// A set of nodes that together host every unit once.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// Its nodes, in the order in which activations pass them.
    pub stages: Vec<Stage>,
    /// A micro-batch leaves it every so many seconds.
    pub period_s: f64,
    /// Tokens a second.
    pub speed: f64,
    /// What its speed is bounded by.
    pub bottleneck: Bottleneck,
    /// Bytes a second that its nodes send each other.
    pub bytes_per_s: f64,
    /// What an hour of it costs.
    pub price: f64,
    /// The chance that all its nodes are there an hour later.
    pub stays: f64,
    /// What it is worth, in tokens a second.
    pub value: f64,
}

/// How often the search for a replica's period halves what is left at most.
const HALVINGS_MAX: usize = 16;
/// A period that is longer than the shortest possible by this much is good enough.
const PERIOD_SLACK: f64 = 1.002;

/// A period that may be longer by that much says whether a group of nodes is worth looking at.
const ROUGH_SLACK: f64 = 1.03;
/// Choices that a beam search follows at once.
const BEAM_WIDTH: usize = 48;
/// Halvings of what is left in which it looks for the shortest period.
const BEAM_HALVINGS: usize = 6;
/// Of more nodes than that only sorted orders are tried.
const BEAM_NODES_MAX: usize = 6;

impl Problem<'_> {
    /// Micro-batches between the two passes of a stage, as many stages before the last as `behind`: one for itself, and for each
    /// stage behind it one there and one on the wire.
    pub(crate) fn in_flight(behind: usize) -> u64 {
        2 * behind as u64 + 1
    }

    /// Memory of the stages of a replica, bytes.
    pub fn memory(&self, stages: &[Stage]) -> Vec<u64> {
        if stages.len() == 1 {
            return vec![self.workload.alone_bytes()];
        }
        let behind = |at: usize| stages.len() - 1 - at;
        let bytes = |(at, stage): (usize, &Stage)| {
            self.workload.stage_bytes(stage.units.clone(), Self::in_flight(behind(at)))
        };
        stages.iter().enumerate().map(bytes).collect()
    }

    /// Seconds that a node computes for a micro-batch, and seconds that it sends or receives.
    pub fn times(&self, stage: &Stage) -> (f64, f64) {
        let (node, workload) = (&self.cluster.nodes()[stage.node], self.workload);
        let flops: f64 = workload.units()[stage.units.clone()].iter().map(|unit| unit.flops).sum();
        let tokens = workload.micro_tokens();
        (tokens * flops / node.flops, tokens * self.wire_s(stage.node, &stage.units))
    }

    /// What comes of these stages, if every node has the memory for its own.
    pub fn measure(&self, stages: Vec<Stage>) -> Option<Replica> {
        let nodes = self.cluster.nodes();
        let fits = |(stage, bytes): (&Stage, u64)| bytes <= nodes[stage.node].memory_bytes;
        if !stages.iter().zip(self.memory(&stages)).all(fits) {
            return None;
        }
        let (mut period_s, mut bottleneck) = (0.0, Bottleneck::Compute(0));
        let mut bound = |seconds: f64, by: Bottleneck| {
            if seconds > period_s {
                (period_s, bottleneck) = (seconds, by);
            }
        };
        for (at, stage) in stages.iter().enumerate() {
            let (compute, link) = self.times(stage);
            bound(compute, Bottleneck::Compute(at));
            bound(link, Bottleneck::Link(at));
            if let Some(next) = stages.get(at + 1) {
                bound(self.cluster.latency(stage.node, next.node), Bottleneck::Latency(at));
            }
        }
        let speed = self.workload.micro_tokens() / period_s;
        // What one node sends another receives: of each micro-batch once there and once back.
        let sent =
            |stage: &Stage| self.workload.crossing(&stage.units) + self.text_moved(stage.node, &stage.units);
        let bytes_per_s = speed * stages.iter().map(sent).sum::<f64>();
        let price = stages.iter().map(|stage| nodes[stage.node].price).sum();
        let stays = stages.iter().map(|stage| nodes[stage.node].reliability).product();
        let value = self.objective.value(speed, stays, price, bytes_per_s);
        Some(Replica { stages, period_s, speed, bottleneck, bytes_per_s, price, stays, value })
    }

    /// The node as a replica of its own.
    pub fn alone(&self, node: usize) -> Option<Replica> {
        self.measure(vec![Stage { node, units: 0..self.workload.units().len() }])
    }

    /// The fastest pipeline over some of these nodes, in this order.
    pub(crate) fn pipeline(&self, order: &[usize]) -> Option<Replica> {
        if let [node] = order {
            return self.alone(*node);
        }
        let found = [false, true].into_iter().filter_map(|cheap| self.fastest(order, cheap, PERIOD_SLACK));
        found.max_by(|a, b| a.value.total_cmp(&b.value))
    }

    /// About what [`Self::pipeline`] finds, in a fraction of the time.
    pub(crate) fn rough_pipeline(&self, order: &[usize]) -> Option<Replica> {
        self.fastest(order, false, ROUGH_SLACK)
    }

    /// As [`Self::pipeline`]: the shortest period for which the nodes, filled one after the other, hold everything.
    fn fastest(&self, order: &[usize], cheap: bool, slack: f64) -> Option<Replica> {
        let mut best = self.measure(self.filled(order, f64::INFINITY, cheap)?)?;
        let all: f64 = order.iter().map(|&node| self.cluster.nodes()[node].flops).sum();
        let mut too_short = self.workload.micro_tokens() * self.workload.flops() / all;
        let mut enough = best.period_s;
        for _ in 0..HALVINGS_MAX {
            if enough <= too_short * slack {
                break;
            }
            let middle = (too_short * enough).sqrt();
            match self.filled(order, middle, cheap).and_then(|stages| self.measure(stages)) {
                Some(replica) => {
                    enough = middle.min(replica.period_s);
                    if replica.period_s < best.period_s {
                        best = replica;
                    }
                }
                None => too_short = middle,
            }
        }
        Some(best)
    }

    /// From the last node to the first, each takes as many units as it has memory and, in `period_s`, time for. Who can take none
    /// is left out.
    fn filled(&self, order: &[usize], period_s: f64, cheap: bool) -> Option<Vec<Stage>> {
        let mut stages: Vec<Stage> = Vec::new();
        let mut end = self.workload.units().len();
        for &node in order.iter().rev() {
            if let Some(start) = self.first_unit(node, end, stages.len(), period_s, cheap) {
                stages.push(Stage { node, units: start..end });
                end = start;
            }
            if end == 0 {
                stages.reverse();
                return Some(stages);
            }
        }
        None
    }

    /// The order in which nodes, chosen one after the other from the last to the first, host everything in the shortest time that
    /// is found: a beam search, which of the choices of so many nodes goes on with those that leave the least.
    pub(crate) fn drawn_together(&self, nodes: &[usize]) -> Option<Vec<usize>> {
        if nodes.len() > BEAM_NODES_MAX {
            return None;
        }
        let mut best = self.beam(nodes, f64::INFINITY)?;
        let period =
            |order: &[usize]| self.fastest(order, false, ROUGH_SLACK).map_or(f64::INFINITY, |it| it.period_s);
        let all: f64 = nodes.iter().map(|&node| self.cluster.nodes()[node].flops).sum();
        let mut too_short = self.workload.micro_tokens() * self.workload.flops() / all;
        let mut enough = period(&best);
        for _ in 0..BEAM_HALVINGS {
            let middle = (too_short * enough).sqrt();
            match self.beam(nodes, middle) {
                Some(order) => {
                    enough = middle.min(period(&order));
                    best = order;
                }
                None => too_short = middle,
            }
        }
        Some(best)
    }

    fn beam(&self, nodes: &[usize], period_s: f64) -> Option<Vec<usize>> {
        // What is left to be hosted, and who hosts the rest, the last first.
        let mut choices: Vec<(usize, Vec<usize>)> = vec![(self.workload.units().len(), Vec::new())];
        for behind in 0..nodes.len() {
            let mut longer: Vec<(usize, Vec<usize>)> = Vec::new();
            for (end, chosen) in &choices {
                for &node in nodes.iter().filter(|node| !chosen.contains(node)) {
                    let Some(start) = self.first_unit(node, *end, behind, period_s, false) else { continue };
                    let chosen: Vec<usize> = chosen.iter().copied().chain([node]).collect();
                    if start == 0 {
                        return Some(chosen.into_iter().rev().collect());
                    }
                    longer.push((start, chosen));
                }
            }
            longer.sort();
            // The same nodes in another order that leave as much are the same choice.
            let set = |chosen: &[usize]| {
                let mut set = chosen.to_vec();
                set.sort_unstable();
                set
            };
            let mut seen = std::collections::BTreeSet::new();
            longer.retain(|(start, chosen)| seen.insert((*start, set(chosen))));
            longer.truncate(BEAM_WIDTH);
            choices = longer;
        }
        None
    }

    /// Where the largest range begins that ends at `end` and that this node can host.
    fn first_unit(
        &self,
        node: usize,
        end: usize,
        behind: usize,
        period_s: f64,
        cheap: bool,
    ) -> Option<usize> {
        let (workload, machine) = (self.workload, &self.cluster.nodes()[node]);
        let in_flight = Self::in_flight(behind);
        let flops_max = period_s * machine.flops / workload.micro_tokens();
        let wire_max = period_s / workload.micro_tokens();
        let (mut memory, mut flops, mut first) = (StageMemory::default(), 0.0, None);
        for start in (0..end).rev() {
            let unit = &workload.units()[start];
            memory.add(unit);
            flops += unit.flops;
            if flops > flops_max || memory.fixed > machine.memory_bytes {
                break;
            }
            let units = start..end;
            let allowed = !cheap || workload.is_cheap(start);
            if allowed
                && workload.filled(&memory, &units, in_flight) <= machine.memory_bytes
                && self.wire_s(node, &units) <= wire_max
            {
                first = Some(start);
            }
        }
        first
    }

    /// Seconds per token that a node sends or receives, whichever takes longer.
    fn wire_s(&self, node: usize, units: &Range<usize>) -> f64 {
        let machine = &self.cluster.nodes()[node];
        let crossing = self.workload.crossing(units);
        (crossing / machine.upload).max((crossing + self.text_moved(node, units)) / machine.download)
    }

    /// Bytes per token of text that the node does not have.
    fn text_moved(&self, node: usize, units: &Range<usize>) -> f64 {
        if self.cluster.nodes()[node].holds_data { 0.0 } else { self.workload.text(units) }
    }
}
