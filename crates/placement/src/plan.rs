//! The plan for a whole cluster.

use std::cmp::Reverse;

use thiserror::Error;

use crate::chain::chained;
use crate::keeping::{Keepers, keepers};
use crate::replica::{Problem, Replica};
use crate::search::{Budget, Pool};

/// Clusters of so many nodes at most are searched as one.
const POOL_MAX: usize = 12;
/// Of so many at most, all replicas are changed together once they are made.
const IMPROVED_MAX: usize = 64;
/// Pipelines that a plan tries in all. What is tried is counted and not timed, so that equal clusters have equal plans.
const TRIES_MAX: usize = 60_000;
/// Pipelines that every pool may try in any case.
const TRIES_MIN: usize = 24;

/// Updates that a node of a tree fetches.
const FAN_IN: usize = 64;

/// Who hosts what.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Each hosts the whole network; by their first nodes.
    pub replicas: Vec<Replica>,
    /// Nodes that host nothing.
    pub idle: Vec<Idle>,
    /// Who keeps the state of which units.
    pub keepers: Vec<Keepers>,
    /// Tokens a second of all replicas.
    pub speed: f64,
    /// What they are worth, in tokens a second.
    pub value: f64,
    /// No plan is worth more, in tokens a second.
    pub value_max: f64,
}

/// A node that hosts nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// Its place in the cluster.
    pub node: usize,
    /// Why.
    pub why: WhyIdle,
}

/// Why a node hosts nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyIdle {
    /// Its tier is lower than the objective asks for.
    Tier,
    /// Its memory is less than the smallest part of the network takes.
    Memory,
    /// What it brings at most is worth less than it costs.
    Price,
    /// It cannot host everything, and together with others that are free it cannot either, or adds nothing.
    Partners,
}

/// Nothing can be planned.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Some VNodes fit on no node.
    #[error(
        "no node can host {vnodes}: that takes {needs_mib} MiB, and no node has more than {most_mib} MiB ({node})\n\
         hint: add a node with more memory, make the model smaller, or lower training.micro_batch_sequences"
    )]
    Unit {
        /// Their ids.
        vnodes: String,
        /// What they take.
        needs_mib: u64,
        /// What the largest node has.
        most_mib: u64,
        /// The largest node.
        node: String,
    },
    /// All nodes together are too small, or too slow for each other.
    #[error(
        "the nodes cannot host the network: alone it takes {alone_mib} MiB, and the {nodes} that may be used have {all_mib} MiB together, the largest {most_mib} MiB\n\
         hint: add nodes, make the model smaller, or lower training.micro_batch_sequences: every stage of a pipeline also keeps a second version of its parameters and what is in flight"
    )]
    Memory {
        /// What the network takes on one node.
        alone_mib: u64,
        /// Nodes that may be used.
        nodes: usize,
        /// What they have.
        all_mib: u64,
        /// What the largest has.
        most_mib: u64,
    },
    /// Every node is left out.
    #[error("no node may be used: {0}\nhint: lower the tier or the price that the objective asks for")]
    NoNode(&'static str),
}

/// Plans for a cluster from nothing.
///
/// # Errors
/// What does not fit where, if no replica is possible.
pub fn plan(problem: &Problem) -> Result<Plan, PlanError> {
    let usable: Vec<usize> =
        (0..problem.cluster.nodes().len()).filter(|&node| why_unusable(problem, node).is_none()).collect();
    let replicas = if usable.len() <= POOL_MAX {
        Pool::of(problem, &usable, Budget(TRIES_MAX)).replicas
    } else {
        of_many(problem, &usable)
    };
    if replicas.is_empty() {
        return Err(why_nothing(problem, &usable));
    }
    Ok(Plan::of(problem, replicas))
}

