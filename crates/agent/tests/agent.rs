//! Sequences of inputs and the effects they must have.

use std::sync::Arc;

use zoo_agent::{Agent, Effect, Input, Outcome, Task};
use zoo_content::Digest;
use zoo_protocol::{
    Aggregate, Amendment, Challenge, Commitment, Evaluate, Form, Keep, NodeId, NodeKey, Peer, Profile,
    RefusedSummand, Report, Share, Sum, Summand, TrainWindow, VNodeUpdate, VerifyWindow, WindowOutcome, Work,
};

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn node(seed: u8) -> NodeId {
    NodeKey::from_seed([seed; 32]).id()
}

fn peers(seeds: &[u8]) -> Vec<Peer> {
    seeds.iter().map(|&seed| Peer { node: node(seed), addresses: vec![] }).collect()
}

fn agent() -> Agent {
    let mut agent = Agent::new(Arc::new(NodeKey::from_seed([1; 32])), NodeId([42; 32]));
    assert_eq!(agent.handle(Input::Connected), []);
    agent
}

fn window(round: u32) -> TrainWindow {
    TrainWindow {
        network: NodeId([42; 32]),
        job: digest("job"),
        round,
        program: digest("program"),
        profile: Profile::F32Exact,
        base: digest(&format!("base {round}")),
        data: digest("data"),
        first_step: u64::from(round) * 4,
        share: Share { first_sequence: 0, sequences_per_step: 2, inner_steps: 4 },
        lead: None,
        ahead_steps: 0,
        kept: None,
        reveals: None,
    }
}

/// A commitment, and the secret that comes with it, would count in the network that they are for.
#[test]
fn a_window_of_another_network_is_not_trained_and_not_signed() {
    let foreign = TrainWindow { network: NodeId([43; 32]), reveals: Some(1), ..window(2) };
    let verify =
        VerifyWindow { asked_in: 7, maker: node(3), window: Box::new(foreign.clone()), replica_in: None };
    for (work, round) in [(Work::Train(foreign), 2), (Work::Verify(verify), 7)] {
        let effects = agent().handle(Input::WorkChanged { work: Box::new(work), peers: peers(&[2]) });
        let [Effect::Report(Report::Failed { job, round: said, reason })] = &effects[..] else {
            panic!("{effects:?}");
        };
        assert_eq!((*job, *said), (digest("job"), round));
        assert!(reason.contains("is of the network of 2b2b2b2b"), "{reason}");
    }
}

fn train(round: u32) -> Work {
    Work::Train(window(round))
}

/// Aggregates an update of each of these nodes.
fn aggregate(contributors: &[u8]) -> Aggregate {
    let contribution = |&seed: &u8| Summand {
        form: Form::Contribution,
        first_vnode: 0,
        node: node(seed),
        round: 0,
        tokens: 64,
        updates: vec![VNodeUpdate {
            vnode: "mlp".into(),
            update: digest(&format!("update {seed}")),
            bytes: 100,
            norm: 1,
        }],
    };
    Aggregate {
        job: digest("job"),
        round: 0,
        attempt: 0,
        program: digest("program"),
        base: digest("base 0"),
        data: digest("data"),
        norm_limits: vec![1],
        summands: contributors.iter().map(contribution).collect(),
        step: 4,
        amendments: Vec::new(),
        is_last: false,
    }
}

fn evaluate(shard: u32) -> Work {
    Work::Evaluate(Evaluate {
        job: digest("job"),
        round: 0,
        program: digest("program"),
        checkpoint: digest("base 1"),
        data: digest("held out"),
        shard,
        shards: 2,
    })
}

fn commitment(round: u32) -> Commitment {
    let outcome = WindowOutcome {
        tokens: 64,
        replica_out: digest("optimizer"),
        steps_root: digest("steps"),
        steps: 4,
        updates: vec![],
        mean_loss_bits: 2.5_f64.to_bits(),
    };
    Commitment::new(window(round), None, outcome, &NodeKey::from_seed([1; 32]))
}

