//! The simulated orchestrator: the real state machine over a journal of which only the durable part survives.
//!
//! It does what the real host does: takes what waits, applies it, makes it durable in one write, and only then
//! lets anybody see it. A crash falls before that write or right after it.

use std::collections::{BTreeMap, BTreeSet};

use zoo_content::Digest;
use zoo_protocol::{
    Challenge, JobDescription, Keep, Link, NodeId, NodeKey, NodeProfile, Peer, Report, Terms, Work,
};
use zoo_state::{Command, Detector, Draw, Event, Finding, LossCause, State};

use crate::chance::Chance;
use crate::{Bug, work};

/// A node that was not heard of for so long is lost, ms.
pub const LEASE_MS: u64 = 5_000;
/// Leases and deadlines are looked at, and what waits is written, so often, ms.
pub const TICK_MS: u64 = 25;

/// A holder of a checkpoint is challenged so often, ms.
pub const AUDIT_MS: u64 = 1_000;

/// Tells the conversations of one node apart.
pub type SessionId = u64;

/// What happens to the orchestrator.
#[derive(Clone, Debug)]
pub enum Request {
    Join {
        profile: NodeProfile,
    },
    Heartbeat,
    Report(Report),
    Measured(Link),
    /// Whether it reached a node that is silent for the orchestrator.
    Probed {
        subject: NodeId,
        reached: bool,
    },
    Gone(LossCause),
}

/// What a worker is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    pub work: Work,
    pub peers: Vec<Peer>,
    pub keeps: Vec<Keep>,
    pub keep_peers: Vec<Peer>,
}

/// What the others may hear after a write.
pub struct Published {
    /// New events.
    pub events: Vec<Event>,
    /// Who joined, with the number of the conversation.
    pub welcomed: Vec<(NodeId, SessionId)>,
    /// Conversations that the orchestrator has ended.
    pub closed: Vec<(NodeId, SessionId)>,
    /// Who is asked to reach whom.
    pub probes: Vec<(NodeId, SessionId, NodeId)>,
    /// What has changed for whom.
    pub assignments: Vec<(NodeId, SessionId, Assignment)>,
}

/// When a crash falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    None,
    BeforeWrite,
    AfterWrite,
}

/// The one simulated network, by its orchestrator's key.
pub fn network() -> NodeId {
    NodeKey::from_seed([255; 32]).id()
}

pub struct Host {
    pub id: NodeId,
    pub state: State,
    /// Entries that survive a crash.
    durable: Vec<Vec<u8>>,
    /// Root of the state after the durable entries, where a restart may have to lead to it.
    root: Option<Digest>,
    /// Its clock minus virtual time, ms; the clock never goes back over a restart.
    skew_ms: u64,
    latest_ms: u64,
    detector: Detector,
    /// With what each was told last.
    sessions: BTreeMap<NodeId, (SessionId, Option<Assignment>)>,
    waiting: Vec<(NodeId, SessionId, Request)>,
    submissions: Vec<JobDescription>,
    /// Random numbers for audits, and when the next is.
    draws: Chance,
    next_audit: u64,
    /// How often it is looked whether anybody is to be measured, and when next; never if that is 0.
    admission_ms: u64,
    next_sitting: u64,
    /// Blobs of jobs.
    pub disk: BTreeSet<Digest>,
    bug: Option<Bug>,
}

impl Host {
    /// `crashes` says whether it will ever have to restart.
    pub fn new(id: NodeId, crashes: bool, draws: Chance, admission_ms: u64, bug: Option<Bug>) -> Self {
        let state = State::new();
        Self {
            id,
            root: crashes.then(|| state.root()),
            state,
            durable: Vec::new(),
            skew_ms: 0,
            latest_ms: 0,
            detector: Detector::new(LEASE_MS),
            sessions: BTreeMap::new(),
            waiting: Vec::new(),
            submissions: Vec::new(),
            draws,
            next_audit: 0,
            admission_ms,
            next_sitting: admission_ms,
            disk: BTreeSet::new(),
            bug,
        }
    }

    /// A request arrived.
    pub fn take(&mut self, node: NodeId, session: SessionId, request: Request) {
        self.waiting.push((node, session, request));
    }

    /// A client submits a job whose blobs are here.
    pub fn submit(&mut self, job: JobDescription) {
        self.submissions.push(job);
    }

    /// Whether anything would come of a tick.
    pub fn has_work(&self, now: u64) -> bool {
        !self.waiting.is_empty()
            || !self.submissions.is_empty()
            || self.next_audit <= now
            || self.looks_for_newcomers(now)
            || self.detector.is_due(now)
            || self.state.next_deadline_ms().is_some_and(|deadline| deadline <= self.clock(now))
    }

    fn looks_for_newcomers(&self, now: u64) -> bool {
        let is_drawn_for =
            || self.state.sitting().is_some() && self.state.draw_wanted(self.clock(now)).is_some();
        self.admission_ms > 0 && (self.next_sitting <= now || is_drawn_for())
    }

