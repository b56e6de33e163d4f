//! Small models and batches for the tests.

#![allow(dead_code, reason = "every test file uses its part")]

use zoo_kernels::random;
use zoo_model::{Family, ModelConfig, Network, NetworkDefinition, NetworkOptions, Profile};

pub const CONTEXT: usize = 64;

/// One small model of every kind: each family, tied and untied, with and without biases.
pub fn configs() -> Vec<(&'static str, ModelConfig)> {
    let qwen3 = ModelConfig {
        family: Family::Qwen3,
        vocab_size: 70,
        width: 32,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 12,
        hidden: 40,
        context: CONTEXT,
        norm_epsilon: 1e-6,
        rope_theta: 10_000.0,
        tied_embeddings: true,
        biases: false,
        initial_std: 0.1,
    };
    let llama =
        ModelConfig { family: Family::Llama, tied_embeddings: false, norm_epsilon: 1e-5, ..qwen3.clone() };
    let gpt2 = ModelConfig {
        family: Family::Gpt2,
        kv_heads: 4,
        head_dim: 8,
        rope_theta: 0.0,
        biases: true,
        norm_epsilon: 1e-5,
        ..qwen3.clone()
    };
    let nanogpt = ModelConfig { biases: false, ..gpt2.clone() };
    vec![("qwen3", qwen3), ("llama", llama), ("gpt2", gpt2), ("nanogpt", nanogpt)]
}

pub fn build(config: &ModelConfig, options: NetworkOptions) -> Network {
    build_in(Profile::F32Exact, config, options)
}

pub fn build_in(profile: Profile, config: &ModelConfig, options: NetworkOptions) -> Network {
    let definition = NetworkDefinition::decoder(config).expect("a valid configuration");
    let mut network = Network::build(&definition, profile, options).expect("a valid definition");
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

/// `sequences` sequences of inputs and targets.
pub fn batch(config: &ModelConfig, sequences: usize, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let count = (sequences * config.context) as u64;
    let token = |stream: u64, at: u64| (random::bits(seed, stream, at) % config.vocab_size as u64) as u32;
    ((0..count).map(|at| token(0, at)).collect(), (0..count).map(|at| token(1, at)).collect())
}
