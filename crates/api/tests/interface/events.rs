//! Watching.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Bench, PATIENCE};

/// A watcher that reads events one by one.
struct Watcher {
    stream: TcpStream,
    read: String,
}

impl Watcher {
    async fn start(bench: &Bench, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { stream, read: String::new() }
    }

    /// Number and kind of the next event; none when the stream has ended.
    async fn next(&mut self) -> Option<(u64, String)> {
        loop {
            if let Some(end) = self.read.find("\n\n") {
                let event: String = self.read.drain(..end + 2).collect();
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
                if let (Some(id), Some(kind)) = (field("id:"), field("event:")) {
                    let data: serde_json::Value = serde_json::from_str(field("data:").unwrap()).unwrap();
                    assert_eq!(data["event"], kind);
                    return Some((id.parse().unwrap(), kind.to_owned()));
                }
                continue;
            }
            let mut bytes = [0; 4096];
            match timeout(PATIENCE, self.stream.read(&mut bytes)).await.expect("in time").unwrap() {
                0 => return None,
                read => self.read += &String::from_utf8_lossy(&bytes[..read]),
            }
            if self.read.ends_with("0\r\n\r\n") {
                let rest = self.read.find("\n\n");
                rest?;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_loses_its_connection_misses_nothing() {
    let bench = Bench::start().await;
    let first = bench.submit("first").await.json()["id"].as_str().unwrap().to_owned();
    let mut whole = Watcher::start(&bench, "/v1/events", "").await;
    let (at, kind) = whole.next().await.unwrap();
    assert_eq!((at, kind.as_str()), (0, "network_named"));

    // One is cut after every event and comes back with the number of the last.
    let mut seen = Vec::new();
    let mut last = String::new();
    let steer = async |what: &str| {
        bench.post(&format!("/v1/jobs/{first}/{what}"), &bench.manage_key, b"").await.status
    };
    for what in ["pause", "resume", "pause", "resume", "cancel"] {
        assert_eq!(steer(what).await, 200);
        let mut cut = Watcher::start(&bench, "/v1/events", &last).await;
        let (at, kind) = cut.next().await.unwrap();
        last = format!("Last-Event-ID: {at}\r\n");
        seen.push((at, kind));
    }
    let mut resumed = Watcher::start(&bench, "/v1/events", &last).await;
    while seen.last().is_none_or(|(_, kind)| kind != "job_stopped") {
        seen.push(resumed.next().await.unwrap());
    }
    let mut all = vec![(0, "network_named".to_owned())];
    while all.last().is_none_or(|(_, kind)| kind != "job_stopped") {
        all.push(whole.next().await.unwrap());
    }
    assert_eq!(seen, all);
    assert!(all.iter().map(|(at, _)| *at).eq(0..all.len() as u64), "{all:?}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_of_one_job_hears_of_that_one_until_it_is_over() {
    let bench = Bench::start().await;
    let first = bench.submit("first").await.json()["id"].as_str().unwrap().to_owned();
    let second = bench.submit("second").await.json()["id"].as_str().unwrap().to_owned();
    let mut watcher = Watcher::start(&bench, &format!("/v1/jobs/{second}/events"), "").await;
    assert_eq!(watcher.next().await.unwrap().1, "job_accepted");
    bench.post(&format!("/v1/jobs/{first}/cancel"), &bench.manage_key, b"").await;
    bench.post(&format!("/v1/jobs/{second}/cancel"), &bench.manage_key, b"").await;
    let mut kinds = Vec::new();
    while let Some((_, kind)) = watcher.next().await {
        kinds.push(kind);
    }
    assert_eq!(kinds, ["round_waiting", "job_stopped"], "and then the stream ends");
    let after = Watcher::start(&bench, &format!("/v1/jobs/{second}/events"), "Last-Event-ID: 1000\r\n")
        .await
        .next()
        .await;
    assert_eq!(after, None, "nothing comes after the end, and nobody waits for it");

    let missing = "0".repeat(64);
    bench.get(&format!("/v1/jobs/{missing}/events")).await.is_problem(404, "not-found", "there is no job");
    let wrong = bench.ask("GET", "/v1/events", "Last-Event-ID: x\r\n", b"").await;
    wrong.is_problem(400, "invalid", "Last-Event-ID");
    bench.get("/v1/events?from=-1").await.is_problem(400, "invalid", "from");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_of_some_kinds_hears_of_those_alone_under_the_numbers_of_all() {
    let bench = Bench::start().await;
    let first = bench.submit("first").await.json()["id"].as_str().unwrap().to_owned();
    let mut watcher = Watcher::start(&bench, "/v1/events?kinds=job_paused,job_stopped", "").await;
    for what in ["pause", "resume", "pause", "cancel"] {
        assert_eq!(bench.post(&format!("/v1/jobs/{first}/{what}"), &bench.manage_key, b"").await.status, 200);
    }
    let mut all = Watcher::start(&bench, "/v1/events", "").await;
    let mut expected = Vec::new();
    while expected.last().is_none_or(|(_, kind)| kind != "job_stopped") {
        expected.extend(all.next().await.filter(|(_, kind)| kind == "job_paused" || kind == "job_stopped"));
    }
    assert_eq!(expected.len(), 3, "{expected:?}");
    for event in &expected {
        assert_eq!(watcher.next().await.as_ref(), Some(event));
    }
    // Who is cut comes back with the last number that it heard, and misses none of them.
    let last = format!("Last-Event-ID: {}\r\n", expected[0].0);
    let mut resumed = Watcher::start(&bench, "/v1/events?kinds=job_stopped%2Cjob_paused", &last).await;
    assert_eq!(resumed.next().await.as_ref(), Some(&expected[1]));
    bench.get("/v1/events?kinds=job_pawsed").await.is_problem(400, "invalid", "job_pawsed");
    bench.get("/v1/events?kinds=").await.is_problem(400, "invalid", "no kind of event");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_do_not_keep_an_orchestrator_from_stopping() {
    let bench = Bench::start().await;
    let mut watcher = Watcher::start(&bench, "/v1/events", "").await;
    bench.submit("first").await;
    watcher.next().await.unwrap();
    timeout(PATIENCE, bench.stop()).await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_a_jobs_events_are_what_its_watchers_hear() {
    let bench = Bench::start().await;
    let first = bench.submit("first").await.json()["id"].as_str().unwrap().to_owned();
    let second = bench.submit("second").await.json()["id"].as_str().unwrap().to_owned();
    for what in ["pause", "resume", "cancel"] {
        assert_eq!(bench.post(&format!("/v1/jobs/{first}/{what}"), &bench.manage_key, b"").await.status, 200);
    }
    let mut heard = Vec::new();
    let mut watcher = Watcher::start(&bench, &format!("/v1/jobs/{first}/events"), "").await;
    while let Some(event) = watcher.next().await {
        heard.push(event);
    }
    let (mut paged, mut from) = (Vec::new(), String::new());
    loop {
        let page = bench.get(&format!("/v1/jobs/{first}/history?limit=1{from}")).await.json();
        for event in page["events"].as_array().unwrap() {
            assert_eq!(
                (&event["data"]["event"], &event["data"]["job"]),
                (&event["event"], &first.clone().into())
            );
            paged.push((event["id"].as_u64().unwrap(), event["event"].as_str().unwrap().to_owned()));
        }
        let Some(next) = page["next"].as_u64() else { break };
        from = format!("&from={next}");
    }
    assert!(heard.len() >= 4, "{heard:?}");
    assert_eq!(paged, heard);
    let running = bench.get(&format!("/v1/jobs/{second}/history?from=0")).await.json();
    assert_eq!((&running["events"][0]["event"], &running["next"]), (&"job_accepted".into(), &().into()));
    bench.get(&format!("/v1/jobs/{first}/history?limit=0")).await.is_problem(400, "invalid", "limit");
    let nobody = "0".repeat(64);
    bench.get(&format!("/v1/jobs/{nobody}/history")).await.is_problem(404, "not-found", "no job");
    bench.stop().await;
}
