//! Whatever a stranger sends becomes a value within its limits, or an error; never a panic.

use std::net::SocketAddr;

use proptest::prelude::*;
use zoo_content::{Digest, MAX_BLOB_BYTES};
use zoo_protocol::limits::{self, *};
use zoo_protocol::*;

use crate::{arbitrary, samples};

fn assert_round_trip<T: Message + PartialEq + std::fmt::Debug>(message: &T) {
    assert_eq!(decode::<T>(&encode(message)).as_ref(), Ok(message));
}

/// Either refused, or the one encoding of a valid message.
fn assert_harmless(bytes: &[u8]) {
    fn check<T: Message>(bytes: &[u8]) {
        if let Ok(message) = decode::<T>(bytes) {
            assert_eq!(encode(&message), bytes);
            assert_eq!(message.validate(), Ok(()));
        }
    }
    check::<ToOrchestrator>(bytes);
    check::<FromOrchestrator>(bytes);
    check::<Commitment>(bytes);
    check::<JobDescription>(bytes);
    check::<Peer>(bytes);
    if let Ok(ToOrchestrator::Report(Report::Trained(sealed))) = decode(bytes) {
        let _ = sealed.open();
    }
}

fn every_encoding() -> Vec<Vec<u8>> {
    let to = samples::every_to_orchestrator();
    let from = samples::every_from_orchestrator();
    to.iter().map(encode).chain(from.iter().map(encode)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_message_to_the_orchestrator_survives(message in arbitrary::any_to_orchestrator()) {
        assert_round_trip(&message);
    }

    #[test]
    fn every_message_from_the_orchestrator_survives(message in arbitrary::any_from_orchestrator()) {
        assert_round_trip(&message);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn random_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_harmless(&bytes);
    }

    #[test]
    fn mutated_messages_are_harmless(
        message in prop::sample::select(every_encoding()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..6),
    ) {
        let mut bytes = message;
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        assert_harmless(&bytes);
    }
}

#[test]
fn every_truncation_is_refused() {
    fn check<T: Message>(messages: &[T]) {
        for bytes in messages.iter().map(encode) {
            for len in 0..bytes.len() {
                assert!(decode::<T>(&bytes[..len]).is_err(), "{bytes:?} cut to {len}");
            }
        }
    }
    check(&samples::every_to_orchestrator());
    check(&samples::every_from_orchestrator());
}

#[test]
fn bytes_after_a_message_too_large_ones_and_overlong_integers_are_refused() {
    let bytes = encode(&ToOrchestrator::Watch { from: 1 });
    let longer = [&bytes[..], &[0, 0]].concat();
    assert_eq!(decode::<ToOrchestrator>(&longer), Err(WireError::Trailing(2)));

    let large = vec![0; MAX_FRAME_BYTES + 1];
    assert_eq!(decode::<ToOrchestrator>(&large), Err(WireError::TooLarge(MAX_FRAME_BYTES + 1)));

    // The same value with its last integer written in two bytes instead of one.
    let (last, front) = bytes.split_last().unwrap();
    let overlong = [front, &[last | 0x80, 0]].concat();
    assert_eq!(decode::<ToOrchestrator>(&overlong), Err(WireError::NotCanonical));
    assert_eq!(decode(&bytes), Ok(ToOrchestrator::Watch { from: 1 }));
}

fn hello(change: impl FnOnce(&mut NodeProfile, &mut Vec<SocketAddr>)) -> ToOrchestrator {
    let (mut profile, mut addresses) = (samples::profile(), Vec::new());
    change(&mut profile, &mut addresses);
    ToOrchestrator::Hello { version: VERSION, role: Role::Worker { profile, addresses } }
}

fn submit(
    change: impl FnOnce(&mut JobDescription, &mut Vec<Digest>, &mut Vec<SocketAddr>),
) -> ToOrchestrator {
    let (mut job, mut blobs, mut addresses) = (samples::job(), Vec::new(), Vec::new());
    change(&mut job, &mut blobs, &mut addresses);
    ToOrchestrator::Submit { job: Box::new(job), blobs, addresses }
}

fn failed(reason: String) -> ToOrchestrator {
    ToOrchestrator::Report(Report::Failed { job: Digest::of(b"job"), round: 0, reason })
}

fn address() -> SocketAddr {
    "127.0.0.1:1".parse().unwrap()
}

#[test]
fn what_exceeds_a_limit_is_refused_and_the_limit_itself_is_not() {
    let long = |len: usize| "x".repeat(len);
    let at_the_limit = [
        hello(|profile, addresses| {
            profile.name = long(MAX_NAME_BYTES);
            *addresses = vec![address(); MAX_ADDRESSES];
        }),
        submit(|job, blobs, _| {
            job.name = long(MAX_NAME_BYTES);
            job.plan.evaluation_shards = MAX_EVALUATION_SHARDS as u32;
            *blobs = vec![Digest::of(b"blob"); MAX_JOB_BLOBS];
        }),
        failed(long(MAX_REASON_BYTES)),
    ];
    at_the_limit.iter().for_each(assert_round_trip);

    let cases = [
        (
            hello(|profile, _| profile.name = long(MAX_NAME_BYTES + 1)),
            "node name: 65 exceeds the limit of 64",
        ),
        (hello(|profile, _| profile.isa = long(65)), "node isa: 65 exceeds the limit of 64"),
        (
            hello(|profile, _| profile.software = long(65)),
            "node software version: 65 exceeds the limit of 64",
        ),
        (hello(|profile, _| profile.name = "a\x1b[31mb".into()), "node name contains a control character"),
        (
            hello(|_, addresses| *addresses = vec![address(); MAX_ADDRESSES + 1]),
            "addresses of a node: 9 exceeds the limit of 8",
        ),
        (submit(|job, _, _| job.name = long(65)), "job name: 65 exceeds the limit of 64"),
        (submit(|job, _, _| job.name = "a\nb".into()), "job name contains a control character"),
        (submit(|job, _, _| job.plan.steps = 0), "steps is 0; it must be at least 1"),
        (submit(|job, _, _| job.plan.rhythm[0].inner_steps = 0), "inner_steps is 0; it must be at least 1"),
        (
            submit(|job, _, _| job.plan.sequences_per_step = 0),
            "sequences_per_step is 0; it must be at least 1",
        ),
        (submit(|job, _, _| job.plan.evaluate_every = 0), "evaluate_every is 0; it must be at least 1"),
        (submit(|job, _, _| job.plan.evaluation_shards = 0), "evaluation_shards is 0; it must be at least 1"),
        (
            submit(|job, _, _| job.plan.evaluation_shards = 4097),
            "evaluation_shards: 4097 exceeds the limit of 4096",
        ),
        (submit(|job, _, _| job.plan.minimum_nodes = 0), "minimum_nodes is 0; it must be at least 1"),
        (
            submit(|job, _, _| job.plan.contribution_deadline_ms = 0),
            "contribution_deadline_ms is 0; it must be at least 1",
        ),
        (
            submit(|job, _, _| job.plan.topology = Topology::Tree { fan_in: 1 }),
            "fan_in is 1; it must be at least 2",
        ),
        (
            submit(|job, _, _| job.plan.topology = Topology::Tree { fan_in: 257 }),
            "fan_in: 257 exceeds the limit of 256",
        ),
        (hello(|profile, _| profile.region = long(65)), "node region: 65 exceeds the limit of 64"),
        (
            submit(|_, blobs, _| *blobs = vec![Digest::of(b""); MAX_JOB_BLOBS + 1]),
            "blobs of a job: 8193 exceeds the limit of 8192",
        ),
        (
            submit(|_, _, addresses| *addresses = vec![address(); 9]),
            "addresses of a node: 9 exceeds the limit of 8",
        ),
        (failed(long(MAX_REASON_BYTES + 1)), "reason of a failure: 513 exceeds the limit of 512"),
        (failed("a\x07b".into()), "reason of a failure contains a control character"),
    ];
    for (message, expected) in cases {
        let error = decode::<ToOrchestrator>(&encode(&message)).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(message.validate(), Err(error), "what a receiver refuses, a sender can know");
    }
}

fn evaluate(shard: u32, shards: u32) -> Work {
    let Work::Evaluate(task) = samples::works().swap_remove(3) else {
        panic!("the fourth work is an evaluation")
    };
    Work::Evaluate(Evaluate { shard, shards, ..task })
}

fn aggregate(summands: usize, change: impl FnOnce(&mut Vec<VNodeUpdate>)) -> Work {
    let Work::Aggregate(mut task) = samples::works().swap_remove(2) else {
        panic!("the third work is an aggregation")
    };
    change(&mut task.summands[0].updates);
    task.summands = vec![task.summands[0].clone(); summands];
    Work::Aggregate(task)
}

fn sum(summands: usize, vnodes: u32) -> Work {
    let Some(Work::Sum(mut task)) = samples::works().pop() else { panic!("the last work is a sum") };
    task.summands = vec![task.summands[0].clone(); summands];
    Work::Sum(Sum { vnodes, norm_limits: vec![1; vnodes as usize], ..task })
}

/// More limits of norms than VNodes.
fn overlimited() -> Work {
    match sum(2, 1) {
        Work::Sum(task) => Work::Sum(Sum { norm_limits: vec![1; 2], ..task }),
        other => other,
    }
}

fn train(change: impl FnOnce(&mut Share)) -> Work {
    let mut window = samples::window();
    change(&mut window.share);
    Work::Train(window)
}

#[test]
fn what_an_orchestrator_says_has_limits_too() {
    let work = |work| FromOrchestrator::Work { work, peers: Vec::new() };
    let peer = |addresses: usize| Peer { node: samples::key().id(), addresses: vec![address(); addresses] };
    let update = || VNodeUpdate { vnode: "v".into(), update: Digest::of(b""), bytes: 1, norm: 1 };
    let long = |len: usize| "x".repeat(len);
    let cases = [
        (FromOrchestrator::Welcome { peers: vec![peer(1); 1025] }, "peers: 1025 exceeds the limit of 1024"),
        (FromOrchestrator::Welcome { peers: vec![peer(9)] }, "addresses of a node: 9 exceeds the limit of 8"),
        (
            FromOrchestrator::Work { work: Work::Idle, peers: vec![peer(9)] },
            "addresses of a node: 9 exceeds the limit of 8",
        ),
        (
            FromOrchestrator::Rejected(Rejection::Invalid(long(513))),
            "reason of a rejection: 513 exceeds the limit of 512",
        ),
        (
            FromOrchestrator::Rejected(Rejection::Busy(long(513))),
            "reason of a rejection: 513 exceeds the limit of 512",
        ),
        (FromOrchestrator::Refused(long(513)), "reason of a refusal: 513 exceeds the limit of 512"),
        (work(evaluate(0, 0)), "shards is 0; it must be at least 1"),
        (work(evaluate(4, 4)), "shard: 4 exceeds the limit of 3"),
        (work(evaluate(0, 4097)), "shards: 4097 exceeds the limit of 4096"),
        (work(train(|share| share.inner_steps = 0)), "inner_steps is 0; it must be at least 1"),
        (work(train(|share| share.sequences_per_step = 0)), "sequences_per_step is 0; it must be at least 1"),
        (work(aggregate(1025, |_| {})), "summands: 1025 exceeds the limit of 1024"),
        (work(sum(1025, 1)), "summands: 1025 exceeds the limit of 1024"),
        (work(overlimited()), "limits of norms: 2 exceeds the limit of 1"),
        (work(sum(2, 0)), "vnodes of a sum is 0; it must be at least 1"),
        (work(sum(2, 4097)), "vnodes of a sum: 4097 exceeds the limit of 4096"),
        (
            work(aggregate(1, |updates| *updates = vec![update(); 4097])),
            "updates of a contribution: 4097 exceeds the limit of 4096",
        ),
        (
            work(aggregate(1, |updates| updates[0].vnode = long(129))),
            "vnode id: 129 exceeds the limit of 128",
        ),
        (
            work(aggregate(1, |updates| updates[0].bytes = MAX_BLOB_BYTES + 1)),
            "bytes of an update: 4294967297 exceeds the limit of 4294967296",
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(decode::<FromOrchestrator>(&encode(&message)).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_reason_is_cut_to_what_may_be_sent() {
    let long_umlauts = "ä".repeat(MAX_REASON_BYTES);
    let cases = [
        ("short\nhint: keep it so".to_string(), "short\nhint: keep it so".to_string()),
        ("bell\x07 escape\x1b[2J tab\t".to_string(), "bell  escape [2J tab ".to_string()),
        (format!("x{long_umlauts}"), format!("x{}", "ä".repeat((MAX_REASON_BYTES - 1) / 2))),
    ];
    for (text, expected) in cases {
        let reason = limits::reason(text);
        assert_eq!(reason, expected);
        assert_round_trip(&failed(reason));
    }
}
