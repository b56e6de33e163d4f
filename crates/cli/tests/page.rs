//! The page of a node, and its owner's pauses: real processes, real sockets.
#![cfg(unix)]

mod common;

use std::net::TcpListener;
use std::thread::sleep;
use std::time::Duration;

use common::{Bench, Running, ask, get, wait};
use serde_json::{Value, json};

const NODE: &str = "/v1/node";
const PAUSE: &str = "/v1/node/pause";
/// What the page sends with what changes something.
const OWN: &str = "X-Zoo-Page: 1\r\n";

/// A node with a page, and where that is.
fn join(bench: &Bench, ticket: &str, directory: &str, more: &[&str]) -> (Running, String) {
    let fixed = ["join", ticket, "--dir", directory, "--threads", "1", "--json"];
    let mut node = Running::start(bench, &[&fixed[..], more].concat());
    let url = node.event("page")["url"].as_str().unwrap().to_owned();
    (node, url)
}

/// A job of many short rounds.
fn submit(bench: &Bench, ticket: &str, more: &[&str]) {
    let job =
        ["submit", "--preset", "qwen3-tiny", "--data", "text.txt", "--steps", "4000", "--network", ticket];
    let settings = ["--set", "training.batch_sequences=4", "--set", "rounds.inner_steps=20", "--json"];
    bench.zoo([&job[..], &settings, more].concat()).succeeds();
}

#[test]
fn the_page_shows_what_a_node_does_to_its_own_machine_alone() {
    let bench = Bench::new();
    let (_up, ticket) = Running::orchestrator(&bench);
    let name = "<script>alert(1)</script>";
    let limits = ["--name", name, "--max-upload", "512", "--max-memory", "2000", "--page", "127.0.0.1:0"];
    let (node, url) = join(&bench, &ticket, "node", &limits);
    submit(&bench, &ticket, &[]);
    let shown = wait(&url, NODE, |node| {
        let accepted = |what: &str| node[what]["accepted"].as_u64() > Some(1);
        let received = node["traffic"]["received_bytes"].as_u64() > Some(0);
        accepted("contributions") && accepted("checkpoints") && received
    });
    assert_eq!((&shown["node"]["name"], &shown["connected"]), (&json!(name), &json!(true)));
    let expected =
        json!({ "threads": 1, "max_memory_mib": 2000, "max_upload_kib_per_s": 512, "hours": null });
    assert_eq!(shown["node"]["limits"], expected);
    let done = |what: &str| shown["done"][what].as_u64().unwrap();
    assert_eq!(done("steps"), 20 * done("windows"));
    assert!(done("tokens") > 0 && done("aggregations") >= 2 && done("failures") == 0, "{shown}");
    let accepted = |round: &&Value| round["contribution"] == "accepted" && round["checkpoint"] == "accepted";
    assert!(shown["rounds"].as_array().unwrap().iter().filter(accepted).count() >= 2, "{shown}");

    // The page is the same whatever the node is called: its name arrives as JSON, and is set as text.
    let (status, page) = ask(&url, "GET", "/", "", b"");
    let page = String::from_utf8(page).unwrap();
    assert!(status == 200 && page.contains("/page.js") && !page.contains("alert(1)"));
    for file in ["/page.js", "/page.css"] {
        assert_eq!(ask(&url, "GET", file, "", b"").0, 200, "{file}");
    }
    assert_eq!(ask(&url, "GET", "/../node/key", "", b"").0, 404);

    // A page of another site whose name points here, or that sends what browsers let it send.
    let foreign = "Host: rebound.example.org\r\n";
    for (method, path, headers) in [
        ("GET", NODE, foreign),
        ("GET", "/", foreign),
        ("POST", PAUSE, &format!("{foreign}{OWN}")),
        ("POST", PAUSE, ""),
        ("POST", PAUSE, "Content-Type: text/plain\r\nOrigin: http://example.org\r\n"),
        ("POST", PAUSE, &format!("Origin: http://example.org\r\n{OWN}")),
        ("POST", PAUSE, &format!("Origin: null\r\n{OWN}")),
        ("POST", PAUSE, &format!("Sec-Fetch-Site: cross-site\r\n{OWN}")),
    ] {
        let (status, answer) = ask(&url, method, path, headers, b"");
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            status == 403 && answer.contains("\"hint\""),
            "{method} {path} {headers:?}: {status} {answer}"
        );
    }
    assert_eq!(
        ask(&url, "OPTIONS", PAUSE, "Origin: http://example.org\r\n", b"").0,
        403,
        "no permission to try"
    );
    assert_eq!(ask(&url, "GET", PAUSE, "", b"").0, 405);
    assert_eq!(get(&url, NODE)["paused"], json!(false));
    node.interrupt("left");
}

