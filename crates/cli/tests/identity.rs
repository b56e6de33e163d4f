//! A node's key is looked at, changed and ended; an operator vouches for a node.
#![cfg(unix)]

mod common;

use std::fs;

use common::{Bench, Running};

fn join<'a>(ticket: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let arguments = ["join", ticket, "--dir", "node", "--threads", "1", "--no-page", "--json"];
    [&arguments[..], more].concat()
}

#[test]
fn a_key_is_rotated_and_then_revoked_and_the_network_lets_neither_in_again() {
    let bench = Bench::new();
    let (up, ticket) = Running::orchestrator(&bench);
    bench.zoo(["key", "show", "--dir", "node"]).refuses("there is no key in node\nhint: ");
    let mut node = Running::start(&bench, &join(&ticket, &[]));
    node.event("connected");
    bench.zoo(["key", "rotate", &ticket, "--dir", "node"]).refuses("is in use by another process");
    node.interrupt("left");
    let key = || bench.zoo(["key", "show", "--dir", "node", "--json"]).succeeds().last_event("key");
    let old = key()["node"].clone();

    let seed = fs::read(bench.path("node/key")).unwrap();
    let rotate = ["key", "rotate", &ticket, "--dir", "node", "--json"];
    let rotated = bench.zoo(rotate).succeeds().last_event("rotated");
    assert_eq!((&rotated["old"], &rotated["new"]), (&old, &key()["node"]));
    assert_eq!(fs::read(bench.path("node/key.old")).unwrap(), seed, "it is kept aside");

    // As if the process had died before it took the key that the network has.
    let new = fs::read(bench.path("node/key")).unwrap();
    fs::write(bench.path("node/key.next"), &new).unwrap();
    fs::write(bench.path("node/key"), &seed).unwrap();
    bench.zoo(join(&ticket, &[])).refuses("goes on as");
    assert_eq!(bench.zoo(rotate).succeeds().last_event("rotated"), rotated);
    let mut node = Running::start(&bench, &join(&ticket, &[]));
    node.event("connected");
    node.interrupt("left");

    let revoke = ["key", "revoke", &ticket, "--dir", "node"];
    bench.zoo(revoke).refuses("hint: --yes if that is meant");
    bench.zoo([&revoke[..], &["--save", "revoked.zoo"]].concat()).succeeds();
    fs::remove_file(bench.path("node/key")).unwrap();
    let saved = ["key", "revoke", &ticket, "--saved", "revoked.zoo", "--yes", "--json"];
    let revoked = bench.zoo(saved).succeeds().last_event("revoked");
    assert_eq!(revoked["node"], rotated["new"]);
    fs::write(bench.path("node/key"), &new).unwrap();
    bench.zoo(join(&ticket, &[])).refuses("it was revoked");
    up.interrupt("stopped");
}

#[test]
fn an_operator_vouches_for_a_node_until_it_takes_that_back() {
    let bench = Bench::new();
    let operator =
        bench.zoo(["operator", "show", "--dir", "operator", "--json"]).succeeds().last_event("operator");
    let operator = operator["operator"].as_str().unwrap().to_owned();
    let listen = ["up", "--dir", "net", "--listen", "127.0.0.1:0", "--no-http", "--json"];
    let mut up = Running::start(&bench, &[&listen[..], &["--trust", &operator]].concat());
    let ticket = up.event("listening")["ticket"].as_str().unwrap().to_owned();
    let mut node = Running::start(&bench, &join(&ticket, &["--credential", "node.cred"]));
    let id = node.event("ready")["node"].as_str().unwrap().to_owned();
    let issue = ["operator", "issue", "--dir", "operator", "--node", &id, "--out", "node.cred", "--json"];
    assert!(node.event("distrusted")["why"].as_str().unwrap().contains("cannot read node.cred"));
    node.interrupt("left");
    bench.zoo([&issue[..], &["--network", &id]].concat()).succeeds();

    let start = || Running::start(&bench, &join(&ticket, &["--credential", "node.cred"]));
    let mut node = start();
    let why = node.event("distrusted")["why"].clone();
    assert!(why.as_str().unwrap().contains("it is foreign"), "{why}");
    node.interrupt("left");
    let issued = bench.zoo([&issue[..], &["--network", &ticket]].concat()).succeeds().last_event("issued");
    assert_eq!(issued["operator"], operator.as_str());
    let mut node = start();
    node.event("trusted");
    let trust = || bench.zoo(["trust", "--network", &ticket, "--json"]).succeeds().events().remove(0);
    assert_eq!(trust()["nodes"][0]["vouched"]["operator"], operator.as_str(), "{}", trust());
    let revoke = ["operator", "revoke", "node.cred", "--network", &ticket, "--dir"];
    bench.zoo([&revoke[..], &["other"]].concat()).refuses("was issued by");
    bench.zoo([&revoke[..], &["operator"]].concat()).succeeds();
    assert!(trust()["nodes"][0]["vouched"].is_null());
    node.interrupt("left");
    let mut node = start();
    assert!(node.event("distrusted")["why"].as_str().unwrap().contains("is void"));
    node.interrupt("left");
    fs::write(bench.path("text"), "no credential").unwrap();
    bench.zoo(["operator", "show", "text"]).refuses("not a file of a declaration");
    up.interrupt("stopped");
}
