//! Which node adds what: the plan of an aggregation, and how far it is.
//!
//! Contributions come together over partial sums. Sums are integers, so neither the plan nor who was replaced in it shows in
//! any bit of the result: it is free to follow regions and links, and to change while the round goes on.
//!
//! In a tree, contributions are cut into groups of nodes that are near each other (of one region, then of like round-trip times), and
//! VNodes into parts. The parts of each group are spread over its members as their links carry them, by what was measured and at most what
//! they stated; among equals each node sends and receives about as much as its contribution has. Then sums are added
//! as contributions were, until one sum of each part is left. A few nodes with good links (the committee) put those together and take the
//! outer step. Without any sums, the same committee, or everybody, adds the contributions themselves.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::limits::{MAX_FAN_IN, MAX_SUMMANDS};
use zoo_protocol::{Form, NodeId, Summand, Topology, VNodeUpdate, encode};

use crate::limits::MAX_WORK_BYTES;
use crate::links::Links;
use crate::{Contribution, Node};

/// Nodes that take the outer step where not everybody does.
pub(crate) const COMMITTEE: usize = 3;
/// [`Topology::Auto`]: everybody adds up to so many contributions; beyond, a tree takes less traffic and less patience.
const AUTO_ALL_GATHER: usize = 32;
/// [`Topology::Auto`]: summands of an inner node.
const AUTO_FAN_IN: usize = 64;

/// The partial sums of an attempt, and what is left to be put together once they are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gathering {
    /// Those that others need come first.
    pub sums: Vec<PartialSum>,
    /// What the outer step adds.
    pub top: Vec<Item>,
    /// Who takes the outer step; `None` is everybody.
    pub committee: Option<BTreeSet<NodeId>>,
    /// How often sums were given to somebody else.
    pub turns: u32,
}

/// Something that can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Item {
    /// What a node contributed.
    Contribution(NodeId),
    /// A partial sum.
    Sum(u32),
}

/// An inner node of the tree: some VNodes of some items, added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialSum {
    /// Place of its first VNode.
    pub first_vnode: u32,
    /// Number of its VNodes.
    pub vnodes: u32,
    /// What is added.
    pub items: Vec<Item>,
    /// Contributions that stand behind it.
    pub contributions: u32,
    /// Tokens that stand behind it.
    pub tokens: u64,
    /// How far it is.
    pub state: SumState,
    /// Who could not do it, or whose sum could not be used.
    pub excused: BTreeSet<NodeId>,
    /// Grows whenever a sum is given to somebody else: a node adds first what it had first.
    pub turn: u32,
}

/// How far a partial sum is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SumState {
    /// This node adds it, as soon as its items are there; nobody while nobody can.
    Open(Option<NodeId>),
    /// This node has added it.
    Done(NodeId, Vec<VNodeUpdate>),
}

impl PartialSum {
    /// Who adds it, or has.
    pub(crate) fn maker(&self) -> Option<NodeId> {
        match self.state {
            SumState::Open(with) => with,
            SumState::Done(by, _) => Some(by),
        }
    }
}

impl Gathering {
    /// The plan for `contributions`, of at least one node; their nodes are among `nodes`.
    pub(crate) fn plan(
        topology: Topology,
        contributions: &BTreeMap<NodeId, Contribution>,
        nodes: &BTreeMap<NodeId, Node>,
    ) -> Self {
        let (fan_in, everybody) = resolve(topology, contributions);
        let links = Links::among(contributions.keys(), nodes);
        let contributors = near_each_other(contributions.keys().copied(), nodes, &links, fan_in);
        let mut gathering = Self { committee: (!everybody).then(BTreeSet::new), ..Self::default() };
        if contributors.len() <= fan_in {
            gathering.top = contributions.keys().copied().map(Item::Contribution).collect();
            return gathering;
        }
        let updates = contributions.values().next().map_or(&[][..], |contribution| &contribution.updates);
        let mut load: BTreeMap<NodeId, u32> = BTreeMap::new();
        for part in parts(updates, fan_in) {
            let top = gathering.add_tree(&contributors, &links, fan_in, &part, contributions, &mut load);
            gathering.top.push(top);
        }
        gathering
    }

