//! A node of a run: hosts the stages that it is given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use zoo_content::{BlobStore, Digest, VerifiedBlob};
use zoo_model::DecoderStage;
use zoo_network::{Endpoint, FrameReceiver, FrameSender, Frames, Ticket};
use zoo_pipeline::{Message, Outgoing, Position};
use zoo_protocol::{NodeId, Peer};

use crate::engine::{Input, Output};
use crate::host::{self, Told};
use crate::links::{Links, held};
use crate::message::{
    Assignment, Between, FRAME_BYTES_MAX, NodeReport, Onward, StagesError, ToNode, ToRun, VERSION,
    WritingAssignment, encode, read_between, read_to_node,
};
use crate::writer::Written;

/// Who calls is known to host a stage within this time, or not heard.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);
/// It is looked at so often.
const KNOWN_POLL: Duration = Duration::from_millis(20);

/// How a node takes part.
pub struct JoinOptions<'a> {
    /// The run's.
    pub ticket: &'a Ticket,
    /// The node's socket and key.
    pub endpoint: Endpoint,
    /// Where checkpoints lie until the run has them.
    pub store: Arc<dyn BlobStore>,
    /// For people.
    pub name: String,
    /// Threads to compute with.
    pub threads: usize,
    /// Memory that it may take, bytes.
    pub memory_bytes: Option<u64>,
    /// Most memory that its process has held so far, KiB.
    pub peak_kib: fn() -> u64,
}

/// What a node does, for whoever watches.
#[derive(Clone, Debug)]
pub enum NodeEvent {
    /// The run has been reached.
    Joined,
    /// It hosts a stage.
    Hosts {
        /// Which.
        stage: u32,
        /// Of how many.
        stages: u32,
        /// Whether it goes on from a checkpoint.
        resumes: bool,
    },
    /// How it is doing.
    Report(NodeReport),
}

/// Takes part in a run until that is over.
///
/// # Errors
/// When the run cannot be reached, refuses the node, or goes without a word.
pub async fn join(options: JoinOptions<'_>, mut watch: impl FnMut(NodeEvent)) -> Result<(), StagesError> {
    let JoinOptions { ticket, endpoint, store, name, threads, memory_bytes, peak_kib } = options;
    let run = ticket.peer();
    let (to_run, mut from_run) = endpoint.connect_frames(&run).await?.split();
    let to_run = Speaker::start(to_run);
    let addresses = endpoint.addresses();
    to_run.say(&ToRun::Hello { version: VERSION, name, addresses, memory_bytes }, Duration::ZERO);
    endpoint.serve_blobs(store.clone());
    watch(NodeEvent::Joined);
    let (told, mut outputs) = mpsc::unbounded_channel();
    let inputs = host::start(threads, told).map_err(StagesError::Refused)?;
    let mut neighbours = endpoint.frames_connections();
    let mut readers = JoinSet::new();
    let mut node = Node {
        run,
        to_run,
        links: Links::new(endpoint.clone()),
        endpoint,
        store,
        inputs,
        hosts: Arc::default(),
        peak_kib,
        latency: Duration::ZERO,
        kept: BTreeMap::new(),
    };
    loop {
        tokio::select! {
            frame = from_run.recv(FRAME_BYTES_MAX) => {
                let frame = frame.ok().flatten().ok_or(StagesError::RunGone)?;
                let message = read_to_node(&frame).ok_or(StagesError::Malformed(node.run.node))?;
                match message {
                    ToNode::Over => {
                        node.to_run.end().await;
                        return Ok(());
                    }
                    ToNode::Refused(cause) => return Err(StagesError::Refused(cause)),
                    message => node.told(message, &mut watch).await?,
                }
            }
            Some(told) = outputs.recv() => node.say(told, &mut watch).await?,
            Some((caller, frames)) = neighbours.recv() => {
                readers.spawn(listen(caller, frames, node.inputs.clone(), node.hosts.clone()));
            }
        }
    }
}

/// What is said to the run, in order; a run that does not hear it is gone, which is seen where it speaks.
struct Speaker {
    messages: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
    task: JoinHandle<()>,
}

impl Speaker {
    fn start(mut sender: FrameSender) -> Self {
        let (messages, mut waiting) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
        let task = tokio::spawn(async move {
            while let Some((due, message)) = waiting.recv().await {
                held(due).await;
                if sender.send(&message).await.is_err() {
                    return;
                }
            }
            sender.close().await;
        });
        Self { messages, task }
    }

    fn say(&self, message: &ToRun, latency: Duration) {
        let _ = self.messages.send((Instant::now() + latency, encode(message)));
    }

    /// Ends the conversation, when everything was said.
    async fn end(self) {
        drop(self.messages);
        let _ = self.task.await;
    }
}

/// Where the stages are, and how long a message between them is at most, for those who listen to their nodes.
type Hosts = Arc<std::sync::Mutex<Known>>;

