//! What a PNode does next, decided without a clock, a socket or a disk.
//!
//! The [`Agent`] is told what happened ([`Input`]) and answers with what to do
//! ([`Effect`]). It holds one piece of work at a time: it asks for the blobs
//! the work needs, runs the task once all are there, and reports. Being told
//! the same work twice changes nothing; being told other work abandons the
//! present one. The daemon turns effects into I/O, tests and simulations turn
//! them into anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zoo_content::Digest;
use zoo_protocol::{Aggregate, Commitment, Evaluate, NodeId, NodeKey, Peer, Report, Sealed, TrainWindow, Work, limits};

use crate::needs::{self, BlobKind, Need};

/// A blob that could not be fetched so often is reported; the agent goes on trying all the same.
pub const FETCH_TRIES_BEFORE_REPORT: u32 = 3;

/// Numbers the times an agent took up work, so that what arrives late is recognised as late.
pub type Assignment = u64;

/// What a PNode can be asked to compute. This closed list is the security
/// boundary: whatever the network sends, nothing else is ever executed.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Train one window.
    Train(TrainWindow),
    /// Aggregate a round and take the outer step.
    Aggregate(Aggregate),
    /// Evaluate one shard of the held-out data.
    Evaluate(Evaluate),
}

/// What a task came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A window is trained; its blobs are in the store.
    Trained(Box<Commitment>),
    /// The updates of a contribution are not what an update must be: as good as missing.
    Unusable {
        /// Whose contribution.
        contributor: NodeId,
    },
    /// A round is aggregated; the checkpoint is in the store.
    Aggregated {
        /// Manifest of the new checkpoint.
        checkpoint: Digest,
    },
    /// A shard is evaluated.
    Evaluated {
        /// Sum of the losses, nats.
        nats: f64,
        /// Tokens scored.
        tokens: u64,
        /// Bytes of text those tokens stand for.
        bytes: u64,
    },
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The orchestrator accepted the control connection.
    Connected,
    /// The control connection is gone.
    Disconnected,
    /// The orchestrator said what this node should be doing now.
    WorkChanged {
        /// The work.
        work: Work,
        /// Who may hold the blobs it names.
        peers: Vec<Peer>,
    },
    /// A blob is in the store.
    Fetched {
        /// Which.
        digest: Digest,
        /// What it lists, if it is a manifest: blobs and their sizes, bytes.
        lists: Vec<(Digest, u64)>,
    },
    /// A blob could be had from nobody.
    FetchFailed {
        /// Which.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// The wait that [`Effect::RetryAfter`] asked for is over.
    Retry(Assignment),
    /// A task came to its end.
    TaskFinished {
        /// Of which assignment.
        assignment: Assignment,
        /// With this result.
        outcome: Outcome,
    },
    /// A task could not be done.
    TaskFailed {
        /// Of which assignment.
        assignment: Assignment,
        /// Why.
        reason: String,
    },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make sure the store holds a blob; answer with `Fetched` or `FetchFailed`.
    Fetch {
        /// Which.
        digest: Digest,
        /// What it is, and how large it can be.
        need: Need,
        /// Whom to ask, in this order.
        sources: Vec<Peer>,
    },
    /// Stop fetching a blob; no answer is expected.
    Forget(Digest),
    /// Start a task; answer with `TaskFinished` or `TaskFailed`.
    Run {
        /// Of this assignment.
        assignment: Assignment,
        /// The task.
        task: Task,
    },
    /// Stop the running task between two of its steps; no answer is expected.
    Cancel,
    /// Wait, the longer the more `failures` there were, then say `Retry`.
    RetryAfter {
        /// Of this assignment.
        assignment: Assignment,
        /// Failures in a row, from 1.
        failures: u32,
    },
    /// Tell the orchestrator.
    Report(Report),
}

/// How far the present work has come.
enum Stage {
    /// There is none.
    Idle,
    /// Blobs are missing; of each, how often it could not be fetched.
    Gathering { missing: BTreeMap<Digest, (Need, u32)> },
    /// The task runs.
    Running,
    /// The task failed and will be tried again.
    Failed,
    /// Done, with this to say about it.
    Done(Report),
}

/// Decides what a PNode does. See the module.
pub struct Agent {
    key: Arc<NodeKey>,
    connected: bool,
    work: Work,
    peers: Vec<Peer>,
    stage: Stage,
    assignment: Assignment,
    /// Waits that this work has had, and whether one is under way.
    failures: u32,
    waiting: bool,
    /// Everything the present work has been found to need.
    needed: BTreeMap<Digest, Need>,
    /// Fetches under way, whether or not the present work needs them.
    fetching: BTreeSet<Digest>,
    /// The latest work that was done, with its report.
    finished: Option<(Work, Report)>,
}

