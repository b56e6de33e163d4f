//! Answers in one piece.

use serde_json::{Value, json};
use zoo_gateway::check::{Answer, CheckError, check, choice_seed};
use zoo_model::Profile;

use crate::client::Bench;
use crate::model;

fn text(answer: &Value, choice: usize) -> &str {
    answer["choices"][choice]["text"].as_str().expect("a text")
}

/// An answer without what differs from request to request.
fn lasting(mut answer: Value) -> Value {
    for field in ["id", "created"] {
        assert!(!answer[field].take().is_null(), "{field}");
    }
    answer
}

#[tokio::test]
async fn a_completion_has_what_clients_expect_and_what_it_takes_to_repeat_it() {
    let bench = Bench::start().await;
    let request =
        json!({ "model": "small", "prompt": "the fox", "max_tokens": 12, "seed": 7, "ignore_eos": true });
    let first = bench.post("/v1/completions", &request).await.json();
    assert_eq!(first["object"], "text_completion");
    assert_eq!(first["model"], "small");
    assert!(first["id"].as_str().expect("an id").starts_with("cmpl-"));
    let prompt = bench.served.tokenizer.encode("the fox");
    let total = prompt.len() + 12;
    assert_eq!(
        first["usage"],
        json!({ "prompt_tokens": prompt.len(), "completion_tokens": 12, "total_tokens": total })
    );
    assert_eq!(first["choices"][0]["finish_reason"], "length");
    assert_eq!(first["choices"][0]["logprobs"], Value::Null);
    assert_eq!(first["zoo"]["seed"], 7);
    assert_eq!(first["zoo"]["profile"], "f32-exact");
    assert_eq!(first["zoo"]["model"], json!(bench.served.digest));
    assert_eq!(first["zoo"]["choices"][0]["prompt"], json!(prompt));
    let second = bench.post("/v1/completions", &request).await.json();
    assert_eq!(lasting(first), lasting(second));
    // Without a seed each answer has its own.
    let unseeded = json!({ "prompt": "the fox", "max_tokens": 1 });
    let seed = async || bench.post("/v1/completions", &unseeded).await.json()["zoo"]["seed"].clone();
    assert_ne!(seed().await, seed().await);
}

#[tokio::test]
async fn every_form_of_prompt_and_several_choices() {
    let bench = Bench::start().await;
    let tokens = bench.served.tokenizer.encode("the dog");
    let other = bench.served.tokenizer.encode("the fox jumps");
    let ask = async |prompt: Value, n: usize| {
        let request = json!({ "prompt": prompt, "n": n, "max_tokens": 8, "seed": 5, "ignore_eos": true });
        bench.post("/v1/completions", &request).await.json()
    };
    let one = ask(json!("the dog"), 1).await;
    let three = ask(json!(tokens), 3).await;
    assert_eq!(text(&one, 0), text(&three, 0));
    assert_ne!(text(&three, 1), text(&three, 0));
    assert_ne!(text(&three, 1), text(&three, 2));
    assert_eq!(three["usage"]["prompt_tokens"], tokens.len());
    assert_eq!(three["usage"]["completion_tokens"], 24);
    for prompt in [json!(["the dog", "the fox jumps"]), json!([tokens, other])] {
        let both = ask(prompt, 2).await;
        let indices: Vec<u64> = both["choices"]
            .as_array()
            .expect("choices")
            .iter()
            .filter_map(|it| it["index"].as_u64())
            .collect();
        assert_eq!(indices, [0, 1, 2, 3]);
        assert_eq!((text(&both, 0), text(&both, 1)), (text(&three, 0), text(&three, 1)));
        assert_eq!(text(&both, 2), text(&ask(json!("the fox jumps"), 1).await, 0));
        assert_eq!(both["usage"]["prompt_tokens"], tokens.len() + other.len());
    }
    // A choice can be had again by itself, with its own seed.
    let seed = choice_seed(5, 2);
    assert_eq!(three["zoo"]["choices"][2]["sampler"]["seed"], seed);
    let request = json!({ "prompt": "the dog", "max_tokens": 8, "seed": seed, "ignore_eos": true });
    assert_eq!(text(&bench.post("/v1/completions", &request).await.json(), 0), text(&three, 2));
    assert!(!text(&bench.post("/v1/completions", &json!({ "temperature": 0 })).await.json(), 0).is_empty());
}

