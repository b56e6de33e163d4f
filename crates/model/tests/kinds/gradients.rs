//! Losses and gradients against plain loops and their finite differences.

use zoo_model::{NetworkOptions, Profile};

use crate::plain::Plain;
use crate::{batch, build, everything, square, tied};

const CONTEXT: usize = 12;

#[test]
fn losses_and_gradients_of_every_kind_are_those_of_a_plain_f64_model() {
    for (name, rope, end) in [("tied", Some(50.0), tied()), ("square", None, square())] {
        let definition = everything(CONTEXT, rope, &end);
        let separate = NetworkOptions { separate: true, ..NetworkOptions::default() };
        let mut network = build(&definition, Profile::F32Exact, separate);
        let both = batch(2 * CONTEXT, 3);
        let loss = network.evaluate(&both.0, &both.1).expect("finite").mean();
        let expected = Plain::new(&network, None).loss(&both);
        assert!((loss - expected).abs() < 3e-6 * expected, "{name} evaluated: {loss} against {expected}");

        let mut plain = Plain::new(&network, Some((7, 1)));
        let loss = network.forward_backward(&both.0, &both.1, both.0.len()).expect("finite").mean();
        let expected = plain.loss(&both);
        assert!((loss - expected).abs() < 3e-6 * expected, "{name} trained: {loss} against {expected}");
        for vnode in network.vnodes() {
            for parameter in vnode.parameters() {
                let gradient = parameter.gradient().expect("every parameter has one");
                if name == "tied" && vnode.id() == "embedding" {
                    continue; // The borrower's share joins at the end of the step; the next test is about it.
                }
                let place = (vnode.id().to_owned(), parameter.name().to_owned());
                let largest = gradient.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                for at in (0..gradient.len()).step_by((gradient.len() / 9).max(1)) {
                    let expected = plain.derivative(&place, at, &both);
                    let error = (f64::from(gradient[at]) - expected).abs();
                    let allowed = 2e-4 * f64::from(largest) + 1e-8;
                    assert!(error < allowed, "{name} {place:?}[{at}]: {} against {expected}", gradient[at]);
                }
            }
        }
    }
}

#[test]
fn a_tied_table_moves_by_its_own_gradient_and_the_borrowers() {
    let definition = everything(CONTEXT, None, &tied());
    let mut definition = definition;
    definition.nodes[0].optimizer = Some(zoo_model::NodeOptimizer::Sgd(Default::default()));
    let mut network = build(&definition, Profile::F32Exact, NetworkOptions::default());
    let both = batch(2 * CONTEXT, 3);
    let mut plain = Plain::new(&network, Some((7, 1)));
    let before = network.vnodes()[0].parameters()[0].value.clone();
    network.forward_backward(&both.0, &both.1, both.0.len()).expect("finite");
    network.apply(&Default::default(), 1, 1.0, None).expect("finite");
    let after = &network.vnodes()[0].parameters()[0].value;
    let place = ("embedding".to_owned(), "table".to_owned());
    for at in (0..before.len()).step_by(37) {
        let (moved, expected) = (f64::from(before[at] - after[at]), plain.derivative(&place, at, &both));
        assert!((moved - expected).abs() < 1e-5, "[{at}]: {moved} against {expected}");
    }
}
