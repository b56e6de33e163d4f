//! Keys that go: nobody gets rid of a past, gets one as a present, or comes back.

use zoo_content::Digest;
use zoo_protocol::{Declaration, NodeId, NodeKey, Report, Retirement, RoundPlan, Sealed, Succession, Work};
use zoo_state::{Command, Event, FaultKind, Gone, LossCause, Phase, Refusal, State, limits};

use crate::fleet::{self, Fleet, network};

const NODES: usize = 5;

fn plan() -> RoundPlan {
    RoundPlan {
        steps: limits::MAX_STEPS,
        evaluate_every: limits::MAX_STEPS,
        verified_in_1000: 0,
        ..fleet::plan()
    }
}

fn running(plan: RoundPlan) -> Fleet {
    let mut fleet = Fleet::new(NODES);
    fleet.name_network(&[]);
    (0..NODES).for_each(|node| fleet.join(node));
    fleet.submit("job", plan);
    fleet
}

fn round(fleet: &Fleet) -> u32 {
    fleet.state.running().unwrap().round
}

fn until(fleet: &mut Fleet, wanted: u32) {
    while round(fleet) < wanted {
        (0..NODES).for_each(|node| {
            fleet.step(node);
            fleet.keep(node);
        });
    }
}

fn fresh(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

fn succession(fleet: &Fleet, node: usize, new: &NodeKey) -> Declaration {
    Succession::declare(network(), fleet.key(node), new)
}

/// The node goes on under this key, and joins with it.
fn rotate(fleet: &mut Fleet, node: usize, seed: u8) -> Vec<Event> {
    let news = fleet.declare(succession(fleet, node, &fresh(seed))).unwrap();
    fleet.take_key(node, fresh(seed));
    fleet.join(node);
    news
}

fn refusal(fleet: &mut Fleet, declaration: Declaration) -> String {
    fleet.declare(declaration).unwrap_err().to_string()
}

#[test]
fn everything_that_is_known_of_a_node_passes_to_its_new_key() {
    let mut fleet = running(plan());
    until(&mut fleet, 3);
    let node = fleet.keepers()[0];
    let (old, state) = (fleet.id(node), fleet.state.clone());
    let kept = |state: &State, id: &NodeId| -> usize {
        state.checkpoints().iter().filter(|(_, _, kept)| kept.keepers.contains_key(id)).count()
    };
    let trail = state.running().unwrap().trails[&old].clone();
    let news = fleet.declare(succession(&fleet, node, &fresh(50))).unwrap();
    let new = fresh(50).id();
    assert_eq!(
        news[..2],
        [Event::NodeLost { node: old, cause: LossCause::Left }, Event::NodeSucceeded { old, new }]
    );
    assert_eq!(fleet.state.nodes()[&new].account, state.nodes()[&old].account);
    assert_eq!(fleet.state.nodes()[&new].measured, state.nodes()[&old].measured);
    let now = &fleet.state.running().unwrap().trails[&new];
    assert_eq!((&now.kept, now.pledges.len()), (&trail.kept, 0), "secrets of the old key will not be told");
    assert_eq!(kept(&fleet.state, &new), kept(&state, &old));
    assert!(!names(&fleet.state, &old), "nothing but its going is about the old key");
    assert_eq!(fleet.state.gone()[&old], Gone { successor: Some(new), was_newcomer: false });
    fleet.take_key(node, fresh(50));
    fleet.join(node);
    until(&mut fleet, 6);
    assert!(fleet.state.nodes()[&new].account.rounds > state.nodes()[&old].account.rounds, "it goes on");
    let mut replayed = State::new();
    fleet.log.iter().for_each(|command| _ = replayed.apply(command).unwrap());
    assert_eq!(replayed.root(), fleet.state.root());
}

/// Whether anything in the state but the table of keys that have gone is about this key.
fn names(state: &State, key: &NodeId) -> bool {
    let bytes = state.to_bytes();
    let names = bytes.windows(32).filter(|window| *window == key.0).count();
    names > usize::from(state.gone().contains_key(key))
}

#[test]
fn a_window_goes_on_under_the_new_key() {
    let mut fleet = running(plan());
    until(&mut fleet, 2);
    let before = fleet.window(0);
    rotate(&mut fleet, 0, 50);
    let now = fleet.window(0);
    assert_eq!((now.share, now.kept, now.reveals), (before.share, before.kept, None));
    // And what was handed in already counts for it.
    fleet.step(1);
    let old = fleet.id(1);
    rotate(&mut fleet, 1, 51);
    let contributed = fleet.state.running().unwrap().accepted_from(&fleet.id(1), 2).is_some();
    assert!(contributed && fleet.state.running().unwrap().accepted_from(&old, 2).is_none());
    until(&mut fleet, 4);
}

#[test]
fn a_key_that_has_gone_does_not_join_and_says_where_its_node_is() {
    let mut fleet = running(plan());
    until(&mut fleet, 2);
    let (old, profile) = (fleet.id(0), fleet.state.nodes()[&fleet.id(0)].profile.clone());
    let declaration = succession(&fleet, 0, &fresh(50));
    rotate(&mut fleet, 0, 50);
    let join =
        |node| Command::NodeJoined { node, profile: profile.clone(), addresses: vec![], now_ms: 2_000 };
    let refused = fleet.apply(join(old)).unwrap_err().to_string();
    assert!(
        refused.contains(&fresh(50).id().short()) && refused.contains("hint: run zoo key rotate"),
        "{refused}"
    );
    // Brought again it changes nothing, also when the new key has gone as well.
    assert!(fleet.state.has_heard(&declaration) && fleet.declare(declaration.clone()).unwrap().is_empty());
    until(&mut fleet, 4);
    rotate(&mut fleet, 0, 51);
    assert!(fleet.declare(declaration).unwrap().is_empty() && fleet.is_live(0));
    fleet.declare(Retirement::declare(network(), fleet.key(0))).unwrap();
    assert!(!fleet.is_live(0));
    let refused = fleet.apply(join(fleet.id(0))).unwrap_err().to_string();
    assert!(refused.contains("it was revoked\nhint: "), "{refused}");
}

#[test]
fn a_succession_that_is_not_both_keys_word_for_this_network_is_refused_and_why() {
    let mut fleet = running(plan());
    until(&mut fleet, 2);
    let (old, new, other) = (fleet.key(0), fresh(50), fresh(51));
    let stated = Succession { network: network(), old: old.id(), new: new.id() };
    let seal = |succession: &Succession, key: &NodeKey| Sealed::seal(succession, key);
    let elsewhere = Succession { new: other.id(), ..stated };
    let cases = [
        (Succession::declare(other.id(), old, &new), "it is foreign"),
        // The thief of a past, and whoever would give a bad one away.
        (
            Declaration::Succession { by_old: seal(&stated, &other), by_new: seal(&stated, &new) },
            "was signed by",
        ),
        (
            Declaration::Succession { by_old: seal(&stated, old), by_new: seal(&stated, &other) },
            "was signed by",
        ),
        (
            Declaration::Succession { by_old: seal(&stated, old), by_new: seal(&elsewhere, &other) },
            "different things",
        ),
        (Succession::declare(network(), &other, &new), "is unknown"),
        (Succession::declare(network(), old, fleet.key(1)), "has a past of its own"),
        (Succession::declare(network(), old, old), "has a past of its own"),
    ];
    for (declaration, reason) in cases {
        let refused = refusal(&mut fleet, declaration);
        assert!(refused.contains(reason), "{refused}");
    }
    rotate(&mut fleet, 0, 50);
    let (first, second) = (NodeKey::from_seed(fleet.key(0).seed()), fresh(52));
    let gone = NodeKey::from_seed(old_seed());
    let refused = refusal(&mut fleet, Succession::declare(network(), &gone, &second));
    assert!(refused.contains("goes on as"), "{refused}");
    let refused = refusal(&mut fleet, Succession::declare(network(), &first, &gone));
    assert!(refused.contains("goes on as"), "nobody goes back to an old key: {refused}");
    let refused = refusal(&mut fleet, Succession::declare(network(), &first, &second));
    assert!(refused.contains("nothing has gone into a round since"), "a chain of keys costs work: {refused}");
    until(&mut fleet, 3);
    rotate(&mut fleet, 0, 52);
}

/// The secret of the first node of a fleet.
fn old_seed() -> [u8; 32] {
    Fleet::new(NODES).key(0).seed()
}

#[test]
fn nobody_is_renamed_while_its_work_is_with_others() {
    let mut fleet = running(RoundPlan { verified_in_1000: 1000, ..plan() });
    until(&mut fleet, 1);
    let not_now = |fleet: &mut Fleet, node: usize| {
        let refused = fleet.declare(succession(fleet, node, &fresh(50)));
        assert!(matches!(refused, Err(Refusal::NotNow(_))), "{refused:?}");
    };
    while !matches!(fleet.phase(), Phase::Aggregating(_)) {
        fleet.step((0..NODES).find(|node| fleet.work(*node) != Work::Idle).expect("somebody works"));
    }
    not_now(&mut fleet, 0);
    while matches!(fleet.phase(), Phase::Aggregating(_) | Phase::Evaluating(_)) {
        fleet.sweep();
    }
    let checked = fleet.state.running().unwrap().verification.checks.keys().next().map(|(_, maker)| *maker);
    let checked = checked.expect("every window is drawn");
    let node = (0..NODES).find(|node| fleet.id(*node) == checked).unwrap();
    not_now(&mut fleet, node);
}

#[test]
fn what_was_wrong_under_the_old_key_convicts_the_new_one_and_quarantine_goes_along() {
    // What stands apart is trained again for certain, and next to nothing else.
    let mut fleet = running(RoundPlan { verified_in_1000: 1, ..plan() });
    let old = fleet.id(0);
    while round(&fleet) < 1 {
        for node in 0..NODES {
            match fleet.work(node) {
                Work::Train(_) if node == 0 => {
                    let mut lie = fleet.commitment(node);
                    lie.outcome.steps_root = Digest::of(b"nobody trained this");
                    fleet.report(node, fleet.seal(node, &lie)).unwrap();
                }
                Work::Aggregate(work) => {
                    let (job, round, attempt, left_out) = (work.job, work.round, work.attempt, vec![old]);
                    let checkpoint = fleet::checkpoint(&work);
                    let report =
                        Report::Aggregated { job, round, attempt, checkpoint, left_out, alike: vec![] };
                    fleet.report(node, report).unwrap();
                }
                _ => fleet.step(node),
            }
        }
    }
    rotate(&mut fleet, 0, 50);
    until(&mut fleet, 6);
    let (new, news) = (fleet.id(0), fleet.news());
    let is_conviction = |event: &Event| {
        let Event::Fault { node, kind: FaultKind::WrongWindow { window: 0, .. }, .. } = event else {
            return false;
        };
        *node == new
    };
    assert!(news.iter().any(is_conviction), "{:?}", fleet.state.nodes()[&new].account);
    let through = fleet.state.running().unwrap().barred[&new];
    while !matches!(fleet.phase(), Phase::Training(_)) {
        fleet.sweep();
    }
    rotate(&mut fleet, 0, 51);
    let newer = fleet.id(0);
    assert_eq!(fleet.state.running().unwrap().barred.get(&newer), Some(&through));
    let account = &fleet.state.nodes()[&newer].account;
    assert_eq!((account.convictions, account.faults), (1, 1));
    assert_eq!(fleet.work(0), Work::Idle);
}

#[test]
fn who_is_revoked_is_gone_at_once_and_its_round_goes_on_without_it() {
    let mut fleet = running(plan());
    until(&mut fleet, 2);
    let (id, other) = (fleet.id(0), fresh(51));
    let retirement = Retirement::declare(network(), fleet.key(0));
    for (declaration, reason) in [
        (Retirement::declare(other.id(), fleet.key(0)), "it is foreign"),
        (Retirement::declare(network(), &other), "is unknown"),
        (
            Declaration::Retirement(Sealed::seal(&Retirement { network: network(), node: id }, &other)),
            "was signed by",
        ),
    ] {
        let refused = refusal(&mut fleet, declaration);
        assert!(refused.contains(reason), "{refused}");
    }
    let news = fleet.declare(retirement.clone()).unwrap();
    assert!(news.contains(&Event::NodeRetired { node: id }) && !fleet.is_live(0), "{news:?}");
    assert!(fleet.state.has_heard(&retirement) && fleet.declare(retirement).unwrap().is_empty());
    let late = succession(&fleet, 0, &other);
    let refused = refusal(&mut fleet, late);
    assert!(refused.contains("it was revoked"), "a thief finds nothing to take over: {refused}");
    while round(&fleet) < 5 {
        (1..NODES).for_each(|node| fleet.step(node));
    }
}
