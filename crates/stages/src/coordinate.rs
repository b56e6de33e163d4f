//! A run: waits for nodes, places stages on them, and sees them through.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use zoo_content::{BlobStore, Digest};
use zoo_model::{NetworkDefinition, Stage};
use zoo_network::{Endpoint, FrameReceiver, Frames};
use zoo_pipeline::{Position, StageAgent};
use zoo_protocol::{NodeId, Peer};

use crate::message::{
    Assignment, BATCHES_MAX, CHECKPOINT_BYTES_MAX, FRAME_BYTES_MAX, NodeReport, Rules, StagesError, ToNode,
    ToRun, Tokens, VERSION, encode, read_to_run,
};
use crate::placing::{contiguous, least_loaded};

/// Messages that wait for a node; one that does not read them is gone.
const WAITING_MAX: usize = 64;
/// Who has been told that it is over leaves within this time.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// Nodes of one run.
const NODES_MAX: usize = 1024;

/// What is run, and with how many nodes.
pub struct RunOptions<'a> {
    /// The network.
    pub network: &'a NetworkDefinition,
    /// How it is trained.
    pub rules: &'a Rules,
    /// The run begins when so many nodes have joined.
    pub nodes: usize,
    /// Memory that hosting each stage takes, bytes: a node whose limit is below that of its stages is not given them.
    pub stage_bytes: &'a [u64],
    /// For how long a stage waits for a fresh node when its own is gone, before others share it.
    pub patience: Duration,
    /// For how long every message between stages is held, ms: a measurement's.
    pub latency_ms: u64,
    /// The run's socket and key.
    pub endpoint: Endpoint,
    /// Where the newest checkpoint of every stage lies.
    pub store: Arc<dyn BlobStore>,
}

/// What happens, for whoever watches.
#[derive(Clone, Debug)]
pub enum Event {
    /// A node joined.
    Joined {
        /// Which.
        node: NodeId,
        /// Its name.
        name: String,
        /// How many there are.
        nodes: usize,
    },
    /// A stage has a place.
    Placed {
        /// Which stage.
        stage: u32,
        /// On this node.
        name: String,
        /// From its last checkpoint.
        resumes: bool,
    },
    /// A node is gone, with these stages.
    Gone {
        /// Its name.
        name: String,
        /// What it hosted.
        stages: Vec<u32>,
    },
    /// All micro-batches of a step were scored.
    Step {
        /// Counted from 1.
        step: u64,
        /// Mean loss, nats a token.
        loss: f64,
    },
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Every VNode, in the order of the stages, and what it came to.
    pub vnodes: Vec<(String, Digest)>,
    /// Over all of them.
    pub digest: Digest,
    /// The last checkpoint of every stage.
    pub checkpoints: Vec<Digest>,
    /// The mean loss of the last step, nats a token.
    pub loss: f64,
    /// From the first placement to the last stage's end.
    pub elapsed: Duration,
    /// How every node did that was there at the end, by name.
    pub reports: Vec<(String, NodeReport)>,
}

enum Heard {
    Caller(NodeId, Box<Frames>),
    Said(NodeId, u64, ToRun),
    Gone(NodeId, u64),
}

struct Member {
    /// Which of its connections.
    connection: u64,
    name: String,
    peer: Peer,
    memory_bytes: Option<u64>,
    messages: mpsc::Sender<Vec<u8>>,
    report: NodeReport,
}

#[derive(Default)]
struct Place {
    host: Option<NodeId>,
    checkpoint: Option<(Digest, u64, Position)>,
    vnodes: Option<Vec<(String, Digest)>>,
}

struct Run<'a, B, W> {
    options: &'a RunOptions<'a>,
    batch: B,
    watch: W,
    members: BTreeMap<NodeId, Member>,
    /// In the order in which they came.
    order: Vec<NodeId>,
    stages: Vec<Place>,
    begun: Option<Instant>,
    /// When stages without a node go to those who are there.
    moves_at: Option<Instant>,
    losses: BTreeMap<u64, (f64, u64)>,
    steps_told: u64,
    loss: f64,
}

