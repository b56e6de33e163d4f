//! Nodes that only their peers hear: what they keep, what they lose, and for how long.

use zoo_protocol::{NodeId, Report, RoundPlan, Topology, Work};
use zoo_state::{Command, Event, LossCause, Missed, Phase, Refusal, SUSPICION_MS};

use crate::fleet::{Fleet, plan};

fn suspect(fleet: &mut Fleet, node: usize, reached_by: Vec<NodeId>) -> Result<Vec<Event>, Refusal> {
    fleet.apply(Command::NodeSuspected { node: fleet.id(node), reached_by, now_ms: fleet.now_ms })
}

fn hear(fleet: &mut Fleet, node: usize) -> Result<Vec<Event>, Refusal> {
    fleet.apply(Command::NodeHeard { node: fleet.id(node), now_ms: fleet.now_ms })
}

/// Three nodes of which the last is silent for the orchestrator; its first peer reaches it.
fn suspected(topology: Topology, before: impl Fn(&mut Fleet)) -> Fleet {
    let mut fleet = Fleet::running(3, RoundPlan { topology, evaluate_every: 6, ..plan() });
    before(&mut fleet);
    let witnesses = fleet.ids([0]);
    let events = suspect(&mut fleet, 2, witnesses.clone()).unwrap();
    assert_eq!(events[0], Event::NodeSuspected { node: fleet.id(2), reached_by: witnesses });
    fleet.news();
    fleet
}

#[test]
fn a_round_keeps_the_place_of_a_suspect_and_not_that_of_the_dead() {
    let contribute = |fleet: &mut Fleet| (0..2).for_each(|node| fleet.step(node));
    let mut fleet = suspected(Topology::Auto, contribute);
    assert!(matches!(fleet.phase(), Phase::Training(_)), "it is waited for");
    assert!(matches!(fleet.work(2), Work::Train(_)), "and goes on with its window");
    assert!(fleet.is_live(2));
    assert_eq!(hear(&mut fleet, 2).unwrap(), [Event::NodeHeard { node: fleet.id(2) }]);
    fleet.step(2);
    let Phase::Aggregating(aggregating) = fleet.phase() else { panic!("{:?}", fleet.phase()) };
    assert_eq!(aggregating.contributions.len(), 3, "nothing it computed is lost");

    let mut fleet = Fleet::running(3, plan());
    contribute(&mut fleet);
    fleet.lose(2);
    let Phase::Aggregating(aggregating) = fleet.phase() else { panic!("{:?}", fleet.phase()) };
    assert_eq!(aggregating.contributions.len(), 2, "the dead are routed around at once");
}

#[test]
fn who_is_suspected_for_too_long_is_lost() {
    let mut fleet = suspected(Topology::Auto, |fleet| (0..2).for_each(|node| fleet.step(node)));
    assert_eq!(fleet.state.next_deadline_ms(), Some(fleet.now_ms + SUSPICION_MS));
    fleet.tick(SUSPICION_MS / 2);
    let witnesses = fleet.ids([1]);
    assert_eq!(suspect(&mut fleet, 2, witnesses).unwrap(), [], "asking again does not begin anew");
    fleet.tick(SUSPICION_MS / 2 - 1);
    assert!(fleet.is_live(2));
    fleet.news();
    fleet.tick(1);
    let (node, job) = (fleet.id(2), fleet.state.running().unwrap().job);
    assert_eq!(
        fleet.news()[..2],
        [
            Event::NodeLost { node, cause: LossCause::Unheard },
            Event::ContributionMissed { job, round: 0, node, why: Missed::Lost }
        ]
    );
    assert!(!fleet.is_live(2) && !fleet.state.is_suspect(&node));
    fleet.join(2);
    assert!(matches!(fleet.work(2), Work::Aggregate(_)), "who comes back is one of them again");
}

