//! Looking back at a real network through its journal.
#![cfg(unix)]

mod common;

use std::fs;

use common::{Bench, Network, Running};
use serde_json::{Value, json};

fn nodes_of(summary: &Value) -> Vec<Value> {
    summary["nodes"].as_array().unwrap().clone()
}

#[test]
fn a_journal_of_a_real_run_is_looked_at_while_it_is_written_and_afterwards() {
    let network = Network::trained();
    let zoo = |arguments: &[&str]| network.bench.zoo(arguments);
    // A node may tell of its link between two looks, but not between any two.
    let agree = (0..5).any(|_| {
        let live = zoo(&["replay", "orchestrator", "--json"]).succeeds().last_event("summary");
        assert_eq!((&live["live"], &live["root_as_written"]), (&json!(2), &json!(true)));
        let verified =
            zoo(&["journal", "verify", "orchestrator", "--json"]).succeeds().last_event("verified");
        verified["root"] == live["root"]
    });
    assert!(agree, "two looks at one journal never agree");

    let bench = network.stop();
    let zoo = |arguments: &[&str]| bench.zoo(arguments);
    let summary = zoo(&["replay", "orchestrator", "--json"]).succeeds().last_event("summary");
    assert_eq!(summary["live"], 0, "both have left since");
    let rounds = summary["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 3);
    for round in rounds {
        assert_eq!(
            (&round["name"], &round["nodes"], &round["contributions"]),
            (&json!("tiny"), &json!(2), &json!(2))
        );
        assert!(round["loss"].as_f64().unwrap() > 0.0 && round["bits_per_byte"].as_f64().unwrap() > 0.0);
        assert!(round["finished_ms"].as_u64() >= round["started_ms"].as_u64());
    }
    assert!(rounds[2]["loss"].as_f64() < rounds[0]["loss"].as_f64(), "it has learned");
    let nodes = nodes_of(&summary);
    let names: Vec<_> = nodes.iter().map(|node| node["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"ibex") && names.contains(&"lynx"), "{names:?}");
    for node in &nodes {
        assert_eq!(
            (&node["contributions"], &node["faults"], &node["activity"]),
            (&json!(3), &json!(0), &json!("away"))
        );
        let (busy, here) = (node["busy_ms"].as_u64().unwrap(), node["here_ms"].as_u64().unwrap());
        assert!(0 < busy && busy < here && node["update_bytes"].as_u64().unwrap() > 0, "{node}");
    }
    let sum = |key: &str| nodes.iter().map(|node| node[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(
        (&summary["tokens"], &summary["sequences"]),
        (&json!(sum("tokens")), &json!(sum("sequences")))
    );
    assert_eq!(sum("sequences"), 3 * 2 * 4 * 4, "three rounds of four steps of four sequences on two nodes");

    // People get the same in words, and of one node alone.
    let text = zoo(&["replay", "orchestrator"]).succeeds().stdout;
    for part in
        ["ibex", "lynx", "tiny", "3/3", "█ train", "the job is finished", "as the orchestrator wrote it"]
    {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "a pipe gets no escape sequences");
    let of_one = zoo(&["replay", "orchestrator/journal.sqlite", "--node", "ib"]).succeeds().stdout;
    assert!(of_one.contains("ibex contributes to round 3") && !of_one.contains("lynx"), "{of_one}");

    // Earlier moments: before anybody had contributed, by number and by time.
    for at in ["2", "0:00"] {
        let early = zoo(&["replay", "orchestrator", "--at", at, "--json"]).succeeds().last_event("summary");
        assert_eq!((&early["tokens"], &early["commands"]), (&json!(0), &summary["commands"]), "{at}");
    }
}

#[test]
fn a_replay_leads_to_the_root_and_the_events_that_the_orchestrator_reported() {
    let bench = Network::trained().stop();
    let zoo = |arguments: &[&str]| bench.zoo(arguments);
    // What the orchestrator itself says its root is.
    let up = ["up", "--dir", "orchestrator", "--listen", "127.0.0.1:0", "--json"];
    let mut up = Running::start(&bench, &up);
    let listening = up.event("listening");
    up.interrupt("stopped");
    let replay = |more: &[&str]| {
        bench.zoo([&["journal", "replay", "orchestrator", "--json"], more].concat()).succeeds()
    };
    let whole = replay(&[]);
    let end = whole.last_event("replayed");
    assert_eq!((&end["root"], &end["root_as_written"]), (&listening["root"], &json!(true)));
    let commands = end["commands"].as_u64().unwrap();

    // Its events are those that were written when they happened.
    let mut replayed = whole.events();
    replayed.pop();
    let exported = zoo(&["journal", "export", "orchestrator"]).succeeds().events();
    let without_command = |mut event: Value| {
        event.as_object_mut().unwrap().remove("command").expect("a replay knows the command");
        event
    };
    assert_eq!(replayed.into_iter().map(without_command).collect::<Vec<_>>(), exported);

    // Every beginning of it is a replay too; the last is the whole.
    let mut events = 0;
    for until in [0, 1, commands / 2, commands] {
        let part = replay(&["--until", &until.to_string()]).last_event("replayed");
        assert_eq!(part["commands"], until);
        assert!(part["events"].as_u64().unwrap() >= events);
        events = part["events"].as_u64().unwrap();
    }
    assert_eq!(events, exported.len() as u64);
    let words = zoo(&["journal", "replay", "orchestrator"]).succeeds().stdout;
    assert!(
        words.contains(listening["root"].as_str().unwrap()) && words.contains("wrote the same root there"),
        "{words}"
    );
    zoo(&["journal", "replay", "orchestrator", "--until", "99999"]).refuses("the journal has");
}

#[test]
fn a_journal_that_was_carried_elsewhere_is_read_without_its_orchestrator() {
    let bench = Network::trained().stop();
    let copy = bench.path("elsewhere.db");
    fs::copy(bench.path("orchestrator/journal.sqlite"), &copy).unwrap();
    let before = fs::read(&copy).unwrap();
    let root = |journal: &str| {
        bench.zoo(["replay", journal, "--json"]).succeeds().last_event("summary")["root"].clone()
    };
    assert_eq!(root("elsewhere.db"), root("orchestrator"));
    bench.zoo(["journal", "verify", "elsewhere.db"]).succeeds();
    assert_eq!(fs::read(&copy).unwrap(), before, "it is only read");
}

#[test]
fn what_is_no_journal_and_who_is_not_in_it_are_named_with_a_hint() {
    let bench = Bench::new();
    let (up, ticket) = Running::orchestrator(&bench);
    let mut node = Running::start(&bench, &["join", &ticket, "--dir", "ibex", "--name", "ibex", "--json"]);
    node.event("connected");
    node.interrupt("left");
    up.interrupt("stopped");
    let good = fs::read(bench.path("orchestrator/journal.sqlite")).unwrap();

    bench.write("junk.sqlite", b"junk".repeat(5000));
    bench.write("empty.sqlite", "");
    bench.write("head.sqlite", &good[..60]);
    bench.write("cut.sqlite", &good[..good.len() / 2]);
    let mut newer = good.clone();
    // SQLite keeps user_version, the version of our tables, in bytes 60 to 63.
    newer[60..64].copy_from_slice(&[0, 0, 0, 99]);
    bench.write("newer.sqlite", newer);
    fs::create_dir(bench.path("folder")).unwrap();
    for command in [&["replay"][..], &["journal", "verify"], &["journal", "replay"], &["journal", "export"]] {
        let on = |journal: &str| bench.zoo([command, &[journal]].concat());
        on("nowhere").refuses("there is no journal in nowhere");
        on("folder").refuses("there is no journal in folder");
        on("text.txt").refuses("text.txt is not a journal of zoo");
        on("junk.sqlite").refuses("junk.sqlite is not a journal of zoo");
        on("empty.sqlite").refuses("empty.sqlite is not a journal of zoo");
        on("head.sqlite").refuses("head.sqlite is not a journal of zoo");
        on("cut.sqlite").refuses("cut.sqlite is damaged");
        on("newer.sqlite").refuses("newer.sqlite has format 99");
        assert!(!bench.path("nowhere").exists(), "nothing is created");
    }
    let replay = |more: &[&str]| bench.zoo([&["replay", "orchestrator"], more].concat());
    replay(&["--node", "nobody"]).refuses("no node's name or id begins with nobody");
    replay(&["--at", "99999"]).refuses("the journal has");
    assert_eq!(replay(&["--at", "1:99"]).code, Some(2), "arguments are refused as everywhere");
}
