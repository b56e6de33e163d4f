//! A checked network: the order to run its VNodes in, and who feeds whom.

use std::collections::BTreeMap;

use crate::definition::{NetworkDefinition, NodeDefinition, NodeKind, TARGETS, TOKENS};
use crate::error::DefinitionError;

/// A definition's nodes in an order in which every producer comes before its consumers, the cost last.
pub(crate) struct Plan {
    pub nodes: Vec<PlannedNode>,
}

pub(crate) struct PlannedNode {
    pub definition: NodeDefinition,
    /// Its place in the definition.
    pub place: usize,
    /// The producers of its activations, as places in [`Plan::nodes`].
    pub inputs: Vec<usize>,
    /// For each input, whether no later node needs it.
    pub last_use: Vec<bool>,
    /// The embedding whose table is its weight.
    pub borrows: Option<usize>,
}

/// Largest size a node may state, elements.
pub(crate) const SIZE_MAX: usize = 1 << 20;
/// Most nodes of a network.
pub(crate) const NODES_MAX: usize = 1 << 14;
/// Most elements of a table of rotations: context times head_dim.
const ROPE_MAX: usize = 1 << 28;
/// Most parameter elements of one node.
const NODE_PARAMETERS_MAX: usize = 1 << 34;

impl Plan {
    /// Checks `definition` and orders its nodes: among those that are ready, the first defined runs first.
    pub fn new(definition: &NetworkDefinition) -> Result<Self, DefinitionError> {
        let nodes = &definition.nodes;
        let context = definition.context;
        if !(1..=SIZE_MAX).contains(&context) || nodes.len() > NODES_MAX {
            let cause = format!("a context of {context} and {} nodes are not possible", nodes.len());
            return Err(DefinitionError::Size(cause));
        }
        let places = places(nodes)?;
        for node in nodes {
            check_shape(node, context)?;
            check_slots(node)?;
        }
        let producers: Vec<Vec<usize>> =
            nodes.iter().map(|node| producers(node, &places)).collect::<Result<_, _>>()?;
        check_widths(nodes, &producers)?;
        check_outputs(nodes, &producers)?;
        let borrows = borrowed_tables(nodes, &places)?;

        let order = order(nodes, &producers)?;
        let place_of =
            |old: usize| order.iter().position(|&at| at == old).expect("every node is in the order");
        let mut planned: Vec<PlannedNode> = order
            .iter()
            .map(|&old| PlannedNode {
                definition: nodes[old].clone(),
                place: old,
                inputs: producers[old].iter().map(|&producer| place_of(producer)).collect(),
                last_use: vec![false; producers[old].len()],
                borrows: borrows[old].map(place_of),
            })
            .collect();
        mark_last_uses(&mut planned);
        Ok(Self { nodes: planned })
    }
}

fn places(nodes: &[NodeDefinition]) -> Result<BTreeMap<&str, usize>, DefinitionError> {
    let mut places = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        let reserved = node.id == TOKENS || node.id == TARGETS || node.id.is_empty();
        if places.insert(node.id.as_str(), at).is_some() || reserved {
            return Err(DefinitionError::DuplicateId { id: node.id.clone() });
        }
    }
    Ok(places)
}

fn check_slots(node: &NodeDefinition) -> Result<(), DefinitionError> {
    let inputs: Vec<&str> = node.inputs.iter().map(String::as_str).collect();
    let external = |input: &&str| *input == TOKENS || *input == TARGETS;
    let internal_only = !inputs.iter().any(external);
    let (fits, slots) = match node.kind {
        NodeKind::Embedding { .. } => (inputs == [TOKENS], "'tokens'"),
        NodeKind::PositionEmbedding { .. }
        | NodeKind::Norm { .. }
        | NodeKind::Linear { .. }
        | NodeKind::Activation { .. }
        | NodeKind::Swiglu { .. }
        | NodeKind::AttentionHead { .. }
        | NodeKind::Rope { .. }
        | NodeKind::Identity { .. }
        | NodeKind::Dropout { .. } => (internal_only && inputs.len() == 1, "one node"),
        NodeKind::Stack { ref widths } => (
            internal_only && inputs.len() == widths.len() && !widths.is_empty(),
            "as many nodes as it has widths",
        ),
        NodeKind::Attention { .. } | NodeKind::Mlp { .. } => {
            (internal_only && (1..=2).contains(&inputs.len()), "one node, and optionally a residual")
        }
        NodeKind::Add { .. } => (internal_only && inputs.len() == 2, "two nodes"),
        NodeKind::CrossEntropy { .. } | NodeKind::Cost { .. } => {
            (inputs.len() == 2 && !external(&inputs[0]) && inputs[1] == TARGETS, "one node, then 'targets'")
        }
    };
    if fits { Ok(()) } else { Err(DefinitionError::Slots { node: node.id.clone(), slots }) }
}

