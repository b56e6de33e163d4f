//! Which tensor of a file holds which rows of which parameter.

use std::ops::Range;

use crate::{Family, ModelConfig};

/// One tensor of a `model.safetensors`.
pub(crate) struct FileTensor {
    /// Name in the file.
    pub name: String,
    /// Shape in the file.
    pub shape: Vec<usize>,
    /// Whose values it holds.
    pub source: Source,
    /// Whether the file stores `[in, out]` (GPT-2's Conv1D).
    pub transposed: bool,
}

/// Where a tensor's values are in a network.
pub(crate) enum Source {
    /// These elements of a VNode's parameter.
    Parameter { vnode: String, parameter: &'static str, elements: Range<usize> },
    /// A bias that our network does not have: zeros.
    NoBias,
}

impl FileTensor {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Every tensor of the file of such a model.
pub(crate) fn tensors(config: &ModelConfig) -> Vec<FileTensor> {
    let mut layout = Layout { config, tensors: Vec::new() };
    match config.family {
        Family::Qwen3 | Family::Llama => layout.llama(),
        Family::Gpt2 => layout.gpt2(),
    }
    if !config.tied_embeddings {
        layout.matrix("lm_head", "head", "weight", 0..config.vocab_size, config.width);
    }
    layout.tensors
}

struct Layout<'a> {
    config: &'a ModelConfig,
    tensors: Vec<FileTensor>,
}

impl Layout<'_> {
    fn llama(&mut self) {
        let ModelConfig { vocab_size, width, hidden, heads, kv_heads, head_dim, .. } = *self.config;
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        self.matrix("model.embed_tokens", "embedding", "table", 0..vocab_size, width);
        for layer in 0..self.config.layers {
            let file = |name: &str| format!("model.layers.{layer}.{name}");
            let vnode = |name: &str| format!("block.{layer}.{name}");
            self.vector(&file("input_layernorm.weight"), &vnode("attention_norm"), "gain", width);
            let attention = vnode("attention");
            self.matrix(&file("self_attn.q_proj"), &attention, "qkv", 0..queries, width);
            self.matrix(&file("self_attn.k_proj"), &attention, "qkv", queries..queries + keys, width);
            self.matrix(
                &file("self_attn.v_proj"),
                &attention,
                "qkv",
                queries + keys..queries + 2 * keys,
                width,
            );
            if self.config.qk_norm() {
                self.vector(&file("self_attn.q_norm.weight"), &attention, "query_gain", head_dim);
                self.vector(&file("self_attn.k_norm.weight"), &attention, "key_gain", head_dim);
            }
            self.matrix(&file("self_attn.o_proj"), &attention, "output", 0..width, queries);
            self.vector(&file("post_attention_layernorm.weight"), &vnode("mlp_norm"), "gain", width);
            let mlp = vnode("mlp");
            self.matrix(&file("mlp.gate_proj"), &mlp, "gate_up", 0..hidden, width);
            self.matrix(&file("mlp.up_proj"), &mlp, "gate_up", hidden..2 * hidden, width);
            self.matrix(&file("mlp.down_proj"), &mlp, "down", 0..width, hidden);
        }
        self.vector("model.norm.weight", "final_norm", "gain", width);
    }

    fn gpt2(&mut self) {
        let ModelConfig { vocab_size, width, hidden, context, .. } = *self.config;
        self.matrix("transformer.wte", "embedding", "table", 0..vocab_size, width);
        self.matrix("transformer.wpe", "position_embedding", "table", 0..context, width);
        for layer in 0..self.config.layers {
            let file = |name: &str| format!("transformer.h.{layer}.{name}");
            let vnode = |name: &str| format!("block.{layer}.{name}");
            self.layer_norm(&file("ln_1"), &vnode("attention_norm"));
            let attention = vnode("attention");
            self.conv1d(&file("attn.c_attn"), &attention, ["qkv", "qkv_bias"], 3 * width, width);
            self.conv1d(&file("attn.c_proj"), &attention, ["output", "output_bias"], width, width);
            self.layer_norm(&file("ln_2"), &vnode("mlp_norm"));
            let mlp = vnode("mlp");
            self.conv1d(&file("mlp.c_fc"), &mlp, ["up", "up_bias"], hidden, width);
            self.conv1d(&file("mlp.c_proj"), &mlp, ["down", "down_bias"], width, hidden);
        }
        self.layer_norm("transformer.ln_f", "final_norm");
    }

    fn layer_norm(&mut self, file: &str, vnode: &str) {
        let width = self.config.width;
        self.vector(&format!("{file}.weight"), vnode, "gain", width);
        self.bias(file, vnode, "bias", width);
    }

    fn conv1d(
        &mut self,
        file: &str,
        vnode: &str,
        [weight, bias]: [&'static str; 2],
        outputs: usize,
        inputs: usize,
    ) {
        self.matrix(file, vnode, weight, 0..outputs, inputs);
        let tensor = self.tensors.last_mut().expect("just added");
        tensor.shape.reverse();
        tensor.transposed = true;
        self.bias(file, vnode, bias, outputs);
    }

    /// Rows `rows` of a parameter of `columns` columns.
    fn matrix(
        &mut self,
        file: &str,
        vnode: &str,
        parameter: &'static str,
        rows: Range<usize>,
        columns: usize,
    ) {
        let elements = rows.start * columns..rows.end * columns;
        self.add(format!("{file}.weight"), vec![rows.len(), columns], vnode, parameter, elements);
    }

    fn vector(&mut self, name: &str, vnode: &str, parameter: &'static str, length: usize) {
        self.add(name.to_owned(), vec![length], vnode, parameter, 0..length);
    }

    fn bias(&mut self, file: &str, vnode: &str, parameter: &'static str, length: usize) {
        self.vector(&format!("{file}.bias"), vnode, parameter, length);
        if !self.config.biases {
            self.tensors.last_mut().expect("just added").source = Source::NoBias;
        }
    }

    fn add(
        &mut self,
        name: String,
        shape: Vec<usize>,
        vnode: &str,
        parameter: &'static str,
        elements: Range<usize>,
    ) {
        let source = Source::Parameter { vnode: vnode.to_owned(), parameter, elements };
        self.tensors.push(FileTensor { name, shape, source, transposed: false });
    }
}

/// The transpose of a `rows` by `columns` matrix.
pub(super) fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut transposed = vec![0.0; values.len()];
    for (row, values) in values.chunks_exact(columns).enumerate() {
        for (column, value) in values.iter().enumerate() {
            transposed[column * rows + row] = *value;
        }
    }
    transposed
}