fn told(work: Work) -> Input {
    Input::WorkChanged { work: Box::new(work), peers: peers(&[1, 2, 3]) }
}

fn fetched(name: &str) -> Input {
    Input::Fetched { digest: digest(name), lists: vec![] }
}

fn listing(name: &str, parts: &[&str]) -> Input {
    Input::Fetched { digest: digest(name), lists: parts.iter().map(|part| (digest(part), 100)).collect() }
}

fn failed(name: &str) -> Input {
    Input::FetchFailed { digest: digest(name), reason: "nobody has it".into(), wrong: None }
}

/// Effects as words, so that a test reads as a conversation. Fetches are sorted: their order is
/// that of digests, which says nothing to a reader.
fn words(effects: &[Effect]) -> Vec<String> {
    const NAMES: &[&str] = &[
        "program", "data", "held out", "base 0", "base 1", "base 2", "part a", "part b", "part c",
        "update 2", "update 3",
    ];
    let name = |wanted: &Digest| NAMES.iter().find(|name| digest(name) == *wanted).expect("a known blob");
    let mut words: Vec<String> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Fetch { digest, .. } => format!("fetch {}", name(digest)),
            Effect::Forget(digest) => format!("forget {}", name(digest)),
            Effect::Run { assignment, task } => {
                let kind = match task {
                    Task::Train(window) => format!("train {}", window.round),
                    Task::Aggregate(_) => "aggregate".into(),
                    Task::Evaluate(evaluate) => format!("evaluate {}", evaluate.shard),
                    Task::Sum(sum) => format!("sum {}", sum.sum),
                    Task::Benchmark(work) => format!("benchmark {}", work.part.word()),
                    Task::Verify(work) => format!("verify {} of {}", work.window.round, work.maker.short()),
                };
                format!("run {kind} as {assignment}")
            }
            Effect::Cancel => "cancel".into(),
            Effect::Hold { checkpoint, blobs } => format!("hold {} of {}", blobs.len(), name(checkpoint)),
            Effect::HoldOnly(held) => {
                format!("hold only{}", held.iter().map(|held| format!(" {}", name(held))).collect::<String>())
            }
            Effect::RetryKeepAfter { failures } => format!("retry keep after {failures}"),
            Effect::Prove { challenge, .. } => format!("prove {}", challenge.nonce),
            Effect::RetryAfter { assignment, failures } => format!("retry {assignment} after {failures}"),
            Effect::Report(report) => match report {
                Report::Trained(sealed) => {
                    let commitment = sealed.open().expect("signed by the agent");
                    format!("report trained {}", commitment.work.round)
                }
                Report::Aggregated { .. } => "report aggregated".into(),
                Report::Missing { attempt, maker, .. } => {
                    format!("report missing {} of attempt {attempt}", maker.short())
                }
                Report::Refused { summands, .. } => format!("report refused {}", summands[0].maker.short()),
                Report::Evaluated { shard, .. } => format!("report evaluated {shard}"),
                Report::Summed { sum, sums, .. } => format!("report summed {sum}: {}", sums[0].vnode),
                Report::Kept { round, ask, .. } => format!("report kept {round} as asked {ask}"),
                Report::Proved { nonce, proof, .. } => format!("report proof {nonce}: {}", proof.len()),
                Report::Verified { round, maker, outcome, .. } => {
                    format!("report {round} of {} comes to {}", maker.short(), outcome.short())
                }
                Report::Withheld { round, maker, .. } => {
                    format!("report {round} of {} withheld", maker.short())
                }
                Report::Told { round, .. } => format!("report secret of round {round}"),
                Report::Unamendable { attempt, .. } => format!("report attempt {attempt} unamendable"),
                Report::Benchmarked { answer, .. } => format!("report benchmark {}", answer.short()),
                Report::Failed { reason, .. } => {
                    format!("report failed: {}", &reason[..reason.len().min(10)])
                }
            },
        })
        .collect();
    words.sort_by_key(|word| if word.starts_with("fetch") { (1, word.clone()) } else { (0, String::new()) });
    words
}

