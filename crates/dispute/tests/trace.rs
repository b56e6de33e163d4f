//! A traced step is the step that is trained, and every element is what its segments come to.

mod common;

use std::ops::ControlFlow;

use common::{Setting, settings};
use zoo_dispute::operator::{Operator, STATE_WORDS_MAX};
use zoo_dispute::{Knowledge, Replay};
use zoo_kernels::random;
use zoo_training::train_window;

#[test]
fn a_traced_window_ends_where_the_trained_one_ends() {
    for Setting { name, mut replay, task, .. } in settings() {
        let account = replay.account().expect("it trains");
        let result = train_window(task, &mut |_| ControlFlow::Continue(())).expect("it trains");
        assert_eq!(account.outcome.steps_root, result.steps_root, "{name}");
        let last = account.steps.len() as u32 - 1;
        for (step, said) in (0..).zip(&account.steps) {
            let trace = replay.trace(step).expect("it is traced");
            assert_eq!(trace.said(), *said, "{name}, step {step}");
            if step < last {
                let (_, after) = replay.before(step + 1).expect("it trains");
                assert_eq!(trace.after(), after, "{name}, step {step}");
            } else {
                let ids = result.updates.iter().map(|update| update.vnode.clone()).collect();
                let (updates, replica_out) = trace.outcome(replay.task(), ids).expect("it has one");
                for (one, other) in updates.iter().zip(&account.outcome.updates) {
                    assert_eq!(one, other, "{name}");
                }
                assert_eq!(replica_out, result.replica.digest(), "{name}");
            }
        }
    }
}

#[test]
fn the_segments_of_every_tensor_come_to_its_elements() {
    for Setting { name, replay, .. } in settings() {
        for step in 0..3 {
            segments(&name, replay.clone(), step);
        }
    }
}

fn segments(name: &str, mut replay: Replay, step: u32) {
    let trace = replay.trace(step).expect("it is traced");
    let blobs = replay.blobs();
    for (at, tensor) in trace.program.tensors.iter().enumerate() {
        if tensor.operator == Operator::Before {
            continue;
        }
        let some = (0..40).map(|index| random::bits(7, at as u64, index) as usize % tensor.len());
        for element in some.chain([0, tensor.len() - 1]) {
            let states = trace.states(at, element, &blobs).expect("everything is there");
            let (last, inner) = states.split_last().expect("at least one segment");
            let what = format!("{name}: {} [{element}]", tensor.name);
            assert_eq!(last[..], [trace.tensors[at][element].to_bits()], "{what}");
            let words = tensor.operator.state_words();
            assert!(words <= STATE_WORDS_MAX, "{what}");
            assert!(inner.iter().all(|state| state.len() == words), "{what}");
        }
    }
}
