//! A real orchestrator and four nodes: a job from its submission to its end.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use zoo_content::{Digest, MemoryStore};
use zoo_orchestrator::{Admission, Audits, Client, Notice, Orchestrator, OrchestratorOptions, Watch};
use zoo_pnode::PNodeEvent;
use zoo_pnode::verify::fetch_inputs;
use zoo_protocol::{
    Commitment, Effort, JobDescription, MAX_FRAME_BYTES, NodeId, NodeKey, Part, RoundPlan, Terms,
    WindowOutcome, Work, decode,
};
use zoo_state::{Event, Rating, Release};
use zoo_tasks::recheck;
use zoo_training::{LocalJob, MANIFEST_BYTES_MAX, Manifest, Share};

use crate::orchestrator::{Job, Node, PATIENCE};
use crate::survival::restart;

const NODES: usize = 4;
const ROUNDS: u32 = 3;

struct Network {
    orchestrator: Orchestrator,
    client: Client,
    watch: Watch,
    nodes: Vec<Node>,
    _directory: tempfile::TempDir,
}

impl Network {
    async fn start() -> Self {
        Self::start_with(None).await
    }

    async fn start_with(admission: Option<Admission>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let orchestrator = Orchestrator::start(OrchestratorOptions {
            directory: directory.path().to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            relay: None,
            lease_ms: 3_000,
            tick_ms: 50,
            audits: Some(Audits { every: Duration::from_millis(100), lists: listed }),
            operators: Default::default(),
            evidence: None,
            admission,
        })
        .await
        .unwrap();
        let ticket = orchestrator.ticket().clone();
        let nodes = (0..NODES).map(|_| Node::start(ticket.clone())).collect();
        let client = Client::connect(&ticket, &NodeKey::from_seed([9; 32])).await.unwrap();
        let watch = client.watch(0).await.unwrap();
        Self { orchestrator, client, watch, nodes, _directory: directory }
    }

    async fn submit(&self, job: &Job, inner_steps: u32) {
        let store = Arc::new(MemoryStore::default());
        job.save(store.as_ref());
        let description = JobDescription {
            network: self.orchestrator.ticket().node,
            name: "test".into(),
            program: job.spec.digest(),
            profile: job.spec.profile,
            initial: job.base,
            training_data: job.data.digest(),
            held_out_data: job.data.digest(),
            plan: RoundPlan {
                steps: u64::from(ROUNDS) * u64::from(inner_steps),
                rhythm: RoundPlan::constant(inner_steps),
                sequences_per_step: 4,
                evaluate_every: u64::from(ROUNDS) * u64::from(inner_steps),
                evaluation_shards: 3,
                minimum_nodes: 1,
                contribution_deadline_ms: 30_000,
                topology: Default::default(),
                overlap: true,
                verified_in_1000: 500,
                trust_discount: 4,
            },
            checkpoints: Default::default(),
            tokens_max: None,
        };
        let parts = job.initial.manifest().blobs().map(|blob| blob.digest).collect();
        self.client.submit(description, parts, store).await.unwrap();
    }

    /// The next event of the journal.
    async fn event(&mut self) -> Event {
        loop {
            let notice = timeout(PATIENCE, self.watch.next()).await.expect("something happens").unwrap();
            if let Notice::Event { event, .. } = notice.expect("the orchestrator runs") {
                return event;
            }
        }
    }

    async fn wait_for_nodes(&mut self) {
        let mut joined = 0;
        while joined < NODES {
            joined += usize::from(matches!(self.event().await, Event::NodeJoined { .. }));
        }
    }