    /// Adds the sums over `contributors` and over their sums, for one part of the VNodes; returns the last. Each goes to one of those
    /// whose contributions stand behind it: to the one that will have sent its own the soonest.
    fn add_tree(
        &mut self,
        contributors: &[NodeId],
        links: &Links,
        fan_in: usize,
        vnodes: &Range<u32>,
        contributions: &BTreeMap<NodeId, Contribution>,
        load: &mut BTreeMap<NodeId, u32>,
    ) -> Item {
        // Items with the contributors behind them, which are neighbours in the list.
        let leaf = |at: usize| (Item::Contribution(contributors[at]), at..at + 1);
        let mut level: Vec<(Item, Range<usize>)> = (0..contributors.len()).map(leaf).collect();
        while level.len() > 1 {
            let groups = level.len().div_ceil(fan_in);
            let cut = |group: usize| group * level.len() / groups;
            level = (0..groups)
                .map(|group| match &level[cut(group)..cut(group + 1)] {
                    [alone] => alone.clone(),
                    group => {
                        let behind = group[0].1.start..group[group.len() - 1].1.end;
                        let members = contributors[behind.clone()].iter().enumerate();
                        let sums = |node| u64::from(load.get(node).copied().unwrap_or(0)) + 1;
                        let time = |node| (sums(node) << 32) / links.upload(node);
                        let soonest = members.min_by_key(|(at, node)| (time(node), *at));
                        let with = soonest.map_or(contributors[behind.start], |(_, node)| *node);
                        *load.entry(with).or_default() += 1;
                        let items = group.iter().map(|(item, _)| *item).collect();
                        (self.add_sum(items, with, vnodes, contributions), behind)
                    }
                })
                .collect();
        }
        level[0].0
    }

    fn add_sum(
        &mut self,
        items: Vec<Item>,
        with: NodeId,
        vnodes: &Range<u32>,
        given: &BTreeMap<NodeId, Contribution>,
    ) -> Item {
        let (mut contributions, mut tokens) = (0, 0);
        for (count, more) in items.iter().map(|item| self.weight(*item, given)) {
            contributions += count;
            tokens += more;
        }
        self.sums.push(PartialSum {
            first_vnode: vnodes.start,
            vnodes: vnodes.len() as u32,
            items,
            contributions,
            tokens,
            state: SumState::Open(Some(with)),
            excused: BTreeSet::new(),
            turn: 0,
        });
        Item::Sum(self.sums.len() as u32 - 1)
    }

    fn weight(&self, item: Item, contributions: &BTreeMap<NodeId, Contribution>) -> (u32, u64) {
        match item {
            Item::Contribution(node) => (1, contributions[&node].tokens),
            Item::Sum(sum) => {
                let sum = &self.sums[sum as usize];
                (sum.contributions, sum.tokens)
            }
        }
    }

    /// Whether everything that the items need is there.
    pub(crate) fn are_there(&self, items: &[Item]) -> bool {
        items.iter().all(|item| match item {
            Item::Contribution(_) => true,
            Item::Sum(sum) => matches!(self.sums[*sum as usize].state, SumState::Done(..)),
        })
    }

    /// The sum that a node can add now.
    pub(crate) fn open_for(&self, node: &NodeId) -> Option<u32> {
        let is_its = |sum: &PartialSum| matches!(&sum.state, SumState::Open(Some(with)) if with == node);
        let its = self.sums.iter().enumerate().filter(|(_, sum)| is_its(sum) && self.are_there(&sum.items));
        its.min_by_key(|(_, sum)| sum.turn).map(|(at, _)| at as u32)
    }

    /// Whether a node takes the outer step, if it is there at all.
    pub(crate) fn is_voter(&self, node: &NodeId) -> bool {
        self.committee.as_ref().is_none_or(|committee| committee.contains(node))
    }

    /// What this node gave and added is under another key.
    pub(crate) fn rename(&mut self, old: &NodeId, new: NodeId) {
        let items = self.sums.iter_mut().flat_map(|sum| &mut sum.items).chain(&mut self.top);
        for item in items {
            if *item == Item::Contribution(*old) {
                *item = Item::Contribution(new);
            }
        }
        for sum in &mut self.sums {
            if let SumState::Done(by, _) | SumState::Open(Some(by)) = &mut sum.state
                && by == old
            {
                *by = new;
            }
        }
    }

