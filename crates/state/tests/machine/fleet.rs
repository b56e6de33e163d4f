//! A fleet in memory: nodes that follow [`State::work_for`], and a host that journals.

use std::collections::BTreeSet;

use zoo_content::Digest;
use zoo_content::slice::{CHUNK_BYTES, Outline};
use zoo_protocol::{
    Aggregate, Benchmark, Challenge, CheckpointPlan, Commitment, Declaration, Evaluate, JobDescription,
    JobId, Keep, NodeId, NodeKey, NodeProfile, Profile, Report, RoundPlan, Sealed, Share, Speeds,
    StorageKind, Sum, Summand, Topology, TrainWindow, VNodeUpdate, VerifyWindow, WindowOutcome, Work, encode,
};
use zoo_state::{Command, Event, JobStatus, LossCause, Phase, Refusal, State, invariants};

pub const DEADLINE_MS: u64 = 1_000_000;
pub const SEQUENCE_TOKENS: u64 = 64;

pub struct Fleet {
    pub state: State,
    /// Accepted commands.
    pub log: Vec<Command>,
    /// Events of all accepted commands.
    pub events: Vec<Event>,
    pub now_ms: u64,
    nodes: Vec<SimNode>,
}

struct SimNode {
    storage: Option<StorageKind>,
    key: NodeKey,
    /// Update blobs it can serve.
    blobs: BTreeSet<Digest>,
}

pub fn plan() -> RoundPlan {
    RoundPlan {
        steps: 6,
        rhythm: RoundPlan::constant(3),
        sequences_per_step: 4,
        evaluate_every: 3,
        evaluation_shards: 3,
        minimum_nodes: 2,
        contribution_deadline_ms: DEADLINE_MS,
        topology: Topology::Auto,
        overlap: false,
        verified_in_1000: 0,
        trust_discount: 4,
    }
}

/// The network that every fleet is, by a key that is no node's.
pub fn network() -> NodeId {
    NodeKey::from_seed([200; 32]).id()
}

pub fn job(name: &str, plan: RoundPlan) -> JobDescription {
    JobDescription {
        network: network(),
        name: name.into(),
        program: Digest::of(b"program"),
        profile: Profile::F32Exact,
        initial: Digest::of(b"initial"),
        training_data: Digest::of(b"training data"),
        held_out_data: Digest::of(b"held-out data"),
        plan,
        checkpoints: CheckpointPlan::default(),
        tokens_max: None,
    }
}

impl Fleet {
    /// Nodes are numbered in the order of their ids; none has joined.
    pub fn new(nodes: usize) -> Self {
        let mut keys: Vec<_> = (1..=nodes as u8).map(|seed| NodeKey::from_seed([seed; 32])).collect();
        keys.sort_by_key(NodeKey::id);
        let nodes =
            keys.into_iter().map(|key| SimNode { storage: None, key, blobs: BTreeSet::new() }).collect();
        Fleet { state: State::new(), log: Vec::new(), events: Vec::new(), now_ms: 1_000, nodes }
    }

    /// All nodes have joined and a job of this plan runs.
    pub fn running(nodes: usize, plan: RoundPlan) -> Self {
        let mut fleet = Self::new(nodes);
        (0..nodes).for_each(|node| fleet.join(node));
        fleet.submit("job", plan);
        fleet
    }

    /// Applies and journals, and checks what has to hold for every command.
    pub fn apply(&mut self, command: Command) -> Result<Vec<Event>, Refusal> {
        let before = self.state.clone();
        let outcome = self.state.apply(&command);
        match &outcome {
            Ok(events) => {
                assert_eq!(invariants::check(&self.state), Ok(()), "after {command:?}");
                self.events.extend(events.iter().cloned());
                self.log.push(command);
            }
            Err(refusal) => {
                assert_eq!(self.state, before, "a refused command changed the state: {refusal}");
                let text = refusal.to_string();
                assert!(!text.is_empty() && !text.starts_with(char::is_uppercase), "{text}");
            }
        }
        outcome
    }

    pub fn id(&self, node: usize) -> NodeId {
        self.nodes[node].key.id()
    }

    pub fn ids(&self, nodes: impl IntoIterator<Item = usize>) -> Vec<NodeId> {
        nodes.into_iter().map(|node| self.id(node)).collect()
    }

    pub fn key(&self, node: usize) -> &NodeKey {
        &self.nodes[node].key
    }

    pub fn is_live(&self, node: usize) -> bool {
        self.state.nodes().get(&self.id(node)).is_some_and(|node| node.live)
    }

    /// When it joins the next time, the node stores what it keeps in this.
    pub fn give_storage(&mut self, node: usize, storage: StorageKind) {
        self.nodes[node].storage = Some(storage);
    }

