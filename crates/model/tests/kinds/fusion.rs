//! Several VNodes run as one: how many operators are left, and that nobody can tell from the state.

use zoo_model::{
    CostFunction, Network, NetworkDefinition, NetworkOptions, NodeKind, Optimizer, Profile, TARGETS,
};

use crate::bits::{CONTEXT, networks};
use crate::{VOCAB, batch, build, cost, everything, linear, node, tied};

fn operators(definition: &NetworkDefinition) -> usize {
    definition.check().expect("valid").operators
}

#[test]
fn heads_and_their_stack_are_one_operator_and_so_are_a_linear_layer_and_its_cross_entropy() {
    for (name, definition) in networks() {
        let all = definition.nodes.len();
        // The fan-out, three heads and the stack are one; of these networks one ends with a head.
        let left = if name == "tied" { all - 4 - 1 } else { all - 4 };
        assert_eq!(operators(&definition), left, "{name}");
        let separate = NetworkOptions { separate: true, ..NetworkOptions::default() };
        assert_eq!(build(&definition, Profile::F32Exact, separate).operators(), all, "{name}");
    }
}

#[test]
fn what_is_used_elsewhere_stays_by_itself() {
    type Change = fn(&mut NetworkDefinition);
    let cases: [(&str, Change); 4] = [
        ("another reads the rows", |it| {
            it.nodes.iter_mut().find(|node| node.id == "add.0").expect("a node").inputs[1] = "fan.1".into();
            it.nodes.iter_mut().find(|node| node.id == "sides").expect("a node").inputs[1] = "fan.0".into();
        }),
        ("another reads a head", |it| {
            let sides = it.nodes.iter_mut().find(|node| node.id == "sides").expect("a node");
            sides.inputs.push("head.1".into());
            sides.kind = NodeKind::Stack { widths: vec![16, 16, 6] };
            it.nodes.iter_mut().find(|node| node.id == "join").expect("a node").kind = linear(38, 16, false);
        }),
        ("the stack has another order", |it| {
            it.nodes.iter_mut().find(|node| node.id == "stack").expect("a node").inputs.swap(0, 1);
        }),
        ("a head has another rotation", |it| {
            let head = it.nodes.iter_mut().find(|node| node.id == "head.1").expect("a node");
            head.kind = NodeKind::AttentionHead { width: 16, head_dim: 6, rope_theta: None };
        }),
    ];
    for (what, change) in cases {
        let mut definition = everything(CONTEXT, Some(50.0), &tied());
        change(&mut definition);
        assert_eq!(operators(&definition), definition.nodes.len() - 1, "{what}: only the head is fused");
    }
    let mut biased = everything(CONTEXT, None, &tied());
    biased.nodes.truncate(biased.nodes.len() - 2);
    biased
        .nodes
        .extend([node("logits", linear(16, VOCAB, true), &["join"]), cost(CostFunction::CrossEntropy)]);
    assert_eq!(operators(&biased), biased.nodes.len() - 4);
}

/// A step, by whichever way of running.
fn step(network: &mut Network, number: u64) {
    let (inputs, targets) = batch(4 * CONTEXT, number);
    network.set_noise(3);
    network.forward_backward(&inputs, &targets, inputs.len()).expect("finite");
    network.apply(&Optimizer::default(), number, 1e-2, Some(1.0)).expect("finite");
}

#[test]
fn a_checkpoint_of_one_way_of_running_is_one_of_the_other() {
    for ((name, definition), first_separate) in
        networks().into_iter().flat_map(|it| [(it.clone(), false), (it, true)])
    {
        let new = |separate| {
            build(&definition, Profile::F32Exact, NetworkOptions { separate, ..NetworkOptions::default() })
        };
        let mut unbroken = new(first_separate);
        (1..=2).for_each(|number| step(&mut unbroken, number));
        let mut resumed = new(!first_separate);
        for (to, from) in resumed.vnodes_mut().iter_mut().zip(unbroken.vnodes()) {
            to.load_state(&from.state_bytes()).expect("the same VNode");
            to.load_optimizer(&from.optimizer_bytes()).expect("the same VNode");
        }
        resumed.set_step(2);
        [&mut unbroken, &mut resumed].into_iter().for_each(|network| {
            (3..=4).for_each(|number| step(network, number));
        });
        assert_eq!(resumed.digest(), unbroken.digest(), "{name}, separate first: {first_separate}");
    }
}

#[test]
fn a_tied_linear_layer_and_its_cost_have_the_bits_of_the_head_of_presets() {
    let parts = everything(CONTEXT, None, &tied());
    let mut head = parts.clone();
    head.nodes.truncate(head.nodes.len() - 2);
    let kind = NodeKind::CrossEntropy { vocab_size: VOCAB, width: 16, tied_to: Some("embedding".into()) };
    head.nodes.push(node("cost", kind, &["join", TARGETS]));
    let digests = [(&parts, true), (&parts, false), (&head, false)].map(|(definition, separate)| {
        let options = NetworkOptions { separate, ..NetworkOptions::default() };
        let mut network = build(definition, Profile::F32Exact, options);
        (1..=3).for_each(|number| step(&mut network, number));
        network
            .vnodes()
            .iter()
            .filter(|it| it.parameter_count() > 0)
            .map(|it| it.digest())
            .collect::<Vec<_>>()
    });
    assert!(digests.iter().all(|found| *found == digests[0]), "{digests:?}");
}
