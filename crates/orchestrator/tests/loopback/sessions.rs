//! Who gets in, and how the orchestrator notices who is gone.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use zoo_network::NetworkError;
use zoo_orchestrator::{
    Client, ClientError, HomeError, Orchestrator, OrchestratorError, OrchestratorOptions,
};
use zoo_protocol::{FromOrchestrator, Rejection, Report, Role, Sealed, ToOrchestrator, VERSION, Work};
use zoo_state::{Event, LossCause};

use crate::puppet::*;

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_version_is_rejected_with_both_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let stranger = endpoint(1).await;
    for version in [0, VERSION - 1, VERSION + 1, u16::MAX] {
        for role in [Role::Client, Role::Worker { profile: profile("new"), addresses: vec![] }] {
            let mut stream = stranger.connect(orchestrator.ticket()).await.unwrap();
            stream.send(&ToOrchestrator::Hello { version, role }).await.unwrap();
            let answer = within(QUICK, stream.recv()).await.unwrap();
            let expected = Rejection::Version { ours: VERSION, theirs: version };
            assert_eq!(answer, Some(FromOrchestrator::Rejected(expected)));
            assert_eq!(within(QUICK, stream.recv()).await.unwrap(), None, "the connection ends after that");
        }
    }
    let text = ClientError::Version { ours: 1, theirs: 2 }.to_string();
    assert!(text.contains("version 2") && text.contains('1') && text.contains("hint:"), "{text}");
    orchestrator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_begin_with_a_hello_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let stranger = endpoint(2).await;
    let long_name = Role::Worker { profile: profile(&"n".repeat(65)), addresses: vec![] };
    for (message, expected) in [
        (ToOrchestrator::Leave, "must be a hello"),
        (ToOrchestrator::Hello { version: VERSION, role: long_name }, "exceeds the limit of 64"),
    ] {
        let mut stream = stranger.connect(orchestrator.ticket()).await.unwrap();
        stream.send(&message).await.unwrap();
        let answer = within(QUICK, stream.recv()).await.unwrap();
        let Some(FromOrchestrator::Rejected(Rejection::Invalid(why))) = answer else { panic!("{answer:?}") };
        assert!(why.contains(expected), "{why}");
    }
    let silent = stranger.connect(orchestrator.ticket()).await.unwrap();
    drop(silent);
    // Nobody of them has hurt the orchestrator.
    client(&orchestrator, 3).await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_or_a_directory_in_use_is_named_with_a_hint() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let orchestrator = start(&options(first.path()), None).await;
    let listen = orchestrator.ticket().addresses[0];

    let other = OrchestratorOptions { listen, ..options(second.path()) };
    let error = Orchestrator::start(other).await.err().unwrap();
    assert!(matches!(error, OrchestratorError::Network(NetworkError::AddressInUse { .. })), "{error:?}");
    assert!(
        error.to_string().contains(&listen.to_string()) && error.to_string().contains("hint:"),
        "{error}"
    );

    let error = Orchestrator::start(options(first.path())).await.err().unwrap();
    assert!(matches!(error, OrchestratorError::Home(HomeError::InUse(_))), "{error:?}");
    assert!(error.to_string().contains("hint:"), "{error}");

    let senseless = OrchestratorOptions { lease_ms: 10, tick_ms: 10, ..options(second.path()) };
    assert!(matches!(Orchestrator::start(senseless).await.err().unwrap(), OrchestratorError::Timing { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_home_is_said_to_a_client() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let ticket = orchestrator.ticket().clone();
    orchestrator.stop().await.unwrap();
    let error = within(QUICK, Client::connect(&ticket, &key(4))).await.unwrap_err();
    assert!(matches!(error, ClientError::Network(NetworkError::Unreachable { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_noticed_by_goodbye_by_disconnection_and_by_silence() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let watcher = client(&orchestrator, 5).await;
    let mut watch = watcher.watch(0).await.unwrap();
    let (leaver, dropper, silent) = (endpoint(6).await, endpoint(7).await, endpoint(8).await);
    let lost = |wanted, cause| move |event: &Event| matches!(event, Event::NodeLost { node, cause: c } if *node == wanted && *c == cause);

    let mut stream = join(&leaver, orchestrator.ticket()).await;
    stream.send(&ToOrchestrator::Leave).await.unwrap();
    event_like(&mut watch, lost(leaver.id(), LossCause::Left)).await;

    let stream = join(&dropper, orchestrator.ticket()).await;
    let start = Instant::now();
    drop(stream);
    event_like(&mut watch, lost(dropper.id(), LossCause::Disconnected)).await;
    assert!(start.elapsed() < Duration::from_millis(LEASE_MS), "at once: {:?}", start.elapsed());

    // Its connection stands, kept alive by the transport; its process does nothing.
    let mut stream = join(&silent, orchestrator.ticket()).await;
    for step in 0..10 {
        stream.send(&heartbeat(step)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(LEASE_MS / 5)).await;
    }
    let start = Instant::now();
    event_like(&mut watch, lost(silent.id(), LossCause::LeaseExpired)).await;
    let lease = Duration::from_millis(LEASE_MS);
    assert!(start.elapsed() > lease / 2 && start.elapsed() < lease * 2, "{:?}", start.elapsed());
    // It is let go, so that it notices and comes back.
    within(QUICK, async { while let Ok(Some(_)) = stream.recv().await {} }).await;
    join(&silent, orchestrator.ticket()).await;
    event_like(&mut watch, |event| matches!(event, Event::NodeRejoined { .. })).await;
}

/// Sockets that vanish without a word, as with `kill -9`.
#[test]
fn a_killed_worker_is_noticed_within_its_lease() {
    let directory = tempfile::tempdir().unwrap();
    let (doomed, survivor) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let orchestrator = survivor.block_on(start(&options(directory.path()), None));
    let worker = doomed.block_on(async {
        let endpoint = endpoint(9).await;
        let stream = join(&endpoint, orchestrator.ticket()).await;
        (endpoint, stream)
    });
    survivor.block_on(async {
        let watcher = client(&orchestrator, 10).await;
        let mut watch = watcher.watch(0).await.unwrap();
        event_like(&mut watch, |event| matches!(event, Event::NodeJoined { .. })).await;
        let start = Instant::now();
        doomed.shutdown_background();
        std::mem::forget(worker);
        event_like(&mut watch, |event| matches!(event, Event::NodeLost { .. })).await;
        assert!(start.elapsed() < Duration::from_millis(2 * LEASE_MS), "{:?}", start.elapsed());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_newer_connection_replaces_the_older_one() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let watcher = client(&orchestrator, 11).await;
    let mut watch = watcher.watch(0).await.unwrap();
    let worker = endpoint(12).await;
    let mut older = join(&worker, orchestrator.ticket()).await;
    let mut newer = join(&worker, orchestrator.ticket()).await;
    within(QUICK, async { while let Ok(Some(_)) = older.recv().await {} }).await;
    newer.send(&heartbeat(1)).await.unwrap();
    newer.send(&ToOrchestrator::Leave).await.unwrap();
    let event = event_like(&mut watch, |event| matches!(event, Event::NodeLost { .. })).await;
    assert!(
        matches!(event, Event::NodeLost { cause: LossCause::Left, .. }),
        "the end of the older connection was no loss: {event:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commitment_that_somebody_else_signed_or_nobody_asked_for_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let watcher = client(&orchestrator, 13).await;
    let (job, blobs, store) = job("forgery", 1, 1);
    watcher.submit(job, blobs, store).await.unwrap();
    let worker = endpoint(14).await;
    let mut stream = join(&worker, orchestrator.ticket()).await;
    let window = loop {
        match within(QUICK, stream.recv()).await.unwrap().unwrap() {
            FromOrchestrator::Work { work: Work::Train(window), .. } => break window,
            _ => continue,
        }
    };
    let root = orchestrator.root();
    let mut elsewhere = window.clone();
    elsewhere.round += 1;
    for (what, report) in [
        ("signed by another", Report::Trained(Sealed::seal(&commitment(&window, &key(15)), &key(15)))),
        ("another window", Report::Trained(Sealed::seal(&commitment(&elsewhere, &key(14)), &key(14)))),
        (
            "another phase",
            Report::Evaluated { job: window.job, round: 0, shard: 0, nats_bits: 0, tokens: 1, bytes: 1 },
        ),
    ] {
        stream.send(&ToOrchestrator::Report(report)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(orchestrator.root(), root, "{what}");
    }
    let honest = honest_report(&key(14), &Work::Train(window)).unwrap();
    stream.send(&ToOrchestrator::Report(honest)).await.unwrap();
    let mut watch = watcher.watch(0).await.unwrap();
    event_like(&mut watch, |event| matches!(event, Event::ContributionAccepted { .. })).await;
}

/// A worker that says it is there, and of whoever it is asked about, whether it reached them.
async fn witness(mut stream: Stream, reached: bool) {
    let mut beat = tokio::time::interval(Duration::from_millis(LEASE_MS / 5));
    loop {
        let message = tokio::select! {
            message = stream.recv() => match message {
                Ok(Some(FromOrchestrator::Probe(peer))) => ToOrchestrator::Probed { node: peer.node, reached },
                Ok(Some(_)) => continue,
                Ok(None) | Err(_) => return,
            },
            _ = beat.tick() => heartbeat(1),
        };
        if stream.send(&message).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_asked_about_a_silent_worker_and_their_word_decides() {
    for reached in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let orchestrator = start(&options(directory.path()), None).await;
        let watcher = client(&orchestrator, 16).await;
        let mut watch = watcher.watch(0).await.unwrap();
        let (other, silent) = (endpoint(17).await, endpoint(18).await);
        let witness = tokio::spawn(witness(join(&other, orchestrator.ticket()).await, reached));
        let mut stream = join(&silent, orchestrator.ticket()).await;
        let event = event_like(&mut watch, |event| {
            matches!(event, Event::NodeSuspected { .. } | Event::NodeLost { .. })
        })
        .await;
        if reached {
            let by = vec![other.id()];
            assert_eq!(event, Event::NodeSuspected { node: silent.id(), reached_by: by });
            // Two leases later it is still nothing worse.
            tokio::time::sleep(Duration::from_millis(2 * LEASE_MS)).await;
            stream.send(&heartbeat(1)).await.unwrap();
            assert_eq!(next_event(&mut watch).await.1, Event::NodeHeard { node: silent.id() });
        } else {
            assert_eq!(event, Event::NodeLost { node: silent.id(), cause: LossCause::LeaseExpired });
        }
        witness.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_joins_without_end_is_told_to_come_later_and_the_journal_does_not_grow() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let flood = endpoint(2).await;
    let hello = ToOrchestrator::Hello {
        version: VERSION,
        role: Role::Worker { profile: profile("flood"), addresses: vec![] },
    };
    let (mut let_in, mut told) = (0, String::new());
    for _ in 0..40 {
        let mut stream = flood.connect(orchestrator.ticket()).await.unwrap();
        stream.send(&hello).await.unwrap();
        match within(QUICK, stream.recv()).await.unwrap() {
            Some(FromOrchestrator::Welcome { .. }) => let_in += 1,
            Some(FromOrchestrator::Rejected(Rejection::Busy(why))) => told = why,
            other => panic!("{other:?}"),
        }
        stream.close().await;
    }
    assert!(let_in < 24 && told.contains("joins too often") && told.contains("hint:"), "{let_in}: {told}");
    client(&orchestrator, 3).await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_without_end_are_heard_at_a_rate_and_journaled_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let member = endpoint(2).await;
    let mut stream = member.connect(orchestrator.ticket()).await.unwrap();
    let role = Role::Worker { profile: profile("accuser"), addresses: vec![] };
    stream.send(&ToOrchestrator::Hello { version: VERSION, role }).await.unwrap();
    within(QUICK, stream.recv()).await.unwrap();
    let before = orchestrator.root();
    let (job, maker) = (zoo_content::Digest::of(b"a job"), key(3).id());
    let report = ToOrchestrator::Report(zoo_protocol::Report::Withheld { job, round: 0, maker });
    let mut said = 0;
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), stream.send(&report)).await {
        said += 1;
        assert!(said < 100_000, "nobody is heard so often");
    }
    assert_eq!(orchestrator.root(), before);
    // It is held back, and others are heard at once.
    within(Duration::from_secs(2), async { client(&orchestrator, 4).await.close().await }).await;
}
