//! Benchmarks: one answer each, the same for everybody; and what it would cost to cut them short.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Instant;

use zoo_admission::walk::Walk;
use zoo_admission::{BenchmarkError, answer};
use zoo_content::Digest;
use zoo_protocol::{Benchmark, Effort, NodeId, Part};

const LITTLE: Effort = Effort { products: 1, steps: 1, area_mib: 1, passes: 1 };

fn benchmark(seed: &str, part: Part, effort: Effort) -> Benchmark {
    Benchmark { node: NodeId([1; 32]), part, seed: Digest::of(seed.as_bytes()), effort }
}

fn answered(benchmark: &Benchmark, threads: usize) -> Digest {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| answer(benchmark, &mut || ControlFlow::Continue(()))).unwrap()
}

#[test]
fn threads_do_not_reach_an_answer_and_everything_it_is_about_does() {
    let mut answers = Vec::new();
    for part in Part::ALL {
        let one = answered(&benchmark("seed", part, LITTLE), 1);
        assert_eq!(answered(&benchmark("seed", part, LITTLE), 3), one, "{part:?}");
        answers.extend([one, answered(&benchmark("other", part, LITTLE), 2)]);
    }
    let with = |part, effort| answered(&benchmark("seed", part, effort), 2);
    answers.extend([
        with(Part::F32Exact, Effort { products: 2, ..LITTLE }),
        with(Part::F32Exact, Effort { steps: 2, ..LITTLE }),
        with(Part::Memory, Effort { area_mib: 2, ..LITTLE }),
        with(Part::Memory, Effort { passes: 2, ..LITTLE }),
    ]);
    let different: BTreeSet<&Digest> = answers.iter().collect();
    assert_eq!(different.len(), answers.len());
}

/// Nodes of different versions check each other: a seed has one answer for ever.
#[test]
fn known_seeds_have_known_answers() {
    let effort = Effort { products: 2, steps: 2, area_mib: 1, passes: 3 };
    let answers = Part::ALL.map(|part| answered(&benchmark("seed", part, effort), 2).to_string());
    assert_eq!(answers, KNOWN);
}

const KNOWN: [&str; 3] = [
    "d3e2b59305f311984a02f2d03964c098a1dc90cf2269cde60080d8ba97045063",
    "25416abbbc907fae3f4f6570b7fe7464fe6522709ce932dc24d046bc5933869c",
    "65a7771d076e716d1ec7eaa63e063b5074d30ce4192f21e0f992f323bbc0300d",
];

#[test]
fn who_is_not_wanted_any_more_stops() {
    for part in Part::ALL {
        let mut asked = 0;
        let mut go_on = || {
            asked += 1;
            if asked == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let effort = Effort { products: 4, steps: 4, area_mib: 4, passes: 4 };
        let stopped = answer(&benchmark("seed", part, effort), &mut go_on);
        assert!(matches!(stopped, Err(BenchmarkError::Stopped)), "{stopped:?}");
        assert_eq!(asked, 3);
    }
}

#[test]
fn the_usual_effort_takes_seconds_and_not_minutes() {
    for part in Part::ALL {
        let start = Instant::now();
        answered(&benchmark("seed", part, Effort::default()), 2);
        eprintln!("{part:?}: {} ms", start.elapsed().as_millis());
        assert!(
            start.elapsed().as_secs() < 15,
            "{part:?}: a loaded machine may take longer, but not so long"
        );
    }
}

/// Steps that it takes to walk without holding every second block, for each step of who holds all. It is a lower bound for this way of
/// holding half: what it needs it computes once for each step, holds all of that meanwhile, and knows every place for free.
fn cost_of_half(blocks: usize, passes: usize) -> f64 {
    let mut walk = Walk::new(&Digest::of(b"seed"), blocks);
    // By step: the steps that made what goes into it.
    let mut sources: Vec<Vec<usize>> = Vec::new();
    for number in 0..passes * blocks {
        let (pass, at) = (number / blocks, number % blocks);
        let made = |other| if other < at { pass * blocks + other } else { (pass - 1) * blocks + other };
        let itself = number.checked_sub(blocks);
        sources.push(match walk.step() {
            Some(other) => [number - 1, made(other)].into_iter().chain(itself).collect(),
            None => Vec::new(),
        });
    }
    let (mut taken, mut steps) = (0, 0);
    for number in 0..sources.len() {
        let is_held = |made: usize| {
            let is_newest = made + blocks >= number;
            made + 1 == number || sources[made].is_empty() || (is_newest && made.is_multiple_of(2))
        };
        let mut needed: Vec<usize> = sources[number].clone();
        let mut computed = BTreeSet::new();
        while let Some(made) = needed.pop() {
            if !is_held(made) && computed.insert(made) {
                needed.extend(&sources[made]);
            }
        }
        (taken, steps) = (taken + 1 + computed.len(), steps + 1);
    }
    f64::from(taken as u32) / f64::from(steps)
}

#[test]
fn holding_half_costs_many_times_the_steps_and_more_so_the_larger_the_area() {
    let costs = [64, 128, 256, 512].map(|blocks| cost_of_half(blocks, 3));
    eprintln!("steps for each step, holding every second of 64, 128, 256, 512 blocks: {costs:.1?}");
    assert!(costs[0] > 10.0, "{costs:?}");
    assert!(costs.windows(2).all(|pair| pair[1] > 1.7 * pair[0]), "{costs:?}");
}
