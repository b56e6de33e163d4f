//! Workers without a model: they answer every work as an honest node would, by rule.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use zoo_content::{BlobStore, Digest, MemoryStore};
use zoo_network::{BindOptions, ControlStream, Endpoint, Ticket};
use zoo_orchestrator::{Client, Notice, Orchestrator, OrchestratorError, OrchestratorOptions, Watch};
use zoo_protocol::{
    Commitment, FromOrchestrator, JobDescription, NodeKey, NodeProfile, Profile, Report, Role, RoundPlan,
    Sealed, Speeds, ToOrchestrator, TrainWindow, VERSION, VNodeUpdate, VerifyWindow, WindowOutcome, Work,
};
use zoo_state::Event;

pub const QUICK: Duration = Duration::from_secs(10);
/// Short, so that tests are; long against the heartbeats of [`Puppet`].
pub const LEASE_MS: u64 = 1_000;

pub type Stream = ControlStream<ToOrchestrator, FromOrchestrator>;

pub fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

/// Seed of every orchestrator's key.
pub const NETWORK: u8 = 200;

pub fn options(directory: &Path) -> OrchestratorOptions {
    let secret: String = key(NETWORK).seed().iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(directory.join("key"), secret).unwrap();
    OrchestratorOptions {
        directory: directory.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        relay: None,
        lease_ms: LEASE_MS,
        tick_ms: 50,
        audits: None,
        operators: Default::default(),
        evidence: None,
        admission: None,
    }
}

