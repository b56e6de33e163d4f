//! Many seeds, no broken invariant; planted mistakes, all found.

use std::thread;

use zoo_simulator::{Bug, CheckpointPlan, Faults, Options, Outcome, Topology, simulate};

/// Every topology in turn.
fn options(nodes: usize, rounds: u32, seed: u64, faults: Faults) -> Options {
    let topologies =
        [Topology::Auto, Topology::Star, Topology::Tree { fan_in: 4 }, Topology::Tree { fan_in: 16 }];
    let topology = topologies[seed as usize % topologies.len()];
    let checkpoints = CheckpointPlan { redundancy: 3, interval: 2, keep: 2, storage: None };
    Options { nodes, rounds, topology, checkpoints, verified_in_1000: 100, seed, faults, bug: None }
}

/// Runs these seeds on all cores, and says what came of each.
fn run(seeds: std::ops::Range<u64>, of: impl Fn(u64) -> Options + Sync) -> Vec<(u64, Outcome)> {
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let mut outcomes: Vec<(u64, Outcome)> = thread::scope(|scope| {
        let (of, seeds) = (&of, &seeds);
        let part = |thread: u64| {
            scope.spawn(move || {
                let own = seeds.clone().filter(move |seed| seed % threads == thread);
                own.map(|seed| (seed, simulate(&of(seed)))).collect::<Vec<_>>()
            })
        };
        let parts: Vec<_> = (0..threads).map(part).collect();
        parts.into_iter().flat_map(|part| part.join().expect("no simulation panics")).collect()
    });
    outcomes.sort_by_key(|(seed, _)| *seed);
    outcomes
}

#[test]
fn in_fair_weather_every_node_takes_part_and_nothing_is_lost() {
    let outcome = simulate(&options(8, 5, 1, Faults::none()));
    assert_eq!(outcome.violations, Vec::<String>::new());
    assert_eq!((outcome.rounds_committed, outcome.node_crashes, outcome.orchestrator_crashes), (5, 0, 0));
}

#[test]
fn a_thousand_seeds_with_every_fault_break_no_invariant() {
    let (mut crashes, mut orchestrators, mut refused, mut suspicions) = (0, 0, 0, 0);
    for (seed, outcome) in run(0..1000, |seed| options(50, 3, seed, Faults::all())) {
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        assert_eq!(outcome.rounds_committed, 3, "seed {seed}");
        crashes += outcome.node_crashes;
        orchestrators += outcome.orchestrator_crashes;
        refused += outcome.refused;
        suspicions += outcome.suspicions;
    }
    assert!(
        crashes > 10_000 && orchestrators > 1_000 && refused > 2_000 && suspicions > 1_000,
        "the weather was too fair: {crashes}, {orchestrators}, {refused}, {suspicions}"
    );
}

#[test]
fn garbage_is_refused_round_after_round_and_one_slanderer_excludes_nobody() {
    let faults = Faults { garbage_in_1000: 300, slanderers: 1, ..Faults::none() };
    for (seed, outcome) in run(0..40, |seed| options(12, 6, seed, faults.clone())) {
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        assert_eq!(outcome.rounds_committed, 6, "seed {seed}");
    }
}

#[test]
fn a_majority_of_slanderers_is_a_violation_that_shows() {
    let faults = Faults { slanderers: 9, ..Faults::none() };
    let outcome = simulate(&options(12, 2, 0, faults));
    assert!(outcome.violations[0].contains("is honest and at fault"), "{:?}", outcome.violations);
}

#[test]
fn one_seed_is_one_history() {
    let history = |seed| simulate(&options(20, 3, seed, Faults::all()));
    assert_eq!(history(7), history(7));
    assert_ne!(history(7).digest, history(8).digest);
}

