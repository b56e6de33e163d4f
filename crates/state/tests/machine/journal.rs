//! The journal's format: what was written once is read and replayed for ever.

use zoo_content::Digest;
use zoo_protocol::{
    Aggregate, Form, Link, Part, RefusedSummand, Report, RoundPlan, Terms, Topology, VerifyWindow, Work,
    encode,
};
use zoo_state::{Command, Event, JobStatus, JournalError, LossCause, Outcome, State};

use crate::fleet::{DEADLINE_MS, Fleet, plan};

/// A journal of version 1, one entry a line. It is never changed; later versions get files of their own.
const JOURNAL: &str = include_str!("journal-v1.hex");
const ROOT: &str = "4af74564799f84373be1489975044aa55924cfd07665a0e679328465bffc6d26";
const EVENTS: &str = "94c63b49f3abf2621c1a667ebb80130f231ff634ae251845c6d80eab2b9592bf";

/// Every kind of command and of report, in a short life.
fn history() -> Fleet {
    let mut fleet = Fleet::new(3);
    (0..2).for_each(|node| fleet.join(node));
    let job = fleet.submit("golden", RoundPlan { evaluation_shards: 2, ..plan() });
    fleet.now_ms += 250;
    let link = Link { upload_kib_per_s: 1_250, rtt_ms: 18 };
    fleet.apply(Command::LinkMeasured { node: fleet.id(1), link, now_ms: fleet.now_ms }).unwrap();
    fleet.step(0);
    fleet.join(2);
    fleet.report(1, Report::Failed { job, round: 0, reason: "out of memory".into() }).unwrap();
    fleet.step(2);
    fleet.step(1);
    fleet.step(0);
    fleet.step(0);
    fleet.step(2);
    (0..3).for_each(|node| fleet.step(node));
    let Aggregate { round, attempt, .. } = fleet.aggregate(0);
    fleet.apply(Command::NodeLost { node: fleet.id(1), cause: LossCause::Left, now_ms: 1_700 }).unwrap();
    fleet.report(0, Report::Missing { job, round, attempt, maker: fleet.id(1) }).unwrap();
    fleet.step(2);
    fleet.tick(DEADLINE_MS);
    fleet.join(1);
    fleet.keep(2);
    fleet.challenge(2, 7, Some(5_000)).unwrap();
    fleet.lose(0);
    assert!(fleet.finish(&job, 20));
    assert!(matches!(fleet.state.job_status(&job), Some(JobStatus::Over(Outcome::Finished { .. }))));
    let tree = RoundPlan { steps: 3, topology: Topology::Tree { fan_in: 2 }, ..plan() };
    let tree = fleet.submit("tree", tree);
    let (node, reached_by, now_ms) = (fleet.id(2), fleet.ids([1]), fleet.now_ms);
    fleet.apply(Command::NodeSuspected { node, reached_by, now_ms }).unwrap();
    fleet.apply(Command::NodeHeard { node, now_ms }).unwrap();
    assert!(fleet.finish(&tree, 20));
    fleet.join(0);
    let refused = fleet.submit("refused", RoundPlan { steps: 3, ..plan() });
    (0..3).for_each(|node| fleet.step(node));
    for node in 0..2 {
        let Aggregate { job, round, attempt, .. } = fleet.aggregate(node);
        let (maker, form, first_vnode) = (fleet.id(2), Form::Contribution, 0);
        let summands = vec![RefusedSummand { maker, form, first_vnode, reason: "it ends early".into() }];
        fleet.report(node, Report::Refused { job, round, attempt, summands }).unwrap();
    }
    assert!(fleet.finish(&refused, 20));
    let plan = RoundPlan { steps: 30, evaluate_every: 30, verified_in_1000: 1000, ..plan() };
    let verified = fleet.submit("verified", plan);
    let mut withheld = None;
    while !matches!(fleet.state.job_status(&verified), Some(JobStatus::Over(_))) {
        for node in 0..3 {
            match fleet.work(node) {
                Work::Verify(VerifyWindow { maker, window, .. }) if withheld.is_none() => {
                    let (job, round) = (window.job, window.round);
                    withheld = Some(fleet.report(node, Report::Withheld { job, round, maker }).unwrap());
                }
                _ => fleet.step(node),
            }
        }
    }
    let is_verdict = |event: &Event| matches!(event, Event::WindowVerified { .. });
    assert!(withheld.is_some() && fleet.events.iter().any(is_verdict));
    let (now_ms, terms) = (fleet.now_ms, Terms::default());
    fleet.apply(Command::SittingOpened { draw: Digest::of(b"draw"), terms, now_ms }).unwrap();
    for _ in Part::ALL {
        fleet.now_ms += 100;
        fleet.sweep();
    }
    fleet.apply(Command::CheckersDrawn { draw: Digest::of(b"another"), now_ms: fleet.now_ms }).unwrap();
    while fleet.state.sitting().is_some() {
        fleet.sweep();
    }
    assert!(fleet.state.nodes().values().all(|node| node.rating.is_some()));
    fleet
}

