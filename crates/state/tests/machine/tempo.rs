//! How many inner steps rounds have.

use zoo_protocol::{RoundPlan, Stretch, Work};
use zoo_state::{Event, Phase, State};

use crate::fleet::{Fleet, plan};

/// Runs the job: a step trains for 100 ms, and what comes between the rounds takes `traffic_ms`. The inner steps of
/// every round.
fn rounds(traffic_ms: u64, steps: u64, rhythm: Vec<Stretch>) -> (Vec<u32>, Fleet) {
    let plan = RoundPlan { steps, rhythm, evaluate_every: steps, ..plan() };
    let mut fleet = Fleet::running(2, plan);
    while let Some(running) = fleet.state.running() {
        fleet.now_ms += match running.phase {
            Phase::Training(_) => 50 * u64::from(running.tempo.inner_steps),
            Phase::Aggregating(_) => traffic_ms / 2,
            Phase::Waiting | Phase::Evaluating(_) => 0,
        };
        let busy = (0..2).find(|node| fleet.work(*node) != Work::Idle).unwrap();
        fleet.step(busy);
    }
    let inner_steps = fleet.events.iter().filter_map(|event| match event {
        Event::RoundStarted { shares, .. } => Some(shares[0].1.inner_steps),
        _ => None,
    });
    (inner_steps.collect(), fleet)
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