#[test]
fn planted_mistakes_are_found() {
    let bugs = [
        Bug::TellsBeforeItWrites,
        Bug::ForgetsItsLastEntry,
        Bug::HearsReplacedConversations,
        Bug::AddsGarbage,
        Bug::NeverAudits,
        Bug::AsksNobodyToKeep,
    ];
    for bug in bugs {
        let found = run(0..100, |seed| match bug {
            Bug::NeverAudits => Options { bug: Some(bug), ..options(12, 12, seed, pretence()) },
            _ => Options { bug: Some(bug), ..options(10, 3, seed, Faults::all()) },
        });
        let first = found.iter().find(|(_, outcome)| !outcome.violations.is_empty());
        let (seed, outcome) = first.unwrap_or_else(|| panic!("{bug:?} is not found in 100 seeds"));
        println!("{bug:?}: seed {seed}: {}", outcome.violations[0]);
    }
}

/// Nothing but wires to the orchestrator that are cut, and now and then a node that is killed.
fn cuts() -> Faults {
    Faults { orchestrator_cut_ms: 300_000, node_crash_ms: 600_000, ..Faults::default() }
}

#[test]
fn who_is_cut_from_the_orchestrator_alone_is_suspected_and_not_lost_while_its_peers_reach_it() {
    let mut suspicions = 0;
    for (seed, outcome) in run(0..300, |seed| options(20, 4, seed, cuts())) {
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        suspicions += outcome.suspicions;
    }
    assert!(suspicions > 100, "the weather was too fair: {suspicions}");
}

#[test]
fn an_orchestrator_that_asks_nobody_is_found() {
    let bug = Some(Bug::AsksNobody);
    let found = run(0..20, |seed| Options { bug, ..options(20, 4, seed, cuts()) });
    let first = found.iter().find(|(_, outcome)| !outcome.violations.is_empty());
    let (seed, outcome) = first.expect("nodes count as lost that their peers reach");
    println!("seed {seed}: {}", outcome.violations[0]);
    assert!(outcome.violations[0].contains("its peers reach it"), "{}", outcome.violations[0]);
}

/// Twelve rounds, of which the last four are on every disk: older checkpoints are only with those who keep them.
fn drilled(seed: u64) -> Options {
    let weather = Faults { until_ms: 240_000, drill_ms: 8_000, latency_max_ms: 100, ..Faults::none() };
    options(12, 12, seed, weather)
}

#[test]
fn every_checkpoint_survives_the_loss_of_all_its_holders_but_one_again_and_again() {
    let mut drills = 0;
    for (seed, outcome) in run(0..100, drilled) {
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        drills += outcome.drills;
    }
    assert!(drills > 300, "only {drills} drills");
}

/// Every fourth node says that it keeps checkpoints and does not, and disks rot.
fn pretence() -> Faults {
    Faults { rot_ms: 20_000, pretenders_in_1000: 250, ..Faults::default() }
}

#[test]
fn who_pretends_to_keep_checkpoints_and_what_rots_is_found_and_made_good() {
    for (seed, outcome) in run(0..100, |seed| options(12, 12, seed, pretence())) {
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
    }
}

/// Nodes that are measured before there is a job.
fn measured(faults: Faults) -> Faults {
    Faults { admission_ms: 1_000, ..faults }
}

#[test]
fn nodes_on_one_machine_are_together_rated_at_less_than_one_and_a_half_of_it() {
    for (seed, outcome) in run(0..20, |seed| {
        options(8, 3, seed, measured(Faults { housemates: 2, latency_max_ms: 4, ..Faults::none() }))
    }) {
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        let (mates, others) = outcome.rated.split_at(2);
        let alone = *others.iter().max().unwrap();
        assert!(alone > 0 && others.iter().all(|speed| *speed > alone / 2), "seed {seed}: {others:?}");
        let together: u32 = mates.iter().sum();
        assert!(together <= alone * 8 / 5, "seed {seed}: {mates:?} of {others:?}");
    }
}

#[test]
fn measuring_breaks_nothing_in_any_weather() {
    let (mut rated, mut unrated) = (0, 0);
    for (seed, outcome) in run(0..150, |seed| options(30, 3, seed, measured(Faults::all()))) {
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        assert_eq!(outcome.rounds_committed, 3, "seed {seed}");
        rated += outcome.rated.iter().filter(|speed| **speed > 0).count();
        unrated += outcome.unrated;
    }
    assert!(rated > 100 && unrated > 0, "{rated} were rated, {unrated} were not");
}
