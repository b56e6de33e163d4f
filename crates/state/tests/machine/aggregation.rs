//! The phase in which everyone aggregates.

use zoo_content::Digest;
use zoo_protocol::{Aggregate, Report, RoundPlan, Work};
use zoo_state::{Event, Failure, FaultKind, JobStatus, Missed, Phase, Refusal, Restart};

use crate::fleet::{DEADLINE_MS, Fleet, checkpoint, plan};

/// A fleet whose nodes have all contributed.
fn sealed(nodes: usize) -> Fleet {
    let mut fleet = Fleet::running(nodes, plan());
    (0..nodes).for_each(|node| fleet.step(node));
    fleet.news();
    fleet
}

/// The node reports a checkpoint of its own making.
pub fn vote(fleet: &mut Fleet, node: usize, what: &[u8]) -> Result<Vec<Event>, Refusal> {
    let running = fleet.state.running().unwrap();
    let Phase::Aggregating(aggregating) = &running.phase else { panic!("{:?}", running.phase) };
    let (job, round, attempt) = (running.job, running.round, aggregating.attempt);
    fleet.report(
        node,
        Report::Aggregated {
            job,
            round,
            attempt,
            checkpoint: Digest::of(what),
            left_out: vec![],
            alike: vec![],
        },
    )
}

/// The node reports that it cannot fetch a contribution.
fn miss(fleet: &mut Fleet, node: usize, contributor: usize) -> Vec<Event> {
    let Aggregate { job, round, attempt, .. } = fleet.aggregate(node);
    let contributor = fleet.id(contributor);
    fleet.report(node, Report::Missing { job, round, attempt, maker: contributor }).unwrap()
}

fn contributors(fleet: &Fleet, seen_by: usize) -> Vec<zoo_protocol::NodeId> {
    fleet.aggregate(seen_by).summands.iter().map(|given| given.node).collect()
}

/// Passes the deadline as often as it is put off.
fn wait_in_vain(fleet: &mut Fleet) {
    (0..4).for_each(|_| fleet.tick(DEADLINE_MS));
}

fn faults(events: &[Event]) -> Vec<zoo_protocol::NodeId> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Fault { node, kind: FaultKind::Disagreement { .. }, .. } => Some(*node),
            _ => None,
        })
        .collect()
}

fn restarts(events: &[Event]) -> Vec<Restart> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::RoundRestarted { why, .. } => Some(*why),
            _ => None,
        })
        .collect()
}

#[test]
fn a_round_finishes_when_everyone_has_the_same_checkpoint() {
    let mut fleet = sealed(3);
    let agreed = checkpoint(&fleet.aggregate(0));
    assert_eq!(fleet.aggregate(0), fleet.aggregate(2));
    assert_eq!(fleet.aggregate(0).step, 3);
    fleet.step(0);
    fleet.step(1);
    assert!(matches!(fleet.phase(), Phase::Aggregating(_)));
    assert_eq!(fleet.work(0), Work::Idle);
    fleet.step(2);
    let tokens = 3 * 12 * 64;
    let job = fleet.state.running().unwrap().job;
    let finished =
        Event::RoundFinished { job, round: 0, checkpoint: agreed, holders: fleet.ids(0..3), tokens, step: 3 };
    assert_eq!(fleet.news()[0], finished);
    assert_eq!(fleet.state.holders(&agreed), fleet.ids(0..3));
    for (_, node) in fleet.state.live() {
        let account = &node.account;
        assert_eq!(
            (account.contributions, account.rounds, account.tokens, account.aggregations),
            (1, 1, 768, 1)
        );
    }
}

