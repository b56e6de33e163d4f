//! Plans against every possible plan, on clusters small enough to try them all.

mod common;

use std::ops::Range;

use common::{Draw, cluster, workload};
use zoo_placement::{Objective, Problem, Stage, plan};
use zoo_protocol::Tier;

/// The value of the best plan: of all ways to divide the nodes into replicas, order them and cut the network.
fn exhaustive(problem: &Problem) -> f64 {
    let nodes = problem.cluster.nodes().len();
    let mut alone = vec![0.0f64; 1 << nodes];
    let mut order = Vec::new();
    best_of_orders(problem, &mut order, &mut alone);
    // The best of a set of nodes: of its parts with the first node, one is a replica, or the node is idle.
    let mut best = vec![0.0f64; 1 << nodes];
    for set in 1..1usize << nodes {
        let first = 1 << set.trailing_zeros();
        let rest = set & !first;
        let mut part = rest;
        best[set] = best[rest];
        loop {
            best[set] = best[set].max(alone[part | first] + best[rest & !part]);
            if part == 0 {
                break;
            }
            part = (part - 1) & rest;
        }
    }
    best[(1 << nodes) - 1]
}

/// Every order of every set of nodes, as one replica with every cut.
fn best_of_orders(problem: &Problem, order: &mut Vec<usize>, best: &mut [f64]) {
    if !order.is_empty() {
        let set: usize = order.iter().map(|&node| 1 << node).sum();
        let value = best_cut(problem, order, 0..problem.workload.units().len(), &mut Vec::new());
        best[set] = best[set].max(value);
    }
    for node in 0..problem.cluster.nodes().len() {
        if !order.contains(&node) && problem.cluster.nodes()[node].tier >= problem.objective.tier {
            order.push(node);
            best_of_orders(problem, order, best);
            order.pop();
        }
    }
}

fn best_cut(problem: &Problem, order: &[usize], units: Range<usize>, stages: &mut Vec<Stage>) -> f64 {
    let Some((&node, rest)) = order.split_first() else { return 0.0 };
    if rest.is_empty() {
        stages.push(Stage { node, units });
        let value = problem.measure(stages.clone()).map_or(0.0, |replica| replica.value);
        stages.pop();
        return value;
    }
    let mut best = 0.0f64;
    for cut in units.start + 1..units.end {
        stages.push(Stage { node, units: units.start..cut });
        best = best.max(best_cut(problem, rest, cut..units.end, stages));
        stages.pop();
    }
    best
}

/// Every weight is drawn, and often left out.
fn objective(draw: &mut Draw) -> Objective {
    Objective {
        price: if draw.below(3) == 0 { draw.between(1.0, 1000.0) } else { 0.0 },
        traffic: if draw.below(3) == 0 { draw.between(0.1, 100.0) } else { 0.0 },
        risk: if draw.below(2) == 0 { 1.0 } else { draw.unit() },
        tier: if draw.below(5) == 0 { Tier::Bronze } else { Tier::Community },
        ..Objective::default()
    }
}

#[test]
fn plans_of_500_small_clusters_are_within_3_percent_of_the_best() {
    let (mut seed, mut possible, mut short, mut worst, mut pipelines) = (0, 0, 0, 1.0f64, 0);
    while possible < 500 {
        seed += 1;
        let mut draw = Draw::new(seed);
        let workload = workload(&mut draw);
        let cluster = cluster(&mut draw, 2..7, &workload);
        let objective = objective(&mut draw);
        let problem = Problem { cluster: &cluster, workload: &workload, objective: &objective };
        let best = exhaustive(&problem);
        let found = plan(&problem);
        let value = found.as_ref().map_or(0.0, |plan| plan.value);
        assert!(value <= best * (1.0 + 1e-9), "seed {seed}: {value} is better than the best, {best}");
        if best == 0.0 {
            continue;
        }
        if let Ok(plan) = &found {
            let bound = plan.value_max;
            assert!(bound >= best * (1.0 - 1e-9), "seed {seed}: a bound of {bound}, but {best} is possible");
            pipelines += plan.replicas.iter().filter(|replica| replica.stages.len() > 1).count();
        }
        let ratio = value / best;
        if ratio < 0.97 {
            eprintln!("seed {seed}: {ratio:.4} of {best:.2}");
        }
        possible += 1;
        short += usize::from(ratio < 0.97);
        worst = worst.min(ratio);
    }
    eprintln!(
        "of {seed} clusters {possible} have a plan, {pipelines} pipelines, the worst {worst:.4} of the best"
    );
    assert!(pipelines > 250, "{pipelines} pipelines show too little");
    assert_eq!(short, 0, "plans that are more than 3 % short of the best");
}
