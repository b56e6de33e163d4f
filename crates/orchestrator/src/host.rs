//! The one task that owns the state and the journal.
//!
//! Sessions send it [`Input`]s. It works on all that wait at once: each becomes a command,
//! stamped with the time and applied; then the batch is appended to the journal; then the
//! answers are given, assignments and the head of events published. Whatever cannot be journaled
//! ends the host before anybody has heard of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use tracing::{debug, info, warn};
use zoo_content::Digest;
use zoo_network::limits::IDLE_TIMEOUT;
use zoo_protocol::limits::reason;
use zoo_protocol::{
    Attestation, Challenge, Declaration, FromOrchestrator, JobDescription, JobId, Keep, Link, NodeId,
    NodeProfile, Peer, RefusedSummand, Rejection, Report, Standing, Work,
};
use zoo_state::{Command, Detector, Draw, Event, Finding, LossCause, Missed, Refusal, State, Steer};

use crate::Admission;
use crate::JournalError;
use crate::audit::Audit;
use crate::clock::Clock;
use crate::door::{Caller, Door};
use crate::handle::{FOLLOWED_MAX, Followed};
use crate::journal::{Entry, Events, Journal, Replayed};

/// Inputs that wait for the host, and that one `fsync` makes durable together. Sessions wait when there are more.
const INPUTS_MAX: usize = 1024;
/// Heartbeats that a slow watcher may be behind before it misses some.
const STATUSES_MAX: usize = 1024;
/// Silent nodes that one worker is asked about at once.
const PROBES_MAX: usize = 8;
/// Where nodes are not measured, the host looks for nothing so often.
const SELDOM: Duration = Duration::from_secs(3600);
/// Refused reports of one conversation that are logged.
const REFUSALS_LOGGED_MAX: u32 = 16;

/// Tells the connections of one node apart.
pub(crate) type SessionId = u64;

/// What happens to the host.
#[derive(Debug)]
pub(crate) enum Input {
    /// A worker introduced itself.
    Join { node: NodeId, profile: NodeProfile, addresses: Vec<SocketAddr>, reply: Reply<Joined> },
    /// A worker was heard of; the status goes to the watchers.
    Alive { node: NodeId, session: SessionId, status: FromOrchestrator },
    /// A worker measured its link.
    Measured { node: NodeId, session: SessionId, link: Link },
    /// A worker tried to reach one that is silent here.
    Probed { witness: NodeId, session: SessionId, subject: NodeId, reached: bool },
    /// A worker reported.
    Reported { node: NodeId, session: SessionId, report: Report },
    /// A worker's connection ended.
    Gone { node: NodeId, session: SessionId, cause: LossCause },
    /// A holder of a checkpoint is to prove that it is one.
    Challenge { node: NodeId, job: JobId, round: u32, challenge: Challenge },
    /// Somebody submitted a job whose blobs are here.
    Submitted { job: JobDescription, reply: oneshot::Sender<Result<JobId, Refusal>> },
    /// A job's owner wants something of it.
    Steered { job: JobId, steer: Steer, reply: oneshot::Sender<Result<(), Refusal>> },
    /// Somebody brought what a key says about keys.
    Declared { declaration: Declaration, reply: oneshot::Sender<Result<(), Refusal>> },
    /// A worker's hardware vouches for it, as was checked.
    Attested {
        node: NodeId,
        session: SessionId,
        attestation: Attestation,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Somebody wants to follow the state.
    Follow { reply: oneshot::Sender<Followed> },
}

/// Takes the answer, or why there is none.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Rejection>>;

/// A worker's place in the network.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) session: SessionId,
    /// What to do, always the latest. Closed when another connection of the node takes over.
    pub(crate) assignments: watch::Receiver<Assignment>,
    /// Silent nodes that it is asked to reach.
    pub(crate) probes: mpsc::Receiver<Peer>,
}

