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

/// Sixteen texts, each asked for by a client of its own; they are streamed.
fn sixteen(address: &str) -> Vec<std::thread::JoinHandle<(u16, String)>> {
    let ask_for = |number: usize| {
        let address = address.to_owned();
        std::thread::spawn(move || {
            let prompt = &"a rose is a rose is a rose"[..4 + number];
            let request = json!({ "prompt": prompt, "max_tokens": 32, "seed": number, "stream": true });
            let (status, body) = ask(&address, "/v1/completions", &request, "");
            (status, String::from_utf8(body).unwrap())
        })
    };
    (0..16).map(ask_for).collect()
}

/// What clients got: the texts of their streams.
fn texts(asked: Vec<std::thread::JoinHandle<(u16, String)>>) -> Vec<String> {
    let text = |asked: std::thread::JoinHandle<(u16, String)>| {
        let (status, body) = asked.join().unwrap();
        assert_eq!(status, 200, "{body}");
        assert!(body.contains("[DONE]"), "the stream came to its end: {body}");
        let lines = body.lines().filter_map(|line| line.strip_prefix("data: "));
        let events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter_map(|event| Some(event["choices"][0]["text"].as_str()?.to_owned())).collect()
    };
    asked.into_iter().map(text).collect()
}

fn join(bench: &Bench, ticket: &str, name: &str) -> Running {
    Running::start(bench, &["pipeline", "join", ticket, "--threads", "1", "--name", name, "--json"])
}

#[test]
fn sixteen_streams_through_three_nodes_are_those_of_one_and_none_is_lost_when_a_node_is_killed() {
    let bench = trained();
    let alone = {
        let serve = ["serve", "run", "--listen", "127.0.0.1:0", "--json", "--threads", "1"];
        let mut server = Running::start(&bench, &serve);
        let address = server.event("listening")["address"].as_str().unwrap().to_owned();
        let texts = texts(sixteen(&address));
        server.interrupt("stopped");
        texts
    };
    assert!(alone.iter().all(|text| !text.is_empty()));

    let through = ["serve", "run", "--listen", "127.0.0.1:0", "--json", "--network", "3"];
    let mut server =
        Running::start(&bench, &[&through[..], &["--latency", "20", "--patience", "60"]].concat());
    let address = server.event("listening")["address"].as_str().unwrap().to_owned();
    let ticket = server.event("waiting")["ticket"].as_str().unwrap().to_owned();
    // Who asks before the nodes are there waits for them.
    let early = sixteen(&address);
    let mut nodes = ["ibex", "lynx", "newt"].map(|name| join(&bench, &ticket, name));
    server.event("begun");
    assert_eq!(texts(early), alone);

    let asked = sixteen(&address);
    // Thirty-two tokens take two and a half seconds at least: each goes four times from one process to the next.
    std::thread::sleep(std::time::Duration::from_millis(400));
    nodes[1].child.kill().unwrap();
    let gone = server.event("gone");
    assert_eq!((&gone["name"], gone["stages"].as_array().unwrap().len()), (&"lynx".into(), 1), "{gone}");
    let _fresh = join(&bench, &ticket, "puma");
    assert_eq!(server.event("placed")["name"], "puma");
    assert_eq!(server.event("begun")["generation"], 2);
    assert_eq!(texts(asked), alone);

    // An answer says what it takes to repeat it, as one of a single server does.
    let request = json!({ "prompt": "a rose", "max_tokens": 20, "seed": 3 });
    let (status, body) = ask(&address, "/v1/completions", &request, "");
    assert_eq!(status, 200);
    bench.write("answer.json", &body);
    bench.zoo(["serve", "check", "answer.json", "--model", "run/model"]).succeeds();
    server.interrupt("stopped");
    assert!(nodes[0].child.wait().unwrap().success(), "a node leaves when serving is over");
}

#[test]
fn a_part_whose_node_is_not_replaced_goes_to_another_and_from_there_to_who_comes_later() {
    let bench = trained();
    let request = json!({ "prompt": "a rose", "max_tokens": 8, "seed": 3 });
    let through = [
        "serve",
        "run",
        "--listen",
        "127.0.0.1:0",
        "--json",
        "--network",
        "2",
        "--stages",
        "3",
        "--patience",
        "1",
    ];
    let mut server = Running::start(&bench, &through);
    let address = server.event("listening")["address"].as_str().unwrap().to_owned();
    let ticket = server.event("waiting")["ticket"].as_str().unwrap().to_owned();
    let mut nodes = ["ibex", "lynx"].map(|name| join(&bench, &ticket, name));
    server.event("begun");
    let text = |body: Vec<u8>| {
        serde_json::from_slice::<Value>(&body).unwrap()["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    let (_, before) = ask(&address, "/v1/completions", &request, "");
    nodes[0].child.kill().unwrap();
    server.event("gone");
    assert_eq!(server.event("placed")["name"], "lynx");
    server.event("begun");
    let (_, after) = ask(&address, "/v1/completions", &request, "");
    let _late = join(&bench, &ticket, "puma");
    assert_eq!(server.event("placed")["name"], "puma", "one part of three goes to who came later");
    server.event("begun");
    let (_, last) = ask(&address, "/v1/completions", &request, "");
    let before = text(before);
    assert_eq!((text(after), text(last)), (before.clone(), before));
    server.interrupt("stopped");
}

#[test]
fn what_cannot_be_spread_is_refused_with_a_hint() {
    let bench = trained();
    let serve = |more: &[&str]| bench.zoo([&["serve", "run", "--listen", "127.0.0.1:0"], more].concat());
    serve(&["--network", "3", "--stages", "200"]).refuses("can be cut into");
    assert_eq!(serve(&["--stages", "2"]).code, Some(2), "parts are of a network");
    let through = ["serve", "run", "--listen", "127.0.0.1:0", "--json", "--network", "1"];
    let mut server = Running::start_logging(&bench, &through, "serve.log");
    let ticket = server.event("waiting")["ticket"].as_str().unwrap().to_owned();
    let small = ["pipeline", "join", &ticket, "--threads", "1", "--max-memory", "1", "--name", "ibex"];
    let mut node = bench.spawn(small);
    assert!(!server.child.wait().unwrap().success());
    let said = std::fs::read_to_string(bench.path("serve.log")).unwrap();
    assert!(said.contains("ibex may take 1 MiB") && said.contains("hint:"), "{said}");
    assert!(!node.wait().unwrap().success(), "and the node sees that the run is gone");
}