/// What a node adds to the value of any plan at most. A replica does no more work than its nodes can, and is there no
/// more often than any of them.
pub(crate) fn brings_at_most(problem: &Problem, node: usize) -> f64 {
    let machine = &problem.cluster.nodes()[node];
    let speed = machine.flops / problem.workload.flops();
    problem.objective.value(speed, machine.reliability, machine.price, 0.0)
}

impl Plan {
    /// The plan that these replicas are.
    pub(crate) fn of(problem: &Problem, mut replicas: Vec<Replica>) -> Self {
        replicas.sort_by_key(|replica| replica.stages[0].node);
        let count = problem.cluster.nodes().len();
        let mut hosts = vec![false; count];
        replicas.iter().flat_map(|replica| &replica.stages).for_each(|stage| hosts[stage.node] = true);
        let why = |node| why_unusable(problem, node).unwrap_or(WhyIdle::Partners);
        let idle: Vec<Idle> =
            (0..count).filter(|&node| !hosts[node]).map(|node| Idle { node, why: why(node) }).collect();
        let value_max = (0..count)
            .filter(|&node| why_unusable(problem, node).is_none())
            .map(|node| brings_at_most(problem, node));
        Self {
            keepers: keepers(problem, &replicas),
            speed: replicas.iter().map(|replica| replica.speed).sum(),
            value: replicas.iter().map(|replica| replica.value).sum(),
            value_max: value_max.sum(),
            replicas,
            idle,
        }
    }

    /// By how much the plan is worth less than the best could be, as a part of that: at most.
    pub fn gap_max(&self) -> f64 {
        1.0 - self.value / self.value_max
    }

    /// What an hour costs.
    pub fn price(&self) -> f64 {
        self.replicas.iter().map(|replica| replica.price).sum()
    }

    /// Bytes a second between nodes of a replica.
    pub fn bytes_per_s(&self) -> f64 {
        self.replicas.iter().map(|replica| replica.bytes_per_s).sum()
    }

    /// How long the node that takes the longest fetches the updates of the others' replicas in a round, of so many bits a parameter: each node
    /// those of the units that it hosts, and in a tree not more than 64 of them.
    pub fn synchronise_s(&self, problem: &Problem, update_bits: f64) -> f64 {
        let others = self.replicas.len().saturating_sub(1).min(FAN_IN) as f64;
        let stages = self.replicas.iter().flat_map(|replica| &replica.stages);
        let seconds = stages.map(|stage| {
            let units = &problem.workload.units()[stage.units.clone()];
            let parameters: u64 = units.iter().map(|unit| unit.parameter_bytes / 4).sum();
            others * parameters as f64 * update_bits / 8.0 / problem.cluster.nodes()[stage.node].download
        });
        seconds.fold(0.0, f64::max)
    }

    /// Tokens a second that are expected to be lost with nodes that leave within an hour.
    pub fn expected_loss(&self) -> f64 {
        self.replicas.iter().map(|replica| replica.speed * (1.0 - replica.stays)).sum()
    }
}

fn why_unusable(problem: &Problem, node: usize) -> Option<WhyIdle> {
    let machine = &problem.cluster.nodes()[node];
    if machine.tier < problem.objective.tier {
        return Some(WhyIdle::Tier);
    }
    if machine.memory_bytes < problem.workload.least_bytes().min(problem.workload.alone_bytes()) {
        return Some(WhyIdle::Memory);
    }
    (brings_at_most(problem, node) <= 0.0).then_some(WhyIdle::Price)
}