#[test]
fn what_a_suspect_contributed_is_not_dropped_on_one_word() {
    let claim = |mut fleet: Fleet| {
        let aggregate = fleet.aggregate(0);
        let (job, round, attempt) = (aggregate.job, aggregate.round, aggregate.attempt);
        fleet.report(0, Report::Missing { job, round, attempt, maker: fleet.id(2) }).unwrap();
        match fleet.phase() {
            Phase::Aggregating(aggregating) => aggregating.contributions.len(),
            other => panic!("{other:?}"),
        }
    };
    let all = |fleet: &mut Fleet| (0..3).for_each(|node| fleet.step(node));
    assert_eq!(
        claim(suspected(Topology::Auto, all)),
        3,
        "peers reach it: others may fetch what one could not"
    );
    let mut dead = Fleet::running(3, plan());
    all(&mut dead);
    dead.lose(2);
    assert_eq!(claim(dead), 2);
}

#[test]
fn nobody_waits_for_what_others_do_as_well() {
    for topology in [Topology::AllGather, Topology::Star, Topology::Tree { fan_in: 2 }] {
        let mut fleet = suspected(topology, |fleet| (0..3).for_each(|node| fleet.step(node)));
        assert_eq!(fleet.work(2), Work::Idle, "{topology:?}");
        let finishes = (0..6).any(|_| {
            (0..2).for_each(|node| fleet.step(node));
            fleet.news().iter().any(|event| matches!(event, Event::RoundFinished { .. }))
        });
        assert!(finishes, "{topology:?}: {:?}", fleet.phase());
        let Phase::Training(training) = fleet.phase() else { panic!("{:?}", fleet.phase()) };
        assert_eq!(training.seats.len(), 2, "{topology:?}: a suspect gets no new window");
    }
}

#[test]
fn shards_of_a_suspect_go_to_others() {
    let mut fleet = Fleet::running(3, plan());
    while !matches!(fleet.phase(), Phase::Evaluating(_)) {
        fleet.sweep();
    }
    let holder = (0..3).find(|node| matches!(fleet.work(*node), Work::Evaluate(_))).unwrap();
    let witnesses = fleet.ids([(holder + 1) % 3]);
    suspect(&mut fleet, holder, witnesses).unwrap();
    assert_eq!(fleet.work(holder), Work::Idle);
    let job = fleet.state.running().unwrap().job;
    let others: Vec<usize> = (0..3).filter(|node| *node != holder).collect();
    for _ in 0..40 {
        others.iter().for_each(|node| fleet.step(*node));
    }
    assert!(fleet.finish(&job, 1), "{:?}", fleet.state.running());
}

#[test]
fn a_suspicion_needs_somebody_who_is_there_and_ends_when_the_node_comes_back() {
    let mut fleet = Fleet::running(4, plan());
    fleet.lose(3);
    let (lost, itself) = (fleet.ids([3]), fleet.ids([2]));
    let strangers = vec![NodeId([9; 32])];
    for nobody in [Vec::new(), lost, itself, strangers] {
        assert!(matches!(suspect(&mut fleet, 2, nobody.clone()), Err(Refusal::Invalid(_))), "{nobody:?}");
    }
    let many = fleet.ids([0, 1, 0, 1]);
    assert!(matches!(suspect(&mut fleet, 2, many), Err(Refusal::Limit(_))));
    let witness = fleet.ids([0]);
    assert_eq!(suspect(&mut fleet, 3, witness.clone()), Err(Refusal::NotLive(fleet.id(3))));
    suspect(&mut fleet, 2, witness.clone()).unwrap();
    let suspects = fleet.ids([2]);
    assert!(matches!(suspect(&mut fleet, 1, suspects), Err(Refusal::Invalid(_))), "a suspect is no witness");
    fleet.join(2);
    assert!(!fleet.state.is_suspect(&fleet.id(2)));
    assert_eq!(hear(&mut fleet, 2), Ok(vec![]), "nothing to forget");
    suspect(&mut fleet, 2, witness).unwrap();
    fleet.lose(2);
    assert!(!fleet.state.is_suspect(&fleet.id(2)), "who says goodbye is gone");
}
