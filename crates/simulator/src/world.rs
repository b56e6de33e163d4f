//! Virtual time: what happens next, and to whom.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use zoo_agent::needs::{BlobKind, Need, round_of};
use zoo_agent::{Assignment, Effect, Input, Outcome as TaskOutcome, Task};
use zoo_content::Digest;
use zoo_protocol::{
    Commitment, Form, JobDescription, JobId, NodeId, Peer, Profile, RefusedSummand, Report, RoundPlan,
    Summand, VerifyWindow, decode, encode,
};
use zoo_state::{
    Event, FaultKind, JobStatus, LossCause, Outcome as JobOutcome, SUSPICION_MS, WITNESSES_MAX, invariants,
};

use crate::chance::Chance;
use crate::host::{Crash, Host, LEASE_MS, Published, Request, SessionId, TICK_MS, network};
use crate::node::{Honesty, Node};
use crate::{Bug, Faults, Forgeries, Options, Outcome, host, work};

/// Between two heartbeats, ms.
const HEARTBEAT_MS: u64 = 1_000;
/// A broken conversation is noticed after so long, ms.
const NOTICE_MS: u64 = 2_000;
/// The orchestrator notices it after so long, ms: its leases are over before.
const GIVE_UP_MS: u64 = 7_000;
/// Who talks for so long is known, ms.
pub const HEARD_MS: u64 = 15_000;
/// Who was killed counts as lost after so long, ms: two leases with what answers take, and what was on its way.
const DECLARED_MS: u64 = 2 * (LEASE_MS + LEASE_MS / 3) + 6_000;
/// Longest wait before another attempt, ms.
const RETRY_MAX_MS: u64 = 10_000;
/// A round waits so long for a contribution, ms.
const DEADLINE_MS: u64 = 20_000;
/// Up to so many nodes the state's invariants are checked after every write; beyond, so often, ms.
const CHECKED_ALWAYS: usize = 1_000;
const CHECK_MS: u64 = 40 * TICK_MS;
/// Everything is repaired so long after the last fault; then the job has this long for every round that is left.
const PATIENCE_MS: u64 = 20 * DEADLINE_MS;

/// Something that will happen.
#[derive(Debug)]
enum Happening {
    HostTick,
    /// Somebody submits the job.
    JobComes,
    HostRestart,
    /// A request arrives at the orchestrator.
    Request {
        node: usize,
        session: SessionId,
        request: Request,
    },
    /// The orchestrator's answer arrives at a process.
    Welcome {
        node: usize,
        life: u64,
        session: SessionId,
    },
    Assigned {
        node: usize,
        life: u64,
        session: SessionId,
        assignment: host::Assignment,
    },
    /// A process is asked to reach another node.
    Probe {
        node: usize,
        life: u64,
        session: SessionId,
        subject: usize,
    },
    /// A killed process counts as lost by now.
    Declared {
        node: usize,
        life: u64,
        killed: u64,
    },
    /// A process notices that its conversation broke.
    Broken {
        node: usize,
        life: u64,
        session: SessionId,
    },
    Connect {
        node: usize,
        life: u64,
    },
    Heartbeat {
        node: usize,
        life: u64,
        session: SessionId,
    },
    Retry {
        node: usize,
        life: u64,
        assignment: Assignment,
    },
    /// A fetch comes to its end: a source had it, or none.
    Fetched {
        node: usize,
        life: u64,
        attempt: u64,
        digest: Digest,
        need: Need,
        source: Option<usize>,
    },
    TaskDone {
        node: usize,
        life: u64,
        assignment: Assignment,
        task: Task,
    },
    NodeStart {
        node: usize,
    },
    NodeCrash {
        node: usize,
    },
    NodeLeave {
        node: usize,
    },
    Partition,
    Heal {
        group: u64,
    },
    /// The wire between a node and the orchestrator is cut.
    OrchestratorCut {
        node: usize,
    },
    Splice {
        node: usize,
    },
    FullDisk {
        node: usize,
    },
    RetryKeep {
        node: usize,
        life: u64,
    },
    /// A challenge was worked on.
    Proved {
        node: usize,
        life: u64,
        input: Input,
    },
    Rot {
        node: usize,
    },
    Drill,
}

/// A challenge is worked on for so long, ms.
const PROOF_MS: u64 = 50;

/// Nodes that are measured have so long for it before there is a job, ms.
const MEASURED_MS: u64 = 60_000;
/// Tokens of a sequence, as far as benchmarks are about them.
const SEQUENCE_TOKENS: u64 = 1_024;
/// A walk over memory takes as long as training on so many.
const MEMORY_SEQUENCES: u64 = 2;

/// The orchestrator as a source of blobs.
const HOST: usize = usize::MAX;

pub struct World<'a> {
    pub options: &'a Options,
    faults: &'a Faults,
    pub now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    next_happening: u64,
    pub host: Host,
    host_is_up: bool,
    host_up_since: u64,
    pub nodes: Vec<Node>,
    pub by_id: BTreeMap<NodeId, usize>,
    next_session: SessionId,
    next_attempt: u64,
    /// Nodes on the other side of a cut, by the number of the cut.
    cut_off: BTreeMap<u64, BTreeSet<usize>>,
    /// Nodes that reach their peers and not the orchestrator.
    muted: BTreeSet<usize>,
    /// When the machine that several nodes share has done what it was asked.
    shared_until: u64,
    /// When the orchestrator last heard of each node.
    heard_at: Vec<u64>,
    pub weather: Chance,
    pub wires: Chance,
    job: JobDescription,
    pub history: History,
}

