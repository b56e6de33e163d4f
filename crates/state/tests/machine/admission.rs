//! Admission: who is measured, what counts as an answer, and what comes of it.

use zoo_content::Digest;
use zoo_protocol::{Benchmark, NodeProfile, Part, Report, Speeds, Terms, Tier, Work};
use zoo_state::{Command, Draw, Event, Phase, RATING_MS, Rating, Refusal, SITTING_INTERVAL_MS, Unrated};

use crate::fleet::{Fleet, answered, plan, profile};

fn all_here(nodes: usize) -> Fleet {
    let mut fleet = Fleet::new(nodes);
    (0..nodes).for_each(|node| fleet.join(node));
    fleet
}

fn open(fleet: &mut Fleet) -> Result<Vec<Event>, Refusal> {
    fleet.apply(Command::SittingOpened {
        draw: Digest::of(&fleet.now_ms.to_le_bytes()),
        terms: Terms::default(),
        now_ms: fleet.now_ms,
    })
}

fn draw_checkers(fleet: &mut Fleet) -> Result<Vec<Event>, Refusal> {
    let draw = Digest::of(b"who checks whom");
    fleet.apply(Command::CheckersDrawn { draw, now_ms: fleet.now_ms })
}

fn benchmark(fleet: &Fleet, node: usize) -> Option<Benchmark> {
    if let Work::Benchmark(benchmark) = fleet.work(node) { Some(benchmark) } else { None }
}

/// Everybody does the part that it has, in this time, ms.
fn part(fleet: &mut Fleet, took: &[u64]) {
    let start_ms = fleet.now_ms;
    let mut answers: Vec<(u64, usize)> = took.iter().copied().zip(0..).collect();
    answers.sort_unstable();
    for (took, node) in answers {
        if let Some(benchmark) = benchmark(fleet, node) {
            fleet.now_ms = start_ms + took;
            fleet.report(node, answered(&benchmark, fleet.id(node))).unwrap();
        }
    }
}

/// A sitting in which every part takes each node as long; all answers and checks are right.
fn sitting(fleet: &mut Fleet, took: &[u64]) {
    open(fleet).unwrap();
    Part::ALL.iter().for_each(|_| part(fleet, took));
    draw_checkers(fleet).unwrap();
    check(fleet, took.len());
}

/// Everybody checks whatever it is asked to, and rightly.
fn check(fleet: &mut Fleet, nodes: usize) {
    for _ in 0..3 * Part::ALL.len() {
        (0..nodes).for_each(|node| fleet.step(node));
    }
}

fn rating(fleet: &Fleet, node: usize) -> Option<Rating> {
    fleet.state.nodes()[&fleet.id(node)].rating
}

fn speed(fleet: &Fleet, node: usize) -> u32 {
    rating(fleet, node).map_or(0, |rating| rating.speeds.f32_exact)
}

#[test]
fn those_who_wait_are_measured_by_the_journals_clock_and_check_each_other() {
    let mut fleet = all_here(4);
    sitting(&mut fleet, &[80, 400, 800, 8_000]);
    assert_eq!(fleet.state.sitting(), None);
    let speeds = [0, 1, 2, 3].map(|node| speed(&fleet, node));
    assert_eq!(speeds, [102_400, 20_480, 10_240, 1_024], "8 steps of 1,024 tokens each");
    let first = rating(&fleet, 0).unwrap();
    assert_eq!((first.speeds.bf16_exact, first.memory_mib_per_s), (102_400, 3 * 64 * 1_000 / 80));
    assert_eq!((first.tier, rating(&fleet, 1).unwrap().tier), (Tier::Bronze, Tier::Community));
    let rated = fleet.events.iter().filter(|event| matches!(event, Event::NodeRated { .. }));
    assert_eq!(rated.count(), 4);
}

/// One machine does one thing after the other, in whatever order: what it could be rated at with one key it is not with each of two.
#[test]
fn two_nodes_on_one_machine_are_not_both_as_fast_as_it() {
    for [first, second] in [[400, 800], [800, 800]] {
        let mut fleet = all_here(3);
        sitting(&mut fleet, &[first, second, 400]);
        let alone = speed(&fleet, 2);
        let together = speed(&fleet, 0) + speed(&fleet, 1);
        assert!(speed(&fleet, 1) * 2 == alone && together * 2 <= 3 * alone, "{together} of {alone}");
    }
    // Who would have to be as fast as that to be in time is not.
    let mut fleet = all_here(3);
    sitting(&mut fleet, &[12_000, 24_000, 12_000]);
    assert!(rating(&fleet, 0).is_some() && rating(&fleet, 1).is_none());
    let late = Event::NodeUnrated { node: fleet.id(1), why: Unrated::Late };
    assert!(fleet.events.contains(&late));
}

