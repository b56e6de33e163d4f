//! `zoo storage` and `zoo train --storage`: a run that is put comes back and goes on to the same bits.

mod common;

use std::fs;

use common::{Bench, files_below};
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
    let mut without_credentials = bench.command(["storage", "list", "s3://bucket"]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        without_credentials.env_remove(name);
    }
    common::Ran::from(without_credentials.output().unwrap())
        .refuses("there are no credentials for s3://bucket");
    assert!(!bench.path("x").exists() && !bench.path("other").exists());
}
