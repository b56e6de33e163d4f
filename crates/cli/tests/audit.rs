//! `zoo audit`: a job that was trained by real processes is done again from what was packed of it, and whatever is changed is found.
#![cfg(unix)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Bench, Network, Ran, Running};
use serde_json::json;

/// A bench with `evidence`, packed from a finished job's network, and `model`, as it was published.
fn packed() -> Bench {
    let network = Network::trained();
    let fetch = ["fetch", "tiny", "--out", "model", "--network", &network.ticket, "--json"];
    network.bench.zoo(fetch).succeeds();
    let bench = network.stop();
    let packed = bench.zoo(["journal", "pack", "orchestrator", "--out", "evidence", "--json"]).succeeds();
    let packed = packed.last_event("packed");
    assert!(packed["commands"].as_u64() > Some(0) && packed["blobs"].as_u64() > Some(4), "{packed}");
    bench
}

fn audit(bench: &Bench, more: &[&str]) -> Ran {
    bench.zoo([&["audit", "evidence", "--json"], more].concat())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { files.extend(self::files(&entry)) } else { files.push(entry) }
    }
    files.sort();
    files
}

/// Changes one bit of a file, sees what `look` sees, and changes it back.
fn with_another_bit(path: &Path, at: usize, look: impl FnOnce()) {
    let bytes = fs::read(path).unwrap();
    let mut changed = bytes.clone();
    changed[at] ^= 1;
    fs::write(path, changed).unwrap();
    look();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_job_comes_out_again_from_its_pack_and_one_bit_changed_anywhere_is_found_where_it_is() {
    let bench = packed();
    let names: Vec<_> =
        files(&bench.path("evidence")).into_iter().filter(|path| path.ends_with("key")).collect();
    assert_eq!(names, Vec::<PathBuf>::new(), "no key leaves the orchestrator");

    let all = audit(&bench, &["--all", "--model", "model"]).succeeds();
    let events = all.events();
    let event = |name: &str| events.iter().find(|event| event["event"] == name).expect(name);
    let audited = event("audited");
    for (key, value) in
        [("windows", 6), ("different", 0), ("unavailable", 0), ("skipped", 0), ("evaluations", 3)]
    {
        assert!(
            audited[key] == value || key == "evaluations" && audited[key].as_u64() >= Some(3),
            "{audited}"
        );
    }
    assert_eq!(
        (&audited["checkpoint_equal"], &audited["checkpoint"]),
        (&json!(true), &event("job")["checkpoint"])
    );
    assert_eq!((&event("model")["equal"], &event("job")["outcome"]), (&json!(true), &json!("finished")));
    let nodes: Vec<_> = events.iter().filter(|event| event["event"] == "node").collect();
    assert!(nodes.len() == 2 && nodes.iter().all(|node| node["windows"] == 3), "{nodes:?}");
    let checked = events.iter().filter(|event| event["event"] == "checked");
    assert!(checked.into_iter().all(|checked| checked["verdict"] == "equal"));

    // Every blob.
    for path in
        files(&bench.path("evidence/blobs")).iter().filter(|path| fs::metadata(path).unwrap().len() > 0)
    {
        let middle = fs::metadata(path).unwrap().len() as usize / 2;
        with_another_bit(path, middle, || {
            let damaged = audit(&bench, &["--all"]).refuses("1 blob damaged");
            let told: Vec<_> =
                damaged.events().into_iter().filter(|event| event["event"] == "damaged").collect();
            let [told] = &told[..] else { panic!("{told:?}") };
            assert!(path.ends_with(told["path"].as_str().unwrap()) && told["role"] != "a blob", "{told}");
        });
    }

    // The journal: at the name of the job, which is in a command and in an event, and at places all over the file. What no record has is
    // no part of what the journal says.
    let journal = bench.path("evidence/journal.sqlite");
    let (bytes, said) = (fs::read(&journal).unwrap(), audit(&bench, &[]).events()[0].clone());
    let names = bytes.windows(4).enumerate().filter(|(_, window)| window == b"tiny").map(|(at, _)| at);
    let mut found = String::new();
    for at in names.chain((0..bytes.len()).step_by(bytes.len() / 40)) {
        with_another_bit(&journal, at, || {
            let ran = audit(&bench, &[]);
            match ran.code {
                Some(0) => assert_eq!(ran.events()[0], said, "byte {at}"),
                _ => found.push_str(&ran.refuses("journal.sqlite").stderr),
            }
        });
    }
    for what in ["is damaged at command 3: its digest does not match", "holds another event 3"] {
        assert!(found.contains(what), "{what} in\n{found}");
    }

    // The model.
    for path in files(&bench.path("model")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let last = fs::metadata(&path).unwrap().len() as usize - 1;
        with_another_bit(&path, last, || {
            let refused = audit(&bench, &["--all", "--model", "model"])
                .refuses("is not the one that the journal leads to");
            let told = refused.last_event("model");
            let [difference] = &told["differences"].as_array().unwrap()[..] else { panic!("{told}") };
            let difference = difference.as_str().unwrap();
            assert!(difference.starts_with(&format!("{name}: byte {last}")), "{difference}");
            assert_eq!(difference.contains("tensor"), name.ends_with(".safetensors"), "{difference}");
        });
    }
    audit(&bench, &["--all", "--model", "model"]).succeeds();
}

#[test]
fn an_audit_says_what_it_did_in_words_and_what_it_could_not_do() {
    let bench = packed();
    let quick = bench.zoo(["audit", "evidence"]).succeeds().stdout;
    for part in [
        "every digest holds",
        "every byte is as its name says",
        "job tiny",
        "seed",
        "training data",
        "node ibex",
        "3 windows",
    ] {
        assert!(quick.contains(part), "{part} in\n{quick}");
    }
    let all = bench.zoo(["audit", "evidence", "--all", "--threads", "1"]).succeeds().stdout;
    assert!(all.contains("equal to the last bit: 6 windows") && all.contains("comes out again"), "{all}");
    let first = audit(&bench, &["--rounds", "1-2"]).succeeds().last_event("audited");
    assert_eq!(
        (&first["windows"], &first["checkpoint_equal"]),
        (&json!(4), &json!(false)),
        "round 3 was not done"
    );

    let steps = audit(&bench, &["--steps", "1"]).succeeds().last_event("audited");
    assert_eq!(steps["windows"], 2, "the round that the first step belongs to");
    audit(&bench, &["--rounds", "4"]).refuses("it has 3 rounds, counted from 1");
    audit(&bench, &["--steps", "100000-200000"]).refuses("the job has no such inner step");

    // What the third round starts from is not in the pack, and nothing is called equal that was not done.
    let middle = audit(&bench, &["--rounds", "3"]).refuses("cannot be checked");
    assert_eq!(middle.last_event("audited")["windows"], 0);
    audit(&bench, &["--model", "model"]).refuses("its checkpoint");

    // Ctrl-C: what was found is there, nothing is left over.
    let scratch = bench.path("scratch");
    fs::create_dir(&scratch).unwrap();
    let arguments =
        ["audit", "evidence", "--all", "--threads", "1", "--isa", "scalar", "--scratch", "scratch", "--json"];
    let mut stopped = Running::start(&bench, &arguments);
    stopped.event("checked");
    let sent = Command::new("kill").args(["-INT", &stopped.child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(stopped.child.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);

    let rounds = audit(&bench, &["--rounds", "0"]);
    assert!(rounds.code == Some(2) && rounds.stderr.contains("counted from 1"), "{rounds:?}");
    audit(&bench, &["--job", "other"]).refuses("no job other");
    audit(&bench, &["--blobs", "nowhere"]).refuses("no blobs in");
    bench.zoo(["audit", "nowhere"]).refuses("no journal in");
    bench.zoo(["journal", "pack", "orchestrator", "--out", "evidence"]).refuses("exists already");
    let empty = audit(&bench, &["--all", "--model", "nowhere"]).refuses("is not the one");
    assert!(empty.stdout.contains("config.json"), "{}", empty.stdout);
}

#[test]
fn a_pack_from_afar_has_the_head_that_its_orchestrator_signed_and_two_histories_under_one_key_are_found() {
    let network = Network::trained();
    let pack = |ticket: &str, out: &str| {
        let packed = network.bench.zoo(["journal", "pack", "--network", ticket, "--out", out, "--json"]);
        packed.succeeds().last_event("packed")["commands"].as_u64().unwrap()
    };
    // Whoever asks at once gets the same copy; on a busy machine somebody may have asked too late for that.
    let read = |name: &str| fs::read(network.bench.path(name)).unwrap();
    let alike = (0..20).any(|time| {
        let (one, other) = (format!("one-{time}"), format!("other-{time}"));
        pack(&network.ticket, &one) == pack(&network.ticket, &other)
            && read(&format!("{one}/journal.sqlite")) == read(&format!("{other}/journal.sqlite"))
    });
    assert!(alike, "every copy was another");
    let first = pack(&network.ticket, "evidence");
    let all = audit(&network.bench, &["--all"]).succeeds();
    let head = all.events().into_iter().find(|event| event["event"] == "head").expect("a head");
    assert_eq!((&head["verdict"], head["commands"].as_u64()), (&json!("equal"), Some(first)), "{head}");
    let at_once = network.bench.zoo(["audit", "--network", &network.ticket, "--all"]).succeeds().stdout;
    assert!(at_once.contains("are those that") && at_once.contains("comes out again"), "{at_once}");
    let bench = network.stop();

    // Its own folder has what happened since: the first history is the beginning of that.
    let since = bench.zoo(["audit", "orchestrator", "--head", "evidence/head"]).succeeds().stdout;
    assert!(since.contains("are those that"), "{since}");

    // The same key tells somebody else that something else had happened.
    fs::create_dir(bench.path("liar")).unwrap();
    fs::copy(bench.path("orchestrator/key"), bench.path("liar/key")).unwrap();
    let mut up = Running::start(&bench, &["up", "--dir", "liar", "--listen", "127.0.0.1:0", "--json"]);
    let ticket = up.event("listening")["ticket"].as_str().unwrap().to_owned();
    let submit =
        ["submit", "--preset", "qwen3-tiny", "--data", "text.txt", "--steps", "2", "--network", &ticket];
    bench.zoo(submit).succeeds();
    bench.zoo(["journal", "pack", "--network", &ticket, "--out", "other"]).succeeds();
    up.interrupt("stopped");
    let told = audit(&bench, &["--head", "other/head"]).refuses("signed another history");
    assert_eq!(told.last_event("head")["verdict"], "conflict");
    // A head that is further than the journal says nothing of it.
    bench.zoo(["audit", "other", "--head", "evidence/head"]).refuses("has not so many");

    // What was not signed, or by nobody.
    with_another_bit(&bench.path("evidence/head"), 40, || {
        _ = audit(&bench, &[]).refuses("not the signed head")
    });
    bench
        .zoo(["journal", "pack", "--network", &ticket, "--out", "gone"])
        .refuses("cannot reach the orchestrator");
    assert!(!bench.path("gone").exists());
}
