//! `zoo plan`: described machines, plans, reasons, refusals; and whether what it foretells is what is measured.

mod common;

use common::Bench;
use serde_json::Value;

const NODES: &str = "\
nodes:
  ibex: {memory_mib: 2000, gflops: 100, upload_kib_per_s: 20000, region: eu, tier: silver, price: 1}
  lynx: {memory_mib: 700, gflops: 80, upload_kib_per_s: 20000, region: eu, price: 0.1}
  newt: {memory_mib: 700, tokens_per_s: 1000, upload_kib_per_s: 20000, region: us, count: 2}
  crab: {memory_mib: 4, gflops: 10, upload_kib_per_s: 20000, region: us}
latency: {between_ms: 40, pairs: {eu: {us: 45}}}
";

/// The shape of 100 million parameters, smaller: one node holds it, others do together.
const SHAPE: [&str; 5] = ["--preset", "llama-100m", "--set", "model.layers=4", "--nodes"];

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("nodes.yaml", NODES);
    bench
}

fn plan(bench: &Bench, more: &[&str]) -> Value {
    let arguments = [&["plan"], &SHAPE[..], &["nodes.yaml", "--json"], more].concat();
    bench.zoo(arguments).succeeds().last_event("plan")
}

#[test]
fn a_plan_hosts_every_vnode_once_a_replica_and_says_why() {
    let bench = bench();
    let plan = plan(&bench, &["--explain"]);
    let replicas = plan["replicas"].as_array().unwrap();
    for replica in replicas {
        let stages = replica["stages"].as_array().unwrap();
        let mut vnodes: Vec<&str> = stages
            .iter()
            .flat_map(|it| it["vnodes"].as_array().unwrap())
            .map(|it| it.as_str().unwrap())
            .collect();
        assert_eq!(vnodes.len(), 4 * 4 + 3, "{replica}");
        vnodes.sort_unstable();
        vnodes.dedup();
        assert_eq!(vnodes.len(), 4 * 4 + 3, "{replica}");
    }
    let value = plan["value"].as_f64().unwrap();
    assert!(value > 0.0 && value <= plan["value_max"].as_f64().unwrap(), "{plan}");
    let about: Vec<&str> =
        plan["why"].as_array().unwrap().iter().map(|it| it["about"].as_str().unwrap()).collect();
    assert!(about.contains(&"crab") && about.contains(&"the plan"), "{about:?}");
    let words = bench.zoo([&["plan"], &SHAPE[..], &["nodes.yaml", "--explain"]].concat()).succeeds().stdout;
    for part in
        ["network     19 VNodes", "replica", "held back by", "state is lost with", "why\n", "a chance of"]
    {
        assert!(words.contains(part), "{part} in {words}");
    }
}

#[test]
fn who_leaves_moves_only_its_own_state() {
    let bench = bench();
    let all = plan(&bench, &[]);
    let of = |id: &str| -> Vec<Value> {
        let replicas = all["replicas"].as_array().unwrap();
        let stages = replicas.iter().flat_map(|it| it["stages"].as_array().unwrap());
        stages
            .filter(|stage| stage["node"] == id)
            .flat_map(|it| it["vnodes"].as_array().unwrap().clone())
            .collect()
    };
    for gone in ["lynx", "newt-1", "newt-2"] {
        let had = of(gone);
        let after = plan(&bench, &["--without", gone]);
        let moves = after["moves"].as_array().unwrap();
        let moved = moves.iter().flat_map(|it| it["vnodes"].as_array().unwrap());
        for vnode in moved {
            assert!(had.contains(vnode), "{vnode} moved when {gone} left");
        }
    }
    let unknown = [&["plan"], &SHAPE[..], &["nodes.yaml", "--without", "puma"]].concat();
    bench.zoo(unknown).refuses("--without puma: no node is called that");
}

