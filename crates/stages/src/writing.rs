//! A network that writes on several nodes: who hosts which stage, and passes through all of them.
//!
//! Passes go to the node of the first stage, from node to node, and from the last back. A stage that is lost takes its keys and values with
//! it, so with every change of places a new generation begins, in which nothing is remembered: whoever asks is told that all is lost
//! ([`PassOutcome::Lost`]), and has its sequences computed again. Bits do not change by it.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc as channel;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use zoo_content::{BlobStore, Digest};
use zoo_model::{DecodePass, NetworkDefinition, PassOutcome, Passes, Profile};
use zoo_network::Endpoint;
use zoo_protocol::{NodeId, Peer};

use crate::members::{Members, News};
use crate::message::{StagesError, ToNode, ToRun, WritingAssignment};
use crate::placing::{contiguous, least_loaded};

/// A pass that has not come back after so long never will.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// What is written with, and by how many nodes.
pub struct WritingOptions<'a> {
    /// The network.
    pub network: &'a NetworkDefinition,
    /// How products are rounded.
    pub profile: Profile,
    /// How many stages it is cut into.
    pub stages: u32,
    /// Writing begins when so many nodes have joined.
    pub nodes: usize,
    /// Pages of keys and values.
    pub pages: u32,
    /// The state of every VNode, which lies in `store`.
    pub states: &'a [(String, Digest, u64)],
    /// Memory that hosting each stage takes, bytes: a node whose limit is below that of its stages is not given them.
    pub stage_bytes: &'a [u64],
    /// For how long a stage waits for a fresh node when its own is gone, before others share it.
    pub patience: Duration,
    /// For how long every message is held, ms: a measurement's.
    pub latency_ms: u64,
    /// The run's socket and key.
    pub endpoint: Endpoint,
    /// Where the states lie.
    pub store: Arc<dyn BlobStore>,
}

/// What happens, for whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WritingEvent {
    /// A node joined.
    Joined {
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
    },
    /// All stages have places: passes are computed.
    Begun {
        /// How often that was so.
        generation: u64,
    },
    /// A node is gone, with these stages.
    Gone {
        /// Its name.
        name: String,
        /// What it hosted.
        stages: Vec<u32>,
    },
    /// A node could not host a stage, and is sent away.
    Failed {
        /// Its name.
        name: String,
        /// Which stage.
        stage: u32,
        /// Why.
        cause: String,
    },
}

/// Passes that the nodes compute.
pub struct RemotePasses {
    requests: mpsc::UnboundedSender<(u64, DecodePass)>,
    outcomes: channel::Receiver<(u64, PassOutcome)>,
    generation: u64,
    under_way_max: usize,
}

/// What [`write()`] takes passes from.
pub struct Requests {
    requests: mpsc::UnboundedReceiver<(u64, DecodePass)>,
    outcomes: channel::Sender<(u64, PassOutcome)>,
}

/// Passes for a network of so many stages, and where they come out.
pub fn remote_passes(stages: u32) -> (RemotePasses, Requests) {
    let (requests, asked) = mpsc::unbounded_channel();
    let (told, outcomes) = channel::channel();
    // As many again as there are stages are on their way between these; with more, a pass would have few texts.
    let under_way_max = (2 * stages as usize).min(UNDER_WAY_MAX);
    let passes = RemotePasses { requests, outcomes, generation: FIRST, under_way_max };
    (passes, Requests { requests: asked, outcomes: told })
}

/// Most passes that are under way.
const UNDER_WAY_MAX: usize = 16;
/// The first generation.
const FIRST: u64 = 1;

impl Passes for RemotePasses {
    fn under_way_max(&self) -> usize {
        self.under_way_max
    }

    fn submit(&mut self, pass: DecodePass) {
        // Whoever waits for it is told when nobody takes it.
        let _ = self.requests.send((self.generation, pass));
    }

    fn wait(&mut self) -> PassOutcome {
        loop {
            match self.outcomes.recv() {
                Err(channel::RecvError) => return PassOutcome::Failed("the server is stopping".to_owned()),
                Ok((generation, PassOutcome::Lost)) => {
                    self.generation = generation;
                    return PassOutcome::Lost;
                }
                Ok((generation, outcome)) if generation == self.generation => return outcome,
                Ok(_) => {}
            }
        }
    }
}

#[derive(Default)]
struct Place {
    host: Option<NodeId>,
    /// Who is fetching it.
    coming: Option<NodeId>,
}

struct Writing<'a, W> {
    options: &'a WritingOptions<'a>,
    watch: W,
    members: Members,
    stages: Vec<Place>,
    has_placed: bool,
    /// When stages without a node go to those who are there.
    moves_at: Option<Instant>,
    generation: u64,
    has_begun: bool,
    /// Who has not said that it knows of this generation.
    silent: BTreeSet<NodeId>,
    is_up: bool,
    /// Passes that nobody has yet.
    waiting: VecDeque<DecodePass>,
    /// When those under way must be back.
    due: VecDeque<Instant>,
    /// Passes of this generation that are done.
    done: u64,
    outcomes: channel::Sender<(u64, PassOutcome)>,
}

