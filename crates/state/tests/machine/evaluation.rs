//! The phase in which a checkpoint is evaluated.

use zoo_protocol::{Report, RoundPlan, Work};
use zoo_state::{Event, Failure, Phase, Refusal, limits};

use crate::fleet::{DEADLINE_MS, Fleet, plan, score};

/// A fleet that evaluates the checkpoint of round 0.
fn evaluating(nodes: usize, shards: u32) -> Fleet {
    let mut fleet = Fleet::running(nodes, RoundPlan { evaluation_shards: shards, ..plan() });
    (0..nodes).for_each(|node| fleet.step(node));
    (0..nodes).for_each(|node| fleet.step(node));
    assert!(matches!(fleet.phase(), Phase::Evaluating(_)));
    fleet.news();
    fleet
}

fn shards(fleet: &Fleet, nodes: usize) -> Vec<Option<u32>> {
    (0..nodes)
        .map(|node| match fleet.work(node) {
            Work::Evaluate(evaluate) => Some(evaluate.shard),
            _ => None,
        })
        .collect()
}

#[test]
fn shards_go_round_and_are_summed_in_shard_order() {
    let mut fleet = evaluating(2, 5);
    let checkpoint = fleet.state.running().unwrap().base;
    assert_eq!(shards(&fleet, 2), [Some(0), Some(1)]);
    assert_eq!((fleet.shard(0).checkpoint, fleet.shard(0).shards), (checkpoint, 5));
    fleet.step(1);
    assert_eq!(shards(&fleet, 2), [Some(0), Some(3)]);
    fleet.step(1);
    assert_eq!(shards(&fleet, 2), [Some(0), None]);
    (0..3).for_each(|_| fleet.step(0));
    let events = fleet.news();
    let Event::EvaluationFinished { round: 0, nats_bits, tokens: 50, bytes: 200, bits_per_byte_bits, .. } =
        events[0]
    else {
        panic!("{events:?}")
    };
    let nats = [1.5, 3.0, 4.5, 6.0, 7.5].iter().fold(0.0, |sum, nats| sum + nats);
    assert_eq!(f64::from_bits(nats_bits), nats);
    let bits_per_byte = f64::from_bits(bits_per_byte_bits);
    assert!((bits_per_byte - nats / 200.0 * std::f64::consts::LOG2_E).abs() < 1e-12, "{bits_per_byte}");
    assert!(matches!(events[1], Event::RoundStarted { round: 1, .. }), "the next round trains afterwards");
}

#[test]
fn rounds_are_evaluated_at_their_interval_and_after_the_last() {
    let cases: [(u64, u64, &[u32]); 4] =
        [(3, 1, &[0, 1, 2]), (5, 2, &[1, 3, 4]), (4, 2, &[1, 3]), (2, 9, &[1])];
    for (rounds, evaluate_every, expected) in cases {
        let mut fleet =
            Fleet::running(2, RoundPlan { steps: 3 * rounds, evaluate_every: 3 * evaluate_every, ..plan() });
        let job = fleet.state.running().unwrap().job;
        assert!(fleet.finish(&job, 60));
        let evaluated: Vec<u32> = fleet
            .news()
            .iter()
            .filter_map(|event| match event {
                Event::EvaluationFinished { round, .. } => Some(*round),
                _ => None,
            })
            .collect();
        assert_eq!(evaluated, expected, "every {evaluate_every} of {rounds} rounds");
    }
}

#[test]
fn the_shards_of_a_lost_node_go_to_those_with_the_fewest() {
    let mut fleet = evaluating(3, 6);
    fleet.step(1);
    fleet.lose(0);
    assert_eq!(shards(&fleet, 3), [None, Some(0), Some(2)], "shards 0 and 3 were of the lost node");
    fleet.lose(1);
    fleet.lose(2);
    assert_eq!(fleet.state.next_deadline_ms(), None);
    fleet.tick(9 * DEADLINE_MS);
    fleet.join(1);
    assert_eq!(shards(&fleet, 3), [None, Some(0), None]);
    (0..5).for_each(|_| fleet.step(1));
    assert!(matches!(fleet.phase(), Phase::Waiting), "one node is too few for the next round");
}

