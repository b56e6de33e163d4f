//! The phase in which participants train.

use zoo_protocol::{Commitment, Report, RoundPlan, Sealed, Share, Work};
use zoo_state::{Event, Failure, Missed, Phase, Refusal, Restart, limits};

use crate::fleet::{DEADLINE_MS, Fleet, SEQUENCE_TOKENS, plan};

const WINDOW: u64 = 12;

fn first_sequences(fleet: &Fleet, nodes: impl IntoIterator<Item = usize>) -> Vec<u64> {
    nodes.into_iter().map(|node| fleet.window(node).share.first_sequence).collect()
}

fn missed(events: &[Event]) -> Vec<&Missed> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::ContributionMissed { why, .. } => Some(why),
            _ => None,
        })
        .collect()
}

#[test]
fn shares_follow_each_other_in_the_order_of_ids_and_rounds() {
    let mut fleet = Fleet::running(2, plan());
    fleet.join(0);
    let window = fleet.window(1);
    assert_eq!(first_sequences(&fleet, 0..2), [0, WINDOW]);
    assert_eq!((window.round, window.first_step), (0, 0));
    assert_eq!(window.share, Share { first_sequence: WINDOW, sequences_per_step: 4, inner_steps: 3 });
    while fleet.state.running().unwrap().round == 0 {
        let busy = (0..2).find(|node| fleet.work(*node) != Work::Idle).unwrap();
        fleet.step(busy);
    }
    let window = fleet.window(0);
    assert_eq!(first_sequences(&fleet, 0..2), [2 * WINDOW, 3 * WINDOW]);
    assert_eq!((window.round, window.first_step), (1, 3));
    assert_ne!(window.base, fleet.state.running().unwrap().description.initial);
}

#[test]
fn who_joins_in_the_middle_waits_for_the_next_round() {
    let mut fleet = Fleet::new(3);
    fleet.join(0);
    fleet.join(2);
    fleet.submit("job", plan());
    fleet.join(1);
    assert_eq!(fleet.work(1), Work::Idle);
    fleet.step(0);
    fleet.step(2);
    assert!(matches!(fleet.work(1), Work::Aggregate(_)), "it aggregates, to have the checkpoint");
    while fleet.state.running().unwrap().round == 0 {
        let busy = (0..3).find(|node| fleet.work(*node) != Work::Idle).unwrap();
        fleet.step(busy);
    }
    assert_eq!(first_sequences(&fleet, 0..3), [2 * WINDOW, 3 * WINDOW, 4 * WINDOW]);
}

#[test]
fn who_is_lost_and_back_before_the_seal_has_its_work_again() {
    let mut fleet = Fleet::running(3, plan());
    let before = fleet.work(1);
    fleet.step(0);
    fleet.lose(1);
    assert_eq!(fleet.work(1), Work::Idle);
    fleet.join(1);
    assert_eq!(fleet.work(1), before);
    fleet.step(2);
    fleet.step(1);
    assert_eq!(fleet.aggregate(0).summands.len(), 3);
}

#[test]
fn who_is_lost_is_a_missing_summand_and_who_had_contributed_is_not() {
    let mut fleet = Fleet::running(3, plan());
    fleet.step(0);
    fleet.lose(0);
    fleet.lose(1);
    fleet.news();
    fleet.step(2);
    let contributors: Vec<_> = fleet.aggregate(2).summands.iter().map(|given| given.node).collect();
    assert_eq!(contributors, fleet.ids([0, 2]));
    let events = fleet.news();
    assert_eq!(missed(&events), [&Missed::Lost]);
    assert!(events.iter().any(
        |event| matches!(event, Event::RoundSealed { tokens, attempt: 0, .. } if *tokens == 2 * WINDOW * SEQUENCE_TOKENS)
    ));
    assert_eq!(fleet.state.nodes()[&fleet.id(1)].account.missed, 1);
}