#[derive(Default)]
struct Known {
    places: BTreeMap<u32, Peer>,
    bytes_max: usize,
}

struct Node {
    run: Peer,
    to_run: Speaker,
    endpoint: Endpoint,
    store: Arc<dyn BlobStore>,
    inputs: Sender<Input>,
    links: Links,
    hosts: Hosts,
    peak_kib: fn() -> u64,
    latency: Duration,
    /// Checkpoints here, by stage and how far they are.
    kept: BTreeMap<(u32, Position), Digest>,
}

impl Node {
    /// An engine that is gone has failed, and said so.
    fn input(&self, input: Input) {
        let _ = self.inputs.send(input);
    }

    fn peer_of(&self, stage: u32) -> Option<Peer> {
        lock(&self.hosts).places.get(&stage).cloned()
    }

    async fn told(&mut self, message: ToNode, watch: &mut impl FnMut(NodeEvent)) -> Result<(), StagesError> {
        match message {
            ToNode::Host(bytes) => {
                let assignment = Assignment::from_bytes(&bytes).map_err(StagesError::Refused)?;
                let stage = assignment.stage;
                match self.fetch(&assignment).await {
                    Ok(checkpoint) => {
                        self.latency = Duration::from_millis(assignment.latency_ms);
                        lock(&self.hosts).bytes_max = assignment.between_bytes_max();
                        let stages = assignment.rules.schedule.stages;
                        watch(NodeEvent::Hosts { stage, stages, resumes: checkpoint.is_some() });
                        self.input(Input::Host(Box::new(assignment), checkpoint));
                    }
                    Err(cause) => self.to_run.say(&ToRun::failed(stage, cause), Duration::ZERO),
                }
            }
            ToNode::Where(stages) => {
                lock(&self.hosts).places = stages.into_iter().collect();
                self.input(Input::SayStatus);
            }
            ToNode::Batches { from, batches } => self.input(Input::Batches { from, batches }),
            ToNode::Kept { stage, position } => {
                self.forget_before(stage, position)?;
                self.input(Input::Kept { stage, position });
            }
            ToNode::Write(bytes) => {
                let assignment = WritingAssignment::from_bytes(&bytes).map_err(StagesError::Refused)?;
                let WritingAssignment { stage, stages, pages, latency_ms, .. } = assignment;
                self.latency = Duration::from_millis(latency_ms);
                lock(&self.hosts).bytes_max = assignment.between_bytes_max();
                match self.fetch_stage(&assignment).await {
                    Ok(model) => {
                        watch(NodeEvent::Hosts { stage, stages, resumes: false });
                        self.input(Input::Write { stage, model: Box::new(model), pages });
                    }
                    Err(cause) => self.to_run.say(&ToRun::failed(stage, cause), Duration::ZERO),
                }
            }
            ToNode::Begin { generation, places } => {
                let here = places.iter().filter(|(_, peer)| peer.node == self.endpoint.id());
                let here = here.map(|(stage, _)| *stage).collect();
                lock(&self.hosts).places = places.into_iter().collect();
                self.input(Input::Begin { generation, here });
            }
            ToNode::Pass { generation, number, pass } => {
                self.input(Input::Pass(Onward { generation, number, to: 0, pass, rows: Ok(Vec::new()) }));
            }
            ToNode::Refused(_) | ToNode::Over => {}
        }
        Ok(())
    }

    /// Fetches the parameters of a stage, VNode by VNode.
    async fn fetch_stage(&self, assignment: &WritingAssignment) -> Result<DecoderStage, String> {
        let WritingAssignment { network, profile, stages, stage, states, .. } = assignment;
        let coming = DecoderStage::one(network, *profile, *stages as usize, *stage as usize);
        let mut coming = coming.map_err(|cause| cause.to_string())?;
        for id in coming.missing().to_vec() {
            let state = states.iter().find(|(known, ..)| *known == id);
            let (_, digest, bytes) = state.ok_or_else(|| format!("the run has no state of VNode {id}"))?;
            let blob = self.endpoint.fetch(&self.run, digest, *bytes).await;
            let blob = blob.map_err(|cause| cause.to_string())?;
            let loaded = tokio::task::spawn_blocking(move || coming.load(&id, blob.bytes()).map(|()| coming));
            let loaded = loaded.await.map_err(|cause| cause.to_string())?;
            coming = loaded.map_err(|cause| cause.to_string())?;
        }
        coming.complete().ok_or_else(|| "a stage without all of its VNodes".to_owned())
    }

    async fn fetch(&self, assignment: &Assignment) -> Result<Option<VerifiedBlob>, String> {
        let Some((checkpoint, bytes)) = assignment.checkpoint else { return Ok(None) };
        let fetched = self.endpoint.fetch(&self.run, &checkpoint, bytes).await;
        fetched.map(Some).map_err(|cause| cause.to_string())
    }

