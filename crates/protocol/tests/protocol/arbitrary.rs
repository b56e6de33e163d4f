//! Arbitrary messages within the limits.

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;
use zoo_content::Digest;
use zoo_protocol::{
    Account, Aggregate, Amendment, Benchmark, Build, CREDENTIAL_VALID_S_MAX, CREDENTIAL_VALID_S_MIN,
    Challenge, CheckpointPlan, Commitment, Credential, Declaration, Effort, Evaluate, Form, FromOrchestrator,
    JobDescription, JournalHead, Keep, Link, NodeId, NodeKey, NodeProfile, Peer, Profile, RefusedSummand,
    Rejection, Report, Retirement, Revocation, Role, RoundPlan, Sealed, Share, Speeds, Standing, StorageKind,
    Stretch, Succession, Sum, Summand, Tell, ToOrchestrator, Topology, TrainWindow, VNodeUpdate,
    VerifyWindow, WindowOutcome, Work, limits,
};

use crate::samples::key;

fn any_digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn any_node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 32]>().prop_map(NodeId)
}

fn any_addresses() -> impl Strategy<Value = Vec<SocketAddr>> {
    // What does not name a host elsewhere (flow label, scope) does not travel.
    vec(any::<(IpAddr, u16)>().prop_map(SocketAddr::from), 0..=limits::MAX_ADDRESSES)
}

fn any_peers() -> impl Strategy<Value = Vec<Peer>> {
    vec((any_node(), any_addresses()).prop_map(|(node, addresses)| Peer { node, addresses }), 0..5)
}

prop_compose! {
    fn any_profile()(
        name in "\\PC{0,16}",
        threads: u16,
        memory_mib: u64,
        isa in "[a-z0-9]{0,8}",
        [f32_exact, bf16_exact]: [u32; 2],
        region in "[a-z]{0,8}",
        upload_kib_per_s: u32,
        storage in any_storage(),
        software in "[0-9.]{0,9}",
    ) -> NodeProfile {
        let speeds = Speeds { f32_exact, bf16_exact };
        NodeProfile { name, threads, memory_mib, isa, speeds, region, upload_kib_per_s, storage, software }
    }
}

fn any_storage() -> impl Strategy<Value = Option<StorageKind>> {
    proptest::option::of(prop::sample::select(StorageKind::ALL.to_vec()))
}

fn any_numeric_profile() -> impl Strategy<Value = Profile> {
    prop::sample::select(Profile::ALL.to_vec())
}

fn any_topology() -> impl Strategy<Value = Topology> {
    prop_oneof![
        Just(Topology::Auto),
        Just(Topology::AllGather),
        Just(Topology::Star),
        (2..=256u32).prop_map(|fan_in| Topology::Tree { fan_in }),
    ]
}

fn any_rhythm() -> impl Strategy<Value = Vec<Stretch>> {
    let stretch = (1..=u32::MAX >> 7, 1..=u32::MAX, 0..=u32::MAX);
    prop::collection::vec(stretch, 1..64).prop_map(|stretches| {
        let mut from_step = 0;
        let stretch = |(length, inner_steps, more): (u32, u32, u32)| {
            let from = from_step;
            from_step += u64::from(length);
            Stretch { from_step: from, inner_steps, most_inner_steps: inner_steps.saturating_add(more) }
        };
        stretches.into_iter().map(stretch).collect()
    })
}

prop_compose! {
    fn any_job()(
        name in "\\PC{0,16}",
        blobs in [any_digest(), any_digest(), any_digest(), any_digest()],
        numbers in [1..=u32::MAX, 1..=4096u32, 1..=u32::MAX],
        [steps, evaluate_every] in [1..=u64::MAX, 1..=u64::MAX],
        rhythm in any_rhythm(),
        contribution_deadline_ms in 1..=u64::MAX,
        profile in any_numeric_profile(),
        topology in any_topology(),
        (redundancy, interval, keep) in (1..=64u32, 1..=u32::MAX, 0..=64u32),
        tokens_max in proptest::option::of(1..=u64::MAX),
        overlap: bool,
        (verified_in_1000, trust_discount) in (0..=1000u32, 1..=16u32),
        network in any_node(),
        storage in any_storage(),
    ) -> JobDescription {
        let [program, initial, training_data, held_out_data] = blobs;
        let [sequences_per_step, evaluation_shards, minimum_nodes] = numbers;
        let plan = RoundPlan {
            steps, rhythm, sequences_per_step, evaluate_every, evaluation_shards, minimum_nodes,
            contribution_deadline_ms, topology, overlap, verified_in_1000, trust_discount,
        };
        let checkpoints = CheckpointPlan { redundancy, interval, keep, storage };
        JobDescription { network, name, program, profile, initial, training_data, held_out_data, plan, checkpoints, tokens_max }
    }
}

