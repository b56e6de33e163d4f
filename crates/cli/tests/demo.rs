//! `zoo demo` as people start it: real processes, real sockets, real crashes.
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::{Bench, text};
use serde_json::Value;
use zoo_content::{BlobStore, Digest, FileStore};
use zoo_model::{NetworkOptions, hugging_face};
use zoo_training::{Dataset, LocalJob, Share, TrainingSpec};

const KEYS: [&str; 12] = [
    "nodes",
    "rounds",
    "tokens",
    "seconds_to_first_round",
    "seconds_total",
    "bits_per_byte",
    "killed",
    "rejoined",
    "recheck_equal",
    "wire_bytes_per_node",
    "model_digest",
    "export_path",
];

const NONE: [u32; 0] = [];

/// A demo of the smallest model on a small text.
const SMALL: &str = "demo --json --data large.txt --preset qwen3-tiny --vocabulary 256 --sequences 2";

fn small_demo<'a>(more: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    SMALL.split(' ').chain(["--dir", "run", "--out", "model"]).chain(more.iter().copied())
}

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("large.txt", text(200_000));
    bench
}

/// The closing object of a demo that ended well.
#[track_caller]
fn closing(events: &[Value]) -> &Value {
    let closing = events.last().expect("a closing object");
    let keys: BTreeSet<&str> = closing.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, KEYS.into_iter().collect(), "{closing}");
    closing
}

