//! What people do with a network: submit, look, watch, fetch.
#![cfg(unix)]

mod common;

use common::{Bench, Running};
use serde_json::{Value, json};

const TINY: [&str; 8] =
    ["--preset", "qwen3-tiny", "--data", "text.txt", "--set", "training.batch_sequences=4", "--steps", "12"];

/// `zoo submit` of a job that takes seconds.
fn submission<'a>(ticket: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let rounds =
        ["--set", "rounds.inner_steps=4", "--set", "evaluate_every=4", "--network", ticket, "--json"];
    ["submit"].iter().chain(&TINY).chain(&rounds).chain(more).copied().collect()
}

#[test]
fn a_job_goes_from_a_file_of_text_to_a_model_that_writes() {
    let bench = Bench::new();
    let (up, ticket) = Running::orchestrator(&bench);
    let on = |command: &str| bench.zoo([command, "--network", &ticket, "--json"]).succeeds();
    assert_eq!(on("jobs").stdout, "");
    bench.zoo(["fetch", "--network", &ticket]).refuses("the network has no job");

    // Nobody works yet: the job waits, and outlives whoever submitted it.
    let update =
        ["--set", "training.update.type=sparse", "--set", "training.update.keep=512", "--name", "tiny"];
    let submitted = bench.zoo(submission(&ticket, &update)).succeeds().last_event("submitted");
    let rhythm = json!([{ "from_step": 0, "inner_steps": 4, "most_inner_steps": 4 }]);
    assert_eq!((&submitted["rounds"], &submitted["rhythm"]), (&json!(3), &rhythm));
    let jobs = on("jobs").events();
    assert_eq!((&jobs[0]["job"], &jobs[0]["state"]), (&submitted["job"], &json!("running")));
    bench.zoo(["fetch", "tiny", "--network", &ticket]).refuses("tiny has no finished round yet");
    let mut top = Running::start(&bench, &["top", "--network", &ticket, "--json"]);

    let nodes = ["ibex", "lynx"].map(|name| {
        let arguments = ["join", &ticket, "--dir", name, "--name", name, "--threads", "1", "--json"];
        Running::start(&bench, &arguments)
    });
    top.event("round_finished");
    let finished = top.event("job_finished");
    assert_eq!(finished["job"], submitted["job"]);
    let job = on("jobs").events().remove(0);
    assert_eq!(
        (&job["state"], &job["rounds"], &job["of_rounds"]),
        (&json!("finished"), &json!(3), &json!(3))
    );
    let bits: Vec<f64> =
        job["bits_per_byte"].as_array().unwrap().iter().filter_map(|bits| bits.as_f64()).collect();
    assert!(bits.len() == 3 && bits[2] < bits[0], "{bits:?}");
    let status = on("status").events().remove(0);
    assert_eq!((&status["live"], &status["jobs"][0]), (&json!(2), &job));

    let id = submitted["job"].as_str().unwrap();
    let fetch = ["fetch", &id[..10], "--out", "model", "--network", &ticket, "--json"];
    let fetched = bench.zoo(fetch).succeeds().last_event("fetched");
    assert_eq!(fetched["checkpoint"], finished["checkpoint"]);
    bench.zoo(fetch).refuses("model exists already");
    let stored = ["fetch", "--out", "copy", "--network", &ticket, "--storage", "dir:backup", "--json"];
    let stored = bench.zoo(stored).succeeds().last_event("stored");
    let snapshot = stored["snapshot"].as_str().unwrap();
    bench.zoo(["storage", "get", "dir:backup", snapshot, "--out", "again"]).succeeds();
    let weights = |folder: &str| std::fs::read(bench.path(folder).join("model.safetensors")).unwrap();
    assert_eq!(weights("again"), weights("model"));
    let written = bench.zoo(["generate", "model", "the", "--tokens", "8", "--greedy", "--json"]).succeeds();
    assert!(written.stdout.contains("\"text\""), "{}", written.stdout);

    // With --wait it is watched to its end; equal jobs are one.
    let again = bench
        .zoo(submission(&ticket, &[&update[..], &["--set", "training.seed=2", "--wait"]].concat()))
        .succeeds();
    assert_ne!(again.events()[0]["job"], submitted["job"]);
    again.last_event("job_finished");
    bench.zoo(["fetch", "nobody", "--network", &ticket]).refuses("the network has no job nobody");
    top.interrupt_quietly();
    nodes.into_iter().for_each(|node| node.interrupt("left"));
    up.interrupt("stopped");
}