#[test]
fn a_node_that_makes_no_progress_hands_its_shards_on() {
    let mut fleet = evaluating(2, 2);
    fleet.tick(DEADLINE_MS - 1);
    fleet.step(1);
    assert_eq!(shards(&fleet, 2), [Some(0), None]);
    fleet.tick(DEADLINE_MS - 1);
    assert_eq!(shards(&fleet, 2), [Some(0), None], "progress of anybody starts the wait anew");
    fleet.tick(1);
    assert_eq!(shards(&fleet, 2), [None, Some(0)]);
    fleet.tick(DEADLINE_MS);
    assert_eq!(shards(&fleet, 2), [None, Some(0)], "when all were slow all may try again");
    let stale = fleet.honest_reports(1).remove(0);
    fleet.tick(DEADLINE_MS);
    assert_eq!(shards(&fleet, 2), [Some(0), None]);
    assert!(matches!(fleet.report(1, stale), Err(Refusal::NotAssigned { .. })));
}

#[test]
fn a_checkpoint_that_no_node_can_evaluate_fails_the_job() {
    let mut fleet = evaluating(2, 1);
    let job = fleet.state.running().unwrap().job;
    let mut attempts = 0;
    while fleet.state.running().is_some() {
        let node = (0..2).find(|node| fleet.work(*node) != Work::Idle).unwrap();
        let reason = "out of memory".into();
        fleet.report(node, Report::Failed { job, round: 0, reason }).unwrap();
        attempts += 1;
    }
    assert_eq!(attempts, 2 * (limits::MAX_FRUITLESS + 1));
    let failed = Event::JobFailed { job, why: Failure::NoEvaluation { round: 0 } };
    assert_eq!(fleet.news().last(), Some(&failed));
}

#[test]
fn a_score_has_to_be_for_an_assigned_shard_and_possible() {
    let mut fleet = evaluating(2, 2);
    let honest = score(&fleet.shard(0));
    let Report::Evaluated { job, round, nats_bits, .. } = honest else { panic!("{honest:?}") };
    let with = |shard, nats: f64, tokens, bytes| Report::Evaluated {
        job,
        round,
        shard,
        nats_bits: nats.to_bits(),
        tokens,
        bytes,
    };
    for nats in [f64::NAN, f64::INFINITY, -1.0, 1e8] {
        assert!(matches!(fleet.report(0, with(0, nats, 10, 40)), Err(Refusal::Invalid(_))), "{nats}");
    }
    for (nats, tokens, bytes) in [(1.0, 0, 0), (1.0, u64::MAX, 1), (1.0, 1, u64::MAX)] {
        assert!(matches!(fleet.report(0, with(0, nats, tokens, bytes)), Err(Refusal::Invalid(_))));
    }
    for shard in [1, 2, u32::MAX] {
        assert!(matches!(fleet.report(0, with(shard, 1.0, 10, 40)), Err(Refusal::NotAssigned { .. })));
    }
    let other_round = Report::Evaluated { job, round: 1, shard: 0, nats_bits, tokens: 10, bytes: 40 };
    assert!(matches!(fleet.report(0, other_round), Err(Refusal::NotAssigned { .. })));
    fleet.report(0, honest.clone()).unwrap();
    assert_eq!(fleet.report(0, honest), Ok(vec![]), "a duplicate");
    assert_eq!(fleet.report(0, with(0, 1.0, 10, 40)), Err(Refusal::AnsweredOtherwise(fleet.id(0))));
}

#[test]
fn held_out_data_that_stands_for_no_text_fails_the_job() {
    let mut fleet = evaluating(2, 1);
    let Work::Evaluate(evaluate) = fleet.work(0) else { panic!() };
    let (job, round) = (evaluate.job, evaluate.round);
    fleet.report(0, Report::Evaluated { job, round, shard: 0, nats_bits: 0, tokens: 0, bytes: 0 }).unwrap();
    let failed = Event::JobFailed { job, why: Failure::NothingToEvaluate };
    assert_eq!(fleet.news().last(), Some(&failed));
}