#[tokio::test]
async fn echo_and_log_probabilities_as_who_scores_models_reads_them() {
    let bench = Bench::start().await;
    let prompt = bench.served.tokenizer.encode("the größer fox 🦊 the dog");
    let ask = async |max_tokens: usize| {
        let request = json!({
            "prompt": [prompt], "max_tokens": max_tokens, "logprobs": 2, "echo": true, "temperature": 0, "seed": 1234,
        });
        bench.post("/v1/completions", &request).await.json()
    };
    let answer = ask(1).await;
    let log = &answer["choices"][0]["logprobs"];
    let list = |field: &str| log[field].as_array().expect("a list").clone();
    let fields = ["tokens", "token_logprobs", "top_logprobs", "text_offset"];
    assert_eq!(fields.map(|field| list(field).len()), [prompt.len() + 1; 4]);
    assert_eq!((&log["token_logprobs"][0], &log["top_logprobs"][0]), (&Value::Null, &Value::Null));
    assert!(text(&answer, 0).starts_with("the größer fox 🦊 the dog"));
    for at in 1..=prompt.len() {
        let own = log["token_logprobs"][at].as_f64().expect("a number");
        let top = log["top_logprobs"][at].as_object().expect("an object");
        assert!(own < 0.0 && (2..=3).contains(&top.len()), "{top:?}");
        assert_eq!(top[log["tokens"][at].as_str().expect("a text")].as_f64(), Some(own));
        // The last was chosen greedily.
        let best = top.values().filter_map(Value::as_f64).fold(f64::NEG_INFINITY, f64::max);
        assert!(best >= own && (at < prompt.len() || best == own));
    }
    let offsets: Vec<u64> = list("text_offset").iter().filter_map(Value::as_u64).collect();
    assert!(offsets.is_sorted() && offsets[0] == 0);
    assert_eq!(offsets[prompt.len()], "the größer fox 🦊 the dog".chars().count() as u64);

    let nothing = ask(0).await;
    let log_of_prompt = &nothing["choices"][0]["logprobs"];
    assert_eq!(log_of_prompt["tokens"].as_array().map(Vec::len), Some(prompt.len()));
    assert_eq!(
        log_of_prompt["token_logprobs"].as_array().expect("a list")[..],
        list("token_logprobs")[..prompt.len()]
    );
    assert_eq!(text(&nothing, 0), "the größer fox 🦊 the dog");
    let silent = bench.post("/v1/completions", &json!({ "prompt": "the", "max_tokens": 0 })).await.json();
    assert_eq!((text(&silent, 0), &silent["usage"]["completion_tokens"]), ("", &json!(0)));
}

#[tokio::test]
async fn a_conversation_without_a_template_and_with_one() {
    let bench = Bench::start().await;
    let request = json!({
        "messages": [
            { "role": "system", "content": "a talk" },
            { "role": "user", "content": [{ "type": "text", "text": "hello" }] },
        ],
        "max_completion_tokens": 9, "seed": 3, "logprobs": true, "top_logprobs": 2, "ignore_eos": true,
    });
    let answer = bench.post("/v1/chat/completions", &request).await.json();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["choices"][0]["message"]["role"], "assistant");
    let content = answer["choices"][0]["message"]["content"].as_str().expect("a text");
    let log = answer["choices"][0]["logprobs"]["content"].as_array().expect("a list");
    assert_eq!(log.len(), 9);
    assert!(log.iter().all(|it| it["top_logprobs"].as_array().is_some_and(|top| top.len() == 2)));
    let bytes: Vec<u8> = log
        .iter()
        .flat_map(|it| it["bytes"].as_array().expect("bytes"))
        .map(|it| it.as_u64().expect("a byte") as u8)
        .collect();
    assert_eq!(String::from_utf8_lossy(&bytes), content);
    let script = json!({ "prompt": "a talk\nUser: hello\nAssistant:", "max_tokens": 9, "seed": 3, "ignore_eos": true });
    assert_eq!(text(&bench.post("/v1/completions", &script).await.json(), 0), content);

    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}";
    let bench = Bench::with(Some(template), None, std::time::Duration::from_secs(10)).await;
    let end = bench.served.tokenizer.end_of_text().expect("one");
    let sneaky = json!({
        "messages": [{ "role": "user", "content": "a<|endoftext|>b" }], "max_tokens": 3, "temperature": 0,
    });
    let answer = bench.post("/v1/chat/completions", &sneaky).await.json();
    let prompt: Vec<u32> =
        serde_json::from_value(answer["zoo"]["choices"][0]["prompt"].clone()).expect("tokens");
    assert_eq!(prompt.iter().filter(|token| **token == end).count(), 1, "only the template's own");
    assert_eq!(bench.served.tokenizer.decode(&prompt), "user: a<|endoftext|>b");
}

#[tokio::test]
async fn stop_sequences_end_texts_and_are_not_part_of_them() {
    let bench = Bench::start().await;
    let whole = json!({ "prompt": "the", "max_tokens": 60, "seed": 2, "ignore_eos": true });
    let answer = bench.post("/v1/completions", &whole).await.json();
    let all = text(&answer, 0).to_owned();
    let stop: String = all.chars().skip(20).take(2).collect();
    for stop in [json!(stop), json!(["not there at all", stop])] {
        let request =
            json!({ "prompt": "the", "max_tokens": 60, "seed": 2, "ignore_eos": true, "stop": stop });
        let answer = bench.post("/v1/completions", &request).await.json();
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert!(all.starts_with(text(&answer, 0)) && text(&answer, 0).chars().count() <= 20);
    }
}

