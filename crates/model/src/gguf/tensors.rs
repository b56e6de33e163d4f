//! What llama.cpp calls the tensors of a Hugging Face file, and in which order it wants their rows.

use crate::ModelConfig;
use crate::hugging_face::FileTensor;

/// The parts of names: those of Qwen3 and Llama, then those of GPT-2.
const PARTS: [(&str, &str); 23] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("input_layernorm", "attn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("lm_head", "output"),
    ("transformer.wte", "token_embd"),
    ("transformer.wpe", "position_embd"),
    ("transformer.ln_f", "output_norm"),
    ("attn.c_attn", "attn_qkv"),
    ("attn.c_proj", "attn_output"),
    ("mlp.c_fc", "ffn_up"),
    ("mlp.c_proj", "ffn_down"),
    ("ln_1", "attn_norm"),
    ("ln_2", "ffn_norm"),
];

/// The name in the file.
pub(super) fn name_of(name: &str) -> String {
    let (block, part) =
        match name.strip_prefix("model.layers.").or_else(|| name.strip_prefix("transformer.h.")) {
            Some(rest) => {
                let (layer, part) = rest.split_once('.').expect("a layer has parts");
                (format!("blk.{layer}."), part)
            }
            None => (String::new(), name),
        };
    let (part, kind) = part.rsplit_once('.').expect("a tensor is a weight or a bias");
    let known = PARTS.iter().find(|(stored, _)| *stored == part);
    format!("{block}{}.{kind}", known.expect("every tensor of a layout has a name").1)
}

/// What llama.cpp adds in f32 is stored so: vectors, and learned positions.
pub(super) fn is_kept_exact(tensor: &FileTensor) -> bool {
    tensor.shape.len() == 1 || tensor.name == "transformer.wpe.weight"
}

/// Llama's queries and keys as llama.cpp rotates them there: it turns neighbours, where Hugging Face turns element i
/// of the first half of a head with element i of the second.
pub(super) fn unrotated(config: &ModelConfig, tensor: &FileTensor, values: Vec<f32>) -> Vec<f32> {
    let turns = ["q_proj.weight", "k_proj.weight"].iter().any(|end| tensor.name.ends_with(end));
    if !turns {
        return values;
    }
    let (dim, columns) = (config.head_dim, tensor.shape[1]);
    let mut turned = Vec::with_capacity(values.len());
    for head in values.chunks_exact(dim * columns) {
        for row in 0..dim {
            let from = row % 2 * (dim / 2) + row / 2;
            turned.extend_from_slice(&head[from * columns..][..columns]);
        }
    }
    turned
}