/// Who can host everything does: nobody brings more in company. The others form chains with near ones, then with those who are left
/// over elsewhere, then with somebody who hosts everything.
fn of_many(problem: &Problem, nodes: &[usize]) -> Vec<Replica> {
    let (mut replicas, mut rest) = (Vec::new(), Vec::new());
    for &node in nodes {
        match problem.alone(node).filter(|replica| replica.value > 0.0) {
            Some(replica) => replicas.push(replica),
            None => rest.push(node),
        }
    }
    let mut regions: Vec<Vec<usize>> = vec![Vec::new(); problem.cluster.regions().len()];
    rest.into_iter().for_each(|node| regions[problem.cluster.region(node)].push(node));
    let far = regions.into_iter().flat_map(|members| chained(problem, members, &mut replicas)).collect();
    let rest = chained(problem, far, &mut replicas);
    let pools = with_hosts(problem, rest, &mut replicas);
    let budget = Budget((TRIES_MAX / pools.len().max(1)).max(TRIES_MIN));
    for nodes in pools {
        replicas.extend(Pool::of(problem, &nodes, budget).replicas);
    }
    if nodes.len() > IMPROVED_MAX {
        return replicas;
    }
    let hosts: Vec<usize> = replicas.iter().flat_map(Replica::nodes).collect();
    let idle = nodes.iter().copied().filter(|node| !hosts.contains(node)).collect();
    let mut pool = Pool { replicas, idle };
    pool.improve(problem, Budget(TRIES_MAX / 4));
    pool.replicas
}

/// Pools of those who are left, the fastest first, each with a node that hosts everything and has the most memory for its speed.
fn with_hosts(problem: &Problem, mut rest: Vec<usize>, replicas: &mut Vec<Replica>) -> Vec<Vec<usize>> {
    let nodes = problem.cluster.nodes();
    rest.sort_by(|&a, &b| nodes[b].flops.total_cmp(&nodes[a].flops).then(a.cmp(&b)));
    let mut hosts: Vec<usize> =
        replicas.iter().filter(|it| it.stages.len() == 1).map(|it| it.stages[0].node).collect();
    let memory_for_speed = |node: usize| nodes[node].memory_bytes as f64 / nodes[node].flops;
    hosts.sort_by(|&a, &b| memory_for_speed(b).total_cmp(&memory_for_speed(a)).then(a.cmp(&b)));
    let mut pools = Vec::new();
    let mut taken = vec![false; nodes.len()];
    let near = |a: usize, b: usize| problem.cluster.region(a) == problem.cluster.region(b);
    for node in rest {
        let host = hosts.iter().position(|&host| near(host, node));
        let Some(host) = host else { continue };
        let host = hosts.remove(host);
        taken[host] = true;
        pools.push(vec![host, node]);
        if hosts.is_empty() {
            break;
        }
    }
    replicas.retain(|replica| replica.stages.len() > 1 || !taken[replica.stages[0].node]);
    pools
}

fn why_nothing(problem: &Problem, usable: &[usize]) -> PlanError {
    const MIB: u64 = 1 << 20;
    let (nodes, workload) = (problem.cluster.nodes(), problem.workload);
    let allowed: Vec<usize> =
        (0..nodes.len()).filter(|&node| nodes[node].tier >= problem.objective.tier).collect();
    let Some(&largest) = allowed.iter().max_by_key(|&&node| (nodes[node].memory_bytes, Reverse(node))) else {
        return PlanError::NoNode("each is of a lower tier than is asked for");
    };
    let most = nodes[largest].memory_bytes;
    let hardest = (0..workload.units().len()).max_by_key(|&unit| workload.unit_bytes(unit));
    let hardest = hardest.expect("a network has VNodes");
    let needs = workload.unit_bytes(hardest);
    if needs > most && workload.alone_bytes() > most {
        return PlanError::Unit {
            vnodes: workload.units()[hardest].vnodes.join(" and "),
            needs_mib: needs.div_ceil(MIB),
            most_mib: most / MIB,
            node: nodes[largest].id.clone(),
        };
    }
    if usable.is_empty() {
        return PlanError::NoNode("what each brings at most is worth less than it costs");
    }
    PlanError::Memory {
        alone_mib: workload.alone_bytes().div_ceil(MIB),
        nodes: usable.len(),
        all_mib: usable.iter().map(|&node| nodes[node].memory_bytes / MIB).sum(),
        most_mib: most / MIB,
    }
}