#[test]
fn the_few_that_disagree_are_named_and_sit_out_the_next_round() {
    let mut fleet = sealed(3);
    vote(&mut fleet, 1, b"something else").unwrap();
    fleet.step(0);
    fleet.step(2);
    let events = fleet.news();
    assert_eq!(faults(&events), fleet.ids([1]));
    assert!(
        events.iter().any(
            |event| matches!(event, Event::RoundFinished { holders, .. } if *holders == fleet.ids([0, 2]))
        )
    );
    while !matches!(fleet.phase(), Phase::Training(_)) {
        assert_eq!(fleet.work(1), Work::Idle, "barred from evaluating");
        fleet.sweep();
    }
    assert_eq!(fleet.work(1), Work::Idle, "barred from training");
    assert!(matches!(fleet.work(0), Work::Train(_)));
    assert_eq!(fleet.state.nodes()[&fleet.id(1)].account.faults, 1);
}

#[test]
fn a_fault_is_forgiven_after_the_next_round() {
    let mut fleet = Fleet::running(3, RoundPlan { steps: 12, ..plan() });
    (0..3).for_each(|node| fleet.step(node));
    vote(&mut fleet, 1, b"something else").unwrap();
    let job = fleet.state.running().unwrap().job;
    assert!(fleet.finish(&job, 60));
    let liar = fleet.id(1);
    let mut trained = vec![];
    for event in fleet.news() {
        if let Event::RoundStarted { round, shares, .. } = event
            && shares.iter().any(|(node, _)| *node == liar)
        {
            trained.push(round);
        }
    }
    assert_eq!(trained, [0, 2, 3]);
}

#[test]
fn a_tie_of_all_fails_the_job_and_says_who_reported_what() {
    let mut fleet = sealed(2);
    let job = fleet.state.running().unwrap().job;
    vote(&mut fleet, 0, b"this").unwrap();
    vote(&mut fleet, 1, b"that").unwrap();
    let events = fleet.news();
    let Some(Event::JobFailed { why: Failure::Disagreement { round: 0, checkpoints }, .. }) = events.last()
    else {
        panic!("{events:?}")
    };
    let mut expected = vec![(Digest::of(b"this"), fleet.ids([0])), (Digest::of(b"that"), fleet.ids([1]))];
    expected.sort();
    assert_eq!(*checkpoints, expected);
    assert!(matches!(fleet.state.job_status(&job), Some(JobStatus::Over(_))));
}

#[test]
fn a_tie_of_those_who_could_starts_the_round_again() {
    let mut fleet = sealed(3);
    vote(&mut fleet, 0, b"this").unwrap();
    vote(&mut fleet, 1, b"that").unwrap();
    wait_in_vain(&mut fleet);
    assert_eq!(restarts(&fleet.news()), [Restart::Tie]);
    assert!(matches!(fleet.phase(), Phase::Training(_)));
}

#[test]
fn at_the_deadline_who_answered_decides_and_who_is_late_can_still_hold() {
    let mut fleet = sealed(5);
    let late = fleet.honest_reports(2).remove(0);
    let Report::Aggregated { job, round, attempt, checkpoint, .. } = late else { panic!("{late:?}") };
    [0, 3, 4].into_iter().for_each(|node| fleet.step(node));
    fleet.tick(DEADLINE_MS - 1);
    assert!(matches!(fleet.phase(), Phase::Aggregating(_)));
    fleet.tick(1);
    assert!(matches!(fleet.phase(), Phase::Evaluating(_)));
    assert_eq!(fleet.state.holders(&checkpoint), fleet.ids([0, 3, 4]));
    assert_eq!(fleet.report(2, late), Ok(vec![]));
    assert_eq!(fleet.state.holders(&checkpoint), fleet.ids([0, 2, 3, 4]));
    let other = Report::Aggregated {
        job,
        round,
        attempt,
        checkpoint: Digest::of(b"other"),
        left_out: vec![],
        alike: vec![],
    };
    assert!(matches!(fleet.report(1, other), Err(Refusal::OtherCheckpoint { .. })));
}

