//! Windows are trained again by others; who lies about a window is found, and who does not is not.

use std::collections::BTreeSet;

use zoo_content::Digest;
use zoo_protocol::{Aggregate, Commitment, Report, RoundPlan, VerifyWindow, Work};
use zoo_state::{
    CHALLENGE_ROUNDS, Event, FaultKind, Missed, Phase, QUARANTINE_ROUNDS, Refusal, Unverified, limits,
};

use crate::fleet::{self, Fleet};

const NODES: usize = 6;
const LIAR: usize = 1;

/// Many rounds, of which every window is drawn.
fn plan() -> RoundPlan {
    RoundPlan { steps: 300, evaluate_every: 300, verified_in_1000: 1000, ..fleet::plan() }
}

/// What a node does that trains honestly, and lies about it.
fn forge(fleet: &Fleet, node: usize) -> Commitment {
    let mut commitment = fleet.commitment(node);
    commitment.outcome.steps_root = Digest::of(b"nobody trained this");
    commitment
}

/// Everybody does what it is asked, once; the liar's windows are forged. Verifiers wait if they are told to.
fn sweep(fleet: &mut Fleet, verify: bool) {
    // The liar first: nobody waits for it while nothing of it has gone into a round.
    for node in [LIAR].into_iter().chain((0..NODES).filter(|node| *node != LIAR)) {
        match fleet.work(node) {
            Work::Train(_) if node == LIAR => {
                let forged = forge(fleet, node);
                fleet.report(node, fleet.seal(node, &forged)).unwrap();
            }
            Work::Verify(_) if !verify => {}
            _ => fleet.step(node),
        }
    }
}

/// A fleet in the round in which the windows of the first are verified, of which the liar's was forged; and who verifies that one.
fn asked() -> (Fleet, usize) {
    let mut fleet = Fleet::running(NODES, plan());
    let round = |fleet: &Fleet| fleet.state.running().unwrap().round;
    while round(&fleet) < 2 {
        sweep(&mut fleet, false);
    }
    let verifies =
        |node: &usize| matches!(fleet.work(*node), Work::Verify(asked) if asked.maker == fleet.id(LIAR));
    let verifier = (0..NODES).find(verifies).expect("somebody verifies the liar's window");
    fleet.news();
    (fleet, verifier)
}

fn asked_of(fleet: &Fleet, node: usize) -> VerifyWindow {
    match fleet.work(node) {
        Work::Verify(asked) => asked,
        other => panic!("node {node} does not verify but: {other:?}"),
    }
}

/// A verdict on the window that a node was asked to train again.
fn verdict(fleet: &Fleet, node: usize, outcome: Digest) -> Report {
    let VerifyWindow { maker, window, .. } = asked_of(fleet, node);
    Report::Verified { job: window.job, round: window.round, maker, outcome }
}

/// Who verifies the liar's first window.
fn panel(fleet: &Fleet) -> Vec<usize> {
    let liar = fleet.id(LIAR);
    (0..NODES)
        .filter(|node| matches!(fleet.work(*node), Work::Verify(asked) if asked.maker == liar && asked.window.round == 0))
        .collect()
}

/// Goes on until a window of the liar's has been settled.
fn settle(fleet: &mut Fleet) -> Vec<Event> {
    for _ in 0..40 {
        sweep(fleet, true);
        let news = fleet.news();
        if news.iter().any(|event| about_liar(fleet, event)) {
            return news;
        }
    }
    panic!("nothing is settled");
}

fn about_liar(fleet: &Fleet, event: &Event) -> bool {
    let liar = fleet.id(LIAR);
    match event {
        Event::WindowVerified { maker, .. } | Event::WindowUnverified { maker, .. } => *maker == liar,
        Event::Fault { node, .. } => *node == liar,
        _ => false,
    }
}

#[test]
fn a_window_that_comes_out_again_is_verified_by_one_node_and_nobody_waits_for_it() {
    let mut fleet = Fleet::running(NODES, plan());
    let mut verified = BTreeSet::new();
    for _ in 0..60 {
        fleet.sweep();
    }
    for event in fleet.news() {
        match event {
            Event::WindowVerified { round, maker, verifiers, .. } => {
                assert!(verifiers.len() == 1 && verifiers[0] != maker, "{verifiers:?}");
                assert!(verified.insert((round, maker)), "settled twice");
            }
            Event::Fault { .. } => panic!("{event:?}"),
            _ => {}
        }
    }
    assert!(verified.len() > 15, "{} windows", verified.len());
    let account = |node: usize| fleet.state.nodes()[&fleet.id(node)].account.clone();
    let sums = (0..NODES).map(account).fold((0, 0), |(own, of_others), account| {
        (own + account.verified as usize, of_others + account.verifications as usize)
    });
    assert_eq!(sums, (verified.len(), verified.len()));
}

