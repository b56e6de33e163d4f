//! Contributions that come together over a tree.

use std::collections::{BTreeMap, BTreeSet};

use zoo_content::Digest;
use zoo_protocol::{Aggregate, Form, NodeId, Report, RoundPlan, Sum, Topology, Work};
use zoo_state::{Aggregating, Event, Item, Phase, Refusal, SumState};

use crate::fleet::{DEADLINE_MS, Fleet, plan, sums};

/// A fleet whose nodes have all contributed.
fn sealed(nodes: usize, topology: Topology) -> Fleet {
    let mut fleet = Fleet::running(nodes, RoundPlan { topology, ..plan() });
    (0..nodes).for_each(|node| fleet.step(node));
    fleet.news();
    fleet
}

fn aggregating(fleet: &Fleet) -> &Aggregating {
    match fleet.phase() {
        Phase::Aggregating(aggregating) => aggregating,
        other => panic!("{other:?}"),
    }
}

fn sum_of(fleet: &Fleet, node: usize) -> Option<Sum> {
    match fleet.work(node) {
        Work::Sum(sum) => Some(sum),
        _ => None,
    }
}

/// Nodes that have a sum to add now.
fn adding(fleet: &Fleet, nodes: usize) -> Vec<usize> {
    (0..nodes).filter(|node| sum_of(fleet, *node).is_some()).collect()
}

fn finished(fleet: &mut Fleet) -> Vec<Digest> {
    let checkpoint = |event: Event| match event {
        Event::RoundFinished { checkpoint, .. } => Some(checkpoint),
        _ => None,
    };
    fleet.news().into_iter().filter_map(checkpoint).collect()
}

fn moved(events: &[Event]) -> Vec<(u32, Option<NodeId>)> {
    let moved = |event: &Event| match event {
        Event::PartMoved { sum, node, .. } => Some((*sum, *node)),
        _ => None,
    };
    events.iter().filter_map(moved).collect()
}

#[test]
fn every_topology_comes_to_the_same_checkpoints() {
    let play = |topology| {
        let mut fleet = Fleet::running(13, RoundPlan { topology, ..plan() });
        let job = fleet.state.running().unwrap().job;
        assert!(fleet.finish(&job, 40), "{topology:?}: {:?}", fleet.state.running());
        finished(&mut fleet)
    };
    let expected = play(Topology::AllGather);
    assert_eq!(expected.len(), 2);
    for topology in [
        Topology::Auto,
        Topology::Star,
        Topology::Tree { fan_in: 2 },
        Topology::Tree { fan_in: 3 },
        Topology::Tree { fan_in: 5 },
        Topology::Tree { fan_in: 13 },
    ] {
        assert_eq!(play(topology), expected, "{topology:?}");
    }
}

#[test]
fn a_tree_adds_every_contribution_once_and_nobody_adds_too_much() {
    for (nodes, fan_in) in [(5, 2), (9, 3), (40, 4), (100, 8)] {
        let fleet = sealed(nodes, Topology::Tree { fan_in });
        let gathering = &aggregating(&fleet).gathering;
        let mut added: BTreeMap<(u32, Item), usize> = BTreeMap::new();
        let mut with: BTreeMap<NodeId, usize> = BTreeMap::new();
        for sum in &gathering.sums {
            assert!(sum.items.len() <= fan_in as usize, "{} summands", sum.items.len());
            for vnode in sum.first_vnode..sum.first_vnode + sum.vnodes {
                sum.items.iter().for_each(|item| *added.entry((vnode, *item)).or_default() += 1);
            }
            let SumState::Open(Some(node)) = sum.state else { panic!("{sum:?}") };
            *with.entry(node).or_default() += 1;
        }
        for vnode in 0..3 {
            let leaves =
                added.keys().filter(|(of, item)| *of == vnode && matches!(item, Item::Contribution(_)));
            assert_eq!(leaves.count(), nodes);
        }
        assert!(added.values().all(|times| *times == 1));
        // Of three parts and a handful of levels nobody has more than a few.
        assert!(with.values().max() <= Some(&4), "{with:?}");
        assert!(gathering.top.len() <= 3);
        assert_eq!(gathering.committee.as_ref().map(BTreeSet::len), Some(3));
    }
}

