//! The queue of jobs.

use zoo_protocol::{CheckpointPlan, JobDescription, RoundPlan};
use zoo_state::{Command, Event, JobStatus, Outcome, Phase, Refusal};

use crate::fleet::{Fleet, job, plan};

#[test]
fn a_job_waits_until_enough_nodes_are_live() {
    let mut fleet = Fleet::new(3);
    fleet.join(0);
    let job = fleet.submit("job", plan());
    let waiting = Event::RoundWaiting { job, round: 0, nodes: 1, minimum: 2 };
    assert_eq!(fleet.news().last(), Some(&waiting));
    assert_eq!(*fleet.phase(), Phase::Waiting);
    fleet.join(1);
    assert!(matches!(fleet.phase(), Phase::Training(training) if training.seats.len() == 2));
    assert_eq!(fleet.state.job_status(&job), Some(JobStatus::Running { round: 0 }));
}

#[test]
fn jobs_run_one_at_a_time_in_the_order_they_were_submitted() {
    let mut fleet = Fleet::running(2, plan());
    let second = fleet.submit("second", plan());
    let third = fleet.submit("third", plan());
    assert_eq!(fleet.state.job_status(&third), Some(JobStatus::Queued { ahead: 2 }));
    assert!(fleet.finish(&third, 40));
    let finished: Vec<_> = fleet.state.finished().map(|over| over.description.name.as_str()).collect();
    assert_eq!(finished, ["job", "second", "third"]);
    assert!(matches!(fleet.state.job_status(&second), Some(JobStatus::Over(Outcome::Finished { .. }))));
    assert_eq!(fleet.state.running(), None);
}

#[test]
fn submitting_again_changes_nothing_unless_the_job_failed() {
    let mut fleet = Fleet::running(2, plan());
    let id = job("job", plan()).id();
    let again = Command::JobSubmitted { job: job("job", plan()), now_ms: 9 };
    assert_eq!(fleet.apply(again.clone()).unwrap(), [], "while it runs");
    assert!(fleet.finish(&id, 20));
    assert_eq!(fleet.apply(again).unwrap(), [], "after it finished");

    let empty = RoundPlan { steps: 3, ..plan() };
    let failing = fleet.submit("failing", empty.clone());
    fail_by_disagreement(&mut fleet);
    assert!(matches!(fleet.state.job_status(&failing), Some(JobStatus::Over(Outcome::Failed(_)))));
    fleet.submit("failing", empty);
    assert_eq!(fleet.state.job_status(&failing), Some(JobStatus::Running { round: 0 }));
    assert!(fleet.finish(&failing, 20));
    assert!(matches!(fleet.state.job_status(&failing), Some(JobStatus::Over(Outcome::Finished { .. }))));
}

fn fail_by_disagreement(fleet: &mut Fleet) {
    fleet.sweep();
    crate::aggregation::vote(fleet, 0, b"this").unwrap();
    crate::aggregation::vote(fleet, 1, b"that").unwrap();
}

#[test]
fn the_final_checkpoint_stays_known_with_its_holders() {
    let mut fleet = Fleet::running(3, RoundPlan { steps: 36, ..plan() });
    let id = fleet.state.running().unwrap().job;
    assert!(fleet.finish(&id, 100));
    let Some(JobStatus::Over(Outcome::Finished { checkpoint })) = fleet.state.job_status(&id) else {
        panic!("not finished")
    };
    assert_eq!(fleet.state.holders(&checkpoint), fleet.ids(0..3));
    let rounds: Vec<u32> = fleet.state.checkpoints().iter().map(|(_, round, _)| round).collect();
    assert_eq!(rounds, [9, 11], "that of every tenth round, and the last");
    fleet.lose(1);
    assert_eq!(fleet.state.holders(&checkpoint), fleet.ids([0, 2]), "a lost node serves nobody");
    fleet.join(1);
    assert_eq!(fleet.state.holders(&checkpoint), fleet.ids(0..3));
}

#[test]
fn a_plan_that_makes_no_sense_is_refused() {
    let with = |change: fn(&mut RoundPlan)| {
        let mut plan = plan();
        change(&mut plan);
        job("job", plan)
    };
    let keeping = |redundancy, interval, keep| JobDescription {
        checkpoints: CheckpointPlan { redundancy, interval, keep, storage: None },
        ..job("job", plan())
    };
    let jobs: Vec<JobDescription> = vec![
        keeping(0, 1, 1),
        keeping(65, 1, 1),
        keeping(3, 0, 1),
        keeping(3, 1, 65),
        with(|plan| plan.steps = 0),
        with(|plan| plan.steps = u64::MAX),
        with(|plan| plan.rhythm.clear()),
        with(|plan| plan.rhythm = RoundPlan::constant(0)),
        with(|plan| plan.sequences_per_step = 0),
        with(|plan| (plan.rhythm, plan.sequences_per_step) = (RoundPlan::constant(1 << 20), 1 << 20)),
        with(|plan| plan.evaluate_every = 0),
        with(|plan| plan.evaluation_shards = 0),
        with(|plan| plan.evaluation_shards = 1 << 20),
        with(|plan| plan.minimum_nodes = 0),
        with(|plan| plan.minimum_nodes = 1 << 20),
        with(|plan| plan.contribution_deadline_ms = 0),
        job(&"x".repeat(65), plan()),
        job("a\nb", plan()),
    ];
    let mut fleet = Fleet::new(0);
    for job in jobs {
        let refused = fleet.apply(Command::JobSubmitted { job: job.clone(), now_ms: 1 });
        assert!(matches!(refused, Err(Refusal::Limit(_) | Refusal::Invalid(_))), "{job:?}");
    }
}

#[test]
fn the_queue_is_bounded() {
    let mut fleet = Fleet::new(0);
    for number in 0..=1024 {
        fleet.submit(&format!("job {number}"), plan());
    }
    let one_more = Command::JobSubmitted { job: job("one more", plan()), now_ms: 1 };
    assert_eq!(fleet.apply(one_more), Err(Refusal::QueueFull));
}