    /// Works on what waits. `None` when it crashed.
    pub fn tick(&mut self, now: u64, crash: Crash) -> Option<Published> {
        let now_ms = self.clock(now);
        self.latest_ms = now_ms;
        let mut entries: Vec<(Command, Vec<Event>)> = Vec::new();
        let (mut welcomed, mut closed, mut probes) = (Vec::new(), Vec::new(), Vec::new());
        let mut apply = |state: &mut State, command: Command| {
            // A refused command has changed nothing and is not journaled.
            if let Ok(events) = state.apply(&command) {
                entries.push((command, events));
                return true;
            }
            false
        };
        for job in std::mem::take(&mut self.submissions) {
            apply(&mut self.state, Command::JobSubmitted { job, now_ms });
        }
        for (node, session, request) in std::mem::take(&mut self.waiting) {
            let current = self.sessions.get(&node).is_some_and(|(known, _)| *known == session)
                || self.bug == Some(Bug::HearsReplacedConversations);
            if current && !matches!(request, Request::Gone(_) | Request::Join { .. }) {
                self.detector.heard(node, now);
                if self.state.is_suspect(&node) {
                    apply(&mut self.state, Command::NodeHeard { node, now_ms });
                }
            }
            match request {
                Request::Join { profile } => {
                    let joined = Command::NodeJoined { node, profile, addresses: Vec::new(), now_ms };
                    if apply(&mut self.state, joined) {
                        self.detector.heard(node, now);
                        let replaced = self.sessions.insert(node, (session, None));
                        closed.extend(replaced.map(|(replaced, _)| (node, replaced)));
                        welcomed.push((node, session));
                    }
                }
                Request::Report(report) if current => {
                    apply(&mut self.state, Command::Reported { node, report, now_ms });
                }
                Request::Measured(link) if current => {
                    apply(&mut self.state, Command::LinkMeasured { node, link, now_ms });
                }
                Request::Probed { subject, reached } if current => {
                    self.detector.answered(node, &subject, reached);
                }
                // Its peers reach it: that the connection is given up at last is no news.
                Request::Gone(LossCause::Disconnected) if current && self.state.is_suspect(&node) => {
                    self.sessions.remove(&node);
                }
                Request::Gone(cause) if current => {
                    self.sessions.remove(&node);
                    self.detector.forget(&node);
                    apply(&mut self.state, Command::NodeLost { node, cause, now_ms });
                }
                // Heard, or from a conversation that another one has replaced.
                Request::Heartbeat
                | Request::Report(_)
                | Request::Measured(_)
                | Request::Probed { .. }
                | Request::Gone(_) => {}
            }
        }
        let asks = self.bug != Some(Bug::AsksNobody);
        for finding in self.detector.look(now, |node| asks && self.sessions.contains_key(node)) {
            match finding {
                Finding::Ask { node, witnesses } => {
                    let session = |witness: &NodeId| self.sessions.get(witness).map(|(session, _)| *session);
                    let asked =
                        witnesses.iter().filter_map(|witness| Some((*witness, session(witness)?, node)));
                    probes.extend(asked);
                }
                Finding::Reached { node, by: reached_by } => {
                    let was_suspect = self.state.is_suspect(&node);
                    if !was_suspect
                        && !apply(&mut self.state, Command::NodeSuspected { node, reached_by, now_ms })
                    {
                        apply(
                            &mut self.state,
                            Command::NodeLost { node, cause: LossCause::LeaseExpired, now_ms },
                        );
                    }
                }
                Finding::Dead { node } => {
                    apply(
                        &mut self.state,
                        Command::NodeLost { node, cause: LossCause::LeaseExpired, now_ms },
                    );
                }
            }
        }
        if self.next_audit <= now {
            self.next_audit = now + AUDIT_MS;
            if let Some(challenged) = draw_challenge(&self.state, &mut self.draws, now_ms)
                && self.bug != Some(Bug::NeverAudits)
            {
                apply(&mut self.state, challenged);
            }
        }
        if self.looks_for_newcomers(now) {
            self.next_sitting = now + self.admission_ms;
            if let Some(drawn) = draw_for_sitting(&self.state, &mut self.draws, now_ms) {
                apply(&mut self.state, drawn);
            }
        }
        let is_due = self.state.next_deadline_ms().is_some_and(|deadline| deadline <= now_ms);
        if is_due {
            apply(&mut self.state, Command::Tick { now_ms });
        }

        if crash == Crash::BeforeWrite && self.bug != Some(Bug::TellsBeforeItWrites) {
            return None;
        }
        let events: Vec<Event> = entries.iter().flat_map(|(_, events)| events.clone()).collect();
        for event in &events {
            if let Event::NodeLost { node, .. } = event
                && !self.state.nodes().get(node).is_some_and(|known| known.live)
            {
                closed.extend(self.sessions.remove(node).map(|(session, _)| (*node, session)));
                self.detector.forget(node);
            }
        }
        if crash != Crash::BeforeWrite {
            self.durable.extend(entries.iter().map(|(command, _)| command.to_bytes()));
            self.root = self.root.map(|_| self.state.root());
        }
        if crash == Crash::AfterWrite {
            return None;
        }
        let concerned = entries.iter().map(|(command, events)| self.state.concerned(command, events));
        let concerned = concerned.collect::<Option<Vec<_>>>();
        let assignments = match concerned {
            // A write without entries has nothing to publish.
            _ if entries.is_empty() => Vec::new(),
            Some(nodes) => self.publish(nodes.into_iter().flatten().collect::<BTreeSet<_>>()),
            None => self.publish(self.sessions.keys().copied().collect::<BTreeSet<_>>()),
        };
        Some(Published { events, welcomed, closed, probes, assignments })
    }