#[test]
fn an_inner_node_that_is_lost_is_routed_around_within_the_round() {
    let nodes = 9;
    let mut fleet = sealed(nodes, Topology::Tree { fan_in: 3 });
    let attempt = aggregating(&fleet).attempt;
    let lost = adding(&fleet, nodes)[0];
    let had = sum_of(&fleet, lost).unwrap().sum;
    // Its contribution was fetched before: somebody else can still add it.
    let expected = {
        let mut quiet = sealed(nodes, Topology::Tree { fan_in: 3 });
        (0..4).for_each(|_| quiet.sweep());
        finished(&mut quiet)[0]
    };
    let work: Vec<Option<Sum>> = (0..nodes).map(|node| sum_of(&fleet, node)).collect();
    fleet.lose(lost);
    let moves = moved(&fleet.news());
    assert!(
        moves.iter().any(|(sum, node)| *sum == had && node.is_some_and(|node| node != fleet.id(lost))),
        "{moves:?}"
    );
    for node in (0..nodes).filter(|node| *node != lost) {
        let after = sum_of(&fleet, node).map(|sum| sum.sum);
        let before = work[node].as_ref().map(|sum| sum.sum);
        assert!(before.is_none() || before == after, "node {node} keeps what it has");
    }
    fleet.join(lost);
    let checkpoint = (0..8).find_map(|_| {
        fleet.sweep();
        finished(&mut fleet).first().copied()
    });
    assert_eq!(checkpoint, Some(expected));
    assert_eq!(fleet.state.running().map(|running| running.fruitless), Some(0));
    assert_eq!(attempt, 0);
}

#[test]
fn a_sum_that_cannot_be_had_is_made_again_by_another_node() {
    let nodes = 9;
    let mut fleet = sealed(nodes, Topology::Tree { fan_in: 3 });
    let of_sums = |fleet: &Fleet, node: usize| {
        let from = |sum: Sum| sum.summands.into_iter().find(|it| matches!(it.form, Form::Sum(_)));
        sum_of(fleet, node).and_then(from)
    };
    while !(0..nodes).any(|node| of_sums(&fleet, node).is_some()) {
        adding(&fleet, nodes).into_iter().for_each(|node| fleet.step(node));
    }
    let above = (0..nodes).find(|node| of_sums(&fleet, *node).is_some()).unwrap();
    let summand = of_sums(&fleet, above).unwrap();
    let maker = (0..nodes).find(|node| fleet.id(*node) == summand.node).unwrap();
    fleet.wipe(maker);
    fleet.news();
    fleet.step(above);
    let Some((sum, Some(node))) = moved(&fleet.news()).first().copied() else {
        panic!("nobody makes it again")
    };
    assert_ne!(node, fleet.id(maker));
    let again = &aggregating(&fleet).gathering.sums[sum as usize];
    assert_eq!((again.first_vnode, again.state.clone()), (summand.first_vnode, SumState::Open(Some(node))));
}

#[test]
fn a_sum_that_is_made_again_late_in_the_phase_has_its_time() {
    let nodes = 9;
    let mut fleet = sealed(nodes, Topology::Tree { fan_in: 3 });
    let of_votes = |fleet: &Fleet, node: usize| match fleet.work(node) {
        Work::Aggregate(work) => Some(work),
        _ => None,
    };
    while !(0..nodes).any(|node| of_votes(&fleet, node).is_some()) {
        adding(&fleet, nodes).into_iter().for_each(|node| fleet.step(node));
    }
    let voter = (0..nodes).find(|node| of_votes(&fleet, *node).is_some()).unwrap();
    let Aggregate { job, round, attempt, summands, .. } = of_votes(&fleet, voter).unwrap();
    fleet.tick(DEADLINE_MS - 1);
    fleet.news();
    fleet.report(voter, Report::Missing { job, round, attempt, maker: summands[0].node }).unwrap();
    let events = fleet.news();
    assert_eq!(moved(&events).len(), 1, "given to one other node, which is not late yet: {events:?}");
    let job = fleet.state.running().unwrap().job;
    assert!(fleet.finish(&job, 20));
    assert_eq!(finished(&mut fleet).len(), 2, "the round went on");
}

