//! Who is late goes on with its window, and counts half in the next round.

use zoo_protocol::{Report, RoundPlan, Work};
use zoo_state::{Event, Missed, Phase, Refusal};

use crate::fleet::{self, DEADLINE_MS, Fleet, commitment};

/// Four rounds, evaluated at their end.
fn plan() -> RoundPlan {
    RoundPlan { steps: 12, evaluate_every: 12, ..fleet::plan() }
}

/// Five nodes, of whom the first four contribute after ten seconds.
fn four_of_five() -> Fleet {
    let mut fleet = Fleet::running(5, plan());
    fleet.now_ms += 10_000;
    (0..4).for_each(|node| fleet.step(node));
    fleet.news();
    fleet
}

/// The same, sealed without the fifth.
fn sealed() -> Fleet {
    let mut fleet = four_of_five();
    fleet.tick(10_000);
    fleet.news();
    fleet
}

fn finish_round(fleet: &mut Fleet, nodes: std::ops::Range<usize>) {
    let round = fleet.state.running().unwrap().round;
    for _ in 0..4 {
        for node in nodes.clone() {
            let is_over = fleet
                .state
                .running()
                .is_none_or(|running| running.round > round || matches!(running.phase, Phase::Evaluating(_)));
            if is_over {
                return;
            }
            fleet.step(node);
        }
    }
}

fn missed(fleet: &mut Fleet) -> Vec<(u32, Missed)> {
    let why = |event| match event {
        Event::ContributionMissed { round, why, .. } => Some((round, why)),
        _ => None,
    };
    fleet.news().into_iter().filter_map(why).collect()
}

#[test]
fn a_quorum_waits_for_the_others_as_long_as_it_took_itself() {
    let mut fleet = four_of_five();
    assert_eq!(fleet.state.next_deadline_ms(), Some(fleet.now_ms + 10_000));
    let window = fleet.window(4);
    fleet.tick(9_999);
    assert!(matches!(fleet.phase(), Phase::Training(_)));
    fleet.tick(1);
    assert_eq!(fleet.aggregate(0).summands.len(), 4);
    assert_eq!(fleet.window(4), window, "it goes on");
    let late = |event: &Event| matches!(event, Event::ContributionLate { round: 0, node, .. } if *node == fleet.id(4));
    assert!(fleet.events.iter().any(late), "{:?}", fleet.events);
    assert_eq!(fleet.state.nodes()[&fleet.id(4)].account.missed, 0, "nothing is lost yet");
}

#[test]
fn what_takes_less_than_a_second_is_noise() {
    let mut fleet = Fleet::running(5, plan());
    fleet.now_ms += 20;
    (0..4).for_each(|node| fleet.step(node));
    assert_eq!(fleet.state.next_deadline_ms(), Some(fleet.now_ms + 1_000));
}

#[test]
fn without_a_quorum_the_deadline_ends_the_wait() {
    // Two are too few to go on alone, half is not most, and the plan may ask for all.
    let all = RoundPlan { minimum_nodes: 5, ..plan() };
    for (nodes, contribute, plan) in [(3, 2, plan()), (6, 3, plan()), (5, 4, all)] {
        let mut fleet = Fleet::running(nodes, plan);
        fleet.now_ms += 10_000;
        (0..contribute).for_each(|node| fleet.step(node));
        assert_eq!(fleet.state.next_deadline_ms(), Some(1_000 + DEADLINE_MS), "{contribute} of {nodes}");
    }
}

#[test]
fn a_late_contribution_is_a_summand_of_the_next_round() {
    let mut fleet = sealed();
    finish_round(&mut fleet, 0..4);
    assert_eq!(fleet.state.running().unwrap().round, 1);
    let window = fleet.window(4);
    assert_eq!(window.round, 0, "it goes on while the others train the next round");
    (0..4).for_each(|node| assert_eq!(fleet.window(node).round, 1));
    assert!(
        fleet.window(0).share.first_sequence > window.share.first_sequence,
        "nobody repeats its sequences"
    );
    fleet.step(4);
    assert_eq!(fleet.work(4), Work::Idle, "it has no part in this round but that");
    fleet.now_ms += 10_000;
    (0..4).for_each(|node| fleet.step(node));
    let rounds: Vec<u32> = fleet.aggregate(0).summands.iter().map(|summand| summand.round).collect();
    assert_eq!(rounds, [1, 1, 1, 1, 0]);
    finish_round(&mut fleet, 0..5);
    assert_eq!(missed(&mut fleet), []);
    let account = &fleet.state.nodes()[&fleet.id(4)].account;
    assert_eq!((account.contributions, account.rounds, account.missed), (1, 1, 0));
}