    /// Starts again from what is durable; `skew_ms` is how far the clock is ahead now.
    ///
    /// # Errors
    /// When the journal does not lead to the state it led to.
    pub fn restart(&mut self, now: u64, skew_ms: u64) -> Result<Vec<Event>, String> {
        if self.bug == Some(Bug::ForgetsItsLastEntry) {
            self.durable.pop();
        }
        self.state = State::new();
        let mut events = Vec::new();
        for entry in &self.durable {
            let command =
                Command::from_bytes(entry).map_err(|cause| format!("an entry does not decode: {cause}"))?;
            events
                .extend(self.state.apply(&command).map_err(|cause| format!("an entry is refused: {cause}"))?);
            self.latest_ms = self.latest_ms.max(command.now_ms());
        }
        if Some(self.state.root()) != self.root && self.bug != Some(Bug::ForgetsItsLastEntry) {
            return Err("the journal leads to another state".into());
        }
        self.skew_ms = skew_ms;
        self.waiting.clear();
        self.sessions.clear();
        self.detector = Detector::new(LEASE_MS);
        self.state.live().for_each(|(node, _)| self.detector.expect(*node, now + 2 * LEASE_MS));
        Ok(events)
    }

    /// Entries that survive a crash.
    pub fn journal(&self) -> &[Vec<u8>] {
        &self.durable
    }

    fn clock(&self, now: u64) -> u64 {
        (now + self.skew_ms).max(self.latest_ms)
    }

    /// What has changed for those whose work may be another.
    fn publish(&mut self, nodes: BTreeSet<NodeId>) -> Vec<(NodeId, SessionId, Assignment)> {
        let peer = |node: NodeId| Peer { node, addresses: Vec::new() };
        let mut peers: Vec<Peer> =
            self.state.live().map(|(node, _)| peer(*node)).chain([peer(self.id)]).collect();
        peers.sort_by_key(|peer| peer.node);
        let mut changed = Vec::new();
        for node in &nodes {
            if self.state.is_suspect(node) {
                continue;
            }
            let Some((session, current)) = self.sessions.get_mut(node) else { continue };
            let work = self.state.work_for(node);
            let asks = self.bug != Some(Bug::AsksNobodyToKeep);
            let assignment = Assignment {
                peers: self.state.sources_for(node, &work, &peers, &self.id),
                work,
                keeps: if asks { self.state.keeps_for(node) } else { Vec::new() },
                keep_peers: self.state.keep_sources_for(node, &peers),
            };
            if current.as_ref() != Some(&assignment) {
                *current = Some(assignment.clone());
                changed.push((*node, *session, assignment));
            }
        }
        changed
    }
}

/// What a sitting waits for, drawn as the real host draws it.
fn draw_for_sitting(state: &State, draws: &mut Chance, now_ms: u64) -> Option<Command> {
    let wanted = state.draw_wanted(now_ms)?;
    let draw = Digest::of(&draws.between(0, u64::MAX - 1).to_le_bytes());
    Some(match wanted {
        Draw::Benchmarks => Command::SittingOpened { draw, terms: Terms::default(), now_ms },
        Draw::Checkers => Command::CheckersDrawn { draw, now_ms },
    })
}

/// A challenge of one of the holders, drawn as the real host draws it.
fn draw_challenge(state: &State, draws: &mut Chance, now_ms: u64) -> Option<Command> {
    let holders = state.challengeable();
    let (job, round, node) =
        *holders.get(draws.between(0, (holders.len() as u64).checked_sub(1)?) as usize)?;
    let manifest = state.checkpoints().get(&job, round)?.digest;
    let mut blobs: Vec<Digest> = work::parts(&manifest).into_iter().map(|(part, _)| part).collect();
    blobs.push(manifest);
    let blob = work::bytes_of_blob(&blobs[draws.between(0, blobs.len() as u64 - 1) as usize]);
    let (nonce, place) = (draws.between(0, u64::MAX - 1), draws.between(0, u64::MAX - 1));
    let challenge = Challenge::of_chunk(nonce, Digest::of(&blob), blob.len() as u64, place);
    Some(Command::Challenged { node, job, round, challenge, now_ms })
}
