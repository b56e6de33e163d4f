//! From the shape of a decoder to its graph.

use crate::{
    ConfigError, Family, MlpActivation, ModelConfig, NetworkDefinition, NodeDefinition, NodeKind, NormForm,
    Scope, TARGETS, TOKENS,
};

impl NetworkDefinition {
    /// The decoder that `config` names: embedding, blocks (norm, attention, norm, MLP), norm, head.
    pub fn decoder(config: &ModelConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut decoder = Decoder { config, nodes: Vec::new() };
        let mut stream = decoder.embed();
        for layer in 0..config.layers {
            let normed = decoder.norm(&format!("block.{layer}.attention_norm"), &stream);
            stream = decoder.attention(layer, normed, stream);
            let normed = decoder.norm(&format!("block.{layer}.mlp_norm"), &stream);
            stream = decoder.mlp(layer, normed, stream);
        }
        let normed = decoder.norm("final_norm", &stream);
        decoder.head(normed);
        Ok(Self { context: config.context, nodes: decoder.nodes })
    }
}

struct Decoder<'a> {
    config: &'a ModelConfig,
    nodes: Vec<NodeDefinition>,
}

impl Decoder<'_> {
    fn embed(&mut self) -> String {
        let (vocab_size, width, context) = (self.config.vocab_size, self.config.width, self.config.context);
        let embedded = self.node("embedding", NodeKind::Embedding { vocab_size, width }, [TOKENS.into()]);
        match self.config.family {
            Family::Gpt2 => {
                self.node("position_embedding", NodeKind::PositionEmbedding { context, width }, [embedded])
            }
            Family::Qwen3 | Family::Llama => embedded,
        }
    }

    fn norm(&mut self, id: &str, input: &str) -> String {
        let ModelConfig { family, width, norm_epsilon: epsilon, biases: bias, .. } = *self.config;
        let form = if family == Family::Gpt2 { NormForm::Layer } else { NormForm::Rms };
        self.node(id, NodeKind::Norm { form, width, epsilon, bias }, [input.into()])
    }

    fn attention(&mut self, layer: usize, normed: String, residual: String) -> String {
        let ModelConfig { family, width, heads, kv_heads, head_dim, biases: bias, .. } = *self.config;
        let rope_theta = (family != Family::Gpt2).then_some(self.config.rope_theta);
        let qk_norm_epsilon = self.config.qk_norm().then_some(self.config.norm_epsilon);
        let kind =
            NodeKind::Attention { width, heads, kv_heads, head_dim, rope_theta, qk_norm_epsilon, bias };
        self.node(&format!("block.{layer}.attention"), kind, [normed, residual])
    }

    fn mlp(&mut self, layer: usize, normed: String, residual: String) -> String {
        let ModelConfig { family, width, hidden, biases: bias, .. } = *self.config;
        let activation = if family == Family::Gpt2 { MlpActivation::Gelu } else { MlpActivation::Swiglu };
        let kind = NodeKind::Mlp { width, hidden, activation, bias };
        self.node(&format!("block.{layer}.mlp"), kind, [normed, residual])
    }

    fn head(&mut self, normed: String) {
        let ModelConfig { vocab_size, width, tied_embeddings, .. } = *self.config;
        let tied_to = tied_embeddings.then(|| "embedding".to_owned());
        self.node("head", NodeKind::CrossEntropy { vocab_size, width, tied_to }, [normed, TARGETS.into()]);
    }

    fn node<const SLOTS: usize>(&mut self, id: &str, kind: NodeKind, inputs: [String; SLOTS]) -> String {
        let shares_table = matches!(kind, NodeKind::Embedding { .. } | NodeKind::CrossEntropy { .. });
        let colocate = self.config.tied_embeddings && shares_table;
        self.nodes.push(NodeDefinition {
            id: id.to_owned(),
            kind,
            inputs: inputs.to_vec(),
            initial_std: self.config.initial_std,
            output_initial_std: self.output_initial_std(),
            scope: Scope::Shared,
            colocate_group: colocate.then(|| "embedding".to_owned()),
            optimizer: None,
        });
        id.to_owned()
    }

    /// GPT-2 divides the weights that write to the residual stream by the root of the number of such writes.
    fn output_initial_std(&self) -> f64 {
        match self.config.family {
            Family::Gpt2 => self.config.initial_std / ((2 * self.config.layers) as f64).sqrt(),
            Family::Qwen3 | Family::Llama => self.config.initial_std,
        }
    }
}
