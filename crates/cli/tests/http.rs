//! A network over HTTP: real processes, from an uploaded text to the files of a model.
#![cfg(unix)]

mod common;

use common::{Bench, Running, ask, get, text, wait};
use serde_json::{Value, json};

#[test]
fn a_job_goes_over_http_from_a_text_to_the_same_model_that_fetch_writes() {
    let bench = Bench::new();
    let up = ["up", "--dir", "orchestrator", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json"];
    let mut up = Running::start(&bench, &up);
    let listening = up.event("listening");
    let (ticket, url) = (listening["ticket"].as_str().unwrap(), listening["http"].as_str().unwrap());
    let key = bench.zoo(["keys", "create", "test", "--scope", "manage", "--dir", "orchestrator"]).succeeds();
    let key = format!("Authorization: Bearer {}\r\n", key.stdout.trim());

    let (status, body) = ask(url, "POST", "/v1/texts", &key, text(60_000).as_bytes());
    assert_eq!(status, 201);
    let data = serde_json::from_slice::<Value>(&body).unwrap()["data"].clone();
    let job = json!({
        "preset": "qwen3-tiny", "data": data, "run": "over http", "steps": 12, "evaluate_every": 4,
        "training": { "batch_sequences": 4 }, "rounds": { "inner_steps": 4 },
    });
    let headers = format!("{key}Content-Type: application/json\r\n");
    let (status, body) = ask(url, "POST", "/v1/jobs", &headers, job.to_string().as_bytes());
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    let id = serde_json::from_slice::<Value>(&body).unwrap()["id"].as_str().unwrap().to_owned();

    let _nodes = ["ibex", "lynx"].map(|name| {
        let arguments = ["join", ticket, "--dir", name, "--name", name, "--threads", "1", "--json"];
        Running::start(&bench, &arguments)
    });
    let path = format!("/v1/jobs/{id}");
    let done = wait(url, &path, |job| job["state"] != "running" && job["state"] != "queued");
    assert_eq!(
        (&done["state"], &done["steps"], &done["rounds"]),
        (&json!("finished"), &json!(12), &json!(3))
    );
    let rounds = get(url, &format!("{path}/rounds?contributions=true"));
    let rounds = rounds["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 3);
    for round in rounds {
        assert_eq!(
            round["contributions"].as_array().unwrap().len(),
            round["contributed"].as_u64().unwrap() as usize
        );
        assert!(
            round["bits_per_byte"].as_f64().unwrap() > 0.0 && round["loss"].as_f64().unwrap() > 0.0,
            "{round}"
        );
    }
    let nodes = get(url, "/v1/nodes");
    let tokens: u64 =
        nodes["nodes"].as_array().unwrap().iter().map(|node| node["tokens"].as_u64().unwrap()).sum();
    assert_eq!((&nodes["live"], tokens), (&json!(2), done["tokens"].as_u64().unwrap()));

    bench.zoo(["fetch", "--network", ticket, "--out", "fetched"]).succeeds();
    let model = get(url, &format!("{path}/model"));
    assert_eq!(model["checkpoint"], done["checkpoint"]);
    for file in model["files"].as_array().unwrap() {
        let name = file["name"].as_str().unwrap();
        let (status, bytes) = ask(url, "GET", &format!("{path}/model/{name}"), "", b"");
        assert_eq!((status, bytes.len() as u64), (200, file["bytes"].as_u64().unwrap()), "{name}");
        assert_eq!(bytes, std::fs::read(bench.path("fetched").join(name)).unwrap(), "{name}");
    }

    // Of the checkpoints before it those that are kept can be had by name, and nobody else's.
    let kept = get(url, "/v1/checkpoints")["checkpoints"].as_array().unwrap().clone();
    for digest in kept.iter().map(|kept| kept["digest"].as_str().unwrap()) {
        let model = get(url, &format!("{path}/model?checkpoint={digest}"));
        assert_eq!(model["checkpoint"], digest);
        let (status, config) =
            ask(url, "GET", &format!("{path}/model/config.json?checkpoint={digest}"), "", b"");
        assert_eq!((status, config.first()), (200, Some(&b'{')));
    }
    let (status, _) = ask(url, "GET", &format!("{path}/model?checkpoint={}", "0".repeat(64)), "", b"");
    assert_eq!(status, 404);
    let history = get(url, &format!("{path}/history?limit=1000"));
    assert_eq!(history["events"].as_array().unwrap().last().unwrap()["event"], "job_finished");

    // A watcher who comes late hears everything, and the stream of a job that is over ends.
    let (status, events) = ask(url, "GET", &format!("{path}/events"), "", b"");
    let events = String::from_utf8(events).unwrap();
    assert_eq!(status, 200);
    assert_eq!(events.matches("event: round_finished").count(), 3);
    assert!(events.trim_end().ends_with('}') && events.contains("event: job_finished"));
    up.interrupt("stopped");
}
