//! Jobs: submitted, listed, steered.

use serde_json::json;
use zoo_api::Scope;

use crate::client::{Bench, JOB, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_submitted_listed_paused_resumed_and_cancelled() {
    let bench = Bench::start().await;
    let first = bench.submit("first").await;
    assert_eq!(first.status, 201, "{first:?}");
    let job = first.json();
    let id = job["id"].as_str().unwrap().to_owned();
    assert_eq!(first.header("location"), Some(format!("/v1/jobs/{id}").as_str()));
    assert_eq!((&job["name"], &job["of_steps"], &job["steps"]), (&json!("first"), &json!(6), &json!(0)));

    let again = bench.submit("first").await;
    assert_eq!((again.status, &again.json()["id"]), (201, &json!(id)), "a job is what it says");
    let second = bench.submit("second").await.json();
    assert_eq!(second["state"], "queued");
    let listed = bench.get("/v1/jobs").await.json();
    let names = |listed: &serde_json::Value| -> Vec<String> {
        listed["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&listed), ["second", "first"], "the newest first");
    let page = bench.get("/v1/jobs?limit=1").await.json();
    assert_eq!(names(&page), ["second"]);
    let rest = bench.get(&format!("/v1/jobs?limit=1&cursor={}", page["next"])).await.json();
    assert_eq!((names(&rest), &rest["next"]), (vec!["first".to_owned()], &json!(null)));

    let steer = async |what: &str| bench.post(&format!("/v1/jobs/{id}/{what}"), &bench.manage_key, b"").await;
    assert_eq!(steer("pause").await.json()["state"], "paused");
    assert_eq!(names(&bench.get("/v1/jobs?state=paused").await.json()), ["first"]);
    assert_eq!(steer("resume").await.json()["state"], "queued");
    assert_eq!(steer("cancel").await.json()["state"], "cancelled");
    steer("pause").await.is_problem(409, "conflict", "it is over");
    assert_eq!(bench.get(&format!("/v1/jobs/{id}")).await.json()["state"], "cancelled");
    let rounds = bench.get(&format!("/v1/jobs/{id}/rounds")).await;
    assert_eq!((rounds.status, rounds.json()), (200, json!({ "rounds": [], "next": null })));
    bench.get(&format!("/v1/jobs/{id}/model")).await.is_problem(409, "conflict", "no round");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_says_that_nobody_has_the_storage_that_it_names() {
    let bench = Bench::start().await;
    assert_eq!(bench.submit("anywhere").await.json()["storage_missing"], json!(null));
    let data = bench.post("/v1/texts", &bench.submit_key, text().as_bytes()).await.json();
    let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/yaml\r\n", bench.submit_key);
    let body = |storage: &str| {
        format!(
            "{JOB}run: {storage}\ndata: \"{}\"\ncheckpoint: {{storage: {storage}}}\n",
            data["data"].as_str().unwrap()
        )
    };
    let job = bench.ask("POST", "/v1/jobs", &headers, body("ipfs").as_bytes()).await;
    assert_eq!((job.status, &job.json()["storage_missing"]), (201, &json!("ipfs")));
    bench.ask("POST", "/v1/jobs", &headers, body("ftp").as_bytes()).await.is_problem(422, "refused", "ftp");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_survive_a_restart() {
    let bench = Bench::start().await;
    let id = bench.submit("kept").await.json()["id"].as_str().unwrap().to_owned();
    let root = bench.get("/v1/journal").await.json();
    let again = Bench::start_in(bench.stop().await, false).await;
    assert_eq!(again.get("/v1/journal").await.json()["root"], root["root"]);
    assert_eq!(again.get(&format!("/v1/jobs/{id}")).await.json()["name"], "kept");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_keys_are_refused_in_the_same_words_as_on_the_command_line() {
    let bench = Bench::start().await;
    let data = bench.upload(&text()).await;
    let cases = [
        ("application/yaml", "steps: 5\nmodle: {}\n".to_owned(), 422, "line 2: modle: there is no such key"),
        ("application/yaml", "steps: [1\n".to_owned(), 400, "line "),
        ("application/json", "{\"steps\": 0}".to_owned(), 422, "steps: 0 is not possible"),
        ("application/json", "{\"steps\": ".to_owned(), 400, "line 1: EOF"),
        ("application/json", "[]".to_owned(), 400, "not a list of keys and values"),
        ("application/toml", "steps = \"many\"\n".to_owned(), 422, "line 1: steps"),
        ("application/json", "{\"preset\": \"gpt9\"}".to_owned(), 422, "there is no preset"),
        ("application/json", "{\"budget\": {\"max\": -1}}".to_owned(), 422, "budget.max"),
        ("application/json", json!({ "data": "/etc/passwd" }).to_string(), 422, "no text that was uploaded"),
        ("application/json", json!({ "data": data, "model": { "context": 99999 } }).to_string(), 422, ""),
    ];
    for (kind, body, status, detail) in cases {
        let headers = format!("Authorization: Bearer {}\r\nContent-Type: {kind}\r\n", bench.submit_key);
        let answer = bench.ask("POST", "/v1/jobs", &headers, body.as_bytes()).await;
        answer.is_problem(status, if status == 400 { "invalid" } else { "refused" }, detail);
    }
    assert_eq!(bench.get("/v1/jobs").await.json()["jobs"], json!([]), "nothing was submitted");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_text_is_refused_and_what_is_too_little_is_called_what_it_was_sent_as() {
    let bench = Bench::start().await;
    for (body, why) in [(&b"caf\xe9"[..], "not UTF-8 at offset 3"), (b"a\0b", "NUL byte at offset 1")] {
        bench.post("/v1/texts", &bench.submit_key, body).await.is_problem(400, "invalid", why);
    }
    let texts = bench.folder.path().join("orchestrator/texts");
    assert_eq!(std::fs::read_dir(&texts).unwrap().count(), 0, "nothing of it stays");
    let little = bench.upload("little").await;
    let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", bench.submit_key);
    let body = json!({ "data": little }).to_string();
    let answer = bench.ask("POST", "/v1/jobs", &headers, body.as_bytes()).await;
    answer.is_problem(422, "refused", "");
    let said = String::from_utf8(answer.body).unwrap();
    assert!(!said.contains(&texts.display().to_string()), "a path of this machine: {said}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_twice_with_one_key_is_answered_once() {
    let bench = Bench::start().await;
    let data = bench.upload(&text()).await;
    let submit = async |name: &str, key: &str| {
        let headers = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/yaml\r\nIdempotency-Key: {key}\r\n",
            bench.submit_key
        );
        bench
            .ask("POST", "/v1/jobs", &headers, format!("{JOB}run: {name}\ndata: \"{data}\"\n").as_bytes())
            .await
    };
    let (one, same) = tokio::join!(submit("one", "k1"), submit("one", "k1"));
    assert_eq!((one.status, same.status, one.json()["id"] == same.json()["id"]), (201, 201, true));
    submit("other", "k1").await.is_problem(409, "conflict", "used for another job");
    assert_eq!(submit("other", "k2").await.status, 201);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_texts_make_one_job_and_a_budget_becomes_tokens() {
    let bench = Bench::start().await;
    let (one, other) = (bench.upload(&text()).await, bench.upload(&text().to_uppercase()).await);
    let body = format!("{JOB}data: \"{one},{other}\"\nbudget: {{max: 0.001}}\n");
    let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/yaml\r\n", bench.submit_key);
    let answer = bench.ask("POST", "/v1/jobs", &headers, body.as_bytes()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let tokens_max = answer.json()["tokens_max"].as_u64().unwrap();
    // 10^12 operations, six for each parameter and token, of a model with some tens of thousands.
    assert!((1_000_000..20_000_000).contains(&tokens_max), "{tokens_max}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_cancels_what_it_submitted_and_nothing_else() {
    let bench = Bench::start().await;
    let other = bench.another_key("other", Scope::Submit);
    let id = bench.submit("mine").await.json()["id"].as_str().unwrap().to_owned();
    let steer = async |bench: &Bench, what: &str, key: &str| {
        bench.post(&format!("/v1/jobs/{id}/{what}"), key, b"").await
    };
    steer(&bench, "cancel", &other).await.is_problem(403, "not-allowed", "has not submitted this job");
    steer(&bench, "pause", &bench.submit_key).await.is_problem(403, "not-allowed", "needs manage");
    // Who submits the same job again does not come to own it.
    assert_eq!(bench.submit_with("mine", &other).await.status, 201);
    steer(&bench, "cancel", &other).await.is_problem(403, "not-allowed", "has not submitted this job");

    let key = bench.submit_key.clone();
    let bench = Bench::start_in(bench.stop().await, false).await;
    assert_eq!(steer(&bench, "cancel", &key).await.json()["state"], "cancelled", "also after a restart");
    // What is over may be submitted by somebody else, and is then theirs.
    assert_eq!(bench.submit_with("mine", &other).await.json()["id"], id);
    steer(&bench, "cancel", &key).await.is_problem(403, "not-allowed", "has not submitted this job");
    assert_eq!(steer(&bench, "cancel", &other).await.json()["state"], "cancelled");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_of_a_job_is_served_and_the_key_out_of_a_file_is_not_used() {
    let bench = Bench::start().await;
    let schema = bench.get("/v1/schemas/job.json").await;
    assert_eq!(schema.header("content-type"), Some("application/schema+json"));
    assert_eq!(String::from_utf8(schema.body).unwrap(), zoo_job::SCHEMA);
    let data = bench.upload(&text()).await;
    let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/yaml\r\n", bench.submit_key);
    let submit = async |more: &str| {
        let body = format!("{JOB}data: \"{data}\"\n{more}");
        bench.ask("POST", "/v1/jobs", &headers, body.as_bytes()).await
    };
    let (with, without) = (submit("out: runs/mine\n").await, submit("").await);
    assert_eq!((with.status, &with.json()["id"]), (201, &without.json()["id"]));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_no_machine_can_hold_is_refused_before_it_takes_memory() {
    let bench = Bench::start().await;
    let data = bench.upload(&text()).await;
    let body =
        json!({ "preset": "qwen3-tiny", "data": data, "model": { "layers": 1000, "hidden": 600_000 } });
    let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", bench.submit_key);
    let answer = bench.ask("POST", "/v1/jobs", &headers, body.to_string().as_bytes()).await;
    answer.is_problem(422, "refused", "MiB here");
    bench.stop().await;
}
