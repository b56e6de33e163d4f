//! How nodes' links turned out, and what plans make of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zoo_protocol::{Link, NodeId};

use crate::{Event, Node, Refusal, State};

/// A node is heard again about its link after at least this time, ms: the journal does not grow by the second.
pub const LINK_INTERVAL_MS: u64 = 30_000;
/// Nobody is taken for more than this many times as fast as is usual: a boast moves little.
const FASTER_MAX: u64 = 4;
/// Answers that take less than this are all alike, ms.
const NEAR_MS: u32 = 8;

/// What a node's transfers said of its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// What.
    pub link: Link,
    /// When the network was told.
    pub at_ms: u64,
}

impl Node {
    /// KiB a second that it sends to others: as measured, and never more than it stated. `None` while nothing is known.
    pub fn upload_kib_per_s(&self) -> Option<u32> {
        let stated = Some(self.profile.upload_kib_per_s).filter(|limit| *limit > 0);
        let measured = self.measured.map(|measured| measured.link.upload_kib_per_s);
        stated.into_iter().chain(measured).min()
    }
}

impl State {
    /// A node measured its link. Only news is taken, and not too often.
    pub(crate) fn measure(
        &mut self,
        id: NodeId,
        link: Link,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let node = self.nodes.get_mut(&id).ok_or(Refusal::UnknownNode(id))?;
        if !node.live {
            return Err(Refusal::NotLive(id));
        }
        if let Some(before) = &node.measured {
            let is_soon = now_ms < before.at_ms.saturating_add(LINK_INTERVAL_MS);
            if is_soon || !link.is_news_after(&before.link) {
                return Err(Refusal::NoNews(id));
            }
        }
        node.measured = Some(Measured { link, at_ms: now_ms });
        events.push(Event::LinkMeasured { node: id, link });
        Ok(())
    }
}

/// The links of those who take part in a plan. Of whom nothing is known is taken for what is usual among them.
pub(crate) struct Links<'a> {
    nodes: &'a BTreeMap<NodeId, Node>,
    usual_upload: u64,
    usual_distance: u32,
}

impl<'a> Links<'a> {
    pub(crate) fn among<'b>(
        members: impl Iterator<Item = &'b NodeId> + Clone,
        nodes: &'a BTreeMap<NodeId, Node>,
    ) -> Self {
        let uploads = members.clone().filter_map(|id| nodes.get(id)?.upload_kib_per_s());
        let distances =
            members.filter_map(|id| nodes.get(id)?.measured).map(|measured| distance(measured.link));
        Self {
            nodes,
            usual_upload: median(uploads.map(u64::from).collect()).unwrap_or(1),
            usual_distance: median(distances.collect()).unwrap_or(0),
        }
    }

    /// What a node is expected to send, KiB a second: at least 1, at most [`FASTER_MAX`] times what is usual.
    pub(crate) fn upload(&self, id: &NodeId) -> u64 {
        let known = self.nodes.get(id).and_then(Node::upload_kib_per_s).map(u64::from);
        known.unwrap_or(self.usual_upload).clamp(1, self.usual_upload.max(1) * FASTER_MAX)
    }

    /// How far away a node is: classes of round-trip times, each twice as long as the one before.
    pub(crate) fn distance(&self, id: &NodeId) -> u32 {
        let measured = self.nodes.get(id).and_then(|node| node.measured);
        measured.map_or(self.usual_distance, |measured| distance(measured.link))
    }
}

fn distance(link: Link) -> u32 {
    (link.rtt_ms / NEAR_MS).checked_ilog2().map_or(0, |doublings| doublings + 1)
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> Option<T> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_classes() {
        let cases = [(1, 0), (7, 0), (8, 1), (15, 1), (16, 2), (31, 2), (32, 3), (150, 5), (60_000, 13)];
        for (rtt_ms, class) in cases {
            assert_eq!(distance(Link { upload_kib_per_s: 1, rtt_ms }), class, "{rtt_ms} ms");
        }
    }

    #[test]
    fn the_median_of_nothing_is_nothing() {
        assert_eq!(median::<u32>(vec![]), None);
        assert_eq!(median(vec![3, 1, 2]), Some(2));
    }
}
