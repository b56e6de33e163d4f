//! A plan goes on when machines leave and join, with as little state moved as that takes.

use crate::cluster::Cluster;
use crate::plan::{Plan, PlanError, plan};
use crate::replica::{Problem, Replica, Stage};
use crate::search::{Budget, Pool};

/// Idle nodes that are tried in the place of one that left, the fastest first.
const SUBSTITUTES_MAX: usize = 32;
/// Idle nodes that are searched for a new replica at once.
const IDLE_MAX: usize = 24;
/// Pipelines that may be tried for them.
const TRIES_MAX: usize = 4_000;

/// The next plan, and what it takes to get there.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What holds from now on.
    pub plan: Plan,
    /// State that nodes have to fetch, by node.
    pub moves: Vec<Move>,
}

/// State that a node does not have yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Who fetches it, as a place in the cluster.
    pub node: usize,
    /// Whose state.
    pub units: Vec<usize>,
    /// Parameters and optimiser state, bytes.
    pub bytes: u64,
}

/// What becomes of `old`, made for the nodes of `before`, now that the nodes are those of `problem`. Where a node left, its units go to an idle node or to
/// its neighbours in the pipeline, and nothing else moves. Who came is used where that brings more within the objective's
/// time than it costs to fetch.
///
/// # Errors
/// Nothing of the old plan is left, and none can be made anew.
pub fn replan(problem: &Problem, before: &Cluster, old: &Plan) -> Result<Change, PlanError> {
    let now = problem.cluster;
    let place = |node: usize| now.place(&before.nodes()[node].id);
    let mut replanning = Replanning { problem, replicas: Vec::new(), free: vec![true; now.nodes().len()] };
    let mut broken = Vec::new();
    for replica in &old.replicas {
        let stages: Vec<(Option<usize>, Stage)> =
            replica.stages.iter().map(|stage| (place(stage.node), stage.clone())).collect();
        stages.iter().filter_map(|(node, _)| *node).for_each(|node| replanning.free[node] = false);
        let whole =
            stages.iter().map(|(node, stage)| Some(Stage { node: (*node)?, units: stage.units.clone() }));
        match whole.collect::<Option<Vec<_>>>().and_then(|stages| problem.measure(stages)) {
            Some(replica) => replanning.replicas.push(replica),
            None => broken.push(stages),
        }
    }
    for stages in broken {
        replanning.mend(&stages);
    }
    let joined = now.nodes().iter().any(|node| before.place(&node.id).is_none());
    if joined {
        let came: Vec<usize> =
            (0..now.nodes().len()).filter(|&node| before.place(&now.nodes()[node].id).is_none()).collect();
        came.into_iter().for_each(|node| replanning.welcome(node));
        replanning.gather_idle();
    }
    let next = match replanning.replicas.is_empty() {
        true => plan(problem)?,
        false => Plan::of(problem, replanning.replicas),
    };
    let moves = moves(problem, before, old, &next);
    Ok(Change { plan: next, moves })
}

struct Replanning<'a> {
    problem: &'a Problem<'a>,
    replicas: Vec<Replica>,
    /// Which nodes host nothing.
    free: Vec<bool>,
}