/// What anybody has seen, and what may not be taken back.
#[derive(Default)]
pub struct History {
    events: Vec<Event>,
    log: Vec<u8>,
    finished: BTreeMap<(JobId, u32), Digest>,
    /// Whose contributions are being aggregated.
    sealed: Vec<NodeId>,
    refused: u64,
    given: u64,
    violations: Vec<String>,
    bytes_moved: u64,
    node_crashes: u64,
    orchestrator_crashes: u64,
    suspicions: u64,
    verified: u64,
    unverified: u64,
    withdrawn: u64,
    stayed: u64,
    convictions: u64,
    wronged: u64,
    /// Rounds of the forged windows that were accepted.
    forged: BTreeMap<NodeId, BTreeSet<u32>>,
    /// The round of the window for which a node was convicted first.
    caught: BTreeMap<NodeId, u32>,
    is_finished: bool,
    is_over: bool,
    pub drills: u64,
    rated: BTreeMap<NodeId, u32>,
    unrated: u64,
}

impl History {
    /// By node: what became of its forged windows until it was convicted.
    fn forgeries(&self) -> Vec<Forgeries> {
        let until = |node: &NodeId| self.caught.get(node).copied();
        let of = |(node, rounds): (&NodeId, &BTreeSet<u32>)| Forgeries {
            accepted: rounds.range(..=until(node).unwrap_or(u32::MAX)).count() as u32,
            convicted: until(node).is_some(),
        };
        self.forged.iter().map(of).collect()
    }
}

impl<'a> World<'a> {
    pub fn new(options: &'a Options) -> Self {
        let faults = &options.faults;
        let mut chance = Chance::new(options.seed, "machines");
        let mut honesties = Chance::new(options.seed, "honesty");
        let node = |index| {
            let slowness = chance.between(1, faults.slowness.max(1));
            let honesty = match index as u64 {
                index if index < faults.slanderers => Honesty::Slanderer,
                _ if honesties.in_1000(faults.garbage_in_1000) => Honesty::Garbage,
                _ if honesties.in_1000(faults.forgers_in_1000) => Honesty::Forger,
                _ if honesties.in_1000(faults.saboteurs_in_1000) => Honesty::Saboteur,
                _ if honesties.in_1000(faults.perjurers_in_1000) => Honesty::Perjurer,
                _ if honesties.in_1000(faults.colluders_in_1000) => Honesty::Colluder,
                _ => Honesty::Honest,
            };
            Node::new(options.seed, index, honesty, 20 * slowness, 1_000_000 / 1000 / slowness)
        };
        let mut nodes: Vec<Node> = (0..options.nodes).map(node).collect();
        let mut liars = Chance::new(options.seed, "pretenders");
        nodes.iter_mut().for_each(|node| node.pretends = liars.in_1000(faults.pretenders_in_1000));
        let by_id = nodes.iter().enumerate().map(|(index, node)| (node.id, index)).collect();
        let name = |what: &str| Digest::of(&[&options.seed.to_le_bytes(), what.as_bytes()].concat());
        let job = JobDescription {
            network: network(),
            name: "simulated".into(),
            program: name("program"),
            profile: Profile::F32Exact,
            initial: name("initial"),
            training_data: name("training"),
            held_out_data: name("held out"),
            plan: RoundPlan {
                steps: u64::from(options.rounds) * 5,
                rhythm: RoundPlan::constant(5),
                sequences_per_step: 8,
                evaluate_every: 10,
                evaluation_shards: 4,
                minimum_nodes: (options.nodes as u32 / 4).max(1),
                contribution_deadline_ms: DEADLINE_MS,
                topology: options.topology,
                overlap: true,
                verified_in_1000: options.verified_in_1000,
                trust_discount: 4,
            },
            checkpoints: options.checkpoints,
            tokens_max: None,
        };
        let crashes = faults.orchestrator_crash_in_1000 > 0;
        let draws = Chance::new(options.seed, "audits");
        let mut host = Host::new(network(), crashes, draws, faults.admission_ms, options.bug);
        host.disk.extend([job.program, job.initial, job.training_data, job.held_out_data]);
        host.disk.extend(work::parts(&job.initial).into_iter().map(|(part, _)| part));
        Self {
            options,
            faults,
            now: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            next_happening: 0,
            host,
            host_is_up: true,
            host_up_since: 0,
            nodes,
            by_id,
            next_session: 0,
            next_attempt: 0,
            cut_off: BTreeMap::new(),
            muted: BTreeSet::new(),
            shared_until: 0,
            heard_at: vec![0; options.nodes],
            weather: Chance::new(options.seed, "weather"),
            wires: Chance::new(options.seed, "wires"),
            job,
            history: History::default(),
        }
    }

    pub fn run(mut self) -> Outcome {
        self.at(self.job_comes_ms(), Happening::JobComes);
        self.at(0, Happening::HostTick);
        for node in 0..self.nodes.len() {
            let delay = self.wires.between(0, 500);
            self.at(delay, Happening::NodeStart { node });
            self.expect(self.faults.node_crash_ms, Happening::NodeCrash { node });
            self.expect(self.faults.node_leave_ms, Happening::NodeLeave { node });
            self.expect(self.faults.full_disk_ms, Happening::FullDisk { node });
            self.expect(self.faults.orchestrator_cut_ms, Happening::OrchestratorCut { node });
            self.expect(self.faults.rot_ms, Happening::Rot { node });
        }
        self.expect(self.faults.partition_ms, Happening::Partition);
        self.expect(self.faults.drill_ms, Happening::Drill);
        let end = self.faults.until_ms + PATIENCE_MS * (u64::from(self.options.rounds) + 1);
        while !self.is_over() {
            let Some(Reverse((time, number))) = self.queue.pop() else {
                self.violation("nothing is going to happen any more".into());
                break;
            };
            if time > end {
                self.violation(format!(
                    "no end {} s after the last fault",
                    (end - self.faults.until_ms) / 1000
                ));
                break;
            }
            self.now = time;
            let happening =
                self.happenings.remove(&number).expect("every number in the queue has its happening");
            self.happen(happening);
            if self.history.violations.len() >= 10 {
                break;
            }
        }
        self.close()
    }

