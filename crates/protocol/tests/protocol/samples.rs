//! One fixed value of every message.

use std::net::SocketAddr;

use zoo_content::Digest;
use zoo_protocol::{
    Account, Aggregate, Amendment, Benchmark, Build, Challenge, CheckpointPlan, Commitment, Credential,
    Declaration, Effort, Evaluate, Form, FromOrchestrator, JobDescription, JournalHead, Keep, Link, NodeId,
    NodeKey, NodeProfile, Peer, Profile, RefusedSummand, Rejection, Report, Retirement, Revocation, Role,
    RoundPlan, Sealed, Share, Speeds, Standing, StorageKind, Stretch, Succession, Sum, Summand, Tell,
    ToOrchestrator, Topology, TrainWindow, VNodeUpdate, VerifyWindow, WindowOutcome, Work,
};

pub fn key() -> NodeKey {
    NodeKey::from_seed([7; 32])
}

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn addresses() -> Vec<SocketAddr> {
    vec!["127.0.0.1:4433".parse().unwrap(), "[2001:db8::1]:65535".parse().unwrap()]
}

fn peers() -> Vec<Peer> {
    vec![
        Peer { node: key().id(), addresses: addresses() },
        Peer { node: NodeId([0xee; 32]), addresses: vec![] },
    ]
}

pub fn profile() -> NodeProfile {
    NodeProfile {
        name: "zebra-1".into(),
        threads: 2,
        memory_mib: 8192,
        isa: "avx512".into(),
        speeds: Speeds { f32_exact: 31_000, bf16_exact: 7 },
        region: "eu-west".into(),
        upload_kib_per_s: 640,
        storage: Some(StorageKind::S3),
        software: "0.1.0".into(),
    }
}

pub fn job() -> JobDescription {
    JobDescription {
        network: key().id(),
        name: "demo".into(),
        program: digest("program"),
        profile: Profile::Bf16Exact,
        initial: digest("initial"),
        training_data: digest("training data"),
        held_out_data: digest("held-out data"),
        plan: RoundPlan {
            steps: 240,
            rhythm: vec![
                Stretch { from_step: 0, inner_steps: 1, most_inner_steps: 1 },
                Stretch { from_step: 40, inner_steps: 20, most_inner_steps: 50 },
            ],
            sequences_per_step: 16,
            evaluate_every: 60,
            evaluation_shards: 4,
            minimum_nodes: 2,
            contribution_deadline_ms: 30_000,
            topology: Topology::Tree { fan_in: 32 },
            overlap: true,
            verified_in_1000: 50,
            trust_discount: 4,
        },
        checkpoints: CheckpointPlan {
            redundancy: 3,
            interval: 300,
            keep: 2,
            storage: Some(StorageKind::Ipfs),
        },
        tokens_max: Some(1 << 40),
    }
}

pub fn window() -> TrainWindow {
    TrainWindow {
        network: key().id(),
        job: digest("job"),
        round: 5,
        program: digest("program"),
        profile: Profile::Bf16Exact,
        base: digest("base"),
        data: digest("training data"),
        first_step: 100,
        share: Share { first_sequence: 1 << 33, sequences_per_step: 16, inner_steps: 20 },
        lead: Some(Share { first_sequence: 1 << 32, sequences_per_step: 12, inner_steps: 7 }),
        ahead_steps: 5,
        kept: Some(digest("optimizer in")),
        reveals: Some(4),
    }
}

fn updates() -> Vec<VNodeUpdate> {
    ["embedding", "block.0"]
        .map(|vnode| VNodeUpdate {
            vnode: vnode.into(),
            update: digest(vnode),
            bytes: 1_048_640,
            norm: 70_000,
        })
        .to_vec()
}

pub fn commitment() -> Commitment {
    let outcome = WindowOutcome {
        tokens: 81_920,
        replica_out: digest("optimizer out"),
        steps_root: digest("steps"),
        steps: 20,
        updates: updates(),
        mean_loss_bits: 2.75f64.to_bits(),
    };
    Commitment::new(window(), Some(digest("optimizer in")), outcome, &key())
}

