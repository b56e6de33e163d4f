//! Who is here.

use zoo_protocol::{NodeProfile, Work};
use zoo_state::{Command, Event, LossCause, Refusal};

use crate::fleet::{Fleet, plan, profile};

#[test]
fn a_node_that_comes_back_is_greeted_as_one_that_is_known() {
    let mut fleet = Fleet::new(1);
    fleet.join(0);
    fleet.lose(0);
    fleet.join(0);
    let id = fleet.id(0);
    let events = fleet.news();
    assert!(
        matches!(&events[0], Event::NodeJoined { node, profile } if *node == id && profile.name == "node 0")
    );
    assert_eq!(events[1], Event::NodeLost { node: id, cause: LossCause::Disconnected });
    assert!(matches!(&events[2], Event::NodeRejoined { node, .. } if *node == id));
    assert_eq!(events.len(), 3);
}

#[test]
fn a_loss_is_noticed_once_however_it_is_noticed() {
    let mut fleet = Fleet::new(2);
    fleet.join(0);
    let node = fleet.id(0);
    let lost = |cause| Command::NodeLost { node, cause, now_ms: 5 };
    assert_eq!(fleet.apply(lost(LossCause::Left)).unwrap().len(), 1);
    assert_eq!(fleet.apply(lost(LossCause::Disconnected)).unwrap(), []);
    assert_eq!(fleet.apply(lost(LossCause::LeaseExpired)).unwrap(), []);
    let stranger = fleet.id(1);
    let unknown = Command::NodeLost { node: stranger, cause: LossCause::Left, now_ms: 6 };
    assert_eq!(fleet.apply(unknown), Err(Refusal::UnknownNode(stranger)));
}

#[test]
fn a_report_is_heard_only_from_a_live_node() {
    let mut fleet = Fleet::running(3, plan());
    let report = fleet.honest_reports(1).remove(0);
    let stranger = Fleet::new(4);
    let unknown =
        (0..4).map(|node| stranger.id(node)).find(|id| !fleet.state.nodes().contains_key(id)).unwrap();
    let from_stranger = Command::Reported { node: unknown, report: report.clone(), now_ms: 7 };
    assert_eq!(fleet.apply(from_stranger), Err(Refusal::UnknownNode(unknown)));
    fleet.lose(1);
    assert_eq!(fleet.report(1, report), Err(Refusal::NotLive(fleet.id(1))));
    assert_eq!(fleet.work(1), Work::Idle);
}

#[test]
fn what_a_node_says_of_itself_is_bounded() {
    let base = || profile("node");
    let long = "x".repeat(65);
    let profiles: [NodeProfile; 5] = [
        NodeProfile { name: long.clone(), ..base() },
        NodeProfile { name: "\u{1b}[2Jgone".into(), ..base() },
        NodeProfile { isa: long.clone(), ..base() },
        NodeProfile { software: long, ..base() },
        NodeProfile { software: "1\n2".into(), ..base() },
    ];
    let mut fleet = Fleet::new(1);
    let join =
        |profile, addresses| Command::NodeJoined { node: Fleet::new(1).id(0), profile, addresses, now_ms: 1 };
    for profile in profiles {
        let refused = fleet.apply(join(profile.clone(), vec![]));
        assert!(matches!(refused, Err(Refusal::Limit(_))), "{profile:?}");
    }
    let address = "127.0.0.1:1".parse().unwrap();
    assert!(fleet.apply(join(base(), vec![address; 9])).is_err());
    assert!(fleet.apply(join(base(), vec![address; 8])).is_ok());
}

#[test]
fn an_address_keeps_what_its_encoding_keeps() {
    let scoped = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 7, 3);
    let mut fleet = Fleet::new(1);
    let node = fleet.id(0);
    let addresses = vec![scoped.into()];
    fleet.apply(Command::NodeJoined { node, profile: profile("node"), addresses, now_ms: 1 }).unwrap();
    let again = zoo_state::State::from_bytes(&fleet.state.to_bytes()).unwrap();
    assert_eq!(again, fleet.state);
    assert_eq!(again.nodes()[&node].addresses, ["[fe80::1]:9".parse().unwrap()]);
}