#[test]
fn the_page_says_what_others_made_of_the_nodes_windows() {
    let bench = Bench::new();
    let (_up, ticket) = Running::orchestrator(&bench);
    let (_node, url) = join(&bench, &ticket, "node", &["--page", "127.0.0.1:0"]);
    let others = ["b", "c"].map(|directory| {
        Running::start(
            &bench,
            &["join", &ticket, "--dir", directory, "--threads", "1", "--json", "--no-page"],
        )
    });
    submit(&bench, &ticket, &["--set", "rounds.verified_in_1000=1000"]);
    let shown = wait(&url, NODE, |node| node["standing"]["account"]["verified"].as_u64() > Some(1));
    let standing = &shown["standing"];
    let account = |what: &str| standing["account"][what].as_u64().unwrap();
    assert!(account("rounds") > account("verified") && account("tokens") > 0, "{standing}");
    assert_eq!((account("convictions"), account("faults")), (0, 0), "{standing}");
    assert_eq!(standing["barred_through"], Value::Null);
    drop(others);
}

#[test]
fn a_paused_node_finishes_its_round_rests_and_contributes_again() {
    let bench = Bench::new();
    let (_up, ticket) = Running::orchestrator(&bench);
    let (mut node, url) = join(&bench, &ticket, "node", &["--page", "127.0.0.1:0"]);
    submit(&bench, &ticket, &[]);
    node.event("started");

    let own_origin = format!("{OWN}Origin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n");
    let (status, answer) = ask(&url, "POST", PAUSE, &own_origin, b"");
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_slice::<Value>(&answer).unwrap()["paused"], json!(true));
    let until_rest = node.until("resting");
    assert_eq!(until_rest.last().unwrap()["cause"], "paused");
    let position = |name: &str| until_rest.iter().rposition(|event| event["event"] == name);
    let (trained, aggregated) = (position("trained").expect("a window"), position("aggregated"));
    assert!(aggregated > Some(trained), "nothing that was computed is lost: {until_rest:?}");
    let rested = wait(&url, NODE, |node| node["state"] == "paused");
    let status = || bench.zoo(["status", "--network", &ticket, "--json"]).succeeds().events().remove(0);
    assert_eq!(rested["connected"], json!(false), "it is not there");
    let said = std::time::Instant::now();
    while status()["live"] != json!(0) {
        assert!(said.elapsed() < Duration::from_secs(20), "the network does not hear that it rests");
    }

    bench.zoo(["resume", "--dir", "node"]).succeeds();
    node.event("connected");
    node.event("trained");
    let windows = |node: &Value| node["done"]["windows"].as_u64();
    wait(&url, NODE, |now| {
        windows(now) > windows(&rested) && now["contributions"]["accepted"].as_u64() > Some(1)
    });

    // The owner's word outlives the process: also one that is killed.
    let said = bench.zoo(["pause", "--dir", "node"]).succeeds().stdout;
    assert!(said.contains("finishes its round, then rests"), "{said}");
    node.event("resting");
    drop(node);
    bench.zoo(["pause", "--dir", "node"]).refuses("no node runs in node");
    let (mut again, url) = join(&bench, &ticket, "node", &["--page", "127.0.0.1:0"]);
    again.event("resting");
    assert_eq!(get(&url, NODE)["state"], "paused");
    let (status, _) = ask(&url, "POST", "/v1/node/resume", OWN, b"");
    assert_eq!(status, 200);
    again.event("trained");
    bench.zoo(["resume", "--dir", "node"]).refuses("no node is paused in node");

    // A change of mind, whenever it comes, ends nothing.
    for wait_ms in (0..800).step_by(100) {
        for (path, wait_ms) in [(PAUSE, wait_ms), ("/v1/node/resume", 400)] {
            assert_eq!(ask(&url, "POST", path, OWN, b"").0, 200);
            sleep(Duration::from_millis(wait_ms));
        }
    }
    let before = get(&url, NODE);
    wait(&url, NODE, |now| windows(now) > windows(&before) && now["connected"] == true);
    bench.zoo(["leave", "--dir", "node"]).succeeds();
    again.event("left");
}

#[test]
fn a_page_that_cannot_be_is_refused_and_one_that_nobody_asked_for_finds_a_port() {
    let bench = Bench::new();
    let (_up, ticket) = Running::orchestrator(&bench);
    let refused = |address: &str, message: &str| {
        bench.zoo(["join", &ticket, "--dir", "node", "--page", address]).refuses(message);
    };
    refused("0.0.0.0:0", "other machines could reach 0.0.0.0:0");
    refused("[::]:4090", "other machines could reach [::]:4090");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    refused(&taken.local_addr().unwrap().to_string(), "cannot listen for HTTP on");

    // Of two nodes at most one has the usual port.
    let nodes = ["ibex", "lynx"].map(|directory| join(&bench, &ticket, directory, &[]));
    let urls = nodes.each_ref().map(|(_, url)| url.clone());
    assert_ne!(urls[0], urls[1]);
    urls.iter().for_each(|url| assert_eq!(get(url, NODE)["paused"], json!(false)));
    let mut without = ["join", &ticket, "--dir", "puma", "--no-page", "--json"].to_vec();
    let first = Running::start(&bench, &without).until("ready");
    assert_eq!(first.len(), 1, "no page: {first:?}");
    without.extend(["--page", "127.0.0.1:0"]);
    assert_eq!(bench.zoo(without).code, Some(2), "one or the other");
}
