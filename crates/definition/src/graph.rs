//! How the nodes hang together: who fills which slot, and an order in which everybody's inputs come first.

use std::collections::{BTreeMap, VecDeque};

use zoo_model::{TARGETS, TOKENS};

use crate::document::{Document, Edge};
use crate::kinds::Type;
use crate::refusal::{Refusal, nearest};

/// Edges that fit their ends.
pub struct Graph {
    /// For every node, who fills its slots, in their order.
    pub inputs: Vec<Vec<Input>>,
    /// Producers before consumers.
    pub order: Vec<usize>,
}

/// What fills a slot.
#[derive(Clone, Copy)]
pub struct Input {
    pub producer: usize,
    /// The edge's.
    pub line: u64,
}

impl Graph {
    /// Follows all edges.
    pub fn new(document: &Document) -> Result<Self, Refusal> {
        let slots = fill(document)?;
        let cost = the_cost(document)?;
        let inputs = check_slots(document, slots)?;
        let order = order(document, &inputs)?;
        check_uses(document, &inputs, cost)?;
        check_outputs(document, &inputs, cost)?;
        Ok(Self { inputs, order })
    }
}

type Slots = Vec<BTreeMap<usize, Input>>;

fn fill(document: &Document) -> Result<Slots, Refusal> {
    let mut slots: Slots = vec![BTreeMap::new(); document.nodes.len()];
    // Those that name their slot come first.
    let (named, others): (Vec<&Edge>, Vec<&Edge>) =
        document.edges.iter().partition(|edge| edge.to_slot.is_some());
    for edge in named.into_iter().chain(others) {
        let to = find(document, &edge.to, edge.line, "to")?;
        if edge.from == TOKENS || edge.from == TARGETS {
            check_given(document, edge, to)?;
            continue;
        }
        let producer = find(document, &edge.from, edge.line, "from")?;
        if edge.from_slot > 0 && document.nodes[producer].of != Type::Broadcast {
            let cause = format!("from_slot is {}, but '{}' has one output", edge.from_slot, edge.from);
            return Err(
                Refusal::new(edge.line, cause, "write from_slot: 0, or leave it out").of_node(&edge.from)
            );
        }
        let free = || (0..).find(|slot| !slots[to].contains_key(slot)).expect("slots are not endless");
        let slot = edge.to_slot.unwrap_or_else(free);
        if let Some(other) = slots[to].insert(slot, Input { producer, line: edge.line }) {
            let cause = format!("the edge of line {} leads to its slot {slot} already", other.line);
            return Err(
                Refusal::new(edge.line, cause, "give every edge a to_slot of its own").of_node(&edge.to)
            );
        }
    }
    Ok(slots)
}

fn find(document: &Document, id: &str, line: u64, key: &str) -> Result<usize, Refusal> {
    document.places.get(id).copied().ok_or_else(|| {
        let hint = match nearest(id, document.places.keys().map(String::as_str)) {
            Some(known) => format!("did you mean '{known}'?"),
            None => "add the node, or remove what names it".to_owned(),
        };
        Refusal::new(line, format!("{key} names '{id}', and there is no such node"), hint)
    })
}

/// What the network is given goes where it belongs by itself; who writes it, must write it so.
fn check_given(document: &Document, edge: &Edge, to: usize) -> Result<(), Refusal> {
    let node = &document.nodes[to];
    let (fits, hint) = match edge.from.as_str() {
        TOKENS => (node.of == Type::Embedding, "tokens are for nodes of type embedding"),
        _ => (node.of.is_cost(), "targets are for the cost"),
    };
    if fits {
        return Ok(());
    }
    let cause = format!("it does not take '{}'", edge.from);
    Err(Refusal::new(edge.line, cause, hint).of_node(&node.id))
}

fn the_cost(document: &Document) -> Result<usize, Refusal> {
    let mut costs = document.nodes.iter().enumerate().filter(|(_, node)| node.of.is_cost());
    let line = document.costs.as_ref().map_or(document.nodes_line, |(line, _)| *line);
    let Some((cost, node)) = costs.next() else {
        let hint = "end the network with a node of type tied_lm_head_ce, cross_entropy or mse";
        return Err(Refusal::new(line, "the network has no cost, so there is nothing to learn", hint));
    };
    if let Some((_, other)) = costs.next() {
        let cause = format!("'{}' is a cost already", node.id);
        return Err(Refusal::new(other.line, cause, "keep one of them").of_node(&other.id));
    }
    if let Some((line, named)) = &document.costs {
        for name in named {
            let at = find(document, &name.name, name.line, "costs")?;
            if at != cost {
                let cause = format!("costs names '{}', which is no cost", name.name);
                return Err(Refusal::new(name.line, cause, format!("write '{}'", node.id)));
            }
        }
        if named.len() != 1 {
            let cause = format!("costs has {} names", named.len());
            return Err(Refusal::new(*line, cause, format!("write costs: ['{}']", node.id)));
        }
    }
    Ok(cost)
}