    /// Where nodes are measured, they wait for the job that long.
    fn job_comes_ms(&self) -> u64 {
        if self.faults.admission_ms > 0 { MEASURED_MS } else { 0 }
    }

    fn is_over(&self) -> bool {
        self.history.is_over
    }

    fn at(&mut self, time: u64, happening: Happening) {
        self.queue.push(Reverse((time, self.next_happening)));
        self.happenings.insert(self.next_happening, happening);
        self.next_happening += 1;
    }

    fn after(&mut self, delay: u64, happening: Happening) {
        self.at(self.now + delay, happening);
    }

    /// A fault that comes after this mean time, if at all and if not too late.
    fn expect(&mut self, mean: u64, happening: Happening) {
        if mean > 0 {
            let time = self.now + self.weather.wait(mean);
            if time < self.faults.until_ms {
                self.at(time, happening);
            }
        }
    }

    pub fn violation(&mut self, what: String) {
        let line = format!("at {:.3} s: {what}", self.now as f64 / 1000.0);
        self.history.violations.push(line);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::HostTick => self.host_tick(),
            Happening::HostRestart => self.host_restart(),
            Happening::JobComes => self.host.submit(self.job.clone()),
            Happening::Request { node, session, request } => {
                if self.host_is_up {
                    if !matches!(request, Request::Gone(_)) {
                        self.heard_at[node] = self.now;
                    }
                    self.host.take(self.nodes[node].id, session, request);
                }
            }
            Happening::Welcome { node, life, session } => self.welcomed(node, life, session),
            Happening::Assigned { node, life, session, assignment } => {
                if self.talks(node, life, session) {
                    self.assigned(node, session, assignment);
                }
            }
            Happening::Probe { node, life, session, subject } => {
                if self.talks(node, life, session) {
                    self.probe(node, session, subject);
                }
            }
            Happening::Declared { node, life, killed } => self.check_declared(node, life, killed),
            Happening::RetryKeep { node, life } => {
                if self.lives(node, life) {
                    self.tell(node, Input::RetryKeep);
                }
            }
            Happening::Proved { node, life, input } => {
                if self.lives(node, life) {
                    self.tell(node, input);
                }
            }
            Happening::Rot { node } => {
                self.rot(node);
                self.expect(self.faults.rot_ms, Happening::Rot { node });
            }
            Happening::Drill => {
                self.drill();
                self.expect(self.faults.drill_ms, Happening::Drill);
            }
            Happening::Broken { node, life, session } => {
                if self.talks(node, life, session) {
                    self.process(node).session = None;
                    self.tell(node, Input::Disconnected);
                    self.reconnect(node);
                }
            }
            Happening::Connect { node, life } => self.connect(node, life),
            Happening::Heartbeat { node, life, session } => {
                if self.talks(node, life, session) {
                    self.check_heard(node);
                    let rtt_ms = 2 * self.faults.latency_max_ms;
                    let news = self.nodes[node].link_news(rtt_ms);
                    self.request(node, session, news.map_or(Request::Heartbeat, Request::Measured));
                    self.after(HEARTBEAT_MS, Happening::Heartbeat { node, life, session });
                }
            }
            Happening::Retry { node, life, assignment } => {
                if self.lives(node, life) {
                    self.tell(node, Input::Retry(assignment));
                }
            }
            Happening::Fetched { node, life, attempt, digest, need, source } => {
                if self.lives(node, life) && self.process(node).fetches.get(&digest) == Some(&attempt) {
                    self.fetched(node, digest, need, source);
                }
            }
            Happening::TaskDone { node, life, assignment, task } => {
                if self.lives(node, life) && self.process(node).running == Some(assignment) {
                    self.task_done(node, assignment, task);
                }
            }
            Happening::NodeStart { node } => {
                if self.nodes[node].process.is_none() {
                    self.nodes[node].start();
                    let life = self.nodes[node].life;
                    self.after(1, Happening::Connect { node, life });
                }
            }
            Happening::NodeCrash { node } => {
                let away = self.weather.between(100, 20_000);
                self.kill(node, away);
                self.expect(self.faults.node_crash_ms, Happening::NodeCrash { node });
            }
            Happening::NodeLeave { node } => {
                let away = self.weather.between(20_000, 90_000);
                self.kill(node, away);
                self.expect(self.faults.node_leave_ms, Happening::NodeLeave { node });
            }
            Happening::Partition => self.partition(),
            Happening::Heal { group } => _ = self.cut_off.remove(&group),
            Happening::OrchestratorCut { node } => self.cut_from_orchestrator(node),
            Happening::Splice { node } => _ = self.muted.remove(&node),
            Happening::FullDisk { node } => {
                self.nodes[node].full_until = self.now + self.weather.between(1_000, 20_000);
                self.expect(self.faults.full_disk_ms, Happening::FullDisk { node });
            }
        }
    }
}