#[test]
fn the_deadline_ends_the_wait_for_who_is_slow() {
    let mut fleet = Fleet::running(2, plan());
    fleet.step(0);
    let late = fleet.honest_reports(1).remove(0);
    assert_eq!(fleet.state.next_deadline_ms(), Some(1_000 + DEADLINE_MS));
    let root = fleet.state.root();
    fleet.tick(DEADLINE_MS - 1);
    assert_eq!(fleet.state.root(), root, "a tick before the deadline changes nothing");
    fleet.tick(1);
    assert_eq!(missed(&fleet.news()), [&Missed::Deadline]);
    assert_eq!(fleet.aggregate(1).summands.len(), 1, "who was slow still aggregates");
    assert!(matches!(fleet.report(1, late), Err(Refusal::NotAssigned { .. })));
}

#[test]
fn when_everyone_is_lost_the_round_starts_again_with_fresh_sequences() {
    let mut fleet = Fleet::running(2, plan());
    let base = fleet.window(0).base;
    let stale = fleet.honest_reports(0).remove(0);
    for _ in 0..2 * limits::MAX_FRUITLESS {
        fleet.lose(0);
        fleet.lose(1);
        assert_eq!(*fleet.phase(), Phase::Waiting);
        fleet.join(1);
        assert_eq!(*fleet.phase(), Phase::Waiting, "one node is too few");
        fleet.join(0);
    }
    let starts = u64::from(2 * limits::MAX_FRUITLESS);
    assert_eq!(first_sequences(&fleet, 0..2), [2 * starts * WINDOW, (2 * starts + 1) * WINDOW]);
    assert_eq!((fleet.window(0).base, fleet.window(0).round), (base, 0));
    assert_eq!(fleet.report(0, stale), Err(Refusal::OtherWindow(fleet.id(0))));
    let restarts = fleet
        .news()
        .iter()
        .filter(|event| matches!(event, Event::RoundRestarted { why: Restart::EveryoneLost, .. }))
        .count();
    assert_eq!(restarts as u64, starts);
}

#[test]
fn a_job_that_no_node_can_train_fails_with_what_the_nodes_said() {
    let mut fleet = Fleet::running(2, plan());
    let job = fleet.state.running().unwrap().job;
    for _ in 0..=limits::MAX_FRUITLESS {
        for node in 0..2 {
            let reason = "the loss of step 7 is not finite".into();
            fleet.report(node, Report::Failed { job, round: 0, reason }).unwrap();
        }
    }
    let events = fleet.news();
    let why = Failure::NoProgress { round: 0, last: Restart::NoContribution };
    assert_eq!(events.last(), Some(&Event::JobFailed { job, why }));
    assert!(missed(&events).iter().all(|why| why.to_string() == "the loss of step 7 is not finite"));
    assert!(
        matches!(&events[..], [.., _] if events.iter().filter(|event| matches!(event, Event::WorkFailed { .. })).count() == 18)
    );
}

#[test]
fn who_failed_is_not_waited_for_but_may_still_contribute() {
    let mut fleet = Fleet::running(3, plan());
    let job = fleet.state.running().unwrap().job;
    let late = fleet.honest_reports(0).remove(0);
    let failed = Report::Failed { job, round: 0, reason: "out of memory".into() };
    fleet.report(0, failed.clone()).unwrap();
    assert_eq!(fleet.work(0), Work::Idle);
    assert!(matches!(fleet.report(0, failed), Err(Refusal::NotAssigned { .. })));
    fleet.report(0, late).unwrap();
    fleet.step(1);
    fleet.step(2);
    assert_eq!(fleet.aggregate(0).summands.len(), 3);
}

#[test]
fn a_duplicate_is_ignored_and_a_second_story_refused() {
    let mut fleet = Fleet::running(2, plan());
    let honest = fleet.commitment(0);
    let report = fleet.seal(0, &honest);
    fleet.report(0, report.clone()).unwrap();
    let mut other = honest;
    other.outcome.mean_loss_bits = 1.5_f64.to_bits();
    let other = fleet.seal(0, &other);
    for _ in 0..2 {
        assert_eq!(fleet.report(0, report.clone()), Ok(vec![]));
        assert_eq!(fleet.report(0, other.clone()), Err(Refusal::AnsweredOtherwise(fleet.id(0))));
        fleet.step(1);
    }
    assert!(matches!(fleet.phase(), Phase::Aggregating(_)), "also after the seal");
    assert_eq!(fleet.state.nodes()[&fleet.id(0)].account.contributions, 1);
}