#[test]
fn who_verifies_has_no_part_in_the_round_and_is_told_nothing_of_what_came_of_the_window() {
    let (fleet, verifier) = asked();
    let Phase::Training(training) = fleet.phase() else { panic!("{:?}", fleet.phase()) };
    assert!(!training.seats.contains_key(&fleet.id(verifier)));
    let VerifyWindow { asked_in, maker, window, replica_in } = asked_of(&fleet, verifier);
    assert_eq!((asked_in, maker, window.round, replica_in), (2, fleet.id(LIAR), 0, None));
    assert!(training.seats.len() >= NODES / 2, "at least half of them train");
}

#[test]
fn a_forged_window_convicts_its_maker_once_those_who_have_not_spoken_could_change_nothing() {
    let (mut fleet, verifier) = asked();
    fleet.step(verifier);
    assert!(!fleet.news().iter().any(|event| about_liar(&fleet, event)), "one alone convicts nobody");
    let news = settle(&mut fleet);
    let fault = news.iter().find_map(|event| match event {
        Event::Fault {
            node, kind: FaultKind::WrongWindow { window, right, committed, verifiers }, ..
        } => Some((*node, *window, right != committed, verifiers.len())),
        _ => None,
    });
    // Five others: three to one may become three to three, four to one may not.
    assert_eq!(fault, Some((fleet.id(LIAR), 0, true, 4)));
    let running = fleet.state.running().unwrap();
    assert_eq!(running.barred[&fleet.id(LIAR)], running.round + QUARANTINE_ROUNDS);
    assert_eq!(fleet.work(LIAR), Work::Idle);
    assert_eq!(fleet.state.nodes()[&fleet.id(LIAR)].account.convictions, 1);
}

#[test]
fn what_a_convicted_node_gave_to_the_present_round_is_not_used() {
    let (mut fleet, verifier) = asked();
    fleet.step(verifier);
    let news = settle(&mut fleet);
    let at = news.iter().position(|event| about_liar(&fleet, event)).unwrap();
    let sealed: Vec<bool> = news[at..]
        .iter()
        .filter_map(|event| match event {
            Event::RoundSealed { contributors, .. } => Some(contributors.contains(&fleet.id(LIAR))),
            _ => None,
        })
        .collect();
    assert!(sealed.iter().all(|contains| !contains), "{news:?}");
    let finished = |fleet: &Fleet| fleet.state.running().unwrap().round;
    let before = finished(&fleet);
    (0..4).for_each(|_| sweep(&mut fleet, true));
    assert!(finished(&fleet) > before, "the round goes on without it");
}

#[test]
fn quarantines_double() {
    let mut fleet = Fleet::running(NODES, RoundPlan { steps: 3_000, evaluate_every: 3_000, ..plan() });
    let mut lengths = Vec::new();
    while lengths.len() < 3 {
        sweep(&mut fleet, true);
        assert!(fleet.state.running().is_some(), "{lengths:?}");
        for event in fleet.news() {
            if matches!(event, Event::Fault { kind: FaultKind::WrongWindow { .. }, .. }) {
                let running = fleet.state.running().unwrap();
                lengths.push(running.barred[&fleet.id(LIAR)] - running.round);
            }
        }
    }
    let [first, second, third] = lengths[..] else { unreachable!() };
    assert!(first <= QUARANTINE_ROUNDS && first + 4 > QUARANTINE_ROUNDS, "{lengths:?}");
    assert!(second > first + 8 && third > second + 16, "{lengths:?}");
}

#[test]
fn a_false_accuser_is_convicted_and_who_was_accused_is_not() {
    let mut fleet = Fleet::running(NODES, plan());
    let verifier = loop {
        fleet.sweep();
        if let Some(node) = (0..NODES).find(|node| matches!(fleet.work(*node), Work::Verify(_))) {
            break node;
        }
    };
    let accused = asked_of(&fleet, verifier).maker;
    fleet.report(verifier, verdict(&fleet, verifier, Digest::of(b"a lie"))).unwrap();
    for _ in 0..12 {
        fleet.sweep();
    }
    let faults: Vec<_> = fleet
        .news()
        .into_iter()
        .filter_map(
            |event| if let Event::Fault { node, kind, .. } = event { Some((node, kind)) } else { None },
        )
        .collect();
    let [(node, FaultKind::WrongVerdict { maker, .. })] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!((*node, *maker), (fleet.id(verifier), accused));
    assert_eq!(fleet.state.nodes()[&accused].account.convictions, 0);
}

