//! How VNodes are run: each by itself, or several as one operator that gives the same bits.
//!
//! Only the running is fused. Parameters, gradients, optimiser state, names and digests stay those of the VNodes, so a
//! checkpoint does not know how its network was run.

use std::ops::Range;

use crate::definition::{CostFunction, NodeKind};
use crate::plan::PlannedNode;

/// The operators of a network, in order, and what ends it.
pub(crate) struct Execution {
    /// What runs before the cost.
    pub units: Vec<Unit>,
    /// The VNode that gives the cost: the last, or the linear layer before it where both are one head.
    pub cost: usize,
}

/// One operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A VNode.
    One(usize),
    /// VNodes next to each other: what fans out, the heads that take it, and the stack of their outputs.
    Heads(Range<usize>),
}

impl Execution {
    /// Every VNode by itself.
    pub fn separate(nodes: &[PlannedNode]) -> Self {
        let cost = nodes.len() - 1;
        Self { units: (0..cost).map(Unit::One).collect(), cost }
    }

    /// What can be one operator is one.
    pub fn fused(nodes: &[PlannedNode]) -> Self {
        let cost = nodes.len() - 1;
        let cost = if is_head(nodes) { cost - 1 } else { cost };
        let consumers = consumers(nodes);
        let (mut units, mut at) = (Vec::new(), 0);
        while at < cost {
            let unit = heads_from(at, &nodes[..cost], &consumers).map_or(Unit::One(at), Unit::Heads);
            at = match &unit {
                Unit::One(at) => at + 1,
                Unit::Heads(range) => range.end,
            };
            units.push(unit);
        }
        Self { units, cost }
    }

    /// How many operators a pass is.
    pub fn operators(&self) -> usize {
        self.units.len() + 1
    }
}

/// Whether the network ends with a linear layer without a bias and the cross-entropy of its output. Whatever leads to the cost
/// leads through that layer, so it is the last before the cost.
fn is_head(nodes: &[PlannedNode]) -> bool {
    let [.., linear, cost] = nodes else { return false };
    let cross_entropy =
        NodeKind::Cost { cost: CostFunction::CrossEntropy, width: cost.definition.kind.output_width() };
    cost.definition.kind == cross_entropy
        && cost.inputs == [nodes.len() - 2]
        && matches!(linear.definition.kind, NodeKind::Linear { bias: false, .. })
}

fn consumers(nodes: &[PlannedNode]) -> Vec<usize> {
    let mut consumers = vec![0; nodes.len()];
    nodes.iter().flat_map(|node| &node.inputs).for_each(|&producer| consumers[producer] += 1);
    consumers
}

/// The VNodes from `at` on that are one operator. They follow each other in the order of the network, so that whatever
/// else takes the same rows has its turn before or after all of them, and gradients are added in the same order.
fn heads_from(at: usize, nodes: &[PlannedNode], consumers: &[usize]) -> Option<Range<usize>> {
    let NodeKind::Identity { .. } = nodes[at].definition.kind else { return None };
    let first = nodes.get(at + 1)?;
    let NodeKind::AttentionHead { .. } = first.definition.kind else { return None };
    let is_head = |node: &&PlannedNode| node.inputs == [at] && node.definition.kind == first.definition.kind;
    let count = nodes[at + 1..].iter().take_while(is_head).count();
    let (heads, stack) = (at + 1..at + 1 + count, at + 1 + count);
    let stacks = nodes.get(stack).is_some_and(|node| {
        matches!(node.definition.kind, NodeKind::Stack { .. })
            && node.inputs.iter().copied().eq(heads.clone())
    });
    let all = count > 1 && consumers[at] == count && heads.clone().all(|head| consumers[head] == 1);
    (stacks && all).then_some(at..stack + 1)
}
