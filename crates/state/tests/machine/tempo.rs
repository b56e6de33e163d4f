//! How many inner steps rounds have.

use zoo_protocol::{RoundPlan, Stretch, TrainWindow, Work};
use zoo_state::{Event, Phase, State};

use crate::fleet::{Fleet, plan};

/// Runs the job: a step trains for 100 ms, and what comes between the rounds takes `traffic_ms`. The inner steps of
/// every round.
fn rounds(traffic_ms: u64, steps: u64, rhythm: Vec<Stretch>) -> (Vec<u32>, Fleet) {
    let plan = RoundPlan { steps, rhythm, evaluate_every: steps, ..plan() };
    let fleet = run(traffic_ms, plan);
    let inner_steps = fleet.events.iter().filter_map(|event| match event {
        Event::RoundStarted { shares, .. } => Some(shares[0].1.inner_steps),
        _ => None,
    });
    (inner_steps.collect(), fleet)
}

fn run(traffic_ms: u64, plan: RoundPlan) -> Fleet {
    let mut fleet = Fleet::running(2, plan);
    while let Some(running) = fleet.state.running() {
        fleet.now_ms += match running.phase {
            Phase::Training(_) => 50 * u64::from(running.tempo.inner_steps),
            Phase::Aggregating(_) => traffic_ms / 2,
            Phase::Waiting | Phase::Settling(_) | Phase::Evaluating(_) => 0,
        };
        let busy = (0..2).find(|node| fleet.work(*node) != Work::Idle).unwrap();
        fleet.step(busy);
    }
    fleet
}

fn stretch(from_step: u64, inner_steps: u32, most_inner_steps: u32) -> Stretch {
    Stretch { from_step, inner_steps, most_inner_steps }
}

#[test]
fn on_a_fast_network_rounds_stay_as_short_as_they_may() {
    let (inner_steps, _) = rounds(2, 6, vec![stretch(0, 1, 100)]);
    assert_eq!(inner_steps, [1; 6]);
}

#[test]
fn on_a_slow_network_rounds_grow_until_they_hide_their_traffic() {
    let (inner_steps, _) = rounds(100, 200, vec![stretch(0, 1, 100)]);
    assert_eq!(inner_steps[..6], [1, 2, 4, 8, 16, 32], "a step is as long as the traffic: 32 hide it");
    assert_eq!(inner_steps[6..], [32, 32, 32, 32, 9], "and the last round has what is left");
}

#[test]
fn a_warm_up_synchronises_after_every_step_whatever_it_costs() {
    let (inner_steps, fleet) = rounds(1_000, 40, vec![stretch(0, 1, 1), stretch(4, 10, 20)]);
    assert_eq!(inner_steps, [1, 1, 1, 1, 10, 20, 6]);
    let steps: Vec<u64> = fleet
        .events
        .iter()
        .filter_map(|event| match event {
            Event::RoundFinished { step, .. } => Some(*step),
            _ => None,
        })
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 14, 34, 40]);
}

#[test]
fn the_lengths_of_rounds_are_replayed() {
    let (_, fleet) = rounds(300, 100, vec![stretch(0, 1, 50)]);
    let mut state = State::new();
    let events: Vec<Event> = fleet.log.iter().flat_map(|command| state.apply(command).unwrap()).collect();
    assert_eq!((state.root(), events), (fleet.state.root(), fleet.events));
}

/// Every round's steps from its base, those taken ahead of it, and those that are to be taken ahead of the next.
fn overlapping_rounds(traffic_ms: u64, rhythm: Vec<Stretch>) -> (Vec<(u32, u32, u32)>, Fleet) {
    let plan = RoundPlan { steps: 100, rhythm, evaluate_every: 100, overlap: true, ..plan() };
    let fleet = run(traffic_ms, plan);
    let rounds = fleet.events.iter().filter_map(|event| match event {
        Event::RoundStarted { shares, lead_steps, ahead_steps, .. } => {
            Some((shares[0].1.inner_steps, *lead_steps, *ahead_steps))
        }
        _ => None,
    });
    (rounds.collect(), fleet)
}

#[test]
fn steps_taken_ahead_are_part_of_the_next_round() {
    let (rounds, fleet) = overlapping_rounds(250, vec![stretch(0, 30, 30)]);
    assert_eq!(rounds, [(30, 0, 7), (23, 7, 4), (26, 4, 2), (8, 2, 0)]);
    let steps = fleet.events.iter().filter_map(|event| match event {
        Event::RoundFinished { step, .. } => Some(*step),
        _ => None,
    });
    assert_eq!(steps.collect::<Vec<_>>(), [30, 60, 90, 100]);
}

#[test]
fn rounds_that_overlap_with_their_traffic_are_shorter() {
    let (rounds, _) = overlapping_rounds(100, vec![stretch(0, 1, 100)]);
    let all: Vec<u32> = rounds.iter().map(|(own, lead, _)| own + lead).collect();
    assert_eq!(
        all[..6],
        [1, 2, 4, 8, 8, 8],
        "two steps of eight hide one step's traffic, 32 would not overlap: {rounds:?}"
    );
    assert!(rounds.iter().all(|(own, lead, _)| 4 * lead <= own + lead), "{rounds:?}");
}

#[test]
fn nobody_leads_into_a_synchronous_warm_up() {
    let (rounds, _) = overlapping_rounds(100, vec![stretch(0, 1, 1), stretch(4, 8, 8)]);
    assert_eq!(rounds[..6], [(1, 0, 0), (1, 0, 0), (1, 0, 0), (1, 0, 2), (6, 2, 2), (6, 2, 2)]);
}

#[test]
fn only_who_contributed_leads() {
    let plan = RoundPlan { steps: 40, rhythm: RoundPlan::constant(20), overlap: true, ..plan() };
    let mut fleet = Fleet::running(3, plan);
    let windows: Vec<TrainWindow> = (0..3).map(|node| fleet.window(node)).collect();
    assert!(windows.iter().all(|window| (window.lead, window.ahead_steps) == (None, 5)));
    fleet.lose(2);
    for node in [0, 1].into_iter().cycle() {
        if fleet.state.running().is_some_and(|running| running.round == 1) {
            break;
        }
        fleet.step(node);
    }
    fleet.join(2);
    for (node, before) in windows.iter().enumerate().take(2) {
        let window = fleet.window(node);
        assert_eq!(window.lead, Some(before.share.after(5)));
        assert_eq!((window.first_step, window.share.inner_steps, window.ahead_steps), (25, 15, 0));
    }
}