    /// Every event up to the end of the job.
    async fn run_to_the_end(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.event().await;
            assert!(!matches!(event, Event::JobFailed { .. } | Event::Fault { .. }), "{event:?}");
            let over = matches!(event, Event::JobFinished { .. });
            events.push(event);
            if over {
                return events;
            }
        }
    }

    /// Fetches the commitment behind a digest, trains its window again, and compares.
    async fn check(&self, commitment: &Digest) {
        let peers = self.client.peers().await.unwrap();
        let endpoint = self.client.endpoint();
        let blob = endpoint.fetch_from_any(&peers, commitment, MAX_FRAME_BYTES as u64).await.unwrap();
        let commitment: Commitment = decode(&blob).unwrap();
        let store = MemoryStore::default();
        fetch_inputs(endpoint, &peers, &store, &commitment.work, commitment.replica_in).await.unwrap();
        let checked = recheck(&store, &commitment, &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(checked.equal(), "{:?}", checked.differences());
        let outcome = WindowOutcome { replica_out: Digest::of(b"lie"), ..commitment.outcome.clone() };
        let tampered = Commitment { outcome, ..commitment };
        assert!(!recheck(&store, &tampered, &mut |_| ControlFlow::Continue(())).unwrap().equal());
    }

    async fn stop(self) {
        for node in self.nodes {
            node.shut_down().await.1.unwrap();
        }
        self.client.close().await;
        self.orchestrator.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_wait_are_measured_and_agree_on_every_answer() {
    let effort = Effort { products: 1, steps: 1, area_mib: 4, passes: 2 };
    // Long enough for a loaded machine; the first look comes when all have joined.
    let terms = Terms { effort, answer_ms: 100_000, ..Terms::default() };
    let mut network = Network::start_with(Some(Admission { every: Duration::from_secs(6), terms })).await;
    let (mut measured, mut rated, mut parts) = (0, BTreeMap::new(), Vec::new());
    while parts.is_empty() || rated.len() < measured {
        match network.event().await {
            Event::BenchmarkStarted { part, nodes } => {
                parts.push(part);
                measured = nodes as usize;
            }
            Event::NodeRated { node, rating } => _ = rated.insert(node, rating),
            wrong @ (Event::NodeUnrated { .. } | Event::BenchmarkDoubted { .. }) => panic!("{wrong:?}"),
            _ => {}
        }
    }
    assert_eq!(parts, Part::ALL);
    assert!(measured >= 2);
    let has_speed = |rating: &Rating| rating.speeds.f32_exact > 0 && rating.speeds.bf16_exact > 0;
    assert!(rated.values().all(|rating| has_speed(rating) && rating.memory_mib_per_s > 0), "{rated:?}");
    // And go on as if nothing had been.
    network.submit(&Job::new(), 4).await;
    network.run_to_the_end().await;
    network.stop().await;
}

fn listed(manifest: &[u8]) -> Option<Vec<(Digest, u64)>> {
    let manifest = Manifest::from_bytes(manifest).ok()?;
    Some(manifest.blobs().map(|blob| (blob.digest, blob.bytes)).collect())
}

fn finished_rounds(events: &[Event]) -> Vec<Digest> {
    let checkpoint = |event: &Event| match event {
        Event::RoundFinished { checkpoint, .. } => Some(*checkpoint),
        _ => None,
    };
    events.iter().filter_map(checkpoint).collect()
}

fn commitments(events: &[Event], of_round: u32) -> Vec<Digest> {
    let commitment = |event: &Event| match event {
        Event::ContributionAccepted { round, commitment, .. } if *round == of_round => Some(*commitment),
        _ => None,
    };
    events.iter().filter_map(commitment).collect()
}

/// How many nodes were to train in a round.
fn participants(events: &[Event], of_round: u32) -> usize {
    let shares = |event: &Event| match event {
        Event::RoundStarted { round, shares, .. } if *round == of_round => Some(shares.len()),
        _ => None,
    };
    events.iter().find_map(shares).expect("the round began")
}

/// The job's rounds in one process, with the shares that the orchestrator dealt.
fn local_rounds(job: &Job, events: &[Event]) -> Vec<Digest> {
    let mut places: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut local = LocalJob::new(&job.spec, &job.data, NODES).unwrap();
    let mut checkpoints = Vec::new();
    for event in events {
        let Event::RoundStarted { shares, ahead_steps, .. } = event else { continue };
        let mut dealt = vec![None; NODES];
        for (node, share) in shares {
            let next = places.len();
            let place = *places.entry(*node).or_insert(next);
            dealt[place] = Some(Share {
                first_sequence: share.first_sequence,
                sequences_per_step: share.sequences_per_step,
                inner_steps: share.inner_steps,
            });
        }
        local.round(&dealt, *ahead_steps, &mut |_, _| ControlFlow::Continue(())).unwrap();
        checkpoints.push(Digest::of(&local.checkpoint().manifest().to_bytes()));
    }
    checkpoints
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_on_four_nodes_has_the_bits_of_one_process() {
    let job = Job::new();
    let mut network = Network::start().await;
    network.wait_for_nodes().await;
    network.submit(&job, 4).await;
    let events = network.run_to_the_end().await;

    let finished = finished_rounds(&events);
    assert_eq!(finished.len(), ROUNDS as usize);
    assert_eq!(finished, local_rounds(&job, &events));
    assert!(events.iter().any(|event| matches!(event, Event::EvaluationFinished { .. })));
    for round in 0..ROUNDS {
        let commitments = commitments(&events, round);
        let participants = participants(&events, round);
        assert_eq!(commitments.len(), participants, "everybody contributed who was to, in round {round}");
        assert!(participants >= NODES / 2, "the others verify");
        network.check(&commitments[round as usize % commitments.len()]).await;
    }
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_survives_a_node_that_crashes_in_a_window_and_comes_back() {
    let job = Job::new();
    let mut network = Network::start().await;
    network.wait_for_nodes().await;
    network.submit(&job, 60).await;
    let crashing = network.nodes.remove(0);
    let in_window = || {
        crashing.saw(|event| matches!(event, PNodeEvent::Started(Work::Train(window)) if window.round == 1))
    };
    while !in_window() {
        network.event().await;
    }
    let directory = crashing.crash().await;
    let ticket = network.orchestrator.ticket().clone();
    network.nodes.push(restart(directory, ticket).await);

    let events = network.run_to_the_end().await;
    let last = *finished_rounds(&events).last().expect("the last round is among the events");
    assert!(matches!(events.last(), Some(Event::JobFinished { checkpoint, .. }) if *checkpoint == last));
    for commitment in commitments(&events, ROUNDS - 1) {
        network.check(&commitment).await;
    }
    network.stop().await;
}

/// Every part of the last checkpoint rots on one holder's disk. An audit finds it, and the fourth node takes its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_whose_disk_rots_is_found_out_and_replaced() {
    let job = Job::new();
    let mut network = Network::start().await;
    network.wait_for_nodes().await;
    network.submit(&job, 4).await;
    let events = network.run_to_the_end().await;
    let last = *finished_rounds(&events).last().unwrap();
    let mut holders = Vec::new();
    let mut seen: Vec<Event> = events;
    while holders.len() < 3 {
        match seen.pop() {
            Some(Event::CheckpointKept { round, node, .. }) if round == ROUNDS - 1 => holders.push(node),
            Some(_) => {}
            None => seen.push(network.event().await),
        }
    }
    let peers = network.client.peers().await.unwrap();
    let endpoint = network.client.endpoint();
    let manifest = endpoint.fetch_from_any(&peers, &last, MANIFEST_BYTES_MAX as u64).await.unwrap();
    let unlucky = holders[0];
    let is_it = |event: &PNodeEvent| matches!(event, PNodeEvent::Ready { node, .. } if *node == unlucky);
    let directory = network.nodes.iter().find(|node| node.saw(is_it)).unwrap().directory.path().join("blobs");
    for (part, _) in listed(&manifest).unwrap() {
        let name = part.to_string();
        std::fs::write(directory.join(&name[..2]).join(&name[2..]), "rotten").unwrap();
    }
    let mut replaced = false;
    loop {
        match network.event().await {
            Event::CheckpointReleased { node, why, .. } => {
                assert_eq!((node, why), (unlucky, Release::Lost));
                replaced = true;
            }
            Event::CheckpointKept { node, .. } if replaced => {
                assert!(!holders.contains(&node));
                break;
            }
            _ => {}
        }
    }
    network.stop().await;
}