    /// Older checkpoints of a stage are of no use once the run has this one.
    fn forget_before(&mut self, stage: u32, position: Position) -> Result<(), StagesError> {
        let older: Vec<_> =
            self.kept.range((stage, Position::default())..(stage, position)).map(|(key, _)| *key).collect();
        for key in older {
            if let Some(digest) = self.kept.remove(&key)
                && !self.kept.values().any(|kept| *kept == digest)
            {
                self.store.remove(&digest)?;
            }
        }
        Ok(())
    }

    async fn say(&mut self, told: Told, watch: &mut impl FnMut(NodeEvent)) -> Result<(), StagesError> {
        let message = match told {
            Told::Report(report) => {
                let report =
                    NodeReport { sent_bytes: self.links.sent_bytes(), peak_kib: (self.peak_kib)(), ..report };
                watch(NodeEvent::Report(report.clone()));
                ToRun::Report(report)
            }
            Told::Output(Output::Outgoing(Outgoing { to, message })) => {
                // A stage that is to come here is not here yet.
                if let Some(peer) = self.peer_of(to).filter(|peer| peer.node != self.endpoint.id()) {
                    let message = encode(&Between::Training { to, message: message.to_bytes() });
                    self.links.send(&peer, message, self.latency);
                }
                return Ok(());
            }
            Told::Output(Output::Written(Written::Onward(onward))) => {
                // One that cannot be sent is missed by the stage that gets the next.
                if let Some(peer) = self.peer_of(onward.to) {
                    self.links.send(&peer, encode(&Between::Writing(onward)), self.latency);
                }
                return Ok(());
            }
            Told::Output(Output::Written(Written::Done { generation, number, reports })) => {
                self.to_run.say(&ToRun::Wrote { generation, number, reports }, self.latency);
                return Ok(());
            }
            Told::Output(Output::Written(Written::Missed { generation })) => ToRun::Missed { generation },
            Told::Output(Output::Ready { stage }) => ToRun::Ready { stage },
            Told::Output(Output::Begun { generation }) => ToRun::Begun { generation },
            Told::Output(Output::Lacks(from)) => ToRun::Lacks { from },
            Told::Output(Output::Loss { micro_batch, nats, tokens }) => {
                ToRun::Loss { micro_batch, nats_bits: nats.to_bits(), tokens }
            }
            Told::Output(Output::Checkpoint { stage, position, bytes }) => {
                let store = self.store.clone();
                let kept = tokio::task::spawn_blocking(move || {
                    let blob = VerifiedBlob::new(bytes);
                    store.keep(&blob).map(|()| (blob.digest(), blob.len() as u64))
                });
                let (checkpoint, bytes) =
                    kept.await.map_err(|cause| StagesError::Stuck(cause.to_string()))??;
                self.kept.insert((stage, position), checkpoint);
                ToRun::Saved { stage, position, checkpoint, bytes }
            }
            Told::Output(Output::Finished { stage, vnodes }) => ToRun::Finished { stage, vnodes },
            Told::Output(Output::Failed { stage, reason }) => ToRun::failed(stage, reason),
        };
        self.to_run.say(&message, Duration::ZERO);
        Ok(())
    }
}

/// Takes what the node of another stage says. A message is heard only from who hosts its sender, and nobody who hosts nothing is heard at all.
async fn listen(caller: NodeId, frames: Frames, inputs: Sender<Input>, hosts: Hosts) {
    frames.expect_much();
    let (_sender, mut receiver): (FrameSender, FrameReceiver) = frames.split();
    // It may have been told where this node is before this node was told where it is.
    let is_host = || lock(&hosts).places.values().any(|peer| peer.node == caller);
    let until = Instant::now() + KNOWN_WITHIN;
    while !is_host() {
        if Instant::now() >= until {
            return;
        }
        sleep(KNOWN_POLL).await;
    }
    let bytes_max = lock(&hosts).bytes_max;
    while let Ok(Some(frame)) = receiver.recv(bytes_max).await {
        let Some((sender, input)) = read_between(&frame).and_then(|between| read(between, bytes_max)) else {
            return;
        };
        let host = lock(&hosts).places.get(&sender).map(|peer| peer.node);
        if host == Some(caller) && inputs.send(input).is_err() {
            return;
        }
    }
}

/// The stage that a message is from, and what it tells the stages here.
fn read(between: Between, bytes_max: usize) -> Option<(u32, Input)> {
    match between {
        Between::Training { to, message } => {
            let message = Message::from_bytes(&message, bytes_max)?;
            let sender = match &message {
                Message::Rows(rows) => rows.sender,
                Message::Status(status) => status.sender,
            };
            Some((sender, Input::Message { to, message }))
        }
        Between::Writing(onward) => Some((onward.to.checked_sub(1)?, Input::Pass(onward))),
    }
}

/// The lock, which no panic can have poisoned.
fn lock(hosts: &Hosts) -> std::sync::MutexGuard<'_, Known> {
    hosts.lock().expect("nothing panics while it holds this lock")
}
