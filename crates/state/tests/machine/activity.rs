//! What nodes are seen doing is what they are asked to do.

use zoo_protocol::{RoundPlan, Topology, Work};
use zoo_state::Activity;

use crate::fleet::{Fleet, plan};

const NODES: usize = 4;

#[test]
fn a_nodes_activity_is_the_kind_of_its_work() {
    follow(Topology::AllGather);
    follow(Topology::Tree { fan_in: 2 });
}

fn follow(topology: Topology) {
    let plan = RoundPlan { steps: 9, evaluation_shards: 7, topology, verified_in_1000: 1000, ..plan() };
    let mut fleet = Fleet::new(NODES);
    (0..NODES - 1).for_each(|node| fleet.join(node));
    fleet.submit("job", plan);
    let mut seen = Vec::new();
    // Everybody works at another pace; one comes late, one goes and comes back.
    for turn in 0..800_usize {
        match turn {
            5 => fleet.join(NODES - 1),
            40 => fleet.lose(1),
            55 => fleet.join(1),
            _ => fleet.step((turn + turn / 9) % NODES),
        }
        let activities: Vec<_> = fleet.state.activities().collect();
        assert_eq!(activities.len(), fleet.state.nodes().len());
        for (node, activity) in activities {
            assert_eq!(activity, fleet.state.activity_of(&node));
            let expected = match fleet.state.work_for(&node) {
                Work::Train(_) => Activity::Training,
                Work::Aggregate(_) | Work::Sum(_) => Activity::Aggregating,
                Work::Evaluate(_) => Activity::Evaluating,
                Work::Verify(_) => Activity::Verifying,
                Work::Tell(_) => Activity::Waiting,
                _ if fleet.state.nodes()[&node].live => Activity::Waiting,
                _ => Activity::Away,
            };
            assert_eq!(activity, expected, "turn {turn}");
            seen.push(activity);
        }
    }
    assert!(fleet.state.running().is_none(), "the job was followed to its end");
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6, "every activity was seen: {seen:?}");
}