prop_compose! {
    fn any_window()(
        [job, program, base, data] in [any_digest(), any_digest(), any_digest(), any_digest()],
        (network, round) in (any_node(), any::<u32>()),
        first_step: u64,
        first_sequence: u64,
        sequences_per_step in 1..=u32::MAX,
        inner_steps in 1u32..1 << 30,
        lead in prop::option::of((any::<u64>(), 1..=u32::MAX, 1u32..1 << 30)),
        ahead_steps in 0u32..1 << 30,
        profile in any_numeric_profile(),
        kept in prop::option::of(any_digest()),
        reveals in prop::option::of(any::<u32>()),
    ) -> TrainWindow {
        let share = Share { first_sequence, sequences_per_step, inner_steps };
        let lead = lead.map(|(first_sequence, sequences_per_step, inner_steps)| Share { first_sequence, sequences_per_step, inner_steps });
        TrainWindow { network, job, round, program, profile, base, data, first_step, share, lead, ahead_steps, kept, reveals }
    }
}

fn any_updates() -> impl Strategy<Value = Vec<VNodeUpdate>> {
    let update = ("[a-z.0-9]{0,20}", any_digest(), 0..=zoo_content::MAX_BLOB_BYTES, any::<u64>());
    vec(update.prop_map(|(vnode, update, bytes, norm)| VNodeUpdate { vnode, update, bytes, norm }), 0..6)
}

prop_compose! {
    pub fn any_commitment()(
        work in any_window(),
        tokens: u64,
        replica_in in proptest::option::of(any_digest()),
        [replica_out, steps_root] in [any_digest(), any_digest()],
        steps: u32,
        updates in any_updates(),
        mean_loss_bits: u64,
        seed: [u8; 32],
    ) -> Commitment {
        let outcome = WindowOutcome { tokens, replica_out, steps_root, steps, updates, mean_loss_bits };
        Commitment::new(work, replica_in, outcome, &NodeKey::from_seed(seed))
    }
}

fn any_work() -> impl Strategy<Value = Work> {
    let summands = || vec(any_summand(), 0..3);
    let amendment = (any::<u32>(), any_limits(), vec(any_node(), 0..3), summands(), summands(), summands())
        .prop_map(|(round, norm_limits, alike, summands, withdrawn, withdraws)| Amendment {
            round,
            norm_limits,
            alike,
            summands,
            withdrawn,
            withdraws,
        });
    let amendments = vec(amendment, 0..3);
    let aggregate = (any_window(), any::<u32>(), any_limits(), summands(), amendments, any::<bool>())
        .prop_map(|(window, attempt, norm_limits, summands, amendments, is_last)| {
            let TrainWindow { job, round, program, base, data, first_step, .. } = window;
            Work::Aggregate(Aggregate {
                job,
                round,
                attempt,
                program,
                base,
                data,
                norm_limits,
                summands,
                step: first_step,
                amendments,
                is_last,
            })
        });
    let evaluate =
        (any_window(), 1..=4096u32, any::<prop::sample::Index>()).prop_map(|(window, shards, shard)| {
            let TrainWindow { job, round, program, base: checkpoint, data, .. } = window;
            let shard = shard.index(shards as usize) as u32;
            Work::Evaluate(Evaluate { job, round, program, checkpoint, data, shard, shards })
        });
    let sum = (any_window(), any::<[u32; 3]>(), 6..=4096u32, any_limits(), vec(any_summand(), 0..4))
        .prop_map(|(window, [attempt, sum, first_vnode], vnodes, norm_limits, summands)| {
            let TrainWindow { job, round, program, .. } = window;
            Work::Sum(Sum { job, round, attempt, sum, program, first_vnode, vnodes, norm_limits, summands })
        });
    let verify = (any_window(), any::<u32>(), any_node(), prop::option::of(any_digest())).prop_map(
        |(window, asked_in, maker, replica_in)| {
            Work::Verify(VerifyWindow { asked_in, maker, window: Box::new(window), replica_in })
        },
    );
    let benchmark = (any_node(), any_digest(), [0..=1u32 << 16, 1..=1 << 16, 1..=1 << 20, 1..=16]).prop_map(
        |(node, draw, [products, steps, area_mib, passes])| {
            let effort = Effort { products, steps, area_mib, passes };
            Work::Benchmark(Benchmark::first(&draw, node, effort))
        },
    );
    let train = any_window().prop_map(Work::Train);
    let tell = (any_node(), any_digest(), any::<u32>())
        .prop_map(|(network, job, round)| Work::Tell(Tell { network, job, round }));
    prop_oneof![Just(Work::Idle), train, aggregate, evaluate, sum, verify, benchmark, tell]
}

