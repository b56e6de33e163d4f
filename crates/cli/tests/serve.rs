//! `zoo serve`, its check, and `zoo export`: the real binary.
#![cfg(unix)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{Bench, Running};
use serde_json::{Value, json};

/// A bench with a run that took a second.
fn trained() -> Bench {
    let bench = Bench::new();
    bench.train("run", &["--steps", "4"]).succeeds();
    bench
}

/// What the server at `address` answers to a request.
fn ask(address: &str, path: &str, body: &Value, header: &str) -> (u16, Vec<u8>) {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{header}\r\n"
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

#[test]
fn an_answer_is_served_and_executed_again() {
    let bench = trained();
    let serve = ["serve", "run", "--listen", "127.0.0.1:0", "--json", "--name", "roses", "--threads", "2"];
    let mut server = Running::start(&bench, &serve);
    let event = server.event("listening");
    assert_eq!(event["name"], "roses");
    let address = event["address"].as_str().unwrap();
    let request = json!({ "model": "roses", "prompt": "a rose", "n": 2, "max_tokens": 20, "seed": 3 });
    let (status, body) = ask(address, "/v1/completions", &request, "");
    assert_eq!(status, 200);
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["zoo"]["model"], event["model"]);
    bench.write("answer.json", &body);
    let check = |file: &str, more: &[&str]| {
        bench.zoo([&["serve", "check", file, "--model", "run/model"], more].concat())
    };
    assert_eq!(
        check("answer.json", &[]).succeeds().stdout,
        "the same: 40 tokens of 2 texts, each chosen again\n"
    );
    assert_eq!(check("answer.json", &["--json"]).succeeds().events()[0]["tokens"], 40);
    // What zoo generate writes with the same settings is the first choice.
    let fixed =
        ["generate", "run", "a rose", "--tokens", "20", "--temperature", "1", "--top-p", "1", "--seed", "3"];
    let generated = bench.zoo([&fixed[..], &["--json"]].concat()).succeeds().events().remove(0);
    assert_eq!(generated["tokens"], answer["zoo"]["choices"][0]["tokens"]);

    let mut changed = answer.clone();
    let token = &mut changed["zoo"]["choices"][1]["tokens"][7];
    *token = json!((token.as_u64().unwrap() + 1) % 256);
    bench.write("changed.json", changed.to_string());
    let refused = check("changed.json", &["--json"]);
    assert_eq!(refused.code, Some(1));
    assert_eq!(refused.events()[0]["first"]["at"], 7);
    assert!(check("changed.json", &[]).stderr.contains("choice 1: token 7 is"));
    changed["zoo"]["model"] = json!("00".repeat(32));
    bench.write("other.json", changed.to_string());
    check("other.json", &[]).refuses("the answer came from model");
    bench.write("nothing.json", "{}");
    check("nothing.json", &[]).refuses("the answer has no object 'zoo'");
    server.interrupt("stopped");
}

#[test]
fn a_key_from_a_file_is_asked_for() {
    let bench = trained();
    bench.write("key.txt", "secret\n");
    let serve = ["serve", "run", "--listen", "127.0.0.1:0", "--json", "--api-key-file", "key.txt"];
    let mut server = Running::start(&bench, &serve);
    let event = server.event("listening");
    let address = event["address"].as_str().unwrap();
    let request = json!({ "prompt": "a rose", "max_tokens": 1 });
    assert_eq!(ask(address, "/v1/completions", &request, "").0, 401);
    assert_eq!(ask(address, "/v1/completions", &request, "Authorization: Bearer secret\r\n").0, 200);
    server.interrupt("stopped");
}

#[test]
fn what_cannot_be_served_or_exported_is_refused() {
    let bench = trained();
    let listen = ["--listen", "127.0.0.1:0"];
    let serve = |more: &[&str]| bench.zoo([&["serve"], more, &listen].concat());
    serve(&["nowhere"]).refuses("nowhere: there is no such folder");
    serve(&["run", "--cache-mib", "0"]).refuses("--cache-mib 0 is too little for one text");
    serve(&["run", "--api-key", "a b"]).refuses("the API key is empty, or has characters");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    bench.zoo(["serve", "run", "--listen", &address]).refuses("cannot listen on");

    let export = |more: &[&str]| bench.zoo([&["export", "run", "--gguf"], more].concat());
    export(&["small.gguf"]).succeeds();
    export(&["half.gguf", "--f16"]).succeeds();
    let size = |name: &str| std::fs::metadata(bench.path(name)).unwrap().len();
    assert!(size("half.gguf") < size("small.gguf") * 2 / 3);
    assert!(std::fs::read(bench.path("small.gguf")).unwrap().starts_with(b"GGUF\x03\0\0\0"));
    export(&["small.gguf"]).refuses("small.gguf: there is such a file already");
}
