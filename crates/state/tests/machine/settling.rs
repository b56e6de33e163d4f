//! The last windows of a job are settled before it ends.

use std::collections::BTreeSet;

use zoo_content::Digest;
use zoo_protocol::{Declaration, JobId, NodeId, NodeKey, RoundPlan, Sealed, Succession, Tell, Work};
use zoo_state::{
    Command, Event, FaultKind, JobStatus, Outcome, Phase, Refusal, SETTLED_WITHIN, Steer, Unverified,
};

use crate::fleet::{self, DEADLINE_MS, Fleet};

const NODES: usize = 6;
const LIAR: usize = 1;

/// Three rounds, of which so many windows in 1,000 are drawn.
fn plan(verified_in_1000: u32) -> RoundPlan {
    RoundPlan { steps: 9, evaluate_every: 9, verified_in_1000, ..fleet::plan() }
}

/// The liar forges its windows, everybody else is honest.
fn step(fleet: &mut Fleet, node: usize) {
    if node != LIAR || !matches!(fleet.work(node), Work::Train(_)) {
        return fleet.step(node);
    }
    // What it gives can be had from it, as from anybody.
    let _ = fleet.honest_reports(node);
    let mut commitment = fleet.commitment(node);
    commitment.outcome.steps_root = Digest::of(b"nobody trained this");
    fleet.report(node, fleet.seal(node, &commitment)).unwrap();
}

/// The liar first: nobody waits for it while nothing of it has gone into a round.
fn order() -> impl Iterator<Item = usize> {
    [LIAR].into_iter().chain((0..NODES).filter(|node| *node != LIAR))
}

/// A fleet that was just asked to tell what it pledged with the last round; everybody is honest, or the liar is not.
fn settling(verified_in_1000: u32, step: fn(&mut Fleet, usize)) -> Fleet {
    let mut fleet = Fleet::running(NODES, plan(verified_in_1000));
    for _ in 0..40 {
        for node in order() {
            if matches!(fleet.phase(), Phase::Settling(_)) {
                return fleet;
            }
            step(&mut fleet, node);
        }
    }
    panic!("nothing is settled: {:?}", fleet.phase())
}

fn job(fleet: &Fleet) -> JobId {
    fleet.state.running().expect("a job runs").job
}

fn asked(fleet: &Fleet, node: usize) -> Option<Tell> {
    if let Work::Tell(tell) = fleet.work(node) { Some(tell) } else { None }
}

fn is_drawn(fleet: &Fleet) -> bool {
    matches!(fleet.phase(), Phase::Settling(settling) if settling.is_drawn)
}

/// Makers of the windows that somebody was asked to verify.
fn checked(events: &[Event]) -> BTreeSet<NodeId> {
    let maker = |event: &Event| match event {
        Event::VerificationAsked { maker, .. } => Some(*maker),
        _ => None,
    };
    events.iter().filter_map(maker).collect()
}

#[test]
fn every_window_of_a_job_can_be_drawn_its_last_ones_too() {
    let mut fleet = Fleet::running(NODES, plan(1000));
    let id = job(&fleet);
    assert!(fleet.finish(&id, 60));
    let events = fleet.news();
    let place = |is_it: fn(&Event) -> bool| events.iter().position(is_it).expect("it happened");
    let settles = place(|event| matches!(event, Event::JobSettling { round: 2, .. }));
    let sealed = place(|event| matches!(event, Event::RoundSealed { round: 2, .. }));
    assert!(settles < sealed, "the last round comes together when its windows are settled");
    let given = events.iter().filter(|event| matches!(event, Event::ContributionAccepted { .. })).count();
    let verified = events.iter().filter(|event| matches!(event, Event::WindowVerified { .. })).count();
    assert_eq!(
        (verified, events.iter().any(|event| matches!(event, Event::WindowUnverified { .. }))),
        (given, false)
    );
}

#[test]
fn what_nobody_verifies_is_not_settled() {
    let mut fleet = Fleet::running(NODES, plan(0));
    let id = job(&fleet);
    assert!(fleet.finish(&id, 60));
    assert!(!fleet.news().iter().any(|event| matches!(event, Event::JobSettling { .. })));
}

#[test]
fn a_liar_of_the_last_round_gives_nothing_to_it_and_what_it_gave_before_is_taken_back_with_it() {
    let mut fleet = settling(1000, step);
    let (id, liar) = (job(&fleet), fleet.id(LIAR));
    while matches!(fleet.phase(), Phase::Settling(_)) {
        order().for_each(|node| fleet.step(node));
    }
    let given = fleet.state.nodes()[&liar].account.rounds;
    assert!(given > 0);
    let events = fleet.news();
    let convicted = events.iter().find_map(|event| match event {
        Event::Fault { node, kind: FaultKind::WrongWindow { .. }, .. } => Some(*node),
        _ => None,
    });
    assert_eq!(convicted, Some(liar));
    let work = (0..NODES).find_map(|node| match fleet.work(node) {
        Work::Aggregate(work) => Some(work),
        _ => None,
    });
    if let Some(work) = work {
        assert!(work.is_last && work.summands.iter().all(|summand| summand.node != liar));
        let taken: Vec<u32> = work.amendments.iter().map(|amendment| amendment.round).collect();
        assert_eq!(taken.len() as u64, given, "all at once: {taken:?}");
        assert!(taken.is_sorted());
    }
    assert!(fleet.finish(&id, 20));
    let events: Vec<Event> = events.into_iter().chain(fleet.news()).collect();
    let withdrawn =
        |event: &&Event| matches!(event, Event::ContributionWithdrawn { node, .. } if *node == liar);
    let withdrawn: Vec<&Event> = events.iter().filter(withdrawn).collect();
    assert_eq!(withdrawn.len() as u64, given);
    for event in withdrawn {
        assert!(matches!(event, Event::ContributionWithdrawn { withdrawn_in: Some(_), .. }), "{event:?}");
    }
    let outcome = fleet.state.job_status(&id);
    assert!(matches!(outcome, Some(JobStatus::Over(Outcome::Finished { .. }))), "{outcome:?}");
}

