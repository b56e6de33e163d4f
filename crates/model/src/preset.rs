//! Shapes with names.

use crate::{Family, ModelConfig};

/// Every preset's name, in the order to show them.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|preset| preset.name)
}

/// The preset of that name.
pub fn by_name(name: &str) -> Option<ModelConfig> {
    PRESETS.iter().find(|preset| preset.name == name).map(Preset::config)
}

/// One line of the table below: what differs between presets; the family decides the rest.
struct Preset {
    name: &'static str,
    family: Family,
    vocab_size: usize,
    width: usize,
    layers: usize,
    /// Query heads, key heads, elements of a head.
    heads: (usize, usize, usize),
    hidden: usize,
    context: usize,
    norm_epsilon: f32,
    rope_theta: f64,
    tied_embeddings: bool,
    biases: bool,
}

const QWEN3: Preset = Preset {
    name: "qwen3",
    family: Family::Qwen3,
    vocab_size: 2048,
    width: 0,
    layers: 0,
    heads: (0, 0, 0),
    hidden: 0,
    context: 256,
    norm_epsilon: 1e-6,
    rope_theta: 10_000.0,
    tied_embeddings: true,
    biases: false,
};
const LLAMA: Preset = Preset { name: "llama", family: Family::Llama, norm_epsilon: 1e-5, ..QWEN3 };
const GPT2: Preset =
    Preset { name: "gpt2", family: Family::Gpt2, norm_epsilon: 1e-5, rope_theta: 0.0, biases: true, ..QWEN3 };
/// The architecture of the comparison with PyTorch (`benches/peers`): untied, full multi-head attention.
const BENCH: Preset = Preset { name: "bench", vocab_size: 256, tied_embeddings: false, ..LLAMA };

#[rustfmt::skip]
const PRESETS: &[Preset] = &[
    // For tests and examples: trains in milliseconds.
    Preset { name: "qwen3-tiny", vocab_size: 256, width: 32, layers: 2, heads: (4, 2, 16), hidden: 64, context: 64, ..QWEN3 },
    // The demo: one sequence is one 256-token chunk, so every micro-batch gives the same bits.
    Preset { name: "qwen3-1m", width: 128, layers: 4, heads: (4, 2, 32), hidden: 384, ..QWEN3 },
    Preset { name: "qwen3-10m", vocab_size: 4096, width: 384, layers: 6, heads: (6, 2, 64), hidden: 1024, context: 512, ..QWEN3 },
    Preset { name: "qwen3-100m", vocab_size: 16_384, width: 768, layers: 12, heads: (12, 4, 64), hidden: 2304, context: 1024, ..QWEN3 },
    Preset { name: "qwen3-0.6b", vocab_size: 151_936, width: 1024, layers: 28, heads: (16, 8, 128), hidden: 3072, context: 40_960, rope_theta: 1e6, ..QWEN3 },
    Preset { name: "llama-1m", width: 128, layers: 4, heads: (4, 2, 32), hidden: 384, ..LLAMA },
    Preset { name: "llama-10m", vocab_size: 4096, width: 384, layers: 6, heads: (6, 2, 64), hidden: 1024, context: 512, ..LLAMA },
    Preset { name: "llama-100m", vocab_size: 16_384, width: 768, layers: 12, heads: (12, 4, 64), hidden: 2304, context: 1024, ..LLAMA },
    Preset { name: "gpt2-1m", width: 128, layers: 4, heads: (4, 4, 32), hidden: 512, ..GPT2 },
    Preset { name: "gpt2-10m", vocab_size: 4096, width: 384, layers: 6, heads: (6, 6, 64), hidden: 1536, context: 512, ..GPT2 },
    Preset { name: "gpt2-124m", vocab_size: 50_257, width: 768, layers: 12, heads: (12, 12, 64), hidden: 3072, context: 1024, ..GPT2 },
    // nanoGPT's config/train_shakespeare_char.py with the flags its README gives for a CPU. 65 characters
    // occur in that text; as bytes they are ids of their own, so the byte tokenizer is its character set.
    Preset { name: "nanogpt-shakespeare-char-cpu", vocab_size: 256, width: 128, layers: 4, heads: (4, 4, 32), hidden: 512, context: 64, biases: false, ..GPT2 },
    Preset { name: "bench-s", width: 128, layers: 4, heads: (4, 4, 32), hidden: 352, context: 64, ..BENCH },
    Preset { name: "bench-m", width: 384, layers: 6, heads: (6, 6, 64), hidden: 1024, context: 256, ..BENCH },
    Preset { name: "bench-l", vocab_size: 8192, width: 768, layers: 12, heads: (12, 12, 64), hidden: 2048, context: 512, ..BENCH },
];

impl Preset {
    fn config(&self) -> ModelConfig {
        let (heads, kv_heads, head_dim) = self.heads;
        ModelConfig {
            family: self.family,
            vocab_size: self.vocab_size,
            width: self.width,
            layers: self.layers,
            heads,
            kv_heads,
            head_dim,
            hidden: self.hidden,
            context: self.context,
            norm_epsilon: self.norm_epsilon,
            rope_theta: self.rope_theta,
            tied_embeddings: self.tied_embeddings,
            biases: self.biases,
            initial_std: 0.02,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NetworkDefinition;

    #[test]
    fn every_preset_is_valid_and_counts_its_parameters() {
        for name in names() {
            let config = by_name(name).expect("listed");
            config.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
            let definition = NetworkDefinition::decoder(&config).expect(name);
            assert_eq!(definition.parameter_count(), config.parameter_count(), "{name}");
        }
        assert_eq!(by_name("no such preset"), None);
    }

    #[test]
    fn published_shapes_have_the_published_size() {
        let count = |name| by_name(name).expect("listed").parameter_count();
        assert_eq!(count("gpt2-124m"), 124_439_808);
        assert_eq!(count("qwen3-0.6b"), 596_049_920);
        assert!((1_000_000..1_150_000).contains(&count("qwen3-1m")), "{}", count("qwen3-1m"));
    }
}
