//! Networks whose nodes meet at a relay: real processes, which cannot reach each other between the two loopback addresses.
#![cfg(unix)]

mod common;

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use common::{Bench, Running, text};
use zoo_network::Ticket;

const NODES: [&str; 2] = ["ibex", "lynx"];
/// More than a relay carries that carries no bulk, and all else in these jobs is less.
const LARGE_BYTES: usize = 400_000;

fn relay(bench: &Bench) -> (Running, String) {
    let mut relay = Running::start(bench, &["relay", "--listen", "127.0.0.1:0", "--json"]);
    let url = relay.event("listening")["url"].as_str().unwrap().to_owned();
    (relay, url)
}

fn orchestrator(bench: &Bench, relay: &str, more: &[&str]) -> (Running, String) {
    let up = ["up", "--dir", "orchestrator", "--listen", "127.0.0.1:0", "--relay", relay, "--json"];
    let mut up = Running::start(bench, &[&up[..], more].concat());
    let ticket = up.event("listening")["ticket"].as_str().unwrap().to_owned();
    (up, ticket)
}

fn node(bench: &Bench, ticket: &str, name: &str, listen: &str) -> Running {
    let limits = ["--threads", "1", "--listen", listen, "--json"];
    let join = ["join", ticket, "--dir", name, "--name", name];
    Running::start(bench, &[&join[..], &limits].concat())
}

/// `zoo submit` of a job that takes seconds, waits for both nodes and has one blob that is large: its text.
fn submit(bench: &Bench, ticket: &str, steps: &str) {
    bench.write("large.txt", text(LARGE_BYTES));
    let model = ["--preset", "qwen3-tiny", "--data", "large.txt", "--set", "training.batch_sequences=4"];
    let rounds = ["--set", "rounds.inner_steps=4", "--set", "rounds.minimum_nodes=2", "--steps", steps];
    let submit = ["submit", "--network", ticket, "--json"];
    bench.zoo([&submit[..], &model, &rounds].concat()).succeeds().last_event("submitted");
}

fn watch(bench: &Bench, ticket: &str) -> Running {
    Running::start(bench, &["top", "--network", ticket, "--json"])
}

/// The same ticket, of which only the key and the relay are known.
fn without_addresses(ticket: &str) -> String {
    let ticket: Ticket = ticket.parse().unwrap();
    Ticket { addresses: Vec::new(), ..ticket }.to_string()
}

fn kill(process: &Running) {
    assert!(
        Command::new("kill").args(["-KILL", &process.child.id().to_string()]).status().unwrap().success()
    );
}

#[test]
fn a_job_is_trained_by_nodes_that_meet_at_a_relay_only() {
    let bench = Bench::new();
    let (relay, url) = relay(&bench);
    let (up, ticket) = orchestrator(&bench, &url, &["--bulk-over-relay"]);
    assert!(ticket.starts_with("zoo2"), "{ticket}");
    let nodes = [(NODES[0], "[::1]:0"), (NODES[1], "127.0.0.1:0")];
    let mut nodes = nodes.map(|(name, listen)| node(&bench, &ticket, name, listen));
    nodes.iter_mut().for_each(|node| _ = node.event("connected"));
    let mut top = watch(&bench, &ticket);
    submit(&bench, &ticket, "8");
    top.event("job_finished");
    top.interrupt_quietly();
    nodes.into_iter().for_each(|node| node.interrupt("left"));
    up.interrupt("stopped");
    let mut relay = relay;
    Command::new("kill").args(["-INT", &relay.child.id().to_string()]).status().unwrap();
    let passed_on = relay.event("stopped")["sent_bytes"].as_u64().unwrap();
    assert!(passed_on > LARGE_BYTES as u64 / 2, "the text went over the relay: {passed_on} bytes");
    assert!(relay.child.wait().unwrap().success(), "Ctrl-C stops it");
}

#[test]
fn what_is_large_is_refused_over_a_relay_that_carries_no_bulk_and_the_peer_is_named() {
    let bench = Bench::new();
    let (_relay, url) = relay(&bench);
    let (_up, ticket) = orchestrator(&bench, &url, &[]);
    let mut far = node(&bench, &ticket, NODES[0], "[::1]:0");
    let mut near = node(&bench, &ticket, NODES[1], "127.0.0.1:0");
    far.event("connected");
    near.event("connected");
    submit(&bench, &ticket, "8");
    let trouble = far.event("trouble").to_string();
    let holder = ticket.parse::<Ticket>().unwrap().node.short();
    for part in ["is reached through the relay only", "--bulk-over-relay", &holder] {
        assert!(trouble.contains(part), "no {part:?} in {trouble}");
    }
}

#[test]
fn who_has_direct_paths_goes_on_when_the_relay_is_killed() {
    let bench = Bench::new();
    let (relay, url) = relay(&bench);
    let (up, ticket) = orchestrator(&bench, &url, &[]);
    let met = without_addresses(&ticket);
    let mut nodes = NODES.map(|name| node(&bench, &met, name, "127.0.0.1:0"));
    nodes.iter_mut().for_each(|node| _ = node.event("connected"));
    let mut top = watch(&bench, &ticket);
    submit(&bench, &ticket, "120");
    top.event("round_finished");
    kill(&relay);
    let finished = (0..300).any(|_| {
        sleep(Duration::from_millis(200));
        bench.zoo(["jobs", "--network", &ticket, "--json"]).succeeds().stdout.contains("\"finished\"")
    });
    assert!(finished, "the job ends without the relay");
    let events = bench.zoo(["journal", "export", "orchestrator"]).succeeds().events();
    let disturbed =
        ["node_lost", "node_suspected", "round_restarted", "contribution_missed", "fault", "work_failed"];
    let disturbed = events.iter().find(|event| disturbed.iter().any(|name| event["event"] == *name));
    assert_eq!(disturbed, None);
    nodes.into_iter().for_each(|node| node.interrupt("left"));
    up.interrupt("stopped");
}

#[test]
fn a_relay_that_is_not_there_and_what_is_none_are_told_of_with_a_hint() {
    let bench = Bench::new();
    let up = |relay: &str| bench.zoo(["up", "--dir", "nowhere", "--listen", "127.0.0.1:0", "--relay", relay]);
    up("http://127.0.0.1:9").refuses("relay http://127.0.0.1:9 cannot be used: ");
    for (text, cause) in [("nonsense", "does not begin with http://"), ("http://a/b", "more than a scheme")] {
        let ran = up(text);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(cause) && ran.stderr.contains("hint: "), "{}", ran.stderr);
    }
    let (_relay, url) = relay(&bench);
    let taken = url.strip_prefix("http://").unwrap();
    bench.zoo(["relay", "--listen", taken]).refuses("is in use by another process");
    let none = ["relay", "--listen", "127.0.0.1:0", "--certificate", "none.pem", "--key", "none.pem"];
    bench.zoo(none).refuses("none.pem cannot be used");

    // Nobody but the orchestrator's key is known, and it is not at the relay.
    let (up, ticket) = orchestrator(&bench, &url, &[]);
    up.interrupt("stopped");
    let lost = without_addresses(&ticket);
    let ran = bench.zoo(["status", "--network", &lost]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains(&format!("nor through the relay {url}")), "{}", ran.stderr);
}
