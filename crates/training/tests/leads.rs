//! Leads: what replicas train on between two windows, and what may not matter to its bits.

mod common;

use std::ops::ControlFlow;

use common::{go_on, name, spec, text, whole, with_threads};
use zoo_training::{
    Checkpoint, Dataset, Lead, LocalJob, Share, SparseSettings, Trainer, TrainingSpec, UpdateFormat,
    WindowResult, WindowTask, equal_shares, train_window, train_window_from,
};

const SHARE: Share = Share { first_sequence: 40, sequences_per_step: 4, inner_steps: 5 };
const AHEAD: u32 = 3;

struct Job {
    spec: TrainingSpec,
    data: Dataset,
    bases: [Checkpoint; 2],
}

impl Job {
    fn new() -> Self {
        let update = UpdateFormat::Sparse(SparseSettings::default());
        let (spec, data) = (TrainingSpec { rewarm_steps: 2, update, ..spec() }, text());
        let mut trainer = Trainer::new(spec.clone(), &data).unwrap();
        let first = trainer.checkpoint();
        trainer.step().unwrap();
        let bases = [first, trainer.checkpoint()];
        Self { spec, data, bases }
    }

    /// The window of the first round, and then that of the second, from a base that knows nothing of the first.
    fn task<'a>(&'a self, round: u32, replica: Option<&'a [u8]>) -> WindowTask<'a> {
        let Self { spec, data, bases } = self;
        let (base, ahead_steps) = (&bases[round as usize], if round == 0 { AHEAD } else { 0 });
        let first_step = if round == 0 { 0 } else { u64::from(SHARE.inner_steps + AHEAD) };
        let share = Share { first_sequence: 40 + 100 * u64::from(round), ..SHARE };
        let lead = (round > 0).then(|| SHARE.after(AHEAD));
        WindowTask { spec, data, base, replica, round, first_step, lead, share, ahead_steps }
    }

    fn first(&self) -> (WindowResult, Lead) {
        let (result, lead) = train_window_from(self.task(0, None), None, &mut go_on).unwrap();
        (result, lead.unwrap())
    }
}

#[test]
fn a_lead_from_memory_is_that_from_what_was_kept_however_far_it_was_taken() {
    let job = Job::new();
    let (first, _) = job.first();
    let kept = first.replica.bytes();
    let expected = train_window(job.task(1, Some(kept)), &mut go_on).unwrap();
    assert_eq!(expected.leaves.len(), (AHEAD + SHARE.inner_steps) as usize);
    assert_eq!(expected.tokens(), u64::from(AHEAD + SHARE.inner_steps) * 4 * 64);
    for taken in 0..=AHEAD + 1 {
        let (_, mut lead) = job.first();
        for _ in 0..taken {
            with_threads(1 + taken as usize, || lead.step().unwrap());
        }
        assert_eq!(lead.steps_taken(), taken.min(AHEAD));
        let mut steps = Vec::new();
        let mut progress = |report: &zoo_training::StepReport| {
            steps.push(report.step);
            ControlFlow::Continue(())
        };
        let (result, next) = train_window_from(job.task(1, None), Some(lead), &mut progress).unwrap();
        assert_eq!(result, expected, "{taken} steps taken before");
        assert!(next.is_none());
        let all = u64::from(SHARE.inner_steps)..u64::from(2 * SHARE.inner_steps + AHEAD);
        assert_eq!(steps, all.skip(taken.min(AHEAD) as usize).collect::<Vec<_>>());
    }
}

#[test]
fn a_lead_is_told_from_those_of_other_replicas_rounds_and_shares() {
    let (first, lead) = Job::new().first();
    let (kept, next_step, share) = (first.replica.digest(), 8, SHARE.after(AHEAD));
    assert!(lead.is(&kept, next_step, share));
    assert!(!lead.is(&first.updates[0].blob.digest(), next_step, share));
    assert!(!lead.is(&kept, next_step + 1, share));
    assert!(!lead.is(&kept, next_step, SHARE.after(AHEAD + 1)));
    assert!(!lead.is(&kept, next_step, Share { first_sequence: 0, ..share }));
}

