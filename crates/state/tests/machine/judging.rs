//! Contributions that are not what they must be.

use zoo_content::Digest;
use zoo_protocol::{Form, NodeId, RefusedSummand, Report, RoundPlan, Topology, Work};
use zoo_state::{Event, FaultKind, JobStatus, Missed, Outcome, Phase, Refusal, Restart};

use crate::fleet::{Fleet, plan};

const REASON: &str = "update of vnode head: it ends early";

/// A fleet whose nodes have all contributed.
fn sealed(nodes: usize, plan: RoundPlan) -> Fleet {
    let mut fleet = Fleet::running(nodes, plan);
    (0..nodes).for_each(|node| fleet.step(node));
    assert!(matches!(fleet.phase(), Phase::Aggregating(_)));
    fleet.news();
    fleet
}

fn summand(maker: NodeId, form: Form, first_vnode: u32) -> RefusedSummand {
    RefusedSummand { maker, form, first_vnode, reason: REASON.into() }
}

/// The node refuses these contributions to its work.
fn refuse(fleet: &mut Fleet, node: usize, makers: &[usize]) -> Result<Vec<Event>, Refusal> {
    let (job, round, attempt) = match fleet.work(node) {
        Work::Aggregate(work) => (work.job, work.round, work.attempt),
        Work::Sum(work) => (work.job, work.round, work.attempt),
        other => panic!("node {node} adds nothing but: {other:?}"),
    };
    let summands = makers.iter().map(|maker| summand(fleet.id(*maker), Form::Contribution, 0)).collect();
    fleet.report(node, Report::Refused { job, round, attempt, summands })
}

fn refused(events: &[Event]) -> Vec<(NodeId, String)> {
    let refused = events.iter().filter_map(|event| match event {
        Event::Fault { node, kind: FaultKind::Refused { reason }, .. } => Some((*node, reason.clone())),
        _ => None,
    });
    refused.collect()
}

fn contributors(fleet: &Fleet, seen_by: usize) -> Vec<NodeId> {
    fleet.aggregate(seen_by).summands.iter().map(|given| given.node).collect()
}

#[test]
fn what_most_refuse_is_left_out_with_its_reason_and_the_round_goes_on() {
    let mut fleet = sealed(4, plan());
    assert_eq!(refused(&refuse(&mut fleet, 0, &[3]).unwrap()), []);
    assert_eq!(refused(&refuse(&mut fleet, 1, &[3]).unwrap()), []);
    let events = refuse(&mut fleet, 2, &[3]).unwrap();
    assert_eq!(refused(&events), [(fleet.id(3), REASON.to_owned())]);
    let text = events[0].clone();
    let Event::Fault { kind, .. } = text else { panic!("{text:?}") };
    assert!(kind.to_string().ends_with(REASON), "{kind}");

    assert_eq!(contributors(&fleet, 0), fleet.ids(0..3));
    assert_eq!(fleet.work(3), Work::Idle, "it is barred");
    (0..3).for_each(|node| fleet.step(node));
    assert!(fleet.news().iter().any(|event| matches!(event, Event::RoundFinished { round: 0, .. })));
    let account = |node: usize| fleet.state.nodes()[&fleet.id(node)].account.clone();
    assert_eq!((account(3).faults, account(3).rounds, account(0).rounds), (1, 0, 1));
}

#[test]
fn several_are_left_out_at_once() {
    let mut fleet = sealed(5, plan());
    for node in [0, 1, 2] {
        refuse(&mut fleet, node, &[3, 4]).unwrap();
    }
    let news = fleet.news();
    assert_eq!(refused(&news).len(), 2);
    let seals = news.iter().filter(|event| matches!(event, Event::RoundSealed { attempt: 1, .. }));
    assert_eq!(seals.count(), 1);
    assert_eq!(contributors(&fleet, 0), fleet.ids(0..3));
}

#[test]
fn one_liar_excludes_nobody_not_even_who_is_lost() {
    let mut fleet = sealed(4, plan());
    refuse(&mut fleet, 0, &[1, 2, 3]).unwrap();
    fleet.lose(3);
    assert_eq!(contributors(&fleet, 1), fleet.ids(0..4));
    fleet.join(3);
    fleet.step(1);
    fleet.lose(3);
    fleet.step(2);
    let news = fleet.news();
    assert_eq!(refused(&news), []);
    let finished = news.iter().find_map(|event| match event {
        Event::RoundFinished { holders, .. } => Some(holders.clone()),
        _ => None,
    });
    assert_eq!(finished, Some(fleet.ids([1, 2])));
    assert_eq!(fleet.state.nodes()[&fleet.id(3)].account.rounds, 1);
}