#[test]
fn a_job_over_a_tree_ends_with_the_bits_of_one_over_an_all_gather() {
    let bench = Bench::new();
    let (up, ticket) = Running::orchestrator(&bench);
    let mut nodes: Vec<Running> = ["ibex", "lynx", "puma"]
        .into_iter()
        .map(|name| {
            let limits = ["--max-upload", "4096", "--region", if name == "ibex" { "north" } else { "south" }];
            let join = ["join", &ticket, "--dir", name, "--name", name, "--threads", "1", "--json"];
            Running::start(&bench, &[&join[..], &limits].concat())
        })
        .collect();
    for node in &mut nodes {
        node.event("connected");
    }
    // One round: in the next, shares follow what was measured in this.
    let run = |topology: &str| {
        let topology = format!("rounds.topology={topology}");
        let more = [
            "--set",
            &topology,
            "--set",
            "rounds.minimum_nodes=3",
            "--set",
            "rounds.inner_steps=12",
            "--wait",
        ];
        let done = bench.zoo(submission(&ticket, &more)).succeeds();
        let job = done.events()[0]["job"].as_str().unwrap().to_owned();
        let model = bench.path(&job).join("model.safetensors");
        bench.zoo(["fetch", &job, "--out", &job, "--network", &ticket]).succeeds();
        (std::fs::read(model).unwrap(), done.last_event("job_finished")["checkpoint"].clone())
    };
    let gathered = run("all-gather");
    assert_eq!(run("star"), gathered);
    // Where a tree adds, nothing is remembered of single contributions, so the checkpoint has another name; and the same parameters.
    assert!(run("tree:2").0 == gathered.0, "a tree ends with other parameters");
    bench.zoo(submission(&ticket, &["--set", "rounds.topology=ring"])).refuses("\"ring\" is no topology");
    for mut node in nodes {
        let summed = node.event("summed");
        assert!(summed["bytes"].as_u64() > Some(0), "each of them adds a part: {summed}");
        node.interrupt("left");
    }
    up.interrupt("stopped");
}

