//! Answers that come piece by piece: joined, they are the answers in one piece.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zoo_gateway::check::{Answer, check};
use zoo_model::Profile;

use crate::client::Bench;
use crate::model;

/// What the pieces of one choice say together, by a path within the choice.
fn joined(objects: &[Value], index: usize, path: &str) -> String {
    let choices = objects.iter().flat_map(|it| it["choices"].as_array().expect("choices"));
    choices.filter(|it| it["index"] == index).filter_map(|it| it.pointer(path)?.as_str()).collect()
}

#[tokio::test]
async fn the_pieces_of_completions_are_the_whole() {
    let bench = Bench::start().await;
    for (echo, logprobs) in [(false, Value::Null), (true, json!(1)), (true, Value::Null)] {
        let mut request = json!({
            "prompt": ["the größer 🦊", "User: hello"], "n": 2, "max_tokens": 30, "seed": 9, "temperature": 1.3,
            "echo": echo, "logprobs": logprobs, "stop": ["fox", "ö"],
        });
        let whole = bench.post("/v1/completions", &request).await.json();
        request["stream"] = json!(true);
        request["stream_options"] = json!({ "include_usage": true });
        let objects = bench.stream("/v1/completions", &request).await;
        let (last, objects) = objects.split_last().expect("objects");
        assert_eq!((&last["usage"], &last["choices"]), (&whole["usage"], &json!([])));
        assert!(objects.iter().all(|it| it["usage"].is_null() && it["object"] == "text_completion"));
        for index in 0..4 {
            let expected = &whole["choices"][index];
            assert_eq!(joined(objects, index, "/text"), expected["text"].as_str().expect("a text"));
            assert_eq!(
                joined(objects, index, "/finish_reason"),
                expected["finish_reason"].as_str().expect("one")
            );
            let logs = objects.iter().map(|it| &it["choices"][0]).filter(|it| it["index"] == index);
            let tokens: Vec<Value> = logs
                .filter_map(|it| it["logprobs"]["token_logprobs"].as_array())
                .flatten()
                .cloned()
                .collect();
            let expected = expected["logprobs"]["token_logprobs"].as_array().cloned().unwrap_or_default();
            assert_eq!(tokens, expected);
        }
        let mut proofs: Vec<&Value> = objects.iter().filter_map(|it| it.get("zoo")).collect();
        proofs.sort_by_key(|proof| proof["choices"][0]["index"].as_u64());
        for (index, proof) in proofs.iter().enumerate() {
            assert_eq!(proof["choices"][0], whole["zoo"]["choices"][index]);
        }
        assert_eq!(proofs.len(), 4);
    }
}

#[tokio::test]
async fn the_pieces_of_a_conversation_are_the_whole_and_can_be_checked() {
    let bench = Bench::start().await;
    let mut request = json!({
        "messages": [{ "role": "user", "content": "hello" }], "n": 2, "max_tokens": 20, "seed": 1, "logprobs": true,
    });
    let whole = bench.post("/v1/chat/completions", &request).await.json();
    request["stream"] = json!(true);
    let objects = bench.stream("/v1/chat/completions", &request).await;
    assert!(objects.iter().all(|it| it["object"] == "chat.completion.chunk" && it.get("usage").is_none()));
    assert_eq!(objects[0]["choices"][0]["delta"]["role"], "assistant");
    for index in 0..2 {
        let expected = &whole["choices"][index];
        assert_eq!(
            joined(&objects, index, "/delta/content"),
            expected["message"]["content"].as_str().expect("a text")
        );
        assert_eq!(
            joined(&objects, index, "/finish_reason"),
            expected["finish_reason"].as_str().expect("one")
        );
    }
    let lines: String = objects.iter().map(|object| format!("data: {object}\n\n")).collect();
    let answer = Answer::parse(format!("{lines}data: [DONE]\n\n").as_bytes()).expect("a stream");
    let checked = check(&model::decoder(Profile::F32Exact), &bench.served, &answer).expect("it is right");
    assert_eq!(
        (checked.choices, Some(checked.tokens as u64)),
        (2, whole["usage"]["completion_tokens"].as_u64())
    );
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_texts() {
    let bench = Bench::start().await;
    let body = json!({ "prompt": "the", "n": 128, "max_tokens": 120, "ignore_eos": true, "stream": true })
        .to_string();
    for is_stream in [true, false] {
        let body = if is_stream { body.clone() } else { body.replace("\"stream\":true", "\"stream\":false") };
        let before = bench.engine.counters().cancelled.get();
        let mut stream = TcpStream::connect(bench.address).await.expect("it listens");
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.expect("it reads");
        if is_stream {
            let mut some = [0; 100];
            stream.read_exact(&mut some).await.expect("it answers");
        }
        let counters = bench.engine.counters();
        for _ in 0..500 {
            if counters.running.get() > 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        drop(stream);
        for _ in 0..500 {
            if counters.running.get() + counters.waiting.get() == 0 && counters.cancelled.get() > before {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(counters.cancelled.get() > before, "stream: {is_stream}");
        assert_eq!(counters.running.get(), 0);
    }
}