/// Feeds the inputs, and compares the effects of each with what is expected of it.
fn play(agent: &mut Agent, script: Vec<(Input, &[&str])>) {
    for (at, (input, expected)) in script.into_iter().enumerate() {
        let description = format!("input {at}: {input:?}");
        assert_eq!(words(&agent.handle(input)), expected, "{description}");
    }
}

fn ready_to_train(agent: &mut Agent, round: u32, assignment: u64) {
    agent.handle(told(train(round)));
    agent.handle(fetched("program"));
    agent.handle(fetched("data"));
    let effects = agent.handle(fetched(&format!("base {round}")));
    assert_eq!(words(&effects), [format!("run train {round} as {assignment}")]);
}

#[test]
fn a_window_is_gathered_run_and_reported() {
    play(
        &mut agent(),
        vec![
            (told(train(0)), &["fetch base 0", "fetch data", "fetch program"]),
            (fetched("program"), &[]),
            (listing("base 0", &["part a", "part b"]), &["fetch part a", "fetch part b"]),
            (fetched("data"), &[]),
            (fetched("part b"), &[]),
            (fetched("part a"), &["run train 0 as 1"]),
            (
                Input::TaskFinished { assignment: 1, outcome: Outcome::Trained(commitment(0).into()) },
                &["report trained 0"],
            ),
            (told(Work::Idle), &[]),
        ],
    );
}

fn verify() -> Work {
    let replica_in = Some(digest("update 2"));
    Work::Verify(VerifyWindow { asked_in: 3, maker: node(2), window: Box::new(window(1)), replica_in })
}

#[test]
fn another_nodes_window_is_gathered_trained_again_and_said_to_come_to_something() {
    let maker = node(2).short();
    let outcome = digest("outcome");
    let said = format!("report 1 of {maker} comes to {}", outcome.short());
    let mut agent = agent();
    let effects = agent.handle(told(verify()));
    let replica = digest("update 2");
    let sources = effects.iter().find_map(|effect| match effect {
        Effect::Fetch { digest, sources, .. } if *digest == replica => Some(sources[0].node),
        _ => None,
    });
    assert_eq!(sources, Some(node(2)), "its maker first");
    assert_eq!(words(&effects), ["fetch base 1", "fetch data", "fetch program", "fetch update 2"]);
    play(
        &mut agent,
        vec![
            (fetched("program"), &[]),
            (fetched("data"), &[]),
            (fetched("base 1"), &[]),
            (fetched("update 2"), &[&format!("run verify 1 of {maker} as 1")]),
            (Input::TaskFinished { assignment: 1, outcome: Outcome::Verified { outcome } }, &[&said]),
            (told(verify()), &[]),
        ],
    );
}

#[test]
fn what_a_window_started_from_is_withheld_if_nobody_has_it_and_nothing_else_is() {
    let withheld = format!("report 1 of {} withheld", node(2).short());
    play(
        &mut agent(),
        vec![
            (told(verify()), &["fetch base 1", "fetch data", "fetch program", "fetch update 2"]),
            (fetched("program"), &[]),
            (fetched("base 1"), &[]),
            (failed("data"), &["retry 1 after 1"]),
            (Input::Retry(1), &["fetch data"]),
            (failed("data"), &["retry 1 after 2"]),
            (Input::Retry(1), &["fetch data"]),
            (failed("data"), &["report failed: cannot fet", "retry 1 after 3"]),
        ],
    );
    play(
        &mut agent(),
        vec![
            (told(verify()), &["fetch base 1", "fetch data", "fetch program", "fetch update 2"]),
            (failed("update 2"), &["retry 1 after 1"]),
            (Input::Retry(1), &["fetch update 2"]),
            (failed("update 2"), &["retry 1 after 2"]),
            (Input::Retry(1), &["fetch update 2"]),
            (failed("update 2"), &[&withheld]),
        ],
    );
}

