//! Somebody vouches for a node: it is checked less often, never not at all, and no longer than the word holds.

use std::collections::BTreeMap;

use zoo_content::Digest;
use zoo_protocol::{
    Attestation, Build, CREDENTIAL_VALID_S_MAX, CREDENTIAL_VALID_S_MIN, Commitment, Credential, Declaration,
    JobDescription, NodeId, NodeKey, Report, Revocation, RoundPlan, Sealed, TcbStatus, TeeKind, TrainWindow,
    Work, encode,
};
use zoo_state::{CLOCKS_APART_S, Command, Distrust, Event, FaultKind, Missed, Refusal, limits};

use crate::fleet::{self, Fleet, job, network};

const NODES: usize = 6;
const DAY_S: u64 = CREDENTIAL_VALID_S_MIN;

fn operator() -> NodeKey {
    NodeKey::from_seed([100; 32])
}

fn plan() -> RoundPlan {
    RoundPlan {
        steps: limits::MAX_STEPS,
        evaluate_every: limits::MAX_STEPS,
        verified_in_1000: 1000,
        ..fleet::plan()
    }
}

/// Everybody has joined a network that trusts the operator; it is day 100.
fn trusting(plan: RoundPlan) -> Fleet {
    let mut fleet = Fleet::new(NODES);
    fleet.now_ms = 100 * DAY_S * 1000;
    fleet.name_network(&[operator().id()]);
    (0..NODES).for_each(|node| fleet.join(node));
    fleet.submit("job", plan);
    fleet.news();
    fleet
}

fn credential(fleet: &Fleet, node: usize) -> Credential {
    let valid_from_s = fleet.now_ms / 1000;
    Credential {
        network: network(),
        node: fleet.id(node),
        build: Build { binary: Digest::of(b"zoo"), version: "0.1.0".into(), target: "x86_64-linux".into() },
        valid_from_s,
        valid_until_s: valid_from_s + CREDENTIAL_VALID_S_MAX,
    }
}

fn issue(credential: &Credential) -> Declaration {
    Declaration::Credential(Sealed::seal(credential, &operator()))
}

fn revoke(credential: &Credential, by: &NodeKey, network: NodeId) -> Declaration {
    let id = Credential::id_of(&Sealed::seal(credential, by));
    Declaration::Revocation(Sealed::seal(&Revocation { network, node: credential.node, credential: id }, by))
}

fn attestation(fleet: &Fleet, platform: &str) -> Attestation {
    Attestation {
        kind: TeeKind::SevSnp,
        measurement: Digest::of(b"software"),
        platform: Digest::of(platform.as_bytes()),
        tcb: TcbStatus::UpToDate,
        valid_until_s: fleet.now_ms / 1000 + DAY_S,
        evidence: Digest::of(b"evidence"),
    }
}

fn attest(fleet: &mut Fleet, node: usize, attestation: Attestation) -> Result<Vec<Event>, Refusal> {
    let (node, now_ms) = (fleet.id(node), fleet.now_ms);
    fleet.apply(Command::Attested { node, attestation, now_ms })
}

fn is_trusted(fleet: &Fleet, node: usize) -> bool {
    fleet.state.is_trusted(&fleet.id(node), fleet.now_ms)
}

#[test]
fn windows_of_trusted_nodes_are_drawn_a_quarter_as_often_and_still_are() {
    let mut fleet = trusting(RoundPlan { verified_in_1000: 200, trust_discount: 4, ..plan() });
    fleet.declare(issue(&credential(&fleet, 0))).unwrap();
    let shown = attestation(&fleet, "chip");
    attest(&mut fleet, 1, shown).unwrap();
    let (mut accepted, mut drawn): (BTreeMap<NodeId, f64>, BTreeMap<NodeId, f64>) = Default::default();
    while fleet.state.running().unwrap().round < 800 {
        fleet.sweep();
        for event in fleet.news() {
            match event {
                Event::ContributionAccepted { node, .. } => *accepted.entry(node).or_default() += 1.0,
                Event::WindowVerified { maker, .. } => *drawn.entry(maker).or_default() += 1.0,
                _ => {}
            }
        }
    }
    for node in 0..NODES {
        let (is_trusted, id) = (is_trusted(&fleet, node), fleet.id(node));
        let rate = if is_trusted { 0.05 } else { 0.2 };
        let (mean, deviation) = (rate * accepted[&id], (rate * (1.0 - rate) * accepted[&id]).sqrt());
        assert!(
            (drawn[&id] - mean).abs() < 3.0 * deviation,
            "node {node}: {} of {}",
            drawn[&id],
            accepted[&id]
        );
        assert_eq!(is_trusted, node < 2);
    }
}