fn producers(node: &NodeDefinition, places: &BTreeMap<&str, usize>) -> Result<Vec<usize>, DefinitionError> {
    let internal = node.inputs.iter().filter(|input| *input != TOKENS && *input != TARGETS);
    let place = |input: &String| {
        places
            .get(input.as_str())
            .copied()
            .ok_or_else(|| DefinitionError::UnknownInput { node: node.id.clone(), input: input.clone() })
    };
    internal.map(place).collect()
}

fn check_shape(node: &NodeDefinition, sequence: usize) -> Result<(), DefinitionError> {
    let refuse = |cause: String| Err(DefinitionError::Shape { node: node.id.clone(), cause });
    let sizes: Vec<usize> = match node.kind {
        NodeKind::Embedding { vocab_size, width } => vec![vocab_size, width],
        NodeKind::PositionEmbedding { context, width } => {
            if context < sequence {
                return refuse(format!("its {context} positions are fewer than the network's {sequence}"));
            }
            vec![context, width]
        }
        NodeKind::Norm { width, epsilon, .. } => {
            if !(epsilon > 0.0 && epsilon <= 0.1) {
                return refuse(format!("epsilon ({epsilon}) is not above 0 and at most 0.1"));
            }
            vec![width]
        }
        NodeKind::Add { width }
        | NodeKind::Activation { width, .. }
        | NodeKind::Identity { width }
        | NodeKind::Cost { width, .. } => vec![width],
        NodeKind::Swiglu { width } => vec![width.saturating_mul(2)],
        NodeKind::Linear { inputs, outputs, .. } => vec![inputs, outputs],
        NodeKind::Stack { ref widths } => widths.iter().copied().chain([node.kind.output_width()]).collect(),
        NodeKind::Dropout { width, rate } => {
            if !(0.0..1.0).contains(&rate) {
                return refuse(format!("rate ({rate}) is not at least 0 and below 1"));
            }
            vec![width]
        }
        NodeKind::AttentionHead { width, head_dim, rope_theta } => {
            if let Some(theta) = rope_theta {
                check_rotation(head_dim, theta, sequence).or_else(refuse)?;
            }
            vec![width, head_dim]
        }
        NodeKind::Rope { width, head_dim, theta } => {
            check_rotation(head_dim, theta, sequence).or_else(refuse)?;
            if head_dim == 0 || !width.is_multiple_of(head_dim) {
                return refuse(format!("head_dim ({head_dim}) does not divide width ({width})"));
            }
            vec![width, head_dim]
        }
        NodeKind::Attention { width, heads, kv_heads, head_dim, rope_theta, qk_norm_epsilon, .. } => {
            if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
                return refuse(format!("kv_heads ({kv_heads}) does not divide heads ({heads})"));
            }
            if !head_dim.is_multiple_of(2) {
                return refuse(format!("head_dim ({head_dim}) is odd"));
            }
            if let Some(theta) = rope_theta {
                check_rotation(head_dim, theta, sequence).or_else(refuse)?;
            }
            if qk_norm_epsilon.is_some_and(|epsilon| !(epsilon > 0.0 && epsilon <= 0.1)) {
                return refuse("qk_norm_epsilon is not above 0 and at most 0.1".to_owned());
            }
            vec![width, heads, kv_heads, head_dim, heads.saturating_mul(head_dim)]
        }
        NodeKind::Mlp { width, hidden, .. } => vec![width, hidden],
        NodeKind::CrossEntropy { vocab_size, width, .. } => vec![vocab_size, width],
    };
    if let Some(size) = sizes.iter().find(|size| !(1..=SIZE_MAX).contains(*size)) {
        return refuse(format!("a size of {size} is not between 1 and {SIZE_MAX}"));
    }
    if node.parameter_count() > NODE_PARAMETERS_MAX {
        return refuse(format!("{} parameters are more than {NODE_PARAMETERS_MAX}", node.parameter_count()));
    }
    let std_is_possible = |std: f64| (0.0..=1.0).contains(&std);
    if !std_is_possible(node.initial_std) || !std_is_possible(node.output_initial_std) {
        return refuse("an initial standard deviation is not between 0 and 1".to_owned());
    }
    Ok(())
}