#[tokio::test]
async fn an_answer_is_executed_again_and_a_changed_one_is_found_out() {
    let bench = Bench::start().await;
    let decoder = model::decoder(Profile::F32Exact);
    let request = json!({
        "prompt": ["the fox", "User: hello"], "n": 2, "max_tokens": 25, "seed": 40, "temperature": 1.1, "top_p": 0.9,
        "top_k": 50, "stop": "zzz",
    });
    let answer = bench.post("/v1/completions", &request).await.json();
    let run = |answer: &Value| {
        let parsed = Answer::parse(answer.to_string().as_bytes()).expect("an answer");
        check(&decoder, &bench.served, &parsed)
    };
    let checked = run(&answer).expect("it is right");
    assert_eq!(checked.choices, 4);
    assert_eq!(Some(checked.tokens as u64), answer["usage"]["completion_tokens"].as_u64());

    let changed = |path: &str, value: Value| {
        let mut answer = answer.clone();
        *answer.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        run(&answer).expect_err("it was changed")
    };
    let tokens: Vec<u32> =
        serde_json::from_value(answer["zoo"]["choices"][2]["tokens"].clone()).expect("tokens");
    let other = json!((tokens[1] + 1) % 256);
    let error = changed("/zoo/choices/2/tokens/1", other.clone());
    let found = other.as_u64().expect("a token") as u32;
    assert_eq!(error, CheckError::Differs { choice: 2, at: 1, found, expected: tokens[1] });
    assert!(matches!(changed("/choices/1/text", json!("nonsense")), CheckError::Text { choice: 1, .. }));
    assert!(matches!(changed("/zoo/model", json!("0".repeat(64))), CheckError::Other { what: "model", .. }));
    assert!(matches!(
        changed("/zoo/profile", json!("bf16-exact")),
        CheckError::Other { what: "profile", .. }
    ));
    assert!(matches!(changed("/zoo/choices/0/prompt", json!([])), CheckError::Impossible { choice: 0, .. }));
    assert!(matches!(changed("/zoo/choices/0/prompt/0", json!(70_000)), CheckError::Impossible { .. }));
    assert!(matches!(changed("/zoo/choices/0/tokens_max", json!(26)), CheckError::Text { .. }));
    assert!(matches!(changed("/zoo/choices/3/tokens", json!([])), CheckError::Text { choice: 3, .. }));
    let seed = changed("/zoo/choices/0/sampler/seed", json!(41));
    assert!(matches!(seed, CheckError::Differs { choice: 0, .. } | CheckError::Text { choice: 0, .. }));
    for wrong in ["", "{}", "{\"zoo\": 3}", "data: {}", "\u{0}"] {
        assert!(Answer::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
    }
}

#[tokio::test]
async fn models_tokens_metrics_health_and_the_page() {
    let bench = Bench::start().await;
    assert_eq!(bench.get("/v1/models").await.json()["data"][0]["id"], "small");
    assert_eq!(bench.get("/v1/models/small").await.json()["max_model_len"], model::CONTEXT);
    assert!(bench.get("/v1/models/other").await.refusal(404).contains("hint: this server has 'small'"));
    let tokens = bench.served.tokenizer.encode("the fox 🦊");
    let body = json!({ "prompt": "the fox 🦊", "add_special_tokens": false });
    let answer = bench.post("/tokenize", &body).await.json();
    assert_eq!((&answer["tokens"], &answer["count"]), (&json!(tokens), &json!(tokens.len())));
    let back = bench.post("/detokenize", &json!({ "tokens": tokens })).await.json();
    assert_eq!(back["prompt"], "the fox 🦊");
    let end = bench.served.tokenizer.end_of_text().expect("one");
    let control = bench.post("/tokenize", &json!({ "prompt": "<|endoftext|>" })).await.json();
    assert_eq!(
        control["tokens"],
        json!([end]),
        "whoever scores models asks so for the token that starts a text"
    );
    assert_eq!(bench.get("/tokenizer_info").await.json()["eos_token"], "<|endoftext|>");
    bench.post("/v1/completions", &json!({ "prompt": "the", "max_tokens": 3, "ignore_eos": true })).await;
    let metrics = bench.get("/metrics").await.text();
    for line in
        ["zoo_written_tokens_total 3\n", "zoo_texts_finished_total 1\n", "# TYPE zoo_texts_running gauge\n"]
    {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert_eq!(bench.get("/health").await.json()["status"], "ok");
    let page = bench.get("/").await;
    assert!(page.status == 200 && page.head.contains("content-security-policy: default-src 'none'"));
    assert!(page.text().starts_with("<!doctype html>"));
}
