//! A traced step is the step that is trained, and every element is what its segments come to.

mod common;

use common::{Setting, settings};
use zoo_dispute::operator::{Operator, STATE_WORDS_MAX};
use zoo_dispute::{Knowledge, tree};
use zoo_kernels::random;

#[test]
fn a_traced_step_ends_where_the_trainer_ends() {
    for Setting { name, mut replay, .. } in settings() {
        let steps = replay.steps().expect("it trains");
        for (step, digest) in steps.iter().enumerate() {
            let trace = replay.trace(step as u32).expect("it is traced");
            let after = replay.state_before(step as u32 + 1).expect("it trains");
            assert_eq!(trace.after(), after, "{name}, step {step}");
            assert_eq!(trace.digest(), *digest, "{name}, step {step}");
        }
    }
}

#[test]
fn the_segments_of_every_tensor_come_to_its_elements() {
    for Setting { name, mut replay, data, .. } in settings() {
        let trace = replay.trace(1).expect("it is traced");
        let token = |position| {
            let mut token = [0];
            data.read(position, &mut token);
            Some(token[0])
        };
        for (at, tensor) in trace.program.tensors.iter().enumerate() {
            if tensor.operator == Operator::Before {
                continue;
            }
            let some = (0..40).map(|index| random::bits(7, at as u64, index) as usize % tensor.len());
            for element in some.chain([0, tensor.len() - 1]) {
                let states = trace.states(at, element, &token).expect("everything is there");
                let (last, inner) = states.split_last().expect("at least one segment");
                let what = format!("{name}: {} [{element}]", tensor.name);
                assert_eq!(last[..], [tree::word(trace.tensors[at][element])], "{what}");
                let words = tensor.operator.state_words();
                assert!(words <= STATE_WORDS_MAX, "{what}");
                assert!(inner.iter().all(|state| state.len() == words), "{what}");
            }
        }
    }
}