#[test]
fn being_told_twice_changes_nothing() {
    let mut agent = agent();
    let finished = Input::TaskFinished { assignment: 1, outcome: Outcome::Trained(commitment(0).into()) };
    play(
        &mut agent,
        vec![
            (told(train(0)), &["fetch base 0", "fetch data", "fetch program"]),
            (told(train(0)), &[]),
            (fetched("program"), &[]),
            (fetched("program"), &[]),
            (fetched("data"), &[]),
            (fetched("base 0"), &["run train 0 as 1"]),
            (fetched("base 0"), &[]),
            (told(train(0)), &[]),
            (finished.clone(), &["report trained 0"]),
            (finished, &[]),
            (told(train(0)), &[]),
        ],
    );
}

#[test]
fn a_part_that_two_manifest_entries_share_is_fetched_once() {
    play(
        &mut agent(),
        vec![
            (told(evaluate(1)), &["fetch base 1", "fetch held out", "fetch program"]),
            (listing("base 1", &["part a", "part a", "program"]), &["fetch part a"]),
            (fetched("part a"), &[]),
            (fetched("program"), &[]),
            (fetched("held out"), &["run evaluate 1 as 1"]),
            (
                Input::TaskFinished {
                    assignment: 1,
                    outcome: Outcome::Evaluated { nats: 1.5, tokens: 3, bytes: 4 },
                },
                &["report evaluated 1"],
            ),
        ],
    );
}

#[test]
fn changed_work_cancels_the_running_task_and_its_late_end_is_ignored() {
    let mut agent = agent();
    ready_to_train(&mut agent, 0, 1);
    play(
        &mut agent,
        vec![
            (told(train(1)), &["cancel", "fetch base 1", "fetch data", "fetch program"]),
            (Input::TaskFinished { assignment: 1, outcome: Outcome::Trained(commitment(0).into()) }, &[]),
            (Input::TaskFailed { assignment: 1, reason: "late".into() }, &[]),
            (fetched("base 1"), &[]),
            (fetched("data"), &[]),
            (fetched("program"), &["run train 1 as 2"]),
            (told(Work::Idle), &["cancel"]),
            (Input::TaskFinished { assignment: 2, outcome: Outcome::Trained(commitment(1).into()) }, &[]),
        ],
    );
}

#[test]
fn changed_work_drops_the_fetches_of_the_round_and_keeps_those_of_the_job() {
    play(
        &mut agent(),
        vec![
            (told(train(0)), &["fetch base 0", "fetch data", "fetch program"]),
            (listing("base 0", &["part a", "part b"]), &["fetch part a", "fetch part b"]),
            (fetched("part a"), &[]),
            (told(train(1)), &["forget part b", "fetch base 1"]),
            (fetched("program"), &[]),
            (listing("base 1", &["part b"]), &["fetch part b"]),
            (fetched("part b"), &[]),
            (told(Work::Idle), &[]),
            (fetched("data"), &[]),
        ],
    );
}

#[test]
fn a_blob_that_nobody_has_is_tried_again_then_reported_and_tried_on() {
    play(
        &mut agent(),
        vec![
            (told(train(0)), &["fetch base 0", "fetch data", "fetch program"]),
            (failed("data"), &["retry 1 after 1"]),
            (failed("program"), &[]), // the same wait serves both
            (fetched("base 0"), &[]),
            (Input::Retry(1), &["fetch data", "fetch program"]),
            (fetched("program"), &[]),
            (failed("data"), &["retry 1 after 2"]),
            (Input::Retry(1), &["fetch data"]),
            (failed("data"), &["report failed: cannot fet", "retry 1 after 3"]),
            (Input::Retry(1), &["fetch data"]),
            (failed("data"), &["retry 1 after 4"]),
            (Input::Retry(0), &[]), // of another assignment
            (Input::Retry(1), &["fetch data"]),
            (fetched("data"), &["run train 0 as 1"]),
            (Input::Retry(1), &[]),
        ],
    );
}

