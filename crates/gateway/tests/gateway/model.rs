//! A small model that writes nonsense, always the same.

use std::sync::Arc;

use zoo_gateway::{Engine, EngineSettings, Served};
use zoo_model::{
    Decoder, Family, ModelConfig, Network, NetworkDefinition, NetworkOptions, Profile, Tokenizer,
};
use zoo_training::ChatTemplate;

pub const CONTEXT: usize = 128;

const TEXTS: [&str; 3] = [
    "the quick brown fox jumps over the lazy dog, and the dog sleeps on",
    "größer 日本 🦊 the fox and the other fox",
    "User: hello\nAssistant: hello, how are you?\nUser: fine, and you?\n",
];

pub fn tokenizer() -> Tokenizer {
    Tokenizer::train(TEXTS, 300).expect("enough text")
}

fn config() -> ModelConfig {
    ModelConfig {
        family: Family::Qwen3,
        vocab_size: tokenizer().vocab_size(),
        width: 32,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        hidden: 48,
        context: CONTEXT,
        norm_epsilon: 1e-6,
        rope_theta: 10_000.0,
        tied_embeddings: true,
        biases: false,
        initial_std: 0.3,
    }
}

pub fn network(profile: Profile) -> Network {
    let definition = NetworkDefinition::decoder(&config()).expect("a valid configuration");
    let mut network = Network::build(&definition, profile, NetworkOptions::default()).expect("valid");
    network.initialise(11);
    network
}

pub fn decoder(profile: Profile) -> Decoder {
    Decoder::new(network(profile)).expect("finite")
}

pub fn served(decoder: &Decoder, chat: Option<&str>) -> Arc<Served> {
    let tokenizer = tokenizer();
    let ends = tokenizer.end_of_text().into_iter().collect();
    let chat = chat.map(|template| ChatTemplate {
        template: template.to_owned(),
        begin: String::new(),
        end: "<|endoftext|>".to_owned(),
    });
    Arc::new(Served::new("small".to_owned(), decoder.info(), tokenizer, ends, chat).expect("a good template"))
}

/// An engine with this many positions in its cache.
pub fn engine(profile: Profile, positions: usize, batch_max: usize) -> (Engine, Arc<Served>) {
    let decoder = decoder(profile);
    let served = served(&decoder, None);
    let settings = EngineSettings { threads: 2, cache_positions: positions, batch_max };
    let (engine, _) = Engine::start(decoder, Arc::clone(&served), settings).expect("threads");
    (engine, served)
}