#[test]
fn an_operators_word_ends_by_the_journals_clock_and_with_the_operator() {
    let mut fleet = trusting(plan());
    let news = fleet.declare(issue(&credential(&fleet, 0))).unwrap();
    assert!(
        matches!(news[..], [Event::NodeVouched { operator: by, .. }] if by == operator().id()),
        "{news:?}"
    );
    let id = fleet.id(0);
    let until_ms = (fleet.now_ms / 1000 + CREDENTIAL_VALID_S_MAX) * 1000;
    assert!(fleet.state.is_trusted(&id, until_ms - 1) && !fleet.state.is_trusted(&id, until_ms));
    fleet.name_network(&[NodeKey::from_seed([101; 32]).id()]);
    assert!(!is_trusted(&fleet, 0), "its operator is not trusted any more");
    fleet.name_network(&[operator().id()]);
    assert!(is_trusted(&fleet, 0));
    // Who runs other software is not who was vouched for.
    fleet.join_with(0, "0.2.0");
    assert!(!is_trusted(&fleet, 0));
}

#[test]
fn a_credential_that_is_not_for_this_node_network_and_time_says_nothing_and_why() {
    let mut fleet = trusting(plan());
    let honest = credential(&fleet, 0);
    let stranger = NodeKey::from_seed([101; 32]);
    let now_s = fleet.now_ms / 1000;
    let expired = Credential { valid_from_s: now_s - 2 * DAY_S, valid_until_s: now_s, ..honest.clone() };
    let early = now_s + CLOCKS_APART_S + 1;
    let early = Credential { valid_from_s: early, valid_until_s: early + DAY_S, ..honest.clone() };
    let foreign = Credential { network: stranger.id(), ..honest.clone() };
    let unknown = Credential { node: stranger.id(), ..honest.clone() };
    let other = Build { version: "0.2.0".into(), ..honest.build.clone() };
    let other = Credential { build: other, ..honest.clone() };
    let long = Credential { valid_until_s: now_s + CREDENTIAL_VALID_S_MAX + 1, ..honest.clone() };
    let by_stranger = Declaration::Credential(Sealed::seal(&honest, &stranger));
    for (declaration, reason) in [
        (issue(&expired), "holds from"),
        (issue(&early), "holds from"),
        (issue(&foreign), "it is foreign"),
        (issue(&unknown), "is unknown"),
        (issue(&other), "its credential is for \"0.2.0\""),
        (issue(&long), "exceeds the limit"),
        (tampered(&issue(&honest)), "does not cover these bytes"),
        (by_stranger, "is not trusted by this network"),
    ] {
        let refused = fleet.declare(declaration).unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
        assert!(!is_trusted(&fleet, 0) && fleet.is_live(0), "it works on as everybody");
    }
    // Before anybody says which network it is, nothing signed for one can be judged.
    let mut nameless = Fleet::new(1);
    nameless.join(0);
    assert_eq!(nameless.declare(issue(&credential(&nameless, 0))), Err(Refusal::Unnamed));
}

/// With another bit somewhere in what was signed.
fn tampered(declaration: &Declaration) -> Declaration {
    let mut bytes = encode(declaration);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    zoo_protocol::decode(&bytes).unwrap()
}