fn any_limits() -> impl Strategy<Value = Vec<u64>> {
    vec(any::<u64>(), 0..6)
}

prop_compose! {
    fn any_summand()(
        node in any_node(),
        form in prop_oneof![Just(Form::Contribution), any::<u32>().prop_map(Form::Sum)],
        round: u32,
        tokens: u64,
        first_vnode: u32,
        updates in any_updates(),
    ) -> Summand {
        Summand { node, form, round, tokens, first_vnode, updates }
    }
}

fn any_refused() -> impl Strategy<Value = RefusedSummand> {
    let form = prop_oneof![Just(Form::Contribution), any::<u32>().prop_map(Form::Sum)];
    (any_node(), form, any::<u32>(), any::<String>()).prop_map(|(maker, form, first_vnode, text)| {
        RefusedSummand { maker, form, first_vnode, reason: limits::reason(text) }
    })
}

fn any_report() -> impl Strategy<Value = Report> {
    let place = || (any_digest(), any::<u32>(), any::<u32>());
    prop_oneof![
        any_commitment().prop_map(|commitment| Report::Trained(Sealed::seal(&commitment, &key()))),
        (place(), any_digest(), vec(any_node(), 0..3), vec(any_node(), 0..3)).prop_map(
            |((job, round, attempt), checkpoint, left_out, alike)| Report::Aggregated {
                job,
                round,
                attempt,
                checkpoint,
                left_out,
                alike
            }
        ),
        (place(), any_node()).prop_map(|((job, round, attempt), maker)| Report::Missing {
            job,
            round,
            attempt,
            maker
        }),
        (place(), any::<u32>(), any_updates()).prop_map(|((job, round, attempt), sum, sums)| {
            Report::Summed { job, round, attempt, sum, sums }
        }),
        (place(), vec(any_refused(), 0..4)).prop_map(|((job, round, attempt), summands)| {
            Report::Refused { job, round, attempt, summands }
        }),
        (place(), any::<[u64; 3]>()).prop_map(|((job, round, shard), [nats_bits, tokens, bytes])| {
            Report::Evaluated { job, round, shard, nats_bits, tokens, bytes }
        }),
        (place(), any::<String>()).prop_map(|((job, round, _), text)| Report::Failed {
            job,
            round,
            reason: limits::reason(text)
        }),
        place().prop_map(|(job, round, ask)| Report::Kept { job, round, ask }),
        (place(), any_node(), any_digest()).prop_map(|((job, round, _), maker, outcome)| Report::Verified {
            job,
            round,
            maker,
            outcome
        }),
        (place(), any_node()).prop_map(|((job, round, _), maker)| Report::Withheld { job, round, maker }),
        place().prop_map(|(job, round, attempt)| Report::Unamendable { job, round, attempt }),
        [any_digest(), any_digest()].prop_map(|[seed, answer]| Report::Benchmarked { seed, answer }),
        (place(), any_node(), any::<[u8; 32]>()).prop_map(|((job, round, _), network, seed)| {
            Tell { network, job, round }.answer(&NodeKey::from_seed(seed))
        }),
        (place(), any::<u64>(), vec(any::<u8>(), 0..100))
            .prop_map(|((job, round, _), nonce, proof)| Report::Proved { job, round, nonce, proof }),
    ]
}

prop_compose! {
    fn any_keep()(
        [job, checkpoint, blob] in [any_digest(), any_digest(), any_digest()],
        [round, ask] in any::<[u32; 2]>(),
        [nonce, place] in any::<[u64; 2]>(),
        bytes in 0..=zoo_content::MAX_BLOB_BYTES,
        challenged: bool,
    ) -> Keep {
        let challenge = challenged.then(|| Challenge::of_chunk(nonce, blob, bytes, place));
        Keep { job, round, checkpoint, ask, challenge }
    }
}

prop_compose! {
    fn any_credential()(
        (network, node) in (any_node(), any_node()),
        binary in any_digest(),
        [version, target] in ["[a-z0-9._-]{0,64}", "[a-z0-9._-]{0,64}"],
        valid_from_s: u32,
        valid_s in CREDENTIAL_VALID_S_MIN..=CREDENTIAL_VALID_S_MAX,
    ) -> Credential {
        let (valid_from_s, build) = (valid_from_s.into(), Build { binary, version, target });
        Credential { network, node, build, valid_from_s, valid_until_s: valid_from_s + valid_s }
    }
}

fn any_declaration() -> impl Strategy<Value = Declaration> {
    let seeds = || any::<[[u8; 32]; 2]>().prop_map(|seeds| seeds.map(NodeKey::from_seed));
    prop_oneof![
        (any_node(), seeds()).prop_map(|(network, [old, new])| Succession::declare(network, &old, &new)),
        (any_node(), seeds()).prop_map(|(network, [key, _])| Retirement::declare(network, &key)),
        any_credential().prop_map(|credential| Declaration::Credential(Sealed::seal(&credential, &key()))),
        (any_node(), any_node(), any_digest()).prop_map(|(network, node, credential)| {
            Declaration::Revocation(Sealed::seal(&Revocation { network, node, credential }, &key()))
        }),
    ]
}

