//! Journals of small networks, honest and not, and what an audit of them says.

use std::ops::ControlFlow;

use zoo_audit::{Auditor, Checked, Deed, Extent, JobError, Tally, Verdict};
use zoo_content::{BlobStore, Digest, MemoryStore, StoreError, VerifiedBlob};
use zoo_model::preset;
use zoo_protocol::{
    CheckpointPlan, Commitment, JobDescription, NodeKey, NodeProfile, Report, RoundPlan, Sealed, Speeds,
    Topology, VNodeUpdate, VerifyWindow, Work,
};
use zoo_state::{Command, Outcome, State};
use zoo_tasks::{Added, Aggregated, AtHand};
use zoo_training::{Dataset, SparseSettings, Trainer, TrainingSpec, UpdateFormat};

const NODES: usize = 4;
const ROUNDS: u32 = 3;
const STEPS: u32 = 4;

/// What a node reports, given what it ought to: round, node, report.
type Lie = fn(u32, usize, Report) -> Report;

/// A job that was trained, and what is left of it.
struct Trained {
    description: JobDescription,
    journal: Vec<Command>,
    /// Program, data, and the checkpoint it began with.
    evidence: MemoryStore,
    /// All that was made.
    blobs: MemoryStore,
    checkpoint: Digest,
}

fn key(node: usize) -> NodeKey {
    NodeKey::from_seed([node as u8 + 1; 32])
}

/// A network of four that trains a tiny model with sparse updates and overlap.
fn train(topology: Topology, lie: Lie) -> Trained {
    let sparse = UpdateFormat::Sparse(SparseSettings::default());
    let spec = TrainingSpec {
        update: sparse,
        ..TrainingSpec::new(preset::by_name("qwen3-tiny").expect("a preset"))
    };
    let text = |start: u32| (start..start + 12_000).map(|at| at * at % 251).collect::<Vec<u32>>();
    let dataset = |tokens: Vec<u32>| Dataset::encode(256, &tokens, tokens.len() as u64).expect("bytes");
    let (data, held_out) = (dataset(text(0)), dataset(text(50_000)));
    let (evidence, blobs) = (MemoryStore::new(), MemoryStore::new());
    let first = Trainer::new(spec.clone(), &data).expect("it fits").checkpoint();
    let description = JobDescription {
        network: NodeKey::from_seed([42; 32]).id(),
        name: "audited".into(),
        program: evidence.put(&spec.to_bytes()).unwrap(),
        profile: spec.profile,
        initial: first.save(&evidence).unwrap(),
        training_data: data.digest(),
        held_out_data: held_out.digest(),
        plan: RoundPlan {
            steps: u64::from(ROUNDS * STEPS),
            rhythm: RoundPlan::constant(STEPS),
            sequences_per_step: 2,
            evaluate_every: u64::from(STEPS),
            evaluation_shards: 2,
            minimum_nodes: 2,
            contribution_deadline_ms: 1_000_000,
            topology,
            overlap: true,
            verified_in_1000: 600,
            trust_discount: 4,
        },
        checkpoints: CheckpointPlan::default(),
        tokens_max: None,
    };
    evidence.keep(data.blob()).unwrap();
    evidence.keep(held_out.blob()).unwrap();
    for name in evidence.list().unwrap() {
        blobs.keep(&evidence.get(&name).unwrap()).unwrap();
    }
    let (mut state, mut journal, mut now_ms) = (State::new(), Vec::new(), 1_000);
    let mut apply = |state: &mut State, command: Command| {
        state.apply(&command).unwrap_or_else(|cause| panic!("{command:?}: {cause}"));
        journal.push(command);
    };
    for node in 0..NODES {
        let addresses = vec![format!("127.0.0.1:{}", 4000 + node).parse().unwrap()];
        let (id, profile) = (key(node).id(), profile(format!("node {node}")));
        apply(&mut state, Command::NodeJoined { node: id, profile, addresses, now_ms });
    }
    apply(&mut state, Command::JobSubmitted { job: description.clone(), now_ms });
    while state.running().is_some() {
        assert!(now_ms < 1_000_000, "the job gets nowhere: {:?}", state.running());
        for node in 0..NODES {
            let round = state.running().map_or(0, |running| running.round);
            let work = state.work_for(&key(node).id());
            let Some(honest) = report(&blobs, &work, &key(node)) else { continue };
            now_ms += 100;
            let report = lie(round, node, honest);
            apply(&mut state, Command::Reported { node: key(node).id(), report, now_ms });
        }
        now_ms += 100;
        apply(&mut state, Command::Tick { now_ms });
    }
    let over = state.finished().next().expect("it is over");
    let Outcome::Finished { checkpoint } = over.outcome else { panic!("{:?}", over.outcome) };
    Trained { description, journal, evidence, blobs, checkpoint }
}