fn check_rotation(head_dim: usize, theta: f64, sequence: usize) -> Result<(), String> {
    if !head_dim.is_multiple_of(2) {
        return Err(format!("head_dim ({head_dim}) is odd"));
    }
    if !(1.0..=1e12).contains(&theta) {
        return Err("rope_theta is not between 1 and 1e12".to_owned());
    }
    if head_dim.saturating_mul(sequence) > ROPE_MAX {
        return Err(format!("head_dim ({head_dim}) times the context ({sequence}) is above {ROPE_MAX}"));
    }
    Ok(())
}

fn check_widths(nodes: &[NodeDefinition], producers: &[Vec<usize>]) -> Result<(), DefinitionError> {
    for (node, producers) in nodes.iter().zip(producers) {
        for (slot, &producer) in producers.iter().enumerate() {
            let (expected, found) = (node.kind.input_width(slot), nodes[producer].kind.output_width());
            if expected != found {
                let (node, input) = (node.id.clone(), nodes[producer].id.clone());
                return Err(DefinitionError::Width { node, input, expected, found });
            }
        }
    }
    Ok(())
}

/// One cost, whose output nobody takes; every other output is taken. So every node leads to the cost.
fn check_outputs(nodes: &[NodeDefinition], producers: &[Vec<usize>]) -> Result<(), DefinitionError> {
    let found = nodes.iter().filter(|node| node.kind.is_cost()).count();
    if found != 1 {
        return Err(DefinitionError::Costs { found });
    }
    for (at, node) in nodes.iter().enumerate() {
        let consumer = producers.iter().position(|producers| producers.contains(&at));
        match consumer {
            Some(consumer) if node.kind.is_cost() => {
                let slots = "nodes that give activations, which a cost does not";
                return Err(DefinitionError::Slots { node: nodes[consumer].id.clone(), slots });
            }
            None if !node.kind.is_cost() => return Err(DefinitionError::Unused { node: node.id.clone() }),
            _ => {}
        }
    }
    Ok(())
}

/// For every node, the embedding whose table it borrows.
fn borrowed_tables(
    nodes: &[NodeDefinition],
    places: &BTreeMap<&str, usize>,
) -> Result<Vec<Option<usize>>, DefinitionError> {
    let borrowed = |node: &NodeDefinition| {
        let (NodeKind::CrossEntropy { vocab_size, width, tied_to: Some(tied_to) }
        | NodeKind::Linear { outputs: vocab_size, inputs: width, tied_to: Some(tied_to), .. }) = &node.kind
        else {
            return Ok(None);
        };
        let table = NodeKind::Embedding { vocab_size: *vocab_size, width: *width };
        let place = places.get(tied_to.as_str()).copied().filter(|&at| nodes[at].kind == table);
        place
            .map(Some)
            .ok_or_else(|| DefinitionError::Tied { node: node.id.clone(), tied_to: tied_to.clone() })
    };
    nodes.iter().map(borrowed).collect()
}

fn order(nodes: &[NodeDefinition], producers: &[Vec<usize>]) -> Result<Vec<usize>, DefinitionError> {
    let mut order = Vec::with_capacity(nodes.len());
    let mut done = vec![false; nodes.len()];
    while order.len() < nodes.len() {
        let ready = |&at: &usize| !done[at] && producers[at].iter().all(|&producer| done[producer]);
        let Some(next) = (0..nodes.len()).find(ready) else {
            let stuck = done.iter().position(|done| !done).expect("some node is not done");
            return Err(DefinitionError::Cycle { node: nodes[stuck].id.clone() });
        };
        done[next] = true;
        order.push(next);
    }
    Ok(order)
}