#[test]
fn objectives_change_plans() {
    let bench = bench();
    let uses = |plan: &Value, id: &str| plan["replicas"].to_string().contains(&format!("\"{id}\""));
    assert!(uses(&plan(&bench, &[]), "ibex"));
    let dear = plan(&bench, &["--objective", "price=100000", "--set", "training.recompute=true"]);
    assert!(!uses(&dear, "ibex"), "an hour of it has to bring 100000 tokens/s: {dear}");
    let silver = plan(&bench, &["--objective", "tier=silver"]);
    assert!(uses(&silver, "ibex") && !uses(&silver, "lynx"), "{silver}");
    let wrong = [&["plan"], &SHAPE[..], &["nodes.yaml", "--objective", "risk=2"]].concat();
    bench.zoo(wrong).refuses("objective: risk: 2 is not possible");
}

#[test]
fn what_cannot_be_planned_is_refused_with_the_place_and_a_hint() {
    let bench = bench();
    let cases = [
        ("nodes:\n  a: {memory_mib: 40, gflops: 1, upload_kib_per_s: 1}\n", "no node can host"),
        (
            "nodes:\n  a: {gflops: 1, upload_kib_per_s: 1}\n",
            "few.yaml:2: nodes.a: missing field `memory_mib`",
        ),
        ("nodes:\n  a: {memory_mib: 1, upload_kib_per_s: 1}\n", "few.yaml:2: nodes.a"),
        ("nodes:\n  a: {memory_mib: 1, gflops: 1, upload_kib_per_s: 0}\n", "a: upload of 0 is not possible"),
        ("nodes:\n  a: {memory_mib: 1, gflops: 1, upload_kib_per_s: 1, count: 0}\n", "nodes.a"),
        ("nodes:\n  a: {memory_mib: 1, gflop: 1}\n", "unknown field `gflop`"),
        ("machines: {}\n", "unknown field `machines`"),
        ("nodes: {}\n", "nodes: 0 are not between 1 and"),
    ];
    for (text, message) in cases {
        bench.write("few.yaml", text);
        let ran = bench.zoo([&["plan"], &SHAPE[..], &["few.yaml"]].concat());
        ran.refuses(message);
    }
    bench.zoo([&["plan"], &SHAPE[..], &["nowhere.yaml"]].concat()).refuses("cannot read nowhere.yaml");
}

#[test]
fn memory_is_within_5_percent_of_what_a_step_then_takes() {
    let bench = Bench::new();
    bench.write("nodes.yaml", "nodes:\n  here: {memory_mib: 100000, gflops: 100, upload_kib_per_s: 1000}\n");
    for (micro_batch, profile) in [("8", "f32-exact"), ("1", "f32-exact"), ("2", "bf16-exact")] {
        let micro = format!("training.micro_batch_sequences={micro_batch}");
        let rule = format!("training.profile={profile}");
        let arguments = [
            "plan",
            "--preset",
            "bench-m",
            "--set",
            &micro,
            "--set",
            &rule,
            "--nodes",
            "nodes.yaml",
            "--json",
        ];
        let plan = bench.zoo(arguments).succeeds().last_event("plan");
        assert_eq!(
            (&plan["recompute"], &plan["micro_batch_sequences"]),
            (&false.into(), &micro_batch.parse::<u64>().unwrap().into())
        );
        let foretold = plan["replicas"][0]["stages"][0]["memory_mib"].as_f64().unwrap();
        let arguments = [
            "bench",
            "step",
            "--config",
            "M",
            "--threads",
            "1",
            "--steps",
            "2",
            "--profile",
            profile,
            "--micro-batch",
            micro_batch,
            "--json",
        ];
        let report: Value = serde_json::from_str(&bench.zoo(arguments).succeeds().stdout).unwrap();
        let measured = report["peak_mib"].as_f64().unwrap();
        if measured == 0.0 {
            continue; // This system does not say.
        }
        let ratio = foretold / measured;
        assert!(
            (0.95..=1.05).contains(&ratio),
            "{micro_batch} {profile}: {foretold} MiB foretold, {measured} measured"
        );
    }
}
