//! What nodes say against the summands of a round, and when it is believed.
//!
//! The rules are those of [`Aggregating`].

use std::collections::{BTreeMap, BTreeSet};

use zoo_protocol::{Form, NodeId, RefusedSummand};

use crate::aggregation::{Attempt, CLAIMS};
use crate::round::winner;
use crate::{Aggregating, Answer, Item, Refusal, State, SumState};

impl State {
    /// A node cannot add some summands of its work, whoever they are fetched from.
    pub(crate) fn refused(
        &mut self,
        node: NodeId,
        about: &Attempt,
        summands: &[RefusedSummand],
    ) -> Result<(), Refusal> {
        let aggregating = self.attempt_of(node, about)?;
        let mut items = Vec::with_capacity(summands.len());
        for refused in summands {
            let is_meant = |made_by: NodeId, sum_from: Option<u32>| {
                let sum = (refused.form != Form::Contribution).then_some(refused.first_vnode);
                (made_by, sum_from) == (refused.maker, sum)
            };
            items.push(aggregating.item_of(&node, is_meant)?);
        }
        aggregating.claim(node, &items)?;
        for (item, refused) in items.iter().zip(summands) {
            if let Item::Contribution(maker) = item {
                let judges = aggregating.refusals.entry(*maker).or_default();
                judges.insert(node, refused.reason.clone());
            }
        }
        Ok(())
    }
}

impl Aggregating {
    /// The item of a node's work that `is_meant`, by who made it and, if it is a sum, its first VNode.
    pub(crate) fn item_of(
        &self,
        node: &NodeId,
        is_meant: impl Fn(NodeId, Option<u32>) -> bool,
    ) -> Result<Item, Refusal> {
        let its = |item: &&Item| match item {
            Item::Contribution(maker) => is_meant(*maker, None),
            Item::Sum(sum) => {
                let sum = &self.gathering.sums[*sum as usize];
                matches!(sum.state, SumState::Done(by, _) if is_meant(by, Some(sum.first_vnode)))
            }
        };
        let why = "its work has nothing that was made by that node";
        self.gathering
            .items_of(node)
            .iter()
            .find(its)
            .copied()
            .ok_or(Refusal::NotAssigned { node: *node, why })
    }

    /// Notes that a node cannot add `items`, of its work: sums are made again, and of contributions it is a claim.
    pub(crate) fn claim(&mut self, node: NodeId, items: &[Item]) -> Result<(), Refusal> {
        let open = self.gathering.open_for(&node);
        if open.is_none() && matches!(self.answers.get(&node), Some(Answer::Checkpoint(_))) {
            return Err(Refusal::AnsweredOtherwise(node));
        }
        for item in items {
            match (*item, open) {
                (Item::Sum(sum), _) => self.make_again(sum),
                (Item::Contribution(maker), Some(sum)) => {
                    self.claims.entry(maker).or_default().insert(node);
                    self.gathering.sums[sum as usize].excused.insert(node);
                }
                (Item::Contribution(maker), None) => match self.answers.get_mut(&node) {
                    Some(Answer::Missing(missing)) => _ = missing.insert(maker),
                    _ => _ = self.answers.insert(node, Answer::Missing(BTreeSet::from([maker]))),
                },
            }
        }
        Ok(())
    }

    /// Somebody else makes a sum that cannot be used.
    fn make_again(&mut self, sum: u32) {
        let sum = &mut self.gathering.sums[sum as usize];
        if let SumState::Done(maker, _) = std::mem::replace(&mut sum.state, SumState::Open(None))
            && sum.excused.insert(maker)
        {
            // Who makes it again has its time, once for every maker: claims without end put nothing off for ever.
            self.since_ms = None;
        }
    }

    /// Whether a node refuses a contribution, rather than not being able to fetch it.
    pub(crate) fn refuses(&self, node: &NodeId, contributor: &NodeId) -> bool {
        self.refusals.get(contributor).is_some_and(|judges| judges.contains_key(node))
    }

    /// How many nodes refuse something and have not aggregated after all.
    pub(crate) fn judges(&self) -> usize {
        let judges: BTreeSet<&NodeId> = self.refusals.values().flat_map(BTreeMap::keys).collect();
        let stand_by_it =
            |judge: &&&NodeId| !matches!(self.answers.get(**judge), Some(Answer::Checkpoint(_)));
        judges.iter().filter(stand_by_it).count()
    }

    /// Why a contribution is not what it must be, if enough of the others say so: the reason that most of them give.
    pub(crate) fn verdict(&self, contributor: &NodeId, voters: &[NodeId], there: usize) -> Option<String> {
        let judges: BTreeMap<&NodeId, &String> =
            self.refusals.get(contributor)?.iter().filter(|(judge, _)| *judge != contributor).collect();
        let of_voters = voters.iter().filter(|voter| {
            let missing = matches!(self.answers.get(*voter), Some(Answer::Missing(missing)) if missing.contains(contributor));
            missing && judges.contains_key(voter)
        });
        let adders = self.claims.get(contributor).into_iter().flatten();
        let of_the_tree = adders.filter(|node| judges.contains_key(node));
        let is_believed = 2 * of_voters.count() > voters.len() || of_the_tree.count() >= CLAIMS.min(there);
        let reason = winner(judges.values().copied()).or_else(|| judges.values().next().copied())?;
        is_believed.then(|| reason.clone())
    }
}
