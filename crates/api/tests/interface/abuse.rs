//! What people try.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zoo_api::Scope;

use crate::client::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_changes_without_a_key_that_allows_it() {
    let bench = Bench::start().await;
    let id = bench.submit("one").await.json()["id"].as_str().unwrap().to_owned();
    let paths = ["/v1/jobs", "/v1/texts"].map(str::to_owned);
    let steers = ["cancel", "pause", "resume"].map(|what| format!("/v1/jobs/{id}/{what}"));
    for path in paths.iter().chain(&steers) {
        bench.ask("POST", path, "", b"{}").await.is_problem(401, "no-key", "this needs a key");
        for header in ["Bearer zoo_0", "Bearer", "Basic eDp5", "Bearer  ", "bearer\tzoo"] {
            let header = format!("Authorization: {header}\r\n");
            bench.ask("POST", path, &header, b"{}").await.is_problem(401, "no-key", "");
        }
    }
    let other = bench.another_key("other", Scope::Submit);
    for path in &steers {
        let why =
            if path.ends_with("cancel") { "has not submitted" } else { "for submit, and this needs manage" };
        bench.post(path, &other, b"").await.is_problem(403, "not-allowed", why);
    }
    zoo_api::keys(&bench.folder.path().join("orchestrator")).unwrap().revoke("manage").unwrap();
    bench.post(&steers[0], &bench.manage_key, b"").await.is_problem(401, "no-key", "no such key");
    assert_eq!(bench.get(&format!("/v1/jobs/{id}")).await.json()["state"], "running");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_walks_out_of_the_paths() {
    let bench = Bench::start().await;
    let id = bench.submit("one").await.json()["id"].as_str().unwrap().to_owned();
    for path in [
        "/../../etc/passwd".to_owned(),
        "/v1/blobs/..%2f..%2fkey".to_owned(),
        "/v1/blobs/%2e%2e/key".to_owned(),
        format!("/v1/jobs/{id}/model/..%2f..%2f..%2fkey"),
        format!("/v1/jobs/{id}/model/%2e%2e"),
        "/v1/jobs/..%2fkey".to_owned(),
        "//etc/passwd".to_owned(),
    ] {
        let answer = bench.get(&path).await;
        assert!([400, 404, 409].contains(&answer.status), "{path}: {answer:?}");
        assert!(answer.header("content-type").is_some_and(|kind| kind.ends_with("problem+json")), "{path}");
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_heads_have_limits() {
    let bench = Bench::start().await;
    let large = vec![b' '; (1 << 20) + 1];
    let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", bench.submit_key);
    bench.ask("POST", "/v1/jobs", &headers, &large).await.is_problem(413, "too-large", "bytes");
    let other = format!("Authorization: Bearer {}\r\nContent-Type: image/png\r\n", bench.submit_key);
    bench.ask("POST", "/v1/jobs", &other, b"{}").await.is_problem(415, "media-type", "YAML");
    let answer = bench.ask("GET", "/health", &format!("X: {}\r\n", "a".repeat(100_000)), b"").await;
    assert_eq!(answer.status, 431);
    bench.post("/v1/texts", &bench.submit_key, b"").await.is_problem(400, "invalid", "empty");
    bench.get("/v1/nodes?limit=0").await.is_problem(400, "invalid", "limit");
    bench.get("/v1/nodes?limit=10001").await.is_problem(400, "invalid", "limit");
    bench.get("/v1/jobs?colour=red").await.is_problem(400, "invalid", "colour");
    bench.get("/v1/nodes?cursor=zz").await.is_problem(400, "invalid", "cursor");
    bench.ask("DELETE", "/v1/jobs", "", b"").await.is_problem(405, "method", "method");
    bench.get("/v2").await.is_problem(404, "not-found", "nothing at this path");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_is_let_go_and_the_others_are_answered() {
    let bench = Bench::start().await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(bench.get("/health").await.status, 200);
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(30), slow[0].read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "a head that never ends is not waited for");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_name_was_made_to_point_here_is_not_answered() {
    let bench = Bench::start().await;
    let answer = bench.say(b"GET /v1/jobs HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n").await;
    answer.is_problem(403, "not-allowed", "names of its own machine");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_shown_as_they_are_and_steer_nothing() {
    let bench = Bench::start().await;
    let name = "<script>alert(1)</script>";
    let job = bench.submit(&format!("'{name}'")).await;
    assert_eq!(job.json()["name"], name);
    assert_eq!(job.header("content-type"), Some("application/json"));
    for (header, value) in [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY")] {
        assert_eq!(job.header(header), Some(value));
    }
    assert!(job.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert_eq!(job.header("access-control-allow-origin"), None);

    let split = bench.submit("\"a\\r\\nSet-Cookie: b=c\"").await;
    split.is_problem(422, "refused", "");
    assert_eq!(split.header("set-cookie"), None);
    let split = bench.get("/v1/jobs/a%0d%0aSet-Cookie:%20b=c").await;
    assert_eq!((split.status, split.header("set-cookie")), (400, None));
    bench.stop().await;
}
