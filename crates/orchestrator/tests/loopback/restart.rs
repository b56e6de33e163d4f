//! An orchestrator that stops, or dies, and comes back.

use std::time::{Duration, Instant};

use zoo_network::limits::IDLE_TIMEOUT;
use zoo_orchestrator::journal::Journal;
use zoo_state::{Event, LossCause};

use crate::puppet::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_orchestrator_replays_to_the_same_root_under_the_same_ticket() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let first = start(&options, None).await;
    let ticket = first.ticket().clone();
    let workers: Vec<_> = (40..42).map(|seed| Puppet::start(seed, ticket.clone())).collect();
    let watcher = client(&first, 42).await;
    let (job, blobs, store) = job("before", 3, 2);
    watcher.submit(job, blobs, store).await.unwrap();
    let mut watch = watcher.watch(0).await.unwrap();
    event_like(&mut watch, |event| matches!(event, Event::JobFinished { .. })).await;
    for worker in workers {
        worker.leave().await;
    }
    event_like(&mut watch, |event| matches!(event, Event::NodeLost { .. })).await;
    event_like(&mut watch, |event| matches!(event, Event::NodeLost { .. })).await;
    let (root, events) = (first.root(), watch.next_sequence());
    first.stop().await.unwrap();
    watcher.close().await;

    for _ in 0..2 {
        let again = start(&options, Some(&ticket)).await;
        assert_eq!(again.ticket(), &ticket);
        assert_eq!(again.root(), root);
        let watcher = client(&again, 43).await;
        let mut watch = watcher.watch(0).await.unwrap();
        for expected in 0..events {
            assert_eq!(next_event(&mut watch).await.0, expected);
        }
        again.stop().await.unwrap();
    }
    let (journal, replayed) = Journal::open(&directory.path().join("journal.sqlite")).await.unwrap();
    assert_eq!((replayed.state.root(), journal.next_event()), (root, events));
    journal.close().await.unwrap();
}

/// The orchestrator dies in the middle of a job, at different moments, and is started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_orchestrator_goes_on_with_its_job_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let mut doomed = Doomed::start(options.clone()).await;
    let ticket = doomed.ticket.clone();
    let workers: Vec<_> = (50..53).map(|seed| Puppet::start(seed, ticket.clone())).collect();
    let submitter = zoo_orchestrator::Client::connect(&ticket, &key(53)).await.unwrap();
    let (job, blobs, store) = job("interrupted", 60, 3);
    submitter.submit(job, blobs, store).await.unwrap();
    let mut seen = Vec::new();
    for kill in 0..3u64 {
        let mut watch = submitter.watch(seen.len() as u64).await.unwrap();
        for _ in 0..60 + 7 * kill {
            let (sequence, event) = next_event(&mut watch).await;
            assert_eq!(sequence, seen.len() as u64);
            seen.push(event);
        }
        doomed.kill();
        doomed = restart(options.clone(), &ticket).await;
    }
    // What was seen before a crash is history after it.
    let mut watch = submitter.watch(0).await.unwrap();
    for (expected, event) in seen.iter().enumerate() {
        assert_eq!(next_event(&mut watch).await, (expected as u64, event.clone()));
    }
    let end =
        event_like(&mut watch, |event| matches!(event, Event::JobFinished { .. } | Event::JobFailed { .. }))
            .await;
    assert!(matches!(end, Event::JobFinished { .. }), "{end:?}");
    for worker in workers {
        worker.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_come_back_after_a_restart_is_lost_after_its_fresh_lease() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let doomed = Doomed::start(options.clone()).await;
    let ticket = doomed.ticket.clone();
    let (faithful, faithless) = (Puppet::start(60, ticket.clone()), endpoint(61).await);
    let stream = join(&faithless, &ticket).await;
    doomed.kill();
    drop(stream);
    let doomed = restart(options, &ticket).await;
    let start = Instant::now();
    let watcher = zoo_orchestrator::Client::connect(&doomed.ticket, &key(62)).await.unwrap();
    let mut watch = watcher.watch(0).await.unwrap();
    let lost = event_like(&mut watch, |event| matches!(event, Event::NodeLost { .. })).await;
    assert_eq!(lost, Event::NodeLost { node: faithless.id(), cause: LossCause::LeaseExpired });
    // Those who return do not notice before their idle timeout that they have to.
    let (shortest, lease) = (IDLE_TIMEOUT, Duration::from_millis(LEASE_MS));
    assert!(start.elapsed() > shortest && start.elapsed() < shortest + 3 * lease, "{:?}", start.elapsed());
    faithful.leave().await;
}

/// Starts again, as soon as this process has let go of the socket and the files.
async fn restart(options: zoo_orchestrator::OrchestratorOptions, ticket: &zoo_network::Ticket) -> Doomed {
    within(QUICK, async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let free = std::net::UdpSocket::bind(ticket.addresses[0]).is_ok();
            let lock = std::fs::File::open(options.directory.join("lock")).unwrap();
            if free && lock.try_lock().is_ok() {
                drop(lock);
                return Doomed::start(options.clone()).await;
            }
        }
    })
    .await
}
