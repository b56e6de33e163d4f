//! Pictures of a network: layers from tokens down to the cost, as text and as SVG. A node's layer is one below the lowest of its
//! inputs; equal nodes beside each other, such as the heads of a layer, are drawn as one in text.

use std::collections::BTreeMap;
use std::fmt::Write;

use zoo_model::{NetworkDefinition, NodeDefinition, NodeKind};

/// Nodes drawn beside each other in a layer before the rest is only counted, in text.
const BESIDE_MAX: usize = 8;
/// Sizes of a drawing, pixels.
const BOX: (usize, usize) = (150, 34);
const GAP: (usize, usize) = (16, 30);
const MARGIN: usize = 20;

/// A line for every layer: its nodes, what they do, and whom they hear.
pub fn terminal(definition: &NetworkDefinition) -> String {
    let layers = layers(definition);
    let mut groups: Vec<(String, String, String, usize)> = Vec::new();
    for layer in &layers {
        for (at, group) in alike(layer).into_iter().enumerate() {
            if at == BESIDE_MAX {
                let rest = alike(layer).len() - BESIDE_MAX;
                groups.push((format!("and {rest} more"), String::new(), String::new(), 0));
                break;
            }
            let parameters = group.iter().map(|node| node.parameter_count()).sum();
            groups.push((names(group), what(group), group[0].inputs.join(", "), parameters));
        }
    }
    let width = |of: fn(&(String, String, String, usize)) -> &str| {
        groups.iter().map(|group| of(group).chars().count()).max().unwrap_or(0)
    };
    let (first, second) = (width(|group| group.0.as_str()), width(|group| group.1.as_str()));
    let mut text = String::new();
    for (names, what, inputs, parameters) in &groups {
        let parameters = if *parameters > 0 { format!("{parameters}") } else { String::new() };
        let arrow = if inputs.is_empty() { "" } else { "<- " };
        let line = format!("{names:first$}  {what:second$}  {parameters:>10}  {arrow}{inputs}");
        writeln!(text, "{}", line.trim_end()).expect("a text takes everything");
    }
    text
}

/// A drawing of its own, for a browser.
pub fn svg(definition: &NetworkDefinition) -> String {
    let layers = layers(definition);
    let widest = layers.iter().map(Vec::len).max().unwrap_or(0);
    let (step_x, step_y) = (BOX.0 + GAP.0, BOX.1 + GAP.1);
    let (width, height) = (2 * MARGIN + widest * step_x, 2 * MARGIN + layers.len() * step_y);
    let mut places: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (y, layer) in layers.iter().enumerate() {
        let left = MARGIN + (widest - layer.len()) * step_x / 2;
        for (x, node) in layer.iter().enumerate() {
            places.insert(&node.id, (left + x * step_x, MARGIN + y * step_y));
        }
    }
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for node in &definition.nodes {
        let to = places[node.id.as_str()];
        for from in node.inputs.iter().filter_map(|input| places.get(input.as_str())) {
            line(&mut svg, *from, to);
        }
    }
    for node in &definition.nodes {
        draw_box(&mut svg, node, places[node.id.as_str()]);
    }
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, from: (usize, usize), to: (usize, usize)) {
    let (x1, y1, x2, y2) = (from.0 + BOX.0 / 2, from.1 + BOX.1, to.0 + BOX.0 / 2, to.1);
    // Who skips layers goes around on the right, or its line would lie under the boxes between.
    let bend = if y2 > y1 + GAP.1 { BOX.0 } else { 0 };
    let (c1, c2) = (y1 + GAP.1 / 2, y2.saturating_sub(GAP.1 / 2));
    writeln!(
        svg,
        "<path d=\"M{x1} {y1} C{} {c1} {} {c2} {x2} {y2}\" fill=\"none\" stroke=\"#888\"/>",
        x1 + bend,
        x2 + bend
    )
    .expect("a text takes everything");
}

fn draw_box(svg: &mut String, node: &NodeDefinition, (x, y): (usize, usize)) {
    let (fill, middle) = (colour(&node.kind), x + BOX.0 / 2);
    let (id, what) = (escaped(&shortened(&node.id)), escaped(&shortened(&describe(&node.kind))));
    writeln!(
        svg,
        "<g><title>{} {}, {} parameters</title><rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"4\" fill=\"{fill}\" stroke=\"#444\"/>\
         <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{id}</text>\
         <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{what}</text></g>",
        escaped(&node.id),
        escaped(&describe(&node.kind)),
        node.parameter_count(),
        BOX.0,
        BOX.1,
        y + 14,
        y + 27
    )
    .expect("a text takes everything");
}

