//! The rest: health, journal, metrics, network, description.

use serde_json::{Value, json};

use crate::client::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_looked_at_without_a_key_is_described_and_there() {
    let bench = Bench::start().await;
    let described = bench.get("/openapi.json").await.json();
    assert_eq!(described["openapi"], "3.1.0");
    for (path, methods) in described["paths"].as_object().unwrap() {
        if methods["get"].is_object() && !path.contains('{') && path != "/v1/events" {
            let answer = bench.get(path).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
    }
    assert_eq!(bench.get("/health").await.json()["status"], "ok");
    assert_eq!(
        bench.get("/v1/nodes").await.json(),
        json!({ "nodes": [], "next": null, "live": 0, "known": 0 })
    );
    assert_eq!(bench.get("/v1/checkpoints").await.json(), json!({ "checkpoints": [] }));
    let reference = bench.get("/reference").await;
    assert!(reference.header("content-type").unwrap().starts_with("text/html"));
    let page = String::from_utf8(reference.body.clone()).unwrap();
    assert!(!page.contains("http://") && !page.contains("https://"), "no request to another host");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_follow_the_jobs() {
    let bench = Bench::start().await;
    let figure = async |name: &str| -> f64 {
        let text = String::from_utf8(bench.get("/metrics").await.body).unwrap();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        lines.next().unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
    };
    assert_eq!((figure("zoo_job_running").await, figure("zoo_jobs_queued").await), (0.0, 0.0));
    bench.submit("one").await;
    bench.submit("two").await;
    assert_eq!((figure("zoo_job_running").await, figure("zoo_jobs_queued").await), (1.0, 1.0));
    assert!(figure("zoo_journal_events_total").await >= 2.0);
    for nothing in ["windows_verified_total", "windows_unverified_total", "convictions_total"] {
        assert_eq!(figure(&format!("zoo_{nothing}")).await, 0.0);
    }
    for nothing in ["windows_checked", "windows_in_doubt", "nodes_barred"] {
        assert_eq!(figure(&format!("zoo_{nothing}")).await, 0.0);
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_comes_as_what_its_digest_names() {
    let bench = Bench::start().await;
    bench.submit("one").await;
    let events = bench.ask("GET", "/v1/jobs", "", b"").await.json();
    let id = events["jobs"][0]["id"].as_str().unwrap();
    // The id names the description, which is no blob; what is one is found in the store's folder.
    bench.get(&format!("/v1/blobs/{id}")).await.is_problem(404, "not-found", "does not hold");
    let mut names = Vec::new();
    collect(&bench.folder.path().join("orchestrator/blobs"), &mut names);
    assert!(!names.is_empty());
    for name in names {
        let answer = bench.get(&format!("/v1/blobs/{name}")).await;
        assert_eq!((answer.status, zoo_content::Digest::of(&answer.body).to_string()), (200, name));
        assert!(answer.header("cache-control").unwrap().contains("immutable"));
    }
    bench.get("/v1/blobs/nonsense").await.is_problem(400, "invalid", "nonsense");
    bench.stop().await;
}

/// Names of files that are digests.
fn collect(folder: &std::path::Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, names);
        } else {
            let text =
                path.components().rev().take(2).map(|part| part.as_os_str().to_string_lossy().into_owned());
            let parts: Vec<String> = text.collect();
            for candidate in [parts[0].clone(), format!("{}{}", parts[1], parts[0])] {
                names.extend((candidate.len() == 64).then_some(candidate));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_interface_shows_nothing_without_a_key() {
    let bench = Bench::start_in(tempfile::tempdir().unwrap(), true).await;
    for path in ["/v1/jobs", "/v1/nodes", "/v1/events", "/v1/journal", "/metrics", "/v1/checkpoints"] {
        let answer = bench.get(path).await;
        answer.is_problem(401, "no-key", "this needs a key");
        assert!(answer.header("www-authenticate").is_some());
        if path != "/v1/events" {
            let with_key = format!("Authorization: Bearer {}\r\n", bench.submit_key);
            assert_eq!(bench.ask("GET", path, &with_key, b"").await.status, 200, "{path}");
        }
    }
    assert_eq!(bench.get("/health").await.status, 200, "whoever watches over processes has no key");
    let described: Value = bench.get("/openapi.json").await.json();
    assert!(described["paths"].is_object());
    bench.stop().await;
}