/// What a worker should be doing and keeping, who may hold the blobs it needs for either, the likeliest first, and how it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) work: Work,
    pub(crate) peers: Vec<Peer>,
    pub(crate) keeps: Vec<Keep>,
    pub(crate) keep_peers: Vec<Peer>,
    pub(crate) standing: Standing,
}

/// How far the journal is.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Events so far.
    pub events: u64,
    /// Commands so far.
    pub commands: u64,
    /// Root of the state after the latest command.
    pub root: Digest,
}

/// What sessions hold of the host.
#[derive(Clone, Debug)]
pub(crate) struct HostHandle {
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) head: watch::Receiver<Head>,
    pub(crate) peers: watch::Receiver<Vec<Peer>>,
    pub(crate) statuses: broadcast::Sender<FromOrchestrator>,
    pub(crate) events: Events,
}

/// How patient the host is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// A node that was not heard of for so long is lost.
    pub(crate) lease: Duration,
    /// Leases and deadlines are looked at so often.
    pub(crate) tick: Duration,
    /// A holder of a checkpoint is challenged so often, if at all.
    pub(crate) audit: Duration,
}

pub(crate) struct Host {
    state: State,
    journal: Journal,
    clock: Clock,
    timing: Timing,
    /// The orchestrator's own blob service.
    home: Peer,
    /// The leases of live nodes. Volatile: never in the journal.
    detector: Detector,
    /// Who may join now. Volatile as well.
    door: Door,
    /// From when on its time is counted.
    started: Instant,
    sessions: BTreeMap<NodeId, Session>,
    next_session: SessionId,
    inputs: mpsc::Receiver<Input>,
    head: watch::Sender<Head>,
    peers: watch::Sender<Vec<Peer>>,
    statuses: broadcast::Sender<FromOrchestrator>,
    /// Hear of every entry once it is durable.
    followers: broadcast::Sender<Arc<Vec<Entry>>>,
    /// Applied and not yet durable.
    pending: Vec<Entry>,
    /// Given once what is pending is durable.
    answers: Vec<Answer>,
    /// Who draws challenges, if holders of checkpoints are checked.
    auditor: Option<mpsc::Sender<Audit>>,
    /// How nodes are measured, if they are.
    admission: Option<Admission>,
}

struct Session {
    id: SessionId,
    assignments: watch::Sender<Assignment>,
    probes: mpsc::Sender<Peer>,
    /// Reports of its that were refused.
    refused: u32,
}

enum Answer {
    Joined(Reply<Joined>, Result<Joined, Rejection>),
    Submitted(oneshot::Sender<Result<JobId, Refusal>>, Result<JobId, Refusal>),
    Done(oneshot::Sender<Result<(), Refusal>>, Result<(), Refusal>),
    Follow(oneshot::Sender<Followed>),
}

impl Host {
    /// A host that goes on where the journal ends. Every node that was live gets a fresh
    /// lease, and the time that its transport takes to notice that the last host is gone.
    pub(crate) fn new(
        journal: Journal,
        replayed: Replayed,
        home: Peer,
        timing: Timing,
    ) -> (Self, HostHandle) {
        let Replayed { state, latest_ms, .. } = replayed;
        let lease_ms = timing.lease.as_millis() as u64;
        let mut detector = Detector::new(lease_ms);
        let first_lease_ms = IDLE_TIMEOUT.as_millis() as u64 + lease_ms;
        state.live().for_each(|(node, _)| detector.expect(*node, first_lease_ms));
        let (input_sender, inputs) = mpsc::channel(INPUTS_MAX);
        let (events, commands, root) = (journal.next_event(), journal.commands(), state.root());
        let (head, head_receiver) = watch::channel(Head { events, commands, root });
        let (peers, peers_receiver) = watch::channel(Vec::new());
        let (statuses, _) = broadcast::channel(STATUSES_MAX);
        let (followers, _) = broadcast::channel(FOLLOWED_MAX);
        let handle = HostHandle {
            inputs: input_sender,
            head: head_receiver,
            peers: peers_receiver,
            statuses: statuses.clone(),
            events: journal.events(),
        };
        let host = Self {
            state,
            journal,
            clock: Clock::start(latest_ms),
            timing,
            home,
            detector,
            door: Door::new(Instant::now()),
            started: Instant::now(),
            sessions: BTreeMap::new(),
            next_session: 0,
            inputs,
            head,
            peers,
            statuses,
            followers,
            pending: Vec::new(),
            answers: Vec::new(),
            auditor: None,
            admission: None,
        };
        host.publish(None);
        (host, handle)
    }

