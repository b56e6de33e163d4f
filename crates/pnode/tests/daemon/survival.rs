//! Lost connections, crashes, refusals and goodbyes.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use zoo_content::{BlobStore, Digest, FileStore, StoreError};
use zoo_model::ModelConfig;
use zoo_network::Ticket;
use zoo_pnode::{PNodeError, PNodeEvent};
use zoo_protocol::{
    FromOrchestrator, NodeId, Peer, Rejection, Report, ToOrchestrator, TrainWindow, VERSION, Work,
};
use zoo_training::{Share, TrainingSpec, equal_shares};

use crate::orchestrator::{Conversation, Job, Node, Orchestrator, PATIENCE, report, tell, trained};

fn share(inner_steps: u32) -> Share {
    equal_shares(1, 0, 4, inner_steps)[0]
}

/// Waits until the node says that it is in a window.
async fn wait_for_a_step(conversation: &mut Conversation) {
    let step = async {
        loop {
            match conversation.recv().await.unwrap().expect("the node is there") {
                ToOrchestrator::Heartbeat { step, .. } if step > 0 => return,
                ToOrchestrator::Heartbeat { .. } | ToOrchestrator::Measured(_) => {}
                other => panic!("not a heartbeat: {other:?}"),
            }
        }
    };
    timeout(PATIENCE, step).await.expect("the window begins");
}