fn reports() -> Vec<Report> {
    let (job, round, attempt) = (digest("job"), 5, 1);
    vec![
        Report::Trained(Sealed::seal(&commitment(), &key())),
        Report::Aggregated {
            job,
            round,
            attempt,
            checkpoint: digest("checkpoint"),
            left_out: vec![],
            alike: vec![key().id()],
        },
        Report::Missing { job, round, attempt, maker: key().id() },
        Report::Evaluated {
            job,
            round,
            shard: 3,
            nats_bits: 1234.5f64.to_bits(),
            tokens: 4096,
            bytes: 13_000,
        },
        Report::Failed { job, round, reason: "no space left\nhint: free some".into() },
        Report::Summed { job, round, attempt, sum: 300, sums: updates() },
        Report::Refused {
            job,
            round,
            attempt,
            summands: [Form::Contribution, Form::Sum(32)]
                .map(|form| RefusedSummand {
                    maker: key().id(),
                    form,
                    first_vnode: 7,
                    reason: "update of vnode head: not canonical: it ends early".into(),
                })
                .into(),
        },
        Report::Kept { job, round, ask: 300 },
        Report::Proved { job, round, nonce: 1 << 40, proof: vec![0, 1, 2, 255] },
        Report::Verified { job, round, maker: key().id(), outcome: digest("outcome") },
        Report::Withheld { job, round, maker: key().id() },
        Report::Unamendable { job, round, attempt },
        Report::Benchmarked { seed: digest("seed"), answer: digest("answer") },
        Tell { network: key().id(), job, round }.answer(&key()),
    ]
}

pub fn works() -> Vec<Work> {
    let (job, round, program) = (digest("job"), 5, digest("program"));
    vec![
        Work::Idle,
        Work::Train(window()),
        Work::Aggregate(Aggregate {
            job,
            round,
            attempt: 1,
            program,
            base: digest("base"),
            data: digest("training data"),
            norm_limits: vec![70_000, 1 << 40],
            summands: vec![Summand { first_vnode: 0, ..summand(Form::Contribution) }],
            step: 120,
            amendments: vec![Amendment {
                round: 3,
                norm_limits: vec![70_000, 1 << 40],
                summands: vec![summand(Form::Sum(32))],
                alike: vec![key().id()],
                withdrawn: vec![],
                withdraws: vec![Summand { first_vnode: 0, ..summand(Form::Contribution) }],
            }],
            is_last: true,
        }),
        Work::Evaluate(Evaluate {
            job,
            round,
            program,
            checkpoint: digest("checkpoint"),
            data: digest("held-out data"),
            shard: 3,
            shards: 4,
        }),
        Work::Verify(VerifyWindow {
            asked_in: 7,
            maker: key().id(),
            window: Box::new(window()),
            replica_in: Some(digest("optimizer in")),
        }),
        Work::Benchmark(Benchmark::first(&digest("draw"), key().id(), Effort::default())),
        Work::Tell(Tell { network: key().id(), job, round }),
        Work::Sum(Sum {
            job,
            round,
            attempt: 1,
            sum: 300,
            program,
            first_vnode: 7,
            vnodes: 2,
            norm_limits: vec![70_000, 1 << 40],
            summands: vec![summand(Form::Contribution), summand(Form::Sum(32))],
        }),
    ]
}

fn keeps() -> Vec<Keep> {
    let challenge = Challenge::of_chunk(1 << 40, digest("vnode"), 1_048_641, 1 << 33);
    [None, Some(challenge)]
        .map(|challenge| Keep {
            job: digest("job"),
            round: 299,
            checkpoint: digest("checkpoint"),
            ask: 7,
            challenge,
        })
        .into()
}

fn summand(form: Form) -> Summand {
    Summand { node: key().id(), form, round: 11, tokens: 81_920, first_vnode: 7, updates: updates() }
}

pub fn credential() -> Credential {
    let build = Build { binary: digest("zoo"), version: "0.1.0".into(), target: "x86_64-linux".into() };
    let (network, node) = (NodeId([0xee; 32]), NodeKey::from_seed([8; 32]).id());
    Credential { network, node, build, valid_from_s: 1_760_000_000, valid_until_s: 1_760_100_000 }
}

