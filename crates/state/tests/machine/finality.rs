//! Rounds become final, and what convicted nodes gave to those that are not is taken back.

use zoo_content::Digest;
use zoo_protocol::{Aggregate, Amendment, NodeId, Report, RoundPlan, Work};
use zoo_state::{Command, Event, Phase, Refusal, Steer};

use crate::fleet::{self, Fleet};

const NODES: usize = 6;
const LIAR: usize = 1;

fn plan() -> RoundPlan {
    RoundPlan { steps: 300, evaluate_every: 300, verified_in_1000: 1000, ..fleet::plan() }
}

fn round(fleet: &Fleet) -> u32 {
    fleet.state.running().unwrap().round
}

/// Everybody does what it is asked, the liar first, whose windows are forged.
fn sweep(fleet: &mut Fleet) {
    for node in [LIAR].into_iter().chain((0..NODES).filter(|node| *node != LIAR)) {
        if node == LIAR && matches!(fleet.work(node), Work::Train(_)) {
            // What it gives can be had from it, as from anybody.
            let _ = fleet.honest_reports(node);
            let mut commitment = fleet.commitment(node);
            commitment.outcome.steps_root = Digest::of(b"nobody trained this");
            fleet.report(node, fleet.seal(node, &commitment)).unwrap();
        } else {
            fleet.step(node);
        }
    }
}

/// A fleet that is asked to amend a round, and what it is told of that. What happened so far is no news.
fn amending() -> (Fleet, Vec<Event>, Amendment) {
    let mut fleet = Fleet::running(NODES, plan());
    let mut before = Vec::new();
    for _ in 0..60 {
        if let Some(amendment) = (0..NODES).find_map(|node| amendment_of(&fleet, node)) {
            return (fleet, before, amendment);
        }
        sweep(&mut fleet);
        before.extend(fleet.news());
    }
    panic!("nothing is amended");
}

fn amendment_of(fleet: &Fleet, node: usize) -> Option<Amendment> {
    match fleet.work(node) {
        Work::Aggregate(work) => work.amendments.into_iter().next(),
        _ => None,
    }
}

fn withdrawals(events: &[Event]) -> Vec<(u32, NodeId, Option<u32>)> {
    let withdrawal = |event: &Event| match event {
        Event::ContributionWithdrawn { round, node, withdrawn_in, .. } => {
            Some((*round, *node, *withdrawn_in))
        }
        _ => None,
    };
    events.iter().filter_map(withdrawal).collect()
}

#[test]
fn rounds_become_final_in_order_once_nothing_can_be_taken_out_of_them() {
    let mut fleet = Fleet::running(NODES, plan());
    let mut last = 0;
    while round(&fleet) < 20 {
        fleet.sweep();
        let running = fleet.state.running().unwrap();
        let (now, next) = (running.final_rounds(), running.round);
        assert!(last <= now && now <= next, "{last}, then {now} of {next}");
        let settled = |window: &(u32, NodeId)| window.0 >= now;
        assert!(running.verification.checks.keys().all(settled), "{:?}", running.verification.checks.keys());
        last = now;
    }
    assert!(last >= 12, "only {last} of 20 rounds");
    assert_eq!(withdrawals(&fleet.news()), []);
}

#[test]
fn a_round_that_nobody_verifies_is_final_at_once() {
    let mut fleet = Fleet::running(NODES, RoundPlan { verified_in_1000: 0, ..plan() });
    while round(&fleet) < 3 {
        fleet.sweep();
        let running = fleet.state.running().unwrap();
        assert!(running.open.is_empty() && running.final_rounds() >= running.round);
    }
}

#[test]
fn what_a_convicted_node_gave_to_open_rounds_is_taken_back_with_the_next_outer_steps() {
    let (mut fleet, before, amendment) = amending();
    let liar = fleet.id(LIAR);
    let makers = |list: &[zoo_protocol::Summand]| list.iter().map(|given| given.node).collect::<Vec<_>>();
    assert_eq!((makers(&amendment.withdraws), makers(&amendment.withdrawn)), (vec![liar], vec![]));
    assert_eq!(amendment.summands.len(), NODES, "what the round was made of");
    assert!(amendment.summands.contains(&amendment.withdraws[0]), "and this is part of it");
    let counted = fleet.state.nodes()[&liar].account.rounds;
    assert!(counted >= 1);

    let mut events = before;
    while round(&fleet) < 15 {
        sweep(&mut fleet);
        events.extend(fleet.news());
    }
    let taken_back = withdrawals(&events);
    assert_eq!(taken_back.len() as u64, counted, "all that counted was in open rounds: {taken_back:?}");
    for (round, node, withdrawn_in) in &taken_back {
        assert!(*node == liar && withdrawn_in.is_some_and(|at| at > *round), "{taken_back:?}");
    }
    let account = &fleet.state.nodes()[&liar].account;
    assert_eq!((account.withdrawn, account.convictions), (counted, 1));
    assert!(fleet.state.running().unwrap().withdrawals.is_empty());
    assert!(
        fleet.state.running().unwrap().final_rounds() > taken_back.last().unwrap().0,
        "and then it is final"
    );
}

#[test]
fn what_most_cannot_take_back_stays_and_one_who_cannot_is_excused() {
    for claimants in [1, NODES] {
        let (mut fleet, _, amendment) = amending();
        let voters: Vec<usize> = (0..NODES).filter(|node| amendment_of(&fleet, *node).is_some()).collect();
        assert!(voters.len() >= 3);
        for &node in voters.iter().take(claimants) {
            let Work::Aggregate(Aggregate { job, round, attempt, .. }) = fleet.work(node) else { break };
            fleet.report(node, Report::Unamendable { job, round, attempt }).unwrap();
            if !matches!(fleet.work(voters[voters.len() - 1]), Work::Aggregate(work) if work.attempt == attempt)
            {
                break;
            }
        }
        let liar = fleet.id(LIAR);
        let mut events = fleet.news();
        for _ in 0..4 {
            fleet.sweep();
            events.extend(fleet.news());
        }
        let of_round = withdrawals(&events).into_iter().find(|(round, ..)| *round == amendment.round);
        let (_, node, withdrawn_in) = of_round.expect("it is settled");
        assert_eq!((node, withdrawn_in.is_some()), (liar, claimants == 1));
    }
}

#[test]
fn who_is_not_asked_to_amend_cannot_say_that_it_cannot() {
    let mut fleet = Fleet::running(NODES, plan());
    while !matches!(fleet.state.running().unwrap().phase, Phase::Aggregating(_)) {
        (0..NODES)
            .filter(|node| matches!(fleet.work(*node), Work::Train(_)))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|node| fleet.step(node));
    }
    let Work::Aggregate(Aggregate { job, round, attempt, .. }) = fleet.work(0) else {
        panic!("{:?}", fleet.work(0))
    };
    let refused = fleet.report(0, Report::Unamendable { job, round, attempt });
    assert!(matches!(refused, Err(Refusal::NotAssigned { .. })), "{refused:?}");
}

#[test]
fn what_was_not_taken_back_when_the_job_ends_stays_and_the_journal_says_so() {
    let (mut fleet, _, amendment) = amending();
    fleet.news();
    let (job, now_ms) = (fleet.state.running().unwrap().job, fleet.now_ms);
    fleet.apply(Command::JobSteered { job, steer: Steer::Cancel, now_ms }).unwrap();
    let stays = withdrawals(&fleet.news());
    assert_eq!(stays.first(), Some(&(amendment.round, fleet.id(LIAR), None)), "{stays:?}");
}