/// Of so many nodes the first `liars` say this of one window, everything else is honest: what happens until it is settled.
fn contested(nodes: usize, liars: usize, lie: impl Fn(usize) -> Digest) -> (Fleet, Vec<Event>) {
    let mut fleet = Fleet::running(nodes, plan());
    let about = loop {
        fleet.sweep();
        // A window that was drawn just now, so that there is time for everybody.
        let fresh = |node| match fleet.work(node) {
            Work::Verify(asked) if asked.asked_in == asked.window.round + 2 => {
                Some((asked.window.round, asked.maker))
            }
            _ => None,
        };
        if let Some(about) = (0..liars).find_map(fresh) {
            break about;
        }
    };
    for _ in 0..40 {
        for node in 0..nodes {
            match fleet.work(node) {
                Work::Verify(asked) if (asked.window.round, asked.maker) == about && node < liars => {
                    fleet.report(node, verdict(&fleet, node, lie(node))).unwrap();
                }
                _ => fleet.step(node),
            }
        }
        let news = fleet.news();
        let settles = |event: &Event| match event {
            Event::WindowVerified { round, maker, .. } | Event::WindowUnverified { round, maker, .. } => {
                (*round, *maker) == about
            }
            Event::Fault { node, kind: FaultKind::WrongWindow { window, .. }, .. } => {
                (*window, *node) == about
            }
            _ => false,
        };
        if news.iter().any(settles) {
            return (fleet, news);
        }
    }
    panic!("nothing is settled");
}

#[test]
fn where_everybody_comes_to_something_else_nobody_is_accused() {
    let (_, news) = contested(NODES, NODES, |node| Digest::of(&[node as u8]));
    assert!(
        news.iter().any(|event| matches!(event, Event::WindowUnverified { why: Unverified::Undecided, .. })),
        "{news:?}"
    );
    assert!(!news.iter().any(|event| matches!(event, Event::Fault { .. })), "{news:?}");
}

#[test]
fn six_of_twenty_who_tell_the_same_lie_convict_nobody_but_themselves() {
    let (fleet, news) = contested(20, 6, |_| Digest::of(b"the same lie"));
    let convicted: Vec<_> = news
        .iter()
        .filter_map(
            |event| if let Event::Fault { node, kind, .. } = event { Some((node, kind)) } else { None },
        )
        .collect();
    assert!(!convicted.is_empty());
    for (node, kind) in convicted {
        let is_liar = (0..6).any(|liar| fleet.id(liar) == *node);
        assert!(is_liar && matches!(kind, FaultKind::WrongVerdict { .. }), "{kind:?}");
    }
}

#[test]
fn what_cannot_be_had_is_withheld_and_convicts_nobody() {
    let (mut fleet, _) = asked();
    for _ in 0..2 {
        while panel(&fleet).is_empty() {
            sweep(&mut fleet, false);
        }
        let node = panel(&fleet)[0];
        let VerifyWindow { maker, window, .. } = asked_of(&fleet, node);
        fleet.report(node, Report::Withheld { job: window.job, round: window.round, maker }).unwrap();
    }
    let news = fleet.news();
    assert!(
        news.iter().any(|event| matches!(event, Event::WindowUnverified { why: Unverified::Withheld, .. })),
        "{news:?}"
    );
    assert!(!news.iter().any(|event| matches!(event, Event::Fault { .. })), "{news:?}");
}

#[test]
fn a_verifier_that_is_lost_fails_or_takes_too_long_is_replaced() {
    let gone: [fn(&mut Fleet, usize); 3] = [
        |fleet, node| fleet.lose(node),
        |fleet, node| {
            let VerifyWindow { asked_in, window, .. } = asked_of(fleet, node);
            let failed = Report::Failed { job: window.job, round: asked_in, reason: "no memory".into() };
            fleet.report(node, failed).unwrap();
        },
        |fleet, _| {
            let deadline_ms = fleet.state.next_deadline_ms().expect("somebody is waited for");
            fleet.tick(deadline_ms - fleet.now_ms);
            fleet.tick(2 * fleet::DEADLINE_MS);
        },
    ];
    for go in gone {
        let (mut fleet, verifier) = asked();
        go(&mut fleet, verifier);
        assert!(!matches!(fleet.work(verifier), Work::Verify(_)));
        let news = settle(&mut fleet);
        let convicted = |event: &Event| matches!(event, Event::Fault { kind: FaultKind::WrongWindow { verifiers, .. }, .. } if !verifiers.contains(&fleet.id(verifier)));
        assert!(news.iter().any(convicted), "{news:?}");
    }
}