#[test]
fn a_commitment_has_to_be_for_exactly_the_assigned_work() {
    let mut fleet = Fleet::running(2, plan());
    let honest = fleet.commitment(0);
    let other = zoo_content::Digest::of(b"other");
    let changes: [fn(&mut Commitment, zoo_content::Digest); 9] = [
        |commitment, other| commitment.work.job = other,
        |commitment, _| commitment.work.round = 1,
        |commitment, other| commitment.work.program = other,
        |commitment, other| commitment.work.base = other,
        |commitment, other| commitment.work.data = other,
        |commitment, _| commitment.work.profile = zoo_protocol::Profile::Bf16Exact,
        |commitment, _| commitment.work.first_step = 3,
        |commitment, _| commitment.work.share.first_sequence += 1,
        |commitment, _| commitment.work.share.inner_steps -= 1,
    ];
    for change in changes {
        let mut lie = honest.clone();
        change(&mut lie, other);
        let refused = fleet.report(0, fleet.seal(0, &lie));
        assert!(matches!(refused, Err(Refusal::NotAssigned { .. } | Refusal::OtherWindow(_))), "{lie:?}");
    }
    let refused = fleet.report(0, fleet.seal(0, &fleet.commitment(1)));
    assert_eq!(refused, Err(Refusal::OtherWindow(fleet.id(0))), "another's share");
}

#[test]
fn a_commitment_has_to_be_plausible() {
    let mut fleet = Fleet::running(2, plan());
    let honest = fleet.commitment(0);
    let changes: [fn(&mut Commitment); 12] = [
        |commitment| commitment.outcome.steps += 1,
        |commitment| commitment.outcome.tokens = 0,
        |commitment| commitment.outcome.tokens += 1,
        |commitment| commitment.outcome.tokens = 12 << 32,
        |commitment| commitment.outcome.mean_loss_bits = f64::NAN.to_bits(),
        |commitment| commitment.outcome.mean_loss_bits = f64::INFINITY.to_bits(),
        |commitment| commitment.outcome.mean_loss_bits = (-1.0_f64).to_bits(),
        |commitment| commitment.outcome.updates.clear(),
        |commitment| commitment.outcome.updates[1].vnode = "head".into(),
        |commitment| commitment.outcome.updates[1].vnode = "x".repeat(129),
        |commitment| commitment.outcome.updates[1].bytes = 0,
        |commitment| commitment.outcome.updates[1].bytes = u64::MAX,
    ];
    for change in changes {
        let mut lie = honest.clone();
        change(&mut lie);
        let refused = fleet.report(0, fleet.seal(0, &lie));
        assert!(matches!(refused, Err(Refusal::Invalid(_) | Refusal::Seal(_))), "{refused:?} for {lie:?}");
    }
    fleet.report(0, fleet.seal(0, &honest)).unwrap();
}

#[test]
fn a_commitment_counts_for_its_signer_alone_and_only_as_signed() {
    let mut fleet = Fleet::running(2, plan());
    let honest = fleet.commitment(0);
    let (thief, signer) = (fleet.id(1), fleet.id(0));
    let stolen = fleet.report(1, fleet.seal(0, &honest));
    assert_eq!(stolen, Err(Refusal::ForeignSeal { reporter: thief, signer }));

    let mut bytes = zoo_protocol::encode(&Sealed::seal(&honest, fleet.key(0)));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let tampered = Report::Trained(zoo_protocol::decode(&bytes).unwrap());
    assert!(matches!(fleet.report(0, tampered), Err(Refusal::Seal(_))));
}

