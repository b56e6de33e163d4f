//! What a network refuses, and that its errors say where and what to do.

mod common;

use std::ops::ControlFlow;

use zoo_model::{
    Decoder, ModelConfig, NetworkDefinition, NetworkError, NetworkOptions, Optimizer, PagePool, Sampler,
    generate,
};

#[test]
fn an_impossible_configuration_names_its_field() {
    let (_, good) = common::configs().remove(0);
    let (_, gpt2) = common::configs().remove(2);
    let cases = [
        (ModelConfig { context: 0, ..good.clone() }, "context"),
        (ModelConfig { vocab_size: usize::MAX, ..good.clone() }, "vocab_size"),
        (ModelConfig { kv_heads: 3, ..good.clone() }, "kv_heads"),
        (ModelConfig { head_dim: 7, ..good.clone() }, "head_dim"),
        (ModelConfig { norm_epsilon: f32::NAN, ..good.clone() }, "norm_epsilon"),
        (ModelConfig { initial_std: -1.0, ..good.clone() }, "initial_std"),
        (ModelConfig { rope_theta: 0.0, ..good.clone() }, "rope_theta"),
        (ModelConfig { biases: true, ..good.clone() }, "biases"),
        (ModelConfig { heads: 5, kv_heads: 5, ..gpt2.clone() }, "head_dim"),
        (ModelConfig { kv_heads: 2, ..gpt2.clone() }, "kv_heads"),
        (ModelConfig { layers: 1 << 10, width: 1 << 16, hidden: 1 << 20, ..good.clone() }, "width"),
    ];
    for (config, field) in cases {
        let error = config.validate().expect_err(field);
        assert_eq!(error.field, field);
        assert!(error.to_string().contains("\nhint: "), "{error}");
        assert!(NetworkDefinition::decoder(&config).is_err());
    }
}

#[test]
fn a_configuration_with_an_unknown_key_is_refused() {
    let (_, config) = common::configs().remove(0);
    let mut json = serde_json::to_value(&config).expect("plain data");
    assert_eq!(serde_json::from_value::<ModelConfig>(json.clone()).expect("its own form"), config);
    json["dropuot"] = 0.1.into();
    let error = serde_json::from_value::<ModelConfig>(json).expect_err("an unknown key").to_string();
    assert!(error.contains("dropuot"), "{error}");
}

#[test]
fn a_definition_survives_its_text_form() {
    for (_, config) in common::configs() {
        let definition = NetworkDefinition::decoder(&config).expect("valid");
        let text = serde_json::to_string(&definition).expect("plain data");
        assert_eq!(serde_json::from_str::<NetworkDefinition>(&text).expect("its own form"), definition);
    }
}

#[test]
fn a_wrong_batch_is_refused() {
    let (_, config) = common::configs().remove(0);
    let mut network = common::build(&config, NetworkOptions::default());
    let (inputs, targets) = common::batch(&config, 1, 1);
    let mut unknown = inputs.clone();
    unknown[5] = 70;
    let cases: [(&[u32], &[u32], &str); 5] = [
        (&[], &[], "a batch of 0 inputs and 0 targets"),
        (&inputs[..63], &targets[..63], "not whole sequences of 64"),
        (&inputs, &targets[..63], "64 inputs and 63 targets"),
        (&unknown, &targets, "token 70 is not below the vocabulary size 70"),
        (&inputs, &unknown, "token 70 is not below the vocabulary size 70"),
    ];
    for (inputs, targets, expected) in cases {
        let message = network.forward_backward(inputs, targets, 64).expect_err(expected).to_string();
        assert!(message.contains(expected) && message.contains("\nhint: "), "{message}");
        assert_eq!(network.evaluate(inputs, targets).expect_err(expected).to_string(), message);
    }
    assert_eq!(
        network.apply(&Optimizer::default(), 1, 1e-3, None),
        Err(NetworkError::NoGradient { step: 1 })
    );
    network.forward_backward(&inputs, &targets, 128).expect("one sequence is no whole chunk, but the first");
    let after = network.forward_backward(&inputs, &targets, 128);
    assert_eq!(after, Err(NetworkError::Chunks { tokens: 64 }));
}

#[test]
fn a_number_that_is_not_finite_is_an_error_with_the_step_and_the_vnode() {
    let (_, config) = common::configs().remove(0);
    let (inputs, targets) = common::batch(&config, 1, 1);
    let not_finite = |vnode: &str, what| {
        let vnode = vnode.to_owned();
        Err(NetworkError::NotFinite { step: 5, vnode, what })
    };
    let mut network = common::build(&config, NetworkOptions::default());
    network.set_step(4);
    network.vnodes_mut()[4].parameters_mut()[0].value[17] = f32::NAN;
    let failed = network.forward_backward(&inputs, &targets, 64);
    assert_eq!(failed, not_finite("block.0.mlp", "a parameter"));
    assert_eq!(network.evaluate(&inputs, &targets), not_finite("block.0.mlp", "a parameter"));

    assert_eq!(Decoder::new(network).map(drop), not_finite("block.0.mlp", "a parameter").map(drop));

    // Finite parameters whose products overflow.
    let mut network = common::build(&config, NetworkOptions::default());
    network.set_step(4);
    network.vnodes_mut()[9].parameters_mut()[0].value.fill(f32::MAX);
    let failed = network.forward_backward(&inputs, &targets, 64);
    assert_eq!(failed, not_finite("head", "the output"));
    let nothing_to_apply = network.apply(&Optimizer::default(), 5, 1e-3, None);
    assert_eq!(nothing_to_apply, Err(NetworkError::NoGradient { step: 5 }));
}

#[test]
fn a_text_ends_where_the_context_does_unless_it_is_cut() {
    let (_, config) = common::configs().remove(0);
    let decoder = Decoder::new(common::build(&config, NetworkOptions::default())).expect("finite");
    let (tokens, _) = common::batch(&config, 2, 1);
    let pool = &mut PagePool::new(&decoder, 64);
    let go_on = &mut |_| ControlFlow::Continue(());
    for prompt in [1, 63, 64, 65, 100] {
        let text =
            generate(&decoder, pool, &tokens[..prompt], 80, &Sampler::default(), go_on).expect("any length");
        assert_eq!(text.len(), 80);
        let again =
            generate(&decoder, pool, &tokens[..prompt], 80, &Sampler::default(), go_on).expect("any length");
        assert_eq!(text, again);
    }
    assert_eq!(generate(&decoder, pool, &[], 1, &Sampler::greedy(), go_on), Err(NetworkError::Empty));
    let mut seen = 0;
    let stopped = generate(&decoder, pool, &tokens[..4], 80, &Sampler::greedy(), &mut |_| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(stopped.expect("three tokens").len(), 3);
}