#[test]
fn a_fixed_history_has_a_fixed_journal_and_a_fixed_root() {
    let fleet = history();
    let written: Vec<String> = fleet.log.iter().map(|command| hex(&command.to_bytes())).collect();
    let events: Vec<u8> = fleet.events.iter().flat_map(encode).collect();
    assert_eq!(written, JOURNAL.lines().collect::<Vec<_>>());
    assert_eq!(
        (fleet.state.root().to_string(), Digest::of(&events).to_string()),
        (ROOT.into(), EVENTS.into())
    );
}

#[test]
fn an_old_journal_replays_to_its_root() {
    let mut state = State::new();
    let mut events: Vec<Event> = Vec::new();
    for line in JOURNAL.lines() {
        let command = Command::from_bytes(&unhex(line)).unwrap();
        assert_eq!(hex(&command.to_bytes()), line, "one encoding of a command");
        events.extend(state.apply(&command).unwrap());
    }
    let events: Vec<u8> = events.iter().flat_map(encode).collect();
    assert_eq!((state.root().to_string(), Digest::of(&events).to_string()), (ROOT.into(), EVENTS.into()));
}

#[test]
fn an_entry_that_is_not_exactly_a_command_is_refused() {
    let good = Command::Tick { now_ms: 300 }.to_bytes();
    assert_eq!(Command::from_bytes(&good), Ok(Command::Tick { now_ms: 300 }));
    assert!(matches!(Command::from_bytes(&[]), Err(JournalError::Malformed(_))));
    assert!(matches!(Command::from_bytes(&good[..2]), Err(JournalError::Malformed(_))));
    assert!(matches!(Command::from_bytes(&[&good[..], &[0]].concat()), Err(JournalError::Malformed(_))));
    assert!(matches!(Command::from_bytes(&[1, 200, 0]), Err(JournalError::Malformed(_))));
    assert_eq!(Command::from_bytes(&[&[2], &good[1..]].concat()), Err(JournalError::Version(2)));
    assert!(matches!(Command::from_bytes(&vec![1; 1 << 21]), Err(JournalError::Malformed(_))));
    assert!(
        matches!(Command::from_bytes(&[1, 4, 0x80, 0]), Err(JournalError::Malformed(_))),
        "an overlong number"
    );
}

#[test]
fn every_cut_and_every_flipped_bit_of_a_journal_is_an_error_or_another_command_but_never_a_panic() {
    for line in JOURNAL.lines() {
        let bytes = unhex(line);
        for at in 0..bytes.len() {
            assert!(Command::from_bytes(&bytes[..at]).is_err());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            if let Ok(command) = Command::from_bytes(&flipped) {
                assert_ne!(hex(&command.to_bytes()), line);
                let _ = State::new().apply(&command);
            }
        }
    }
}

#[test]
fn a_damaged_snapshot_is_refused_or_keeps_every_invariant() {
    let bytes = history().state.to_bytes();
    for at in 0..bytes.len() {
        assert!(State::from_bytes(&bytes[..at]).is_err());
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(state) = State::from_bytes(&flipped) {
            assert_eq!(zoo_state::invariants::check(&state), Ok(()));
        }
    }
    assert!(State::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