#[test]
fn who_claims_other_tokens_or_vnodes_than_most_is_at_fault() {
    let changes: [fn(&mut Commitment); 2] =
        [|commitment| commitment.outcome.tokens *= 2, |commitment| commitment.outcome.updates.truncate(2)];
    for change in changes {
        let mut fleet = Fleet::running(3, plan());
        let mut lie = fleet.commitment(1);
        change(&mut lie);
        fleet.report(1, fleet.seal(1, &lie)).unwrap();
        fleet.step(0);
        fleet.step(2);
        let contributors: Vec<_> = fleet.aggregate(0).summands.iter().map(|given| given.node).collect();
        assert_eq!(contributors, fleet.ids([0, 2]));
        assert_eq!(fleet.work(1), Work::Idle, "barred");
        assert_eq!(fleet.state.nodes()[&fleet.id(1)].account.faults, 1);
    }
}

#[test]
fn two_outlines_with_as_many_claims_start_the_round_again() {
    let mut fleet = Fleet::running(2, RoundPlan { minimum_nodes: 1, ..plan() });
    let mut lie = fleet.commitment(1);
    lie.outcome.tokens *= 2;
    fleet.report(1, fleet.seal(1, &lie)).unwrap();
    fleet.step(0);
    let events = fleet.news();
    assert!(
        events.iter().any(|event| matches!(event, Event::RoundRestarted { why: Restart::OutlineTie, .. }))
    );
    assert_eq!(first_sequences(&fleet, 0..2), [2 * WINDOW, 3 * WINDOW]);
}

/// Sequences of an inner step that each of these nodes was given.
fn in_step(fleet: &Fleet, nodes: impl IntoIterator<Item = usize>) -> Vec<u32> {
    nodes.into_iter().map(|node| fleet.window(node).share.sequences_per_step).collect()
}

fn finish_round(fleet: &mut Fleet, nodes: usize) {
    let round = fleet.state.running().unwrap().round;
    while fleet.state.running().unwrap().round == round {
        let busy = (0..nodes).find(|node| fleet.work(*node) != Work::Idle).unwrap();
        fleet.step(busy);
    }
}

#[test]
fn shares_follow_how_fast_everybody_has_been() {
    let mut fleet = Fleet::new(3);
    (0..2).for_each(|node| fleet.join(node));
    fleet.submit("job", RoundPlan { steps: 27, ..plan() });
    assert_eq!(in_step(&fleet, 0..2), [4, 4], "both claim to be equally fast");
    fleet.now_ms += 100;
    fleet.step(0);
    fleet.now_ms += 200;
    fleet.step(1);
    finish_round(&mut fleet, 2);
    assert_eq!(in_step(&fleet, 0..2), [6, 2], "one was three times as fast as the other");
    assert_eq!(first_sequences(&fleet, 0..2), [2 * WINDOW, 2 * WINDOW + 18]);

    // With those shares both take as long, so the shares stay.
    fleet.now_ms += 150;
    fleet.step(0);
    fleet.step(1);
    finish_round(&mut fleet, 2);
    assert_eq!(in_step(&fleet, 0..2), [6, 2]);

    // A third that claims to be as fast as they said they are counts as one of them, until it has shown otherwise.
    fleet.join(2);
    fleet.now_ms += 150;
    fleet.step(0);
    fleet.step(1);
    finish_round(&mut fleet, 3);
    assert_eq!(in_step(&fleet, 0..3), [6, 2, 4]);
}

#[test]
fn who_was_late_gets_less() {
    let mut fleet = Fleet::running(2, RoundPlan { steps: 27, ..plan() });
    fleet.now_ms += DEADLINE_MS / 2;
    fleet.step(0);
    fleet.news();
    fleet.tick(DEADLINE_MS);
    assert_eq!(missed(&fleet.news()), [&Missed::Deadline]);
    finish_round(&mut fleet, 2);
    assert_eq!(in_step(&fleet, 0..2), [7, 1], "at best a sixth as fast");
}
