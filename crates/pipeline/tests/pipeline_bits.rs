//! The bits of a pipeline follow from its schedule, not from who hosts what or what arrives when.

mod hosts;

use hosts::{Data, Hosts, SEED, alone, definition, leaves, schedule, settings};
use zoo_model::{Network, NetworkOptions, Profile};
use zoo_pipeline::{Correction, Difference, Format, Order, Replica, Schedule, first_difference};

#[test]
fn one_stage_is_the_step_of_a_network() {
    let whole = Schedule { micro_batch_tokens: 256, ..schedule(1, Order::Stream) };
    let mut settings = settings(whole, Format::F32);
    settings.clip = None;
    let data = Data::of(&whole);
    let mut network =
        Network::build(&definition(), Profile::F32Exact, NetworkOptions::default()).expect("a network");
    network.initialise(SEED);
    let mut expected = std::collections::BTreeMap::new();
    for step in 1..=whole.steps {
        for micro_batch in (step - 1) * 2..step * 2 {
            let batch = data.batch(micro_batch);
            network.forward_backward(batch.inputs, batch.targets, 512).expect("finite");
        }
        network.apply(&settings.optimizer, step, 0.01, None).expect("finite");
        let digests = network.vnodes().iter().map(|it| ((step * 2 - 1, it.id().to_owned()), it.digest()));
        expected.extend(digests);
    }
    assert_eq!(leaves(&alone(&settings)), expected);
}

#[test]
fn with_a_flush_stages_come_to_what_one_comes_to() {
    let one = leaves(&alone(&settings(schedule(1, Order::Flush), Format::F32)));
    for stages in 2..=7 {
        let found = leaves(&alone(&settings(schedule(stages, Order::Flush), Format::F32)));
        assert!(found == one, "{stages} stages");
    }
}

#[test]
fn without_a_flush_gradients_are_of_older_weights() {
    let one = leaves(&alone(&settings(schedule(1, Order::Stream), Format::F32)));
    let four = leaves(&alone(&settings(schedule(4, Order::Stream), Format::F32)));
    assert!(one.keys().eq(four.keys()) && one != four);
}

/// A micro-batch goes forward and back through every stage with one version of its weights: a network whose VNodes are set to those
/// versions before each pass, and to the present ones before each update, must come to the same.
#[test]
fn without_a_flush_a_pass_sees_the_versions_of_the_schedule() {
    let streamed = Schedule {
        micro_batch_tokens: 256,
        steps: 6,
        correction: Correction::None,
        ..schedule(4, Order::Stream)
    };
    let mut settings = settings(streamed, Format::F32);
    settings.clip = None;
    let (passes, data) = (alone(&settings), Data::of(&streamed));
    let mut network =
        Network::build(&definition(), Profile::F32Exact, NetworkOptions::default()).expect("a network");
    network.initialise(SEED);
    let stage_of = |id: &str| {
        let ends = |pass: &&zoo_pipeline::Pass| pass.leaves.iter().any(|leaf| leaf.vnode == id);
        passes.iter().find(ends).expect("every VNode has a stage").stage
    };
    let stages: Vec<u32> = network.vnodes().iter().map(|vnode| stage_of(vnode.id())).collect();
    let states = |network: &Network| network.vnodes().iter().map(|it| it.state_bytes()).collect::<Vec<_>>();
    let mut versions = vec![states(&network)];
    let mut expected = std::collections::BTreeMap::new();
    for step in 1..=streamed.steps {
        for micro_batch in (step - 1) * 2..step * 2 {
            for ((at, vnode), stage) in network.vnodes_mut().iter_mut().enumerate().zip(&stages) {
                let version = micro_batch.saturating_sub(streamed.ahead(*stage)) / 2;
                vnode.load_state(&versions[version as usize][at]).expect("its own");
            }
            let batch = data.batch(micro_batch);
            network.forward_backward(batch.inputs, batch.targets, 512).expect("finite");
        }
        for (at, vnode) in network.vnodes_mut().iter_mut().enumerate() {
            vnode.load_state(&versions[step as usize - 1][at]).expect("its own");
        }
        network.apply(&settings.optimizer, step, 0.01, None).expect("finite");
        versions.push(states(&network));
        let digests = network.vnodes().iter().map(|it| ((step * 2 - 1, it.id().to_owned()), it.digest()));
        expected.extend(digests);
    }
    assert_eq!(leaves(&passes), expected);
}

#[test]
fn any_hosts_and_any_order_of_arrival_come_to_the_same() {
    for (stages, format) in [(4, Format::F32), (3, Format::Bf16), (5, Format::Eight)] {
        for (order, correction) in [
            (Order::Flush, Correction::None),
            (Order::Stream, Correction::Rate { anneal_steps: 3 }),
            (Order::Stream, Correction::LookAhead),
        ] {
            let settings = settings(Schedule { correction, ..schedule(stages, order) }, format);
            let expected = leaves(&alone(&settings));
            for hosts in [1, 2, 3, stages as usize] {
                for chance in 0..3 {
                    let (passes, _) = Hosts::new(&settings, hosts, chance).run(None);
                    assert!(leaves(&passes) == expected, "{stages} stages, {hosts} hosts, chance {chance}");
                }
            }
        }
    }
}

#[test]
fn looking_ahead_changes_stages_that_are_late_and_no_other_order() {
    let with = |stages, order, correction| {
        leaves(&alone(&settings(Schedule { correction, ..schedule(stages, order) }, Format::F32)))
    };
    for (stages, order, differs) in
        [(1, Order::Stream, false), (4, Order::Flush, false), (4, Order::Stream, true)]
    {
        let (none, ahead) =
            (with(stages, order, Correction::None), with(stages, order, Correction::LookAhead));
        assert_eq!(none != ahead, differs, "{stages} stages, {order:?}");
    }
}

#[test]
fn where_two_runs_part_names_the_stage_that_computed_otherwise() {
    let mut settings = settings(schedule(4, Order::Stream), Format::F32);
    settings.schedule.correction = Correction::None;
    let (honest, data) = (alone(&settings), Data::of(&settings.schedule));
    assert_eq!(first_difference(&settings.schedule, &honest, &honest), None);
    for culprit in 0..4u32 {
        let mut replica = Replica::new(&settings, &definition(), Profile::F32Exact, SEED).expect("possible");
        let model = replica.stages_mut()[culprit as usize].model_mut();
        let vnode = model.vnodes_mut().last_mut().expect("a stage has VNodes");
        let id = vnode.id().to_owned();
        let changed = vnode.parameters_mut().iter_mut().next().map(|it| it.value[0] += 0.5);
        assert_eq!(changed, Some(()), "the last VNode of a stage has parameters");
        let passes = replica.run(|at| data.batch(at), |_| ()).expect("finite");
        let found = first_difference(&settings.schedule, &honest, &passes).expect("one differs");
        let Difference { stage, step, vnode } = found;
        assert_eq!((stage, step), (culprit, 1));
        assert!(vnode.is_some(), "{id}");
    }
}
