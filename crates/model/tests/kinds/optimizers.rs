//! Optimisers of single VNodes.

use zoo_model::{AdamWSettings, Network, NetworkOptions, NodeOptimizer, Optimizer, Profile, SgdSettings};

use crate::{batch, build, everything, tied};

fn after_a_step(change: impl Fn(&str) -> Option<NodeOptimizer>, optimizer: Optimizer) -> Network {
    let mut definition = everything(12, None, &tied());
    definition.nodes.iter_mut().for_each(|node| node.optimizer = change(&node.id));
    let mut network = build(&definition, Profile::F32Exact, NetworkOptions::default());
    let (inputs, targets) = batch(24, 3);
    network.forward_backward(&inputs, &targets, 24).expect("finite");
    network.apply(&optimizer, 1, 0.01, None).expect("finite");
    network
}

#[test]
fn a_vnode_with_an_optimiser_of_its_own_takes_that_and_the_others_the_jobs() {
    let adamw = AdamWSettings { weight_decay: 0.0, ..AdamWSettings::default() };
    let job = Optimizer::AdamW(adamw);
    let plain = after_a_step(|_| None, job);
    let sgd = NodeOptimizer::Sgd(SgdSettings::default());
    let mixed = after_a_step(|id| (id == "out").then_some(sgd), job);
    for (plain, mixed) in plain.vnodes().iter().zip(mixed.vnodes()) {
        let same = plain.digest() == mixed.digest();
        assert_eq!(same, plain.id() != "out", "{}", plain.id());
    }
    let out = mixed.vnodes().iter().find(|vnode| vnode.id() == "out").expect("a node");
    assert!(out.parameters().iter().all(|it| it.remembered().is_empty()), "plain descent remembers nothing");
    let named = after_a_step(|_| Some(NodeOptimizer::AdamW(adamw)), Optimizer::Muon(Default::default()));
    assert_eq!(named.digest(), plain.digest());
}