async fn wait_for(node: &Node, what: impl Fn(&PNodeEvent) -> bool) {
    let start = Instant::now();
    while !node.saw(&what) {
        assert!(start.elapsed() < PATIENCE, "the node does not come so far");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn wait_for_leave(conversation: &mut Conversation) {
    let leave = async {
        while let Some(message) = conversation.recv().await.unwrap() {
            if message == ToOrchestrator::Leave {
                return;
            }
        }
        panic!("the conversation ended without a goodbye");
    };
    timeout(PATIENCE, leave).await.expect("a goodbye in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_the_orchestrator_comes_back_and_repeats_its_report() {
    let job = Job::new();
    let mut orchestrator = Orchestrator::start().await;
    job.save(orchestrator.store.as_ref());
    let node = Node::start(orchestrator.endpoint.ticket());
    let (peer, mut conversation) = orchestrator.welcome().await;
    let peers = [orchestrator.endpoint.peer()];

    let window = job.window(0, job.base, share(2));
    tell(&mut conversation, Work::Train(window.clone()), &peers).await;
    let first = trained(&mut conversation).await;
    assert_eq!(first.work, window);
    drop(conversation);

    let (again, mut conversation) = orchestrator.welcome().await;
    assert_eq!(again.node, peer.node);
    assert_eq!(trained(&mut conversation).await, first);
    assert!(node.saw(|event| matches!(event, PNodeEvent::Disconnected { .. })));
    node.shut_down().await.1.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_while_the_orchestrator_is_away() {
    let job = Job::new();
    let mut orchestrator = Orchestrator::start().await;
    job.save(orchestrator.store.as_ref());
    let node = Node::start(orchestrator.endpoint.ticket());
    let (_, mut conversation) = orchestrator.welcome().await;
    let window = job.window(0, job.base, share(150));
    tell(&mut conversation, Work::Train(window), &[orchestrator.endpoint.peer()]).await;
    wait_for(&node, |event| matches!(event, PNodeEvent::Started(_))).await;
    drop(conversation);

    let (_, mut conversation) = orchestrator.welcome().await;
    trained(&mut conversation).await;
    let starts =
        node.events.lock().unwrap().iter().filter(|event| matches!(event, PNodeEvent::Started(_))).count();
    assert_eq!(starts, 1, "the window was not begun again");
    node.shut_down().await.1.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_crashed_in_a_window_does_it_again_with_equal_bits() {
    let job = Job::new();
    let mut orchestrator = Orchestrator::start().await;
    job.save(orchestrator.store.as_ref());
    let peers = [orchestrator.endpoint.peer()];
    let window = job.window(0, job.base, share(100));

    let undisturbed = Node::start(orchestrator.endpoint.ticket());
    let (_, mut conversation) = orchestrator.welcome().await;
    tell(&mut conversation, Work::Train(window.clone()), &peers).await;
    let expected = trained(&mut conversation).await.outcome;
    undisturbed.shut_down().await.1.unwrap();

    let crashing = Node::start(orchestrator.endpoint.ticket());
    let (peer, mut conversation) = orchestrator.welcome().await;
    tell(&mut conversation, Work::Train(window.clone()), &peers).await;
    wait_for(&crashing, |event| matches!(event, PNodeEvent::Started(_))).await;
    let directory = crashing.crash().await;

    let restarted = restart(directory, orchestrator.endpoint.ticket()).await;
    let (again, mut conversation) = orchestrator.welcome().await;
    assert_eq!(again.node, peer.node, "the identity survives");
    tell(&mut conversation, Work::Train(window), &peers).await;
    assert_eq!(trained(&mut conversation).await.outcome, expected);
    restarted.shut_down().await.1.unwrap();
}

/// In one process the crashed node's compute thread may hold the directory until its step ends.
pub async fn restart(directory: tempfile::TempDir, ticket: Ticket) -> Node {
    let lock = std::fs::File::open(directory.path().join("lock")).unwrap();
    let start = Instant::now();
    while lock.try_lock().is_err() {
        assert!(start.elapsed() < PATIENCE, "the directory is released");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(lock);
    Node::start_in(directory, ticket)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_says_goodbye_and_is_gone_within_a_second_even_in_a_window() {
    let job = Job::new();
    let mut orchestrator = Orchestrator::start().await;
    job.save(orchestrator.store.as_ref());
    let node = Node::start(orchestrator.endpoint.ticket());
    let (_, mut conversation) = orchestrator.welcome().await;
    let window = job.window(0, job.base, share(100_000));
    tell(&mut conversation, Work::Train(window), &[orchestrator.endpoint.peer()]).await;
    wait_for_a_step(&mut conversation).await;

    let goodbye = tokio::spawn(async move { wait_for_leave(&mut conversation).await });
    let start = Instant::now();
    let (_directory, result) = node.shut_down().await;
    result.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    goodbye.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_never_found_the_orchestrator_ends_when_told_to() {
    let orchestrator = Orchestrator::start().await;
    let ticket = orchestrator.endpoint.ticket();
    orchestrator.endpoint.close().await;
    let node = Node::start(ticket);
    wait_for(&node, |event| matches!(event, PNodeEvent::Disconnected { .. })).await;
    let start = Instant::now();
    let (_directory, result) = node.shut_down().await;
    result.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_ends_the_node_with_a_hint_for_the_older_side() {
    for (theirs, hint) in
        [(VERSION + 1, "update zoo on this machine"), (VERSION - 1, "the orchestrator's machine")]
    {
        let mut orchestrator = Orchestrator::start().await;
        let node = Node::start(orchestrator.endpoint.ticket());
        let (_, mut conversation, _) = orchestrator.accept().await;
        let rejection = Rejection::Version { ours: theirs, theirs: VERSION };
        conversation.send(&FromOrchestrator::Rejected(rejection)).await.unwrap();
        conversation.close().await;
        let error = node.end().await.unwrap_err();
        assert!(matches!(error, PNodeError::Version { .. }) && error.to_string().contains(hint), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_is_reported_and_found_when_somebody_has_it() {
    let job = Job::new();
    let mut orchestrator = Orchestrator::start().await;
    let node = Node::start(orchestrator.endpoint.ticket());
    let (_, mut conversation) = orchestrator.welcome().await;
    let window = job.window(0, job.base, share(1));
    tell(&mut conversation, Work::Train(window), &[orchestrator.endpoint.peer()]).await;
    let Report::Failed { round: 0, reason, .. } = report(&mut conversation).await else {
        panic!("not failed")
    };
    assert!(reason.starts_with("cannot fetch"), "{reason}");

    job.save(orchestrator.store.as_ref());
    while let Report::Failed { .. } = report(&mut conversation).await {}
    node.shut_down().await.1.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_makes_no_sense_is_reported_and_the_node_lives_on() {
    let job = Job::new();
    let mut orchestrator = Orchestrator::start().await;
    job.save(orchestrator.store.as_ref());
    let nonsense = orchestrator.store.put(b"rm -rf /").unwrap();
    let node = Node::start(orchestrator.endpoint.ticket());
    let (_, mut conversation) = orchestrator.welcome().await;
    let peers = [orchestrator.endpoint.peer()];

    let good = job.window(0, job.base, share(1));
    let bad = TrainWindow { program: nonsense, ..good.clone() };
    tell(&mut conversation, Work::Train(bad), &peers).await;
    let Report::Failed { reason, .. } = report(&mut conversation).await else { panic!("not failed") };
    assert!(reason.contains("training specification"), "{reason}");

    // A round in one numeric profile takes nothing in another.
    let bad = TrainWindow { profile: zoo_protocol::Profile::Bf16Exact, ..good.clone() };
    tell(&mut conversation, Work::Train(bad), &peers).await;
    let Report::Failed { reason, .. } = report(&mut conversation).await else { panic!("not failed") };
    assert!(reason.contains("its specification says f32-exact"), "{reason}");

    tell(&mut conversation, Work::Train(good.clone()), &peers).await;
    assert_eq!(trained(&mut conversation).await.work, good);
    node.shut_down().await.1.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_that_rotted_on_disk_are_fetched_again() {
    let job = Job::new();
    let mut orchestrator = Orchestrator::start().await;
    job.save(orchestrator.store.as_ref());
    let part = job.initial.vnodes[1].parameters.digest();
    for rotten in [job.spec.digest(), job.base, job.data.digest(), part] {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path().join("blobs")).unwrap();
        job.save(&store);
        let name = rotten.to_string();
        let path = store.root().join(&name[..2]).join(&name[2..]);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "rotten").unwrap();
        assert!(matches!(store.get(&rotten), Err(StoreError::Corrupt { .. })));

        let node = Node::start_in(directory, orchestrator.endpoint.ticket());
        let (_, mut conversation) = orchestrator.welcome().await;
        let window = job.window(0, job.base, share(1));
        tell(&mut conversation, Work::Train(window), &[orchestrator.endpoint.peer()]).await;
        while let Report::Failed { reason, .. } = report(&mut conversation).await {
            assert!(reason.contains("corrupt"), "{reason}");
        }
        let (_directory, result) = node.shut_down().await;
        result.unwrap();
        assert_eq!(Digest::of(&store.get(&rotten).unwrap()), rotten);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_does_not_fit_into_memory_is_reported() {
    let job = Job::new();
    let mut orchestrator = Orchestrator::start().await;
    job.save(orchestrator.store.as_ref());
    let model = ModelConfig { width: 1 << 13, hidden: 1 << 15, layers: 64, ..job.spec.model.clone() };
    let enormous = orchestrator.store.put(&TrainingSpec::new(model).to_bytes()).unwrap();
    let node = Node::start(orchestrator.endpoint.ticket());
    let (_, mut conversation) = orchestrator.welcome().await;
    let window = TrainWindow { program: enormous, ..job.window(0, job.base, share(1)) };
    tell(&mut conversation, Work::Train(window), &[orchestrator.endpoint.peer()]).await;
    let Report::Failed { reason, .. } = report(&mut conversation).await else { panic!("not failed") };
    assert!(reason.contains("MiB"), "{reason}");
    node.shut_down().await.1.unwrap();
}

/// What the node says of another one that it is asked to reach.
async fn probe(conversation: &mut Conversation, peer: &Peer) -> (NodeId, bool) {
    conversation.send(&FromOrchestrator::Probe(peer.clone())).await.unwrap();
    let answer = async {
        loop {
            match conversation.recv().await.unwrap().expect("the node is there") {
                ToOrchestrator::Probed { node, reached } => return (node, reached),
                ToOrchestrator::Heartbeat { .. } => {}
                other => panic!("not an answer: {other:?}"),
            }
        }
    };
    timeout(PATIENCE, answer).await.expect("an answer in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_says_whether_it_reaches_one_that_is_silent_for_the_orchestrator() {
    let mut orchestrator = Orchestrator::start().await;
    let _asked = Node::start(orchestrator.endpoint.ticket());
    let (_, mut conversation) = orchestrator.welcome().await;
    let silent = Node::start(orchestrator.endpoint.ticket());
    let (peer, _silence) = orchestrator.welcome().await;
    assert_eq!(probe(&mut conversation, &peer).await, (peer.node, true));
    silent.shut_down().await.1.unwrap();
    assert_eq!(probe(&mut conversation, &peer).await, (peer.node, false));
}
