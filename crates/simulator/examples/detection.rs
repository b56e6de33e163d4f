//! How soon lies are found, over thousands of liars: what was measured beside what the formula says.
//!
//!     cargo run --release -p zoo-simulator --example detection -- [SEEDS [ATTACK [VERIFIED_IN_1000]]]
//!
//! A window that was forged is found out if it is drawn, so a node is convicted within x forged windows with probability
//! `1 - (1 - s d)^x`: s is how many windows are drawn, d how often the first verifier is no friend of the maker's. Each line is one attack and one s;
//! the intervals are those of the binomial at 99 %.

use std::thread;

use zoo_simulator::{CheckpointPlan, Faults, Options, Outcome, Topology, simulate};

const NODES: usize = 20;
const ROUNDS: u32 = 60;
const COLLUDERS_IN_1000: u64 = 300;
/// Of the standard normal distribution: 99 % lie within.
const QUANTILE: f64 = 2.576;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seeds = arguments.next().map_or(24, |seeds| seeds.parse().expect("a number of seeds"));
    let (wanted, rate) = (arguments.next(), arguments.next());
    let rates = rate.map_or(vec![50, 200], |rate| vec![rate.parse().expect("a number of 1000")]);
    println!("attack, windows verified of 1000: nodes that lie, convicted, honest nodes convicted");
    let attacks: [(&str, Faults); 5] = [
        ("nobody", Faults::none()),
        ("forgers", Faults { forgers_in_1000: 300, ..Faults::none() }),
        ("saboteurs", Faults { saboteurs_in_1000: 300, ..Faults::none() }),
        ("forgers and perjurers", Faults { forgers_in_1000: 200, perjurers_in_1000: 150, ..Faults::none() }),
        ("colluders", Faults { colluders_in_1000: COLLUDERS_IN_1000, ..Faults::none() }),
    ];
    for (name, faults) in
        attacks.into_iter().filter(|(name, _)| wanted.as_deref().is_none_or(|wanted| wanted == *name))
    {
        for &verified_in_1000 in &rates {
            let mut outcomes = run(seeds, verified_in_1000, &faults);
            // Nothing holds against most of the network, and what is promised is promised of a third.
            outcomes.retain(|outcome| name != "colluders" || 3 * outcome.forgeries.len() <= NODES);
            tell(name, verified_in_1000, &outcomes);
        }
    }
}

fn run(seeds: u64, verified_in_1000: u32, faults: &Faults) -> Vec<Outcome> {
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let simulated = |seed| {
        simulate(&Options {
            nodes: NODES,
            rounds: ROUNDS,
            topology: Topology::Auto,
            checkpoints: CheckpointPlan::default(),
            verified_in_1000,
            seed,
            faults: faults.clone(),
            bug: None,
        })
    };
    thread::scope(|scope| {
        let part = |thread| {
            let own = (0..seeds).filter(move |seed| seed % threads == thread);
            scope.spawn(move || own.map(simulated).collect::<Vec<_>>())
        };
        let parts: Vec<_> = (0..threads).map(part).collect();
        parts.into_iter().flat_map(|part| part.join().expect("no simulation panics")).collect()
    })
}

fn tell(name: &str, verified_in_1000: u32, outcomes: &[Outcome]) {
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let violations: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.violations).collect();
    // Each with how often the first verifier of its windows says what comes of them: friends say what suits it.
    let effectiveness = |liars: usize| match name {
        "colluders" => 1.0 - liars.saturating_sub(1) as f64 / (NODES - 1) as f64,
        _ => 1.0,
    };
    let liars_of = |outcome: &'_ Outcome| effectiveness(outcome.forgeries.len());
    let forgers: Vec<_> = outcomes
        .iter()
        .flat_map(|outcome| outcome.forgeries.iter().map(move |forger| (forger, liars_of(outcome))))
        .collect();
    println!(
        "\n{name}, {verified_in_1000}: {} windows verified, {} not settled, {} convictions, {} of honest nodes, {} broken invariants",
        sum(|outcome| outcome.verified),
        sum(|outcome| outcome.unverified),
        sum(|outcome| outcome.convictions),
        sum(|outcome| outcome.wronged),
        violations.len(),
    );
    violations.iter().take(3).for_each(|violation| println!("  {violation}"));
    let rate = f64::from(verified_in_1000) / 1000.0;
    for within in [1, 2, 5, 10, 20, 40] {
        // Whose windows were fewer, and who was not convicted of them, says nothing about so many.
        let trials: Vec<_> =
            forgers.iter().filter(|(forger, _)| forger.convicted || forger.accepted >= within).collect();
        let caught =
            trials.iter().filter(|(forger, _)| forger.convicted && forger.accepted <= within).count();
        if trials.len() < 20 {
            continue;
        }
        let expected = trials.iter().map(|(_, d)| 1.0 - (1.0 - rate * d).powi(within as i32)).sum::<f64>();
        let (trials, measured) = (trials.len() as f64, caught as f64 / trials.len() as f64);
        let expected = expected / trials;
        let deviation = QUANTILE * (expected * (1.0 - expected) / trials).sqrt();
        let verdict = match (measured - expected).abs() <= deviation {
            true => "within",
            // Their windows are trained again without a lot.
            false if name == "saboteurs" && measured > expected => "sooner",
            false => "OUTSIDE",
        };
        println!(
            "  within {within:2} forged windows: {measured:.3} of {trials} convicted; {expected:.3} +- {deviation:.3}: {verdict}"
        );
    }
}
