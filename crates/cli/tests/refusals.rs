//! One member of a network of real processes gives something bad: it is refused with its reason and its sender's key in the
//! log, and the round is finished by the others.
#![cfg(unix)]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::time::Duration;

use common::{Bench, Running};
use iroh::endpoint::presets;
use iroh::{EndpointAddr, PublicKey, RelayMode};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use zoo_content::{BlobStore, Digest, MemoryStore, VerifiedBlob};
use zoo_network::{BindOptions, ControlStream, Endpoint, Ticket};
use zoo_orchestrator::{Client, Notice};
use zoo_pnode::verify::fetch_inputs;
use zoo_protocol::{
    Aggregate, Commitment, FromOrchestrator, MAX_FRAME_BYTES, Message, NodeKey, NodeProfile, Peer, Report,
    Role, Sealed, Speeds, Statement, ToOrchestrator, TrainWindow, VERSION, VerifyWindow, WindowOutcome,
    WireError, Work, encode,
};
use zoo_state::Event;
use zoo_tasks::{AtHand, train};
use zoo_training::{TrainingSpec, layout, network_of};
use zoo_update::{Header, Layout, Shape};

const PATIENCE: Duration = Duration::from_secs(120);
const NODES: [&str; 3] = ["ibex", "lynx", "puma"];

type Stream = ControlStream<ToOrchestrator, FromOrchestrator>;

fn key() -> NodeKey {
    NodeKey::from_seed([66; 32])
}

/// A network of an orchestrator and three nodes, each writing its log into a file.
struct Network {
    bench: Bench,
    ticket: Ticket,
    /// The URL of its HTTP interface.
    http: String,
    processes: Vec<Running>,
}

impl Network {
    fn start() -> Self {
        let bench = Bench::new();
        let arguments =
            ["up", "--dir", "orchestrator", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json"];
        let mut up = Running::start_logging(&bench, &arguments, "up.log");
        let listening = up.event("listening");
        let [word, http] = ["ticket", "http"].map(|name| listening[name].as_str().unwrap().to_owned());
        let join = |name: &str| {
            let arguments = ["join", &word, "--dir", name, "--name", name, "--threads", "1", "--json"];
            Running::start_logging(&bench, &arguments, &format!("{name}.log"))
        };
        let mut processes = NODES.map(join).into_iter().chain([up]).collect::<Vec<_>>();
        processes.iter_mut().take(NODES.len()).for_each(|node| _ = node.event("connected"));
        Self { bench, ticket: word.parse().unwrap(), http, processes }
    }

    /// Two rounds for whoever is there.
    fn submit(&self) {
        self.submit_rounds(2, &["rounds.minimum_nodes=3"]);
    }

    /// So many rounds, with these settings.
    fn submit_rounds(&self, rounds: u32, more: &[&str]) {
        let steps = (4 * rounds).to_string();
        let word = self.ticket.to_string();
        let job = ["submit", "--preset", "qwen3-tiny", "--data", "text.txt", "--network", &word, "--json"];
        let settings = [
            "training.batch_sequences=4",
            "training.update.type=sparse",
            "training.update.keep=512",
            "rounds.inner_steps=4",
        ];
        let settings = settings.iter().chain(more).flat_map(|setting| ["--set", setting]);
        self.bench.zoo(job.into_iter().chain(["--steps", &steps]).chain(settings)).succeeds();
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.bench.path(&format!("{name}.log"))).unwrap()
    }

    /// Whether a line of the log names the liar by its whole key, and the reason.
    fn has_line(&self, name: &str, what: &str, reason: &str) -> bool {
        let liar = key().id().to_string();
        let log = self.log(name);
        log.lines().any(|line| line.contains(&liar) && line.contains(what) && line.contains(reason))
    }

    #[track_caller]
    fn check_log(&self, name: &str, what: &str, reason: &str) {
        let said = self.has_line(name, what, reason);
        assert!(said, "no {what:?} of {} with {reason:?} in:\n{}", key().id(), self.log(name));
    }