#[test]
fn of_many_blobs_that_nobody_has_one_is_reported() {
    play(
        &mut agent(),
        vec![
            (told(train(0)), &["fetch base 0", "fetch data", "fetch program"]),
            (failed("data"), &["retry 1 after 1"]),
            (failed("program"), &[]),
            (failed("base 0"), &[]),
            (Input::Retry(1), &["fetch base 0", "fetch data", "fetch program"]),
            (failed("program"), &["retry 1 after 2"]),
            (failed("data"), &[]),
            (fetched("base 0"), &[]),
            (Input::Retry(1), &["fetch data", "fetch program"]),
            (failed("data"), &["report failed: cannot fet", "retry 1 after 3"]),
            (failed("program"), &[]),
        ],
    );
}

#[test]
fn what_it_takes_to_amend_a_round_is_fetched_and_where_nobody_has_it_that_is_reported() {
    let earlier = aggregate(&[2, 3]);
    let amendment = Amendment {
        round: 0,
        norm_limits: vec![1],
        alike: vec![],
        withdrawn: vec![],
        withdraws: vec![earlier.summands[1].clone()],
        summands: earlier.summands,
    };
    let work = Aggregate { round: 1, amendments: vec![amendment], ..aggregate(&[2]) };
    play(
        &mut agent(),
        vec![
            (
                told(Work::Aggregate(work)),
                &["fetch base 0", "fetch program", "fetch update 2", "fetch update 3"],
            ),
            (fetched("program"), &[]),
            (fetched("base 0"), &[]),
            (fetched("update 2"), &[]),
            (failed("update 3"), &["retry 1 after 1"]),
            (Input::Retry(1), &["fetch update 3"]),
            (failed("update 3"), &["retry 1 after 2"]),
            (Input::Retry(1), &["fetch update 3"]),
            (failed("update 3"), &["report attempt 0 unamendable"]),
        ],
    );
}

#[test]
fn a_contribution_that_nobody_has_is_reported_missing() {
    let missing: &[&str] = &[&format!("report missing {} of attempt 0", node(3).short())];
    let next = Aggregate { attempt: 1, ..aggregate(&[2]) };
    play(
        &mut agent(),
        vec![
            (
                told(Work::Aggregate(aggregate(&[2, 3]))),
                &["fetch base 0", "fetch program", "fetch update 2", "fetch update 3"],
            ),
            (fetched("program"), &[]),
            (fetched("base 0"), &[]),
            (fetched("update 2"), &[]),
            (failed("update 3"), &["retry 1 after 1"]),
            (Input::Retry(1), &["fetch update 3"]),
            (failed("update 3"), &["retry 1 after 2"]),
            (Input::Retry(1), &["fetch update 3"]),
            (failed("update 3"), missing),
            (told(Work::Aggregate(next)), &["fetch base 0", "fetch program", "fetch update 2"]),
            (fetched("program"), &[]),
            (fetched("base 0"), &[]),
            (fetched("update 2"), &["run aggregate as 2"]),
            (
                Input::TaskFinished {
                    assignment: 2,
                    outcome: Outcome::Aggregated {
                        checkpoint: digest("base 1"),
                        left_out: Vec::new(),
                        alike: Vec::new(),
                    },
                },
                &["report aggregated"],
            ),
        ],
    );
}