#[test]
fn what_is_revoked_counts_no_more_whoever_brings_it_and_only_its_operator_can() {
    let mut fleet = trusting(plan());
    let (first, other) = (credential(&fleet, 0), NodeKey::from_seed([101; 32]));
    fleet.declare(issue(&first)).unwrap();
    assert!(fleet.state.has_heard(&issue(&first)) && fleet.declare(issue(&first)).unwrap().is_empty());
    let refused = fleet.declare(revoke(&first, &operator(), other.id())).unwrap_err().to_string();
    assert!(refused.contains("it is foreign"), "{refused}");
    assert_eq!(fleet.declare(revoke(&first, &other, network())), Err(Refusal::UntrustedOperator(other.id())));
    fleet.name_network(&[operator().id(), other.id()]);
    fleet.declare(revoke(&first, &other, network())).unwrap();
    assert!(is_trusted(&fleet, 0), "another operator's word is another word");
    let news = fleet.declare(revoke(&first, &operator(), network())).unwrap();
    assert_eq!(news, [Event::TrustEnded { node: fleet.id(0), why: Distrust::Revoked }]);
    assert!(!is_trusted(&fleet, 0) && fleet.state.has_heard(&revoke(&first, &operator(), network())));
    assert_eq!(fleet.declare(issue(&first)), Err(Refusal::VoidCredential(fleet.id(0))));
    // What was never brought here can be revoked as well, and the next credential is another one.
    let second = Credential { valid_until_s: first.valid_until_s - 1, ..first.clone() };
    fleet.declare(revoke(&second, &operator(), network())).unwrap();
    assert_eq!(fleet.declare(issue(&second)), Err(Refusal::VoidCredential(fleet.id(0))));
    fleet.declare(issue(&Credential { valid_until_s: first.valid_until_s - 2, ..first })).unwrap();
    assert!(is_trusted(&fleet, 0));
}

#[test]
fn a_fault_ends_trust_and_the_same_word_is_not_taken_again() {
    let mut fleet = trusting(plan());
    let word = credential(&fleet, 0);
    fleet.declare(issue(&word)).unwrap();
    let shown = attestation(&fleet, "chip");
    attest(&mut fleet, 0, shown).unwrap();
    while fleet.state.nodes()[&fleet.id(0)].account.faults == 0 {
        assert!(is_trusted(&fleet, 0));
        for node in 0..NODES {
            match fleet.work(node) {
                Work::Train(_) if node == 0 => {
                    let mut lie: Commitment = fleet.commitment(0);
                    lie.outcome.steps_root = Digest::of(b"nobody trained this");
                    fleet.report(0, fleet.seal(0, &lie)).unwrap();
                }
                _ => fleet.step(node),
            }
        }
    }
    let id = fleet.id(0);
    let news = fleet.news();
    assert!(
        news.iter().any(|event| matches!(event, Event::Fault { kind: FaultKind::WrongWindow { .. }, .. }))
    );
    assert!(news.contains(&Event::TrustEnded { node: id, why: Distrust::Fault }));
    assert!(!is_trusted(&fleet, 0));
    assert_eq!(fleet.declare(issue(&word)), Err(Refusal::VoidCredential(id)));
    assert_eq!(attest(&mut fleet, 0, shown), Err(Refusal::WasAtFault(id)), "nobody looked at it since");
    let again = Credential { valid_until_s: word.valid_until_s - 1, ..word };
    fleet.declare(issue(&again)).unwrap();
    assert!(is_trusted(&fleet, 0), "the operator has");
}