    fn stop(self) {
        drop(self.processes);
    }

    /// What was said of the liar by the time that the job is finished.
    async fn faults_until_the_end(&self) -> Vec<String> {
        let client = Client::connect(&self.ticket, &NodeKey::from_seed([67; 32])).await.unwrap();
        let mut watch = client.watch(0).await.unwrap();
        let mut faults = Vec::new();
        let watching = async {
            loop {
                match watch.next().await.unwrap().expect("the orchestrator is there") {
                    Notice::Event { event: Event::Fault { node, kind, .. }, .. } => {
                        assert_eq!(node, key().id(), "nobody else is at fault: {kind}");
                        faults.push(kind.to_string());
                    }
                    Notice::Event { event: Event::RoundRestarted { why, .. }, .. } => panic!("{why}"),
                    Notice::Event { event: Event::JobFailed { why, .. }, .. } => panic!("{why}"),
                    Notice::Event { event: Event::JobFinished { .. }, .. } => return,
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, watching).await.expect("the job is finished in time");
        faults
    }
}

/// A member that knows how to train, and does not always say what it should.
struct Liar {
    endpoint: Endpoint,
    store: std::sync::Arc<MemoryStore>,
    stream: Stream,
}

impl Liar {
    async fn join(ticket: &Ticket) -> Self {
        let listen = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::bind(BindOptions { key: &key(), listen, relay: None }).await.unwrap();
        let store = std::sync::Arc::new(MemoryStore::default());
        endpoint.serve_blobs(store.clone());
        let mut stream = endpoint.connect(ticket).await.unwrap();
        let role = Role::Worker { profile: profile(), addresses: endpoint.addresses() };
        stream.send(&ToOrchestrator::Hello { version: VERSION, role }).await.unwrap();
        let welcome = stream.recv().await.unwrap();
        assert!(matches!(welcome, Some(FromOrchestrator::Welcome { .. })), "{welcome:?}");
        Self { endpoint, store, stream }
    }

    /// Its next window, with who has what it takes; other work is said to fail.
    async fn window(&mut self) -> (TrainWindow, Vec<Peer>) {
        loop {
            let message = timeout(PATIENCE, self.stream.recv()).await.expect("work in time").unwrap();
            match message.expect("the orchestrator is there") {
                FromOrchestrator::Work { work: Work::Train(window), peers } => return (window, peers),
                FromOrchestrator::Work { work: Work::Aggregate(Aggregate { job, round, .. }), .. } => {
                    self.report(Report::Failed { job, round, reason: "no time".into() }).await;
                }
                _ => {}
            }
        }
    }

    /// What an honest node would say of a window, and the blobs.
    async fn train(&self, window: &TrainWindow, peers: &[Peer]) -> Honest {
        fetch_inputs(&self.endpoint, peers, self.store.as_ref(), window, None).await.unwrap();
        let mut at_hand = AtHand::default();
        let trained =
            train(self.store.as_ref(), &mut at_hand, window, None, None, &mut |_| ControlFlow::Continue(()))
                .unwrap();
        let commitment = Commitment::new(window.clone(), None, trained.outcome, &key());
        Honest { commitment, updates: trained.updates }
    }

    fn spec(&self, window: &TrainWindow) -> TrainingSpec {
        TrainingSpec::from_bytes(&self.store.get(&window.program).unwrap()).unwrap()
    }

    async fn contribute(&mut self, commitment: &Commitment, signer: &NodeKey) {
        self.report(Report::Trained(Sealed::seal(commitment, signer))).await;
    }

    async fn report(&mut self, report: Report) {
        self.stream.send(&ToOrchestrator::Report(report)).await.unwrap();
    }

    /// What it is told next, while it says now and then that it is there; nothing when it is told to go.
    async fn next(&mut self) -> Option<FromOrchestrator> {
        let mut beat = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                _ = beat.tick() => {
                    let (step, loss_bits, tokens_per_second) = (1, 0, 1);
                    let (sent_bytes, received_bytes) = (0, 0);
                    let status = ToOrchestrator::Heartbeat { step, loss_bits, tokens_per_second, sent_bytes, received_bytes };
                    self.stream.send(&status).await.ok()?;
                }
                message = self.stream.recv() => return message.ok()?,
            }
        }
    }