#[test]
fn a_checkpoint_for_which_no_more_stand_than_against_it_is_not_believed() {
    // The others are gone when it comes to the vote: the liar's word against that of one.
    let mut fleet = sealed(4, plan());
    refuse(&mut fleet, 0, &[3]).unwrap();
    let (job, round, attempt) = {
        let work = fleet.aggregate(3);
        (work.job, work.round, work.attempt)
    };
    let checkpoint = Digest::of(b"with garbage in it");
    fleet
        .report(3, Report::Aggregated { job, round, attempt, checkpoint, left_out: vec![], alike: vec![] })
        .unwrap();
    fleet.lose(1);
    fleet.lose(2);
    let news = fleet.news();
    assert!(!news.iter().any(|event| matches!(event, Event::RoundFinished { .. })), "{news:?}");
    let restarted = |event: &Event| matches!(event, Event::RoundRestarted { why: Restart::Tie, .. });
    assert!(news.iter().any(restarted), "{news:?}");
}

#[test]
fn who_cannot_be_fetched_from_is_not_at_fault_though_one_refuses() {
    let mut fleet = sealed(4, plan());
    let (job, round, attempt) = {
        let work = fleet.aggregate(1);
        (work.job, work.round, work.attempt)
    };
    refuse(&mut fleet, 0, &[3]).unwrap();
    for node in [1, 2] {
        let maker = fleet.id(3);
        fleet.report(node, Report::Missing { job, round, attempt, maker }).unwrap();
    }
    let news = fleet.news();
    assert_eq!(refused(&news), []);
    assert!(
        news.iter().any(|event| matches!(event, Event::ContributionMissed { why: Missed::Unavailable, .. }))
    );
    assert_eq!(contributors(&fleet, 0), fleet.ids(0..3));
}

#[test]
fn what_the_only_contributor_gave_is_refused_and_the_round_starts_again() {
    let mut fleet = Fleet::running(4, plan());
    fleet.step(3);
    (0..3).for_each(|node| fleet.lose(node));
    (0..3).for_each(|node| fleet.join(node));
    fleet.tick(crate::fleet::DEADLINE_MS);
    assert_eq!(contributors(&fleet, 0), fleet.ids([3]));
    for node in 0..3 {
        refuse(&mut fleet, node, &[3]).unwrap();
    }
    let news = fleet.news();
    assert_eq!(refused(&news).len(), 1);
    let restarted =
        |event: &Event| matches!(event, Event::RoundStarted { start: 2, shares, .. } if shares.len() == 3);
    assert!(news.iter().any(restarted), "{news:?}");
    let job = fleet.state.running().unwrap().job;
    assert!(fleet.finish(&job, 20));
    assert!(matches!(fleet.state.job_status(&job), Some(JobStatus::Over(Outcome::Finished { .. }))));
}

#[test]
fn in_a_tree_two_that_add_a_contribution_suffice_and_a_bad_sum_is_made_again() {
    let mut fleet = sealed(6, RoundPlan { topology: Topology::Tree { fan_in: 3 }, ..plan() });
    let judge = (0..6).find(|node| matches!(fleet.work(*node), Work::Sum(_))).unwrap();
    let Work::Sum(sum) = fleet.work(judge) else { unreachable!() };
    let victim =
        (0..6).find(|node| sum.summands.iter().any(|given| given.node == fleet.id(*node)) && *node != judge);
    let victim = victim.unwrap();
    refuse(&mut fleet, judge, &[victim]).unwrap();
    assert_eq!(refused(&fleet.news()), [], "one is not enough");
    let second = (0..6).filter(|node| *node != judge && *node != victim).find(|node| {
        let Work::Sum(work) = fleet.work(*node) else { return false };
        work.summands.iter().any(|given| given.node == fleet.id(victim))
    });
    refuse(&mut fleet, second.unwrap(), &[victim]).unwrap();
    assert_eq!(refused(&fleet.news()), [(fleet.id(victim), REASON.to_owned())]);

    // A sum is refused by its maker and its place; nobody's contribution is accused of it.
    let mut fleet = sealed(6, RoundPlan { topology: Topology::Tree { fan_in: 3 }, ..plan() });
    let (node, work) = (0..100)
        .find_map(|_| {
            (0..6).find_map(|node| match fleet.work(node) {
                Work::Aggregate(work) => Some((node, work)),
                Work::Sum(_) => {
                    fleet.step(node);
                    None
                }
                _ => None,
            })
        })
        .expect("the sums come together");
    let bad = work.summands.last().unwrap();
    let (job, round, attempt) = (work.job, work.round, work.attempt);
    let accused = summand(bad.node, Form::Contribution, bad.first_vnode);
    let report = |summand| Report::Refused { job, round, attempt, summands: vec![summand] };
    assert!(matches!(fleet.report(node, report(accused)), Err(Refusal::NotAssigned { .. })));
    fleet.report(node, report(summand(bad.node, bad.form, bad.first_vnode))).unwrap();
    let news = fleet.news();
    assert_eq!(refused(&news), []);
    assert!(news.iter().any(|event| matches!(event, Event::PartMoved { .. })), "{news:?}");
    assert!(fleet.finish(&job, 40));
}