/// Runs to the end: `batch` gives the tokens of a micro-batch, `watch` hears what happens. Dropping the future stops the run; its nodes see their connections end.
///
/// # Errors
/// When a node cannot host a stage, or a checkpoint cannot be kept.
pub async fn coordinate<B, W>(options: &RunOptions<'_>, batch: B, watch: W) -> Result<Summary, StagesError>
where
    B: Fn(u64) -> Tokens,
    W: FnMut(Event),
{
    let (heard, mut hears) = mpsc::channel(256);
    let mut callers = options.endpoint.frames_connections();
    options.endpoint.serve_blobs(options.store.clone());
    let stages = (0..options.rules.schedule.stages).map(|_| Place::default()).collect();
    let mut run = Run {
        options,
        batch,
        watch,
        members: BTreeMap::new(),
        order: Vec::new(),
        stages,
        begun: None,
        moves_at: None,
        losses: BTreeMap::new(),
        steps_told: 0,
        loss: f64::NAN,
    };
    let mut connections = 0;
    while !run.is_finished() {
        let moves_at = run.moves_at;
        let next = tokio::select! {
            Some((node, frames)) = callers.recv() => Heard::Caller(node, Box::new(frames)),
            Some(next) = hears.recv() => next,
            () = sleep_until(moves_at.unwrap_or_else(Instant::now)), if moves_at.is_some() => {
                run.place_orphans(true)?;
                continue;
            }
        };
        match next {
            Heard::Caller(node, frames) => {
                connections += 1;
                if run.members.len() < NODES_MAX {
                    run.greet(node, connections, *frames, heard.clone());
                }
            }
            Heard::Said(node, connection, message) => run.said(node, connection, message).await?,
            Heard::Gone(node, connection) => run.gone(node, connection)?,
        }
    }
    let summary = run.summary();
    run.order.iter().for_each(|node| run.tell(*node, &ToNode::Over));
    let end = Instant::now() + LEAVE_MAX;
    while !run.order.is_empty() {
        tokio::select! {
            Some(next) = hears.recv() => {
                if let Heard::Gone(node, _) = next {
                    run.order.retain(|other| *other != node);
                }
            }
            () = sleep_until(end) => break,
        }
    }
    Ok(summary)
}

impl<B: Fn(u64) -> Tokens, W: FnMut(Event)> Run<'_, B, W> {
    /// Listens to whoever calls; it is a member when it has said who it is.
    fn greet(&mut self, node: NodeId, connection: u64, frames: Frames, heard: mpsc::Sender<Heard>) {
        let (mut sender, receiver) = frames.split();
        let (messages, mut waiting) = mpsc::channel::<Vec<u8>>(WAITING_MAX);
        tokio::spawn(async move {
            while let Some(message) = waiting.recv().await {
                if sender.send(&message).await.is_err() {
                    return;
                }
            }
            sender.close().await;
        });
        // Who has not said its name yet is one that says nothing else.
        let peer = Peer { node, addresses: Vec::new() };
        let (name, memory_bytes, report) = (String::new(), None, NodeReport::default());
        let member = Member { connection, name, peer, memory_bytes, messages, report };
        if let Some(before) = self.members.insert(node, member)
            && !before.name.is_empty()
        {
            // The same key again: the node's next process, which hosts nothing.
            self.forget(node, before.name);
        }
        tokio::spawn(listen(node, connection, receiver, heard));
    }

    async fn said(&mut self, node: NodeId, connection: u64, message: ToRun) -> Result<(), StagesError> {
        let Some(member) = self.members.get_mut(&node).filter(|member| member.connection == connection)
        else {
            return Ok(());
        };
        // Who has not said who it is is told nothing.
        if member.name.is_empty() && !matches!(message, ToRun::Hello { .. }) {
            return Ok(());
        }
        match message {
            ToRun::Hello { version, name, addresses, memory_bytes } => {
                if version != VERSION {
                    let cause = format!(
                        "the run speaks version {VERSION} of pipelines, this node {version}\nhint: use the same zoo for both"
                    );
                    let _ = member.messages.try_send(encode(&ToNode::Refused(cause)));
                    self.members.remove(&node);
                    return Ok(());
                }
                member.name = if name.is_empty() { node.short() } else { name };
                (member.peer.addresses, member.memory_bytes) = (addresses, memory_bytes);
                self.order.retain(|other| *other != node);
                self.order.push(node);
                let (name, nodes) = (member.name.clone(), self.order.len());
                (self.watch)(Event::Joined { node, name, nodes });
                if self.begun.is_none() && nodes >= self.options.nodes {
                    self.begun = Some(Instant::now());
                    self.place_all()?;
                } else if self.begun.is_some() {
                    self.place_orphans(false)?;
                }
            }
            ToRun::Lacks { from } => {
                let end = self.options.rules.schedule.total().min(from.saturating_add(BATCHES_MAX));
                let batches = (from..end).map(&self.batch).collect();
                self.tell(node, &ToNode::Batches { from, batches });
            }
            ToRun::Loss { micro_batch, nats_bits, tokens } => {
                self.score(micro_batch, f64::from_bits(nats_bits), tokens)
            }
            ToRun::Saved { stage, position, checkpoint, bytes } => {
                self.saved(node, stage, position, checkpoint, bytes).await?
            }
            ToRun::Report(report) => member.report = report,
            ToRun::Finished { stage, vnodes } => {
                if let Some(place) = self.place_of(node, stage) {
                    place.vnodes = Some(vnodes);
                }
            }
            ToRun::Failed { stage, reason } => {
                let name = member.name.clone();
                return Err(StagesError::Host { name, stage, cause: reason });
            }
        }
        Ok(())
    }

    /// The place of a stage, if this node hosts it.
    fn place_of(&mut self, node: NodeId, stage: u32) -> Option<&mut Place> {
        self.stages.get_mut(stage as usize).filter(|place| place.host == Some(node))
    }

    /// Fetches a checkpoint; its stage may then forget what was before.
    async fn saved(
        &mut self,
        node: NodeId,
        stage: u32,
        position: Position,
        checkpoint: Digest,
        bytes: u64,
    ) -> Result<(), StagesError> {
        let peer = self.members.get(&node).map(|member| member.peer.clone());
        let (Some(peer), Some(_)) = (peer, self.place_of(node, stage)) else { return Ok(()) };
        let fetched = self.options.endpoint.fetch(&peer, &checkpoint, bytes.min(CHECKPOINT_BYTES_MAX)).await;
        // A node that is gone is placed again from the one before.
        let Ok(blob) = fetched else { return Ok(()) };
        let store = self.options.store.clone();
        tokio::task::spawn_blocking(move || store.keep(&blob))
            .await
            .map_err(|cause| StagesError::Stuck(cause.to_string()))??;
        if let Some(place) = self.place_of(node, stage) {
            let before = place.checkpoint.replace((checkpoint, bytes, position));
            if let Some((before, ..)) = before.filter(|(before, ..)| *before != checkpoint) {
                self.options.store.remove(&before)?;
            }
            self.tell(node, &ToNode::Kept { stage, position });
        }
        Ok(())
    }

    fn score(&mut self, micro_batch: u64, nats: f64, tokens: u64) {
        self.losses.insert(micro_batch, (nats, tokens));
        let micro_batches = u64::from(self.options.rules.schedule.micro_batches);
        loop {
            let step = self.steps_told * micro_batches..(self.steps_told + 1) * micro_batches;
            let scored: Vec<_> = self.losses.range(step).map(|(_, loss)| *loss).collect();
            if scored.len() as u64 != micro_batches {
                return;
            }
            let nats: f64 = scored.iter().map(|(nats, _)| nats).sum();
            let tokens: u64 = scored.iter().map(|(_, tokens)| tokens).sum();
            self.steps_told += 1;
            self.loss = nats / tokens.max(1) as f64;
            self.losses = self.losses.split_off(&(self.steps_told * micro_batches));
            (self.watch)(Event::Step { step: self.steps_told, loss: self.loss });
        }
    }

    fn gone(&mut self, node: NodeId, connection: u64) -> Result<(), StagesError> {
        if self.members.get(&node).is_none_or(|member| member.connection != connection) {
            return Ok(());
        }
        let Some(member) = self.members.remove(&node) else { return Ok(()) };
        if !member.name.is_empty() {
            self.forget(node, member.name);
            self.place_orphans(false)?;
        }
        Ok(())
    }

    /// A node's process is gone, and what it hosted has no place.
    fn forget(&mut self, node: NodeId, name: String) {
        self.order.retain(|other| *other != node);
        let mut stages = Vec::new();
        for (stage, place) in (0..).zip(&mut self.stages) {
            if place.host == Some(node) {
                (place.host, place.vnodes) = (None, None);
                stages.push(stage);
            }
        }
        (self.watch)(Event::Gone { name, stages });
    }

    fn place_all(&mut self) -> Result<(), StagesError> {
        let nodes = contiguous(self.options.rules.schedule.stages, &self.order[..self.options.nodes]);
        for (stage, node) in (0..).zip(nodes) {
            self.stages[stage as usize].host = Some(node);
        }
        for node in self.order.clone() {
            self.check_memory(node)?;
        }
        (0..self.options.rules.schedule.stages).for_each(|stage| self.host(stage));
        self.tell_where();
        Ok(())
    }

    /// Gives stages that have no node to whoever hosts nothing; to anybody once they have waited for long.
    fn place_orphans(&mut self, is_urgent: bool) -> Result<(), StagesError> {
        let orphans: Vec<u32> = (0..)
            .zip(&self.stages)
            .filter(|(_, place)| place.host.is_none())
            .map(|(stage, _)| stage)
            .collect();
        if self.begun.is_none() || orphans.is_empty() {
            self.moves_at = None;
            return Ok(());
        }
        let is_idle = |node: &NodeId| !self.stages.iter().any(|place| place.host == Some(*node));
        let fresh: Vec<NodeId> = self.order.iter().copied().filter(is_idle).collect();
        let takers = if fresh.is_empty() && is_urgent { self.order.clone() } else { fresh };
        if takers.is_empty() {
            let patience = Instant::now() + self.options.patience;
            self.moves_at = if is_urgent { Some(patience) } else { Some(self.moves_at.unwrap_or(patience)) };
            return Ok(());
        }
        self.moves_at = None;
        for stage in orphans {
            let hosts: Vec<_> = self.stages.iter().map(|place| place.host).collect();
            let Some(node) = least_loaded(&hosts, takers.iter().copied()) else { continue };
            self.stages[stage as usize].host = Some(node);
            self.check_memory(node)?;
            self.host(stage);
        }
        self.tell_where();
        Ok(())
    }

    fn check_memory(&self, node: NodeId) -> Result<(), StagesError> {
        let Some(member) = self.members.get(&node) else { return Ok(()) };
        let Some(most) = member.memory_bytes else { return Ok(()) };
        let hosted = self.stages.iter().zip(self.options.stage_bytes);
        let takes: u64 = hosted.filter(|(place, _)| place.host == Some(node)).map(|(_, bytes)| bytes).sum();
        if takes <= most {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        Err(StagesError::Stuck(format!(
            "{} may take {} MiB, and its stages need {} MiB\nhint: start with more --stages and --nodes, or smaller micro-batches",
            member.name,
            mib(most),
            mib(takes)
        )))
    }

    fn host(&mut self, stage: u32) {
        let place = &self.stages[stage as usize];
        let Some(node) = place.host else { return };
        let checkpoint = place.checkpoint.map(|(digest, bytes, _)| (digest, bytes));
        let RunOptions { network, rules, latency_ms, .. } = *self.options;
        let (network, rules) = (network.clone(), rules.clone());
        let assignment = Assignment { network, rules, stage, checkpoint, latency_ms };
        self.tell(node, &ToNode::Host(assignment.to_bytes()));
        let name = self.members.get(&node).map_or_else(|| node.short(), |member| member.name.clone());
        (self.watch)(Event::Placed { stage, name, resumes: checkpoint.is_some() });
    }

    /// Everybody who hosts something hears where all stages are.
    fn tell_where(&mut self) {
        let peer = |node: NodeId| self.members.get(&node).map(|member| member.peer.clone());
        let places = (0..).zip(&self.stages);
        let stages: Vec<(u32, Peer)> =
            places.filter_map(|(stage, place)| Some((stage, peer(place.host?)?))).collect();
        for node in self.order.clone() {
            self.tell(node, &ToNode::Where(stages.clone()));
        }
    }

    /// Who does not read what it is told is seen to be gone by its connection.
    fn tell(&self, node: NodeId, message: &ToNode) {
        if let Some(member) = self.members.get(&node) {
            let _ = member.messages.try_send(encode(message));
        }
    }

    /// All stages have done all steps, and the run has what they came to.
    fn is_finished(&self) -> bool {
        let total = self.options.rules.schedule.total();
        let is_kept = |place: &Place| place.checkpoint.is_some_and(|(.., at)| at.backwards == total);
        self.stages.iter().all(|place| place.vnodes.is_some() && is_kept(place))
    }

    fn summary(&self) -> Summary {
        let checkpoints = self.stages.iter().filter_map(|place| Some(place.checkpoint?.0)).collect();
        let vnodes: Vec<_> =
            self.stages.iter().flat_map(|place| place.vnodes.clone().unwrap_or_default()).collect();
        let digest = Digest::of(&encode(&vnodes));
        let elapsed = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        let member = |node: &NodeId| self.members.get(node);
        let reports = self.order.iter().filter_map(member);
        let reports = reports.map(|member| (member.name.clone(), member.report.clone())).collect();
        Summary { vnodes, digest, checkpoints, loss: self.loss, elapsed, reports }
    }
}

/// Passes on what a node says, until it says nothing that is sound.
async fn listen(node: NodeId, connection: u64, mut receiver: FrameReceiver, heard: mpsc::Sender<Heard>) {
    while let Ok(Some(frame)) = receiver.recv(FRAME_BYTES_MAX).await {
        let Some(message) = read_to_run(&frame) else { break };
        if heard.send(Heard::Said(node, connection, message)).await.is_err() {
            return;
        }
    }
    let _ = heard.send(Heard::Gone(node, connection)).await;
}

/// What every VNode of a run came to, from the last checkpoints of its stages.
///
/// # Errors
/// When one of them is not there, or is not of this run.
pub fn states(
    network: &NetworkDefinition,
    rules: &Rules,
    store: &dyn BlobStore,
    summary: &Summary,
) -> Result<Vec<(String, Vec<u8>)>, StagesError> {
    let mut states = Vec::new();
    for (stage, checkpoint) in (0..).zip(&summary.checkpoints) {
        let model = one(network, rules, stage)?;
        let blob = store.get(checkpoint)?;
        let agent = StageAgent::restore(rules.settings(), stage, model, blob.bytes())?;
        states
            .extend(agent.model().vnodes().iter().map(|vnode| (vnode.id().to_owned(), vnode.state_bytes())));
    }
    Ok(states)
}

/// What hosting each stage takes of memory, bytes, about: parameters, gradients, the optimiser's two moments and older weights, once more while a checkpoint of them is
/// written, and its rows in flight.
///
/// # Errors
/// When the network cannot be cut into so many stages.
pub fn stage_bytes(network: &NetworkDefinition, rules: &Rules) -> Result<Vec<u64>, StagesError> {
    let schedule = &rules.schedule;
    let bytes = |stage: u32| {
        let model = one(network, rules, stage)?;
        let parameters = model.vnodes().iter().flat_map(|vnode| vnode.parameters());
        let elements: u64 = parameters.map(|parameter| parameter.value.len() as u64).sum();
        let versions = (schedule.delay_steps(stage).ceil() as u64) + 1;
        let width = model.arriving_width().max(model.leaving_width()).unwrap_or(0) as u64;
        let rows = 4 * width * u64::from(schedule.micro_batch_tokens) * (schedule.ahead(stage) + 2);
        Ok(4 * elements * (2 + 2 * (2 + versions)) + 2 * rows)
    };
    (0..schedule.stages).map(bytes).collect()
}

fn one(network: &NetworkDefinition, rules: &Rules, stage: u32) -> Result<Stage, StagesError> {
    let model = Stage::one(network, rules.profile, rules.schedule.stages as usize, stage as usize);
    model.map_err(|cause| StagesError::Stuck(cause.to_string()))
}