    pub fn join(&mut self, node: usize) {
        self.join_in(node, "");
    }

    pub fn join_in(&mut self, node: usize, region: &str) {
        let storage = self.nodes[node].storage;
        let command = Command::NodeJoined {
            node: self.id(node),
            profile: NodeProfile { region: region.into(), storage, ..profile(&format!("node {node}")) },
            addresses: vec![format!("127.0.0.1:{}", 4000 + node).parse().unwrap()],
            now_ms: self.now_ms,
        };
        self.apply(command).unwrap();
    }

    /// It joins, and says that it runs this.
    pub fn join_with(&mut self, node: usize, software: &str) {
        let profile = NodeProfile { software: software.into(), ..profile(&format!("node {node}")) };
        let (id, now_ms) = (self.id(node), self.now_ms);
        self.apply(Command::NodeJoined { node: id, profile, addresses: vec![], now_ms }).unwrap();
    }

    /// The host says which network it is, and whose word counts.
    pub fn name_network(&mut self, operators: &[NodeId]) {
        let operators = operators.to_vec();
        self.apply(Command::NetworkNamed { network: network(), operators, now_ms: self.now_ms }).unwrap();
    }

    pub fn declare(&mut self, declaration: Declaration) -> Result<Vec<Event>, Refusal> {
        self.apply(Command::Declared { declaration, now_ms: self.now_ms })
    }

    /// The node has this key from now on.
    pub fn take_key(&mut self, node: usize, key: NodeKey) {
        self.nodes[node].key = key;
    }

    pub fn lose(&mut self, node: usize) {
        let cause = LossCause::Disconnected;
        self.apply(Command::NodeLost { node: self.id(node), cause, now_ms: self.now_ms }).unwrap();
    }

    /// The node's disk is lost.
    pub fn wipe(&mut self, node: usize) {
        self.nodes[node].blobs.clear();
    }

    pub fn tick(&mut self, ms: u64) {
        self.now_ms += ms;
        self.apply(Command::Tick { now_ms: self.now_ms }).unwrap();
    }

    pub fn submit(&mut self, name: &str, plan: RoundPlan) -> JobId {
        self.submit_description(job(name, plan))
    }

    pub fn submit_description(&mut self, job: JobDescription) -> JobId {
        let id = job.id();
        self.apply(Command::JobSubmitted { job, now_ms: self.now_ms }).unwrap();
        id
    }

    pub fn report(&mut self, node: usize, report: Report) -> Result<Vec<Event>, Refusal> {
        self.apply(Command::Reported { node: self.id(node), report, now_ms: self.now_ms })
    }

    pub fn work(&self, node: usize) -> Work {
        self.state.work_for(&self.id(node))
    }

    pub fn window(&self, node: usize) -> TrainWindow {
        match self.work(node) {
            Work::Train(window) => window,
            other => panic!("node {node} does not train but: {other:?}"),
        }
    }

    pub fn aggregate(&self, node: usize) -> Aggregate {
        match self.work(node) {
            Work::Aggregate(aggregate) => aggregate,
            other => panic!("node {node} does not aggregate but: {other:?}"),
        }
    }

    pub fn shard(&self, node: usize) -> Evaluate {
        match self.work(node) {
            Work::Evaluate(evaluate) => evaluate,
            other => panic!("node {node} does not evaluate but: {other:?}"),
        }
    }

    /// What an honest node commits to for the window that it has.
    pub fn commitment(&self, node: usize) -> Commitment {
        commitment(self.window(node), self.key(node))
    }

    pub fn seal(&self, node: usize, commitment: &Commitment) -> Report {
        Report::Trained(Sealed::seal(commitment, self.key(node)))
    }

    /// What an honest node reports about its current work; empty if it has none.
    pub fn honest_reports(&mut self, node: usize) -> Vec<Report> {
        match self.work(node) {
            Work::Idle => Vec::new(),
            Work::Benchmark(benchmark) => vec![answered(&benchmark, self.id(node))],
            Work::Tell(tell) => vec![tell.answer(self.key(node))],
            Work::Train(window) => {
                let commitment = commitment(window, self.key(node));
                self.nodes[node].blobs.extend(commitment.outcome.updates.iter().map(|update| update.update));
                vec![self.seal(node, &commitment)]
            }
            Work::Aggregate(aggregate) => self.aggregate_honestly(node, &aggregate),
            Work::Evaluate(evaluate) => vec![score(&evaluate)],
            Work::Sum(sum) => self.sum_honestly(node, &sum),
            Work::Verify(VerifyWindow { maker, window, replica_in, .. }) => {
                let outcome = outcome(&window, replica_in).digest();
                vec![Report::Verified { job: window.job, round: window.round, maker, outcome }]
            }
        }
    }