impl Agent {
    /// An idle, unconnected agent that signs with `key`.
    pub fn new(key: Arc<NodeKey>) -> Self {
        Self {
            key,
            connected: false,
            work: Work::Idle,
            peers: Vec::new(),
            stage: Stage::Idle,
            assignment: 0,
            failures: 0,
            waiting: false,
            needed: BTreeMap::new(),
            fetching: BTreeSet::new(),
            finished: None,
        }
    }

    /// What this node should be doing now, as far as it knows.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// Takes note of what happened and says what to do about it, in this order.
    pub fn handle(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Connected => self.connected(&mut effects),
            Input::Disconnected => self.connected = false,
            Input::WorkChanged { work, peers } => {
                self.peers = peers;
                if work != self.work {
                    self.adopt(work, &mut effects);
                }
            }
            Input::Fetched { digest, lists } => self.fetched(digest, lists, &mut effects),
            Input::FetchFailed { digest, reason } => self.fetch_failed(digest, reason, &mut effects),
            Input::Retry(assignment) if assignment == self.assignment => self.retry(&mut effects),
            Input::TaskFinished { assignment, outcome } if self.runs(assignment) => {
                let report = self.report_of(outcome);
                self.finish(report, &mut effects);
            }
            Input::TaskFailed { assignment, reason } if self.runs(assignment) => {
                self.stage = Stage::Failed;
                self.fail(reason, &mut effects);
            }
            Input::Retry(_) | Input::TaskFinished { .. } | Input::TaskFailed { .. } => {} // late
        }
        effects
    }

    fn runs(&self, assignment: Assignment) -> bool {
        assignment == self.assignment && matches!(self.stage, Stage::Running)
    }

    /// The orchestrator may never have got the report of work that is done: says it again.
    fn connected(&mut self, effects: &mut Vec<Effect>) {
        self.connected = true;
        if let Stage::Done(report) = &self.stage {
            effects.push(Effect::Report(report.clone()));
        }
    }

    fn adopt(&mut self, work: Work, effects: &mut Vec<Effect>) {
        if matches!(self.stage, Stage::Running) {
            effects.push(Effect::Cancel);
        }
        self.work = work;
        self.assignment += 1;
        self.failures = 0;
        self.waiting = false;
        self.needed = needs::named_by(&self.work);
        self.forget_what_is_not_needed(effects);

        match &self.finished {
            _ if self.work == Work::Idle => self.stage = Stage::Idle,
            Some((work, report)) if *work == self.work => {
                let report = report.clone();
                self.finish(report, effects);
            }
            _ => self.gather(effects),
        }
    }

    /// Fetches of the round that was left are dropped; those of the job go on.
    fn forget_what_is_not_needed(&mut self, effects: &mut Vec<Effect>) {
        let Stage::Gathering { missing } = &self.stage else { return };
        for (digest, (need, _)) in missing {
            let wanted = need.kind.outlives_the_round() || self.needed.contains_key(digest);
            if !wanted && self.fetching.remove(digest) {
                effects.push(Effect::Forget(*digest));
            }
        }
    }

    /// Asks for everything the work names. The store is the shell's to know: what is there
    /// already is answered at once.
    fn gather(&mut self, effects: &mut Vec<Effect>) {
        let missing = self.needed.iter().map(|(digest, need)| (*digest, (*need, 0))).collect();
        self.stage = Stage::Gathering { missing };
        self.fetch_missing(|_| true, effects);
    }

    /// Asks for what is missing and not under way, of those blobs whose number of failed tries
    /// `which` accepts.
    fn fetch_missing(&mut self, which: impl Fn(u32) -> bool, effects: &mut Vec<Effect>) {
        let Stage::Gathering { missing } = &self.stage else { return };
        for (digest, (need, tries)) in missing {
            if which(*tries) && self.fetching.insert(*digest) {
                let sources = self.sources(digest, need.kind);
                effects.push(Effect::Fetch { digest: *digest, need: *need, sources });
            }
        }
    }

    /// Whom to ask for a blob: its maker first, the others from a place in the list that
    /// depends on the blob and on who asks, so that no single peer is asked for everything.
    fn sources(&self, digest: &Digest, kind: BlobKind) -> Vec<Peer> {
        let me = self.key.id();
        let mut sources: Vec<Peer> = self.peers.iter().filter(|peer| peer.node != me).cloned().collect();
        if !sources.is_empty() {
            let start = usize::from(digest.as_bytes()[0] ^ me.0[0]) % sources.len();
            sources.rotate_left(start);
        }
        if let BlobKind::Update(maker) = kind {
            sources.sort_by_key(|peer| peer.node != maker); // stable
        }
        sources
    }

    fn fetched(&mut self, digest: Digest, lists: Vec<(Digest, u64)>, effects: &mut Vec<Effect>) {
        self.fetching.remove(&digest);
        let Stage::Gathering { missing } = &mut self.stage else { return };
        let Some((need, _)) = missing.remove(&digest) else { return };
        if need.kind == BlobKind::Manifest {
            for (part, bytes) in lists {
                let need = Need::checkpoint_part(bytes);
                if !self.needed.contains_key(&part) {
                    self.needed.insert(part, need);
                    missing.insert(part, (need, 0));
                }
            }
        }
        if missing.is_empty() {
            self.run(effects);
        } else {
            // What has failed waits for its retry.
            self.fetch_missing(|tries| tries == 0, effects);
        }
    }

    fn fetch_failed(&mut self, digest: Digest, reason: String, effects: &mut Vec<Effect>) {
        self.fetching.remove(&digest);
        let Stage::Gathering { missing } = &mut self.stage else { return };
        let Some((need, tries)) = missing.get_mut(&digest) else { return };
        *tries += 1;
        let (kind, report_it) = (need.kind, *tries == FETCH_TRIES_BEFORE_REPORT);
        match (kind, &self.work) {
            (BlobKind::Update(contributor), Work::Aggregate(aggregate)) if report_it => {
                let report = missing_report(aggregate, contributor);
                self.finish(report, effects);
            }
            _ if report_it => {
                self.fail(format!("cannot fetch {} blob {digest}: {reason}", name_of(kind)), effects)
            }
            _ => self.wait(effects),
        }
    }

    /// Asks to be woken, once for however many failures until then.
    fn wait(&mut self, effects: &mut Vec<Effect>) {
        if std::mem::replace(&mut self.waiting, true) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        effects.push(Effect::RetryAfter { assignment: self.assignment, failures: self.failures });
    }

    /// Says that the work cannot be done at present, and tries again later.
    fn fail(&mut self, reason: String, effects: &mut Vec<Effect>) {
        let Some((job, round)) = needs::round_of(&self.work) else { return };
        if self.connected {
            effects.push(Effect::Report(Report::Failed { job, round, reason: limits::reason(reason) }));
        }
        self.wait(effects);
    }

    fn retry(&mut self, effects: &mut Vec<Effect>) {
        self.waiting = false;
        match self.stage {
            Stage::Gathering { .. } => self.fetch_missing(|_| true, effects),
            // From the start: what failed the task may be a blob that has since gone.
            Stage::Failed => self.gather(effects),
            Stage::Idle | Stage::Running | Stage::Done(_) => {}
        }
    }

    fn run(&mut self, effects: &mut Vec<Effect>) {
        let task = match self.work.clone() {
            Work::Idle => return,
            Work::Train(window) => Task::Train(window),
            Work::Aggregate(aggregate) => Task::Aggregate(aggregate),
            Work::Evaluate(evaluate) => Task::Evaluate(evaluate),
        };
        self.stage = Stage::Running;
        effects.push(Effect::Run { assignment: self.assignment, task });
    }

    fn finish(&mut self, report: Report, effects: &mut Vec<Effect>) {
        if self.connected {
            effects.push(Effect::Report(report.clone()));
        }
        self.finished = Some((self.work.clone(), report.clone()));
        self.stage = Stage::Done(report);
    }

    fn report_of(&self, outcome: Outcome) -> Report {
        match (outcome, &self.work) {
            (Outcome::Trained(commitment), Work::Train(_)) => {
                Report::Trained(Sealed::seal(&*commitment, &self.key))
            }
            (Outcome::Unusable { contributor }, Work::Aggregate(work)) => missing_report(work, contributor),
            (Outcome::Aggregated { checkpoint }, Work::Aggregate(work)) => Report::Aggregated {
                job: work.job,
                round: work.round,
                attempt: work.attempt,
                checkpoint,
            },
            (Outcome::Evaluated { nats, tokens, bytes }, Work::Evaluate(work)) => Report::Evaluated {
                job: work.job,
                round: work.round,
                shard: work.shard,
                nats_bits: nats.to_bits(),
                tokens,
                bytes,
            },
            (outcome, work) => unreachable!("the outcome {outcome:?} is of another kind than {work:?}"),
        }
    }
}

fn missing_report(&Aggregate { job, round, attempt, .. }: &Aggregate, contributor: NodeId) -> Report {
    Report::Missing { job, round, attempt, contributor }
}

fn name_of(kind: BlobKind) -> &'static str {
    match kind {
        BlobKind::Program => "program",
        BlobKind::Manifest => "checkpoint manifest",
        BlobKind::CheckpointPart => "checkpoint",
        BlobKind::Data => "data",
        BlobKind::Update(_) => "update",
    }
}