#[test]
fn a_lead_moves_the_replica_from_the_next_base_on() {
    // Alone and without a codec, a replica's next base is where its window ended: then to lead is to train on.
    let (spec, data) = (TrainingSpec { update: UpdateFormat::Dense, ..spec() }, text());
    let spec = TrainingSpec { outer: zoo_training::Outer { learning_rate: 1.0, ..spec.outer }, ..spec };
    let mut overlapping = LocalJob::new(&spec, &data, 1).unwrap();
    overlapping.round(&[Some(Share { first_sequence: 0, ..SHARE })], AHEAD, &mut |_, _| go()).unwrap();
    overlapping.round(&[Some(Share { first_sequence: 4 * 8, ..SHARE })], 0, &mut |_, _| go()).unwrap();
    let mut plain = LocalJob::new(&spec, &data, 1).unwrap();
    plain.round(&[Some(Share { first_sequence: 0, ..SHARE })], 0, &mut |_, _| go()).unwrap();
    let long = Share { first_sequence: 4 * 5, sequences_per_step: 4, inner_steps: AHEAD + SHARE.inner_steps };
    plain.round(&[Some(long)], 0, &mut |_, _| go()).unwrap();
    let (a, b) = (overlapping.checkpoint(), plain.checkpoint());
    assert_eq!(a.progress, b.progress);
    let loss = |checkpoint| whole(&spec, checkpoint, &data).nats;
    let apart = (loss(a) / loss(b) - 1.0).abs();
    assert!(apart < 1e-5, "but for rounding: {apart}");
    assert_ne!(name(a), name(b), "base + (p - end) rounds");
}

#[test]
fn replicas_that_lead_train_on_no_sequence_twice_and_learn() {
    let job = Job::new();
    let mut local = LocalJob::new(&job.spec, &job.data, 2).unwrap();
    let before = whole(&job.spec, local.checkpoint(), &job.data).nats;
    let mut first = 0;
    for round in 0..4 {
        let (own, ahead) = (if round == 0 { 8 } else { 6 }, if round == 3 { 0 } else { 2 });
        let shares = equal_shares(2, first, 4, own + ahead);
        first += 2 * 4 * u64::from(own + ahead);
        let shares: Vec<_> =
            shares.into_iter().map(|share| Some(Share { inner_steps: own, ..share })).collect();
        local.round(&shares, ahead, &mut |_, _| go()).unwrap();
    }
    let progress = local.checkpoint().progress;
    assert_eq!((progress.round, progress.step, progress.sequences), (4, 4 * 8, first));
    assert!(whole(&job.spec, local.checkpoint(), &job.data).nats < 0.9 * before);
}

#[test]
fn a_replica_that_lost_its_state_leaves_its_lead_out() {
    let job = Job::new();
    let result = train_window(job.task(1, None), &mut go_on).unwrap();
    let plain = WindowTask { lead: None, ..job.task(1, None) };
    assert_eq!(result, train_window(plain, &mut go_on).unwrap());
}

#[test]
fn a_state_that_does_not_say_where_its_window_ended_has_no_lead() {
    let job = Job::new();
    let first = WindowTask { ahead_steps: 0, ..job.task(0, None) };
    let (result, lead) = train_window_from(first, None, &mut go_on).unwrap();
    assert!(lead.is_none());
    let refused = |task| train_window(task, &mut go_on).unwrap_err().to_string();
    let message = refused(job.task(1, Some(result.replica.bytes())));
    assert!(message.contains("does not say where the window ended"), "{message}");
    let (first, _) = job.first();
    let early = WindowTask { first_step: 2, ..job.task(1, Some(first.replica.bytes())) };
    let message = refused(early);
    assert!(message.contains("a lead of 3 steps before step 2"), "{message}");
}

fn go() -> ControlFlow<()> {
    ControlFlow::Continue(())
}
