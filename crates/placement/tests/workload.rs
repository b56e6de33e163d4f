//! What networks ask, and what is said where machines cannot give it.

use zoo_model::{NetworkDefinition, Profile, preset};
use zoo_placement::{
    Cluster, Latency, Node, Objective, PlanError, Problem, Stage, Terms, UNITS_MAX, WhyIdle, Workload,
    explain, plan,
};
use zoo_protocol::Tier;
use zoo_training::{Estimate, TrainingSpec};

fn terms(micro_tokens: usize, step_tokens: usize) -> Terms {
    Terms {
        micro_tokens,
        step_tokens,
        moments: 2,
        profile: Profile::F32Exact,
        recompute: false,
        process_bytes: 0,
    }
}

fn workload(name: &str, terms: &Terms) -> (NetworkDefinition, Workload) {
    let definition = NetworkDefinition::decoder(&preset::by_name(name).expect("a preset")).expect("valid");
    let workload = Workload::of(&definition, terms).expect("valid");
    (definition, workload)
}

#[test]
fn amounts_are_those_of_the_network() {
    for name in preset::names().filter(|name| *name != "qwen3-0.6b") {
        let config = preset::by_name(name).expect("listed");
        let tokens = config.context.max(256);
        let (_, asked) = workload(name, &terms(tokens, 2 * tokens));
        let expected = config.training_flops_per_token();
        assert!((asked.flops() / expected - 1.0).abs() < 1e-12, "{name}: {} for {expected}", asked.flops());
        let spec = TrainingSpec {
            batch_sequences: (2 * tokens / config.context) as u32,
            micro_batch_sequences: Some((tokens / config.context) as u32),
            ..TrainingSpec::new(config.clone())
        };
        let estimate = Estimate::of(&spec, 1, 1);
        let taken = estimate.state_bytes + estimate.working_bytes;
        assert_eq!(asked.alone_bytes(), taken + taken / 50, "{name}");
        let all = 0..asked.units().len();
        assert_eq!(asked.state_bytes(all.clone()), estimate.state_bytes, "{name}");
        // As a stage it also keeps the version with which a micro-batch began.
        let stage = asked.stage_bytes(all.clone(), 1) as f64;
        let second = 4.0 * config.parameter_count() as f64 * 1.02;
        let bound = (stage - second) / asked.alone_bytes() as f64;
        assert!((0.9999..1.1).contains(&bound), "{name}: {bound}");
        assert_eq!(asked.crossing(&all), 0.0, "{name}");
    }
}

#[test]
fn a_cut_lets_through_what_is_read_behind_it() {
    let config = preset::by_name("qwen3-tiny").expect("a preset");
    let (_, asked) = workload("qwen3-tiny", &terms(256, 512));
    let row = 4.0 * config.width as f64;
    let ids: Vec<&[String]> = asked.units().iter().map(|unit| &unit.vnodes[..]).collect();
    assert_eq!(ids[0], ["embedding", "head"], "a tied table is in one place");
    assert_eq!(ids[1], ["block.0.attention_norm"]);
    let count = asked.units().len();
    // Between blocks only the residual stream passes, within one also what its norm made of it; what the last makes returns to the head.
    assert_eq!(asked.crossing(&(0..5)), 2.0 * row);
    assert_eq!(asked.crossing(&(0..2)), 3.0 * row);
    assert_eq!(asked.crossing(&(5..count)), 2.0 * row);
    let (_, untied) = workload("llama-1m", &terms(256, 512));
    assert_eq!(untied.units()[0].vnodes.len(), 2);
    let (_, bench) = workload("bench-s", &terms(256, 512));
    let row = 4.0 * 128.0;
    assert_eq!(bench.crossing(&(0..1)), row);
    assert_eq!(bench.crossing(&(bench.units().len() - 1..bench.units().len())), row);
}

#[test]
fn a_long_network_is_cut_into_a_bounded_number_of_pieces() {
    let tiny = preset::by_name("qwen3-tiny").expect("a preset");
    let deep = zoo_model::ModelConfig { layers: 200, ..tiny };
    let definition = NetworkDefinition::decoder(&deep).expect("valid");
    let asked = Workload::of(&definition, &terms(256, 512)).expect("valid");
    assert!(asked.units().len() <= UNITS_MAX);
    let vnodes: usize = asked.units().iter().map(|unit| unit.vnodes.len()).sum();
    assert_eq!(vnodes, definition.nodes.len());
    assert!((asked.flops() / deep.training_flops_per_token() - 1.0).abs() < 1e-12);
}

/// A cluster of nodes with these parts of the memory that `asked` takes on one.
fn with_memory(asked: &Workload, parts: &[f64]) -> Vec<Node> {
    let nodes = parts.iter().enumerate().map(|(at, part)| Node {
        id: format!("node-{at:05}"),
        memory_bytes: (asked.alone_bytes() as f64 * part) as u64,
        flops: 1e10,
        upload: 1e7,
        download: 1e7,
        region: "home".to_owned(),
        tier: Tier::Bronze,
        price: 1.0,
        reliability: 0.9,
        holds_data: true,
    });
    nodes.collect()
}