/// The orchestrator.
impl World<'_> {
    fn host_tick(&mut self) {
        if !self.host_is_up {
            return;
        }
        self.after(TICK_MS, Happening::HostTick);
        if !self.host.has_work(self.now) {
            return;
        }
        let crashes =
            self.now < self.faults.until_ms && self.weather.in_1000(self.faults.orchestrator_crash_in_1000);
        let crash = match (crashes, self.weather.in_1000(500)) {
            (false, _) => Crash::None,
            (true, false) => Crash::BeforeWrite,
            (true, true) => Crash::AfterWrite,
        };
        if let Some(published) = self.host.tick(self.now, crash) {
            self.publish(published);
        }
        // In a large network looking at everybody takes longer than what happens in between.
        let looks = self.nodes.len() <= CHECKED_ALWAYS || self.now.is_multiple_of(CHECK_MS);
        if looks && let Err(broken) = invariants::check(&self.host.state) {
            self.violation(broken);
        }
        if looks {
            self.check_holders();
            // Only what is durable and seen counts.
            self.history.is_over = self.history.is_finished && self.is_repaired();
        }
        if crash != Crash::None {
            self.host_is_up = false;
            self.history.orchestrator_crashes += 1;
            self.break_conversations(|_| true);
            let away = self.weather.between(200, 5_000);
            self.after(away, Happening::HostRestart);
        }
    }

    fn host_restart(&mut self) {
        let skew = self.weather.between(0, self.faults.clock_skew_ms);
        (self.host_is_up, self.host_up_since) = (true, self.now);
        match self.host.restart(self.now, skew) {
            Err(cause) => self.violation(cause),
            Ok(events) => self.compare(events),
        }
        // A client whose submission was not answered submits again.
        let status = self.host.state.job_status(&self.job.id());
        let is_there = self.now >= self.job_comes_ms();
        if is_there && matches!(status, None | Some(JobStatus::Over(JobOutcome::Failed(_)))) {
            self.host.submit(self.job.clone());
        }
        self.after(TICK_MS, Happening::HostTick);
    }

    /// What was seen is still there after a restart; what was written and not seen is seen now.
    fn compare(&mut self, events: Vec<Event>) {
        let seen = self.history.events.len();
        if events.len() < seen || events[..seen] != self.history.events[..] {
            self.violation(format!(
                "{seen} events were seen; after the restart the journal tells another story"
            ));
            return;
        }
        self.see(&events[seen..]);
    }

    fn publish(&mut self, published: Published) {
        self.see(&published.events);
        for (id, session) in published.welcomed {
            let node = self.by_id[&id];
            let life = self.nodes[node].life;
            self.send_to(node, session, Happening::Welcome { node, life, session });
        }
        for (id, session) in published.closed {
            let node = self.by_id[&id];
            let life = self.nodes[node].life;
            self.after(NOTICE_MS, Happening::Broken { node, life, session });
        }
        for (id, session, subject) in published.probes {
            let (node, subject) = (self.by_id[&id], self.by_id[&subject]);
            let life = self.nodes[node].life;
            self.send_to(node, session, Happening::Probe { node, life, session, subject });
        }
        for (id, session, assignment) in published.assignments {
            let node = self.by_id[&id];
            let life = self.nodes[node].life;
            self.send_to(node, session, Happening::Assigned { node, life, session, assignment });
        }
    }

    fn see(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::RoundFinished { job, round, checkpoint, .. } => {
                    if self.history.finished.insert((*job, *round), *checkpoint).is_some() {
                        self.violation(format!("round {round} was finished twice"));
                    }
                    let sealed = std::mem::take(&mut self.history.sealed);
                    if sealed.iter().any(|node| self.is_liar(node)) {
                        self.violation(format!("there is garbage in the checkpoint of round {round}"));
                    }
                    self.check_recoverable(checkpoint);
                }
                Event::RoundStarted { shares, ahead_steps, .. } => {
                    for (_, share) in shares {
                        if share.first_sequence < self.history.given {
                            self.violation("sequences are given to two replicas".into());
                        }
                        self.history.given = share.after(*ahead_steps).end();
                    }
                }
                Event::Fault { node, kind: FaultKind::Refused { .. }, .. } if self.is_liar(node) => {
                    self.history.refused += 1;
                }
                Event::RoundSealed { contributors, .. } => {
                    self.history.sealed.clone_from(contributors);
                }
                Event::WindowVerified { .. } => self.history.verified += 1,
                Event::WindowUnverified { .. } => self.history.unverified += 1,
                Event::ContributionWithdrawn { node, withdrawn_in, .. } => {
                    *(match withdrawn_in {
                        Some(_) => &mut self.history.withdrawn,
                        None => &mut self.history.stayed,
                    }) += 1;
                    let may_be = self.is_liar(node) || self.forges(node) || self.perjures(node);
                    if !may_be && self.faults.colluders_in_1000 == 0 {
                        self.violation(format!("what {} gave is withdrawn, and it is honest", node.short()));
                    }
                }
                Event::ContributionAccepted { round, node, .. } if self.forges(node) => {
                    self.history.forged.entry(*node).or_default().insert(*round);
                }
                Event::Fault { node, kind: FaultKind::WrongWindow { window, .. }, .. }
                    if self.is_liar(node) || self.forges(node) =>
                {
                    self.history.convictions += 1;
                    self.history.caught.entry(*node).or_insert(*window);
                }
                Event::Fault { node, kind: FaultKind::WrongVerdict { .. }, .. } if self.perjures(node) => {
                    self.history.convictions += 1;
                }
                // So many who lie together are believed now and then.
                Event::Fault {
                    kind: FaultKind::WrongWindow { .. } | FaultKind::WrongVerdict { .. }, ..
                } if self.faults.colluders_in_1000 > 0 => self.history.wronged += 1,
                Event::Fault { node, kind, .. } => {
                    self.violation(format!("{} is honest and at fault: it {kind}", node.short()));
                }
                Event::NodeRated { node, rating } => {
                    self.history.rated.entry(*node).or_insert(rating.speeds.f32_exact);
                }
                Event::NodeUnrated { .. } => self.history.unrated += 1,
                Event::NodeSuspected { .. } => self.history.suspicions += 1,
                Event::NodeLost { node, cause } => self.check_lost(node, *cause),
                Event::JobFinished { .. } => self.history.is_finished = true,
                // Bad weather can end a job; whoever wants it submits it again.
                Event::JobFailed { .. } => {
                    self.history.finished.clear();
                    self.history.given = 0;
                    self.host.submit(self.job.clone());
                }
                _ => {}
            }
            self.history.log.extend(self.now.to_le_bytes());
            self.history.log.extend(encode(event));
            self.history.events.push(event.clone());
        }
    }

    fn is_liar(&self, node: &NodeId) -> bool {
        self.is_one_of(node, &[Honesty::Garbage])
    }

    fn forges(&self, node: &NodeId) -> bool {
        self.is_one_of(node, &[Honesty::Forger, Honesty::Saboteur, Honesty::Colluder])
    }

    fn perjures(&self, node: &NodeId) -> bool {
        self.is_one_of(node, &[Honesty::Perjurer, Honesty::Colluder])
    }

    fn is_one_of(&self, node: &NodeId, kinds: &[Honesty]) -> bool {
        self.by_id.get(node).is_some_and(|node| kinds.contains(&self.nodes[*node].honesty))
    }

    /// Who has talked to the orchestrator for long without a break is there for the state as well.
    fn check_heard(&mut self, node: usize) {
        let since = self.process(node).session_since.max(self.host_up_since);
        let known = self.host.state.nodes().get(&self.nodes[node].id);
        if self.host_is_up && self.now > since + HEARD_MS && !known.is_some_and(|known| known.live) {
            let name = self.nodes[node].id.short();
            self.violation(format!(
                "{name} has talked since {:.3} s and counts as lost",
                since as f64 / 1000.0
            ));
        }
    }

    /// Who is alive, and silent only because its wire to the orchestrator is cut, is not lost while its peers reach it, for as long
    /// as they are waited for. Where other things go wrong as well, nobody may have been there to say so.
    fn check_lost(&mut self, node: &NodeId, cause: LossCause) {
        let index = self.by_id[node];
        if !self.muted.contains(&index) {
            return;
        }
        let faults = self.faults;
        let is_fair = faults.partition_ms == 0
            && faults.loss_in_1000 == 0
            && faults.orchestrator_crash_in_1000 == 0
            && faults.duplicates_in_1000 == 0;
        let others = || (0..self.nodes.len()).filter(|other| *other != index);
        let has_talked = |other: usize| {
            let since = |process: &crate::node::Process| process.session.map(|_| process.session_since);
            let since = self.nodes[other].process.as_ref().and_then(since);
            since.is_some_and(|since| since + 3 * LEASE_MS < self.now) && !self.muted.contains(&other)
        };
        let witnesses = others().filter(|other| has_talked(*other)).count();
        // Three are asked, and any of those who are not well may be among them.
        let well = others().count() - witnesses < WITNESSES_MAX && witnesses > 0;
        let heard = self.heard_at[index];
        let in_time = self.now < heard + LEASE_MS + SUSPICION_MS;
        let process = self.nodes[index].process.as_ref();
        let is_the_same = process.is_some_and(|process| (1..=heard).contains(&process.session_since));
        if is_fair && well && in_time && is_the_same {
            self.violation(format!("{} counts as lost ({cause}), and its peers reach it", node.short()));
        }
    }

    /// Who was killed counts as lost once two leases are over, in the second of which its peers were asked again.
    fn check_declared(&mut self, node: usize, life: u64, killed: u64) {
        let is_dead = self.nodes[node].process.is_none() && self.nodes[node].life == life;
        let known = self.host.state.nodes().get(&self.nodes[node].id);
        if is_dead && self.host_is_up && self.host_up_since <= killed && known.is_some_and(|known| known.live)
        {
            let name = self.nodes[node].id.short();
            self.violation(format!(
                "{name} was killed at {:.3} s and is still waited for",
                killed as f64 / 1000.0
            ));
        }
    }

    /// A finished round's checkpoint is whole on some disk.
    fn check_recoverable(&mut self, checkpoint: &Digest) {
        if !self.nodes.iter().any(|node| node.has_checkpoint(checkpoint)) {
            self.violation(format!("nobody holds the finished checkpoint {}", checkpoint.short()));
        }
    }
}

