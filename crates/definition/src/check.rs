//! From nodes and edges to the definition that the model builds, widths following the edges.

use std::collections::BTreeMap;

use zoo_model::{DefinitionError, NetworkDefinition, NodeDefinition, NodeKind, TARGETS, TOKENS};

use crate::document::{Document, Node};
use crate::graph::Graph;
use crate::keys;
use crate::kinds::{self, Around, Type};
use crate::refusal::Refusal;
use crate::tree::Tree;

/// Standard deviation of initial weights, where a node does not say it.
const INITIAL_STD: f64 = 0.02;

/// The definition, its nodes in the order in which they were written.
pub fn definition(document: &mut Document, graph: &Graph) -> Result<NetworkDefinition, Refusal> {
    let aliases = aliases(document)?;
    let embedding = |name: &str| aliases.get(name).cloned();
    let mut consumers = vec![0; document.nodes.len()];
    graph.inputs.iter().flatten().for_each(|input| consumers[input.producer] += 1);

    let mut kinds: Vec<Option<NodeKind>> = vec![None; document.nodes.len()];
    for &at in &graph.order {
        let width = |producer: usize| kinds[producer].as_ref().map_or(0, NodeKind::output_width);
        let widths: Vec<usize> = graph.inputs[at].iter().map(|input| width(input.producer)).collect();
        let around = Around {
            context: document.context,
            widths: &widths,
            consumers: consumers[at],
            embedding: &embedding,
        };
        let node = &mut document.nodes[at];
        let kind = kind(node, &around).map_err(|refusal| refusal.of_node(&node.id))?;
        kinds[at] = Some(kind);
    }
    let all = document.nodes.iter().zip(kinds).zip(&graph.inputs);
    let nodes = all.map(|((node, kind), inputs)| {
        let kind = kind.expect("the order has every node");
        let mut names: Vec<String> =
            inputs.iter().map(|input| document.nodes[input.producer].id.clone()).collect();
        match kind {
            NodeKind::Embedding { .. } => names.push(TOKENS.to_owned()),
            _ if kind.is_cost() => names.push(TARGETS.to_owned()),
            _ => {}
        }
        let std = node.common.initial_std.unwrap_or(INITIAL_STD);
        NodeDefinition {
            id: node.id.clone(),
            kind,
            inputs: names,
            initial_std: std,
            output_initial_std: node.common.output_initial_std.unwrap_or(std),
            scope: node.common.scope,
            colocate_group: node.common.colocate_group.clone(),
            optimizer: node.common.optimizer,
        }
    });
    Ok(NetworkDefinition { context: document.context, nodes: nodes.collect() })
}

/// The embedding that each name stands for: its id, and its alias.
fn aliases(document: &Document) -> Result<BTreeMap<String, String>, Refusal> {
    let mut aliases = BTreeMap::new();
    for node in document.nodes.iter().filter(|node| node.of == Type::Embedding) {
        let mut names = vec![(node.id.clone(), node.line)];
        if let Some(tree) = node.config.look("shared_weight_alias") {
            let alias =
                keys::text(tree, "shared_weight_alias").map_err(|refusal| refusal.of_node(&node.id))?;
            names.push((alias.to_owned(), tree.line));
        }
        for (name, line) in names {
            let before = aliases.insert(name.clone(), node.id.clone());
            if before.is_some_and(|other| other != node.id) {
                let cause = format!("two embeddings are called '{name}'");
                return Err(Refusal::new(line, cause, "give each an alias of its own").of_node(&node.id));
            }
        }
    }
    Ok(aliases)
}

fn kind(node: &mut Node, around: &Around) -> Result<NodeKind, Refusal> {
    let kind = node.of.kind(&mut node.config, around)?;
    let no_keys = keys::Keys::none(node.line, "its config");
    std::mem::replace(&mut node.config, no_keys).end()?;
    if let Some(tree) = node.common.input_shape {
        check_shape(tree, "input_shape", around.widths.first().copied())?;
    }
    if let Some(tree) = node.common.output_shape {
        check_shape(tree, "output_shape", (!kind.is_cost()).then(|| kind.output_width()))?;
    }
    Ok(kind)
}

/// The last size of a shape that somebody wrote is the width of a row.
fn check_shape(tree: &Tree, key: &str, width: Option<usize>) -> Result<(), Refusal> {
    let said = kinds::shape(tree, key)?;
    match width {
        Some(width) if said.last() == Some(&(width as i64)) => Ok(()),
        Some(width) => {
            let cause = format!("{key} {said:?} does not end with {width}");
            Err(Refusal::new(tree.line, cause, format!("write [-1, {width}], or leave it out")))
        }
        None => Err(Refusal::new(tree.line, format!("it has no {key}"), "leave it out")),
    }
}

/// What only the model refuses, with its line.
pub fn refusal(document: &Document, error: &DefinitionError) -> Refusal {
    use DefinitionError as E;
    let node = match error {
        E::DuplicateId { id: node }
        | E::UnknownInput { node, .. }
        | E::Slots { node, .. }
        | E::Cycle { node }
        | E::Width { node, .. }
        | E::Shape { node, .. }
        | E::Unused { node }
        | E::Tied { node, .. } => Some(node),
        E::Size(_) | E::Costs { .. } => None,
    };
    let text = error.to_string();
    let (cause, hint) = text.split_once("\nhint: ").unwrap_or((&text, "change the node"));
    let cause = cause.trim_start_matches("network: ");
    let own = node.map(|node| format!("node '{node}': ")).unwrap_or_default();
    let line = node.map_or(document.nodes_line, |node| document.line_of(node));
    let refusal = Refusal::new(line, cause.strip_prefix(&own).unwrap_or(cause), hint);
    node.map_or(refusal.clone(), |node| refusal.of_node(node))
}