impl Replanning<'_> {
    /// Goes on without the one node that left, if it was one. Who lost two stages at once ends; its nodes are free.
    fn mend(&mut self, stages: &[(Option<usize>, Stage)]) {
        let gone: Vec<usize> = (0..stages.len()).filter(|&at| stages[at].0.is_none()).collect();
        let found = match gone[..] {
            [gone] if stages.len() > 1 => self.without(stages, gone),
            _ => None,
        };
        stages.iter().filter_map(|(node, _)| *node).for_each(|node| self.free[node] = true);
        if let Some(replica) = found {
            self.add(replica);
        }
    }

    /// The best replica in which the units of the node that left, and no others, have another host.
    fn without(&self, stages: &[(Option<usize>, Stage)], gone: usize) -> Option<Replica> {
        let left = stages[gone].1.units.clone();
        let present = |(node, stage): &(Option<usize>, Stage)| {
            node.map(|node| Stage { node, units: stage.units.clone() })
        };
        let earlier: Vec<Stage> = stages[..gone].iter().filter_map(present).collect();
        let later: Vec<Stage> = stages[gone + 1..].iter().filter_map(present).collect();
        let mut tries: Vec<Vec<Stage>> = Vec::new();
        for node in self.fastest_free(SUBSTITUTES_MAX) {
            let substitute = Stage { node, units: left.clone() };
            tries.push([&earlier[..], &[substitute], &later[..]].concat());
        }
        for cut in left.start..=left.end {
            let (mut earlier, mut later) = (earlier.clone(), later.clone());
            match (earlier.last_mut(), later.first_mut()) {
                (Some(before), Some(after)) => (before.units.end, after.units.start) = (cut, cut),
                (Some(before), None) if cut == left.end => before.units.end = cut,
                (None, Some(after)) if cut == left.start => after.units.start = cut,
                _ => continue,
            }
            tries.push([earlier, later].concat());
        }
        // A node that would host everything fetches what it lacks, which is only what left.
        let found = tries.into_iter().filter_map(|stages| self.problem.measure(stages));
        found.filter(|replica| replica.value > 0.0).max_by(|a, b| a.value.total_cmp(&b.value))
    }

    /// Somebody who came is a replica, or takes a part of a stage that holds up its replica.
    fn welcome(&mut self, node: usize) {
        if !self.usable(node) {
            return;
        }
        let all = self.problem.workload.state_bytes(0..self.problem.workload.units().len());
        let alone = self.problem.alone(node).filter(|replica| self.pays(0.0, replica.value, 0.0, node, all));
        if let Some(replica) = alone {
            return self.add(replica);
        }
        if let Some((at, replica)) = self.best_help(node) {
            self.replicas.remove(at);
            self.add(replica);
        }
    }

    /// The replica whose bottleneck `node` relieves best, and what comes of it.
    fn best_help(&self, node: usize) -> Option<(usize, Replica)> {
        let mut best: Option<(usize, Replica, f64)> = None;
        for (at, replica) in self.replicas.iter().enumerate() {
            let slowest = match replica.bottleneck {
                crate::Bottleneck::Compute(stage) | crate::Bottleneck::Link(stage) => stage,
                crate::Bottleneck::Latency(_) => continue,
            };
            let units = replica.stages[slowest].units.clone();
            for cut in units.start + 1..units.end {
                for (own, given, after) in
                    [(units.start..cut, cut..units.end, 1), (cut..units.end, units.start..cut, 0)]
                {
                    let bytes = self.problem.workload.state_bytes(given.clone());
                    let mut stages = replica.stages.clone();
                    stages[slowest].units = own;
                    stages.insert(slowest + after, Stage { node, units: given });
                    let Some(helped) = self.problem.measure(stages) else { continue };
                    let gain = helped.value - replica.value;
                    if self.pays(replica.value, helped.value, replica.speed, node, bytes)
                        && best.as_ref().is_none_or(|(_, _, most)| gain > *most)
                    {
                        best = Some((at, helped, gain));
                    }
                }
            }
        }
        best.map(|(at, replica, _)| (at, replica))
    }

    /// Replicas of nodes that host nothing.
    fn gather_idle(&mut self) {
        let idle = self.fastest_free(IDLE_MAX);
        for replica in Pool::of(self.problem, &idle, Budget(TRIES_MAX)).replicas {
            let worth = replica.stages.iter().all(|stage| {
                let bytes = self.problem.workload.state_bytes(stage.units.clone());
                self.pays(0.0, replica.value, 0.0, stage.node, bytes)
            });
            if worth {
                self.add(replica);
            }
        }
    }

    /// Whether a value of `after` instead of `before`, once `node` has fetched `bytes` while a replica of `standing` tokens a second waits for it, is
    /// more within the objective's time.
    fn pays(&self, before: f64, after: f64, standing: f64, node: usize, bytes: u64) -> bool {
        let within_s = self.problem.objective.pays_within_s;
        let fetching_s = bytes as f64 / self.problem.cluster.nodes()[node].download;
        (after - before) * (within_s - fetching_s) > standing * fetching_s
    }

    fn add(&mut self, replica: Replica) {
        replica.nodes().into_iter().for_each(|node| self.free[node] = false);
        self.replicas.push(replica);
    }

    fn usable(&self, node: usize) -> bool {
        self.problem.cluster.nodes()[node].tier >= self.problem.objective.tier
    }

    fn fastest_free(&self, most: usize) -> Vec<usize> {
        let nodes = self.problem.cluster.nodes();
        let mut free: Vec<usize> =
            (0..nodes.len()).filter(|&node| self.free[node] && self.usable(node)).collect();
        free.sort_by(|&a, &b| nodes[b].flops.total_cmp(&nodes[a].flops).then(a.cmp(&b)));
        free.truncate(most);
        free
    }
}

/// What every node hosts that it did not host before.
fn moves(problem: &Problem, before: &Cluster, old: &Plan, next: &Plan) -> Vec<Move> {
    let mut had = vec![0..0; problem.cluster.nodes().len()];
    for stage in old.replicas.iter().flat_map(|replica| &replica.stages) {
        if let Some(node) = problem.cluster.place(&before.nodes()[stage.node].id) {
            had[node] = stage.units.clone();
        }
    }
    let mut moves: Vec<Move> = Vec::new();
    for stage in next.replicas.iter().flat_map(|replica| &replica.stages) {
        let units: Vec<usize> = stage.units.clone().filter(|unit| !had[stage.node].contains(unit)).collect();
        if !units.is_empty() {
            let bytes = units.iter().map(|&unit| problem.workload.state_bytes(unit..unit + 1)).sum();
            moves.push(Move { node: stage.node, units, bytes });
        }
    }
    moves.sort_by_key(|it| it.node);
    moves
}