/// Wires.
impl World<'_> {
    fn latency(&mut self) -> u64 {
        self.wires.between(1, self.faults.latency_max_ms.max(1))
    }

    /// Whether a node cannot reach the orchestrator.
    fn is_cut_off(&self, node: usize) -> bool {
        self.muted.contains(&node) || self.cut_off.values().any(|group| group.contains(&node))
    }

    /// Whether two nodes are on the same side of every cut.
    fn reach(&self, one: usize, other: usize) -> bool {
        self.cut_off.values().all(|group| group.contains(&one) == group.contains(&other))
    }

    fn is_lost(&mut self, node: usize) -> bool {
        let unlucky = self.now < self.faults.until_ms && self.wires.in_1000(self.faults.loss_in_1000);
        unlucky || self.is_cut_off(node)
    }

    /// A message to a node, on the stream of this conversation.
    fn send_to(&mut self, node: usize, session: SessionId, message: Happening) {
        if self.is_lost(node) {
            return self.break_conversation(node, session);
        }
        // A stream keeps the order of what one side says: one latency for all of the orchestrator's messages.
        let latency = self.faults.latency_max_ms.max(1);
        self.after(latency, message);
    }

    /// A message from a node to the orchestrator.
    pub fn request(&mut self, node: usize, session: SessionId, request: Request) {
        if self.is_lost(node) {
            return self.break_conversation(node, session);
        }
        if let Request::Report(report) = &request {
            // What travels is bytes.
            let again = decode::<Report>(&encode(report));
            if again.as_ref() != Ok(report) {
                self.violation(format!("a report does not survive the wire: {report:?}"));
            }
            if self.now < self.faults.until_ms && self.wires.in_1000(self.faults.duplicates_in_1000) {
                let later = self.latency() + self.wires.between(0, 5_000);
                self.after(later, Happening::Request { node, session, request: request.clone() });
            }
        }
        let latency = self.latency();
        self.after(latency, Happening::Request { node, session, request });
    }

    /// Both sides notice after a while: the orchestrator by what it does not hear, long before it gives the connection up.
    fn break_conversation(&mut self, node: usize, session: SessionId) {
        let life = self.nodes[node].life;
        self.after(NOTICE_MS, Happening::Broken { node, life, session });
        let request = Request::Gone(LossCause::Disconnected);
        self.after(GIVE_UP_MS, Happening::Request { node, session, request });
    }

    fn break_conversations(&mut self, of: impl Fn(usize) -> bool) {
        for node in (0..self.nodes.len()).filter(|node| of(*node)) {
            if let Some(session) = self.nodes[node].process.as_ref().and_then(|process| process.session) {
                self.break_conversation(node, session);
            }
        }
    }

    fn partition(&mut self) {
        let share = self.weather.between(1, 500);
        let group: BTreeSet<usize> = (0..self.nodes.len()).filter(|_| self.weather.in_1000(share)).collect();
        let number = self.next_happening;
        self.break_conversations(|node| group.contains(&node));
        self.cut_off.insert(number, group);
        let length = self.weather.between(500, 15_000);
        self.after(length, Happening::Heal { group: number });
        self.expect(self.faults.partition_ms, Happening::Partition);
    }

    fn cut_from_orchestrator(&mut self, node: usize) {
        self.muted.insert(node);
        self.break_conversations(|other| other == node);
        let length = self.weather.between(500, 25_000);
        self.after(length, Happening::Splice { node });
        self.expect(self.faults.orchestrator_cut_ms, Happening::OrchestratorCut { node });
    }

    /// A node tries to reach another, and says what came of it.
    fn probe(&mut self, node: usize, session: SessionId, subject: usize) {
        let reached = self.nodes[subject].process.is_some() && self.reach(node, subject);
        let subject = self.nodes[subject].id;
        self.request(node, session, Request::Probed { subject, reached });
    }
}

