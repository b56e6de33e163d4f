//! Many nodes in groups, each of them a pipeline.

use std::cmp::Reverse;

use crate::replica::{Problem, Replica};

/// Lengths of groups that are tried, by what the memory of their nodes is of what a pipeline takes when nothing is in flight.
const LENGTHS: [f64; 8] = [1.05, 1.2, 1.4, 1.65, 1.95, 2.3, 2.8, 3.5];

/// Adds the best replicas of groups of nodes that follow each other by their speed for their memory; returns who is left.
///
/// A pipeline of nodes with as much speed for their memory has a use for all of both: where one node can compute more of the network
/// than it can hold, the others hold more than they can compute. So neighbours in this order go together, and which
/// is a shortest path: the best groups of the first nodes are the best of fewer, and one more group.
pub(crate) fn chained(problem: &Problem, mut nodes: Vec<usize>, replicas: &mut Vec<Replica>) -> Vec<usize> {
    let machine = |node: usize| &problem.cluster.nodes()[node];
    let speed_for_memory = |node: usize| machine(node).flops / machine(node).memory_bytes as f64;
    nodes.sort_by(|&a, &b| speed_for_memory(b).total_cmp(&speed_for_memory(a)).then(a.cmp(&b)));
    // The best value of the first so many nodes, and the length of the last group: 0 where the last node is left.
    let mut best: Vec<(f64, usize)> = vec![(0.0, 0); nodes.len() + 1];
    for first in 0..nodes.len() {
        let so_far = best[first].0;
        if so_far > best[first + 1].0 {
            best[first + 1] = (so_far, 0);
        }
        for length in lengths(problem, &nodes[first..]) {
            let Some(replica) = problem.rough_pipeline(&front_first(problem, &nodes[first..first + length]))
            else {
                continue;
            };
            let value = so_far + replica.value;
            if value > best[first + length].0 {
                best[first + length] = (value, length);
            }
        }
    }
    let (mut end, mut left) = (nodes.len(), Vec::new());
    while end > 0 {
        let length = best[end].1;
        let group = &nodes[end - length.max(1)..end];
        let found = problem
            .pipeline(&front_first(problem, group))
            .filter(|replica| length > 0 && replica.value > 0.0);
        let hosts: Vec<usize> = found.as_ref().map(Replica::nodes).unwrap_or_default();
        left.extend(group.iter().copied().filter(|node| !hosts.contains(node)));
        replicas.extend(found);
        end -= group.len();
    }
    left
}

/// How many of these nodes, from the first on, may make a pipeline.
fn lengths(problem: &Problem, nodes: &[usize]) -> Vec<usize> {
    let needed = problem.workload.pipeline_bytes() as f64;
    let mut lengths = Vec::with_capacity(LENGTHS.len());
    let (mut bytes, mut length) = (0.0, 0);
    for part in LENGTHS {
        while bytes < part * needed {
            let Some(&node) = nodes.get(length) else { return lengths };
            bytes += problem.cluster.nodes()[node].memory_bytes as f64;
            length += 1;
        }
        if lengths.last() != Some(&length) {
            lengths.push(length);
        }
    }
    lengths
}

/// Those with the most memory come first: the first stages keep the most in flight.
fn front_first(problem: &Problem, nodes: &[usize]) -> Vec<usize> {
    let mut order = nodes.to_vec();
    order.sort_by_key(|&node| (Reverse(problem.cluster.nodes()[node].memory_bytes), node));
    order
}
