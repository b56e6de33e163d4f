//! `zoo storage` and `zoo train --storage`: a run that is put comes back and goes on to the same bits.

mod common;

use std::fs;

use common::{Bench, Running, files_below};
use serde_json::Value;

fn named(events: &[Value], name: &str) -> Vec<Value> {
    events.iter().filter(|event| event["event"] == name).cloned().collect()
}

#[test]
fn a_run_comes_back_from_a_storage_and_goes_on_to_the_same_bits() {
    let bench = Bench::new();
    bench.train("run", &["--steps", "6"]).succeeds();
    for (url, out) in [("dir:backup", "from-folder"), ("car:run.car", "from-archive")] {
        let stored =
            bench.zoo(["storage", "put", "run", "--storage", url, "--json"]).succeeds().last_event("stored");
        assert_eq!((stored["step"].as_u64(), &stored["name"]), (Some(6), &"qwen3-tiny".into()));
        let snapshot = stored["snapshot"].as_str().unwrap();
        let listed = bench.zoo(["storage", "list", url, "--json"]).succeeds().last_event("snapshot");
        assert_eq!((&listed["snapshot"], &listed["bytes"]), (&stored["snapshot"], &stored["bytes"]));
        bench.zoo(["storage", "get", url, &snapshot[..8], "--out", out]).succeeds();
        for file in files_below(&bench.path(out)) {
            let path = file.strip_prefix(bench.path(out)).unwrap();
            assert_eq!(fs::read(&file).unwrap(), fs::read(bench.path("run").join(path)).unwrap(), "{path:?}");
        }
        bench.zoo(["storage", "get", url, "--out", out]).refuses("exists already");
    }
    let digest = |out: &str| {
        let resumed = bench.zoo(["train", "--resume", "--out", out, "--steps", "12", "--json"]).succeeds();
        resumed.last_event("done")["model_digest"].clone()
    };
    let whole = digest("run");
    assert_eq!((digest("from-folder"), digest("from-archive")), (whole.clone(), whole));
}

#[test]
fn every_checkpoint_is_stored_while_a_run_trains() {
    let bench = Bench::new();
    let more = ["--steps", "40", "--set", "checkpoint_every=10", "--storage", "dir:backup"];
    let events = bench.train("run", &more).succeeds().events();
    let (stored, done) = (named(&events, "stored"), &events[events.len() - 1]);
    let last = stored.last().unwrap();
    assert_eq!((&last["checkpoint"], last["step"].as_u64()), (&done["checkpoint"], Some(40)));
    assert!(named(&events, "not-stored").is_empty());

    // A resumed run remembers where; what is stored already is not sent again.
    let events = bench.zoo(["train", "--resume", "--out", "run", "--json"]).succeeds().events();
    let again = named(&events, "stored");
    assert_eq!((&again[0]["snapshot"], again[0]["sent_bytes"].as_u64()), (&last["snapshot"], Some(0)));
    bench.zoo(["storage", "get", "dir:backup", "--out", "again"]).succeeds();
    let resumed = bench.zoo(["train", "--resume", "--out", "again", "--json"]).succeeds().last_event("done");
    assert_eq!(resumed["model_digest"], done["model_digest"]);
}

#[test]
fn a_storage_that_fails_is_a_warning_and_the_run_goes_on() {
    let bench = Bench::new();
    let plain = bench.train("plain", &["--steps", "8"]).succeeds().last_event("done");
    // A file stands where the folder should be.
    bench.write("backup", "in the way");
    let ran = bench.train("run", &["--steps", "8", "--storage", "dir:backup"]).succeeds();
    let failed = named(&ran.events(), "not-stored");
    assert!(failed.iter().all(|event| event["error"].as_str().unwrap().contains("backup")), "{failed:?}");
    assert!(!failed.is_empty());
    assert_eq!(ran.last_event("done")["model_digest"], plain["model_digest"]);

    fs::remove_file(bench.path("backup")).unwrap();
    let events = bench.zoo(["train", "--resume", "--out", "run", "--json"]).succeeds().events();
    assert_eq!(named(&events, "stored").len(), 1, "tried again at the next start");
}

#[test]
fn a_models_folder_can_be_stored_too() {
    let bench = Bench::new();
    bench.train("run", &["--steps", "2"]).succeeds();
    bench.zoo(["storage", "put", "run/model", "--storage", "dir:backup"]).succeeds();
    bench.zoo(["storage", "get", "dir:backup", "--out", "model"]).succeeds();
    bench.zoo(["generate", "model", "a rose", "--tokens", "3"]).succeeds();
}

#[test]
fn what_cannot_be_stored_or_had_is_refused() {
    let bench = Bench::new();
    bench.train("run", &["--steps", "2"]).succeeds();
    bench.write("notes/todo.txt", "mine");
    bench
        .zoo(["storage", "put", "notes", "--storage", "dir:backup"])
        .refuses("notes: neither a run nor a model");
    bench.zoo(["storage", "list", "dir:nowhere"]).refuses("there is no storage in nowhere");
    bench.zoo(["storage", "list", "car:nowhere.car"]).refuses("there is no storage in nowhere.car");
    bench.zoo(["storage", "put", "run", "--storage", "dir:backup"]).succeeds();
    let digest = "0".repeat(64);
    bench
        .zoo(["storage", "get", "dir:backup", &digest, "--out", "x"])
        .refuses("dir:backup has no snapshot 000");
    bench
        .zoo(["storage", "get", "dir:backup", "zz", "--out", "x"])
        .refuses("zz: no snapshot here is called so");
    bench
        .train("other", &["--steps", "2", "--set", "checkpoint_storage=ftp:x"])
        .refuses("checkpoint_storage");
    bench
        .zoo(["submit", "--data", "notes", "--set", "checkpoint_storage=dir:backup"])
        .refuses("checkpoint.storage says which kind");
    let mut without_credentials = bench.command(["storage", "list", "s3://bucket"]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        without_credentials.env_remove(name);
    }
    common::Ran::from(without_credentials.output().unwrap())
        .refuses("there are no credentials for s3://bucket");
    assert!(!bench.path("x").exists() && !bench.path("other").exists());
}