#[test]
fn a_lone_answer_waits_for_company_and_never_decides_for_those_who_are_silent() {
    let mut fleet = sealed(3);
    fleet.step(0);
    fleet.tick(DEADLINE_MS);
    assert!(matches!(fleet.phase(), Phase::Aggregating(_)), "one copy of three is too few");
    fleet.tick(2 * DEADLINE_MS);
    assert!(matches!(fleet.phase(), Phase::Aggregating(_)));
    fleet.news();
    fleet.tick(DEADLINE_MS);
    assert_eq!(restarts(&fleet.news()), [Restart::NotAggregated], "it may be gone, and nobody would know");
}

#[test]
fn after_three_deadlines_in_vain_two_copies_are_enough() {
    let mut fleet = sealed(5);
    [1, 3].into_iter().for_each(|node| fleet.step(node));
    for _ in 0..4 {
        assert!(matches!(fleet.phase(), Phase::Aggregating(_)));
        fleet.tick(DEADLINE_MS);
    }
    assert!(matches!(fleet.phase(), Phase::Evaluating(_)));
}

#[test]
fn without_any_checkpoint_at_the_deadline_the_round_starts_again() {
    let mut fleet = sealed(2);
    wait_in_vain(&mut fleet);
    assert_eq!(restarts(&fleet.news()), [Restart::NotAggregated]);
    assert_eq!(fleet.window(0).share.first_sequence, 24);
}

#[test]
fn a_contribution_of_a_lost_node_is_dropped_on_the_first_complaint() {
    let mut fleet = sealed(3);
    fleet.lose(1);
    assert_eq!(contributors(&fleet, 0), fleet.ids(0..3), "nobody has complained");
    let before = fleet.aggregate(0);
    let events = miss(&mut fleet, 0, 1);
    let (job, node, why) = (before.job, fleet.id(1), Missed::Unavailable);
    assert_eq!(events[0], Event::ContributionMissed { job, round: 0, node, why });
    let contributors = fleet.ids([0, 2]);
    assert_eq!(events[1], Event::RoundSealed { job, round: 0, attempt: 1, contributors, tokens: 2 * 768 });
    let old = Report::Aggregated {
        job,
        round: 0,
        attempt: 0,
        checkpoint: checkpoint(&before),
        left_out: vec![],
        alike: vec![],
    };
    assert!(matches!(fleet.report(2, old), Err(Refusal::NotAssigned { .. })), "an old attempt");
    fleet.step(0);
    fleet.step(2);
    assert!(matches!(fleet.phase(), Phase::Evaluating(_)));
    let account = &fleet.state.nodes()[&fleet.id(1)].account;
    assert_eq!((account.contributions, account.rounds, account.tokens, account.missed), (1, 0, 0, 1));
}

#[test]
fn a_contribution_that_somebody_has_copied_is_not_dropped_on_one_complaint() {
    let mut fleet = sealed(4);
    fleet.step(0);
    fleet.lose(1);
    assert_eq!(miss(&mut fleet, 2, 1), []);
    assert_eq!(fleet.work(2), Work::Idle, "who complains is excused");
    fleet.step(3);
    assert!(matches!(fleet.phase(), Phase::Evaluating(_)), "and not waited for");
    assert_eq!(fleet.state.nodes()[&fleet.id(1)].account.rounds, 1);
}

#[test]
fn the_complaint_counts_once_the_contributor_is_lost_too() {
    let mut fleet = sealed(3);
    assert_eq!(miss(&mut fleet, 0, 1), []);
    fleet.lose(1);
    assert_eq!(contributors(&fleet, 2), fleet.ids([0, 2]));
}

#[test]
fn a_live_contributor_is_believed_unless_most_complain() {
    let mut fleet = sealed(4);
    assert_eq!(miss(&mut fleet, 0, 3), []);
    assert_eq!(miss(&mut fleet, 1, 3), []);
    assert_eq!(contributors(&fleet, 2).len(), 4, "half is not most");
    assert_eq!(miss(&mut fleet, 2, 3).len(), 2);
    assert_eq!(contributors(&fleet, 3), fleet.ids(0..3));
}

