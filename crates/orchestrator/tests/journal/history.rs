//! A network at work, without a network: every node does what the state asks of it.

use std::path::Path;

use zoo_content::Digest;
use zoo_orchestrator::journal::{Entry, Journal};
use zoo_protocol::{
    Commitment, JobDescription, NodeKey, NodeProfile, Profile, Report, RoundPlan, Sealed, Speeds,
    TrainWindow, VNodeUpdate, WindowOutcome, Work, encode,
};
use zoo_state::{Command, State};

pub struct History {
    pub state: State,
    now_ms: u64,
    nodes: Vec<NodeKey>,
    turn: usize,
}

impl History {
    /// Nodes that will join, and a job that outlasts every test.
    pub fn new(nodes: u8) -> Self {
        let nodes = (1..=nodes).map(|seed| NodeKey::from_seed([seed; 32])).collect();
        Self { state: State::new(), now_ms: 1_000, nodes, turn: 0 }
    }

    /// The next so many commands.
    pub fn entries(&mut self, count: u64) -> Vec<Entry> {
        (0..count).map(|_| self.next()).collect()
    }

    /// Appends as many commands as are missing to `commands`, in batches.
    pub async fn write_until(&mut self, journal: &mut Journal, commands: u64, batch: u64) {
        while journal.commands() < commands {
            let entries = self.entries(batch.min(commands - journal.commands()));
            journal.append(&entries, &self.state).await.unwrap();
        }
    }

    /// A new journal of so many commands.
    pub async fn write(&mut self, path: &Path, commands: u64) {
        let (mut journal, _) = Journal::open(path).await.unwrap();
        self.write_until(&mut journal, commands, 7).await;
        journal.close().await.unwrap();
    }

    fn next(&mut self) -> Entry {
        self.now_ms += 10;
        let now_ms = self.now_ms;
        let (joined, all) = (self.state.nodes().len(), self.nodes.len());
        let command = if joined < all {
            Command::NodeJoined {
                node: self.nodes[joined].id(),
                profile: profile(),
                addresses: vec![],
                now_ms,
            }
        } else if self.state.running().is_none() {
            Command::JobSubmitted { job: job(all as u32), now_ms }
        } else {
            let (node, report) = self.report();
            Command::Reported { node: self.nodes[node].id(), report, now_ms }
        };
        Entry { events: self.state.apply(&command).unwrap(), command }
    }

    /// What the next node in turn that has work reports of it.
    fn report(&mut self) -> (usize, Report) {
        loop {
            let node = self.turn % self.nodes.len();
            self.turn += 1;
            let key = &self.nodes[node];
            let report = match self.state.work_for(&key.id()) {
                Work::Train(window) => Report::Trained(Sealed::seal(&commitment(window, key), key)),
                Work::Aggregate(work) => Report::Aggregated {
                    job: work.job,
                    round: work.round,
                    attempt: work.attempt,
                    checkpoint: Digest::of(&encode(&(work.job, work.round))),
                    left_out: Vec::new(),
                    alike: Vec::new(),
                },
                Work::Evaluate(work) => Report::Evaluated {
                    job: work.job,
                    round: work.round,
                    shard: work.shard,
                    nats_bits: 15f64.to_bits(),
                    tokens: 10,
                    bytes: 40,
                },
                _ => continue,
            };
            return (node, report);
        }
    }
}

pub fn profile() -> NodeProfile {
    NodeProfile {
        name: "n".into(),
        threads: 1,
        memory_mib: 1,
        isa: "scalar".into(),
        speeds: Speeds { f32_exact: 1, bf16_exact: 7 },
        region: String::new(),
        upload_kib_per_s: 0,
        storage: None,
        software: "test".into(),
    }
}

fn job(minimum_nodes: u32) -> JobDescription {
    let digest = Digest::of(b"blob");
    JobDescription {
        network: NodeKey::from_seed([42; 32]).id(),
        name: "long".into(),
        program: digest,
        profile: Profile::F32Exact,
        initial: digest,
        training_data: digest,
        held_out_data: digest,
        plan: RoundPlan {
            steps: 1 << 20,
            rhythm: RoundPlan::constant(1),
            sequences_per_step: 1,
            evaluate_every: 2,
            evaluation_shards: 2,
            minimum_nodes,
            contribution_deadline_ms: 1_000_000,
            topology: Default::default(),
            overlap: false,
            verified_in_1000: 0,
            trust_discount: 4,
        },
        checkpoints: Default::default(),
        tokens_max: None,
    }
}

fn commitment(window: TrainWindow, key: &NodeKey) -> Commitment {
    let update = Digest::of(&encode(&window));
    let outcome = WindowOutcome {
        tokens: u64::from(window.share.inner_steps) * u64::from(window.share.sequences_per_step) * 64,
        replica_out: Digest::of(b"optimizer"),
        steps_root: Digest::of(b"steps"),
        steps: window.share.inner_steps,
        updates: vec![VNodeUpdate { vnode: "head".into(), update, bytes: 1_000, norm: 9 }],
        mean_loss_bits: 3f64.to_bits(),
    };
    Commitment::new(window, None, outcome, key)
}