#[test]
fn who_takes_the_place_of_a_judge_is_told_of_its_work() {
    let mut fleet = sealed(6, RoundPlan { topology: Topology::Star, ..plan() });
    let idle =
        |fleet: &Fleet| -> Vec<usize> { (0..6).filter(|node| fleet.work(*node) == Work::Idle).collect() };
    let before = idle(&fleet);
    assert_eq!(before.len(), 3);
    let judge = (0..6).find(|node| fleet.work(*node) != Work::Idle).unwrap();
    let victim = before[0];
    let events = refuse(&mut fleet, judge, &[victim]).unwrap();
    let concerned = fleet.state.concerned(fleet.log.last().unwrap(), &events).unwrap();
    let after = idle(&fleet);
    let called: Vec<usize> = before.into_iter().filter(|node| !after.contains(node)).collect();
    assert_eq!(called.len(), 1);
    assert!(concerned.contains(&fleet.id(called[0])));
}

#[test]
fn only_what_belongs_to_the_work_is_refused() {
    let mut fleet = sealed(3, plan());
    let work = fleet.aggregate(0);
    let stranger = zoo_protocol::NodeKey::from_seed([99; 32]).id();
    let cases = [
        (work.attempt + 1, summand(fleet.id(1), Form::Contribution, 0)),
        (work.attempt, summand(stranger, Form::Contribution, 0)),
        (work.attempt, summand(fleet.id(1), Form::Sum(3), 0)),
    ];
    for (attempt, refused) in cases {
        let (job, round) = (work.job, work.round);
        let report = Report::Refused { job, round, attempt, summands: vec![refused] };
        assert!(matches!(fleet.report(0, report), Err(Refusal::NotAssigned { .. })));
    }
    fleet.step(0);
    let (job, round, attempt) = (work.job, work.round, work.attempt);
    let report =
        Report::Refused { job, round, attempt, summands: vec![summand(fleet.id(1), Form::Contribution, 0)] };
    assert_eq!(fleet.report(0, report), Err(Refusal::AnsweredOtherwise(fleet.id(0))));
}

#[test]
fn an_update_far_larger_than_those_of_most_is_never_fetched() {
    let mut fleet = Fleet::running(3, plan());
    let mut large = fleet.commitment(1);
    large.outcome.updates[2].bytes = 1 << 30;
    let report = fleet.seal(1, &large);
    fleet.report(1, report).unwrap();
    fleet.step(0);
    fleet.step(2);
    let found = fleet.news().into_iter().find_map(|event| match event {
        Event::Fault { node, kind, .. } => Some((node, kind.to_string())),
        _ => None,
    });
    let (node, what) = found.expect("it is at fault");
    assert_eq!(node, fleet.id(1));
    assert_eq!(
        what,
        "committed to an update of 1073741824 bytes for VNode 2, where next to the others 73536 are the most"
    );
    assert_eq!(contributors(&fleet, 0), fleet.ids([0, 2]));

    // Of two, the smaller one may be the lie.
    let mut fleet = Fleet::running(2, plan());
    let mut large = fleet.commitment(1);
    large.outcome.updates[2].bytes = 1 << 30;
    let report = fleet.seal(1, &large);
    fleet.report(1, report).unwrap();
    fleet.step(0);
    assert_eq!(contributors(&fleet, 0), fleet.ids(0..2));
}

#[test]
fn the_updates_of_another_are_refused_at_the_door() {
    let mut fleet = Fleet::running(3, plan());
    let mut copied = fleet.commitment(0);
    fleet.step(0);
    copied.work = fleet.window(1);
    copied.outcome.replica_out = Digest::of(b"my own");
    let report = fleet.seal(1, &copied);
    let (node, of) = (fleet.id(1), fleet.id(0));
    assert_eq!(fleet.report(1, report), Err(Refusal::Repeated { node, of }));
    fleet.step(1);
    fleet.step(2);
    assert_eq!(contributors(&fleet, 0), fleet.ids(0..3));
}
