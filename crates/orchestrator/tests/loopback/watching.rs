//! What watchers see.

use std::time::Duration;

use zoo_orchestrator::{ClientError, Notice};
use zoo_state::Event;

use crate::puppet::*;

/// Runs a job of so many rounds to its end; the number of events it made.
async fn run_job(orchestrator: &zoo_orchestrator::Orchestrator, rounds: u32, seed: u8) -> u64 {
    let submitter = client(orchestrator, seed).await;
    let mut watch = submitter.watch(0).await.unwrap();
    let (job, blobs, store) = job(&format!("rounds {rounds} of {seed}"), rounds, 2);
    let id = submitter.submit(job, blobs, store).await.unwrap();
    event_like(&mut watch, |event| matches!(event, Event::JobFinished { job, .. } if *job == id)).await;
    let events = watch.next_sequence();
    submitter.close().await;
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_replays_in_order_without_gaps_and_goes_on_live() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let workers: Vec<_> = (20..22).map(|seed| Puppet::start(seed, orchestrator.ticket().clone())).collect();
    let events = run_job(&orchestrator, 60, 23).await;
    assert!(events > 300, "more than one page: {events}");

    let watcher = client(&orchestrator, 24).await;
    let mut all = Vec::new();
    let mut watch = watcher.watch(0).await.unwrap();
    while (all.len() as u64) < events {
        let (sequence, event) = next_event(&mut watch).await;
        assert_eq!(sequence, all.len() as u64);
        all.push(event);
    }
    assert!(matches!(all[0], Event::NetworkNamed { .. }), "{:?}", all[0]);
    for from in [1, 255, 256, 257, events - 1] {
        let mut watch = watcher.watch(from).await.unwrap();
        assert_eq!(next_event(&mut watch).await, (from, all[from as usize].clone()));
    }

    // Watchers from the beginning, the middle and the end, all while it goes on.
    let mut watches = Vec::new();
    for from in [0, events / 2, events] {
        watches.push((from, watcher.watch(from).await.unwrap()));
    }
    let more = run_job(&orchestrator, 20, 25).await;
    for (from, mut watch) in watches {
        for expected in from..more {
            let (sequence, event) = next_event(&mut watch).await;
            assert_eq!(sequence, expected);
            if let Some(known) = all.get(sequence as usize) {
                assert_eq!(event, *known);
            }
        }
    }

    let mut future = watcher.watch(more + 1).await.unwrap();
    let error = within(QUICK, future.next()).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Rejected(_)) && error.to_string().contains(&more.to_string()),
        "{error}"
    );
    for worker in workers {
        worker.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_does_not_read_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let workers: Vec<_> = (26..28).map(|seed| Puppet::start(seed, orchestrator.ticket().clone())).collect();
    let sleeper = client(&orchestrator, 28).await;
    let mut asleep = sleeper.watch(0).await.unwrap();
    let events = run_job(&orchestrator, 40, 29).await;
    // It wakes up and has missed nothing.
    for expected in 0..events {
        assert_eq!(next_event(&mut asleep).await.0, expected);
    }
    for worker in workers {
        worker.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_a_watch_without_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let watcher = client(&orchestrator, 30).await;
    let mut watch = watcher.watch(0).await.unwrap();
    let running = tokio::spawn(orchestrator.run_until(tokio::time::sleep(Duration::from_millis(200))));
    let end = within(QUICK, async {
        loop {
            match watch.next().await {
                Ok(Some(
                    Notice::Event { .. } | Notice::Status(_) | Notice::StateRoot(_) | Notice::CaughtUp,
                )) => {}
                end => break end,
            }
        }
    })
    .await;
    assert!(matches!(end, Ok(None)), "{end:?}");
    within(QUICK, running).await.unwrap().unwrap();
}
