//! Which node hosts which stage.

use std::collections::BTreeMap;

use zoo_protocol::NodeId;

/// So many stages for so many nodes, in the order in which they joined: neighbours as far as can be, and the first ones one more where it does not come out even.
pub(crate) fn contiguous(stages: u32, nodes: &[NodeId]) -> Vec<NodeId> {
    let nodes = &nodes[..nodes.len().min(stages as usize)];
    let host = |stage: u32| nodes[(u64::from(stage) * nodes.len() as u64 / u64::from(stages)) as usize];
    (0..stages).map(host).collect()
}

/// Who takes a stage whose node is gone: who hosts the fewest, the first by id among equals.
pub(crate) fn least_loaded(
    hosts: &[Option<NodeId>],
    nodes: impl IntoIterator<Item = NodeId>,
) -> Option<NodeId> {
    let mut loads: BTreeMap<NodeId, usize> = nodes.into_iter().map(|node| (node, 0)).collect();
    for host in hosts.iter().flatten() {
        if let Some(load) = loads.get_mut(host) {
            *load += 1;
        }
    }
    loads.into_iter().min_by_key(|(node, load)| (*load, *node)).map(|(node, _)| node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u8) -> Vec<NodeId> {
        (0..count).map(|id| NodeId([id; 32])).collect()
    }

    #[test]
    fn stages_lie_beside_each_other_and_nobody_has_two_more_than_another() {
        for count in 1..=5 {
            let all = nodes(count);
            let placed = contiguous(4, &all);
            assert!(placed.is_sorted() && placed.len() == 4);
            let loads = all.iter().take(4).map(|node| placed.iter().filter(|host| *host == node).count());
            let loads: Vec<usize> = loads.collect();
            assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
        }
    }

    #[test]
    fn who_has_the_least_to_do_takes_what_is_left() {
        let all = nodes(3);
        let hosts = [Some(all[0]), None, Some(all[1])];
        assert_eq!(least_loaded(&hosts, all.clone()), Some(all[2]));
        assert_eq!(least_loaded(&hosts, all[..2].to_vec()), Some(all[0]));
        assert_eq!(least_loaded(&hosts, []), None);
    }
}