#[test]
fn where_too_few_are_left_the_verifiers_are_needed() {
    let (mut fleet, verifier) = asked();
    let others: Vec<usize> = (0..NODES).filter(|node| *node != verifier).collect();
    others[1..].iter().for_each(|node| fleet.lose(*node));
    assert!(!matches!(fleet.work(verifier), Work::Verify(_)), "two are needed");
}

#[test]
fn what_nobody_has_time_for_stays_unverified() {
    let mut fleet = Fleet::running(NODES, RoundPlan { minimum_nodes: NODES as u32, ..plan() });
    while fleet.state.running().unwrap().round <= 2 + CHALLENGE_ROUNDS {
        fleet.sweep();
    }
    let news = fleet.news();
    let expired = |event: &&Event| matches!(event, Event::WindowUnverified { why: Unverified::Expired, .. });
    assert!(news.iter().filter(expired).count() >= NODES, "{news:?}");
    assert!(!news.iter().any(|event| matches!(event, Event::VerificationAsked { .. })), "everybody trains");
}

#[test]
fn a_window_starts_from_what_its_node_kept_and_tells_the_secret_that_was_pledged() {
    let mut fleet = Fleet::running(2, plan());
    let first = fleet.commitment(0);
    assert_eq!((first.work.kept, first.work.reveals, first.secret), (None, None, None));
    while fleet.state.running().unwrap().round == 0 {
        fleet.sweep();
    }
    let honest = fleet.commitment(0);
    assert_eq!(honest.work.kept, Some(first.outcome.replica_out));
    assert_eq!(honest.secret.map(|secret| secret.pledge()), Some(first.pledge));
    let changes: [fn(&mut Commitment, &Fleet); 4] = [
        |lie, _| lie.replica_in = Some(Digest::of(b"whatever suits me")),
        |lie, _| lie.secret = None,
        |lie, fleet| lie.secret = Some(fleet.key(0).secret(&lie.work.network, &lie.work.job, 1)),
        |lie, fleet| lie.secret = Some(fleet.key(1).secret(&lie.work.network, &lie.work.job, 0)),
    ];
    for change in changes {
        let mut lie = honest.clone();
        change(&mut lie, &fleet);
        let refused = fleet.report(0, fleet.seal(0, &lie));
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
    // Who has lost what it kept starts from nothing, and says so.
    let fresh = Commitment { replica_in: None, ..honest };
    fleet.report(0, fleet.seal(0, &fresh)).unwrap();
}

#[test]
fn as_many_windows_are_drawn_as_the_plan_says() {
    let plan = RoundPlan { steps: limits::MAX_STEPS, verified_in_1000: 200, ..plan() };
    let mut fleet = Fleet::running(NODES, RoundPlan { evaluate_every: plan.steps, ..plan });
    let (mut accepted, mut settled) = (0, 0);
    while fleet.state.running().unwrap().round < 500 {
        fleet.sweep();
        for event in fleet.news() {
            match event {
                Event::ContributionAccepted { .. } => accepted += 1,
                Event::WindowVerified { .. } => settled += 1,
                Event::WindowUnverified { .. } => panic!("{event:?}"),
                _ => {}
            }
        }
    }
    // Two and a half standard deviations of the binomial.
    let (mean, deviation) = (0.2 * f64::from(accepted), (0.16 * f64::from(accepted)).sqrt());
    assert!((f64::from(settled) - mean).abs() < 2.5 * deviation, "{settled} of {accepted}");
}

/// Everybody does what it is asked; those for whom `sees` holds leave the liar's contribution out of their checkpoint.
fn sweep_without(fleet: &mut Fleet, sees: impl Fn(usize) -> bool) {
    for node in 0..NODES {
        match fleet.work(node) {
            Work::Aggregate(work) if sees(node) => {
                let Aggregate { job, round, attempt, .. } = work;
                let given = work.summands.iter().map(|summand| summand.node);
                let left_out = given.filter(|maker| *maker == fleet.id(LIAR)).collect();
                let checkpoint = fleet::checkpoint(&work);
                let alike = Vec::new();
                let report = Report::Aggregated { job, round, attempt, checkpoint, left_out, alike };
                fleet.report(node, report).unwrap();
            }
            _ => fleet.step(node),
        }
    }
}

#[test]
fn what_has_nothing_to_do_with_the_others_does_not_count_and_is_trained_again_without_a_lot() {
    // Of so many windows, next to none is drawn.
    let mut fleet = Fleet::running(NODES, RoundPlan { verified_in_1000: 1, ..plan() });
    while fleet.state.running().unwrap().round == 0 {
        sweep_without(&mut fleet, |_| true);
    }
    let (news, liar) = (fleet.news(), fleet.id(LIAR));
    let is_left_out = |event: &&Event| matches!(event, Event::ContributionMissed { node, why: Missed::Outlier, .. } if *node == liar);
    assert_eq!(news.iter().filter(is_left_out).count(), 1);
    let account = &fleet.state.nodes()[&liar].account;
    assert_eq!(
        (account.rounds, account.tokens, account.missed, account.faults),
        (0, 0, 1, 0),
        "and it is no fault"
    );
    let of_round = |event: &Event| match event {
        Event::RoundFinished { tokens, .. } => Some(*tokens),
        _ => None,
    };
    let others = (NODES as u64 - 1) * 12 * 64;
    assert_eq!(news.iter().find_map(of_round), Some(others));
    while fleet.state.running().unwrap().round < 4 {
        fleet.sweep();
    }
    let verified = |event: &Event| match event {
        Event::WindowVerified { maker, round, .. } => Some((*maker, *round)),
        _ => None,
    };
    let verified: Vec<_> = fleet.news().iter().filter_map(verified).collect();
    assert_eq!(verified, [(liar, 0)], "it was honest, as it turns out");
}

#[test]
fn contributions_that_are_alike_count_and_their_windows_are_trained_again_without_a_lot() {
    let mut fleet = Fleet::running(NODES, RoundPlan { verified_in_1000: 1, ..plan() });
    let twins = || [LIAR, LIAR + 1];
    while fleet.state.running().unwrap().round == 0 {
        for node in 0..NODES {
            let Work::Aggregate(work) = fleet.work(node) else {
                fleet.step(node);
                continue;
            };
            let Aggregate { job, round, attempt, .. } = work;
            let checkpoint = fleet::checkpoint(&work);
            // One lies about somebody else.
            let alike =
                if node == 0 { vec![fleet.id(NODES - 1)] } else { twins().map(|at| fleet.id(at)).into() };
            let report = Report::Aggregated { job, round, attempt, checkpoint, left_out: vec![], alike };
            fleet.report(node, report).unwrap();
        }
    }
    assert!(!fleet.news().iter().any(|event| matches!(event, Event::ContributionMissed { .. })));
    assert!(twins().iter().all(|twin| fleet.state.nodes()[&fleet.id(*twin)].account.rounds == 1));
    while fleet.state.running().unwrap().round < 4 {
        fleet.sweep();
    }
    let verified = |event: &Event| match event {
        Event::WindowVerified { maker, round, .. } => Some((*maker, *round)),
        _ => None,
    };
    let mut verified: Vec<_> = fleet.news().iter().filter_map(verified).collect();
    let mut expected = twins().map(|at| (fleet.id(at), 0));
    verified.sort();
    expected.sort();
    assert_eq!(verified, expected);
}

#[test]
fn half_of_the_voters_leave_nobody_out() {
    let mut fleet = Fleet::running(NODES, plan());
    while fleet.state.running().unwrap().round == 0 {
        sweep_without(&mut fleet, |node| node < NODES / 2);
    }
    assert!(!fleet.news().iter().any(|event| matches!(event, Event::ContributionMissed { .. })));
    assert_eq!(fleet.state.nodes()[&fleet.id(LIAR)].account.rounds, 1);
}

#[test]
fn who_contributed_nothing_cannot_be_left_out() {
    let mut fleet = Fleet::running(NODES, plan());
    (0..NODES).for_each(|node| fleet.step(node));
    let Work::Aggregate(work) = fleet.work(0) else { panic!("{:?}", fleet.work(0)) };
    let Aggregate { job, round, attempt, .. } = work;
    let (checkpoint, left_out) =
        (fleet::checkpoint(&work), vec![zoo_protocol::NodeKey::from_seed([99; 32]).id()]);
    for (left_out, alike) in [(left_out.clone(), vec![]), (vec![], left_out)] {
        let report = Report::Aggregated { job, round, attempt, checkpoint, left_out, alike };
        let refused = fleet.report(0, report);
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
}