#[test]
fn what_comes_while_the_others_aggregate_waits_and_its_node_trains_the_next_round() {
    let mut fleet = sealed();
    let report = fleet.honest_reports(4).remove(0);
    fleet.report(4, report.clone()).unwrap();
    assert!(matches!(fleet.work(4), Work::Aggregate(_)), "it is free");
    assert_eq!(fleet.report(4, report), Ok(vec![]), "said twice is said once");
    let mut other =
        commitment(fleet.state.running().unwrap().late[&fleet.id(4)].window.clone(), fleet.key(4));
    other.outcome.tokens *= 2;
    let other = fleet.seal(4, &other);
    assert!(matches!(fleet.report(4, other), Err(Refusal::AnsweredOtherwise(_))));
    finish_round(&mut fleet, 0..5);
    assert_eq!(fleet.window(4).round, 1);
    // Its own contribution comes first; without one the late one counts.
    fleet.now_ms += 10_000;
    (0..4).for_each(|node| fleet.step(node));
    fleet.tick(10_000);
    let rounds: Vec<u32> = fleet.aggregate(0).summands.iter().map(|summand| summand.round).collect();
    assert_eq!(rounds, [1, 1, 1, 1, 0]);
    assert_eq!(fleet.window(4).round, 1, "and it goes on again");
}

#[test]
fn nobody_waits_for_the_late_a_second_time() {
    let mut fleet = sealed();
    finish_round(&mut fleet, 0..4);
    fleet.now_ms += 10_000;
    fleet.news();
    let late = fleet.honest_reports(4).remove(0);
    (0..4).for_each(|node| fleet.step(node));
    assert_eq!(fleet.aggregate(0).summands.len(), 4, "sealed at once");
    assert_eq!(missed(&mut fleet), [(0, Missed::Deadline)]);
    assert_eq!(fleet.work(4), Work::Idle, "it has given nothing yet, and does not vote");
    assert!(matches!(fleet.report(4, late), Err(Refusal::NotAssigned { .. })));
}

#[test]
fn a_late_node_that_fails_or_is_lost_is_waited_for_no_longer() {
    let mut fleet = sealed();
    let window = fleet.window(4);
    let failed = |round| Report::Failed { job: window.job, round, reason: "no memory".into() };
    assert!(fleet.report(4, failed(1)).is_err());
    fleet.report(4, failed(0)).unwrap();
    assert!(matches!(fleet.work(4), Work::Aggregate(_)));
    assert_eq!(missed(&mut fleet), [(0, Missed::Failed("no memory".into()))]);

    let mut fleet = sealed();
    fleet.lose(4);
    fleet.join(4);
    assert!(matches!(fleet.work(4), Work::Aggregate(_)));
    assert_eq!(missed(&mut fleet), [(0, Missed::Lost)]);
}

#[test]
fn where_too_few_are_left_the_late_are_needed() {
    let mut fleet = sealed();
    fleet.lose(0);
    assert_eq!(fleet.window(4).round, 0, "three are enough");
    fleet.news();
    fleet.lose(1);
    assert!(matches!(fleet.work(4), Work::Aggregate(_)), "two are not");
    assert_eq!(missed(&mut fleet), [(0, Missed::Deadline)]);
}

#[test]
fn updates_are_clipped_to_the_median_of_what_is_said_of_their_norms() {
    let mut fleet = Fleet::running(5, plan());
    for (node, norm) in [900, 40, 50, 60, 1].into_iter().enumerate() {
        let mut commitment = fleet.commitment(node);
        commitment.outcome.updates[1].norm = norm;
        let report = fleet.seal(node, &commitment);
        fleet.report(node, report).unwrap();
    }
    assert_eq!(fleet.aggregate(3).norm_limits, [1 << 20, 50, 1 << 20]);
}
