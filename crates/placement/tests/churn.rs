//! Plans go on when machines leave and join.

mod common;

use std::collections::BTreeMap;

use common::{Draw, cluster, node, workload};
use zoo_placement::{Change, Cluster, Latency, Node, Objective, Plan, Problem, Workload, plan, replan};

/// A plan of a drawn cluster, if there is one.
struct Drawn {
    workload: Workload,
    cluster: Cluster,
    objective: Objective,
    plan: Plan,
}

fn drawn(seed: u64) -> Option<(Draw, Drawn)> {
    let mut draw = Draw::new(seed);
    let workload = workload(&mut draw);
    let cluster = cluster(&mut draw, 3..16, &workload);
    let objective = Objective::default();
    let plan = plan(&Problem { cluster: &cluster, workload: &workload, objective: &objective }).ok()?;
    Some((draw, Drawn { workload, cluster, objective, plan }))
}

impl Drawn {
    /// What becomes of the plan with these nodes.
    fn with(&self, nodes: Vec<Node>) -> Option<(Cluster, Change)> {
        let latency = Latency { within_s: 0.0005, between_s: 0.02, ..Latency::default() };
        let next = Cluster::new(nodes, &latency).ok()?;
        let problem = Problem { cluster: &next, workload: &self.workload, objective: &self.objective };
        let change = replan(&problem, &self.cluster, &self.plan).ok()?;
        Some((next, change))
    }
}

/// The units that every node hosts, by its name.
fn hosted<'a>(cluster: &'a Cluster, plan: &Plan) -> BTreeMap<&'a str, std::ops::Range<usize>> {
    let stages = plan.replicas.iter().flat_map(|replica| &replica.stages);
    stages.map(|stage| (cluster.nodes()[stage.node].id.as_str(), stage.units.clone())).collect()
}

fn check(problem: &Problem, plan: &Plan) {
    let mut seen = std::collections::BTreeSet::new();
    for replica in &plan.replicas {
        let mut next = 0;
        for (stage, bytes) in replica.stages.iter().zip(problem.memory(&replica.stages)) {
            assert!(seen.insert(stage.node), "a node is in one place");
            assert!(bytes <= problem.cluster.nodes()[stage.node].memory_bytes, "no node exceeds its memory");
            assert_eq!(stage.units.start, next, "every unit is hosted once");
            next = stage.units.end;
        }
        assert_eq!(next, problem.workload.units().len());
        assert_eq!(problem.measure(replica.stages.clone()).as_ref(), Some(replica));
    }
    assert_eq!(seen.len() + plan.idle.len(), problem.cluster.nodes().len());
}

#[test]
fn a_plan_hosts_everything_once_within_everybodys_memory_and_is_the_same_again() {
    for seed in 0..300 {
        let Some((_, drawn)) = drawn(seed) else { continue };
        let Drawn { workload, cluster, objective, plan: found } = &drawn;
        let problem = Problem { cluster, workload, objective };
        check(&problem, found);
        assert_eq!(plan(&problem).as_ref(), Ok(found));
        for keepers in &found.keepers {
            let most = objective.redundancy.min(cluster.nodes().len());
            assert_eq!(
                keepers.nodes.len(),
                most,
                "seed {seed}: as many keepers as are asked for, or all nodes"
            );
            assert_eq!(keepers.regions, cluster.regions().len().min(most), "seed {seed}: in all regions");
        }
    }
}

#[test]
fn after_one_death_only_that_nodes_state_moves() {
    let (mut mended, mut unmoved) = (0, 0);
    for seed in 0..400 {
        let Some((_, drawn)) = drawn(seed) else { continue };
        if drawn.plan.replicas.len() == 1 {
            continue; // If it cannot go on, nothing of the plan is left, and it begins anew.
        }
        let before = hosted(&drawn.cluster, &drawn.plan);
        for (dead, units) in &before {
            let nodes = drawn.cluster.nodes().iter().filter(|node| node.id != *dead).cloned().collect();
            let (next, change) = drawn.with(nodes).expect("other replicas are still there");
            let problem = Problem { cluster: &next, workload: &drawn.workload, objective: &drawn.objective };
            check(&problem, &change.plan);
            let after = hosted(&next, &change.plan);
            let moved: u64 = change.moves.iter().map(|it| it.bytes).sum();
            assert!(
                moved <= drawn.workload.state_bytes(units.clone()),
                "seed {seed}: {moved} bytes moved for {dead}, which held {}",
                drawn.workload.state_bytes(units.clone())
            );
            for it in &change.moves {
                assert!(
                    it.units.iter().all(|unit| units.contains(unit)),
                    "seed {seed}: what {dead} held, and nothing else"
                );
            }
            // Whoever goes on hosts at least what it hosted.
            for (id, now) in &after {
                if let Some(then) = before.get(id) {
                    assert!(
                        now.start <= then.start && then.end <= now.end,
                        "seed {seed}: {id} keeps what it has"
                    );
                }
            }
            if change.moves.is_empty() { unmoved += 1 } else { mended += 1 }
        }
    }
    assert!(mended > 50 && unmoved > 50, "{mended} pipelines went on, {unmoved} deaths moved nothing");
}

#[test]
fn who_joins_improves_the_plan_and_moves_no_more_than_that_brings() {
    let mut used = 0;
    for seed in 0..400 {
        let Some((mut draw, drawn)) = drawn(seed) else { continue };
        let mut nodes = drawn.cluster.nodes().to_vec();
        // The same cluster under the latencies that it will have then.
        let Some((same, unchanged)) = drawn.with(nodes.clone()) else { continue };
        assert!(unchanged.moves.is_empty(), "seed {seed}: nobody came or went");
        let value = unchanged.plan.value;
        nodes.push(node(&mut draw, 99_999, &drawn.workload));
        let (next, change) = drawn.with(nodes).expect("what was possible still is");
        let problem = Problem { cluster: &next, workload: &drawn.workload, objective: &drawn.objective };
        check(&problem, &change.plan);
        assert!(change.plan.value >= value, "seed {seed}: {} after {value}", change.plan.value);
        let gained = (change.plan.value - value) * drawn.objective.pays_within_s;
        let fetching = change.moves.iter().map(|it| it.bytes as f64 / next.nodes()[it.node].download);
        let lost = fetching.fold(0.0, f64::max) * (change.plan.value - value);
        assert!(gained >= lost, "seed {seed}: {gained} tokens gained, {lost} lost");
        assert!(
            change.moves.is_empty() || change.plan.value > value,
            "seed {seed}: nothing moves for nothing"
        );
        // Nobody who was there loses anything, so nobody but who is new or was free fetches anything.
        let before = hosted(&same, &unchanged.plan);
        for it in &change.moves {
            assert!(
                !before.contains_key(next.nodes()[it.node].id.as_str()),
                "seed {seed}: only free nodes fetch"
            );
        }
        used += usize::from(!change.moves.is_empty());
    }
    assert!(used > 100, "{used} of those who joined are used");
}