fn sum(contributors: &[u8]) -> Work {
    let Aggregate { job, round, program, summands, .. } = aggregate(contributors);
    Work::Sum(Sum {
        job,
        round,
        attempt: 0,
        sum: 5,
        program,
        first_vnode: 0,
        vnodes: 1,
        norm_limits: vec![1],
        summands,
    })
}

#[test]
fn a_sum_needs_its_summands_and_no_checkpoint() {
    let mut agent = agent();
    agent.handle(Input::Connected);
    let sums = vec![VNodeUpdate { vnode: "head".into(), update: digest("update 2"), bytes: 9, norm: 0 }];
    play(
        &mut agent,
        vec![
            (told(sum(&[2, 3])), &["fetch program", "fetch update 2", "fetch update 3"]),
            (fetched("program"), &[]),
            (fetched("update 2"), &[]),
            (fetched("update 3"), &["run sum 5 as 1"]),
            (
                Input::TaskFinished { assignment: 1, outcome: Outcome::Summed { sums } },
                &["report summed 5: head"],
            ),
            (told(sum(&[2, 3])), &[]),
        ],
    );
}

#[test]
fn a_summand_that_cannot_be_had_or_used_is_reported_by_its_maker() {
    let missing = |maker| Report::Missing { job: digest("job"), round: 0, attempt: 0, maker: node(maker) };
    let mut unreachable = agent();
    unreachable.handle(Input::Connected);
    unreachable.handle(told(sum(&[2, 3])));
    let failed =
        || Input::FetchFailed { digest: digest("update 3"), reason: "nobody has it".into(), wrong: None };
    let tries = (0..3).flat_map(|_| {
        let effects = unreachable.handle(failed());
        unreachable.handle(Input::Retry(1));
        effects
    });
    assert!(tries.collect::<Vec<_>>().contains(&Effect::Report(missing(3))));

    let mut misled = agent();
    misled.handle(Input::Connected);
    misled.handle(told(sum(&[2, 3])));
    let wrong = || Some("says it has 9 bytes, over the limit of 6".to_owned());
    let failed = || Input::FetchFailed { digest: digest("update 3"), reason: "no".into(), wrong: wrong() };
    let tries = (0..3).flat_map(|_| {
        let effects = misled.handle(failed());
        misled.handle(Input::Retry(1));
        effects
    });
    let reason = format!("its blob {} says it has 9 bytes, over the limit of 6", digest("update 3").short());
    assert!(tries.collect::<Vec<_>>().contains(&Effect::Report(refusal(refused(3, &reason)))));
}

fn refused(maker: u8, reason: &str) -> RefusedSummand {
    let (maker, form) = (node(maker), Form::Contribution);
    RefusedSummand { maker, form, first_vnode: 0, reason: reason.into() }
}

fn refusal(summand: RefusedSummand) -> Report {
    Report::Refused { job: digest("job"), round: 0, attempt: 0, summands: vec![summand] }
}

#[test]
fn what_cannot_be_added_is_refused_with_its_reason() {
    for work in [Work::Aggregate(aggregate(&[2])), sum(&[2])] {
        let mut agent = agent();
        agent.handle(told(work));
        for name in ["program", "base 0", "update 2"] {
            agent.handle(fetched(name));
        }
        let outcome = Outcome::Refused { summands: vec![refused(2, "it ends early")] };
        let report = Effect::Report(refusal(refused(2, "it ends early")));
        assert_eq!(agent.handle(Input::TaskFinished { assignment: 1, outcome }), [report]);
    }
}

#[test]
fn a_failed_task_is_reported_and_tried_again_from_its_blobs_on() {
    let mut agent = agent();
    ready_to_train(&mut agent, 0, 1);
    play(
        &mut agent,
        vec![
            (
                Input::TaskFailed { assignment: 1, reason: "no space left".into() },
                &["report failed: no space l", "retry 1 after 1"],
            ),
            (told(train(0)), &[]),
            (Input::Retry(1), &["fetch base 0", "fetch data", "fetch program"]),
            (fetched("program"), &[]),
            (fetched("data"), &[]),
            (fetched("base 0"), &["run train 0 as 1"]),
            (
                Input::TaskFailed { assignment: 1, reason: "no space left".into() },
                &["report failed: no space l", "retry 1 after 2"],
            ),
        ],
    );
}