/// Has passes computed by the nodes that join, until it is told to stop or nobody asks any more.
///
/// # Errors
/// When a stage cannot be hosted by any of the first nodes.
pub async fn write<W: FnMut(WritingEvent)>(
    options: &WritingOptions<'_>,
    asked: Requests,
    stop: impl Future<Output = ()>,
    watch: W,
) -> Result<(), StagesError> {
    let Requests { mut requests, outcomes } = asked;
    options.endpoint.serve_blobs(options.store.clone());
    let mut writing = Writing {
        options,
        watch,
        members: Members::new(&options.endpoint),
        stages: (0..options.stages).map(|_| Place::default()).collect(),
        has_placed: false,
        moves_at: None,
        generation: FIRST,
        has_begun: false,
        silent: BTreeSet::new(),
        is_up: false,
        waiting: VecDeque::new(),
        due: VecDeque::new(),
        done: 0,
        outcomes,
    };
    tokio::pin!(stop);
    loop {
        let at = [writing.moves_at, writing.due.front().copied()].into_iter().flatten().min();
        tokio::select! {
            news = writing.members.next() => match news {
                News::Joined(node) => writing.joined(node)?,
                News::Said(node, message) => writing.said(node, message)?,
                News::Gone { node, name } => writing.gone(node, name),
            },
            request = requests.recv() => match request {
                Some((generation, pass)) => writing.asked(generation, pass),
                None => break,
            },
            () = sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => writing.wake(),
            () = &mut stop => break,
        }
    }
    writing.members.dismiss().await;
    Ok(())
}

