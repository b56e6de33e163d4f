//! Who keeps the state of which units, so that it outlives its hosts.

use std::ops::Range;

use crate::replica::{Problem, Replica};

/// The keepers of some units' newest state.
#[derive(Clone, Debug, PartialEq)]
pub struct Keepers {
    /// Whose state.
    pub units: Range<usize>,
    /// Places in the cluster: first those who host the units, then others.
    pub nodes: Vec<usize>,
    /// Different regions among them.
    pub regions: usize,
    /// The chance that all of them are gone an hour later.
    pub lost: f64,
}

/// As many keepers as the objective asks for, or all there are: of different regions first, and of these those that stay the most likely. Who hosts
/// the units keeps them anyway; where they are too few, others keep them too, on disk.
pub(crate) fn keepers(problem: &Problem, replicas: &[Replica]) -> Vec<Keepers> {
    let stays = |node: usize| problem.cluster.nodes()[node].reliability;
    let by_stay = |nodes: &mut Vec<usize>| {
        nodes.sort_by(|&a, &b| stays(b).total_cmp(&stays(a)).then(a.cmp(&b)));
    };
    // By node, what it hosts.
    let mut hosted: Vec<Option<&Range<usize>>> = vec![None; problem.cluster.nodes().len()];
    let stages = replicas.iter().flat_map(|replica| &replica.stages);
    let mut hosts: Vec<usize> = stages
        .map(|stage| {
            hosted[stage.node] = Some(&stage.units);
            stage.node
        })
        .collect();
    by_stay(&mut hosts);
    let mut others: Vec<usize> = (0..hosted.len()).collect();
    by_stay(&mut others);

    let mut all: Vec<Keepers> = Vec::new();
    for unit in 0..problem.workload.units().len() {
        let of_unit =
            hosts.iter().copied().filter(|&node| hosted[node].is_some_and(|units| units.contains(&unit)));
        let nodes = chosen(problem, of_unit, &others);
        match all.last_mut().filter(|last| last.nodes == nodes) {
            Some(last) => last.units.end = unit + 1,
            None => all.push(of(problem, unit..unit + 1, nodes)),
        }
    }
    all
}

/// Of `hosts`, then of `others`, the first of every region; then hosts, then others, of regions that have one.
fn chosen(problem: &Problem, hosts: impl Iterator<Item = usize>, others: &[usize]) -> Vec<usize> {
    let most = problem.objective.redundancy;
    let region = |node: usize| problem.cluster.region(node);
    let (mut chosen, mut spare): (Vec<usize>, Vec<usize>) = Default::default();
    let mut offer = |nodes: &mut dyn Iterator<Item = usize>| {
        for node in nodes {
            let new = !chosen.iter().any(|&other| region(other) == region(node));
            if chosen.len() < most && new {
                chosen.push(node);
            } else if spare.len() < most && !chosen.contains(&node) && !spare.contains(&node) {
                spare.push(node);
            }
            if chosen.len() == most || chosen.len() == problem.cluster.regions().len() && spare.len() == most
            {
                break;
            }
        }
    };
    offer(&mut { hosts });
    offer(&mut others.iter().copied());
    chosen.extend(spare);
    chosen.truncate(most);
    chosen
}

fn of(problem: &Problem, units: Range<usize>, nodes: Vec<usize>) -> Keepers {
    let mut regions: Vec<usize> = nodes.iter().map(|&node| problem.cluster.region(node)).collect();
    regions.sort_unstable();
    regions.dedup();
    let lost = nodes.iter().map(|&node| 1.0 - problem.cluster.nodes()[node].reliability).product();
    Keepers { units, regions: regions.len(), lost, nodes }
}