    /// Stays, as if nothing were wrong, until told to go.
    fn stay(mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move { while self.next().await.is_some() {} })
    }

    /// Contributes to every round what it should not, until told to go; does nothing else.
    fn attack(mut self, attack: Attack) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            while let Some(message) = self.next().await {
                let FromOrchestrator::Work { work, peers } = message else { continue };
                match work {
                    Work::Train(window) => {
                        let mut trained = window.clone();
                        trained.share.first_sequence += u64::from(attack == Attack::OtherData) << 20;
                        let honest = self.train(&trained, &peers).await;
                        let (outcome, updates) = self.lie(attack, &window, honest);
                        updates.iter().for_each(|blob| self.store.keep(blob).unwrap());
                        let commitment = Commitment::new(window, None, outcome, &key());
                        self.contribute(&commitment, &key()).await;
                    }
                    Work::Aggregate(Aggregate { job, round, .. }) => {
                        self.report(Report::Failed { job, round, reason: "no time".into() }).await;
                    }
                    Work::Verify(VerifyWindow { asked_in: round, window, .. }) => {
                        let job = window.job;
                        self.report(Report::Failed { job, round, reason: "no time".into() }).await;
                    }
                    _ => {}
                }
            }
        })
    }

    /// What it says that its window came to: well-formed, and not what it came to.
    fn lie(
        &self,
        attack: Attack,
        window: &TrainWindow,
        honest: Honest,
    ) -> (WindowOutcome, Vec<VerifiedBlob>) {
        let Honest { commitment, updates } = honest;
        if attack == Attack::OtherData {
            return (commitment.outcome, updates);
        }
        let spec = self.spec(window);
        let (network, codec) = (network_of(&spec).unwrap(), spec.update.codec());
        let mut outcome = commitment.outcome;
        let lies = network.vnodes().iter().zip(&mut outcome.updates).zip(updates);
        let lies = lies.map(|((vnode, said), honest)| {
            let header = Header {
                round: window.round,
                vnode: vnode.id().to_owned(),
                tokens: outcome.tokens,
                layout: layout(vnode).unwrap(),
            };
            let values = codec.decode(honest.bytes(), &header).unwrap().values();
            let lie = |(at, value): (usize, i32)| match attack {
                Attack::Flipped => -(value as f32),
                Attack::Noise => {
                    f32::from(Digest::of(&encode(&(window.round, vnode.id(), at))).as_bytes()[0]) - 127.5
                }
                _ => 0.0,
            };
            let values: Vec<f32> =
                values.into_iter().enumerate().map(lie).map(|value| value / 16_777_216.0).collect();
            let blob = VerifiedBlob::new(codec.encode(&header, &values, &mut Vec::new()).unwrap());
            said.norm = codec.decode(blob.bytes(), &header).unwrap().norm();
            (said.update, said.bytes) = (blob.digest(), blob.len() as u64);
            blob
        });
        let blobs = lies.collect();
        (outcome, blobs)
    }
}

/// What somebody contributes instead of its window.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Attack {
    /// What it trained on other sequences than its own.
    OtherData,
    /// The opposite of what it came to.
    Flipped,
    /// Something at random.
    Noise,
    /// Nothing at all.
    Nothing,
}

fn profile() -> NodeProfile {
    NodeProfile {
        name: "liar".into(),
        threads: 1,
        memory_mib: 1024,
        isa: "scalar".into(),
        speeds: Speeds { f32_exact: 1000, bf16_exact: 1000 },
        region: String::new(),
        upload_kib_per_s: 0,
        storage: None,
        software: "test".into(),
    }
}

/// What an honest node would commit to, and the blobs that it names.
struct Honest {
    commitment: Commitment,
    updates: Vec<VerifiedBlob>,
}