fn planned(
    asked: &Workload,
    nodes: Vec<Node>,
    objective: &Objective,
) -> Result<zoo_placement::Plan, PlanError> {
    let cluster = Cluster::new(nodes, &Latency::default()).expect("valid");
    plan(&Problem { cluster: &cluster, workload: asked, objective })
}

#[test]
fn what_cannot_be_is_refused_with_what_it_takes() {
    let (_, asked) = workload("qwen3-10m", &terms(512, 1024));
    let objective = Objective::default();
    let refused = |parts: &[f64], objective: &Objective| {
        planned(&asked, with_memory(&asked, parts), objective).expect_err("a refusal").to_string()
    };
    let table = refused(&[0.1, 0.12, 0.11], &objective);
    assert!(table.starts_with("no node can host embedding and head: that takes "), "{table}");
    assert!(table.contains("(node-00001)\nhint: add a node with more memory"), "{table}");
    let all = refused(&[0.5, 0.3], &objective);
    assert!(all.contains("the 2 that may be used have") && all.contains("hint: add nodes"), "{all}");
    let tier = refused(&[2.0], &Objective { tier: Tier::Gold, ..objective });
    assert!(tier.contains("lower tier than is asked for"), "{tier}");
    let price = refused(&[2.0], &Objective { price: 1e6, ..objective });
    assert!(price.contains("worth less than it costs"), "{price}");
}

#[test]
fn every_node_is_explained() {
    let (_, asked) = workload("qwen3-10m", &terms(512, 1024));
    let mut nodes = with_memory(&asked, &[2.0, 0.9, 0.9, 0.01]);
    nodes[0].tier = Tier::Silver;
    let cluster = Cluster::new(nodes, &Latency::default()).expect("valid");
    let objective = Objective::default();
    let problem = Problem { cluster: &cluster, workload: &asked, objective: &objective };
    let found = plan(&problem).expect("possible");
    let said = explain(&problem, &found);
    for node in cluster.nodes() {
        assert!(said.iter().any(|it| it.about.contains(&node.id)), "{}: {said:?}", node.id);
    }
    let why = |node: usize| found.idle.iter().find(|idle| idle.node == node).map(|idle| idle.why);
    assert_eq!(why(3), Some(WhyIdle::Memory));
    let about =
        |id: &str| said.iter().filter(|it| it.about == id).map(|it| it.why.clone()).collect::<String>();
    assert!(about("node-00000").starts_with("a replica of its own: the whole network takes"), "{said:?}");
    assert!(about("node-00003").starts_with("left out: the smallest part"), "{said:?}");
    assert!(about("the plan").contains("short of the best"), "{said:?}");
    // The bottleneck of a pipeline is busy all the time.
    let pipeline = found.replicas.iter().find(|replica| replica.stages.len() > 1).expect("two go together");
    let busiest = pipeline
        .stages
        .iter()
        .map(|stage: &Stage| problem.times(stage))
        .fold(0.0f64, |most, times| most.max(times.0).max(times.1));
    assert!(
        (busiest / pipeline.period_s - 1.0).abs() < 1e-12
            || matches!(pipeline.bottleneck, zoo_placement::Bottleneck::Latency(_))
    );
}

#[test]
fn wrong_clusters_are_refused() {
    let (_, asked) = workload("qwen3-tiny", &terms(256, 512));
    let nodes = with_memory(&asked, &[1.0, 1.0]);
    type Change = fn(&mut Vec<Node>);
    let cases: [(Change, &str); 6] = [
        (|nodes| nodes.clear(), "nodes: 0 are not between 1 and"),
        (|nodes| nodes[1].id = nodes[0].id.clone(), "node-00000: two nodes have this name"),
        (|nodes| nodes[0].flops = 0.0, "node-00000: speed of 0 is not possible"),
        (|nodes| nodes[0].upload = f64::NAN, "node-00000: upload of NaN is not possible"),
        (|nodes| nodes[1].reliability = 1.5, "node-00001: a reliability of 1.5"),
        (|nodes| nodes[1].price = -1.0, "node-00001: a price of -1"),
    ];
    for (change, expected) in cases {
        let mut nodes = nodes.clone();
        change(&mut nodes);
        let error = Cluster::new(nodes, &Latency::default()).expect_err("a refusal").to_string();
        assert!(error.contains(expected) && error.contains("hint: "), "{error}");
    }
    let latency = Latency { between_s: 61.0, ..Latency::default() };
    assert!(Cluster::new(nodes, &latency).expect_err("a refusal").to_string().contains("latency: 61"));
}