    fn aggregate_honestly(&mut self, node: usize, aggregate: &Aggregate) -> Vec<Report> {
        let Aggregate { job, round, attempt, ref summands, .. } = *aggregate;
        let missing = self.missing(node, summands);
        if !missing.is_empty() {
            return missing.into_iter().map(|maker| Report::Missing { job, round, attempt, maker }).collect();
        }
        let fetched = summands.iter().flat_map(|given| given.updates.iter().map(|update| update.update));
        self.nodes[node].blobs.extend(fetched);
        vec![Report::Aggregated {
            job,
            round,
            attempt,
            checkpoint: checkpoint(aggregate),
            left_out: vec![],
            alike: vec![],
        }]
    }

    fn sum_honestly(&mut self, node: usize, work: &Sum) -> Vec<Report> {
        let Sum { job, round, attempt, sum, ref summands, .. } = *work;
        if let Some(maker) = self.missing(node, summands).pop() {
            return vec![Report::Missing { job, round, attempt, maker }];
        }
        let sums = sums(work);
        self.nodes[node].blobs.extend(sums.iter().map(|sum| sum.update));
        vec![Report::Summed { job, round, attempt, sum, sums }]
    }

    /// Who made what the node cannot get from anybody who is there.
    fn missing(&self, node: usize, summands: &[Summand]) -> Vec<NodeId> {
        let reachable: BTreeSet<Digest> = (0..self.nodes.len())
            .filter(|other| *other == node || self.is_live(*other))
            .flat_map(|other| self.nodes[other].blobs.iter().copied())
            .collect();
        let is_missing =
            |given: &&Summand| !given.updates.iter().all(|update| reachable.contains(&update.update));
        summands.iter().filter(is_missing).map(|given| given.node).collect()
    }

    /// The node does its current work honestly and reports it. Something it has to report may have
    /// become void by what it reported just before, and is refused then.
    pub fn step(&mut self, node: usize) {
        for report in self.honest_reports(node) {
            if let Err(refusal) = self.report(node, report) {
                assert!(matches!(refusal, Refusal::NotAssigned { .. }), "{refusal}");
            }
        }
    }

    /// The node has everything that it is asked to keep, and says so.
    pub fn keep(&mut self, node: usize) {
        for Keep { job, round, ask, .. } in self.state.keeps_for(&self.id(node)) {
            if let Err(refusal) = self.report(node, Report::Kept { job, round, ask }) {
                assert!(matches!(refusal, Refusal::NotAssigned { .. }), "{refusal}");
            }
        }
    }

    /// The holder is challenged to prove a part of a blob of 5,000 bytes of the newest checkpoint; gives the proof, which is
    /// reported at once if a place is given.
    pub fn challenge(&mut self, node: usize, nonce: u64, place: Option<u64>) -> Result<Vec<u8>, Refusal> {
        let blob = vec![7; 5_000];
        let (job, round) = self.newest();
        let challenge = Challenge::of_chunk(nonce, Digest::of(&blob), 5_000, place.unwrap_or(3));
        let command = Command::Challenged { node: self.id(node), job, round, challenge, now_ms: self.now_ms };
        self.apply(command)?;
        let part = challenge.offset..challenge.offset + u64::from(challenge.length);
        let proof = Outline::of(&blob, CHUNK_BYTES).prove(part, |at| &blob[at]);
        if place.is_some() {
            self.prove(node, nonce, proof.clone())?;
        }
        Ok(proof)
    }

    pub fn prove(&mut self, node: usize, nonce: u64, proof: Vec<u8>) -> Result<Vec<Event>, Refusal> {
        let (job, round) = self.newest();
        self.report(node, Report::Proved { job, round, nonce, proof })
    }

    fn newest(&self) -> (JobId, u32) {
        let (job, round, _) = self.state.checkpoints().iter().last().expect("a checkpoint");
        (*job, round)
    }

    /// Who keeps the newest checkpoint of the newest job.
    pub fn keepers(&self) -> Vec<usize> {
        let (_, _, newest) = self.state.checkpoints().iter().last().expect("a checkpoint");
        (0..self.nodes.len()).filter(|node| newest.keepers.contains_key(&self.id(*node))).collect()
    }

