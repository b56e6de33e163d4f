//! Who has given nothing yet does not hold up those who have.

use zoo_protocol::{NodeId, NodeKey, Report, RoundPlan, Work};
use zoo_state::{Command, Event, GONE_MAX, IN_TURN_MIN, LossCause, Phase, Refusal};

use crate::fleet::{self, Fleet, profile};

fn plan() -> RoundPlan {
    RoundPlan { steps: 30, evaluate_every: 30, ..fleet::plan() }
}

/// Three nodes that have finished a round, and so many keys that nobody has heard of.
fn flooded(keys: u32) -> Fleet {
    let mut fleet = Fleet::running(3, plan());
    while fleet.state.running().unwrap().round == 0 {
        (0..3).for_each(|node| fleet.step(node));
    }
    flood(&mut fleet, keys);
    fleet
}

fn stranger(number: u32) -> NodeId {
    let mut seed = [200; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    NodeKey::from_seed(seed).id()
}

fn flood(fleet: &mut Fleet, keys: u32) {
    for node in (0..keys).map(stranger) {
        let (profile, now_ms) = (profile("stranger"), fleet.now_ms);
        fleet.apply(Command::NodeJoined { node, profile, addresses: vec![], now_ms }).unwrap();
    }
}

fn finish_round(fleet: &mut Fleet) {
    let round = fleet.state.running().unwrap().round;
    for _ in 0..6 {
        (0..3).for_each(|node| fleet.step(node));
        if fleet.state.running().unwrap().round > round {
            return;
        }
    }
    panic!("round {round} is not finished by those who count");
}

fn seats(fleet: &Fleet) -> usize {
    match fleet.phase() {
        Phase::Training(training) => training.seats.len(),
        other => panic!("nobody trains: {other:?}"),
    }
}

#[test]
fn a_hundred_silent_newcomers_cost_those_who_count_neither_time_nor_sequences() {
    let mut fleet = flooded(100);
    finish_round(&mut fleet);
    for _ in 0..4 {
        fleet.now_ms += 10_000;
        let (before, usual) = (fleet.now_ms, fleet::plan().sequences_per_step);
        assert_eq!(seats(&fleet), 3 + IN_TURN_MIN, "newcomers have their turn, a few at once");
        (0..3).for_each(|node| assert!(fleet.window(node).share.sequences_per_step >= usual));
        finish_round(&mut fleet);
        assert_eq!(fleet.now_ms, before, "nobody waited");
    }
    let events = fleet.news();
    assert!(!events.iter().any(|event| matches!(event, Event::RoundRestarted { .. })), "{events:?}");
}

#[test]
fn a_newcomer_that_boasts_gets_no_more_than_is_usual() {
    let mut fleet = Fleet::running(3, plan());
    fleet.now_ms += 10_000;
    while fleet.state.running().unwrap().round == 0 {
        (0..3).for_each(|node| fleet.step(node));
    }
    let mut boast = profile("boaster");
    boast.speeds.f32_exact *= 1_000;
    let (node, now_ms) = (stranger(0), fleet.now_ms);
    fleet.apply(Command::NodeJoined { node, profile: boast, addresses: vec![], now_ms }).unwrap();
    finish_round(&mut fleet);
    let Work::Train(window) = fleet.state.work_for(&node) else { panic!("it has its turn") };
    assert_eq!(window.share.sequences_per_step, fleet::plan().sequences_per_step);
}

#[test]
fn who_joins_later_contributes_when_it_can_and_counts_from_then_on() {
    let mut fleet = Fleet::new(4);
    (0..3).for_each(|node| fleet.join(node));
    fleet.submit("job", plan());
    finish_round(&mut fleet);
    fleet.join(3);
    assert_eq!(fleet.work(3), Work::Idle, "the round has begun");
    finish_round(&mut fleet);
    let window = fleet.window(3);
    finish_round(&mut fleet);
    assert_eq!(fleet.window(3), window, "it goes on though nobody waited");
    fleet.step(3);
    finish_round(&mut fleet);
    assert_eq!(fleet.state.nodes()[&fleet.id(3)].account.rounds, 1);
    (0..3).for_each(|node| fleet.step(node));
    assert!(matches!(fleet.phase(), Phase::Training(_)), "it is waited for");
    fleet.step(3);
    assert!(matches!(fleet.work(3), Work::Aggregate(_)), "and votes");
}

#[test]
fn a_newcomer_has_no_vote_and_what_it_says_against_others_is_not_heard() {
    let mut fleet = flooded(4);
    (0..3).for_each(|node| fleet.step(node));
    let aggregate = fleet.aggregate(0);
    let (job, round, attempt, maker) = (aggregate.job, aggregate.round, aggregate.attempt, fleet.id(1));
    for node in (0..4).map(stranger) {
        assert_eq!(fleet.state.work_for(&node), Work::Idle);
        let report = Report::Missing { job, round, attempt, maker };
        let refused = fleet.apply(Command::Reported { node, report, now_ms: fleet.now_ms });
        assert!(matches!(refused, Err(Refusal::NotAssigned { .. })), "{refused:?}");
    }
    assert_eq!(fleet.aggregate(0), aggregate);
}

#[test]
fn where_nobody_who_counts_is_left_newcomers_carry_the_job_on() {
    let mut fleet = Fleet::new(4);
    (0..2).for_each(|node| fleet.join(node));
    fleet.submit("job", plan());
    while fleet.state.running().unwrap().round == 0 {
        (0..2).for_each(|node| fleet.step(node));
    }
    (2..4).for_each(|node| fleet.join(node));
    (0..2).for_each(|node| fleet.lose(node));
    fleet.tick(fleet::DEADLINE_MS);
    for _ in 0..6 {
        (2..4).for_each(|node| fleet.step(node));
    }
    assert!(fleet.state.running().unwrap().round > 1);
}

#[test]
fn newcomers_that_are_gone_are_forgotten_and_nobody_else() {
    let mut fleet = flooded(0);
    fleet.lose(2);
    let many = GONE_MAX as u32 + 2;
    for node in (0..many).map(stranger) {
        let now_ms = fleet.now_ms;
        let join = Command::NodeJoined { node, profile: profile("x"), addresses: vec![], now_ms };
        fleet.state.apply(&join).unwrap();
        fleet.state.apply(&Command::NodeLost { node, cause: LossCause::Left, now_ms }).unwrap();
    }
    assert!(fleet.state.nodes().len() <= GONE_MAX + 4, "{} nodes are known", fleet.state.nodes().len());
    assert!((0..3).all(|node| fleet.state.nodes().contains_key(&fleet.id(node))));
    assert_eq!(zoo_state::invariants::check(&fleet.state), Ok(()));
}

#[test]
fn who_says_the_same_twice_says_nothing_new() {
    let mut fleet = Fleet::running(3, plan());
    let mut said = 0;
    for _ in 0..40 {
        for node in 0..3 {
            for report in fleet.honest_reports(node) {
                assert!(fleet.state.is_news(&fleet.id(node), &report), "{report:?}");
                let round = fleet.state.running().map(|running| running.round);
                fleet.report(node, report.clone()).unwrap();
                // What is over may be refused instead.
                if fleet.state.running().map(|running| running.round) == round {
                    said += 1;
                    let repeated = fleet.state.is_news(&fleet.id(node), &report);
                    assert!(!repeated || fleet.report(node, report.clone()).is_err(), "{report:?}");
                }
            }
        }
    }
    assert!(said > 20, "{said} reports were said twice");
}