fn mark_last_uses(nodes: &mut [PlannedNode]) {
    let mut needed_later = vec![false; nodes.len()];
    for node in nodes.iter_mut().rev() {
        // From the last slot back: an input that is in two slots is free only after the later one.
        for (slot, &producer) in node.inputs.iter().enumerate().rev() {
            node.last_use[slot] = !std::mem::replace(&mut needed_later[producer], true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    fn decoder() -> NetworkDefinition {
        NetworkDefinition::decoder(&preset::by_name("qwen3-tiny").expect("a preset")).expect("valid")
    }

    fn refused(change: impl FnOnce(&mut NetworkDefinition)) -> String {
        let mut definition = decoder();
        change(&mut definition);
        Plan::new(&definition).err().expect("a refusal").to_string()
    }

    #[test]
    fn nodes_run_in_the_order_of_their_edges_whatever_order_they_are_written_in() {
        let definition = decoder();
        let written: Vec<_> = definition.nodes.iter().map(|node| node.id.clone()).collect();
        let planned = |definition: &NetworkDefinition| -> Vec<String> {
            let plan = Plan::new(definition).expect("valid");
            plan.nodes.into_iter().map(|node| node.definition.id).collect()
        };
        assert_eq!(planned(&definition), written);
        let mut reversed = definition;
        reversed.nodes.reverse();
        assert_eq!(planned(&reversed), written);
    }

    #[test]
    fn an_activation_is_let_go_at_its_last_use() {
        let plan = Plan::new(&decoder()).expect("valid");
        let uses = |id: &str| {
            let node = plan.nodes.iter().find(|node| node.definition.id == id).expect("a node");
            node.last_use.clone()
        };
        assert_eq!(uses("block.0.attention_norm"), [false]);
        assert_eq!(uses("block.0.attention"), [true, true]);
        assert_eq!(uses("final_norm"), [true]);
    }

    #[test]
    fn a_wrong_definition_is_refused_with_the_node_and_a_hint() {
        type Change = fn(&mut NetworkDefinition);
        let cases: [(Change, &str); 11] = [
            (|it| it.nodes[1].id = "embedding".into(), "'embedding' is not the only"),
            (|it| it.nodes[1].id = "tokens".into(), "'tokens' is not the only"),
            (
                |it| it.nodes[2].inputs[0] = "nowhere".into(),
                "'block.0.attention' has an unknown input 'nowhere'",
            ),
            (|it| it.nodes[1].inputs[0] = "block.0.mlp".into(), "feeds itself"),
            (|it| it.nodes[1].inputs.clear(), "'block.0.attention_norm' does not take these inputs"),
            (|it| it.nodes[0].inputs[0] = "targets".into(), "its slots are 'tokens'"),
            (|it| drop(it.nodes.pop()), "0 nodes are a cost"),
            (|it| it.nodes[1].inputs[0] = "head".into(), "which a cost does not"),
            (|it| it.nodes[3].kind = NodeKind::Add { width: 0 }, "a size of 0"),
            (
                |it| it.nodes[0].kind = NodeKind::Embedding { vocab_size: 256, width: 48 },
                "takes rows of 32 elements, but 'embedding' gives 48",
            ),
            (
                |it| it.nodes[0].kind = NodeKind::Embedding { vocab_size: 300, width: 32 },
                "'head' is tied to 'embedding', which is not",
            ),
        ];
        for (change, expected) in cases {
            let message = refused(change);
            assert!(message.contains(expected) && message.contains("hint: "), "{message}");
        }
        let no_context = refused(|it| it.context = 0);
        assert!(no_context.contains("a context of 0"), "{no_context}");
        let unused = refused(|it| {
            let mut extra = it.nodes[1].clone();
            extra.id = "extra".into();
            it.nodes.push(extra);
        });
        assert!(unused.contains("the output of node 'extra' is not used"), "{unused}");
    }
}