    /// What is said of items of a round to who adds them.
    pub(crate) fn summands(
        &self,
        round: u32,
        items: &[Item],
        vnodes: Range<usize>,
        contributions: &BTreeMap<NodeId, Contribution>,
    ) -> Vec<Summand> {
        let summand = |item: &Item| match item {
            Item::Contribution(node) => contributions.get(node).map(|given| Summand {
                node: *node,
                form: Form::Contribution,
                round: given.round,
                tokens: given.tokens,
                first_vnode: vnodes.start as u32,
                updates: given.updates.get(vnodes.clone()).unwrap_or_default().to_vec(),
            }),
            Item::Sum(sum) => {
                let sum = &self.sums[*sum as usize];
                let SumState::Done(node, updates) = &sum.state else { return None };
                Some(Summand {
                    node: *node,
                    form: Form::Sum(sum.contributions),
                    round,
                    tokens: sum.tokens,
                    first_vnode: sum.first_vnode,
                    updates: updates.clone(),
                })
            }
        };
        items.iter().filter_map(summand).collect()
    }

    /// The items among which a node can find what it adds now: those of its sum, or what the outer step adds.
    pub(crate) fn items_of(&self, node: &NodeId) -> &[Item] {
        match self.open_for(node) {
            Some(sum) => &self.sums[sum as usize].items,
            None if self.is_voter(node) && self.are_there(&self.top) => &self.top,
            None => &[],
        }
    }

    /// Who is concerned when a sum is there: who adds it to others, and those who take the outer step.
    pub(crate) fn waiting_for(&self, sum: u32) -> BTreeSet<NodeId> {
        let needs = |other: &&PartialSum| other.items.contains(&Item::Sum(sum));
        let above = self.sums.iter().rev().filter(needs).filter_map(|other| match other.state {
            SumState::Open(with) => with,
            SumState::Done(..) => None,
        });
        let is_top = self.top.contains(&Item::Sum(sum));
        let committee = self.committee.iter().filter(|_| is_top).flatten().copied();
        above.chain(committee).collect()
    }

    /// Gives open sums that are with nobody who is there to somebody, and fills the committee up for those who are not
    /// there or `useless`. Returns the sums that moved.
    pub(crate) fn staff(
        &mut self,
        there: &[NodeId],
        useless: &BTreeSet<NodeId>,
        seed: u64,
        nodes: &BTreeMap<NodeId, Node>,
    ) -> Vec<u32> {
        let is_there = |node: &NodeId| there.binary_search(node).is_ok();
        let mut moved = Vec::new();
        for at in 0..self.sums.len() {
            let sum = &self.sums[at];
            let SumState::Open(with) = sum.state else { continue };
            if with.is_some_and(|with| is_there(&with) && !sum.excused.contains(&with)) {
                continue;
            }
            let next = self.next_for(at, there);
            if next != with {
                self.turns += 1;
                self.sums[at].turn = self.turns;
                self.sums[at].state = SumState::Open(next);
                moved.push(at as u32);
            }
        }
        if let Some(committee) = &mut self.committee {
            let present = committee.iter().filter(|node| is_there(node) && !useless.contains(node)).count();
            if present < COMMITTEE.min(there.len()) {
                let links = Links::among(there.iter(), nodes);
                let rank = |node: &&NodeId| {
                    let upload = links.upload(node).ilog2();
                    (Reverse(upload), links.distance(node), Digest::of(&encode(&(seed, **node))))
                };
                let mut others: Vec<&NodeId> =
                    there.iter().filter(|node| !committee.contains(*node)).collect();
                others.sort_by_cached_key(rank);
                committee.extend(others.into_iter().take(COMMITTEE - present).copied());
            }
        }
        moved
    }

    /// Who could add a sum: a maker of what goes in, or else anybody; who was excused only if nobody else is there.
    fn next_for(&self, at: usize, there: &[NodeId]) -> Option<NodeId> {
        let sum = &self.sums[at];
        let is_there = |node: &NodeId| there.binary_search(node).is_ok();
        let makers = sum.items.iter().filter_map(|item| match item {
            Item::Contribution(node) => Some(*node),
            Item::Sum(sum) => match self.sums[*sum as usize].state {
                SumState::Open(with) => with,
                SumState::Done(by, _) => Some(by),
            },
        });
        let willing = |node: &NodeId| !sum.excused.contains(node);
        let first = makers.filter(|node| is_there(node)).find(willing);
        // Those after the sum's place in the list of nodes, so that not all sums go to the same one.
        let rest = || (0..there.len()).map(|step| there[(at + step) % there.len()]);
        first.or_else(|| rest().find(willing)).or_else(|| rest().next())
    }
}

