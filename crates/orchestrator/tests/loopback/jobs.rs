//! Jobs from submission to their end.

use std::sync::Arc;

use zoo_content::{BlobStore, Digest, MemoryStore, StoreError, VerifiedBlob};
use zoo_orchestrator::{ClientError, Notice};
use zoo_protocol::limits::MAX_JOB_BLOBS;
use zoo_state::Event;

use crate::puppet::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_to_its_end_and_outlives_who_submitted_it() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let (job, blobs, store) = job("complete", 5, 3);
    let submitter = client(&orchestrator, 1).await;
    let id = within(QUICK, submitter.submit(job.clone(), blobs.clone(), store.clone())).await.unwrap();
    assert_eq!(id, job.id());
    // Again, by accident: the same job.
    assert_eq!(submitter.submit(job.clone(), blobs.clone(), store.clone()).await.unwrap(), id);
    submitter.close().await;

    let workers: Vec<_> = (10..13).map(|seed| Puppet::start(seed, orchestrator.ticket().clone())).collect();
    let watcher = client(&orchestrator, 2).await;
    let mut watch = watcher.watch(0).await.unwrap();
    let mut finished_rounds = 0;
    loop {
        match within(QUICK, watch.next()).await.unwrap().unwrap() {
            Notice::Event { event: Event::RoundFinished { round, .. }, .. } => {
                assert_eq!(round, finished_rounds);
                finished_rounds += 1;
            }
            Notice::Event { event: Event::JobFailed { why, .. }, .. } => panic!("{why}"),
            Notice::Event { .. } => {}
            Notice::Status(_) | Notice::CaughtUp => {}
            Notice::StateRoot(root) => {
                assert_eq!(root, orchestrator.root(), "after the last event of the job");
                break;
            }
        }
    }
    assert_eq!(u64::from(finished_rounds), job.plan.most_rounds());
    let status = loop {
        match within(QUICK, watch.next()).await.unwrap().unwrap() {
            Notice::Status(status) => break status,
            other => assert!(matches!(other, Notice::Event { .. } | Notice::CaughtUp), "{other:?}"),
        }
    };
    assert_eq!((status.loss, status.tokens_per_second), (1.5, 10), "heartbeats are passed on");
    for digest in blobs.iter().chain([&job.program, &job.initial, &job.training_data, &job.held_out_data]) {
        let blob = within(QUICK, watcher.fetch(digest, 1 << 20)).await.unwrap();
        assert_eq!(blob.bytes(), store.get(digest).unwrap().bytes());
    }
    for worker in workers {
        worker.leave().await;
    }
    orchestrator.stop().await.unwrap();
}

/// A store that says it has everything, and gives out something else.
struct Liar;

impl BlobStore for Liar {
    fn get(&self, _: &Digest) -> Result<VerifiedBlob, StoreError> {
        Ok(VerifiedBlob::new(b"something else".to_vec()))
    }
    fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        Ok(Digest::of(bytes))
    }
    fn size(&self, _: &Digest) -> Option<u64> {
        Some(14)
    }
    fn list(&self) -> Result<Vec<Digest>, StoreError> {
        Ok(Vec::new())
    }
    fn remove(&self, _: &Digest) -> Result<bool, StoreError> {
        Ok(false)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_blobs_are_missing_or_false_is_refused_and_leaves_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let submitter = client(&orchestrator, 3).await;
    let root = orchestrator.root();

    let (description, _, store) = job("incomplete", 1, 1);
    let missing = Digest::of(b"nobody has this");
    let error = submitter.submit(description.clone(), vec![missing], store.clone()).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Refused(_)) && error.to_string().contains(&missing.short()),
        "{error}"
    );

    let (without_data, blobs, store) = job("without data", 1, 1);
    store.remove(&without_data.held_out_data).unwrap();
    let error = submitter.submit(without_data.clone(), blobs, store).await.unwrap_err();
    assert!(error.to_string().contains(&without_data.held_out_data.short()), "{error}");

    let (other, blobs, _) = job("false", 1, 1);
    let error = submitter.submit(other, blobs, Arc::new(Liar)).await.unwrap_err();
    assert!(error.to_string().contains("false bytes"), "{error}");

    let too_many = vec![missing; MAX_JOB_BLOBS + 1];
    let error =
        submitter.submit(description.clone(), too_many, Arc::new(MemoryStore::default())).await.unwrap_err();
    assert!(matches!(error, ClientError::Invalid(_)), "{error:?}");

    let mut senseless = description;
    senseless.plan.rhythm[0].inner_steps = 0;
    let error = submitter.submit(senseless, vec![], Arc::new(MemoryStore::default())).await.unwrap_err();
    assert!(error.to_string().contains("inner_steps"), "{error}");
    assert_eq!(orchestrator.root(), root);
}