#[test]
fn nobody_is_measured_alone() {
    let mut fleet = all_here(1);
    assert_eq!(fleet.state.draw_wanted(fleet.now_ms), None);
    assert_eq!(open(&mut fleet), Err(Refusal::NothingToDraw));
    let mut fleet = all_here(2);
    open(&mut fleet).unwrap();
    fleet.lose(1);
    assert_eq!((fleet.state.sitting(), fleet.work(0)), (None, Work::Idle));
}

#[test]
fn what_another_said_is_no_answer() {
    let mut fleet = all_here(4);
    open(&mut fleet).unwrap();
    // It waits for the others and says the same.
    for _ in Part::ALL {
        let Report::Benchmarked { answer, .. } = answered(&benchmark(&fleet, 0).unwrap(), fleet.id(0)) else {
            unreachable!()
        };
        let seed = benchmark(&fleet, 3).unwrap().seed;
        (0..3).for_each(|node| fleet.step(node));
        fleet.report(3, Report::Benchmarked { seed, answer }).unwrap();
    }
    draw_checkers(&mut fleet).unwrap();
    check(&mut fleet, 4);
    assert_eq!([0, 1, 2, 3].map(|node| rating(&fleet, node).is_some()), [true, true, true, false]);
    assert!(fleet.events.contains(&Event::NodeUnrated { node: fleet.id(3), why: Unrated::Wrong }));
    assert_eq!(fleet.state.sitting(), None);
}

#[test]
fn one_who_comes_to_something_else_takes_nobodys_rating() {
    let mut fleet = all_here(4);
    open(&mut fleet).unwrap();
    Part::ALL.iter().for_each(|_| part(&mut fleet, &[10; 4]));
    draw_checkers(&mut fleet).unwrap();
    let liar = 2;
    let mut lies = 0;
    for _ in 0..12 {
        for node in 0..4 {
            match benchmark(&fleet, node) {
                Some(asked) if node == liar => {
                    lies += 1;
                    let answer = Digest::of(b"a lie");
                    fleet.report(node, Report::Benchmarked { seed: asked.seed, answer }).unwrap();
                }
                _ => fleet.step(node),
            }
        }
    }
    assert!(lies > 0 && fleet.events.iter().any(|event| matches!(event, Event::BenchmarkDoubted { .. })));
    assert!((0..4).all(|node| rating(&fleet, node).is_some()));
}

#[test]
fn nobody_checks_itself_and_nobody_is_told_a_seed_before_its_last_answer() {
    let mut fleet = all_here(5);
    open(&mut fleet).unwrap();
    let before = benchmark(&fleet, 0).unwrap();
    part(&mut fleet, &[10; 5]);
    let after = benchmark(&fleet, 0).unwrap();
    assert_eq!((before.part, after.part), (Part::F32Exact, Part::Bf16Exact));
    assert_ne!(before.seed, after.seed);
    let again = fleet.report(0, answered(&before, fleet.id(0)));
    assert!(matches!(again, Err(Refusal::NotAssigned { .. })), "{again:?}");
    part(&mut fleet, &[10; 5]);
    part(&mut fleet, &[10; 5]);
    assert_eq!(fleet.state.draw_wanted(fleet.now_ms), Some(Draw::Checkers));
    draw_checkers(&mut fleet).unwrap();
    let mut makers: Vec<_> = (0..5).map(|node| (benchmark(&fleet, node).unwrap().node, node)).collect();
    assert!(makers.iter().all(|(maker, node)| *maker != fleet.id(*node)));
    makers.sort_unstable();
    makers.dedup_by_key(|(maker, _)| *maker);
    assert_eq!(makers.len(), 5, "each is checked by another");
}

#[test]
fn a_benchmark_gives_way_to_work_and_costs_nothing_then() {
    let mut fleet = all_here(3);
    sitting(&mut fleet, &[100; 3]);
    let before = rating(&fleet, 0);
    fleet.tick(RATING_MS + 1);
    open(&mut fleet).unwrap();
    assert!(benchmark(&fleet, 0).is_some());
    let job = fleet.submit("job", plan());
    assert!((0..3).all(|node| matches!(fleet.work(node), Work::Train(_))), "the job does not wait");
    assert_eq!(fleet.state.sitting(), None);
    assert_eq!(rating(&fleet, 0), before, "who had something better to do keeps what it had");
    assert!(fleet.finish(&job, 20));
}