impl<W: FnMut(WritingEvent)> Writing<'_, W> {
    fn joined(&mut self, node: NodeId) -> Result<(), StagesError> {
        let (name, nodes) = (self.members.name(node), self.members.order().len());
        (self.watch)(WritingEvent::Joined { name, nodes });
        if self.has_placed {
            self.place_orphans(false);
            self.relieve(node);
        } else if nodes >= self.options.nodes {
            self.has_placed = true;
            let hosts = contiguous(self.options.stages, &self.members.order()[..self.options.nodes]);
            for (stage, node) in (0..).zip(hosts) {
                self.check_memory(node, stage)?;
                self.place(stage, node);
            }
        }
        Ok(())
    }

    fn said(&mut self, node: NodeId, message: ToRun) -> Result<(), StagesError> {
        match message {
            ToRun::Ready { stage } => {
                let place = self.stages.get_mut(stage as usize).filter(|place| place.coming == Some(node));
                if let Some(place) = place {
                    (place.host, place.coming) = (Some(node), None);
                    self.begin();
                }
            }
            ToRun::Begun { generation } if generation == self.generation => {
                self.silent.remove(&node);
                if self.silent.is_empty() && !self.is_up && self.is_placed() {
                    self.is_up = true;
                    (self.watch)(WritingEvent::Begun { generation });
                    self.send_waiting();
                }
            }
            ToRun::Wrote { generation, number, reports } => {
                let is_last = self.stages.last().is_some_and(|place| place.host == Some(node));
                if is_last && (generation, number) == (self.generation, self.done) && self.is_up {
                    self.done += 1;
                    self.due.pop_front();
                    let outcome = reports.map_or_else(PassOutcome::Failed, PassOutcome::Done);
                    // Nobody waits when the server stops.
                    let _ = self.outcomes.send((generation, outcome));
                }
            }
            ToRun::Missed { generation } if generation == self.generation && self.is_up => self.begin(),
            ToRun::Report(report) => {
                if let Some(member) = self.members.get_mut(node) {
                    member.report = report;
                }
            }
            ToRun::Failed { stage, reason } => {
                let name = self.members.name(node);
                if !self.has_begun {
                    return Err(StagesError::Host { name, stage, cause: reason });
                }
                (self.watch)(WritingEvent::Failed { name: name.clone(), stage, cause: reason.clone() });
                self.members.refuse(node, reason);
                self.gone(node, name);
            }
            _ => {}
        }
        Ok(())
    }

    /// A node's process is gone, and what it hosted has no place.
    fn gone(&mut self, node: NodeId, name: String) {
        let mut stages = Vec::new();
        for (stage, place) in (0..).zip(&mut self.stages) {
            place.coming = place.coming.filter(|coming| *coming != node);
            if place.host == Some(node) {
                place.host = None;
                stages.push(stage);
            }
        }
        self.is_up &= stages.is_empty();
        (self.watch)(WritingEvent::Gone { name, stages });
        self.place_orphans(false);
    }

    fn asked(&mut self, generation: u64, pass: DecodePass) {
        // Of one that is over, whoever asked is told so.
        if generation == self.generation {
            self.waiting.push_back(pass);
            self.send_waiting();
        }
    }

    fn send_waiting(&mut self) {
        let Some(first) = self.stages.first().and_then(|place| place.host).filter(|_| self.is_up) else {
            return;
        };
        let latency = Duration::from_millis(self.options.latency_ms);
        while let Some(pass) = self.waiting.pop_front() {
            let (generation, number) = (self.generation, self.done + self.due.len() as u64);
            self.members.tell_after(first, &ToNode::Pass { generation, number, pass }, latency);
            self.due.push_back(Instant::now() + BACK_WITHIN);
        }
    }

    fn wake(&mut self) {
        let now = Instant::now();
        if self.moves_at.is_some_and(|at| at <= now) {
            self.place_orphans(true);
        }
        if self.due.front().is_some_and(|at| *at <= now) && self.is_up {
            self.begin();
        }
    }

    fn is_placed(&self) -> bool {
        self.stages.iter().all(|place| place.host.is_some())
    }

    /// Begins a generation, if every stage has a place: what was written before is gone.
    fn begin(&mut self) {
        if !self.is_placed() {
            return;
        }
        if std::mem::replace(&mut self.has_begun, true) {
            self.generation += 1;
            let _ = self.outcomes.send((self.generation, PassOutcome::Lost));
            self.waiting.clear();
        }
        (self.is_up, self.done) = (false, 0);
        self.due.clear();
        let host = |(stage, place): (u32, &Place)| Some((stage, self.members.get(place.host?)?.peer.clone()));
        let places: Vec<(u32, Peer)> = (0..).zip(&self.stages).filter_map(host).collect();
        self.silent = self.stages.iter().filter_map(|place| place.host).collect();
        let message = ToNode::Begin { generation: self.generation, places };
        self.members.order().iter().for_each(|node| self.members.tell(*node, &message));
    }

    /// Gives stages that have no node to whoever has nothing to do; to anybody with room once they have waited for long.
    fn place_orphans(&mut self, is_urgent: bool) {
        if !self.has_placed {
            return;
        }
        let is_orphan = |place: &Place| place.host.is_none() && place.coming.is_none();
        let orphans: Vec<u32> =
            (0..).zip(&self.stages).filter(|(_, place)| is_orphan(place)).map(|(stage, _)| stage).collect();
        self.moves_at = self.moves_at.filter(|_| !is_urgent && !orphans.is_empty());
        for stage in orphans {
            let has_room = |node: &NodeId| self.check_memory(*node, stage).is_ok();
            let all = || self.members.order().iter().copied();
            let fresh = least_loaded(&[], all().filter(|node| self.load(*node) == 0).filter(has_room));
            let hosts: Vec<_> = self.stages.iter().map(|place| place.coming.or(place.host)).collect();
            let anybody = || least_loaded(&hosts, all().filter(has_room));
            match fresh.or_else(|| is_urgent.then(anybody).flatten()) {
                Some(node) => self.place(stage, node),
                None => {
                    let patience = Instant::now() + self.options.patience;
                    self.moves_at = Some(self.moves_at.unwrap_or(patience));
                }
            }
        }
    }

    /// A node that came later takes a stage of who has two; that one goes on until it is there.
    fn relieve(&mut self, node: NodeId) {
        if self.load(node) > 0 || !self.is_placed() {
            return;
        }
        let busy = (0..).zip(&self.stages).filter(|(stage, place)| {
            let host = place.host.unwrap_or(node);
            place.coming.is_none() && self.load(host) > 1 && self.check_memory(node, *stage).is_ok()
        });
        let heaviest = busy.max_by_key(|(_, place)| place.host.map(|host| self.load(host)));
        if let Some((stage, _)) = heaviest {
            self.place(stage, node);
        }
    }

    /// Stages that a node hosts or fetches.
    fn load(&self, node: NodeId) -> usize {
        self.hosted(node).count()
    }

    fn hosted(&self, node: NodeId) -> impl Iterator<Item = u32> {
        let is_there = move |place: &Place| place.host == Some(node) || place.coming == Some(node);
        (0..).zip(&self.stages).filter(move |(_, place)| is_there(place)).map(|(stage, _)| stage)
    }

    fn check_memory(&self, node: NodeId, stage: u32) -> Result<(), StagesError> {
        let hosted = self.hosted(node).filter(|other| *other != stage).chain([stage]);
        let takes = hosted.map(|stage| self.options.stage_bytes[stage as usize]).sum();
        let hint = "serve with more nodes, a smaller --batch or a smaller --cache-mib";
        self.members.check_memory(node, takes, hint)
    }

    fn place(&mut self, stage: u32, node: NodeId) {
        self.stages[stage as usize].coming = Some(node);
        let WritingOptions { network, profile, stages, pages, states, latency_ms, .. } = *self.options;
        let (network, states) = (network.clone(), states.to_vec());
        let assignment = WritingAssignment { network, profile, stages, stage, pages, states, latency_ms };
        self.members.tell(node, &ToNode::Write(assignment.to_bytes()));
        (self.watch)(WritingEvent::Placed { stage, name: self.members.name(node) });
    }
}