/// Nodes by their distance from the tokens, each layer in the order of writing.
fn layers(definition: &NetworkDefinition) -> Vec<Vec<&NodeDefinition>> {
    let places: BTreeMap<&str, usize> =
        definition.nodes.iter().enumerate().map(|(at, node)| (node.id.as_str(), at)).collect();
    let order = definition.check().map(|outline| outline.order).unwrap_or_default();
    let mut depth = vec![0; definition.nodes.len()];
    for at in order.iter().filter_map(|id| places.get(id.as_str()).copied()) {
        let inputs = definition.nodes[at].inputs.iter().filter_map(|input| places.get(input.as_str()));
        depth[at] = inputs.map(|&input| depth[input] + 1).max().unwrap_or(0);
    }
    let mut layers = vec![Vec::new(); depth.iter().max().map_or(0, |most| most + 1)];
    for (node, depth) in definition.nodes.iter().zip(depth) {
        layers[depth].push(node);
    }
    layers
}

/// A layer's nodes, those together that follow each other and differ in nothing but their names.
fn alike<'a, 'n>(layer: &'a [&'n NodeDefinition]) -> Vec<&'a [&'n NodeDefinition]> {
    layer.chunk_by(|a, b| a.kind == b.kind && a.inputs == b.inputs).collect()
}

fn names(group: &[&NodeDefinition]) -> String {
    match group {
        [one] => one.id.clone(),
        [first, .., last] => format!("{} .. {}", first.id, last.id),
        [] => String::new(),
    }
}

fn what(group: &[&NodeDefinition]) -> String {
    match group {
        [one] => describe(&one.kind),
        several => format!(
            "{} x {}",
            several.len(),
            several.first().map_or(String::new(), |one| describe(&one.kind))
        ),
    }
}

/// What a node does, in a few words.
fn describe(kind: &NodeKind) -> String {
    match kind {
        NodeKind::Embedding { vocab_size, width } => format!("embedding {vocab_size} x {width}"),
        NodeKind::PositionEmbedding { context, width } => format!("positions {context} x {width}"),
        NodeKind::Norm { form, width, .. } => format!("{form:?} norm {width}").to_lowercase(),
        NodeKind::Attention { width, heads, .. } => format!("attention {width}, {heads} heads"),
        NodeKind::Mlp { width, hidden, activation, .. } => {
            format!("mlp {width} {hidden} {width}, {activation:?}").to_lowercase()
        }
        NodeKind::Linear { inputs, outputs, tied_to, .. } => {
            let tied = if tied_to.is_some() { ", tied" } else { "" };
            format!("linear {inputs} to {outputs}{tied}")
        }
        NodeKind::Activation { function, width } => format!("{function:?} {width}").to_lowercase(),
        NodeKind::Swiglu { width } => format!("swiglu {} to {width}", 2 * width),
        NodeKind::AttentionHead { width, head_dim, .. } => format!("head {width} to {head_dim}"),
        NodeKind::Rope { width, head_dim, .. } => format!("rope {width}, heads of {head_dim}"),
        NodeKind::Stack { widths } => format!("stack to {}", widths.iter().sum::<usize>()),
        NodeKind::Identity { width } => format!("broadcast {width}"),
        NodeKind::Dropout { width, rate } => format!("dropout {rate} of {width}"),
        NodeKind::Add { width } => format!("add {width}"),
        NodeKind::CrossEntropy { vocab_size, tied_to, .. } => {
            let tied = if tied_to.is_some() { ", tied" } else { "" };
            format!("head and cost {vocab_size}{tied}")
        }
        NodeKind::Cost { cost, .. } => format!("{cost:?} cost").to_lowercase(),
    }
}

fn colour(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::Embedding { .. } | NodeKind::PositionEmbedding { .. } => "#dbeafe",
        NodeKind::Attention { .. } | NodeKind::AttentionHead { .. } => "#fde68a",
        NodeKind::Linear { .. } | NodeKind::Mlp { .. } => "#dcfce7",
        kind if kind.is_cost() => "#fecaca",
        _ => "#f3f4f6",
    }
}

fn shortened(text: &str) -> String {
    let letters = BOX.0 / 6;
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    text.chars().take(letters - 1).chain(['…']).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
