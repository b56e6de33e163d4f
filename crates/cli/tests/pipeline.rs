//! `zoo pipeline`: one replica of several processes, of which some are killed.

mod common;

use std::fs;

use common::{Bench, Running};
use serde_json::Value;

const STEPS: &str = "6";
const STAGES: &str = "3";

fn run(bench: &Bench, nodes: &str, more: &[&str]) -> (Running, String) {
    let fixed = ["pipeline", "run", "--preset", "qwen3-tiny", "--set", "model.tied_embeddings=false"];
    let sizes = ["--set", "training.batch_sequences=4", "--data", "text.txt", "--profile", "f32-exact"];
    let how = ["--stages", STAGES, "--nodes", nodes, "--checkpoint-steps", "1", "--json"];
    let arguments = [&fixed[..], &sizes, &how, &["--steps", STEPS], more].concat();
    let mut run = Running::start_logging(bench, &arguments, "run.log");
    let ticket = run.event("listening")["ticket"].as_str().unwrap().to_owned();
    (run, ticket)
}

fn join(bench: &Bench, ticket: &str, name: &str) -> Running {
    Running::start(bench, &["pipeline", "join", ticket, "--threads", "1", "--name", name, "--json"])
}

fn finished(mut run: Running) -> Value {
    let end = run.event("finished");
    assert!(run.child.wait().unwrap().success());
    end
}

fn digest(end: &Value) -> &str {
    end["digest"].as_str().unwrap()
}

#[test]
fn parameters_are_the_same_on_one_node_and_on_several_and_when_one_is_killed_on_the_way() {
    let bench = Bench::new();
    let whole = {
        let (run, ticket) = run(&bench, "1", &["--out", "model"]);
        let mut node = join(&bench, &ticket, "ibex");
        let end = finished(run);
        assert!(node.child.wait().unwrap().success(), "a node leaves when the run is over");
        end
    };
    assert!(whole["loss"].as_f64().unwrap() > 0.0 && whole["nodes"]["ibex"]["sent_bytes"] == 0, "{whole}");
    bench.zoo(["generate", "model", "a rose", "--tokens", "2"]).succeeds();

    let several = {
        let (run, ticket) = run(&bench, "2", &[]);
        let _nodes = ["ibex", "lynx"].map(|name| join(&bench, &ticket, name));
        finished(run)
    };
    assert_eq!(digest(&several), digest(&whole));
    assert!(several["bytes_per_token"].as_f64().unwrap() > 0.0, "{several}");

    let killed = {
        // Slow enough to be in the middle of it when it happens.
        let (mut run, ticket) = run(&bench, "3", &["--latency", "100", "--patience", "300"]);
        let mut nodes = ["ibex", "lynx", "newt"].map(|name| join(&bench, &ticket, name));
        run.event("step");
        nodes[1].child.kill().unwrap();
        let gone = run.event("gone");
        assert_eq!((&gone["name"], gone["stages"].as_array().unwrap().len()), (&"lynx".into(), 1), "{gone}");
        let _fresh = join(&bench, &ticket, "puma");
        let placed = run.event("placed");
        assert_eq!((&placed["name"], &placed["stage"]), (&"puma".into(), &gone["stages"][0]), "{placed}");
        finished(run)
    };
    assert_eq!(digest(&killed), digest(&whole));
}

#[test]
fn a_stage_whose_node_is_not_replaced_goes_to_another() {
    let bench = Bench::new();
    let whole = {
        let (run, ticket) = run(&bench, "1", &[]);
        let _node = join(&bench, &ticket, "ibex");
        finished(run)
    };
    let (mut run, ticket) = run(&bench, "2", &["--latency", "100", "--patience", "1"]);
    let mut nodes = ["ibex", "lynx"].map(|name| join(&bench, &ticket, name));
    run.event("step");
    nodes[0].child.kill().unwrap();
    run.event("gone");
    assert_eq!(digest(&finished(run)), digest(&whole));
}

#[test]
fn what_cannot_be_is_refused_with_a_hint() {
    let bench = Bench::new();
    let start = |more: &[&str]| {
        let fixed = [
            "pipeline",
            "run",
            "--preset",
            "qwen3-tiny",
            "--data",
            "text.txt",
            "--nodes",
            "1",
            "--steps",
            "1",
        ];
        bench.zoo([&fixed[..], more, &["--json"]].concat())
    };
    let untied = ["--set", "model.tied_embeddings=false"];
    start(&[&untied[..], &["--stages", "200"]].concat()).refuses("can be cut into");
    start(&[&untied[..], &["--stages", "2", "--micro-batches", "7"]].concat()).refuses("--micro-batches 7");
    start(&["--set", "model.tied_embeddings=true", "--stages", "2"]).refuses("borrows its table");
    start(&[&untied[..], &["--stages", "2", "--anneal", "7"]].concat()).refuses("--anneal is for");
    let missing = start(&["--network", "nowhere.yaml", "--stages", "2"]);
    assert!(missing.code == Some(1) && missing.stderr.contains("cannot read nowhere.yaml"), "{missing:?}");
    let (mut refused, ticket) = run(&bench, "1", &[]);
    let mut small = bench.spawn(["pipeline", "join", &ticket, "--max-memory", "1"]);
    assert!(!refused.child.wait().unwrap().success());
    let said = fs::read_to_string(bench.path("run.log")).unwrap();
    assert!(said.contains("may take 1 MiB") && said.contains("hint:"), "{said}");
    assert!(!small.wait().unwrap().success(), "and the node sees that the run is gone");
    // A run that is killed says nothing more.
    let (mut killed, ticket) = run(&bench, "2", &[]);
    let node = bench.spawn(["pipeline", "join", &ticket, "--json"]);
    killed.event("joined");
    killed.child.kill().unwrap();
    common::Ran::from(node.wait_with_output().unwrap()).refuses("the run is gone");
    bench.zoo(["pipeline", "join", &ticket]).refuses("unreachable");
    assert_eq!(bench.zoo(["pipeline", "join", "zoo1nonsense"]).code, Some(2));
}