/// How many summands a node adds, and whether everybody takes the outer step.
fn resolve(topology: Topology, contributions: &BTreeMap<NodeId, Contribution>) -> (usize, bool) {
    let count = contributions.len();
    let bytes: usize = contributions.values().map(Contribution::wire_bytes).sum();
    let fits = count <= MAX_SUMMANDS && bytes <= MAX_WORK_BYTES;
    match topology {
        Topology::AllGather if fits => (count, true),
        Topology::Star if fits => (count, false),
        Topology::Auto if fits && count <= AUTO_ALL_GATHER => (count, true),
        Topology::Tree { fan_in } => ((fan_in as usize).clamp(2, MAX_FAN_IN as usize), false),
        Topology::Auto | Topology::AllGather | Topology::Star => (AUTO_FAN_IN, false),
    }
}

/// By region, in each by distance. Among those as far, who uploads fast is dealt out evenly: neighbours form groups, and a group
/// is as slow as what its members can carry.
fn near_each_other(
    contributors: impl Iterator<Item = NodeId>,
    nodes: &BTreeMap<NodeId, Node>,
    links: &Links,
    fan_in: usize,
) -> Vec<NodeId> {
    let mut contributors: Vec<NodeId> = contributors.collect();
    let place = |node: &NodeId| (nodes[node].profile.region.as_str(), links.distance(node));
    contributors.sort_by_key(|node| (place(node), Reverse(links.upload(node)), *node));
    let alike = contributors.chunk_by(|one, other| place(one) == place(other));
    let dealt = alike.flat_map(|alike| {
        let groups = alike.len().div_ceil(fan_in);
        (0..groups).flat_map(move |group| alike[group..].iter().step_by(groups))
    });
    dealt.copied().collect()
}

/// Ranges of VNodes of about equal bytes, at most `most`.
fn parts(updates: &[VNodeUpdate], most: usize) -> Vec<Range<u32>> {
    let count = updates.len().min(most).max(1);
    let bytes: u128 = updates.iter().map(|update| u128::from(update.bytes)).sum();
    let (mut parts, mut start, mut before) = (Vec::new(), 0, 0u128);
    for (at, update) in updates.iter().enumerate() {
        before += u128::from(update.bytes);
        let (end, left) = (at + 1, updates.len() - at - 1);
        let is_full = before * count as u128 >= bytes * (parts.len() as u128 + 1);
        // What is left has to suffice for one VNode in each of the other parts.
        let is_last_chance = left == count - parts.len() - 1;
        if parts.len() + 1 < count && (is_full || is_last_chance) {
            parts.push(start..end as u32);
            start = end as u32;
        }
    }
    parts.push(start..updates.len() as u32);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updates(bytes: &[u64]) -> Vec<VNodeUpdate> {
        let update =
            |bytes: &u64| VNodeUpdate { vnode: "v".into(), update: Digest::of(b""), bytes: *bytes, norm: 0 };
        bytes.iter().map(update).collect()
    }

    #[test]
    fn parts_are_about_equal_and_never_empty() {
        let cases: [(&[u64], usize, &[u32]); 6] = [
            (&[5, 5, 5, 5], 2, &[2, 4]),
            (&[100, 1, 1, 1], 2, &[1, 4]),
            (&[1, 1, 1, 100], 2, &[3, 4]),
            (&[1, 100, 1], 3, &[1, 2, 3]),
            (&[7], 4, &[1]),
            (&[1, 2, 3], 1, &[3]),
        ];
        for (bytes, most, expected) in cases {
            let parts = parts(&updates(bytes), most);
            let ends: Vec<u32> = parts.iter().map(|part| part.end).collect();
            assert_eq!(ends, expected, "{bytes:?} in {most}");
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start) && parts[0].start == 0);
        }
    }
}