/// PNodes.
impl World<'_> {
    fn process(&mut self, node: usize) -> &mut crate::node::Process {
        self.nodes[node].process.as_mut().expect("only living processes are asked")
    }

    fn lives(&self, node: usize, life: u64) -> bool {
        self.nodes[node].life == life && self.nodes[node].process.is_some()
    }

    fn talks(&self, node: usize, life: u64, session: SessionId) -> bool {
        let known = self.nodes[node].process.as_ref().and_then(|process| process.session);
        self.nodes[node].life == life && known == Some(session)
    }

    pub fn kill(&mut self, node: usize, away: u64) {
        if self.nodes[node].process.is_none() {
            return;
        }
        let session = self.process(node).session;
        let wipe = self.weather.in_1000(self.faults.wiped_in_1000);
        self.nodes[node].kill(wipe);
        self.history.node_crashes += 1;
        if let Some(session) = session {
            self.break_conversation(node, session);
        }
        let (life, killed) = (self.nodes[node].life, self.now);
        self.after(DECLARED_MS, Happening::Declared { node, life, killed });
        self.after(away, Happening::NodeStart { node });
    }

    fn reconnect(&mut self, node: usize) {
        let process = self.process(node);
        process.attempts += 1;
        let wait = (250 << process.attempts.min(6).saturating_sub(1)).min(RETRY_MAX_MS);
        let life = self.nodes[node].life;
        let jitter = self.wires.between(0, wait / 4);
        self.after(wait + jitter, Happening::Connect { node, life });
    }

    fn connect(&mut self, node: usize, life: u64) {
        if !self.lives(node, life) || self.process(node).session.is_some() {
            return;
        }
        if !self.host_is_up || self.is_cut_off(node) {
            return self.reconnect(node);
        }
        let session = self.next_session;
        self.next_session += 1;
        let now = self.now;
        let process = self.process(node);
        (process.session, process.session_since) = (Some(session), now);
        let profile = self.nodes[node].profile();
        self.request(node, session, Request::Join { profile });
        self.after(HEARTBEAT_MS, Happening::Heartbeat { node, life, session });
    }

    fn welcomed(&mut self, node: usize, life: u64, session: SessionId) {
        if self.talks(node, life, session) {
            self.process(node).attempts = 0;
            self.tell(node, Input::Connected);
        }
    }

    pub fn tell(&mut self, node: usize, input: Input) {
        for effect in self.process(node).agent.handle(input) {
            self.perform(node, effect);
        }
    }

    fn perform(&mut self, node: usize, effect: Effect) {
        let life = self.nodes[node].life;
        match effect {
            Effect::Fetch { digest, need, sources } => self.fetch(node, digest, need, &sources),
            Effect::Forget(digest) => _ = self.process(node).fetches.remove(&digest),
            Effect::Run { assignment, task } => {
                self.process(node).running = Some(assignment);
                let takes = self.time_on_machine(node, &task);
                self.after(takes, Happening::TaskDone { node, life, assignment, task });
            }
            Effect::Cancel => self.process(node).running = None,
            Effect::RetryAfter { assignment, failures } => {
                let wait = (250 << failures.min(7).saturating_sub(1)).min(RETRY_MAX_MS);
                self.after(wait, Happening::Retry { node, life, assignment });
            }
            Effect::Hold { checkpoint, blobs } => self.nodes[node].rounds.hold(checkpoint, blobs),
            Effect::HoldOnly(held) => self.nodes[node].hold_only(&held),
            Effect::RetryKeepAfter { failures } => {
                let wait = (250 << failures.min(7).saturating_sub(1)).min(RETRY_MAX_MS);
                self.after(wait, Happening::RetryKeep { node, life });
            }
            Effect::Prove { job, round, challenge } => {
                let proof = self.nodes[node].prove(&challenge);
                let input = Input::Proved { job, round, nonce: challenge.nonce, proof };
                self.after(PROOF_MS, Happening::Proved { node, life, input });
            }
            Effect::Report(report) => {
                if let Some(session) = self.process(node).session {
                    self.request(node, session, Request::Report(report));
                }
            }
        }
    }

    /// How long a task takes, with what its machine has to do before.
    fn time_on_machine(&mut self, node: usize, task: &Task) -> u64 {
        let takes = self.time_of(node, task);
        if node as u64 >= self.faults.housemates {
            return takes;
        }
        self.shared_until = self.shared_until.max(self.now) + takes;
        self.shared_until - self.now
    }

    fn time_of(&self, node: usize, task: &Task) -> u64 {
        let sequences = match task {
            // As if nothing of its lead were taken yet.
            Task::Train(window) => {
                window.lead.iter().chain([&window.share]).map(|share| share.sequences()).sum()
            }
            Task::Aggregate(work) => work.summands.len() as u64,
            Task::Sum(work) => work.summands.len() as u64,
            Task::Evaluate(_) => 10,
            Task::Benchmark(work) => work.tokens() / SEQUENCE_TOKENS + MEMORY_SEQUENCES,
            Task::Verify(VerifyWindow { window, .. }) => {
                window.lead.iter().chain([&window.share]).map(|share| share.sequences()).sum()
            }
        };
        sequences * self.nodes[node].ms_per_sequence
    }

    fn fetch(&mut self, node: usize, digest: Digest, need: Need, sources: &[Peer]) {
        if !need.kind.is_kept() {
            self.note(node, digest);
        }
        if self.process(node).fetches.contains_key(&digest) {
            return;
        }
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        self.process(node).fetches.insert(digest, attempt);
        let life = self.nodes[node].life;
        if self.nodes[node].has(&digest) {
            let source = Some(node);
            return self.after(0, Happening::Fetched { node, life, attempt, digest, need, source });
        }
        let place = |peer: &Peer| self.by_id.get(&peer.node).copied().unwrap_or(HOST);
        let source = sources.iter().map(place).find(|source| self.serves(*source, node, &digest));
        let broken =
            self.now < self.faults.until_ms && self.wires.in_1000(self.faults.broken_fetches_in_1000);
        let source = source.filter(|_| !broken);
        let slowest = |source: usize| match source {
            HOST => self.nodes[node].bytes_per_ms,
            source => self.nodes[node].bytes_per_ms.min(self.nodes[source].bytes_per_ms),
        };
        let transfer = source.map_or(0, |source| bytes_of(need, &digest) / slowest(source).max(1));
        let delay = 2 * self.latency() + transfer;
        self.after(delay, Happening::Fetched { node, life, attempt, digest, need, source });
    }

    /// Whether a source is there, can be reached and has the blob.
    fn serves(&self, source: usize, node: usize, digest: &Digest) -> bool {
        match source {
            HOST => self.host_is_up && !self.is_cut_off(node) && self.host.disk.contains(digest),
            source => {
                let there = &self.nodes[source];
                there.process.is_some() && self.reach(source, node) && there.has(digest)
            }
        }
    }

    fn fetched(&mut self, node: usize, digest: Digest, need: Need, source: Option<usize>) {
        self.process(node).fetches.remove(&digest);
        let failed = |reason: &str| Input::FetchFailed { digest, reason: reason.into(), wrong: None };
        let input = match source {
            None => failed("nobody has it"),
            // It may have gone in the meantime.
            Some(source) if source != node && !self.serves(source, node, &digest) => {
                failed("the source is gone")
            }
            Some(source) => {
                if !self.nodes[node].keep(digest, self.now) {
                    failed("no space left")
                } else {
                    if source != node {
                        let bytes = bytes_of(need, &digest);
                        self.nodes[node].received_bytes += bytes;
                        self.history.bytes_moved += bytes;
                        if source != HOST {
                            self.nodes[source].sent_bytes += bytes;
                        }
                    }
                    let lists = if need.kind.is_manifest() { work::parts(&digest) } else { Vec::new() };
                    Input::Fetched { digest, lists }
                }
            }
        };
        self.tell(node, input);
    }

    fn task_done(&mut self, node: usize, assignment: Assignment, task: Task) {
        self.process(node).running = None;
        let kept_round = |world: &mut Self, blobs: &[(Digest, u64)]| {
            blobs.iter().all(|(blob, _)| {
                world.note(node, *blob);
                world.nodes[node].keep(*blob, world.now)
            })
        };
        let refused = self.refused(node, &task);
        let outcome = match task {
            Task::Aggregate(_) | Task::Sum(_) if !refused.is_empty() => {
                Some(TaskOutcome::Refused { summands: refused })
            }
            Task::Train(window) => {
                let replica_in = window.kept.filter(|state| self.nodes[node].disk.contains(state));
                let train = match self.nodes[node].honesty {
                    Honesty::Garbage => work::garbage,
                    Honesty::Forger | Honesty::Colluder => work::forged,
                    Honesty::Saboteur => work::sabotaged,
                    Honesty::Honest | Honesty::Slanderer | Honesty::Perjurer => work::train,
                };
                let (outcome, mut blobs) = train(&window, replica_in);
                blobs.extend(replica_in.map(|state| (state, work::REPLICA_BYTES)));
                let commitment = Commitment::new(window, replica_in, outcome, &self.nodes[node].key);
                kept_round(self, &blobs).then(|| TaskOutcome::Trained(Box::new(commitment)))
            }
            Task::Verify(asked) => {
                let Node { honesty, id, .. } = &self.nodes[node];
                let maker = self.nodes[self.by_id[&asked.maker]].honesty;
                Some(TaskOutcome::Verified { outcome: honesty.verdict(maker, id, &asked) })
            }
            Task::Aggregate(aggregate) => {
                let (checkpoint, left_out) = work::aggregate(&aggregate);
                let mut blobs = work::parts(&checkpoint);
                blobs.push((checkpoint, 1_000));
                let alike = Vec::new();
                kept_round(self, &blobs).then_some(TaskOutcome::Aggregated { checkpoint, left_out, alike })
            }
            Task::Sum(sum) => {
                let sums = work::sum(&sum);
                let blobs: Vec<(Digest, u64)> = sums.iter().map(|sum| (sum.update, sum.bytes)).collect();
                kept_round(self, &blobs).then_some(TaskOutcome::Summed { sums })
            }
            Task::Benchmark(work) => {
                let answer = Digest::of(work.seed.as_bytes());
                Some(TaskOutcome::Benchmarked { answer: self.nodes[node].honesty.answer(answer) })
            }
            Task::Evaluate(evaluate) => {
                let (nats, tokens, bytes) = work::evaluate(&evaluate);
                Some(TaskOutcome::Evaluated { nats, tokens, bytes })
            }
        };
        self.nodes[node].tidy();
        let reason = "no space left".to_owned();
        self.tell(
            node,
            match outcome {
                Some(outcome) => Input::TaskFinished { assignment, outcome },
                None => Input::TaskFailed { assignment, reason },
            },
        );
    }

    /// What of its work a node refuses.
    fn refused(&self, node: usize, task: &Task) -> Vec<RefusedSummand> {
        let summands = match task {
            Task::Aggregate(work) => &work.summands[..],
            Task::Sum(work) => &work.summands[..],
            Task::Train(_) | Task::Evaluate(_) | Task::Verify(_) | Task::Benchmark(_) => &[],
        };
        let Node { id, honesty, .. } = &self.nodes[node];
        let refuses = |summand: &&Summand| match honesty {
            _ if self.options.bug == Some(Bug::AddsGarbage) => false,
            Honesty::Honest | Honesty::Forger | Honesty::Saboteur | Honesty::Perjurer | Honesty::Colluder => {
                work::is_garbage(summand)
            }
            // Who adds a sum is not checked, so what it would make of its own garbage there is not for here.
            Honesty::Garbage => {
                work::is_garbage(summand) && (summand.node != *id || matches!(task, Task::Sum(_)))
            }
            Honesty::Slanderer => summand.node != *id && summand.form == Form::Contribution,
        };
        summands.iter().filter(refuses).map(work::refusal).collect()
    }

    /// The node remembers that its present round uses a blob.
    fn note(&mut self, node: usize, blob: Digest) {
        let round = round_of(self.process(node).agent.work());
        if let Some((job, round)) = round {
            self.nodes[node].rounds.note(job, round, blob);
        }
    }
}

