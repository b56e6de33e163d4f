//! What people get wrong, one thing at a time.

use zoo_definition::NetworkFile;

use crate::{example, refused};

/// The file, what is written in it, what is written instead, a part of the line that is named, and of what is said.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str);

const CASES: &[Case] = &[
    ("heads-tiny", "context: 32\n", "", "", "has no context"),
    ("heads-tiny", "context: 32\n", "context: 0\n", "context: 0", "context is '0'"),
    ("heads-tiny", "context: 32\n", "context: 64\n", "seq_len: \"32\"", "seq_len is 32"),
    ("heads-tiny", "precision: float32", "precision: int4", "precision: int4", "precision is 'int4'"),
    ("heads-tiny", "name: heads-tiny", "name: [a, b]", "name: [a, b]", "name is a list"),
    ("heads-tiny", "name: heads-tiny", "nmae: heads-tiny", "nmae:", "unknown key 'nmae'"),
    ("heads-tiny", "costs: [cost]", "costs: []", "costs: []", "costs has 0 names"),
    ("heads-tiny", "costs: [cost]", "costs: [stack]", "costs: [stack]", "no such node"),
    ("heads-tiny", "costs: [cost]", "costs: [final_norm]", "costs: [final_norm]", "which is no cost"),
    ("heads-tiny", "costs: [cost]", "costs: cost", "costs: cost", "costs is one value, not a list"),
    (
        "heads-tiny",
        "outputs: [final_norm]",
        "outputs: [embedding]",
        "outputs: [embedding]",
        "not what the network says",
    ),
    ("heads-tiny", "outputs: [final_norm]", "outputs: [finalnorm]", "outputs: [finalnorm]", "no such node"),
    ("heads-tiny", "{type: loss}", "{type: joy}", "{type: joy}", "a metric is 'joy'"),
    ("heads-tiny", "{type: loss}", "{type: loss, every: 3}", "every: 3", "unknown key 'every'"),
    ("heads-tiny", "causal: \"true\"", "causal: \"false\"", "head.0, type", "causal is 'false'"),
    (
        "heads-tiny",
        "rope_theta: \"10000\"",
        "rope_theta: \"0\"",
        "head.0, type",
        "rope_theta (0) is not possible",
    ),
    (
        "heads-tiny",
        "position_encoding: rope, rope_theta",
        "position_encoding: learned, rope_theta",
        "head.0, type",
        "position_encoding is 'learned'",
    ),
    (
        "heads-tiny",
        "position_encoding: rope, shared",
        "position_encoding: learned, shared",
        "id: embedding,",
        "position_encoding is 'learned'",
    ),
    ("heads-tiny", "head_dim: \"16\"", "head_dim: \"15\"", "head.0, type", "head_dim (15) is odd"),
    ("heads-tiny", "axis: \"-1\"", "axis: \"0\"", "axis: \"0\"", "axis is '0'"),
    ("heads-tiny", "rate: \"0.1\"", "rate: \"1.0\"", "rate: \"1.0\"", "rate (1) is not possible"),
    ("heads-tiny", "rate: \"0.1\"", "rate: \"-0.1\"", "rate: \"-0.1\"", "rate (-0.1) is not possible"),
    ("heads-tiny", "rate: \"0.1\"", "rate: \".nan\"", "rate: \".nan\"", "rate"),
    (
        "heads-tiny",
        "num_outputs: \"2\"",
        "num_outputs: \"3\"",
        "num_outputs: \"3\"",
        "num_outputs is 3, but 2 edges",
    ),
    (
        "heads-tiny",
        "out_dim: \"256\", tie_weight_alias: table",
        "out_dim: \"256\"",
        "tied_lm_head_ce",
        "no tie_weight_alias",
    ),
    (
        "heads-tiny",
        "out_dim: \"256\", tie_weight_alias: table",
        "out_dim: \"256\", tie_weight_alias: chair",
        "chair",
        "no embedding has that name",
    ),
    (
        "heads-tiny",
        "out_dim: \"256\", tie_weight_alias",
        "out_dim: \"255\", tie_weight_alias",
        "tied_lm_head_ce",
        "not an embedding of its shape",
    ),
    (
        "heads-tiny",
        "colocate_group: table, colocate_policy: required",
        "colocate_policy: required",
        "id: embedding,",
        "without a colocate_group",
    ),
    (
        "heads-tiny",
        "colocate_policy: required",
        "colocate_policy: wished",
        "id: embedding,",
        "colocate_policy is 'wished'",
    ),
    ("heads-tiny", "type: add}", "type: add, config: {dim: 33}}", "dim: 33", "dim is 33"),
    ("heads-tiny", "type: gelu}", "type: gelu, config: {dim: 64, dim: 64}}", "dim: 64, dim", "not YAML"),
    ("heads-tiny", "type: gelu}", "type: swiglu, config: {dim: 64}}", "dim: 64", "half of its input is 32"),
    ("heads-tiny", "type: gelu}", "type: swiglu}", "ffn_down", "in_dim is 64, but its input has 32"),
    ("heads-tiny", "type: gelu}", "type: gelu, config: [1]}", "config: [1]", "its config is a list"),
    (
        "heads-tiny",
        "type: gelu}",
        "type: gelu, config: {input_shape: [-1, 63]}}",
        "input_shape",
        "does not end with 64",
    ),
    (
        "heads-tiny",
        "type: gelu}",
        "type: gelu, config: {output_shape: \"[-1, 63]\"}}",
        "output_shape",
        "does not end with 64",
    ),
    (
        "heads-tiny",
        "type: gelu}",
        "type: gelu, scope: shared, config: {scope: shared}}",
        "type: gelu",
        "stands beside the config and in it",
    ),
    (
        "heads-tiny",
        "type: gelu}",
        "type: gelu, initial_std: 3}",
        "type: gelu",
        "initial_std (3) is not between",
    ),
    ("heads-tiny", "type: gelu}", "type: gelu, precision: bf16}", "type: gelu", "but line 3 says"),
    (
        "heads-tiny",
        "to: block.0.attention_add, to_slot: 1",
        "to: block.0.attention_add, to_slot: 2",
        "to_slot: 2",
        "it has no slot 2",
    ),
    (
        "heads-tiny",
        "to: block.0.attention_add, to_slot: 1",
        "to: block.0.attention_add, to_slot: -1",
        "to_slot: -1",
        "not a slot",
    ),
    (
        "heads-tiny",
        "to: block.0.attention_add, to_slot: 1",
        "to: block.0.attention_add, to_slot: 0",
        "to_slot: 0",
        "slot 0 already",
    ),
    (
        "heads-tiny",
        "{from: embedding, to",
        "{from: embedding, from_slot: 1, to",
        "from_slot: 1",
        "has one output",
    ),
    ("heads-tiny", "{from: embedding, to", "{from: tokens, to", "from: tokens", "does not take 'tokens'"),
    ("heads-tiny", "{from: embedding, to", "{from: targets, to", "from: targets", "does not take 'targets'"),
    (
        "heads-tiny",
        "{from: embedding, to",
        "{from: embedding, weight: 2, to",
        "weight: 2",
        "unknown key 'weight'",
    ),
    ("heads-tiny", "{from: embedding, to", "{to", "embedding_dropout}", "an edge has no from"),
    ("heads-tiny", "edges:\n", "edges: none\nmore:\n", "edges: none", "edges is one value"),
    ("heads-tiny", "nodes:\n", "nodes: {}\nmore:\n", "nodes: {}", "nodes is keys and values"),
    ("heads-tiny", "  # block 0: feed forward", "  - just a word", "just a word", "a node is one value"),
    ("heads-tiny", "  # block 0: feed forward", "\t- tab: 1", "", "not YAML"),
    ("heads-tiny", "  # the head", "  - {id: lost, type: relu}", "id: lost", "nothing leads to its slot 0"),
    ("heads-tiny", "  # the head", "  - {id: tokens, type: relu}", "id: tokens", "not a node"),
    ("heads-tiny", "  # the head", "  - {id: '', type: relu}", "id: ''", "id is empty"),
    ("heads-tiny", "  # the head", "  - {id: again, type: mse}", "id: cost,", "is a cost already"),
    (
        "heads-tiny",
        "  # the head",
        "  - {id: more, type: embedding, config: {vocab_size: 4, dim: 4, shared_weight_alias: table}}",
        "id: more",
        "no path leads from it",
    ),
    ("heads-tiny", "type: tied_lm_head_ce", "type: linear", "costs: [cost]", "has no cost"),
    ("heads-tiny", "type: tied_lm_head_ce", "type: mask", "type: mask", "no part of a network"),
    ("mlp-tiny", "type: mse", "type: cost", "- id: cost", "has no function"),
    (
        "mlp-tiny",
        "    type: mse",
        "    type: cost\n    config: {function: ce}",
        "function: ce",
        "takes probabilities",
    ),
    (
        "mlp-tiny",
        "    type: mse",
        "    type: mse\n    config: {cost_precision: fp16}",
        "cost_precision: fp16",
        "cost_precision is 'fp16'",
    ),
    (
        "mlp-tiny",
        "optimizer: sgd",
        "optimizer: {type: sgd, momentum: 0.9}",
        "momentum: 0.9",
        "unknown key 'momentum'",
    ),
    ("mlp-tiny", "optimizer: sgd", "optimizer: {beta1: 0.9}", "beta1: 0.9", "the optimizer has no type"),
    ("mlp-tiny", "beta2: 0.99", "beta2: 1.5", "beta2: 1.5", "beta2 (1.5) is not at least 0"),
    ("mlp-tiny", "[-1, 4, 8]", "[-1, 4, 9]", "[-1, 4, 9]", "does not keep the rows"),
    ("mlp-tiny", "[-1, 4, 8]", "[4, 8]", "[4, 8]", "does not keep the rows"),
    ("mlp-tiny", "[-1, 4, 8]", "[-1, a]", "[-1, a]", "not a list of whole numbers"),
    ("mlp-tiny", "[-1, 4, 8]", "[]", "target_shape: []", "not a list of whole numbers"),
    ("mlp-tiny", "{from: embedding, to: norm}", "{from: sum, to: norm}", "from: ", "cycle"),
    ("mlp-tiny", "{from: up, to: swiglu}", "{from: swiglu, to: swiglu}", "swiglu", "cycle of swiglu"),
    ("mlp-tiny", "{from: logits, to: cost}", "{from: cost, to: cost}", "", ""),
    (
        "mlp-tiny",
        "{in_dim: 32, out_dim: 128, bias: true}",
        "{in_dim: 32, out_dim: 128, bias: perhaps}",
        "perhaps",
        "bias is 'perhaps'",
    ),
    (
        "mlp-tiny",
        "{in_dim: 32, out_dim: 128, bias: true}",
        "{in_dim: 32, bias: true}",
        "in_dim: 32, bias",
        "has no out_dim",
    ),
    ("mlp-tiny", "out_dim: 128", "out_dim: 127", "", "which is odd"),
    ("attention-tiny", "num_kv_heads: 2", "num_kv_heads: 3", "num_kv_heads: 3", "does not divide num_heads"),
    (
        "attention-tiny",
        "qk_norm_epsilon: 1e-6",
        "qk_norm_epsilon: 5",
        "qk_norm_epsilon: 5",
        "is not possible",
    ),
    ("attention-tiny", "activation: swiglu", "activation: softmax", "softmax", "activation is 'softmax'"),
    ("attention-tiny", "scope: personal", "scope: 7", "scope: 7", "scope is '7'"),
    ("attention-tiny", "epsilon: 1e-5", "epsilon: 0", "epsilon: 0", "epsilon (0) is not possible"),
    (
        "attention-tiny",
        "{head_dim: 8, rope_theta: 100}",
        "{head_dim: 6, rope_theta: 100}",
        "id: turn",
        "does not divide width",
    ),
    ("attention-tiny", "precision: bf16", "precision: [bf16]", "precision: [bf16]", "precision is a list"),
];

