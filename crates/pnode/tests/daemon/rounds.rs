//! Whole rounds: the bits must be those of all replicas in one process.

use std::ops::ControlFlow;

use zoo_content::Digest;
use zoo_protocol::{Aggregate, Evaluate, Form, Peer, Report, Sum, Summand, TrainWindow, Work};
use zoo_training::{Evaluation, LocalJob, Part, equal_shares, evaluate};

use crate::orchestrator::{Conversation, Job, Node, Orchestrator, report, tell, trained};

const SEQUENCES_PER_STEP: u32 = 4;
const INNER_STEPS: u32 = 3;

fn shares(replicas: usize, round: u32) -> Vec<zoo_training::Share> {
    let first = u64::from(round) * replicas as u64 * u64::from(SEQUENCES_PER_STEP * INNER_STEPS);
    equal_shares(replicas, first, SEQUENCES_PER_STEP, INNER_STEPS)
}

/// Half of the VNodes added by the first node, the others by the second.
async fn sums(
    job: &Job,
    nodes: &mut [(Peer, Conversation)],
    peers: &[Peer],
    round: u32,
    norm_limits: &[u64],
    contributions: Vec<Summand>,
) -> Vec<Summand> {
    let (vnodes, tokens) = (contributions[0].updates.len(), contributions.iter().map(|it| it.tokens).sum());
    let mut sums = Vec::new();
    for (at, part) in [0..vnodes / 2, vnodes / 2..vnodes].into_iter().enumerate() {
        let part_of = |given: &Summand| Summand {
            first_vnode: part.start as u32,
            updates: given.updates[part.clone()].to_vec(),
            ..given.clone()
        };
        let work = Sum {
            job: Job::id(),
            round,
            attempt: 0,
            sum: at as u32,
            program: job.spec.digest(),
            first_vnode: part.start as u32,
            vnodes: part.len() as u32,
            norm_limits: norm_limits[part.clone()].to_vec(),
            summands: contributions.iter().map(part_of).collect(),
        };
        let (peer, conversation) = &mut nodes[at];
        tell(conversation, Work::Sum(work), peers).await;
        let Report::Summed { sum, sums: updates, .. } = report(conversation).await else {
            panic!("not summed")
        };
        assert_eq!((sum, updates.len()), (at as u32, part.len()));
        let form = Form::Sum(contributions.len() as u32);
        sums.push(Summand { node: peer.node, form, round, tokens, first_vnode: part.start as u32, updates });
    }
    sums
}

/// One round on every node, which begins from what it kept and keeps something for the next; returns the checkpoint that all of them
/// report.
async fn round(
    job: &Job,
    nodes: &mut [(Peer, Conversation)],
    peers: &[Peer],
    kept: &mut [Option<Digest>],
    round: u32,
    base: Digest,
) -> Digest {
    let shares = shares(nodes.len(), round);
    for (((_, conversation), share), kept) in nodes.iter_mut().zip(&shares).zip(kept.iter()) {
        let window = TrainWindow { kept: *kept, ..job.window(round, base, *share) };
        tell(conversation, Work::Train(window), peers).await;
    }
    let mut summands = Vec::new();
    for ((peer, conversation), kept) in nodes.iter_mut().zip(kept) {
        let commitment = trained(conversation).await;
        assert_eq!(commitment.replica_in, *kept, "the replica's state is carried on");
        *kept = Some(commitment.outcome.replica_out);
        let (tokens, updates) = (commitment.outcome.tokens, commitment.outcome.updates);
        summands.push(Summand {
            node: peer.node,
            form: Form::Contribution,
            round,
            tokens,
            first_vnode: 0,
            updates,
        });
    }
    let norms = |given: &Summand| given.updates.iter().map(|update| update.norm).collect();
    let norm_limits = zoo_training::norm_limits(&summands.iter().map(norms).collect::<Vec<_>>());
    // From the second round on over partial sums: the bits must be those of the first way.
    if round > 0 {
        summands = sums(job, nodes, peers, round, &norm_limits, summands).await;
    }
    let aggregate = Aggregate {
        job: Job::id(),
        round,
        attempt: 0,
        program: job.spec.digest(),
        base,
        data: job.data.digest(),
        norm_limits,
        summands,
        step: u64::from((round + 1) * INNER_STEPS),
        amendments: Vec::new(),
        is_last: false,
    };
    let mut checkpoints = Vec::new();
    for (_, conversation) in nodes.iter_mut() {
        tell(conversation, Work::Aggregate(aggregate.clone()), peers).await;
    }
    for (_, conversation) in nodes.iter_mut() {
        match report(conversation).await {
            Report::Aggregated { checkpoint, attempt: 0, .. } => checkpoints.push(checkpoint),
            other => panic!("not aggregated: {other:?}"),
        }
    }
    checkpoints.dedup();
    assert_eq!(checkpoints.len(), 1, "every node has the same bits");
    checkpoints[0]
}

async fn evaluated(
    job: &Job,
    nodes: &mut [(Peer, Conversation)],
    peers: &[Peer],
    checkpoint: Digest,
) -> Evaluation {
    let shards = nodes.len() as u32;
    for ((_, conversation), shard) in nodes.iter_mut().zip(0..) {
        let (program, data) = (job.spec.digest(), job.data.digest());
        let work = Evaluate { job: Job::id(), round: 2, program, checkpoint, data, shard, shards };
        tell(conversation, Work::Evaluate(work), peers).await;
    }
    let mut sum = Evaluation::default();
    for (_, conversation) in nodes.iter_mut() {
        match report(conversation).await {
            Report::Evaluated { nats_bits, tokens, bytes, .. } => {
                sum += Evaluation { nats: f64::from_bits(nats_bits), tokens, bytes }
            }
            other => panic!("not evaluated: {other:?}"),
        }
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_over_the_network_have_the_bits_of_one_process() {
    const NODES: usize = 3;
    let job = Job::new();
    let mut orchestrator = Orchestrator::start().await;
    job.save(orchestrator.store.as_ref());
    let daemons: Vec<Node> = (0..NODES).map(|_| Node::start(orchestrator.endpoint.ticket())).collect();
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(orchestrator.welcome().await);
    }
    let mut peers: Vec<Peer> = nodes.iter().map(|(peer, _)| peer.clone()).collect();
    peers.push(orchestrator.endpoint.peer());

    let mut local = LocalJob::new(&job.spec, &job.data, NODES).unwrap();
    let (mut base, mut kept, mut remembered) = (job.base, [None; NODES], None);
    for at in 0..3 {
        base = round(&job, &mut nodes, &peers, &mut kept, at, base).await;
        let shares: Vec<_> = shares(NODES, at).into_iter().map(Some).collect();
        local.round(&shares, 0, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let mut expected = local.checkpoint().clone();
        // Sums say nothing of single contributions: what is remembered stays what the first round left.
        let memories = expected.vnodes.iter().map(|vnode| vnode.memory.clone());
        let memories = remembered.get_or_insert_with(|| memories.collect::<Vec<_>>());
        let vnodes = expected.vnodes.iter_mut().zip(memories);
        vnodes.for_each(|(vnode, memory)| vnode.memory = memory.clone());
        assert_eq!(base, Digest::of(&expected.manifest().to_bytes()), "round {at}");
    }

    let distributed = evaluated(&job, &mut nodes, &peers, base).await;
    let network = local.checkpoint().network(&job.spec).unwrap();
    let whole = evaluate(&network, &job.data, Part { shard: 0, shards: 1, batch_windows: 4 }).unwrap();
    assert_eq!(distributed, whole);

    for daemon in daemons {
        daemon.shut_down().await.1.unwrap();
    }
}