/// What a bad update can be made from.
struct Material {
    /// The honest update of the second VNode.
    honest: Vec<u8>,
    /// The same of another round.
    of_another_round: Vec<u8>,
    commitment: Commitment,
    spec: TrainingSpec,
}

/// Every honest node refuses the update with this reason, and says so; and the orchestrator does.
async fn an_update_is_refused(spoil: fn(&Material) -> Vec<u8>, reason: &str) {
    let network = Network::start();
    let mut liar = Liar::join(&network.ticket).await;
    network.submit();
    let (window, peers) = liar.window().await;
    let Honest { mut commitment, updates: blobs } = liar.train(&window, &peers).await;
    let other = liar.train(&TrainWindow { round: 5, ..window.clone() }, &peers).await;
    let material = Material {
        honest: blobs[1].bytes().to_vec(),
        of_another_round: other.updates[1].bytes().to_vec(),
        commitment: commitment.clone(),
        spec: liar.spec(&window),
    };
    let bad = VerifiedBlob::new(spoil(&material));
    let update = &mut commitment.outcome.updates[1];
    (update.update, update.bytes) = (bad.digest(), bad.len() as u64);
    blobs.iter().chain([&bad]).for_each(|blob| liar.store.keep(blob).unwrap());
    liar.contribute(&commitment, &key()).await;
    check_that_nodes_refuse(network, liar, reason).await;
}

