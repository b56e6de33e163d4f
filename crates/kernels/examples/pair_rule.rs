//! Compares every way of following the pair rule of `bf16-exact` with the reference, for as long as you like.
//!
//!     cargo run --release -p zoo-kernels --example pair_rule -- 100000000
//!
//! The number is how many outputs to compare, over all classes of operands. Exits with 1 if a bit differs.

#[path = "../tests/operators/classes.rs"]
mod classes;

use std::process::ExitCode;

use classes::{CLASSES, OUTPUTS, differences};

/// Products compared at a time.
const BATCH: usize = 512;

fn main() -> ExitCode {
    let Some(outputs) = std::env::args().nth(1).map_or(Some(1_000_000), |count| count.parse::<usize>().ok())
    else {
        eprintln!("error: the argument must be a number of outputs\nhint: pair_rule 100000000");
        return ExitCode::FAILURE;
    };
    let batches = outputs.div_ceil(CLASSES.len() * BATCH * OUTPUTS);
    let mut wrong = 0;
    for (class, name) in CLASSES.iter().enumerate() {
        let mut totals = Vec::new();
        for batch in 0..batches {
            let found = differences(class, (batch * BATCH) as u64, BATCH);
            totals.resize(found.len(), 0);
            totals.iter_mut().zip(&found).for_each(|(total, (_, count))| *total += count);
            if batch + 1 == batches {
                let each: Vec<String> =
                    found.iter().zip(&totals).map(|((isa, _), total)| format!("{isa} {total}")).collect();
                println!("{name}: {} outputs, differing: {}", batches * BATCH * OUTPUTS, each.join(", "));
            }
        }
        wrong += totals.iter().sum::<usize>();
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
