//! What a PNode does next, decided without a clock, a socket or a disk.
//!
//! The [`Agent`] is told what happened ([`Input`]) and answers with what to do
//! ([`Effect`]). It holds one piece of work at a time: it asks for the blobs
//! the work needs, runs the task once all are there, and reports. Being told
//! the same work twice changes nothing; being told other work abandons the
//! present one. The daemon turns effects into I/O, tests and simulations turn
//! them into anything else.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zoo_content::Digest;
use zoo_protocol::{
    Aggregate, NodeId, NodeKey, Peer, RefusedSummand, Report, Sealed, Sum, Summand, VerifyWindow, Work,
    limits,
};

use crate::keeping::Keeping;
use crate::needs::{BlobKind, Need};

mod exchange;
mod keeping;
pub mod needs;
pub mod rounds;
mod swarm;

pub use exchange::{Assignment, Effect, Input, Outcome, Task};

/// A blob that could not be fetched so often is reported; the agent goes on trying all the same.
pub const FETCH_TRIES_BEFORE_REPORT: u32 = 3;

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
    /// The network that it has joined: what is asked in the name of another one is refused.
    network: NodeId,
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
    keeping: Keeping,
}

impl Agent {
    /// An idle, unconnected agent that signs with `key`, for `network` and no other.
    pub fn new(key: Arc<NodeKey>, network: NodeId) -> Self {
        Self {
            key,
            network,
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
            keeping: Keeping::default(),
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
                if *work != self.work {
                    self.adopt(*work, &mut effects);
                }
            }
            Input::KeepsChanged { keeps, peers } => {
                self.keeping.told(keeps, peers, &mut effects);
                let unwanted = self.keeping.unwanted().into_iter();
                let forgotten = unwanted.filter(|digest| !self.fetching.contains(digest));
                effects.extend(forgotten.map(Effect::Forget));
                self.keeping.fetch(&self.key.id(), &mut effects);
            }
            Input::RetryKeep => {
                self.keeping.retry();
                self.keeping.fetch(&self.key.id(), &mut effects);
            }
            Input::Proved { job, round, nonce, proof } => {
                effects.push(Effect::Report(Report::Proved { job, round, nonce, proof }));
            }
            Input::Fetched { digest, lists } => self.fetched(digest, lists, &mut effects),
            Input::FetchFailed { digest, reason, wrong } => {
                self.fetch_failed(digest, reason, wrong, &mut effects);
            }
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

        if let Some(report) = self.foreign() {
            return self.finish(report, effects);
        }
        if let Work::Tell(tell) = &self.work {
            let report = tell.answer(&self.key);
            return self.finish(report, effects);
        }
        match &self.finished {
            _ if self.work == Work::Idle => self.stage = Stage::Idle,
            Some((work, report)) if *work == self.work => {
                let report = report.clone();
                self.finish(report, effects);
            }
            _ => self.gather(effects),
        }
    }

    /// What to say of work that names another network. What this node signs, and the secrets that it tells, would count there: whoever asks
    /// may have neither.
    fn foreign(&self) -> Option<Report> {
        let (what, network) = match &self.work {
            Work::Train(window) => ("window", window.network),
            Work::Verify(work) => ("window", work.window.network),
            Work::Tell(tell) => ("secret", tell.network),
            Work::Idle | Work::Aggregate(_) | Work::Sum(_) | Work::Evaluate(_) | Work::Benchmark(_) => {
                return None;
            }
        };
        let (job, round) = needs::round_of(&self.work).filter(|_| network != self.network)?;
        let (named, joined) = (network.short(), self.network.short());
        let reason =
            format!("the {what} is of the network of {named}, and this node has joined that of {joined}");
        Some(Report::Failed { job, round, reason: limits::reason(reason) })
    }

    /// Fetches of the round that was left are dropped; those of the job go on.
    fn forget_what_is_not_needed(&mut self, effects: &mut Vec<Effect>) {
        let Stage::Gathering { missing } = &self.stage else { return };
        for (digest, (need, _)) in missing {
            let wanted = need.kind.outlives_the_round() || self.needed.contains_key(digest);
            if !wanted && self.fetching.remove(digest) && !self.keeping.wants(digest) {
                effects.push(Effect::Forget(*digest));
            }
        }
    }

    /// Asks for everything the work names. The store is the shell's to know: what is there
    /// already is answered at once.
    fn gather(&mut self, effects: &mut Vec<Effect>) {
        let missing: BTreeMap<_, _> =
            self.needed.iter().map(|(digest, need)| (*digest, (*need, 0))).collect();
        if missing.is_empty() {
            return self.run(effects);
        }
        self.stage = Stage::Gathering { missing };
        self.fetch_missing(|_| true, effects);
    }

    /// Asks for what is missing and not under way, of those blobs whose number of failed tries
    /// `which` accepts.
    fn fetch_missing(&mut self, which: impl Fn(u32) -> bool, effects: &mut Vec<Effect>) {
        let Stage::Gathering { missing } = &self.stage else { return };
        let me = self.key.id();
        for (digest, (need, tries)) in swarm::in_turn(&me, missing.clone()) {
            if which(tries) && self.fetching.insert(digest) {
                let sources = swarm::sources(&me, &digest, need.kind.maker(), &self.peers);
                effects.push(Effect::Fetch { digest, need, sources });
            }
        }
    }