#[test]
fn who_has_answered_and_is_lost_before_the_next_part_is_not_waited_for() {
    let mut fleet = all_here(3);
    open(&mut fleet).unwrap();
    (0..2).for_each(|node| fleet.step(node));
    fleet.lose(1);
    fleet.step(2);
    assert_eq!(fleet.state.sitting().unwrap().candidates.len(), 2);
    for _ in 1..Part::ALL.len() {
        [0, 2].into_iter().for_each(|node| fleet.step(node));
    }
    draw_checkers(&mut fleet).unwrap();
    check(&mut fleet, 3);
    assert_eq!([0, 1, 2].map(|node| rating(&fleet, node).is_some()), [true, false, true]);
}

#[test]
fn sittings_are_rare_and_ratings_are_measured_again() {
    let mut fleet = all_here(2);
    assert_eq!(fleet.state.draw_wanted(fleet.now_ms), Some(Draw::Benchmarks));
    sitting(&mut fleet, &[100; 2]);
    let first = rating(&fleet, 0).unwrap();
    fleet.tick(SITTING_INTERVAL_MS);
    assert_eq!(fleet.state.draw_wanted(fleet.now_ms), None, "everybody has a rating");
    assert_eq!(open(&mut fleet), Err(Refusal::NothingToDraw));
    fleet.tick(RATING_MS);
    sitting(&mut fleet, &[200; 2]);
    let second = rating(&fleet, 0).unwrap();
    assert_eq!(second.speeds.f32_exact * 2, first.speeds.f32_exact);
    // One that is new has its turn, and everybody who waits with it.
    let newcomer = profile("new");
    let key = zoo_protocol::NodeKey::from_seed([200; 32]);
    let now_ms = fleet.now_ms;
    let joined = Command::NodeJoined { node: key.id(), profile: newcomer, addresses: vec![], now_ms };
    fleet.apply(joined).unwrap();
    assert_eq!(fleet.state.draw_wanted(fleet.now_ms), None, "the last was just now");
    fleet.tick(SITTING_INTERVAL_MS);
    assert_eq!(open(&mut fleet).unwrap(), [Event::BenchmarkStarted { part: Part::F32Exact, nodes: 3 }]);
}

#[test]
fn a_sitting_ends_although_nobody_answers() {
    let mut fleet = all_here(3);
    open(&mut fleet).unwrap();
    let deadline = fleet.state.next_deadline_ms().unwrap();
    assert_eq!(deadline, fleet.now_ms + Terms::default().answer_ms);
    fleet.tick(deadline - fleet.now_ms);
    assert_eq!(fleet.state.sitting(), None);
    // Nor when nobody checks.
    fleet.tick(SITTING_INTERVAL_MS);
    open(&mut fleet).unwrap();
    Part::ALL.iter().for_each(|_| part(&mut fleet, &[10; 3]));
    draw_checkers(&mut fleet).unwrap();
    let deadline = fleet.state.next_deadline_ms().unwrap();
    fleet.tick(deadline - fleet.now_ms);
    assert_eq!((fleet.state.sitting(), rating(&fleet, 0)), (None, None));
}

#[test]
fn a_first_share_follows_what_was_measured_and_not_what_was_said() {
    let mut fleet = Fleet::new(3);
    (0..2).for_each(|node| fleet.join(node));
    sitting(&mut fleet, &[100, 300]);
    // Nobody has measured this one.
    let boast =
        NodeProfile { speeds: Speeds { f32_exact: 1 << 30, bf16_exact: 1 << 30 }, ..profile("boast") };
    let (node, now_ms) = (fleet.id(2), fleet.now_ms);
    fleet.apply(Command::NodeJoined { node, profile: boast, addresses: vec![], now_ms }).unwrap();
    fleet.submit("job", plan());
    assert!(matches!(fleet.phase(), Phase::Training(_)));
    let shares = [0, 1, 2].map(|node| fleet.window(node).share.sequences_per_step);
    assert_eq!(shares.iter().sum::<u32>(), 12);
    assert!(shares[0] >= 3 * shares[1] - 1 && shares[2] <= shares[0], "{shares:?}");
}

#[test]
fn a_rating_is_of_a_machine_and_not_of_a_key() {
    let mut fleet = all_here(2);
    sitting(&mut fleet, &[100; 2]);
    fleet.join(0);
    assert!(rating(&fleet, 0).is_some(), "the same machine");
    let smaller = NodeProfile { threads: 1, ..profile("smaller") };
    let (node, now_ms) = (fleet.id(0), fleet.now_ms);
    fleet.apply(Command::NodeJoined { node, profile: smaller, addresses: vec![], now_ms }).unwrap();
    assert_eq!(rating(&fleet, 0), None);
}