fn check_slots(document: &Document, slots: Slots) -> Result<Vec<Vec<Input>>, Refusal> {
    let mut all = Vec::with_capacity(slots.len());
    for (node, slots) in document.nodes.iter().zip(slots) {
        let (least, most) = node.of.slots();
        let refuse = |line, cause: String, hint: &str| Err(Refusal::new(line, cause, hint).of_node(&node.id));
        if let Some((slot, input)) = slots.iter().find(|(slot, _)| **slot >= most) {
            let cause = match most {
                0 => "it takes tokens, and no other node's output".to_owned(),
                _ => format!("it has no slot {slot}: its {most} slot(s) count from 0"),
            };
            return refuse(input.line, cause, "remove the edge, or lead it elsewhere");
        }
        let first_free = (0..).find(|slot| !slots.contains_key(slot)).expect("slots are not endless");
        if first_free < least || first_free < slots.len() {
            let cause = format!("nothing leads to its slot {first_free}");
            return refuse(node.line, cause, "add an edge to it: {from: a node, to: this one}");
        }
        all.push(slots.into_values().collect());
    }
    Ok(all)
}

fn consumers(inputs: &[Vec<Input>]) -> Vec<Vec<usize>> {
    let mut consumers = vec![Vec::new(); inputs.len()];
    for (consumer, inputs) in inputs.iter().enumerate() {
        inputs.iter().for_each(|input| consumers[input.producer].push(consumer));
    }
    consumers
}

fn order(document: &Document, inputs: &[Vec<Input>]) -> Result<Vec<usize>, Refusal> {
    let consumers = consumers(inputs);
    let mut missing: Vec<usize> = inputs.iter().map(Vec::len).collect();
    let mut ready: VecDeque<usize> = (0..inputs.len()).filter(|&at| missing[at] == 0).collect();
    let mut order = Vec::with_capacity(inputs.len());
    while let Some(at) = ready.pop_front() {
        order.push(at);
        for &consumer in &consumers[at] {
            missing[consumer] -= 1;
            if missing[consumer] == 0 {
                ready.push_back(consumer);
            }
        }
    }
    if order.len() == inputs.len() { Ok(order) } else { Err(cycle(document, inputs, &missing)) }
}

/// Names an edge of a cycle: whoever goes back from a node that never became ready, always to one that did not
/// either, comes to a node for the second time.
fn cycle(document: &Document, inputs: &[Vec<Input>], missing: &[usize]) -> Refusal {
    let stuck = |at: usize| missing[at] > 0;
    let back = |at: usize| {
        let input = inputs[at].iter().find(|input| stuck(input.producer));
        *input.expect("who waits, waits for somebody who waits")
    };
    let mut at = (0..missing.len()).find(|&at| stuck(at)).expect("somebody waits");
    for _ in 0..missing.len() {
        at = back(at).producer;
    }
    let (start, closing) = (at, back(at));
    let mut names = vec![document.nodes[start].id.as_str()];
    at = closing.producer;
    while at != start && names.len() < 6 {
        names.push(&document.nodes[at].id);
        at = back(at).producer;
    }
    names.reverse();
    let dots = if at == start { "" } else { "..., " };
    let cause = format!("it feeds itself: a cycle of {dots}{}", names.join(", "));
    Refusal::new(closing.line, cause, "remove one edge of the cycle").of_node(&document.nodes[start].id)
}

/// Every node leads to the cost, and the cost to nobody.
fn check_uses(document: &Document, inputs: &[Vec<Input>], cost: usize) -> Result<(), Refusal> {
    let mut leads = vec![false; inputs.len()];
    let mut open = vec![cost];
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut leads[at], true) {
            open.extend(inputs[at].iter().map(|input| input.producer));
        }
    }
    let from_cost = |input: &&Input| input.producer == cost;
    if let Some(input) = inputs.iter().flatten().find(from_cost) {
        let cause = "its output leads on, but a cost ends the network";
        let cost = &document.nodes[cost].id;
        return Err(Refusal::new(input.line, cause, "remove the edge").of_node(cost));
    }
    let Some(at) = leads.iter().position(|leads| !leads) else { return Ok(()) };
    let node = &document.nodes[at];
    let cause = "no path leads from it to the cost";
    Err(Refusal::new(node.line, cause, "connect it, or remove the node").of_node(&node.id))
}

/// What a network says is what its cost is of.
fn check_outputs(document: &Document, inputs: &[Vec<Input>], cost: usize) -> Result<(), Refusal> {
    for output in &document.outputs {
        let at = find(document, &output.name, output.line, "outputs")?;
        let said = inputs[cost][0].producer;
        if at != cost && at != said {
            let cause = format!("outputs names '{}', which is not what the network says", output.name);
            let said = &document.nodes[said].id;
            return Err(Refusal::new(output.line, cause, format!("write '{said}', or leave outputs out")));
        }
    }
    Ok(())
}