    fn fetched(&mut self, digest: Digest, lists: Vec<(Digest, u64)>, effects: &mut Vec<Effect>) {
        self.fetching.remove(&digest);
        self.keeping.fetched(digest, &lists, effects);
        self.keeping.fetch(&self.key.id(), effects);
        let Stage::Gathering { missing } = &mut self.stage else { return };
        let Some((need, _)) = missing.remove(&digest) else { return };
        if need.kind == BlobKind::Manifest {
            for (part, bytes) in lists {
                let need = Need::checkpoint_part(bytes);
                if let Entry::Vacant(unknown) = self.needed.entry(part) {
                    unknown.insert(need);
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

    fn fetch_failed(
        &mut self,
        digest: Digest,
        reason: String,
        wrong: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        self.fetching.remove(&digest);
        self.keeping.failed(&digest, effects);
        let Stage::Gathering { missing } = &mut self.stage else { return };
        // One missing blob is reason enough: the others are not reported one by one.
        let reported = missing.values().any(|(_, tries)| *tries >= FETCH_TRIES_BEFORE_REPORT);
        let Some((need, tries)) = missing.get_mut(&digest) else { return };
        *tries += 1;
        let (kind, report) = (need.kind, !reported && *tries >= FETCH_TRIES_BEFORE_REPORT);
        match (kind, &self.work) {
            _ if !report => self.wait(effects),
            (BlobKind::Update(maker), Work::Aggregate(Aggregate { job, round, attempt, .. }))
            | (BlobKind::Update(maker), Work::Sum(Sum { job, round, attempt, .. })) => {
                let (job, round, attempt) = (*job, *round, *attempt);
                let refused = wrong.and_then(|wrong| self.summand_with(&digest, maker, &wrong));
                let report = match refused {
                    Some(refused) => Report::Refused { job, round, attempt, summands: vec![refused] },
                    None => Report::Missing { job, round, attempt, maker },
                };
                self.finish(report, effects);
            }
            (BlobKind::Amended(_), Work::Aggregate(Aggregate { job, round, attempt, .. })) => {
                let (job, round, attempt) = (*job, *round, *attempt);
                self.finish(Report::Unamendable { job, round, attempt }, effects);
            }
            (BlobKind::Replica(_), Work::Verify(VerifyWindow { maker, window, .. })) => {
                let (job, round, maker) = (window.job, window.round, *maker);
                self.finish(Report::Withheld { job, round, maker }, effects);
            }
            _ => self.fail(format!("cannot fetch {} blob {digest}: {reason}", name_of(kind)), effects),
        }
    }

    /// The summand of the present work that `maker` made and that has this blob.
    fn summand_with(&self, blob: &Digest, maker: NodeId, wrong: &str) -> Option<RefusedSummand> {
        let summands = match &self.work {
            Work::Aggregate(work) => &work.summands,
            Work::Sum(work) => &work.summands,
            _ => return None,
        };
        let has_blob = |given: &&Summand| given.updates.iter().any(|update| update.update == *blob);
        let found = summands.iter().filter(|given| given.node == maker).find(has_blob)?;
        let reason = limits::reason(format!("its blob {} {wrong}", blob.short()));
        Some(RefusedSummand { maker, form: found.form, first_vnode: found.first_vnode, reason })
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
            Work::Idle | Work::Tell(_) => return,
            Work::Train(window) => Task::Train(window),
            Work::Aggregate(aggregate) => Task::Aggregate(aggregate),
            Work::Evaluate(evaluate) => Task::Evaluate(evaluate),
            Work::Sum(sum) => Task::Sum(sum),
            Work::Verify(verification) => Task::Verify(verification),
            Work::Benchmark(benchmark) => Task::Benchmark(benchmark),
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
            (Outcome::Refused { summands }, Work::Aggregate(Aggregate { job, round, attempt, .. }))
            | (Outcome::Refused { summands }, Work::Sum(Sum { job, round, attempt, .. })) => {
                Report::Refused { job: *job, round: *round, attempt: *attempt, summands }
            }
            (Outcome::Summed { sums }, Work::Sum(work)) => {
                let Sum { job, round, attempt, sum, .. } = *work;
                Report::Summed { job, round, attempt, sum, sums }
            }
            (Outcome::Aggregated { checkpoint, left_out, alike }, Work::Aggregate(work)) => {
                let Aggregate { job, round, attempt, .. } = *work;
                Report::Aggregated { job, round, attempt, checkpoint, left_out, alike }
            }
            (Outcome::Verified { outcome }, Work::Verify(VerifyWindow { maker, window, .. })) => {
                Report::Verified { job: window.job, round: window.round, maker: *maker, outcome }
            }
            // Who is measured says nothing that another could repeat; who checks says the answer.
            (Outcome::Benchmarked { answer }, Work::Benchmark(work)) => {
                let is_mine = work.node == self.key.id();
                let answer = if is_mine { work.pledge(&answer) } else { answer };
                Report::Benchmarked { seed: work.seed, answer }
            }
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

fn name_of(kind: BlobKind) -> &'static str {
    match kind {
        BlobKind::Program => "program",
        BlobKind::Manifest => "checkpoint manifest",
        BlobKind::CheckpointPart => "checkpoint",
        BlobKind::Data => "data",
        BlobKind::Update(_) | BlobKind::Amended(_) => "update",
        BlobKind::Replica(_) => "replica state",
        BlobKind::KeptManifest | BlobKind::KeptPart => "kept checkpoint",
    }
}