fn profile(name: String) -> NodeProfile {
    NodeProfile {
        name,
        threads: 1,
        memory_mib: 1024,
        isa: "avx2".into(),
        speeds: Speeds { f32_exact: 100, bf16_exact: 100 },
        region: String::new(),
        upload_kib_per_s: 0,
        storage: None,
        software: "test".into(),
    }
}

/// Does what a node is asked.
fn report(blobs: &MemoryStore, work: &Work, key: &NodeKey) -> Option<Report> {
    let mut at_hand = AtHand::default();
    match work {
        Work::Idle | Work::Benchmark(_) => None,
        Work::Tell(tell) => Some(tell.answer(key)),
        Work::Train(window) => {
            let on = &mut |_: &_| ControlFlow::Continue(());
            let replica_in = window.kept.filter(|state| blobs.contains(state));
            let trained = zoo_tasks::train(blobs, &mut at_hand, window, replica_in, None, on).unwrap();
            trained.updates.iter().chain([&trained.replica]).for_each(|blob| blobs.keep(blob).unwrap());
            let commitment = Commitment::new(window.clone(), replica_in, trained.outcome, key);
            Some(Report::Trained(Sealed::seal(&commitment, key)))
        }
        Work::Verify(VerifyWindow { maker, window, replica_in, .. }) => {
            let on = &mut |_: &_| ControlFlow::Continue(());
            let trained = zoo_tasks::train(blobs, &mut at_hand, window, *replica_in, None, on).unwrap();
            let outcome = trained.outcome.digest();
            Some(Report::Verified { job: window.job, round: window.round, maker: *maker, outcome })
        }
        Work::Sum(work) => {
            let Added::Is(sums) = zoo_tasks::sum(blobs, work).unwrap() else { panic!("refused") };
            sums.iter().for_each(|(_, blob)| blobs.keep(blob).unwrap());
            let sum = |(vnode, blob): (String, VerifiedBlob)| VNodeUpdate {
                vnode,
                update: blob.digest(),
                bytes: blob.len() as u64,
                norm: 0,
            };
            let sums = sums.into_iter().map(sum).collect();
            Some(Report::Summed {
                job: work.job,
                round: work.round,
                attempt: work.attempt,
                sum: work.sum,
                sums,
            })
        }
        Work::Aggregate(work) => {
            let (job, round, attempt) = (work.job, work.round, work.attempt);
            Some(match zoo_tasks::aggregate(blobs, &mut at_hand, work).unwrap() {
                Added::Is(Aggregated { checkpoint, left_out, alike }) => {
                    let checkpoint = checkpoint.save(blobs).unwrap();
                    Report::Aggregated { job, round, attempt, checkpoint, left_out, alike }
                }
                Added::Refused(summands) => Report::Refused { job, round, attempt, summands },
            })
        }
        Work::Evaluate(work) => {
            let scored = zoo_tasks::evaluate(blobs, &mut at_hand, work, None).unwrap();
            Some(Report::Evaluated {
                job: work.job,
                round: work.round,
                shard: work.shard,
                nats_bits: scored.nats.to_bits(),
                tokens: scored.tokens,
                bytes: scored.bytes,
            })
        }
    }
}

fn audit(
    trained: &Trained,
    evidence: &MemoryStore,
    rounds: std::ops::RangeInclusive<u32>,
) -> (Vec<Checked>, Tally) {
    let scratch = MemoryStore::new();
    let extent = Extent { job: trained.description.id(), rounds, available_mib: None };
    let mut auditor = Auditor::new(extent, evidence, &scratch);
    let mut found = Vec::new();
    for (sequence, command) in trained.journal.iter().enumerate() {
        let on = &mut |_: &_| ControlFlow::Continue(());
        found.extend(auditor.hear(sequence as u64, command, on).expect("the journal applies"));
    }
    (found, auditor.tally())
}