#[test]
fn what_people_get_wrong_is_refused_with_the_line_and_a_hint() {
    for (name, from, to, line, cause) in CASES {
        let base = example(name);
        NetworkFile::read(base).expect("the file itself is good");
        assert!(base.contains(from), "{name} has no {from}");
        let text = base.replacen(from, to, 1);
        let what = format!("{name} with {to} in place of {from}");
        let refusal = refused(&what, &text);
        assert!(refusal.cause.contains(cause), "{what}: {refusal}");
        let named = text.lines().nth(refusal.line.expect("a line") as usize - 1).unwrap_or_default();
        assert!(named.contains(line), "{what}: {refusal}\nsays of: {named}");
    }
}

#[test]
fn a_misspelt_name_is_answered_with_the_right_one() {
    let base = example("heads-tiny");
    for (from, to, hint) in [
        ("type: gelu", "type: gulu", "did you mean gelu?"),
        ("num_outputs", "num_output", "did you mean num_outputs?"),
        ("to: final_norm}", "to: finel_norm}", "did you mean 'final_norm'?"),
    ] {
        let refusal = refused(to, &base.replacen(from, to, 1));
        assert_eq!(refusal.hint, hint);
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let long = format!("# {}\n{}", "x".repeat(zoo_definition::FILE_BYTES_MAX), example("heads-tiny"));
    assert!(refused("four megabytes", &long).cause.contains("more than 4194304"));
    let deep = format!("name: {}{}", "[".repeat(3000), "]".repeat(3000));
    assert!(refused("nested", &deep).cause.contains("not YAML"));
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    refused("a bomb of aliases", bomb);
    let many: String = (0..16_385).map(|at| format!("  - {{id: n{at}, type: relu}}\n")).collect();
    let many = format!("context: 4\nnodes:\n{many}edges: []\n");
    assert!(refused("many nodes", &many).cause.contains("16385 nodes"));
}
