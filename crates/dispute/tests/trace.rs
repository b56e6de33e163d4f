//! A traced step is the step that is trained.

mod common;

use common::{Setting, settings};
use zoo_dispute::{Knowledge, Replay};

#[test]
fn a_traced_step_ends_where_the_trainer_ends() {
    for Setting { name, window, terms } in settings() {
        let mut replay = Replay::new(window.clone(), &terms);
        let steps = replay.steps().expect("it trains");
        for (step, digest) in steps.iter().enumerate() {
            let trace = replay.trace(step as u32).expect("it is traced");
            let after = replay.state_before(step as u32 + 1).expect("it trains");
            let names: Vec<_> = trace.program.after.clone().map(|at| &trace.program.groups[at]).collect();
            let _ = names;
            assert_eq!(trace.after(), after, "{name}, step {step}");
            assert_eq!(trace.digest(), *digest, "{name}, step {step}");
        }
    }
}
