//! A run: waits for nodes, places stages on them, and sees them through.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use zoo_content::{BlobStore, Digest};
use zoo_model::{NetworkDefinition, Stage};
use zoo_network::Endpoint;
use zoo_pipeline::{Correction, Position, StageAgent};
use zoo_protocol::{NodeId, Peer};

use crate::members::{Members, News};
use crate::message::{
    Assignment, BATCHES_MAX, CHECKPOINT_BYTES_MAX, NodeReport, Rules, StagesError, ToNode, ToRun, Tokens,
    encode,
};
use crate::placing::{contiguous, least_loaded};

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
    members: Members,
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
    options.endpoint.serve_blobs(options.store.clone());
    let stages = (0..options.rules.schedule.stages).map(|_| Place::default()).collect();
    let mut run = Run {
        options,
        batch,
        watch,
        members: Members::new(&options.endpoint),
        stages,
        begun: None,
        moves_at: None,
        losses: BTreeMap::new(),
        steps_told: 0,
        loss: f64::NAN,
    };
    while !run.is_finished() {
        let moves_at = run.moves_at;
        tokio::select! {
            news = run.members.next() => match news {
                News::Joined(node) => run.joined(node)?,
                News::Said(node, message) => run.said(node, message).await?,
                News::Gone { node, name } => run.gone(node, name)?,
            },
            () = sleep_until(moves_at.unwrap_or_else(Instant::now)), if moves_at.is_some() => run.place_orphans(true)?,
        }
    }
    let summary = run.summary();
    run.members.dismiss().await;
    Ok(summary)
}