pub fn any_to_orchestrator() -> impl Strategy<Value = ToOrchestrator> {
    let worker =
        (any_profile(), any_addresses()).prop_map(|(profile, addresses)| Role::Worker { profile, addresses });
    let role = prop_oneof![worker, Just(Role::Client)];
    prop_oneof![
        (any::<u16>(), role).prop_map(|(version, role)| ToOrchestrator::Hello { version, role }),
        any::<([u32; 3], [u64; 2])>().prop_map(
            |([step, loss_bits, tokens_per_second], [sent_bytes, received_bytes])| {
                ToOrchestrator::Heartbeat { step, loss_bits, tokens_per_second, sent_bytes, received_bytes }
            }
        ),
        any_report().prop_map(ToOrchestrator::Report),
        (any_job(), vec(any_digest(), 0..9), any_addresses()).prop_map(|(job, blobs, addresses)| {
            ToOrchestrator::Submit { job: Box::new(job), blobs, addresses }
        }),
        any::<u64>().prop_map(|from| ToOrchestrator::Watch { from }),
        Just(ToOrchestrator::Leave),
        Just(ToOrchestrator::Journal),
        any_declaration().prop_map(|declaration| ToOrchestrator::Declare(Box::new(declaration))),
        vec(any::<u8>(), 0..100).prop_map(ToOrchestrator::Evidence),
        (any_node(), any::<bool>()).prop_map(|(node, reached)| ToOrchestrator::Probed { node, reached }),
        any::<[u64; 2]>().prop_map(|[upload, rtt]| ToOrchestrator::Measured(Link::new(upload, rtt))),
    ]
}

pub fn any_from_orchestrator() -> impl Strategy<Value = FromOrchestrator> {
    let rejection = prop_oneof![
        any::<[u16; 2]>().prop_map(|[ours, theirs]| Rejection::Version { ours, theirs }),
        any::<String>().prop_map(|text| Rejection::Invalid(limits::reason(text))),
        any::<String>().prop_map(|text| Rejection::Busy(limits::reason(text))),
    ];
    prop_oneof![
        any_peers().prop_map(|peers| FromOrchestrator::Welcome { peers }),
        rejection.prop_map(FromOrchestrator::Rejected),
        (any_work(), any_peers()).prop_map(|(work, peers)| FromOrchestrator::Work { work, peers }),
        any_digest().prop_map(FromOrchestrator::Accepted),
        any::<String>().prop_map(|text| FromOrchestrator::Refused(limits::reason(text))),
        any::<(u64, u64, Vec<u8>)>().prop_map(|(sequence, at_ms, event)| FromOrchestrator::Event {
            sequence,
            at_ms,
            event
        }),
        (any_node(), any::<[u32; 3]>(), any::<[u64; 2]>()).prop_map(
            |(node, [step, loss_bits, tokens_per_second], [sent_bytes, received_bytes])| {
                FromOrchestrator::NodeStatus {
                    node,
                    step,
                    loss_bits,
                    tokens_per_second,
                    sent_bytes,
                    received_bytes,
                }
            }
        ),
        any_digest().prop_map(FromOrchestrator::StateRoot),
        (any_digest(), any_digest(), any::<[u64; 2]>()).prop_map(|(chain, journal, [commands, bytes])| {
            let head = JournalHead { commands, chain, root: journal };
            FromOrchestrator::Journal { head: Sealed::seal(&head, &key()), journal, bytes }
        }),
        Just(FromOrchestrator::CaughtUp),
        (any::<[u64; 11]>(), any::<u32>(), any::<Option<u32>>()).prop_map(
            |(counts, checked_now, barred_through)| {
                let [contributions, rounds, tokens, missed, aggregations, shards, faults, ..] = counts;
                let [.., verified, verifications, withdrawn, convictions] = counts;
                let account = Account {
                    contributions,
                    rounds,
                    tokens,
                    missed,
                    aggregations,
                    shards,
                    faults,
                    verified,
                    verifications,
                    withdrawn,
                    convictions,
                };
                FromOrchestrator::Standing(Standing { account, checked_now, barred_through })
            }
        ),
        Just(FromOrchestrator::Declared),
        any::<String>().prop_map(|text| FromOrchestrator::Distrusted(limits::reason(text))),
        (vec(any_keep(), 0..4), any_peers())
            .prop_map(|(keeps, peers)| FromOrchestrator::Keep { keeps, peers }),
    ]
}
