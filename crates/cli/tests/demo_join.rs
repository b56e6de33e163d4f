//! `zoo up` and `zoo join`: how they begin, what they refuse, how they end.
#![cfg(unix)]

mod common;

use std::net::UdpSocket;

use common::{Bench, Running};
use tokio::runtime::Runtime;
use zoo_network::{BindOptions, Endpoint, Ticket};
use zoo_protocol::{FromOrchestrator, NodeKey, Rejection, Role, ToOrchestrator, VERSION};

#[test]
fn a_node_joins_and_both_leave_when_interrupted() {
    let bench = Bench::new();
    let (up, ticket) = Running::orchestrator(&bench);
    let arguments = ["join", &ticket, "--dir", "node", "--name", "lynx", "--threads", "1", "--json"];
    let mut node = Running::start(&bench, &arguments);
    let first = node.event("ready");
    assert_eq!((&first["profile"]["name"], &first["profile"]["threads"]), (&"lynx".into(), &1.into()));
    node.event("connected");

    bench.zoo(arguments).refuses("hint: stop the other process, or give this one a directory of its own");
    bench
        .zoo(["up", "--dir", "orchestrator"])
        .refuses("hint: stop the other process, or give this one a directory of its own");
    node.interrupt("left");
    let mut again = Running::start(&bench, &arguments);
    assert_eq!(again.event("ready")["node"], first["node"], "the same directory is the same node");
    again.event("connected");
    again.interrupt("left");
    up.interrupt("stopped");

    let (_up, same_ticket) = Running::orchestrator(&bench);
    assert_eq!(ticket, same_ticket, "tickets survive a restart");
}

#[test]
fn what_is_not_a_ticket_is_refused() {
    let bench = Bench::new();
    for (word, message) in [
        ("nonsense", "this is not a ticket"),
        ("zoo1abcdef", "the ticket is damaged"),
        ("zoo1ab!", "unexpected character '!'"),
        ("zoo9abcdef", "the ticket is of another version"),
    ] {
        bench.zoo(["join", word, "--dir", "node"]).refuses(message);
    }
    assert!(!bench.path("node").exists(), "nothing is created for it");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let bench = Bench::new();
    bench.write("file", "");
    let (_up, ticket) = Running::orchestrator(&bench);
    let ran = bench.zoo(["join", &ticket, "--dir", "file/node", "--threads", "1"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("cannot create file/node"), "{}", ran.stderr);
}

#[test]
fn a_port_in_use_is_refused() {
    let bench = Bench::new();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = port.local_addr().unwrap().to_string();
    bench.zoo(["up", "--dir", "orchestrator", "--listen", &taken]).refuses("is in use by another process");
    let (_up, ticket) = Running::orchestrator(&bench);
    let arguments = ["join", &ticket, "--dir", "node", "--threads", "1", "--listen", &taken];
    bench.zoo(arguments).refuses("is in use by another process");
}

#[test]
fn an_orchestrator_that_nobody_runs_is_given_up_with_a_hint() {
    let bench = Bench::new();
    let (up, ticket) = Running::orchestrator(&bench);
    up.interrupt("stopped");
    let ran = bench.zoo(["join", &ticket, "--dir", "node", "--threads", "1"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("not connected: ") && ran.stdout.contains("next try in"), "{}", ran.stdout);
    assert!(ran.stderr.contains("error: the orchestrator cannot be reached"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: check that `zoo up` is running there"), "{}", ran.stderr);
}

#[test]
fn a_node_tells_of_an_orchestrator_of_another_version() {
    const THEIRS: u16 = 99;
    let bench = Bench::new();
    let runtime = Runtime::new().unwrap();
    let (ticket, _endpoint) = runtime.block_on(async {
        let key = NodeKey::from_seed([9; 32]);
        let listen = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::bind(BindOptions { key: &key, listen, relay: None }).await.unwrap();
        let mut connections = endpoint.control_connections();
        tokio::spawn(async move {
            while let Some((_, mut stream)) = connections.recv().await {
                let hello = stream.recv().await.unwrap();
                let Some(ToOrchestrator::Hello { version, .. }) = hello else { panic!("{hello:?}") };
                let rejection = Rejection::Version { ours: THEIRS, theirs: version };
                stream.send(&FromOrchestrator::Rejected(rejection)).await.unwrap();
                stream.close().await;
            }
        });
        (endpoint.ticket().to_string(), endpoint)
    });
    let ran = bench.zoo(["join", &ticket, "--dir", "node", "--threads", "1"]);
    ran.refuses(&format!("the orchestrator speaks protocol version {THEIRS}, this node speaks {VERSION}"));
}

#[test]
fn an_orchestrator_tells_a_node_of_another_version() {
    let bench = Bench::new();
    let (up, ticket) = Running::orchestrator(&bench);
    let answer = Runtime::new().unwrap().block_on(async {
        let key = NodeKey::from_seed([9; 32]);
        let listen = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::bind(BindOptions { key: &key, listen, relay: None }).await.unwrap();
        let mut stream = endpoint.connect(&ticket.parse::<Ticket>().unwrap()).await.unwrap();
        stream.send(&ToOrchestrator::Hello { version: 99, role: Role::Client }).await.unwrap();
        let answer = stream.recv().await.unwrap();
        endpoint.close().await;
        answer
    });
    assert_eq!(answer, Some(FromOrchestrator::Rejected(Rejection::Version { ours: VERSION, theirs: 99 })));
    up.interrupt("stopped");
}
