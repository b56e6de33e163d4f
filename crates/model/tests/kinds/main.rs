//! Kinds of VNodes that people's own networks are made of: gradients, bits, and running several as one.

#![allow(clippy::disallowed_methods, reason = "the plain model is compared with a tolerance, not bit by bit")]

mod bits;
mod fusion;
mod gradients;
mod optimizers;
mod plain;

use zoo_kernels::random;
use zoo_model::{
    CostFunction, Function, Network, NetworkDefinition, NetworkOptions, NodeDefinition, NodeKind, NormForm,
    Profile, Scope, TARGETS, TOKENS,
};

const VOCAB: usize = 29;
const WIDTH: usize = 16;

fn node(id: &str, kind: NodeKind, inputs: &[&str]) -> NodeDefinition {
    NodeDefinition {
        id: id.into(),
        kind,
        inputs: inputs.iter().map(|&input| input.into()).collect(),
        initial_std: 0.15,
        output_initial_std: 0.15,
        scope: Scope::Shared,
        colocate_group: None,
        optimizer: None,
    }
}

fn linear(inputs: usize, outputs: usize, bias: bool) -> NodeKind {
    NodeKind::Linear { inputs, outputs, bias, tied_to: None }
}

/// A network with a node of every kind that presets do not have, and how it ends.
fn everything(context: usize, rope: Option<f64>, end: &[NodeDefinition]) -> NetworkDefinition {
    let (width, head_dim) = (WIDTH, 6);
    let head = || NodeKind::AttentionHead { width, head_dim, rope_theta: rope };
    let mut nodes = vec![
        node("embedding", NodeKind::Embedding { vocab_size: VOCAB, width }, &[TOKENS]),
        node("positions", NodeKind::PositionEmbedding { context, width }, &["embedding"]),
        node("drop.0", NodeKind::Dropout { width, rate: 0.2 }, &["positions"]),
        node("fan.0", NodeKind::Identity { width }, &["drop.0"]),
        node(
            "norm.0",
            NodeKind::Norm { form: NormForm::Layer, width, epsilon: 1e-5, bias: true },
            &["fan.0"],
        ),
        node("fan.1", NodeKind::Identity { width }, &["norm.0"]),
        node("head.0", head(), &["fan.1"]),
        node("head.1", head(), &["fan.1"]),
        node("head.2", head(), &["fan.1"]),
        node("stack", NodeKind::Stack { widths: vec![6; 3] }, &["head.0", "head.1", "head.2"]),
        node("rope", NodeKind::Rope { width: 18, head_dim: 6, theta: 100.0 }, &["stack"]),
        node("out", linear(18, width, true), &["rope"]),
        node("drop.1", NodeKind::Dropout { width, rate: 0.3 }, &["out"]),
        node("add.0", NodeKind::Add { width }, &["drop.1", "fan.0"]),
        node("up", linear(width, 20, false), &["add.0"]),
        node("gelu", NodeKind::Activation { function: Function::Gelu, width: 20 }, &["up"]),
        node("middle", linear(20, 24, true), &["gelu"]),
        node("silu", NodeKind::Activation { function: Function::Silu, width: 24 }, &["middle"]),
        node("swiglu", NodeKind::Swiglu { width: 12 }, &["silu"]),
        node("down", linear(12, width, false), &["swiglu"]),
        node("relu", NodeKind::Activation { function: Function::Relu, width }, &["down"]),
        node("sides", NodeKind::Stack { widths: vec![width, width] }, &["relu", "add.0"]),
        node("join", linear(2 * width, width, false), &["sides"]),
    ];
    nodes.extend_from_slice(end);
    NetworkDefinition { context, nodes }
}

/// A tied linear layer and the cross-entropy of its logits.
fn tied() -> Vec<NodeDefinition> {
    let logits =
        NodeKind::Linear { inputs: WIDTH, outputs: VOCAB, bias: false, tied_to: Some("embedding".into()) };
    vec![node("logits", logits, &["join"]), cost(CostFunction::CrossEntropy)]
}

/// As [`tied`], with a weight and a bias of its own, and another cost.
fn square() -> Vec<NodeDefinition> {
    vec![node("logits", linear(WIDTH, VOCAB, true), &["join"]), cost(CostFunction::SquareError)]
}

fn cost(cost: CostFunction) -> NodeDefinition {
    node("cost", NodeKind::Cost { cost, width: VOCAB }, &["logits", TARGETS])
}

fn build(definition: &NetworkDefinition, profile: Profile, options: NetworkOptions) -> Network {
    let mut network = Network::build(definition, profile, options).expect("a valid definition");
    network.initialise(7);
    // Gains and biases that start as ones and zeros would hide mistakes.
    for (stream, vnode) in network.vnodes_mut().iter_mut().enumerate() {
        for parameter in vnode.parameters_mut().iter_mut().filter(|it| it.shape().len() == 1) {
            for (index, value) in parameter.value.iter_mut().enumerate() {
                *value += 0.2 * random::normal(9, stream as u64, index as u64) as f32;
            }
        }
    }
    network
}

fn batch(tokens: usize, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let token = |stream: u64, at: u64| (random::bits(seed, stream, at) % VOCAB as u64) as u32;
    let all = |stream| (0..tokens as u64).map(|at| token(stream, at)).collect();
    (all(0), all(1))
}