#[test]
fn a_report_made_while_disconnected_is_sent_after_the_reconnect() {
    let mut agent = agent();
    ready_to_train(&mut agent, 0, 1);
    play(
        &mut agent,
        vec![
            (Input::Disconnected, &[]),
            (Input::TaskFinished { assignment: 1, outcome: Outcome::Trained(commitment(0).into()) }, &[]),
            (Input::Connected, &["report trained 0"]),
            (told(train(0)), &[]),
            (Input::Disconnected, &[]),
            (Input::Connected, &["report trained 0"]), // the first may have been lost
            (told(train(1)), &["fetch base 1", "fetch data", "fetch program"]),
            (Input::Disconnected, &[]),
            (Input::Connected, &[]),
        ],
    );
}

#[test]
fn work_survives_a_lost_connection() {
    let mut agent = agent();
    ready_to_train(&mut agent, 0, 1);
    play(
        &mut agent,
        vec![
            (Input::Disconnected, &[]),
            (Input::Connected, &[]),
            (told(train(0)), &[]),
            (
                Input::TaskFinished { assignment: 1, outcome: Outcome::Trained(commitment(0).into()) },
                &["report trained 0"],
            ),
        ],
    );
}

#[test]
fn finished_work_that_comes_back_is_reported_without_doing_it_again() {
    let mut agent = agent();
    ready_to_train(&mut agent, 0, 1);
    play(
        &mut agent,
        vec![
            (
                Input::TaskFinished { assignment: 1, outcome: Outcome::Trained(commitment(0).into()) },
                &["report trained 0"],
            ),
            (told(Work::Idle), &[]),
            (told(train(0)), &["report trained 0"]),
        ],
    );
}

#[test]
fn a_maker_is_asked_first_and_nobody_asks_himself() {
    for contributor in [2, 3] {
        let work = Work::Aggregate(aggregate(&[contributor]));
        let effects =
            agent().handle(Input::WorkChanged { work: Box::new(work), peers: peers(&[1, 4, 2, 5, 3]) });
        let update = digest(&format!("update {contributor}"));
        let sources = |effect: &Effect| match effect {
            Effect::Fetch { digest, sources, need } if *digest == update => {
                assert_eq!(need.max_bytes, 100);
                Some(sources.clone())
            }
            _ => None,
        };
        let sources = effects.iter().find_map(sources).expect("the update is fetched");
        assert_eq!(sources.len(), 4);
        assert_eq!(sources[0].node, node(contributor));
        assert!(sources.iter().all(|peer| peer.node != node(1)));
    }
}

#[test]
fn a_long_reason_is_cut_to_what_a_report_carries() {
    let mut agent = agent();
    ready_to_train(&mut agent, 0, 1);
    let effects = agent.handle(Input::TaskFailed { assignment: 1, reason: "é".repeat(1000) });
    let Effect::Report(Report::Failed { reason, .. }) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(*reason, "é".repeat(256));
}

fn keep(round: u32, ask: u32) -> Keep {
    let checkpoint = digest(&format!("base {round}"));
    Keep { job: digest("job"), round, checkpoint, ask, challenge: None }
}

fn keeps(keeps: &[Keep]) -> Input {
    Input::KeepsChanged { keeps: keeps.to_vec(), peers: peers(&[1, 2, 3]) }
}

