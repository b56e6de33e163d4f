//! A network without a network, for measuring and testing what looks at one.

use anyhow::{Result, bail};
use zoo_content::Digest;
use zoo_orchestrator::journal::Entry;
use zoo_protocol::{
    Aggregate, CheckpointPlan, Commitment, Evaluate, JobDescription, NodeKey, NodeProfile, Profile, Report,
    RoundPlan, Sealed, Speeds, Sum, Topology, TrainWindow, VNodeUpdate, VerifyWindow, WindowOutcome, Work,
    encode,
};
use zoo_state::{Command, LossCause, State};

/// Between two commands, ms.
const COMMAND_MS: u64 = 20;
/// A node leaves, or comes back, after so many commands.
const LEAVE_EVERY: u64 = 500;

/// Nodes that do what the state asks of them, and now and then one that leaves and comes back.
pub struct Network {
    /// What all commands so far led to.
    pub state: State,
    nodes: Vec<NodeKey>,
    commands: u64,
    turn: usize,
    away: Option<usize>,
}

impl Network {
    /// Nodes that will join, and a job that does not end.
    pub fn new(nodes: u32) -> Self {
        let key = |number: u32| NodeKey::from_seed(*Digest::of(&number.to_le_bytes()).as_bytes());
        let nodes = (0..nodes).map(key).collect();
        Self { state: State::new(), nodes, commands: 0, turn: 0, away: None }
    }

    /// The next command, applied.
    pub fn next(&mut self) -> Result<Entry> {
        self.commands += 1;
        let now_ms = 1_700_000_000_000 + self.commands * COMMAND_MS;
        let joined = self.state.nodes().len();
        let command = if joined < self.nodes.len() {
            self.join(joined, now_ms)
        } else if self.state.running().is_none() {
            Command::JobSubmitted { job: job(), now_ms }
        } else if self.commands.is_multiple_of(LEAVE_EVERY) && self.nodes.len() > 1 {
            match self.away.take() {
                Some(node) => self.join(node, now_ms),
                None => {
                    let node = self.turn % self.nodes.len();
                    self.away = Some(node);
                    let cause = LossCause::Disconnected;
                    Command::NodeLost { node: self.nodes[node].id(), cause, now_ms }
                }
            }
        } else {
            let (node, report) = self.report()?;
            Command::Reported { node: self.nodes[node].id(), report, now_ms }
        };
        Ok(Entry { events: self.state.apply(&command)?, command })
    }

    fn join(&self, node: usize, now_ms: u64) -> Command {
        let profile = NodeProfile {
            name: format!("node-{node}"),
            threads: 8,
            memory_mib: 16_384,
            isa: "avx2".into(),
            speeds: Speeds { f32_exact: 10_000, bf16_exact: 10_000 },
            region: String::new(),
            upload_kib_per_s: 0,
            storage: None,
            software: env!("CARGO_PKG_VERSION").into(),
        };
        Command::NodeJoined { node: self.nodes[node].id(), profile, addresses: Vec::new(), now_ms }
    }

    /// What the next node in turn that has something to do reports of it.
    fn report(&mut self) -> Result<(usize, Report)> {
        for _ in 0..=self.nodes.len() {
            let node = self.turn % self.nodes.len();
            self.turn += 1;
            let key = &self.nodes[node];
            if self.state.activity_of(&key.id()).is_busy()
                && let Some(report) = self.report_of(key)
            {
                return Ok((node, report));
            }
        }
        bail!("nobody has anything to do")
    }

    fn report_of(&self, key: &NodeKey) -> Option<Report> {
        Some(match self.state.work_for(&key.id()) {
            Work::Idle | Work::Benchmark(_) => return None,
            Work::Tell(tell) => tell.answer(key),
            Work::Train(window) => Report::Trained(Sealed::seal(&commitment(window, key), key)),
            Work::Sum(Sum { job, round, attempt, sum, first_vnode, vnodes, .. }) => {
                let sums =
                    (first_vnode..first_vnode + vnodes).map(|vnode| update(vnode, (round, 0))).collect();
                Report::Summed { job, round, attempt, sum, sums }
            }
            Work::Aggregate(Aggregate { job, round, attempt, .. }) => {
                let checkpoint = Digest::of(&encode(&(job, round)));
                Report::Aggregated {
                    job,
                    round,
                    attempt,
                    checkpoint,
                    left_out: Vec::new(),
                    alike: Vec::new(),
                }
            }
            Work::Evaluate(Evaluate { job, round, shard, .. }) => {
                let nats_bits = 1000f64.to_bits();
                Report::Evaluated { job, round, shard, nats_bits, tokens: 500, bytes: 2000 }
            }
            Work::Verify(VerifyWindow { maker, window, .. }) => {
                let (job, round) = (window.job, window.round);
                let outcome = commitment(*window, key).outcome.digest();
                Report::Verified { job, round, maker, outcome }
            }
        })
    }
}

fn job() -> JobDescription {
    let digest = Digest::of(b"bench");
    JobDescription {
        network: NodeKey::from_seed([42; 32]).id(),
        name: "bench".into(),
        program: digest,
        profile: Profile::F32Exact,
        initial: digest,
        training_data: digest,
        held_out_data: digest,
        plan: RoundPlan {
            steps: 20 << 20,
            rhythm: RoundPlan::constant(20),
            sequences_per_step: 8,
            evaluate_every: 80,
            evaluation_shards: 8,
            minimum_nodes: 1,
            contribution_deadline_ms: 1 << 40,
            topology: Topology::Auto,
            overlap: false,
            verified_in_1000: 50,
            trust_discount: 4,
        },
        checkpoints: CheckpointPlan::default(),
        tokens_max: None,
    }
}

fn commitment(window: TrainWindow, key: &NodeKey) -> Commitment {
    let (round, sequence) = (window.round, window.share.first_sequence);
    let outcome = WindowOutcome {
        tokens: window.share.sequences() * 256,
        replica_out: Digest::of(b"optimizer"),
        steps_root: Digest::of(b"steps"),
        steps: window.share.inner_steps,
        updates: (0..8).map(|vnode| update(vnode, (round, sequence))).collect(),
        mean_loss_bits: (2.0 + 8.0 / (1.0 + f64::from(round))).to_bits(),
    };
    Commitment::new(window, None, outcome, key)
}

fn update(vnode: u32, of: (u32, u64)) -> VNodeUpdate {
    let update = Digest::of(&encode(&(vnode, of)));
    VNodeUpdate { vnode: format!("block.{vnode}"), update, bytes: 50_000, norm: 1 << 20 }
}
