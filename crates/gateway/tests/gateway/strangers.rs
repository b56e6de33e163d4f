//! What strangers try.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zoo_gateway::limits;

use crate::client::{Bench, parse};

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_with_the_field_and_a_hint() {
    let bench = Bench::start().await;
    let long = json!(vec!["x"; limits::STOPS_MAX + 1]);
    let many = json!(vec!["the"; limits::CHOICES_MAX + 1]);
    let cases = [
        ("n", json!(0)),
        ("n", json!(100_000)),
        ("temperature", json!(-1)),
        ("temperature", json!(1e30)),
        ("top_p", json!(1.5)),
        ("logprobs", json!(1000)),
        ("stop", long),
        ("stop", json!("x".repeat(limits::STOP_BYTES_MAX + 1))),
        ("seed", json!(1.5)),
        ("prompt", many),
        ("prompt", json!([])),
        ("prompt", json!([[]])),
        ("prompt", json!([70_000])),
        ("prompt", json!("the ".repeat(1000))),
        ("best_of", json!(3)),
        ("suffix", json!("x")),
        ("logit_bias", json!({ "5": 1 })),
        ("presence_penalty", json!(0.5)),
        ("tools", json!([{}])),
        ("response_format", json!({ "type": "json_object" })),
    ];
    for (field, value) in cases {
        let mut request = json!({ "prompt": "the", "max_tokens": 1 });
        request[field] = value;
        let answer = bench.post("/v1/completions", &request).await;
        answer.refusal(400);
        assert_eq!(answer.json()["error"]["param"], field, "{}", answer.text());
    }
    for messages in [
        json!([]),
        json!([{ "role": "wizard", "content": "a" }]),
        json!([{ "role": "user", "content": [{ "type": "image_url" }] }]),
    ] {
        let answer = bench.post("/v1/chat/completions", &json!({ "messages": messages })).await;
        answer.refusal(400);
        assert_eq!(answer.json()["error"]["param"], "messages");
    }
    for body in ["", "{", "[]", "{\"prompt\": {}}", "{\"prompt\": \"a\", \"max_tokens\": -1}", "\u{0}"] {
        bench.post_with("/v1/completions", body, "").await.refusal(400);
    }
    let deep = "[".repeat(100_000);
    bench.post_with("/v1/completions", &deep, "").await.refusal(400);
    bench.post("/v1/completions", &json!({ "model": "other", "prompt": "a" })).await.refusal(404);
    bench.get("/v1/nothing").await.refusal(404);
    bench.get("/v1/completions").await.refusal(405);
    // It still answers.
    assert_eq!(
        bench.post("/v1/completions", &json!({ "prompt": "the", "logprobs": null })).await.status,
        200
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let bench = Bench::start().await;
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let announced = format!("{head}Content-Length: {}\r\n\r\n", u64::MAX / 2);
    bench.send(announced.as_bytes()).await.refusal(413);
    let announced = format!("{head}Content-Length: {}\r\n\r\n", limits::BODY_BYTES_MAX + 1);
    bench.send(announced.as_bytes()).await.refusal(413);
    // In chunks, of which nobody knows how many will come.
    let mut stream = TcpStream::connect(bench.address).await.expect("it listens");
    stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await.expect("it reads");
    let chunk = [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    while sent < 4 * limits::BODY_BYTES_MAX && stream.write_all(&chunk).await.is_ok() {
        sent += 1 << 20;
    }
    assert!(sent < 4 * limits::BODY_BYTES_MAX, "it stopped reading");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    // Who is still writing when the connection closes may not see the answer.
    assert!(answer.is_empty() || parse(&answer).status == 413);
}

#[tokio::test]
async fn slow_requests_do_not_hold_connections() {
    let patience = Duration::from_millis(400);
    let bench = Bench::with(None, None, patience).await;
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n";
    for (start, status) in
        [("", None), ("POST /v1/comp", None), (head, None), (&format!("{head}\r\n{{\"prompt\""), Some(408))]
    {
        let since = Instant::now();
        let mut stream = TcpStream::connect(bench.address).await.expect("it listens");
        stream.write_all(start.as_bytes()).await.expect("it reads");
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut answer)).await;
        // After its answer to half a body the server waits for the next request, and then for no longer.
        assert!(ended.is_ok(), "{start:?} is still waited for");
        assert!(since.elapsed() >= patience / 2);
        if let Some(status) = status {
            parse(&answer).refusal(status);
        }
    }
}