#[test]
fn what_is_to_be_kept_is_fetched_whole_and_reported_beside_the_work() {
    play(
        &mut agent(),
        vec![
            (keeps(&[keep(0, 1)]), &["hold 1 of base 0", "hold only base 0", "fetch base 0"]),
            (keeps(&[keep(0, 1)]), &[]),
            (told(train(1)), &["fetch base 1", "fetch data", "fetch program"]),
            (listing("base 0", &["part a", "part b"]), &["hold 2 of base 0", "fetch part a", "fetch part b"]),
            (fetched("part a"), &[]),
            (fetched("part b"), &["report kept 0 as asked 1"]),
            (fetched("part b"), &[]),
            (keeps(&[keep(0, 2)]), &["hold 1 of base 0", "fetch base 0"]),
            (listing("base 0", &[]), &["hold 0 of base 0", "report kept 0 as asked 2"]),
            (keeps(&[]), &["hold only"]),
        ],
    );
}

#[test]
fn what_work_and_keeping_both_need_serves_both() {
    play(
        &mut agent(),
        vec![
            (told(train(0)), &["fetch base 0", "fetch data", "fetch program"]),
            (keeps(&[keep(0, 1)]), &["hold 1 of base 0", "hold only base 0", "fetch base 0"]),
            (listing("base 0", &["part a"]), &["hold 1 of base 0", "fetch part a", "fetch part a"]),
            (told(Work::Idle), &[]),
            (fetched("part a"), &["report kept 0 as asked 1"]),
        ],
    );
}

#[test]
fn a_released_checkpoint_is_fetched_no_further_unless_work_needs_it() {
    play(
        &mut agent(),
        vec![
            (keeps(&[keep(0, 1)]), &["hold 1 of base 0", "hold only base 0", "fetch base 0"]),
            (listing("base 0", &["part a"]), &["hold 1 of base 0", "fetch part a"]),
            (
                keeps(&[keep(1, 1)]),
                &["hold 1 of base 1", "hold only base 1", "forget part a", "fetch base 1"],
            ),
            (told(train(1)), &["fetch base 1", "fetch data", "fetch program"]),
            (keeps(&[]), &["hold only"]),
        ],
    );
}

#[test]
fn what_cannot_be_had_is_tried_again_after_one_wait() {
    play(
        &mut agent(),
        vec![
            (keeps(&[keep(0, 1)]), &["hold 1 of base 0", "hold only base 0", "fetch base 0"]),
            (listing("base 0", &["part a", "part b"]), &["hold 2 of base 0", "fetch part a", "fetch part b"]),
            (failed("part a"), &["retry keep after 1"]),
            (failed("part b"), &[]),
            (Input::RetryKeep, &["fetch part a", "fetch part b"]),
            (fetched("part b"), &[]),
            (failed("part a"), &["retry keep after 1"]),
            (Input::RetryKeep, &["fetch part a"]),
            (fetched("part a"), &["report kept 0 as asked 1"]),
        ],
    );
}

#[test]
fn a_new_process_lets_go_of_what_the_last_one_kept() {
    play(&mut agent(), vec![(keeps(&[]), &["hold only"]), (keeps(&[]), &[])]);
}

#[test]
fn a_challenge_is_answered_once() {
    let challenge = |nonce| Challenge::of_chunk(nonce, digest("part a"), 5_000, 2);
    let asked = |nonce| Keep { challenge: Some(challenge(nonce)), ..keep(0, 1) };
    let proved = Input::Proved { job: digest("job"), round: 0, nonce: 7, proof: vec![1; 9] };
    play(
        &mut agent(),
        vec![
            (keeps(&[keep(0, 1)]), &["hold 1 of base 0", "hold only base 0", "fetch base 0"]),
            (listing("base 0", &[]), &["hold 0 of base 0", "report kept 0 as asked 1"]),
            (keeps(&[asked(7)]), &["prove 7"]),
            (keeps(&[asked(7)]), &[]),
            (proved, &["report proof 7: 9"]),
            (keeps(&[keep(0, 1)]), &[]),
            (keeps(&[asked(8)]), &["prove 8"]),
        ],
    );
}
