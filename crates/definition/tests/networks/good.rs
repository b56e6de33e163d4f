//! Files that are good: what is made of them.

use zoo_definition::{NetworkFile, svg, terminal};
use zoo_model::{NodeKind, NodeOptimizer, Profile, Scope};

use crate::{EXAMPLES, example};

fn read(text: &str) -> NetworkFile {
    NetworkFile::read(text).unwrap_or_else(|refusal| panic!("{refusal}"))
}

#[test]
fn the_examples_are_what_they_say() {
    let expected = [
        ("heads-tiny", 20, 17, 32),
        ("attention-tiny", 11, 11, 32),
        ("mlp-tiny", 9, 9, 32),
        ("heads-27m", 143, 143 - 6 * 9 - 1, 128),
        ("heads-45m", 183, 183 - 8 * 9, 512),
    ];
    for ((name, text), (_, vnodes, operators, context)) in EXAMPLES.into_iter().zip(expected) {
        let file = read(text);
        assert_eq!(file.text, text, "{name} is kept word for word");
        assert_eq!((file.name.as_str(), file.definition.nodes.len()), (name, vnodes));
        assert_eq!((file.outline.operators, file.definition.context), (operators, context), "{name}");
    }
    let millions = |name| read(example(name)).definition.parameter_count() / 1_000_000;
    assert_eq!([millions("heads-27m"), millions("heads-45m")], [27, 45]);
}

#[test]
fn texts_and_numbers_are_the_same() {
    let text = example("heads-tiny");
    assert!(text.contains("dim: \"32\""));
    assert_eq!(read(&text.replace('"', "")).definition, read(text).definition);
}

#[test]
fn what_a_node_says_of_itself_is_in_its_definition() {
    let file = read(example("mlp-tiny"));
    let node = |id: &str| file.definition.nodes.iter().find(|node| node.id == id).expect("a node");
    assert!(matches!(node("down").optimizer, Some(NodeOptimizer::Sgd(_))));
    assert!(matches!(node("logits").optimizer, Some(NodeOptimizer::Muon(_))));
    let Some(NodeOptimizer::AdamW(adamw)) = node("up").optimizer else { panic!("adamw") };
    assert_eq!((adamw.beta2, adamw.weight_decay), (0.99, 0.01));
    assert_eq!(node("norm").optimizer, None);
    assert_eq!(node("sum").inputs, ["view", "embedding"]);
    assert_eq!((file.profile, file.metrics.len()), (None, 2));

    let file = read(example("attention-tiny"));
    let node = |id: &str| file.definition.nodes.iter().find(|node| node.id == id).expect("a node");
    assert_eq!((file.profile, node("mlp_norm").scope), (Some(Profile::Bf16Exact), Scope::Personal));
    assert_eq!(node("embedding").colocate_group.as_deref(), Some("table"));
    assert_eq!(node("sides").kind, NodeKind::Stack { widths: vec![32, 32] });
}

#[test]
fn edges_fill_free_slots_in_their_order_behind_those_that_name_one() {
    let text = example("mlp-tiny").replace("to_slot: 1", "to_slot: 0").replacen(", to_slot: 0", "", 1);
    let definition = read(&text).definition;
    let sum = definition.nodes.iter().find(|node| node.id == "sum").expect("a node");
    assert_eq!(sum.inputs, ["embedding", "view"]);
}

#[test]
fn every_node_is_drawn_once() {
    for (name, text) in EXAMPLES {
        let definition = read(text).definition;
        let drawing = svg(&definition);
        assert_eq!(drawing.matches("<g><title>").count(), definition.nodes.len(), "{name}");
        let edges = definition.nodes.iter().flat_map(|node| &node.inputs);
        let inner = edges.filter(|input| *input != "tokens" && *input != "targets").count();
        assert_eq!(drawing.matches("<path ").count(), inner, "{name}");
        assert_eq!(drawing, svg(&read(text).definition), "{name}");
    }
    let lines = terminal(&read(example("heads-27m")).definition);
    assert!(lines.contains("block.5.head.0 .. block.5.head.7  8 x head 512 to 64"), "{lines}");
    assert_eq!(lines.lines().count(), 143 - 6 * 7, "the heads of a block are one line");
}

#[test]
fn names_cannot_break_out_of_a_drawing() {
    let text = example("mlp-tiny").replace("view", "'<script>&\"'");
    let drawing = svg(&read(&text).definition);
    assert!(!drawing.contains("<script>") && drawing.contains("&lt;script&gt;&amp;&quot;"), "{drawing}");
}