/// Starts where an earlier one in this process may still be letting go of files and sockets.
pub async fn start(options: &OrchestratorOptions, expected: Option<&Ticket>) -> Orchestrator {
    within(QUICK, async {
        loop {
            let listen = expected.map_or(options.listen, |ticket| ticket.addresses[0]);
            match Orchestrator::start(OrchestratorOptions { listen, ..options.clone() }).await {
                Ok(orchestrator) => return orchestrator,
                Err(OrchestratorError::Home(_) | OrchestratorError::Network(_)) if expected.is_some() => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    let start = Instant::now();
    tokio::time::timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("not done after {:?}", start.elapsed()))
}

pub fn profile(name: &str) -> NodeProfile {
    NodeProfile {
        name: name.into(),
        threads: 1,
        memory_mib: 1024,
        isa: "scalar".into(),
        speeds: Speeds { f32_exact: 1000, bf16_exact: 7 },
        region: String::new(),
        upload_kib_per_s: 0,
        storage: None,
        software: "puppet".into(),
    }
}

pub async fn endpoint(seed: u8) -> Endpoint {
    let listen = "127.0.0.1:0".parse().unwrap();
    Endpoint::bind(BindOptions { key: &key(seed), listen, relay: None }).await.unwrap()
}

/// A job whose blobs are in the store that comes with it, and the blobs that it does not name.
pub fn job(name: &str, rounds: u32, minimum_nodes: u32) -> (JobDescription, Vec<Digest>, Arc<MemoryStore>) {
    let store = MemoryStore::default();
    let put = |part: &str| store.put(format!("{part} of {name}").as_bytes()).unwrap();
    let inner = (0..20).map(|index| put(&format!("parameters {index}"))).collect();
    let job = JobDescription {
        network: key(NETWORK).id(),
        name: name.into(),
        program: put("program"),
        profile: Profile::F32Exact,
        initial: put("checkpoint"),
        training_data: put("training data"),
        held_out_data: put("held-out data"),
        plan: RoundPlan {
            steps: 4 * u64::from(rounds),
            rhythm: RoundPlan::constant(4),
            sequences_per_step: 2,
            evaluate_every: 4,
            evaluation_shards: 3,
            minimum_nodes,
            contribution_deadline_ms: 60_000,
            topology: Default::default(),
            overlap: false,
            verified_in_1000: 0,
            trust_discount: 4,
        },
        checkpoints: Default::default(),
        tokens_max: None,
    };
    (job, inner, Arc::new(store))
}

/// Introduces a worker and returns its conversation after the welcome.
pub async fn join(endpoint: &Endpoint, ticket: &Ticket) -> Stream {
    let mut stream = endpoint.connect(ticket).await.unwrap();
    let role = Role::Worker { profile: profile("puppet"), addresses: endpoint.addresses() };
    stream.send(&ToOrchestrator::Hello { version: VERSION, role }).await.unwrap();
    let answer = within(QUICK, stream.recv()).await.unwrap();
    assert!(matches!(answer, Some(FromOrchestrator::Welcome { .. })), "{answer:?}");
    stream
}

pub fn heartbeat(step: u32) -> ToOrchestrator {
    let loss_bits = 1.5f32.to_bits();
    ToOrchestrator::Heartbeat { step, loss_bits, tokens_per_second: 10, sent_bytes: 1, received_bytes: 2 }
}

/// What an honest worker reports of `work`.
pub fn honest_report(key: &NodeKey, work: &Work) -> Option<Report> {
    Some(match work {
        Work::Idle | Work::Benchmark(_) => return None,
        Work::Tell(tell) => tell.answer(key),
        Work::Train(window) => Report::Trained(Sealed::seal(&commitment(window, key), key)),
        Work::Aggregate(aggregate) => Report::Aggregated {
            job: aggregate.job,
            round: aggregate.round,
            attempt: aggregate.attempt,
            checkpoint: Digest::of(&zoo_protocol::encode(aggregate)),
            left_out: Vec::new(),
            alike: Vec::new(),
        },
        Work::Evaluate(evaluate) => Report::Evaluated {
            job: evaluate.job,
            round: evaluate.round,
            shard: evaluate.shard,
            nats_bits: 100f64.to_bits(),
            tokens: 100,
            bytes: 120,
        },
        Work::Sum(sum) => Report::Summed {
            job: sum.job,
            round: sum.round,
            attempt: sum.attempt,
            sum: sum.sum,
            sums: sum.summands[0].updates.clone(),
        },
        Work::Verify(VerifyWindow { maker, window, .. }) => Report::Verified {
            job: window.job,
            round: window.round,
            maker: *maker,
            outcome: commitment(window, key).outcome.digest(),
        },
    })
}

pub fn commitment(window: &TrainWindow, key: &NodeKey) -> Commitment {
    let tokens = u64::from(window.share.inner_steps) * u64::from(window.share.sequences_per_step) * 16;
    let outcome = WindowOutcome {
        tokens,
        replica_out: Digest::of(b"optimizer"),
        steps_root: Digest::of(b"steps"),
        steps: window.share.inner_steps,
        updates: vec![VNodeUpdate {
            vnode: "head".into(),
            update: Digest::of(&zoo_protocol::encode(window)),
            bytes: 6,
            norm: 1,
        }],
        mean_loss_bits: 2f64.to_bits(),
    };
    Commitment::new(window.clone(), None, outcome, key)
}

/// A worker that goes on until told to leave, reconnecting when the orchestrator is gone.
pub struct Puppet {
    task: JoinHandle<()>,
    leave: watch::Sender<bool>,
}

impl Puppet {
    pub fn start(seed: u8, ticket: Ticket) -> Self {
        let (leave, mut leaving) = watch::channel(false);
        let task = tokio::spawn(async move {
            let (endpoint, key) = (endpoint(seed).await, key(seed));
            while !perform(&endpoint, &ticket, &key, leaving.clone()).await {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                    () = told_to_leave(&mut leaving) => break,
                }
            }
            endpoint.close().await;
        });
        Self { task, leave }
    }

    pub async fn leave(self) {
        self.leave.send_replace(true);
        within(QUICK, self.task).await.unwrap();
    }
}

/// One conversation of a worker; true if it ended with the worker's goodbye.
async fn perform(
    endpoint: &Endpoint,
    ticket: &Ticket,
    key: &NodeKey,
    mut leaving: watch::Receiver<bool>,
) -> bool {
    let Ok(mut stream) = endpoint.connect(ticket).await else { return false };
    let role = Role::Worker { profile: profile("puppet"), addresses: endpoint.addresses() };
    if stream.send(&ToOrchestrator::Hello { version: VERSION, role }).await.is_err() {
        return false;
    }
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    let mut step = 0;
    loop {
        let message = tokio::select! {
            message = stream.recv() => match message {
                Ok(Some(FromOrchestrator::Work { work, .. })) => honest_report(key, &work).map(ToOrchestrator::Report),
                Ok(Some(_)) => None,
                Ok(None) | Err(_) => return false,
            },
            _ = beat.tick() => { step += 1; Some(heartbeat(step)) }
            () = told_to_leave(&mut leaving) => Some(ToOrchestrator::Leave),
        };
        if message == Some(ToOrchestrator::Leave) {
            let _ = stream.send(&ToOrchestrator::Leave).await;
            stream.close().await;
            return true;
        }
        if let Some(message) = message
            && stream.send(&message).await.is_err()
        {
            return false;
        }
    }
}

async fn told_to_leave(leaving: &mut watch::Receiver<bool>) {
    let _ = leaving.wait_for(|leave| *leave).await;
}

/// The next event; other notices are passed over.
pub async fn next_event(watch: &mut Watch) -> (u64, Event) {
    loop {
        match within(QUICK, watch.next()).await.unwrap() {
            Some(Notice::Event { sequence, event, .. }) => return (sequence, event),
            Some(_) => {}
            None => panic!("the orchestrator stopped"),
        }
    }
}

/// Waits for an event that `wanted` accepts.
pub async fn event_like(watch: &mut Watch, wanted: impl Fn(&Event) -> bool) -> Event {
    loop {
        let (_, event) = next_event(watch).await;
        if wanted(&event) {
            return event;
        }
    }
}

pub async fn client(orchestrator: &Orchestrator, seed: u8) -> Client {
    within(QUICK, Client::connect(orchestrator.ticket(), &key(seed))).await.unwrap()
}

/// Runs an orchestrator on threads of its own, to be killed without a word.
pub struct Doomed {
    runtime: Option<tokio::runtime::Runtime>,
    pub ticket: Ticket,
}

impl Doomed {
    pub async fn start(options: OrchestratorOptions) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (sender, ticket) = oneshot::channel();
        runtime.spawn(async move {
            let orchestrator = Orchestrator::start(options).await.unwrap();
            sender.send(orchestrator.ticket().clone()).unwrap();
            orchestrator.run_until(std::future::pending()).await.unwrap();
        });
        Self { runtime: Some(runtime), ticket: within(QUICK, ticket).await.unwrap() }
    }

    pub fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