#[test]
fn a_contributor_that_lost_its_own_blobs_is_believed() {
    let mut fleet = sealed(3);
    assert_eq!(miss(&mut fleet, 1, 1).len(), 2);
    assert_eq!(contributors(&fleet, 1), fleet.ids([0, 2]));
}

#[test]
fn when_no_contribution_is_left_the_round_starts_again() {
    let mut fleet = Fleet::new(3);
    fleet.join(0);
    fleet.join(1);
    fleet.submit("job", plan());
    fleet.step(0);
    fleet.lose(1);
    assert_eq!(contributors(&fleet, 0), fleet.ids([0]));
    fleet.join(2);
    miss(&mut fleet, 0, 0);
    assert_eq!(restarts(&fleet.news()), [Restart::NothingLeft]);
    assert_eq!(fleet.window(0).share.first_sequence, 24);
}

#[test]
fn a_late_answer_to_an_earlier_start_is_not_taken_for_one_to_this_start() {
    let mut fleet = sealed(2);
    let stale = fleet.honest_reports(0).remove(0);
    wait_in_vain(&mut fleet);
    (0..2).for_each(|node| fleet.step(node));
    assert_eq!(fleet.aggregate(0).attempt, 1);
    assert!(matches!(fleet.report(0, stale), Err(Refusal::NotAssigned { .. })));
}

#[test]
fn a_complaint_has_to_be_about_a_contribution_of_the_attempt() {
    let mut fleet = sealed(2);
    let Aggregate { job, round, attempt, .. } = fleet.aggregate(0);
    let stranger = zoo_protocol::NodeId([7; 32]);
    let nonsense = Report::Missing { job, round, attempt, maker: stranger };
    assert!(matches!(fleet.report(0, nonsense), Err(Refusal::NotAssigned { .. })));
    fleet.step(0);
    let contradiction = Report::Missing { job, round, attempt, maker: fleet.id(1) };
    assert_eq!(fleet.report(0, contradiction), Err(Refusal::AnsweredOtherwise(fleet.id(0))));
}

#[test]
fn while_nobody_is_there_the_deadline_does_not_run() {
    let mut fleet = sealed(2);
    fleet.step(0);
    fleet.lose(0);
    fleet.lose(1);
    assert_eq!(fleet.state.next_deadline_ms(), None);
    fleet.tick(10 * DEADLINE_MS);
    fleet.join(1);
    assert!(matches!(fleet.phase(), Phase::Aggregating(_)));
    fleet.join(0);
    fleet.step(1);
    assert!(matches!(fleet.phase(), Phase::Aggregating(_)), "it says again what it holds");
    fleet.step(0);
    assert!(matches!(fleet.phase(), Phase::Evaluating(_)));
}

#[test]
fn a_checkpoint_that_no_live_node_holds_is_not_taken() {
    let mut fleet = sealed(4);
    fleet.step(0);
    fleet.step(1);
    fleet.lose(0);
    fleet.lose(1);
    vote(&mut fleet, 2, b"something else").unwrap();
    fleet.lose(3);
    let events = fleet.news();
    assert_eq!(faults(&events), fleet.ids([2]));
    assert_eq!(restarts(&events), [Restart::HoldersLost]);
    assert_eq!(*fleet.phase(), Phase::Waiting);
    fleet.join(0);
    fleet.join(1);
    assert!(matches!((fleet.work(0), fleet.work(2)), (Work::Train(_), Work::Idle)));
}

#[test]
fn another_answer_to_the_same_attempt_is_refused() {
    let mut fleet = sealed(3);
    vote(&mut fleet, 0, b"this").unwrap();
    assert_eq!(vote(&mut fleet, 0, b"this"), Ok(vec![]));
    assert_eq!(vote(&mut fleet, 0, b"that"), Err(Refusal::AnsweredOtherwise(fleet.id(0))));
}