#[test]
fn who_keeps_everybody_waiting_is_excused() {
    let nodes = 9;
    let mut fleet = sealed(nodes, Topology::Tree { fan_in: 3 });
    let slow = adding(&fleet, nodes)[0];
    let late = sum_of(&fleet, slow).unwrap();
    for _ in 0..3 {
        (0..nodes).filter(|node| *node != slow).for_each(|node| fleet.step(node));
    }
    fleet.news();
    assert_eq!(fleet.state.next_deadline_ms(), Some(fleet.now_ms + DEADLINE_MS / 4));
    fleet.tick(DEADLINE_MS / 4);
    let events = fleet.news();
    let Some((sum, Some(other))) = moved(&events).first().copied() else { panic!("{events:?}") };
    assert_eq!(sum, late.sum);
    assert_ne!(other, fleet.id(slow));
    // Its own is as good if it comes first.
    let Sum { job, round, attempt, sum, .. } = late;
    fleet.report(slow, Report::Summed { job, round, attempt, sum, sums: sums(&late) }).unwrap();
    let job = fleet.state.running().unwrap().job;
    assert!(fleet.finish(&job, 20));
    assert_eq!(finished(&mut fleet).len(), 2);
}

#[test]
fn two_nodes_that_cannot_fetch_a_contribution_are_believed_and_one_is_not() {
    let nodes = 9;
    let mut fleet = sealed(nodes, Topology::Tree { fan_in: 3 });
    let first = adding(&fleet, nodes)[0];
    let Sum { job, round, attempt, sum, summands, .. } = sum_of(&fleet, first).unwrap();
    let maker = summands.iter().map(|summand| summand.node).find(|node| *node != fleet.id(first)).unwrap();
    fleet.report(first, Report::Missing { job, round, attempt, maker }).unwrap();
    assert_eq!(aggregating(&fleet).attempt, attempt, "one claim drops nothing");
    let second = (0..nodes).find(|node| sum_of(&fleet, *node).is_some_and(|work| work.sum == sum)).unwrap();
    assert_ne!(second, first, "who cannot is excused");
    fleet.report(second, Report::Missing { job, round, attempt, maker }).unwrap();
    assert_eq!(aggregating(&fleet).attempt, attempt + 1);
    assert!(!aggregating(&fleet).contributions.contains_key(&maker));
}

#[test]
fn others_take_the_place_of_who_is_silent_in_the_committee() {
    let mut fleet = sealed(5, Topology::Star);
    let committee: Vec<usize> = (0..5).filter(|node| fleet.work(*node) != Work::Idle).collect();
    fleet.step(committee[0]);
    fleet.tick(DEADLINE_MS);
    let others: Vec<usize> =
        (0..5).filter(|node| !committee.contains(node) && fleet.work(*node) != Work::Idle).collect();
    assert_eq!(others.len(), 2, "both silent ones are replaced");
    others.iter().for_each(|node| fleet.step(*node));
    assert_eq!(finished(&mut fleet).len(), 1);
}

#[test]
fn who_comes_back_says_again_what_it_holds() {
    let mut fleet = sealed(5, Topology::Star);
    let committee: Vec<usize> = (0..5).filter(|node| fleet.work(*node) != Work::Idle).collect();
    assert_eq!(committee.len(), 3);
    let [first, second, third] = committee[..] else { unreachable!() };
    fleet.step(first);
    fleet.lose(first);
    fleet.wipe(first);
    fleet.join(first);
    fleet.lose(second);
    fleet.lose(third);
    assert!(matches!(fleet.phase(), Phase::Aggregating(_)), "nobody who is there is known to hold it");
    assert!(matches!(fleet.work(first), Work::Aggregate(_)));
}

#[test]
fn a_sum_counts_from_who_was_asked_and_with_the_vnodes_that_were_asked_for() {
    let nodes = 9;
    let mut fleet = sealed(nodes, Topology::Tree { fan_in: 3 });
    let asked = adding(&fleet, nodes)[0];
    let work = sum_of(&fleet, asked).unwrap();
    let Sum { job, round, attempt, sum, .. } = work;
    let good = sums(&work);
    let summed = |sum, sums| Report::Summed { job, round, attempt, sum, sums };
    let other = (asked + 1) % nodes;
    let refusals = [
        (other, summed(sum, good.clone()), "with another node"),
        (asked, summed(1000, good.clone()), "no such sum"),
        (asked, summed(sum, Vec::new()), "other VNodes"),
    ];
    for (node, report, why) in refusals {
        let refusal = fleet.report(node, report).unwrap_err().to_string();
        assert!(refusal.contains(why), "{refusal}");
    }
    fleet.report(asked, summed(sum, good.clone())).unwrap();
    assert_eq!(fleet.report(asked, summed(sum, good.clone())).unwrap(), [], "said twice changes nothing");
    let mut lie = good;
    lie[0].update = Digest::of(b"lie");
    assert_eq!(
        fleet.report(asked, summed(sum, lie)).unwrap_err(),
        Refusal::OtherSum { node: fleet.id(asked), sum }
    );
}