#[tokio::test]
async fn headers_are_bounded_and_nothing_a_client_says_becomes_one() {
    let bench = Bench::start().await;
    let with = |headers: &str| {
        format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
    };
    let refused = |answer: &[u8]| answer.is_empty() || matches!(parse(answer).status, 400 | 431);
    let long = format!("X-Long: {}\r\n", "a".repeat(2 * zoo_http::HEAD_BYTES_MAX));
    let many: String = (0..2 * zoo_http::HEADERS_MAX).map(|at| format!("X-{at}: a\r\n")).collect();
    for headers in [&long, &many, "X-Null: a\0b\r\n", " folded: yes\r\n", "no colon\r\n", "X y: z\r\n"] {
        let answer = bench.raw(with(headers).as_bytes()).await;
        assert!(
            refused(&answer),
            "{:?}: {}",
            &headers[..headers.len().min(40)],
            String::from_utf8_lossy(&answer)
        );
    }
    // Two lengths, or a length and chunks: where one request ends must not be a matter of opinion.
    let smuggled = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(refused(&bench.raw(smuggled.as_bytes()).await));
    // What comes back in an error comes back as JSON, never as a header.
    let injected = json!({ "model": "a\r\nX-Injected: yes\r\n\r\n<script>", "prompt": "a" });
    let answer = bench.post("/v1/completions", &injected).await;
    answer.refusal(404);
    assert!(!answer.head.contains("injected") && answer.head.contains("content-type: application/json"));
    let answer = bench.get("/v1/models/a%0d%0aX-Injected:%20yes").await;
    answer.refusal(404);
    assert!(!answer.head.contains("injected"));
}

#[tokio::test]
async fn a_key_is_asked_for_where_there_is_one() {
    let bench = Bench::with(None, Some("secret"), Duration::from_secs(10)).await;
    let body = json!({ "prompt": "the", "max_tokens": 1 }).to_string();
    for headers in [
        "",
        "Authorization: secret\r\n",
        "Authorization: Bearer secre\r\n",
        "Authorization: Bearer secret2\r\n",
        "Authorization: Basic secret\r\n",
    ] {
        let message = bench.post_with("/v1/completions", &body, headers).await.refusal(401);
        assert!(!message.contains("secret") && message.contains("hint: "), "{message}");
    }
    for path in ["/v1/models", "/metrics", "/tokenizer_info"] {
        bench.get(path).await.refusal(401);
    }
    let answer = bench.post_with("/v1/completions", &body, "Authorization: Bearer secret\r\n").await;
    assert_eq!(answer.status, 200);
    assert_eq!((bench.get("/health").await.status, bench.get("/").await.status), (200, 200));
}

#[tokio::test]
async fn pages_of_other_sites_get_nothing() {
    let bench = Bench::start().await;
    // A name that was made to point here.
    let request = b"GET /v1/models HTTP/1.1\r\nHost: evil.example:80\r\nConnection: close\r\n\r\n";
    bench.send(request).await.refusal(403);
    // A form, which browsers send anywhere without asking.
    let form = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 16\r\n\r\n{\"prompt\":\"the\"}";
    bench.send(form).await.refusal(415);
    let asked =
        b"OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nConnection: close\r\n\r\n";
    let answer = bench.send(asked).await;
    assert!(answer.status == 405 && !answer.head.contains("access-control"), "{}", answer.head);
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_finishes_what_it_has_begun() {
    let bench = Bench::start().await;
    let (address, body) =
        (bench.address, json!({ "prompt": "the", "max_tokens": 100, "ignore_eos": true }).to_string());
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.expect("it reads");
    while bench.engine.counters().running.get() == 0 && bench.engine.counters().finished.get() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(bench);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it answers, then closes");
    let answer = parse(&answer);
    assert_eq!(answer.json()["usage"]["completion_tokens"], Value::from(100));
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