#[test]
fn who_tells_nothing_is_verified_for_certain() {
    // By the lot hardly a window would be drawn.
    let mut fleet = settling(1, Fleet::step);
    fleet.news();
    for node in (0..NODES).filter(|node| *node != 2) {
        fleet.step(node);
    }
    assert!(!is_drawn(&fleet) && asked(&fleet, 2).is_some(), "it is waited for");
    fleet.tick(DEADLINE_MS);
    assert_eq!(checked(&fleet.news()), BTreeSet::from([fleet.id(2)]));
    assert_eq!(asked(&fleet, 2), None);
}

#[test]
fn where_nobody_tells_anything_all_are_verified() {
    let mut fleet = settling(1, Fleet::step);
    fleet.news();
    fleet.tick(DEADLINE_MS);
    assert!(is_drawn(&fleet));
    let id = job(&fleet);
    assert!(fleet.finish(&id, 40));
    let verified = fleet.news().into_iter().filter_map(|event| match event {
        Event::WindowVerified { maker, .. } => Some(maker),
        _ => None,
    });
    assert_eq!(verified.collect::<BTreeSet<_>>().len(), NODES);
}

#[test]
fn nobody_waits_for_who_is_gone() {
    let mut fleet = settling(1, Fleet::step);
    for node in (0..NODES).filter(|node| *node != 2) {
        fleet.step(node);
    }
    assert!(!is_drawn(&fleet));
    fleet.lose(2);
    assert!(is_drawn(&fleet));
}

#[test]
fn a_secret_is_told_by_who_pledged_it_and_is_no_other() {
    let mut fleet = settling(1000, Fleet::step);
    let tell = asked(&fleet, 0).expect("it is asked");
    assert_eq!((tell.network, tell.job, tell.round), (fleet::network(), job(&fleet), 2));
    let others = tell.answer(fleet.key(1));
    let earlier = Tell { round: 1, ..tell.clone() }.answer(fleet.key(0));
    assert!(matches!(fleet.report(0, others), Err(Refusal::Invalid(_))));
    assert!(matches!(fleet.report(0, earlier), Err(Refusal::NotAssigned { .. })));
    let told = tell.answer(fleet.key(0));
    let id = fleet.id(0);
    assert!(fleet.state.is_news(&id, &told));
    fleet.report(0, told.clone()).unwrap();
    assert!(!fleet.state.is_news(&id, &told));
    fleet.report(0, told).unwrap();
    assert_eq!(asked(&fleet, 0), None);
    // Before that nobody is asked, and who tells all the same is not heard.
    let mut early = Fleet::running(NODES, plan(1000));
    let tell = Tell { network: fleet::network(), job: job(&early), round: 0 };
    let report = tell.answer(early.key(0));
    assert!(matches!(early.report(0, report), Err(Refusal::NotAssigned { .. })));
}

#[test]
fn what_cannot_be_settled_does_not_hold_up_the_job_for_ever() {
    let mut fleet = settling(1000, Fleet::step);
    let id = job(&fleet);
    (0..NODES).for_each(|node| {
        if let Some(tell) = asked(&fleet, node) {
            let told = tell.answer(fleet.key(node));
            fleet.report(node, told).unwrap();
        }
    });
    assert!(is_drawn(&fleet));
    let mut deadlines = 0;
    while matches!(fleet.phase(), Phase::Settling(_)) {
        assert!(deadlines <= SETTLED_WITHIN, "it goes on for ever");
        fleet.tick(DEADLINE_MS);
        deadlines += 1;
    }
    assert!(fleet.finish(&id, 20));
    let is_left = |event: &Event| {
        matches!(event, Event::WindowUnverified { why: Unverified::JobOver | Unverified::Undecided, .. })
    };
    assert!(fleet.news().iter().any(is_left), "and the journal says what is left");
}

#[test]
fn nobody_changes_its_key_meanwhile_and_a_job_that_is_paused_begins_its_last_round_again() {
    let mut fleet = settling(1000, Fleet::step);
    fleet.name_network(&[]);
    let new = NodeKey::from_seed([99; 32]);
    let succession = Succession { network: fleet::network(), old: fleet.id(0), new: new.id() };
    let by_old = Sealed::seal(&succession, fleet.key(0));
    let refused = fleet.declare(Declaration::Succession { by_old, by_new: Sealed::seal(&succession, &new) });
    assert!(matches!(refused, Err(Refusal::NotNow(_))), "{refused:?}");
    let (id, now_ms) = (job(&fleet), fleet.now_ms);
    for steer in [Steer::Pause, Steer::Resume] {
        fleet.apply(Command::JobSteered { job: id, steer, now_ms }).unwrap();
    }
    assert!(matches!(fleet.phase(), Phase::Training(_)), "{:?}", fleet.phase());
    assert!(fleet.finish(&id, 40));
}