fn read_folder(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_network_trains_loses_a_node_gets_it_back_and_can_be_checked() {
    let bench = bench();
    let arguments = ["--nodes", "3", "--rounds", "6", "--inner-steps", "300", "--evaluate-every", "2"];
    let events = bench.zoo(small_demo(&arguments)).succeeds().events();
    let closing = closing(&events);

    assert_eq!((&closing["nodes"], &closing["rounds"]), (&3.into(), &6.into()));
    for truth in ["killed", "rejoined", "recheck_equal"] {
        assert_eq!(closing[truth], true, "{truth}: {closing}");
    }
    let order =
        ["prepared", "round_started", "killed", "node_lost", "restarted", "node_rejoined", "rechecked"];
    let places = order.map(|name| events.iter().position(|event| event["event"] == name).expect(name));
    assert!(places.is_sorted(), "{order:?} at {places:?}");

    let bits: Vec<f64> =
        closing["bits_per_byte"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
    assert_eq!(bits.len(), 3);
    // How much is learned after the accident hangs on when it happened.
    assert!(bits[2] < bits[0], "{bits:?}");
    let first_round = closing["seconds_to_first_round"].as_f64().unwrap();
    assert!(first_round > 0.0 && first_round < closing["seconds_total"].as_f64().unwrap());
    assert!(closing["wire_bytes_per_node"].as_u64().unwrap() > 0);
    let tokens_of_round = 300 * 2 * 64;
    let tokens = closing["tokens"].as_u64().unwrap();
    // Missing are the killed window, the node while it was away, and perhaps a lead.
    let whole = 18 * tokens_of_round;
    assert!(tokens.is_multiple_of(64) && tokens < whole && tokens > whole / 2, "{tokens}");

    let model = bench.path(closing["export_path"].as_str().unwrap());
    let imported = hugging_face::import(&read_folder(&model), NetworkOptions::default()).unwrap();
    assert_eq!(imported.network.digest().to_string(), closing["model_digest"]);
    assert!(imported.tokenizer.is_some_and(|tokenizer| tokenizer.is_bytes()));
    assert!(!bench.path("run/network").exists(), "what the processes kept is removed");
    assert!(bench.path("run/orchestrator.log").exists());
    assert_eq!(processes_of(&bench), NONE, "all have stopped");
}

/// Issue 2, show 3: four processes and four shares in one process give one digest.
#[test]
fn four_nodes_undisturbed_train_to_the_bits_of_one_process() {
    let bench = bench();
    let (rounds, inner_steps, sequences) = (3, 20, 2u64);
    let arguments = ["--nodes", "4", "--rounds", "3", "--inner-steps", "20", "--no-kill", "--keep"];
    // Whom the lot makes verify has no window of its own.
    let arguments: Vec<&str> = arguments.into_iter().chain(["--verified-in-1000", "0"]).collect();
    let events = bench.zoo(small_demo(&arguments)).succeeds().events();
    let closing = closing(&events);
    assert_eq!((&closing["killed"], &closing["rejoined"]), (&false.into(), &false.into()));

    let spec = TrainingSpec::from_bytes(&fs::read(bench.path("model/training.json")).unwrap()).unwrap();
    let manifest: Value =
        serde_json::from_slice(&fs::read(bench.path("model/data_manifest.json")).unwrap()).unwrap();
    let name: Digest = manifest["training"]["digest"].as_str().unwrap().parse().unwrap();
    let store = FileStore::open(bench.path("run/network/orchestrator/blobs")).unwrap();
    let data = Dataset::decode(store.get(&name).unwrap()).unwrap();
    let mut job = LocalJob::new(&spec, &data, 4).unwrap();
    // Who got which share depends on how fast each was; the bits depend on the shares alone.
    let mut replicas: Vec<Value> = Vec::new();
    for started in events.iter().filter(|event| event["event"] == "round_started") {
        let mut shares = vec![None; 4];
        for part in started["shares"].as_array().unwrap() {
            let replica = replicas.iter().position(|known| *known == part[0]).unwrap_or(replicas.len());
            replicas.extend((replica == replicas.len()).then(|| part[0].clone()));
            shares[replica] = Some(serde_json::from_value::<Share>(part[1].clone()).unwrap());
        }
        let ahead_steps = started["ahead_steps"].as_u64().unwrap() as u32;
        job.round(&shares, ahead_steps, &mut |_, _| ControlFlow::Continue(())).unwrap();
    }
    let digest = job.checkpoint().network(&spec).unwrap().digest();
    assert_eq!(closing["model_digest"], digest.to_string());
    assert_eq!(closing["tokens"], rounds * 4 * inner_steps * sequences * 64);
}

#[test]
fn no_process_outlives_its_demo() {
    for signal in ["INT", "TERM", "KILL"] {
        let bench = bench();
        let mut demo = bench.spawn(small_demo(&["--nodes", "2", "--rounds", "100", "--inner-steps", "300"]));
        wait_for(&mut demo, "contribution_accepted");
        assert_eq!(processes_of(&bench).len(), 3, "an orchestrator and two nodes");

        let sent =
            Command::new("kill").args([&format!("-{signal}"), &demo.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let ended = demo.wait_with_output().unwrap();
        if signal != "KILL" {
            let stderr = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(130), "{signal}: {stderr}");
            assert!(
                stderr.contains("interrupted: every process of the demo is stopped"),
                "{signal}: {stderr}"
            );
            assert_eq!(processes_of(&bench), NONE, "{signal}");
        }
        let until = Instant::now() + Duration::from_secs(10);
        while !processes_of(&bench).is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(processes_of(&bench), NONE, "{signal}");
        assert!(!bench.path("model").exists());
    }
}

#[test]
fn what_cannot_work_is_refused_and_nothing_is_overwritten() {
    let bench = bench();
    let mine = bench.write("model/mine.txt", "mine");
    bench.zoo(small_demo(&[])).refuses("model exists already");
    let unwritable = SMALL.split(' ').chain(["--out", "large.txt/model"]);
    bench.zoo(unwritable).refuses("cannot create large.txt/model");
    assert_eq!(fs::read_to_string(mine).unwrap(), "mine");
    assert!(!bench.path("run").exists());

    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = port.local_addr().unwrap().port().to_string();
    let refused = |arguments: &str, message: &str| {
        bench.zoo(SMALL.split(' ').chain(arguments.split(' '))).refuses(message);
    };
    refused(&format!("--dir run --out other --port {taken}"), "is in use by another process");
    refused("--dir run --out other", "run exists already");
    let ran = bench.zoo("demo --dir run-2 --data nothing".split(' '));
    ran.refuses("nothing: no such file or folder");
    assert_eq!(processes_of(&bench), NONE);
    assert!(!bench.path("other").exists());
}

/// Reads the child's lines until this event; the rest stays in the pipe.
#[track_caller]
fn wait_for(child: &mut Child, event: &str) {
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended before {event}");
        if serde_json::from_str::<Value>(&line).is_ok_and(|line| line["event"] == event) {
            break;
        }
    }
    // Nobody reads on; a process does not stop for that.
}

/// Ids of the processes that `zoo demo` started in this folder.
fn processes_of(bench: &Bench) -> Vec<u32> {
    let folder = bench.path("").canonicalize().unwrap();
    let ids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |id: &u32| {
        let here = fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|path| path == folder);
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        here && String::from_utf8_lossy(&line).contains("--exit-with-stdin")
    };
    ids.filter(is_child).collect()
}
