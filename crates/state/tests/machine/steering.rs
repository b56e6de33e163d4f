//! Jobs that are cancelled, paused, resumed, or stopped by their budget.

use zoo_protocol::{JobDescription, JobId, RoundPlan, Work};
use zoo_state::{Command, Event, JobStatus, Outcome, Phase, Refusal, Steer, Stop};

use crate::fleet::{Fleet, job, plan};

fn steer(fleet: &mut Fleet, job: JobId, steer: Steer) -> Result<Vec<Event>, Refusal> {
    let now_ms = fleet.now_ms;
    fleet.apply(Command::JobSteered { job, steer, now_ms })
}

/// Rounds of the job that are finished.
fn finished(fleet: &Fleet, of: JobId) -> Vec<u32> {
    let round = |event: &Event| match event {
        Event::RoundFinished { job, round, .. } if *job == of => Some(*round),
        _ => None,
    };
    fleet.events.iter().filter_map(round).collect()
}

fn finish_rounds(fleet: &mut Fleet, of: JobId, rounds: usize) {
    for _ in 0..20 * rounds {
        if finished(fleet, of).len() >= rounds {
            return;
        }
        fleet.sweep();
    }
    panic!("{rounds} rounds did not finish");
}

#[test]
fn a_paused_job_makes_room_and_goes_on_with_its_finished_rounds() {
    let long = RoundPlan { steps: 12, evaluate_every: 12, ..plan() };
    let mut fleet = Fleet::running(3, long);
    let first = fleet.state.running().unwrap().job;
    finish_rounds(&mut fleet, first, 1);
    let second = fleet.submit("second", plan());

    let base = fleet.state.running().unwrap().base;
    let events = steer(&mut fleet, first, Steer::Pause).unwrap();
    assert_eq!(events[0], Event::JobPaused { job: first });
    assert!(matches!(fleet.state.job_status(&first), Some(JobStatus::Paused { round: Some(1) })));
    assert_eq!(fleet.state.running().unwrap().job, second, "the next one runs");
    assert!(!fleet.state.holders(&base).is_empty(), "its checkpoint is kept");
    assert_eq!(steer(&mut fleet, first, Steer::Pause).unwrap(), [], "it is so already");

    let events = steer(&mut fleet, first, Steer::Resume).unwrap();
    assert_eq!(events[0], Event::JobResumed { job: first, ahead: 1 });
    assert_eq!(fleet.state.job_status(&first), Some(JobStatus::Queued { ahead: 1 }));
    assert!(fleet.finish(&first, 60));
    assert_eq!(finished(&fleet, first), [0, 1, 2, 3], "no round is trained twice, none is left out");
    let Some(JobStatus::Over(Outcome::Finished { .. })) = fleet.state.job_status(&second) else {
        panic!("the second job ran in between")
    };
}

#[test]
fn what_was_done_for_a_paused_round_is_not_taken_for_its_new_start() {
    let mut fleet = Fleet::running(3, plan());
    let job = fleet.state.running().unwrap().job;
    let reports = fleet.honest_reports(0);
    steer(&mut fleet, job, Steer::Pause).unwrap();
    assert_eq!(fleet.work(0), Work::Idle);
    for report in reports.clone() {
        assert!(matches!(fleet.report(0, report), Err(Refusal::NotAssigned { .. })));
    }
    steer(&mut fleet, job, Steer::Resume).unwrap();
    for report in reports {
        assert!(fleet.report(0, report).is_err(), "its sequences are others now");
    }
    assert!(fleet.finish(&job, 40));
}

#[test]
fn a_job_that_is_paused_while_it_is_evaluated_is_evaluated_when_it_goes_on() {
    let mut fleet = Fleet::running(3, plan());
    let job = fleet.state.running().unwrap().job;
    for _ in 0..40 {
        if matches!(fleet.phase(), Phase::Evaluating(_)) {
            break;
        }
        (0..3).for_each(|node| fleet.step(node));
    }
    assert!(matches!(fleet.phase(), Phase::Evaluating(_)));
    steer(&mut fleet, job, Steer::Pause).unwrap();
    steer(&mut fleet, job, Steer::Resume).unwrap();
    assert!(matches!(fleet.phase(), Phase::Evaluating(_)));
    assert!(fleet.finish(&job, 40));
}

#[test]
fn a_cancelled_job_ends_with_the_checkpoint_that_it_has() {
    let mut fleet = Fleet::running(3, RoundPlan { steps: 12, ..plan() });
    let job = fleet.state.running().unwrap().job;
    finish_rounds(&mut fleet, job, 2);
    let base = fleet.state.running().unwrap().base;
    let events = steer(&mut fleet, job, Steer::Cancel).unwrap();
    assert!(matches!(
        events[0],
        Event::JobStopped { checkpoint: Some(checkpoint), why: Stop::Cancelled, tokens: 1.., .. } if checkpoint == base
    ));
    assert!(!fleet.state.holders(&base).is_empty());
    assert_eq!(steer(&mut fleet, job, Steer::Resume), Err(Refusal::JobIsOver { job, steer: Steer::Resume }));

    let waiting = fleet.submit("waiting", plan());
    let never = fleet.submit("never begun", plan());
    let events = steer(&mut fleet, never, Steer::Cancel).unwrap();
    assert!(matches!(events[0], Event::JobStopped { checkpoint: None, tokens: 0, .. }));
    assert!(fleet.finish(&waiting, 40));
    let stranger = zoo_content::Digest::of(b"no job");
    assert_eq!(steer(&mut fleet, stranger, Steer::Pause), Err(Refusal::UnknownJob(stranger)));
}

#[test]
fn a_stopped_job_that_is_submitted_again_begins_anew() {
    let mut fleet = Fleet::running(2, plan());
    let job = fleet.state.running().unwrap().job;
    finish_rounds(&mut fleet, job, 1);
    steer(&mut fleet, job, Steer::Cancel).unwrap();
    let again = fleet.submit("job", plan());
    assert_eq!((again, fleet.state.job_status(&job)), (job, Some(JobStatus::Running { round: 0 })));
    assert!(fleet.finish(&job, 40));
}

#[test]
fn a_budget_ends_a_job_after_the_round_that_uses_it_up() {
    let mut fleet = Fleet::new(2);
    (0..2).for_each(|node| fleet.join(node));
    let plan = RoundPlan { steps: 30, ..plan() };
    let tokens_of = |fleet: &Fleet, id: JobId| {
        let over = fleet.state.finished().find(|over| over.job == id).unwrap();
        over.tokens
    };
    let whole = job("whole", plan.clone());
    fleet.submit_description(whole.clone());
    assert!(fleet.finish(&whole.id(), 200));
    let a_round = tokens_of(&fleet, whole.id()) / 10;

    let limited = JobDescription { tokens_max: Some(2 * a_round + 1), ..job("limited", plan) };
    fleet.submit_description(limited.clone());
    for _ in 0..200 {
        fleet.sweep();
    }
    let Some(JobStatus::Over(Outcome::Stopped { checkpoint: Some(_), why: Stop::Budget })) =
        fleet.state.job_status(&limited.id())
    else {
        panic!("{:?}", fleet.state.job_status(&limited.id()))
    };
    assert_eq!(tokens_of(&fleet, limited.id()), 3 * a_round);
    let evaluated =
        |event: &Event| matches!(event, Event::EvaluationFinished { job, .. } if *job == limited.id());
    assert!(fleet.events.iter().any(evaluated), "what came of it is measured");
}