#[test]
fn a_network_that_is_not_there_is_told_of_before_any_work() {
    let bench = Bench::new();
    let home = bench.path("home");
    let lost = |arguments: &[&str]| {
        let output = bench.command(arguments).env("HOME", &home).env_remove("ZOO_NETWORK").output().unwrap();
        common::Ran::from(output).refuses("no network is named, and none was started here");
    };
    for command in ["jobs", "status", "top", "fetch", "submit"] {
        lost(&[command]);
        bench.zoo([command, "--network", "nonsense"]).refuses("this is not a ticket");
    }
    let (up, ticket) = Running::orchestrator(&bench);
    up.interrupt("stopped");
    let ran = bench.zoo(submission(&ticket, &[]));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("cannot reach the orchestrator at 127.0.0.1:"), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_job_that_cannot_be_is_refused_by_its_key() {
    let bench = Bench::new();
    let (_up, ticket) = Running::orchestrator(&bench);
    for (setting, message) in [
        ("rounds.inner_steps=0", "rounds.inner_steps"),
        ("rounds.inner_steps=9..3", "write 30, or 10..100"),
        ("rounds.sequences=3", "rounds.sequences: there is no such key"),
        ("training.update.type=dens", "unknown variant `dens`"),
        ("training.update={type: sparse, keep: 5000}", "training.update.keep"),
    ] {
        bench.zoo(submission(&ticket, &["--set", setting])).refuses(message);
    }
    bench.write("empty.txt", "");
    let empty = ["submit", "--data", "empty.txt", "--network", &ticket, "--json"];
    bench.zoo(empty).refuses("empty.txt");
}

#[test]
fn a_journal_is_verified_and_printed_and_a_changed_byte_is_found() {
    let bench = Bench::new();
    bench.zoo(["journal", "verify", "--dir", "orchestrator"]).refuses("there is no journal in orchestrator");
    let (up, ticket) = Running::orchestrator(&bench);
    bench.zoo(submission(&ticket, &[])).succeeds();
    bench.zoo(["journal", "verify", "--dir", "orchestrator"]).succeeds();
    up.interrupt("stopped");

    let verify = || bench.zoo(["journal", "verify", "--dir", "orchestrator", "--json"]);
    let verified = verify().succeeds().last_event("verified");
    assert_eq!(verified["commands"], 2, "whose network it is, and the job");
    let export = |from| bench.zoo(["journal", "export", "--dir", "orchestrator", "--from", from]);
    let events = export("0").succeeds().events();
    assert_eq!(events.len() as u64, verified["events"].as_u64().unwrap());
    let kinds: Vec<&Value> = events.iter().map(|event| &event["event"]).collect();
    assert_eq!(kinds, ["network_named", "job_accepted", "round_waiting"]);
    assert_eq!(export("1").succeeds().events()[0], events[1]);
    export("99").refuses("the journal has 3 events");

    let path = bench.path("orchestrator/journal.sqlite");
    let mut bytes = std::fs::read(&path).unwrap();
    let name = b"qwen3-tiny";
    let at = bytes.windows(name.len()).rposition(|window| window == name).unwrap();
    bytes[at] ^= 1;
    let entry = bytes.windows(name.len()).position(|window| window == name);
    if let Some(entry) = entry {
        bytes[entry] ^= 1;
    }
    std::fs::write(&path, bytes).unwrap();
    verify().refuses("is damaged at command 1: its digest does not match");
}

#[test]
fn a_node_leaves_or_drains_when_asked_and_takes_no_more_than_it_may() {
    let bench = Bench::new();
    bench.zoo(["leave", "--dir", "nowhere"]).refuses("no node runs in nowhere");
    let (up, ticket) = Running::orchestrator(&bench);
    let join = |name: &'static str, more: &[&'static str]| {
        let arguments = ["join", &ticket, "--dir", name, "--name", name, "--threads", "1", "--json"];
        Running::start(&bench, &[&arguments[..], more].concat())
    };
    let mut ibex = join("ibex", &["--max-memory", "1000"]);
    assert_eq!(ibex.event("ready")["profile"]["memory_mib"], 1000);
    ibex.event("connected");
    let left = bench.zoo(["leave", "--dir", "ibex"]).succeeds();
    assert!(left.stdout.contains("the node in ibex has left"), "{}", left.stdout);
    ibex.event("left");

    // Two nodes in a long job: the one that is drained contributes to the round before it goes.
    let [mut lynx, mut newt] = ["lynx", "newt"].map(|name| join(name, &[]));
    lynx.event("connected");
    newt.event("connected");
    bench.zoo(submission(&ticket, &["--set", "rounds.inner_steps=60"])).succeeds();
    lynx.event("started");
    bench.zoo(["drain", "--dir", "lynx"]).succeeds();
    assert_eq!(lynx.event("aggregated")["event"], "aggregated");
    lynx.event("left");

    // What does not fit is refused, and the orchestrator hears of it.
    let mut top = Running::start(&bench, &["top", "--network", &ticket, "--json"]);
    let big = ["submit", "--preset", "bench-m", "--data", "text.txt", "--network", &ticket, "--json"];
    bench.zoo(["leave", "--dir", "newt"]).succeeds();
    newt.event("left");
    let _small = join("otter", &["--max-memory", "64"]);
    bench.zoo(big).succeeds();
    let failed = top.event("work_failed");
    assert!(
        failed["reason"].as_str().unwrap().contains("MiB of memory, and 64 MiB are available"),
        "{failed}"
    );
    top.interrupt_quietly();
    up.interrupt("stopped");
}

#[test]
fn a_node_rests_outside_of_its_hours_and_hears_who_asks_it_to_leave() {
    let bench = Bench::new();
    let (up, ticket) = Running::orchestrator(&bench);
    #[expect(clippy::disallowed_methods, reason = "the node goes by the same clock")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let hour = now.as_secs() / 3600 + 2;
    let later = format!("{}-{}", hour % 24, (hour + 1) % 24);
    let join = ["join", &ticket, "--dir", "owl", "--hours", &later, "--json"];
    let mut owl = Running::start(&bench, &join);
    let seconds = owl.event("resting")["seconds"].as_u64().unwrap();
    assert!((3000..=7200).contains(&seconds), "{seconds} s until {later}");
    let status = bench.zoo(["status", "--network", &ticket, "--json"]).succeeds().events().remove(0);
    assert_eq!(status["live"], json!(0), "it is not there");
    bench.zoo(["leave", "--dir", "owl"]).succeeds();
    owl.event("left");
    drop(up);

    for (more, message) in [
        (&["--hours", "25-7"][..], "\"25\" is no time of the day"),
        (&["--hours", "night"][..], "\"night\" is not from one time to another"),
        (&["--hours", "7-7"][..], "hours from a time to the same time are none"),
        (&["--hours", "22-7", "--utc-offset", "CET"][..], "\"CET\" is no offset from UTC"),
    ] {
        bench.zoo([&["join", &ticket][..], more].concat()).refuses(message);
    }
}