fn truth(_: u32, _: usize, report: Report) -> Report {
    report
}

fn otherwise(node: usize, report: Report, change: impl FnOnce(&mut Commitment)) -> Report {
    let Report::Trained(sealed) = report else { return report };
    let mut commitment = sealed.open().unwrap();
    change(&mut commitment);
    Report::Trained(Sealed::seal(&commitment, &key(node)))
}

/// Windows that nodes said they had trained, and those that they had trained again: before the job ended all were drawn.
fn reported(trained: &Trained) -> (u64, u64) {
    let of = |is_it: fn(&Report) -> bool| {
        let reports = trained.journal.iter().filter_map(|command| match command {
            Command::Reported { report, .. } => Some(report),
            _ => None,
        });
        reports.filter(|report| is_it(report)).count() as u64
    };
    (
        of(|report| matches!(report, Report::Trained(_))),
        of(|report| matches!(report, Report::Verified { .. })),
    )
}

#[test]
fn an_honest_job_comes_out_again_to_the_last_bit_from_its_data_and_its_journal() {
    for topology in [Topology::AllGather, Topology::Tree { fan_in: 2 }] {
        let trained = train(topology, truth);
        let (found, tally) = audit(&trained, &trained.evidence, 0..=u32::MAX);
        assert!(found.iter().all(|checked| checked.verdict == Verdict::Equal), "{found:?}");
        assert_eq!((tally.different, tally.unavailable, tally.skipped), (0, 0, 0));
        assert_eq!((tally.windows, tally.verifications), reported(&trained));
        assert!(tally.verifications > 0, "{tally:?}");
        // In the first round nobody has anything to go on from; in the others a quarter of a window was taken ahead.
        let (alone, with_lead) = (u64::from(STEPS), u64::from(STEPS) + 1);
        assert!((alone * tally.windows..=with_lead * tally.windows).contains(&tally.steps), "{tally:?}");
        assert_eq!(tally.shards, 2 * u64::from(ROUNDS));
        assert_eq!(tally.sums > 0, topology != Topology::AllGather);
        assert_eq!(tally.checkpoint, Some((trained.checkpoint, true)));
    }
}

#[test]
fn every_lie_about_a_window_is_found_with_its_round_node_and_field() {
    let lies: [(Lie, &str); 4] = [
        (
            |round, node, it| {
                if (round, node) == (1, 2) {
                    otherwise(node, it, |c| c.outcome.mean_loss_bits ^= 1)
                } else {
                    it
                }
            },
            "mean_loss",
        ),
        (
            |round, node, it| {
                if (round, node) == (1, 2) {
                    otherwise(node, it, |c| c.outcome.steps_root = Digest::of(b"lie"))
                } else {
                    it
                }
            },
            "steps_root",
        ),
        (
            |round, node, it| {
                if (round, node) == (1, 2) {
                    otherwise(node, it, |c| c.outcome.replica_out = Digest::of(b"lie"))
                } else {
                    it
                }
            },
            "replica_out",
        ),
        (
            |round, node, it| {
                if (round, node) == (1, 2) {
                    otherwise(node, it, |c| c.outcome.updates[0].norm /= 2)
                } else {
                    it
                }
            },
            "update of vnode",
        ),
    ];
    for (lie, field) in lies {
        let trained = train(Topology::AllGather, lie);
        let (found, tally) = audit(&trained, &trained.blobs, 0..=u32::MAX);
        let wrong: Vec<_> = found.iter().filter(|checked| checked.verdict != Verdict::Equal).collect();
        assert_eq!((tally.different, tally.unavailable), (1, 0), "{wrong:?}");
        let [first, ..] = wrong[..] else { panic!("{field}: nothing found") };
        assert_eq!((first.round, first.node, first.deed), (1, key(2).id(), Deed::Window), "{field}");
        let Verdict::Different(differences) = &first.verdict else { panic!("{first:?}") };
        assert!(differences.len() == 1 && differences[0].starts_with(field), "{differences:?}");
        assert!(
            matches!(trained.journal[first.command as usize], Command::Reported { node, .. } if node == key(2).id())
        );
    }
}