#[test]
fn what_has_nothing_to_do_with_the_others_is_trained_again_whoever_vouches() {
    let mut fleet = trusting(RoundPlan { verified_in_1000: 1, ..plan() });
    fleet.declare(issue(&credential(&fleet, 0))).unwrap();
    let trusted = fleet.id(0);
    while fleet.state.running().unwrap().round == 0 {
        for node in 0..NODES {
            match fleet.work(node) {
                Work::Aggregate(work) => {
                    let (job, round, attempt, left_out) = (work.job, work.round, work.attempt, vec![trusted]);
                    let checkpoint = fleet::checkpoint(&work);
                    fleet
                        .report(
                            node,
                            Report::Aggregated { job, round, attempt, checkpoint, left_out, alike: vec![] },
                        )
                        .unwrap();
                }
                _ => fleet.step(node),
            }
        }
    }
    let is_outlier = |event: &Event| matches!(event, Event::ContributionMissed { why: Missed::Outlier, .. });
    assert!(fleet.news().iter().any(is_outlier));
    while fleet.state.running().unwrap().round < 4 {
        fleet.sweep();
    }
    let verified =
        |event: &Event| matches!(event, Event::WindowVerified { maker, round: 0, .. } if *maker == trusted);
    assert!(fleet.news().iter().any(verified));
}

#[test]
fn hardware_vouches_until_it_ends_and_two_nodes_on_one_machine_are_seen() {
    let mut fleet = trusting(plan());
    let [one, other] = ["one", "other"].map(|platform| attestation(&fleet, platform));
    for (node, shown) in [(0, one), (1, one), (2, other)] {
        let news = attest(&mut fleet, node, shown).unwrap();
        assert_eq!(news, [Event::NodeAttested { node: fleet.id(node), attestation: shown }]);
        assert!(attest(&mut fleet, node, shown).unwrap().is_empty(), "shown twice is shown once");
    }
    let beside = |node: usize| fleet.state.on_the_machine_of(&fleet.id(node)).copied().collect::<Vec<_>>();
    assert_eq!((beside(0), beside(1), beside(2)), (fleet.ids([1]), fleet.ids([0]), vec![]));
    assert_eq!(beside(3), [], "who has shown nothing is on no machine that is known");
    let ended_ms = one.valid_until_s * 1000;
    assert!(
        fleet.state.is_trusted(&fleet.id(0), ended_ms - 1) && !fleet.state.is_trusted(&fleet.id(0), ended_ms)
    );
    fleet.now_ms = ended_ms;
    assert!(attest(&mut fleet, 3, one).unwrap_err().to_string().contains("has ended"));
    assert!(matches!(
        fleet.apply(Command::Attested { node: network(), attestation: one, now_ms: 1 }),
        Err(Refusal::UnknownNode(_))
    ));
}

#[test]
fn a_job_of_another_network_is_refused_and_so_is_a_window_that_was_signed_for_one() {
    let mut fleet = trusting(plan());
    let foreign = JobDescription { network: NodeId([1; 32]), ..job("foreign", plan()) };
    assert_ne!(
        foreign.id(),
        JobDescription { network: network(), ..foreign.clone() }.id(),
        "it is another job"
    );
    let refused = fleet.apply(Command::JobSubmitted { job: foreign.clone(), now_ms: fleet.now_ms });
    assert_eq!(refused, Err(Refusal::ForeignJob { meant: foreign.network, here: network() }));
    let honest = fleet.commitment(0);
    let work = |work: TrainWindow| Commitment { work, ..honest.clone() };
    let window = || honest.work.clone();
    for (reused, reason) in [
        (work(TrainWindow { network: NodeId([1; 32]), ..window() }), "it was signed for another network"),
        (work(TrainWindow { job: Digest::of(b"another"), ..window() }), "it is for another job or round"),
        (work(TrainWindow { round: window().round + 1, ..window() }), "it is for another job or round"),
    ] {
        let refused = fleet.report(0, fleet.seal(0, &reused)).unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    let refused = fleet.report(0, fleet.seal(1, &honest)).unwrap_err().to_string();
    assert!(refused.contains("was signed by"), "{refused}");
    fleet.report(0, fleet.seal(0, &honest)).unwrap();
    assert!(matches!(
        fleet.apply(Command::NetworkNamed { network: NodeId([1; 32]), operators: vec![], now_ms: 1 }),
        Err(Refusal::OtherNetwork { .. })
    ));
}