    /// Says in the journal whose network this is and whose word counts in it, if it does not say so already.
    pub(crate) fn name_network(&mut self, operators: &BTreeSet<NodeId>) -> Result<(), Refusal> {
        let network = self.home.node;
        if self.state.network() == Some(network) && self.state.trusted().operators == *operators {
            return Ok(());
        }
        let (operators, now_ms) = (operators.iter().copied().collect(), self.clock.now_ms());
        self.apply(Command::NetworkNamed { network, operators, now_ms })
    }

    /// From now on holders of checkpoints are checked by this auditor.
    pub(crate) fn audit_with(&mut self, auditor: mpsc::Sender<Audit>) {
        self.auditor = Some(auditor);
    }

    /// From now on those who wait are measured.
    pub(crate) fn admit_with(&mut self, admission: Admission) {
        self.admission = Some(admission);
    }

    /// Works until `stop` says so or the journal fails. Closes the journal.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), JournalError> {
        let mut ticks = interval(self.timing.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut audits = interval(self.timing.audit);
        audits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let looked_every = self.admission.map_or(SELDOM, |admission| admission.every.max(self.timing.tick));
        let mut sittings = interval_at(Instant::now() + looked_every, looked_every);
        sittings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(INPUTS_MAX);
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                _ = self.inputs.recv_many(&mut batch, INPUTS_MAX) => {}
                _ = ticks.tick() => {}
                _ = audits.tick(), if self.auditor.is_some() => self.audit(),
                _ = sittings.tick(), if self.admission.is_some() => self.draw(),
            }
            // All that waited is taken before leases are looked at: a heartbeat may be among it.
            batch.drain(..).for_each(|input| self.take(input));
            self.expire();
            if self.state.sitting().is_some() {
                self.draw();
            }
            self.commit().await?;
        }
        self.journal.close().await
    }

    fn take(&mut self, input: Input) {
        let now_ms = self.clock.now_ms();
        match input {
            Input::Join { node, profile, addresses, reply } => {
                let joined = self.join(node, profile, addresses, now_ms);
                self.answers.push(Answer::Joined(reply, joined));
            }
            Input::Alive { node, session, status } if self.is_current(&node, session) => {
                self.renew(node);
                // Nobody may be watching.
                let _ = self.statuses.send(status);
            }
            Input::Probed { witness, session, subject, reached } if self.is_current(&witness, session) => {
                self.renew(witness);
                self.detector.answered(witness, &subject, reached);
            }
            Input::Measured { node, session, link } if self.is_current(&node, session) => {
                self.renew(node);
                if let Err(refusal) = self.apply(Command::LinkMeasured { node, link, now_ms }) {
                    debug!(node = %node.short(), %refusal, "measurement refused");
                }
            }
            Input::Reported { node, session, report } if self.is_current(&node, session) => {
                self.renew(node);
                if !self.state.is_news(&node, &report) {
                    debug!(node = %node.short(), "it has said so before");
                } else if let Err(refusal) = self.apply(Command::Reported { node, report, now_ms }) {
                    self.log_refusal(&node, &refusal);
                }
            }
            // Its peers reach it: that the connection is given up at last is no news.
            Input::Gone { node, session, cause: LossCause::Disconnected }
                if self.is_current(&node, session) && self.state.is_suspect(&node) =>
            {
                self.sessions.remove(&node);
            }
            Input::Challenge { node, job, round, challenge } => {
                let command = Command::Challenged { node, job, round, challenge, now_ms };
                if let Err(refusal) = self.apply(command) {
                    debug!(node = %node.short(), %refusal, "no longer a holder");
                }
            }
            Input::Gone { node, session, cause } if self.is_current(&node, session) => self.lose(node, cause),
            Input::Submitted { job, reply } => {
                let id = job.id();
                let submitted = self.apply(Command::JobSubmitted { job, now_ms });
                self.answers.push(Answer::Submitted(reply, submitted.map(|()| id)));
            }
            Input::Steered { job, steer, reply } => {
                let steered = self.apply(Command::JobSteered { job, steer, now_ms });
                self.answers.push(Answer::Done(reply, steered));
            }
            Input::Declared { declaration, reply } => {
                let heard = self.state.has_heard(&declaration);
                let declared =
                    if heard { Ok(()) } else { self.apply(Command::Declared { declaration, now_ms }) };
                self.answers.push(Answer::Done(reply, declared));
            }
            Input::Attested { node, session, attestation, reply } if self.is_current(&node, session) => {
                self.renew(node);
                let attested = self.apply(Command::Attested { node, attestation, now_ms });
                self.answers.push(Answer::Done(reply, attested));
            }
            Input::Follow { reply } => self.answers.push(Answer::Follow(reply)),
            // From a connection that another one has replaced.
            Input::Alive { .. }
            | Input::Probed { .. }
            | Input::Measured { .. }
            | Input::Reported { .. }
            | Input::Attested { .. }
            | Input::Gone { .. } => {}
        }
    }

    fn join(
        &mut self,
        node: NodeId,
        profile: NodeProfile,
        addresses: Vec<SocketAddr>,
        now_ms: u64,
    ) -> Result<Joined, Rejection> {
        let caller = Caller { node, is_newcomer: self.state.is_newcomer(&node) };
        let there = self.sessions.keys().filter(|other| **other != node && self.state.is_newcomer(other));
        let admitted = self.door.admit(caller, there.count(), Instant::now());
        admitted.map_err(|why| Rejection::Busy(reason(why)))?;
        self.apply(Command::NodeJoined { node, profile, addresses, now_ms })
            .map_err(|refusal| Rejection::Invalid(reason(refusal)))?;
        self.renew(node);
        let session = self.next_session;
        self.next_session += 1;
        let (sender, assignments) = watch::channel(Assignment::default());
        let (asking, probes) = mpsc::channel(PROBES_MAX);
        self.sessions.insert(node, Session { id: session, assignments: sender, probes: asking, refused: 0 });
        Ok(Joined { session, assignments, probes })
    }

    fn lose(&mut self, node: NodeId, cause: LossCause) {
        self.part_with(&node);
        let now_ms = self.clock.now_ms();
        if let Err(refusal) = self.apply(Command::NodeLost { node, cause, now_ms }) {
            warn!(%node, %refusal, "loss refused");
        }
    }

    /// Of one conversation only the first refusals are worth a line for everybody.
    fn log_refusal(&mut self, node: &NodeId, refusal: &Refusal) {
        let Some(session) = self.sessions.get_mut(node) else { return };
        session.refused = session.refused.saturating_add(1);
        match session.refused {
            ..REFUSALS_LOGGED_MAX => warn!(%node, %refusal, "report refused"),
            REFUSALS_LOGGED_MAX => {
                warn!(%node, %refusal, "report refused; no more of its refusals are logged, unless ZOO_LOG=debug");
            }
            _ => debug!(%node, %refusal, "report refused"),
        }
    }

    fn part_with(&mut self, node: &NodeId) {
        self.sessions.remove(node);
        self.detector.forget(node);
    }

    /// Asks about silent nodes, loses those that nobody reaches, and lets the state know of a deadline that has passed.
    fn expire(&mut self) {
        let sessions = &self.sessions;
        let findings =
            self.detector.look(self.started.elapsed().as_millis() as u64, |node| sessions.contains_key(node));
        let now_ms = self.clock.now_ms();
        for finding in findings {
            match finding {
                Finding::Ask { node, witnesses } => self.ask(node, &witnesses),
                Finding::Dead { node } => self.lose(node, LossCause::LeaseExpired),
                Finding::Reached { node, by: reached_by } if !self.state.is_suspect(&node) => {
                    let suspected = Command::NodeSuspected { node, reached_by, now_ms };
                    if let Err(refusal) = self.apply(suspected) {
                        debug!(node = %node.short(), %refusal, "those who reached it are gone themselves");
                        self.lose(node, LossCause::LeaseExpired);
                    }
                }
                Finding::Reached { .. } => {}
            }
        }
        if self.state.next_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            self.apply(Command::Tick { now_ms }).expect("time is never refused");
        }
    }

    fn ask(&mut self, node: NodeId, witnesses: &[NodeId]) {
        let Some(known) = self.state.nodes().get(&node) else { return };
        let peer = Peer { node, addresses: known.addresses.clone() };
        for witness in witnesses {
            let session = self.sessions.get(witness);
            if session.is_none_or(|session| session.probes.try_send(peer.clone()).is_err()) {
                self.detector.answered(*witness, &node, false);
            }
        }
    }

    /// Has one of the holders of checkpoints challenged, each as likely as the others.
    fn audit(&self) {
        let (holders, mut random) = (self.state.challengeable(), [0; 32]);
        if holders.is_empty() || getrandom::fill(&mut random).is_err() {
            return;
        }
        let (words, _) = random.as_chunks::<8>();
        let [who, draw @ ..] = [0, 1, 2, 3].map(|at: usize| u64::from_le_bytes(words[at]));
        let (job, round, node) = holders[(who % holders.len() as u64) as usize];
        let Some(checkpoint) = self.state.checkpoints().get(&job, round).map(|kept| kept.digest) else {
            return;
        };
        let holders = self.state.holders(&checkpoint).into_iter();
        let peer = |node: NodeId| {
            let addresses = self.state.nodes().get(&node)?.addresses.clone();
            Some(Peer { node, addresses })
        };
        let audit = Audit { node, job, round, checkpoint, holders: holders.filter_map(peer).collect(), draw };
        // An auditor that is behind gets the next one.
        if let Some(auditor) = &self.auditor {
            let _ = auditor.try_send(audit);
        }
    }

    /// Draws what a sitting waits for, if it does: who is measured cannot have known it before.
    fn draw(&mut self) {
        let now_ms = self.clock.now_ms();
        let (Some(Admission { terms, .. }), Some(wanted)) = (self.admission, self.state.draw_wanted(now_ms))
        else {
            return;
        };
        let mut random = [0; 32];
        if getrandom::fill(&mut random).is_err() {
            return;
        }
        let draw = Digest::of(&random);
        let drawn = match wanted {
            Draw::Benchmarks => Command::SittingOpened { draw, terms, now_ms },
            Draw::Checkers => Command::CheckersDrawn { draw, now_ms },
        };
        if let Err(refusal) = self.apply(drawn) {
            debug!(%refusal, "nobody is measured now");
        }
    }

    /// A refused command has changed nothing and is not journaled.
    fn apply(&mut self, command: Command) -> Result<(), Refusal> {
        let events = self.state.apply(&command)?;
        for event in &events {
            // Time alone may lose a suspect.
            if let Event::NodeLost { node, .. } = event {
                self.part_with(node);
            }
        }
        self.pending.push(Entry { command, events });
        Ok(())
    }

    /// Makes what is pending durable, then visible.
    async fn commit(&mut self) -> Result<(), JournalError> {
        if !self.pending.is_empty() {
            let root = self.journal.append(&self.pending, &self.state).await?;
            let concerned =
                self.pending.iter().map(|entry| self.state.concerned(&entry.command, &entry.events));
            let concerned: Option<Vec<BTreeSet<NodeId>>> = concerned.collect();
            let concerned = concerned.map(|nodes| nodes.into_iter().flatten().collect::<BTreeSet<NodeId>>());
            let durable = Arc::new(std::mem::take(&mut self.pending));
            durable.iter().for_each(log);
            // Nobody may be following.
            let _ = self.followers.send(durable);
            let (events, commands) = (self.journal.next_event(), self.journal.commands());
            self.head.send_replace(Head { events, commands, root });
            self.publish(concerned.as_ref());
        }
        for answer in self.answers.drain(..) {
            // Who asked may have gone; a worker's disappearance shows when its assignments are closed.
            match answer {
                Answer::Joined(reply, joined) => _ = reply.send(joined),
                Answer::Submitted(reply, submitted) => _ = reply.send(submitted),
                Answer::Done(reply, done) => _ = reply.send(done),
                Answer::Follow(reply) => {
                    let entries = self.followers.subscribe();
                    _ = reply.send(Followed { state: self.state.clone(), entries });
                }
            }
        }
        Ok(())
    }

    /// Lets those sessions know what is new to them whose work may be another; `None` is all.
    fn publish(&self, concerned: Option<&BTreeSet<NodeId>>) {
        let live = self.state.live();
        let live = live.map(|(node, known)| Peer { node: *node, addresses: known.addresses.clone() });
        let mut peers: Vec<Peer> = live.chain([self.home.clone()]).collect();
        peers.sort_by_key(|peer| peer.node);
        self.peers.send_if_modified(|current| {
            let changed = *current != peers;
            if changed {
                current.clone_from(&peers);
            }
            changed
        });
        let is_concerned = |node: &NodeId| concerned.is_none_or(|nodes| nodes.contains(node));
        // What a suspect should do it is told when it is heard again: the same as before, most likely.
        let hears = |node: &NodeId| is_concerned(node) && !self.state.is_suspect(node);
        for (node, session) in self.sessions.iter().filter(|(node, _)| hears(node)) {
            let work = self.state.work_for(node);
            let assignment = Assignment {
                peers: self.state.sources_for(node, &work, &peers, &self.home.node),
                work,
                keeps: self.state.keeps_for(node),
                keep_peers: self.state.keep_sources_for(node, &peers),
                standing: self.state.standing_of(node),
            };
            session.assignments.send_if_modified(|current| {
                let changed = *current != assignment;
                if changed {
                    *current = assignment;
                }
                changed
            });
        }
    }

    fn renew(&mut self, node: NodeId) {
        self.detector.heard(node, self.started.elapsed().as_millis() as u64);
        if self.state.is_suspect(&node) {
            let now_ms = self.clock.now_ms();
            self.apply(Command::NodeHeard { node, now_ms }).expect("a suspect is known");
        }
    }

    fn is_current(&self, node: &NodeId, session: SessionId) -> bool {
        self.sessions.get(node).is_some_and(|current| current.id == session)
    }
}

/// Says who did what no honest node does, by its whole key.
fn log(entry: &Entry) {
    if let Command::Reported { node: judge, report: Report::Refused { round, summands, .. }, .. } =
        &entry.command
    {
        for RefusedSummand { maker, reason, .. } in summands {
            info!(%maker, round, reason, %judge, "a node cannot add what another made");
        }
    }
    for event in &entry.events {
        match event {
            Event::Fault { node, round, kind, .. } => warn!(%node, round, %kind, "node at fault"),
            Event::NodeSucceeded { old, new } => info!(%old, %new, "a node goes on under another key"),
            Event::NodeRetired { node } => info!(%node, "a node's key is void"),
            Event::ContributionMissed { node, round, why: why @ Missed::Outlier, .. } => {
                warn!(%node, round, %why, "contribution left out");
            }
            event => debug!(?event),
        }
    }
}
