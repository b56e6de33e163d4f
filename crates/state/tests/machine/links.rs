//! Links: what is believed of a measurement, and what plans make of it.

use std::collections::BTreeMap;

use zoo_protocol::{Link, NodeId, RoundPlan, Topology};
use zoo_state::{Command, Event, LINK_INTERVAL_MS, Phase, Refusal, SumState};

use crate::fleet::{Fleet, plan, profile};

fn link(upload_kib_per_s: u32, rtt_ms: u32) -> Link {
    Link { upload_kib_per_s, rtt_ms }
}

fn measure(fleet: &mut Fleet, node: usize, link: Link) -> Result<Vec<Event>, Refusal> {
    fleet.apply(Command::LinkMeasured { node: fleet.id(node), link, now_ms: fleet.now_ms })
}

/// All nodes have joined and measured, and all have contributed to a round of this topology.
fn sealed(links: &[Link], topology: Topology) -> Fleet {
    let mut fleet = Fleet::new(links.len());
    for (node, link) in links.iter().enumerate() {
        fleet.join(node);
        measure(&mut fleet, node, *link).unwrap();
    }
    fleet.submit("job", RoundPlan { topology, ..plan() });
    (0..links.len()).for_each(|node| fleet.step(node));
    fleet
}

/// How many sums each node was given.
fn sums(fleet: &Fleet) -> BTreeMap<NodeId, usize> {
    let Phase::Aggregating(aggregating) = fleet.phase() else { panic!("{:?}", fleet.phase()) };
    let mut sums = BTreeMap::new();
    for sum in &aggregating.gathering.sums {
        let SumState::Open(Some(node)) = sum.state else { panic!("{sum:?}") };
        *sums.entry(node).or_default() += 1;
    }
    sums
}

#[test]
fn a_measurement_is_taken_when_it_is_news_and_not_too_often() {
    let mut fleet = Fleet::new(2);
    fleet.join(0);
    let node = fleet.id(0);
    let no_news = || Err(Refusal::NoNews(node));
    assert_eq!(
        measure(&mut fleet, 0, link(1_000, 20)),
        Ok(vec![Event::LinkMeasured { node, link: link(1_000, 20) }])
    );
    assert_eq!(measure(&mut fleet, 0, link(100, 20)), no_news(), "too soon");
    fleet.now_ms += LINK_INTERVAL_MS;
    assert_eq!(measure(&mut fleet, 0, link(1_100, 21)), no_news(), "about the same");
    assert!(measure(&mut fleet, 0, link(100, 20)).is_ok());
    assert_eq!(measure(&mut fleet, 1, link(100, 20)), Err(Refusal::UnknownNode(fleet.id(1))));
    fleet.lose(0);
    fleet.now_ms += LINK_INTERVAL_MS;
    assert_eq!(measure(&mut fleet, 0, link(9_000, 20)), Err(Refusal::NotLive(node)));
    fleet.join(0);
    assert_eq!(fleet.state.nodes()[&node].upload_kib_per_s(), Some(100), "who comes back is known");
}

#[test]
fn an_absurd_measurement_is_refused() {
    let mut fleet = Fleet::new(1);
    fleet.join(0);
    for absurd in [link(0, 20), link(u32::MAX, 20), link(1_000, 0), link(1_000, u32::MAX)] {
        assert!(matches!(measure(&mut fleet, 0, absurd), Err(Refusal::Limit(_))), "{absurd:?}");
    }
    assert_eq!(fleet.state.nodes()[&fleet.id(0)].upload_kib_per_s(), None);
}

#[test]
fn nobody_uploads_more_than_it_stated() {
    for (stated, measured, expected) in [(0, 500, 500), (300, 500, 300), (800, 500, 500)] {
        let mut fleet = Fleet::new(1);
        let node = fleet.id(0);
        let mut profile = profile("node");
        profile.upload_kib_per_s = stated;
        fleet.apply(Command::NodeJoined { node, profile, addresses: vec![], now_ms: 1 }).unwrap();
        measure(&mut fleet, 0, link(measured, 1)).unwrap();
        assert_eq!(fleet.state.nodes()[&node].upload_kib_per_s(), Some(expected));
    }
}

#[test]
fn who_uploads_faster_adds_more() {
    let links: Vec<Link> = (0..12).map(|node| link(if node % 4 == 0 { 3_000 } else { 1_000 }, 20)).collect();
    let fleet = sealed(&links, Topology::Tree { fan_in: 4 });
    let sums = sums(&fleet);
    let of = |node: usize| sums.get(&fleet.id(node)).copied().unwrap_or(0);
    let fast: usize = (0..12).step_by(4).map(of).sum();
    let slow: usize = (0..12).filter(|node| node % 4 != 0).map(of).sum();
    assert!(fast > slow, "three fast nodes add {fast} sums, nine slow ones {slow}: {sums:?}");
}

#[test]
fn a_boast_moves_no_more_than_four_shares() {
    let honest = vec![link(1_000, 20); 64];
    let mut boasting = honest.clone();
    boasting[7] = link(Link::UPLOAD_KIB_PER_S_MAX, 1);
    let topology = Topology::Tree { fan_in: 8 };
    let fair = sums(&sealed(&honest, topology)).into_values().max().unwrap();
    let fleet = sealed(&boasting, topology);
    let got = sums(&fleet).get(&fleet.id(7)).copied().unwrap_or(0);
    assert!(got <= 4 * fair, "{got} sums, where equals have at most {fair}");
}

#[test]
fn nodes_that_are_as_far_away_are_in_one_group_and_the_near_take_the_outer_step() {
    let links: Vec<Link> = (0..8).map(|node| link(1_000, if node % 2 == 0 { 5 } else { 200 })).collect();
    let fleet = sealed(&links, Topology::Tree { fan_in: 4 });
    let Phase::Aggregating(aggregating) = fleet.phase() else { panic!("{:?}", fleet.phase()) };
    let near = |node: &NodeId| (0..8).step_by(2).any(|even| fleet.id(even) == *node);
    for sum in &aggregating.gathering.sums {
        let contributors: Vec<bool> = sum
            .items
            .iter()
            .filter_map(|item| match item {
                zoo_state::Item::Contribution(node) => Some(near(node)),
                zoo_state::Item::Sum(_) => None,
            })
            .collect();
        assert!(contributors.windows(2).all(|pair| pair[0] == pair[1]), "{contributors:?}");
    }
    let committee = aggregating.gathering.committee.as_ref().unwrap();
    assert!(committee.iter().all(near), "{committee:?}");
}

#[test]
fn no_link_shows_in_a_checkpoint() {
    let checkpoints = |links: &[Link]| {
        let mut fleet = sealed(links, Topology::Tree { fan_in: 3 });
        let job = fleet.state.running().unwrap().job;
        assert!(fleet.finish(&job, 40));
        let finished = |event: Event| match event {
            Event::RoundFinished { checkpoint, .. } => Some(checkpoint),
            _ => None,
        };
        fleet.news().into_iter().filter_map(finished).collect::<Vec<_>>()
    };
    let expected = checkpoints(&[link(1_000, 20); 9]);
    assert_eq!(expected.len(), 2);
    let unequal: Vec<Link> = (0..9).map(|node| link(10 << node, 1 << node)).collect();
    assert_eq!(checkpoints(&unequal), expected);
}