/// A network of one node that keeps every checkpoint, and what it trained.
fn a_job_of_three_rounds(bench: &Bench, ticket: &str) -> String {
    let submit =
        ["submit", "--preset", "qwen3-tiny", "--data", "text.txt", "--steps", "12", "--network", ticket];
    let sizes = ["--set", "training.batch_sequences=4", "--set", "rounds.inner_steps=4", "--json"];
    let submitted = bench.zoo([&submit[..], &sizes].concat()).succeeds().last_event("submitted");
    submitted["job"].as_str().unwrap().to_owned()
}

/// Reads on until the checkpoint after the last round is stored.
fn all_stored(node: &mut Running) -> Vec<Value> {
    let mut stored = Vec::new();
    while stored.last().is_none_or(|last: &Value| last["round"] != 2) {
        stored.push(node.event("stored"));
    }
    stored
}

#[test]
fn a_networks_model_comes_back_from_a_storage_after_every_node_is_gone() {
    let bench = Bench::new();
    let (up, ticket) = Running::orchestrator(&bench);
    let nodes = ["ibex", "lynx"].map(|name| {
        let join = ["join", &ticket, "--dir", name, "--name", name, "--threads", "1", "--json"];
        Running::start(&bench, &[&join[..], &["--storage", "dir:backup"]].concat())
    });
    // Else the first could train all of it, and be gone with it, before the second comes.
    let nodes = nodes.map(|mut node| {
        node.event("connected");
        node
    });
    let job = a_job_of_three_rounds(&bench, &ticket);
    let stored: Vec<Vec<Value>> = nodes
        .into_iter()
        .map(|mut node| {
            let stored = all_stored(&mut node);
            node.interrupt("left");
            stored
        })
        .collect();
    let [last, other] = [&stored[0], &stored[1]].map(|stored| stored.last().unwrap());
    assert_eq!((&last["job"], &last["snapshot"]), (&Value::from(job.clone()), &other["snapshot"]));
    let listed = bench.zoo(["storage", "list", "dir:backup", "--json"]).succeeds().last_event("snapshot");
    assert_eq!((&listed["snapshot"], listed["step"].as_u64()), (&last["snapshot"], Some(12)));
    // The orchestrator is there, and nobody who holds the checkpoint; then nobody is.
    let fetch = |out: &str| {
        let fetch =
            ["fetch", &job[..8], "--network", &ticket, "--storage", "dir:backup", "--out", out, "--json"];
        bench.zoo(fetch).succeeds().last_event("fetched")
    };
    let orphaned = fetch("orphaned");
    up.interrupt("stopped");
    fs::remove_dir_all(bench.path("orchestrator")).unwrap();
    ["ibex", "lynx"].iter().for_each(|node| fs::remove_dir_all(bench.path(node)).unwrap());
    let alone = fetch("alone");
    assert_eq!((&alone["checkpoint"], &alone["step"]), (&last["checkpoint"], &Value::from(12)));
    assert_eq!(alone["model_digest"], orphaned["model_digest"]);
    let weights = |folder: &str| fs::read(bench.path(folder).join("model.safetensors")).unwrap();
    assert_eq!(weights("alone"), weights("orphaned"));
    bench.zoo(["generate", "alone", "the", "--tokens", "4", "--greedy"]).succeeds();
    let beside = fs::read_dir(bench.path(".")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(
        !beside.into_iter().any(|name| name.to_string_lossy().starts_with("alone.")),
        "nothing is left over"
    );

    let none = ["fetch", "ffffffff", "--network", &ticket, "--storage", "dir:backup", "--out", "none"];
    bench.zoo(none).refuses("is no checkpoint of that job");
    bench
        .zoo(["fetch", &job[..8], "--network", &ticket, "--out", "none"])
        .refuses("cannot reach the orchestrator");
}

#[test]
fn a_storage_that_fails_is_tried_again_and_the_network_trains_on() {
    let bench = Bench::new();
    // A file stands where the folder should be.
    bench.write("backup", "in the way");
    let (up, ticket) = Running::orchestrator(&bench);
    let join = ["join", &ticket, "--dir", "ibex", "--threads", "1", "--storage", "dir:backup", "--json"];
    let mut node = Running::start(&bench, &join);
    let mut top = Running::start(&bench, &["top", "--network", &ticket, "--json"]);
    a_job_of_three_rounds(&bench, &ticket);
    let failed = node.event("not-stored");
    assert!(failed["error"].as_str().unwrap().contains("backup"), "{failed}");
    assert!(failed["retry_in_ms"].as_u64() > Some(0), "{failed}");
    top.event("job_finished");
    fs::remove_file(bench.path("backup")).unwrap();
    all_stored(&mut node);
    node.interrupt("left");
    top.interrupt_quietly();
    up.interrupt("stopped");
}