pub fn declarations() -> [Declaration; 4] {
    let (network, old, new) = (NodeId([0xee; 32]), NodeKey::from_seed([8; 32]), NodeKey::from_seed([9; 32]));
    let credential = Sealed::seal(&credential(), &key());
    let revocation = Revocation { network, node: old.id(), credential: Credential::id_of(&credential) };
    [
        Succession::declare(network, &old, &new),
        Retirement::declare(network, &old),
        Declaration::Credential(credential),
        Declaration::Revocation(Sealed::seal(&revocation, &key())),
    ]
}

pub fn head() -> JournalHead {
    JournalHead { commands: 7, chain: digest("chain"), root: digest("root") }
}

/// One value of every variant, and of every variant within.
pub fn every_to_orchestrator() -> Vec<ToOrchestrator> {
    let worker = Role::Worker { profile: profile(), addresses: addresses() };
    let mut messages = vec![
        ToOrchestrator::Hello { version: 1, role: worker },
        ToOrchestrator::Hello { version: 1, role: Role::Client },
        ToOrchestrator::Heartbeat {
            step: 17,
            loss_bits: 3.25f32.to_bits(),
            tokens_per_second: 30_500,
            sent_bytes: 1 << 40,
            received_bytes: 77,
        },
        ToOrchestrator::Submit { job: Box::new(job()), blobs: vec![digest("vnode")], addresses: addresses() },
        ToOrchestrator::Watch { from: 300 },
        ToOrchestrator::Leave,
        ToOrchestrator::Measured(Link { upload_kib_per_s: 1_250, rtt_ms: 18 }),
        ToOrchestrator::Probed { node: key().id(), reached: true },
        ToOrchestrator::Journal,
        ToOrchestrator::Evidence(vec![0, 1, 2, 255]),
    ];
    messages.extend(declarations().map(|declaration| ToOrchestrator::Declare(Box::new(declaration))));
    messages.extend(reports().into_iter().map(ToOrchestrator::Report));
    messages
}

/// One value of every variant, and of every variant within.
pub fn every_from_orchestrator() -> Vec<FromOrchestrator> {
    let mut messages = vec![
        FromOrchestrator::Welcome { peers: peers() },
        FromOrchestrator::Rejected(Rejection::Version { ours: 1, theirs: 2 }),
        FromOrchestrator::Rejected(Rejection::Invalid("node name: 65 exceeds the limit of 64".into())),
        FromOrchestrator::Rejected(Rejection::Busy("too many newcomers".into())),
        FromOrchestrator::Accepted(digest("job")),
        FromOrchestrator::Refused("blob is missing".into()),
        FromOrchestrator::Event { sequence: 300, at_ms: 1_760_000_000_000, event: vec![0, 1, 2, 255] },
        FromOrchestrator::NodeStatus {
            node: key().id(),
            step: 17,
            loss_bits: 3.25f32.to_bits(),
            tokens_per_second: 30_500,
            sent_bytes: 1 << 40,
            received_bytes: 77,
        },
        FromOrchestrator::StateRoot(digest("state")),
        FromOrchestrator::Journal {
            head: Sealed::seal(&head(), &key()),
            journal: digest("journal"),
            bytes: 4096,
        },
        FromOrchestrator::CaughtUp,
        FromOrchestrator::Standing(Standing {
            account: Account {
                contributions: 12,
                rounds: 11,
                tokens: 1 << 40,
                verified: 2,
                ..Account::default()
            },
            checked_now: 1,
            barred_through: Some(300),
        }),
        FromOrchestrator::Declared,
        FromOrchestrator::Distrusted("the credential is void".into()),
        FromOrchestrator::Probe(Peer { node: key().id(), addresses: addresses() }),
    ];
    messages.extend(works().into_iter().map(|work| FromOrchestrator::Work { work, peers: peers() }));
    messages.push(FromOrchestrator::Keep { keeps: keeps(), peers: peers() });
    messages
}