#[test]
fn a_wrong_sum_outer_step_or_score_is_found() {
    let (job_lies, deeds): (Vec<(Topology, Lie)>, Vec<Deed>) = [
        (
            Topology::AllGather,
            (|round, _, report| match report {
                Report::Evaluated { job, round: of, shard: 1, nats_bits, tokens, bytes } if round == 2 => {
                    Report::Evaluated { job, round: of, shard: 1, nats_bits: nats_bits ^ 1, tokens, bytes }
                }
                other => other,
            }) as Lie,
            Deed::Shard(1),
        ),
        (
            Topology::AllGather,
            (|round, node, report| match report {
                Report::Aggregated { job, round: of, attempt, left_out, alike, .. }
                    if (round, node) == (1, 3) =>
                {
                    Report::Aggregated {
                        job,
                        round: of,
                        attempt,
                        checkpoint: Digest::of(b"lie"),
                        left_out,
                        alike,
                    }
                }
                other => other,
            }) as Lie,
            Deed::OuterStep,
        ),
    ]
    .into_iter()
    .map(|(topology, lie, deed)| ((topology, lie), deed))
    .unzip();
    for ((topology, lie), deed) in job_lies.into_iter().zip(deeds) {
        let trained = train(topology, lie);
        let (found, tally) = audit(&trained, &trained.evidence, 0..=u32::MAX);
        let wrong: Vec<_> = found.iter().filter(|checked| checked.verdict != Verdict::Equal).collect();
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert_eq!(wrong[0].deed, deed);
        assert_eq!(tally.checkpoint, Some((trained.checkpoint, true)), "the others were many enough");
    }
}

#[test]
fn rounds_out_of_the_middle_need_what_they_start_from_and_nothing_else() {
    let trained = train(Topology::AllGather, truth);
    let (found, tally) = audit(&trained, &trained.blobs, 1..=1);
    assert!(found.iter().all(|checked| checked.round == 1 && checked.verdict == Verdict::Equal), "{found:?}");
    assert_eq!((tally.windows, tally.unavailable), (NODES as u64, 0));
    assert!(tally.skipped > 0);
    let (found, tally) = audit(&trained, &trained.evidence, 1..=1);
    assert_eq!((tally.windows, tally.different), (0, 0), "nothing is called equal that was not done");
    assert_eq!(tally.unavailable, found.len() as u64);
}

#[test]
fn what_is_missing_is_said_and_what_is_damaged_ends_the_audit() {
    let trained = train(Topology::AllGather, truth);
    trained.evidence.remove(&trained.description.held_out_data).unwrap();
    let (found, tally) = audit(&trained, &trained.evidence, 0..=u32::MAX);
    assert_eq!((tally.windows, tally.verifications), reported(&trained));
    assert_eq!(tally.unavailable, 2 * u64::from(ROUNDS));
    let is_shard = |checked: &Checked| matches!(checked.deed, Deed::Shard(_));
    assert!(
        found.iter().all(|checked| is_shard(checked) == matches!(checked.verdict, Verdict::Unavailable(_)))
    );

    let folder = std::env::temp_dir().join(format!("zoo-audit-{}", std::process::id()));
    let damaged = zoo_content::FileStore::open(&folder).unwrap();
    for name in trained.evidence.list().unwrap() {
        damaged.keep(&trained.evidence.get(&name).unwrap()).unwrap();
    }
    let path = folder.join(zoo_content::FileStore::place(&trained.description.training_data));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let scratch = MemoryStore::new();
    let extent = Extent { job: trained.description.id(), rounds: 0..=u32::MAX, available_mib: None };
    let mut auditor = Auditor::new(extent, &damaged, &scratch);
    let ended = trained.journal.iter().enumerate().find_map(|(sequence, command)| {
        auditor.hear(sequence as u64, command, &mut |_| ControlFlow::Continue(())).err()
    });
    let Some(JobError::Store(StoreError::Corrupt { digest, .. })) = ended else { panic!("{ended:?}") };
    assert_eq!(digest, trained.description.training_data);
    std::fs::remove_dir_all(&folder).unwrap();
}
