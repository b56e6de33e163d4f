//! The shape of a model, as people write it.

use serde::{Deserialize, Serialize};
use zoo_kernels::Profile;

use crate::definition::NetworkDefinition;
use crate::memory::StepMemory;

/// The family a model belongs to: what its blocks are made of and how its files are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// RMSNorm, rotary positions, grouped queries, QK-norm, SwiGLU.
    Qwen3,
    /// As Qwen3, without QK-norm.
    Llama,
    /// LayerNorm, learned positions, GELU (tanh form).
    Gpt2,
}

/// The shape of a decoder. Sizes count elements; [`ModelConfig::validate`] bounds every one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// What the blocks are made of.
    pub family: Family,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Elements of one position's activation.
    pub width: usize,
    /// Number of blocks (attention and MLP).
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
    /// Inner width of the MLP.
    pub hidden: usize,
    /// Most positions a sequence may have, and the length of a training sequence.
    pub context: usize,
    /// Added to the variance in every norm.
    pub norm_epsilon: f32,
    /// Base of the rotary frequencies; left out (0) for GPT-2, whose positions are learned.
    #[serde(default)]
    pub rope_theta: f64,
    /// Whether the head shares the embedding's table.
    pub tied_embeddings: bool,
    /// Whether linear layers and norms have biases (GPT-2 only; nanoGPT has none).
    #[serde(default)]
    pub biases: bool,
    /// Standard deviation of initial weights.
    pub initial_std: f64,
}

/// A field of a [`ModelConfig`] that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model: {field}: {cause}\nhint: {hint}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// What is wrong with its value.
    pub cause: String,
    /// What to write instead.
    pub hint: String,
}

/// Most parameters a model may have; far above what one machine trains, far below overflow.
const PARAMETERS_MAX: u128 = 1 << 36;

impl ModelConfig {
    /// Checks every field on its own and against the others.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check_ranges()?;
        self.check_heads()?;
        self.check_family()?;
        let parameters = self.count_parameters();
        if parameters > PARAMETERS_MAX {
            let cause = format!("the shape has {parameters} parameters, more than {PARAMETERS_MAX}");
            return Err(refuse("width", cause, "make the model smaller"));
        }
        Ok(())
    }

    /// Number of parameters of a valid configuration; a tied table counts once.
    pub fn parameter_count(&self) -> usize {
        self.count_parameters() as usize
    }

    /// Floating-point operations of one training step per token (forward and backward, two per
    /// multiply-add; causal attention counted at half the square), for estimates of time.
    pub fn training_flops_per_token(&self) -> f64 {
        let table = self.vocab_size * self.width;
        let positions = if self.family == Family::Gpt2 { self.context * self.width } else { 0 };
        let untied = if self.tied_embeddings { 0 } else { table };
        let products = self.parameter_count() - untied - positions;
        let attention = self.layers * self.heads * self.head_dim * self.context;
        6.0 * (products + attention) as f64
    }

    /// The memory of a step of a valid configuration in micro-batches of `tokens` tokens.
    pub fn step_memory(
        &self,
        tokens: usize,
        accumulates: bool,
        profile: Profile,
        recompute: bool,
    ) -> StepMemory {
        let definition = NetworkDefinition::decoder(self).expect("the configuration is valid");
        let memory = definition.step_memory(tokens, accumulates, profile, recompute);
        memory.expect("a valid configuration is a valid network")
    }

    /// Whether queries and keys are normalised head by head.
    pub fn qk_norm(&self) -> bool {
        self.family == Family::Qwen3
    }

    fn check_ranges(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 20),
            ("width", self.width, 1 << 16),
            ("layers", self.layers, 1 << 10),
            ("heads", self.heads, 1 << 10),
            ("kv_heads", self.kv_heads, 1 << 10),
            ("head_dim", self.head_dim, 1 << 10),
            ("hidden", self.hidden, 1 << 20),
            ("context", self.context, 1 << 20),
        ];
        for (field, value, most) in sizes {
            if value == 0 || value > most {
                return Err(refuse(field, format!("{value} is not possible"), format!("write 1 to {most}")));
            }
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon <= 0.1) {
            return Err(refuse(
                "norm_epsilon",
                format!("{} is not possible", self.norm_epsilon),
                "1e-6 is usual",
            ));
        }
        if !(self.initial_std > 0.0 && self.initial_std <= 1.0) {
            return Err(refuse(
                "initial_std",
                format!("{} is not possible", self.initial_std),
                "0.02 is usual",
            ));
        }
        Ok(())
    }

    fn check_heads(&self) -> Result<(), ConfigError> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            let cause = format!("{} does not divide heads ({})", self.kv_heads, self.heads);
            return Err(refuse("kv_heads", cause, "every key head serves the same number of query heads"));
        }
        if !self.head_dim.is_multiple_of(2) {
            let cause = format!("{} is odd", self.head_dim);
            return Err(refuse("head_dim", cause, "use an even number; 32, 64 and 128 are usual"));
        }
        Ok(())
    }

    fn check_family(&self) -> Result<(), ConfigError> {
        if self.family != Family::Gpt2 {
            if self.biases {
                return Err(refuse("biases", "only gpt2 has biases", "write false, or family gpt2"));
            }
            if !(self.rope_theta >= 1.0 && self.rope_theta <= 1e12) {
                return Err(refuse(
                    "rope_theta",
                    format!("{} is not possible", self.rope_theta),
                    "10000 is usual",
                ));
            }
            return Ok(());
        }
        if self.rope_theta != 0.0 {
            return Err(refuse("rope_theta", "gpt2 learns its positions", "leave it out"));
        }
        if self.kv_heads != self.heads {
            return Err(refuse(
                "kv_heads",
                "gpt2 has as many key heads as query heads",
                "write the value of heads",
            ));
        }
        if self.heads * self.head_dim != self.width {
            let cause = format!(
                "heads ({}) times head_dim ({}) is not width ({})",
                self.heads, self.head_dim, self.width
            );
            return Err(refuse("head_dim", cause, "choose heads so that they divide width"));
        }
        Ok(())
    }

    fn count_parameters(&self) -> u128 {
        let big = |value: usize| value as u128;
        let (width, hidden, head_dim) = (big(self.width), big(self.hidden), big(self.head_dim));
        let (queries, keys) = (big(self.heads) * head_dim, big(self.kv_heads) * head_dim);
        let bias = u128::from(self.biases);
        let norm = width * (1 + bias);
        let attention = (queries + 2 * keys) * (width + bias) + queries * width + width * bias;
        let mlp = match self.family {
            Family::Gpt2 => 2 * hidden * width + (hidden + width) * bias,
            Family::Qwen3 | Family::Llama => 3 * hidden * width,
        };
        let gains = if self.qk_norm() { 2 * head_dim } else { 0 };
        let table = big(self.vocab_size) * width;
        let tables = if self.tied_embeddings { table } else { 2 * table };
        let positions = if self.family == Family::Gpt2 { big(self.context) * width } else { 0 };
        tables + positions + big(self.layers) * (2 * norm + attention + gains + mlp) + norm
    }
}

fn refuse(field: &'static str, cause: impl Into<String>, hint: impl Into<String>) -> ConfigError {
    ConfigError { field, cause: cause.into(), hint: hint.into() }
}