async fn check_that_nodes_refuse(network: Network, liar: Liar, reason: &str) {
    let liar = liar.stay();
    let faults = network.faults_until_the_end().await;
    assert!(faults.len() == 1 && faults[0].contains(reason), "{reason:?} is not the reason: {faults:?}");
    network.check_log("up", "node at fault", reason);
    let refuses = |name: &&&str| network.has_line(name, "contribution refused", reason);
    assert!(NODES.iter().filter(refuses).count() >= 3, "more than half of four say so in their logs");
    liar.abort();
    network.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_update() {
    an_update_is_refused(|update| update.honest[..update.honest.len() - 1].to_vec(), "it ends early").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_is_not_canonical() {
    an_update_is_refused(|update| [&update.honest[..], &[0]].concat(), "not canonical: bytes follow its end")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_of_another_round() {
    an_update_is_refused(|update| update.of_another_round.clone(), "update is for round 5, 0 was expected")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_of_another_shape() {
    let of_another_shape = |update: &Material| {
        let Commitment { work, outcome: WindowOutcome { tokens, updates, .. }, .. } = &update.commitment;
        let layout = Layout::new([("gain", Shape::vector(33))]).unwrap();
        let elements = vec![0.25; layout.elements() as usize];
        let vnode = updates[1].vnode.clone();
        let header = Header { round: work.round, vnode, tokens: *tokens, layout };
        update.spec.update.codec().encode(&header, &elements, &mut Vec::new()).unwrap()
    };
    an_update_is_refused(of_another_shape, "gain 1x32 was expected").await;
}

/// It says less than it serves: nobody reads the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_is_larger_than_it_was_said_to_be() {
    let network = Network::start();
    let mut liar = Liar::join(&network.ticket).await;
    network.submit();
    let (window, peers) = liar.window().await;
    let Honest { mut commitment, updates: blobs } = liar.train(&window, &peers).await;
    blobs.iter().for_each(|blob| liar.store.keep(blob).unwrap());
    commitment.outcome.updates[1].bytes -= 1;
    liar.contribute(&commitment, &key()).await;
    check_that_nodes_refuse(network, liar, "over the limit of").await;
}

/// It says so much that nobody begins to fetch it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_is_said_to_be_enormous() {
    let network = Network::start();
    let mut liar = Liar::join(&network.ticket).await;
    network.submit();
    let (window, peers) = liar.window().await;
    let Honest { mut commitment, .. } = liar.train(&window, &peers).await;
    commitment.outcome.updates[1].bytes = 4 << 30;
    liar.contribute(&commitment, &key()).await;
    let liar = liar.stay();
    let faults = network.faults_until_the_end().await;
    let reason = "committed to an update of 4294967296 bytes for VNode 1";
    assert!(faults.len() == 1 && faults[0].contains(reason), "{faults:?}");
    network.check_log("up", "node at fault", reason);
    liar.abort();
    network.stop();
}

/// What never becomes part of a round, since the orchestrator does not take it: the liar leaves with it.
async fn a_report_is_refused(lie: impl AsyncFnOnce(&mut Liar, Honest), reason: &str) {
    let network = Network::start();
    let mut liar = Liar::join(&network.ticket).await;
    network.submit();
    let (window, peers) = liar.window().await;
    let honest = liar.train(&window, &peers).await;
    lie(&mut liar, honest).await;
    liar.stream.send(&ToOrchestrator::Leave).await.unwrap();
    liar.stream.close().await;
    assert_eq!(network.faults_until_the_end().await, Vec::<String>::new());
    network.check_log("up", "report refused", reason);
    network.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contribution_that_another_key_signed() {
    let lie = async |liar: &mut Liar, honest: Honest| {
        liar.contribute(&honest.commitment, &NodeKey::from_seed([1; 32])).await;
    };
    a_report_is_refused(lie, "was signed by").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contribution_whose_signature_does_not_cover_it() {
    let lie = async |liar: &mut Liar, honest: Honest| {
        let mut report = encode(&Report::Trained(Sealed::seal(&honest.commitment, &key())));
        *report.last_mut().unwrap() ^= 1;
        liar.report(zoo_protocol::decode(&report).unwrap()).await;
    };
    a_report_is_refused(lie, "does not cover these bytes").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contribution_to_another_round() {
    let lie = async |liar: &mut Liar, honest: Honest| {
        let work = TrainWindow { round: 1, ..honest.commitment.work.clone() };
        liar.contribute(&Commitment { work, ..honest.commitment }, &key()).await;
    };
    a_report_is_refused(lie, "it is for another job or round").await;
}

/// A commitment with something after it, under a good signature.
#[derive(Serialize, Deserialize)]
struct WithMore(Commitment, u8);

impl Message for WithMore {
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }
}

impl Statement for WithMore {
    const PURPOSE: &'static str = Commitment::PURPOSE;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contribution_that_is_not_canonical() {
    let lie = async |liar: &mut Liar, honest: Honest| {
        let sealed = Sealed::seal(&WithMore(honest.commitment, 0), &key());
        let trained = [vec![0], encode(&sealed)].concat();
        liar.report(zoo_protocol::decode(&trained).unwrap()).await;
    };
    a_report_is_refused(lie, "message has 1 bytes too many").await;
}

/// The report of round 0 again, in round 1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contribution_that_was_made_before() {
    let network = Network::start();
    let mut liar = Liar::join(&network.ticket).await;
    network.submit();
    let (window, peers) = liar.window().await;
    let honest = liar.train(&window, &peers).await;
    honest.updates.iter().for_each(|blob| liar.store.keep(blob).unwrap());
    liar.contribute(&honest.commitment, &key()).await;
    loop {
        let (window, _) = liar.window().await;
        if window.round == 1 {
            break;
        }
    }
    liar.contribute(&honest.commitment, &key()).await;
    liar.stream.send(&ToOrchestrator::Leave).await.unwrap();
    liar.stream.close().await;
    assert_eq!(network.faults_until_the_end().await, Vec::<String>::new());
    network.check_log("up", "report refused", "it is for another job or round");
    network.stop();
}

/// What is in its contributions is as good as any, and fits: only who trains its window again can know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_trains_on_other_data_than_its_own_is_convicted_by_those_who_train_its_window_again() {
    let network = Network::start();
    let liar = Liar::join(&network.ticket).await.attack(Attack::OtherData);
    network.submit_rounds(12, &["rounds.minimum_nodes=2", "rounds.verified_in_1000=1000"]);
    let faults = network.faults_until_the_end().await;
    assert!(faults.len() == 1 && faults[0].contains("for its window of round"), "{faults:?}");
    network.check_log("up", "node at fault", "3 nodes trained it again");
    let word = network.ticket.to_string();
    let trust = network.bench.zoo(["trust", "--network", &word, "--json"]).succeeds();
    let trust: serde_json::Value = serde_json::from_str(trust.stdout.trim()).unwrap();
    let nodes = trust["nodes"].as_array().unwrap();
    for node in nodes {
        let is_liar = node["node"] == key().id().to_string();
        assert_eq!(node["convictions"], u64::from(is_liar), "{node}");
        assert!(!is_liar || node["verified"] == 0, "{node}");
    }
    assert_eq!(nodes.len(), NODES.len() + 1);
    let verified: u64 = nodes.iter().map(|node| node["verified"].as_u64().unwrap()).sum();
    assert!(verified > 0, "{trust}");
    let (_, figures) = common::ask(&network.http, "GET", "/metrics", "", b"");
    let figures = String::from_utf8(figures).unwrap();
    for figure in [format!("zoo_windows_verified_total {verified}"), "zoo_convictions_total 1".into()] {
        assert!(figures.lines().any(|line| line == figure), "no {figure:?} in {figures}");
    }
    liar.abort();
    network.stop();
}

/// What it contributes can be added, and whoever compares it with the others' sees that it has nothing to do with them: it does not count, its window
/// is trained again although no lot fell on it, and it is convicted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_updates_have_nothing_to_do_with_the_others_is_left_out_and_convicted() {
    for attack in [Attack::Flipped, Attack::Noise, Attack::Nothing] {
        let network = Network::start();
        let liar = Liar::join(&network.ticket).await.attack(attack);
        network.submit_rounds(12, &["rounds.minimum_nodes=2", "rounds.verified_in_1000=1"]);
        let faults = network.faults_until_the_end().await;
        assert!(faults.len() == 1 && faults[0].contains("for its window of round"), "{attack:?}: {faults:?}");
        network.check_log("up", "contribution left out", "it has nothing to do with the others");
        liar.abort();
        network.stop();
    }
}

/// Bytes in place of a message: too many of them, none that make sense, and half of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message() {
    let network = Network::start();
    network.submit();
    let transport = iroh::Endpoint::builder(presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(&key().seed()))
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .bind()
        .await
        .unwrap();
    let orchestrator = network.ticket.peer();
    let id = PublicKey::from_bytes(&orchestrator.node.0).unwrap();
    let address = orchestrator.addresses.iter().fold(EndpointAddr::new(id), |to, &ip| to.with_ip_addr(ip));
    let frame = |message: &ToOrchestrator| {
        let bytes = encode(message);
        [&(bytes.len() as u32).to_le_bytes(), &bytes[..]].concat()
    };
    let role = Role::Worker { profile: profile(), addresses: vec![] };
    let hello = frame(&ToOrchestrator::Hello { version: VERSION, role });
    let oversized = (MAX_FRAME_BYTES as u32 + 1).to_le_bytes();
    let cases: [(&[u8], &str); 3] = [
        (&oversized, "message of 1048577 bytes"),
        (&[1, 0, 0, 0, 99], "sent what is not a message"),
        (&[9, 0, 0, 0, 1, 2], "stopped in the middle of a message"),
    ];
    for (bytes, reason) in cases {
        for first in [&b""[..], &hello] {
            let connection = transport.connect(address.clone(), b"zoo/control").await.unwrap();
            let (mut send, mut receive) = connection.open_bi().await.unwrap();
            send.write_all(&[first, bytes].concat()).await.unwrap();
            send.finish().unwrap();
            let _ = timeout(PATIENCE, receive.read_to_end(MAX_FRAME_BYTES)).await.unwrap();
            network.check_log("up", "message refused", reason);
        }
    }
    transport.close().await;
    assert_eq!(network.faults_until_the_end().await, Vec::<String>::new());
    network.stop();
}