/// The end.
impl World<'_> {
    fn close(mut self) -> Outcome {
        let status = self.host.state.job_status(&self.job.id());
        if !matches!(status, Some(JobStatus::Over(JobOutcome::Finished { .. })))
            && self.history.violations.is_empty()
        {
            self.violation(format!("the job ended as {status:?}"));
        }
        let received: u64 = self.nodes.iter().map(|node| node.received_bytes).sum();
        if received != self.history.bytes_moved {
            self.violation(format!("{received} bytes arrived, {} were moved", self.history.bytes_moved));
        }
        let journal = self.host.journal();
        for entry in journal {
            self.history.log.extend(entry);
        }
        Outcome {
            digest: Digest::of(&self.history.log),
            rounds_committed: self.history.finished.len() as u32,
            virtual_seconds: self.now as f64 / 1000.0,
            bytes_moved: self.history.bytes_moved,
            journal_entries: journal.len() as u64,
            refused: self.history.refused,
            node_crashes: self.history.node_crashes,
            orchestrator_crashes: self.history.orchestrator_crashes,
            suspicions: self.history.suspicions,
            drills: self.history.drills,
            rated: self
                .nodes
                .iter()
                .map(|node| self.history.rated.get(&node.id).copied().unwrap_or(0))
                .collect(),
            unrated: self.history.unrated,
            verified: self.history.verified,
            unverified: self.history.unverified,
            withdrawn: self.history.withdrawn,
            stayed: self.history.stayed,
            convictions: self.history.convictions,
            wronged: self.history.wronged,
            forgeries: self.history.forgeries(),
            violations: self.history.violations,
        }
    }
}

/// Manifests are small; what a need says is the most it can be, and of parts and updates what it is.
fn bytes_of(need: Need, _: &Digest) -> u64 {
    match need.kind {
        BlobKind::Program | BlobKind::Manifest | BlobKind::KeptManifest => 1_000,
        BlobKind::Data => 5_000_000,
        BlobKind::CheckpointPart | BlobKind::KeptPart | BlobKind::Update(_) | BlobKind::Amended(_) => {
            need.max_bytes
        }
        BlobKind::Replica(_) => work::REPLICA_BYTES,
    }
}
