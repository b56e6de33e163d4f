//! What the tests share: a job, nodes, and an orchestrator that does as the test says.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zoo_content::{BlobStore, Digest, MemoryStore};
use zoo_model::preset;
use zoo_network::{BindOptions, ControlConnection, ControlStream, Endpoint, Ticket};
use zoo_pnode::{PNodeError, PNodeEvent, PNodeOptions, Retention};
use zoo_protocol::{
    Commitment, FromOrchestrator, NodeId, NodeKey, Peer, Report, Role, Share, ToOrchestrator, TrainWindow,
    VERSION, Work,
};
use zoo_training::{Checkpoint, Dataset, Outer, Trainer, TrainingSpec};

/// Nothing in these tests takes so long on any machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub type Conversation = ControlStream<FromOrchestrator, ToOrchestrator>;

/// A small job, whose blobs the orchestrator serves.
pub struct Job {
    pub spec: TrainingSpec,
    pub data: Dataset,
    pub initial: Checkpoint,
    pub base: Digest,
}

impl Job {
    pub const ID: &str = "a job";

    pub fn new() -> Self {
        let model = preset::by_name("qwen3-tiny").expect("a preset");
        let spec =
            TrainingSpec { outer: Outer { learning_rate: 0.7, momentum: 0.9 }, ..TrainingSpec::new(model) };
        let tokens: Vec<u32> = (0..20_000_u32).map(|at| at * at % 251).collect();
        let data = Dataset::encode(256, &tokens, tokens.len() as u64).expect("bytes");
        let initial = Trainer::new(spec.clone(), &data).expect("it fits").checkpoint();
        let base = Digest::of(&initial.manifest().to_bytes());
        Self { spec, data, initial, base }
    }

    pub fn id() -> Digest {
        Digest::of(Self::ID.as_bytes())
    }

    pub fn save(&self, store: &dyn BlobStore) {
        store.put(&self.spec.to_bytes()).unwrap();
        store.keep(self.data.blob()).unwrap();
        assert_eq!(self.initial.save(store).unwrap(), self.base);
    }

    pub fn window(&self, round: u32, base: Digest, share: zoo_training::Share) -> TrainWindow {
        TrainWindow {
            network: NodeKey::from_seed([42; 32]).id(),
            job: Self::id(),
            round,
            program: self.spec.digest(),
            profile: self.spec.profile,
            base,
            data: self.data.digest(),
            first_step: u64::from(round) * u64::from(share.inner_steps),
            share: Share {
                first_sequence: share.first_sequence,
                sequences_per_step: share.sequences_per_step,
                inner_steps: share.inner_steps,
            },
            lead: None,
            ahead_steps: 0,
            kept: None,
            reveals: None,
        }
    }
}

/// Accepts nodes and says what the test says.
pub struct Orchestrator {
    pub endpoint: Endpoint,
    pub store: Arc<MemoryStore>,
    connections: mpsc::Receiver<ControlConnection>,
}

impl Orchestrator {
    pub async fn start() -> Self {
        let key = NodeKey::from_seed([42; 32]);
        let endpoint =
            Endpoint::bind(BindOptions { key: &key, listen: loopback(), relay: None }).await.unwrap();
        let store = Arc::new(MemoryStore::default());
        let served: Arc<dyn BlobStore> = store.clone();
        endpoint.serve_blobs(served);
        let connections = endpoint.control_connections();
        Self { endpoint, store, connections }
    }

    /// The next connection and its first message, not yet answered.
    pub async fn accept(&mut self) -> (NodeId, Conversation, ToOrchestrator) {
        let (node, mut conversation) = timeout(PATIENCE, self.connections.recv())
            .await
            .expect("a node connects")
            .expect("the endpoint lives");
        let hello = conversation.recv().await.unwrap().expect("a first message");
        (node, conversation, hello)
    }

    /// Welcomes the next node.
    pub async fn welcome(&mut self) -> (Peer, Conversation) {
        let (node, mut conversation, hello) = self.accept().await;
        let ToOrchestrator::Hello { version: VERSION, role: Role::Worker { profile, addresses } } = hello
        else {
            panic!("not the hello of a worker: {hello:?}");
        };
        assert!(profile.speeds.f32_exact > 0 && !addresses.is_empty());
        conversation.send(&FromOrchestrator::Welcome { peers: vec![self.endpoint.peer()] }).await.unwrap();
        (Peer { node, addresses }, conversation)
    }
}

pub async fn tell(conversation: &mut Conversation, work: Work, peers: &[Peer]) {
    conversation.send(&FromOrchestrator::Work { work, peers: peers.to_vec() }).await.unwrap();
}

/// The next report; heartbeats are passed over.
pub async fn report(conversation: &mut Conversation) -> Report {
    let next = async {
        loop {
            match conversation.recv().await.unwrap().expect("the node is there") {
                ToOrchestrator::Report(report) => return report,
                ToOrchestrator::Heartbeat { .. } | ToOrchestrator::Measured(_) => {}
                other => panic!("not a report: {other:?}"),
            }
        }
    };
    timeout(PATIENCE, next).await.expect("a report in time")
}

pub async fn trained(conversation: &mut Conversation) -> Commitment {
    match report(conversation).await {
        Report::Trained(sealed) => sealed.open().expect("signed"),
        other => panic!("not trained: {other:?}"),
    }
}

/// A daemon in this process.
pub struct Node {
    pub directory: TempDir,
    pub events: Arc<Mutex<Vec<PNodeEvent>>>,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), PNodeError>>,
}

impl Node {
    pub fn start(ticket: Ticket) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), ticket)
    }

    pub fn start_in(directory: TempDir, ticket: Ticket) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let (shutdown, told) = oneshot::channel::<()>();
        let options = options(directory.path(), ticket, events.clone());
        let task = tokio::spawn(zoo_pnode::run(options, async { _ = told.await }));
        Self { directory, events, shutdown: Some(shutdown), task }
    }

    /// Asks it to leave and waits until it has.
    pub async fn shut_down(mut self) -> (TempDir, Result<(), PNodeError>) {
        self.shutdown.take().map(|shutdown| shutdown.send(()));
        (self.directory, self.task.await.expect("it does not panic"))
    }

    /// What it ends with by itself.
    pub async fn end(self) -> Result<(), PNodeError> {
        timeout(PATIENCE, self.task).await.expect("it ends").expect("it does not panic")
    }

    /// Ends it as a crash would, without a goodbye.
    pub async fn crash(self) -> TempDir {
        self.task.abort();
        assert!(self.task.await.is_err_and(|cause| cause.is_cancelled()));
        self.directory
    }

    pub fn saw(&self, what: impl Fn(&PNodeEvent) -> bool) -> bool {
        self.events.lock().unwrap().iter().any(what)
    }
}

pub fn options(directory: &Path, ticket: Ticket, events: Arc<Mutex<Vec<PNodeEvent>>>) -> PNodeOptions {
    PNodeOptions {
        region: String::new(),
        max_upload_kib_per_s: None,
        max_memory_mib: None,
        directory: directory.to_owned(),
        ticket,
        listen: loopback(),
        name: "test".into(),
        threads: std::num::NonZero::new(1),
        storage: None,
        isa: None,
        credential: None,
        evidence: None,
        binary: None,
        retention: Retention::default(),
        events: Arc::new(move |event| events.lock().unwrap().push(event)),
    }
}

fn loopback() -> std::net::SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}