impl<B: Fn(u64) -> Tokens, W: FnMut(Event)> Run<'_, B, W> {
    fn joined(&mut self, node: NodeId) -> Result<(), StagesError> {
        let (name, nodes) = (self.members.name(node), self.members.order().len());
        (self.watch)(Event::Joined { node, name, nodes });
        if self.begun.is_some() {
            return self.place_orphans(false);
        }
        if nodes < self.options.nodes {
            return Ok(());
        }
        self.begun = Some(Instant::now());
        self.place_all()
    }

    async fn said(&mut self, node: NodeId, message: ToRun) -> Result<(), StagesError> {
        match message {
            ToRun::Lacks { from } => {
                let end = self.options.rules.schedule.total().min(from.saturating_add(BATCHES_MAX));
                let batches = (from..end).map(&self.batch).collect();
                self.members.tell(node, &ToNode::Batches { from, batches });
            }
            ToRun::Loss { micro_batch, nats_bits, tokens } => {
                self.score(micro_batch, f64::from_bits(nats_bits), tokens)
            }
            ToRun::Saved { stage, position, checkpoint, bytes } => {
                self.saved(node, stage, position, checkpoint, bytes).await?
            }
            ToRun::Report(report) => {
                if let Some(member) = self.members.get_mut(node) {
                    member.report = report;
                }
            }
            ToRun::Finished { stage, vnodes } => {
                if let Some(place) = self.place_of(node, stage) {
                    place.vnodes = Some(vnodes);
                }
            }
            ToRun::Failed { stage, reason } => {
                let name = self.members.name(node);
                return Err(StagesError::Host { name, stage, cause: reason });
            }
            // Of stages that write.
            ToRun::Hello { .. }
            | ToRun::Ready { .. }
            | ToRun::Begun { .. }
            | ToRun::Wrote { .. }
            | ToRun::Missed { .. } => {}
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
        let peer = self.members.get(node).map(|member| member.peer.clone());
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
            self.members.tell(node, &ToNode::Kept { stage, position });
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

    /// A node's process is gone, and what it hosted has no place.
    fn gone(&mut self, node: NodeId, name: String) -> Result<(), StagesError> {
        let mut stages = Vec::new();
        for (stage, place) in (0..).zip(&mut self.stages) {
            if place.host == Some(node) {
                (place.host, place.vnodes) = (None, None);
                stages.push(stage);
            }
        }
        (self.watch)(Event::Gone { name, stages });
        self.place_orphans(false)
    }

    fn place_all(&mut self) -> Result<(), StagesError> {
        let nodes =
            contiguous(self.options.rules.schedule.stages, &self.members.order()[..self.options.nodes]);
        for (stage, node) in (0..).zip(nodes) {
            self.stages[stage as usize].host = Some(node);
        }
        for node in self.members.order().to_vec() {
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
        let fresh: Vec<NodeId> = self.members.order().iter().copied().filter(is_idle).collect();
        let takers = if fresh.is_empty() && is_urgent { self.members.order().to_vec() } else { fresh };
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
        let hosted = self.stages.iter().zip(self.options.stage_bytes);
        let takes = hosted.filter(|(place, _)| place.host == Some(node)).map(|(_, bytes)| bytes).sum();
        let hint = "start with more --stages and --nodes, or smaller micro-batches";
        self.members.check_memory(node, takes, hint)
    }

    fn host(&mut self, stage: u32) {
        let place = &self.stages[stage as usize];
        let Some(node) = place.host else { return };
        let checkpoint = place.checkpoint.map(|(digest, bytes, _)| (digest, bytes));
        let RunOptions { network, rules, latency_ms, .. } = *self.options;
        let (network, rules) = (network.clone(), rules.clone());
        let assignment = Assignment { network, rules, stage, checkpoint, latency_ms };
        self.members.tell(node, &ToNode::Host(assignment.to_bytes()));
        let name = self.members.name(node);
        (self.watch)(Event::Placed { stage, name, resumes: checkpoint.is_some() });
    }

    /// Everybody who hosts something hears where all stages are.
    fn tell_where(&mut self) {
        let peer = |node: NodeId| self.members.get(node).map(|member| member.peer.clone());
        let places = (0..).zip(&self.stages);
        let stages: Vec<(u32, Peer)> =
            places.filter_map(|(stage, place)| Some((stage, peer(place.host?)?))).collect();
        for node in self.members.order().to_vec() {
            self.members.tell(node, &ToNode::Where(stages.clone()));
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
        let member = |node: &NodeId| self.members.get(*node);
        let reports = self.members.order().iter().filter_map(member);
        let reports = reports.map(|member| (member.name.clone(), member.report.clone())).collect();
        Summary { vnodes, digest, checkpoints, loss: self.loss, elapsed, reports }
    }
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

/// What hosting each stage takes of memory, bytes, about: parameters, gradients, the optimiser's two moments and older weights, all but the
/// gradients once more while a checkpoint of them is written, with what is put together of one VNode, and its rows in flight.
///
/// # Errors
/// When the network cannot be cut into so many stages.
pub fn stage_bytes(network: &NetworkDefinition, rules: &Rules) -> Result<Vec<u64>, StagesError> {
    let schedule = &rules.schedule;
    let bytes = |stage: u32| {
        let model = one(network, rules, stage)?;
        let counts = || model.vnodes().iter().map(|vnode| vnode.parameter_count() as u64);
        let (elements, largest): (u64, u64) = (counts().sum(), counts().max().unwrap_or(0));
        // A stage that looks ahead keeps what it looks ahead to.
        let delay = schedule.delay_steps(stage);
        let ahead = u64::from(delay > 0.0 && schedule.correction == Correction::LookAhead);
        let older = delay.ceil() as u64 + ahead;
        let width = model.arriving_width().max(model.leaving_width()).unwrap_or(0) as u64;
        let rows = 4 * width * u64::from(schedule.micro_batch_tokens) * (schedule.ahead(stage) + 2);
        Ok(4 * (elements * (7 + 2 * older) + 2 * largest) + 2 * rows)
    };
    (0..schedule.stages).map(bytes).collect()
}

fn one(network: &NetworkDefinition, rules: &Rules, stage: u32) -> Result<Stage, StagesError> {
    let model = Stage::one(network, rules.profile, rules.schedule.stages as usize, stage as usize);
    model.map_err(|cause| StagesError::Stuck(cause.to_string()))
}