    /// Every node does the work it has at its turn, once.
    pub fn sweep(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.step(node));
    }

    /// Sweeps until the job is over or the sweeps are used up; says whether it is over.
    pub fn finish(&mut self, job: &JobId, sweeps_max: usize) -> bool {
        for _ in 0..sweeps_max {
            if matches!(self.state.job_status(job), Some(JobStatus::Over(_))) {
                return true;
            }
            self.sweep();
        }
        matches!(self.state.job_status(job), Some(JobStatus::Over(_)))
    }

    pub fn phase(&self) -> &Phase {
        &self.state.running().expect("a job runs").phase
    }

    /// The events since the last call.
    pub fn news(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

/// What a node says of a benchmark that comes to its seed's digest.
pub fn answered(benchmark: &Benchmark, node: NodeId) -> Report {
    let answer = Digest::of(benchmark.seed.as_bytes());
    let answer = if benchmark.node == node { benchmark.pledge(&answer) } else { answer };
    Report::Benchmarked { seed: benchmark.seed, answer }
}

pub fn profile(name: &str) -> NodeProfile {
    NodeProfile {
        name: name.into(),
        threads: 2,
        memory_mib: 4096,
        isa: "avx2".into(),
        speeds: Speeds { f32_exact: 10_000, bf16_exact: 7 },
        region: String::new(),
        upload_kib_per_s: 0,
        storage: None,
        software: "0.1.0".into(),
    }
}

/// What an honest node commits to: a function of the window, whatever the job is called.
pub fn commitment(window: TrainWindow, key: &NodeKey) -> Commitment {
    let replica_in = window.kept;
    let outcome = outcome(&window, replica_in);
    Commitment::new(window, replica_in, outcome, key)
}

/// What comes of a window.
pub fn outcome(window: &TrainWindow, replica_in: Option<Digest>) -> WindowOutcome {
    let work = encode(&(TrainWindow { job: Digest::of(b"any"), ..window.clone() }, replica_in));
    let digest = |what: &str| Digest::of(&[what.as_bytes(), &work].concat());
    let updates = ["embedding", "block.0", "head"].map(|vnode| VNodeUpdate {
        vnode: vnode.into(),
        update: digest(vnode),
        bytes: 1_000,
        norm: 1 << 20,
    });
    let lead = window.lead.filter(|_| replica_in.is_some());
    let shares: Vec<Share> = lead.into_iter().chain([window.share]).collect();
    WindowOutcome {
        tokens: shares.iter().map(|share| share.sequences() * SEQUENCE_TOKENS).sum(),
        replica_out: digest("optimizer"),
        steps_root: digest("steps"),
        steps: shares.iter().map(|share| share.inner_steps).sum(),
        updates: updates.into(),
        mean_loss_bits: (4.0 / (1.0 + f64::from(window.round))).to_bits(),
    }
}

/// What an honest node aggregates to: a function of the contributions, whichever attempt and tree it is.
pub fn checkpoint(aggregate: &Aggregate) -> Digest {
    Digest::of(&encode(&(aggregate.round, aggregate.base, combined(&aggregate.summands))))
}

/// What an honest node adds up to.
pub fn sums(work: &Sum) -> Vec<VNodeUpdate> {
    let names = work.summands[0].updates.iter().map(|update| &update.vnode);
    let places = work.first_vnode..work.first_vnode + work.vnodes;
    names
        .zip(places)
        .map(|(vnode, place)| {
            let update = combined_at(&work.summands, place);
            VNodeUpdate { vnode: vnode.clone(), update, bytes: 2_000, norm: 0 }
        })
        .collect()
}

/// For every VNode something that depends on which contributions stand behind the summands, and not on how they came together:
/// their digests, exclusive-ored. What is added twice is as if it were not there.
fn combined(summands: &[Summand]) -> Vec<Digest> {
    let end = summands.iter().map(|summand| summand.first_vnode + summand.updates.len() as u32).max();
    (0..end.unwrap_or(0)).map(|place| combined_at(summands, place)).collect()
}

fn combined_at(summands: &[Summand], place: u32) -> Digest {
    let mut combined = [0; 32];
    for summand in summands {
        let update = place.checked_sub(summand.first_vnode).and_then(|at| summand.updates.get(at as usize));
        let bytes = update.iter().flat_map(|update| update.update.as_bytes());
        combined.iter_mut().zip(bytes).for_each(|(all, byte)| *all ^= byte);
    }
    Digest::from_bytes(combined)
}

/// What an honest node scores: shard i has (i + 1) * 1.5 nats over 10 tokens of 40 bytes.
pub fn score(evaluate: &Evaluate) -> Report {
    let Evaluate { job, round, shard, .. } = *evaluate;
    let nats = f64::from(shard + 1) * 1.5;
    Report::Evaluated { job, round, shard, nats_bits: nats.to_bits(), tokens: 10, bytes: 40 }
}
