//! Anybody can check a window, and nobody can lie about one.

use std::ops::ControlFlow;

use zoo_content::{BlobStore, Digest, MemoryStore};
use zoo_network::{BindOptions, Endpoint};
use zoo_pnode::verify::fetch_inputs;
use zoo_protocol::{Commitment, NodeKey, Report, TrainWindow, VerifyWindow, Work};
use zoo_tasks::recheck;
use zoo_training::equal_shares;

use crate::orchestrator::{Job, Node, Orchestrator, report, tell, trained};

/// A change to a commitment, and what must be found to differ.
type Lie = (fn(&mut Commitment), &'static str);

const LIES: &[Lie] = &[
    (|commitment| commitment.outcome.tokens += 1, "tokens"),
    (|commitment| commitment.outcome.steps += 1, "steps"),
    (|commitment| commitment.outcome.steps_root = Digest::of(b"lie"), "steps_root"),
    (|commitment| commitment.outcome.replica_out = Digest::of(b"lie"), "replica_out"),
    (|commitment| commitment.outcome.mean_loss_bits ^= 1, "mean_loss"),
    (|commitment| commitment.outcome.updates[1].update = Digest::of(b"lie"), "update of vnode"),
    (|commitment| _ = commitment.outcome.updates.pop(), "number of updates"),
    (|commitment| commitment.work.share.first_sequence += 1, "steps_root"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_trained_again_is_equal_and_every_lie_shows() {
    let job = Job::new();
    let mut orchestrator = Orchestrator::start().await;
    job.save(orchestrator.store.as_ref());
    let node = Node::start(orchestrator.endpoint.ticket());
    let (peer, mut conversation) = orchestrator.welcome().await;
    let peers = [peer, orchestrator.endpoint.peer()];
    let mut commitments = Vec::new();
    for round in 0..2 {
        let window = job.window(round, job.base, equal_shares(1, u64::from(round) * 8, 4, 2)[0]);
        let kept = commitments.last().map(|before: &Commitment| before.outcome.replica_out);
        tell(&mut conversation, Work::Train(TrainWindow { kept, ..window }), &peers).await;
        commitments.push(trained(&mut conversation).await);
    }
    assert_eq!(commitments[1].replica_in, Some(commitments[0].outcome.replica_out));

    // The node itself, asked as if it were another, comes to the digests of both.
    for commitment in &commitments {
        let Commitment { work: window, replica_in, outcome, .. } = commitment.clone();
        let work = VerifyWindow { asked_in: 2, maker: peers[0].node, window: Box::new(window), replica_in };
        tell(&mut conversation, Work::Verify(work), &peers).await;
        match report(&mut conversation).await {
            Report::Verified { round, maker, outcome: said, .. } => {
                assert_eq!((round, maker), (commitment.work.round, peers[0].node));
                assert_eq!(said, outcome.digest());
            }
            other => panic!("not verified: {other:?}"),
        }
    }

    let key = NodeKey::from_seed([7; 32]);
    let listen = "127.0.0.1:0".parse().unwrap();
    let auditor = Endpoint::bind(BindOptions { key: &key, listen, relay: None }).await.unwrap();
    for commitment in &commitments {
        let store = MemoryStore::default();
        fetch_inputs(&auditor, &peers, &store, &commitment.work, commitment.replica_in).await.unwrap();
        let blobs = store.list().unwrap();
        let check = |commitment: &Commitment| {
            recheck(&store, commitment, &mut |_| ControlFlow::Continue(())).expect("the inputs are there")
        };
        let honest = check(commitment);
        assert!(honest.equal() && honest.differences().is_empty(), "{:?}", honest.differences());
        for (lie, difference) in LIES {
            let mut tampered = commitment.clone();
            lie(&mut tampered);
            let found = check(&tampered);
            assert!(!found.equal());
            assert!(
                found.differences().iter().any(|found| found.starts_with(difference)),
                "{difference}: {:?}",
                found.differences()
            );
        }
        assert_eq!(store.list().unwrap(), blobs, "checking stores nothing");
    }
    auditor.close().await;
    node.shut_down().await.1.unwrap();
}
