//! Models as GGUF files, version 3, as llama.cpp reads them: metadata, the tokenizer, and tensors in f32 or f16.
//!
//! A file is a list of keys with values, a list of tensors with their shapes and offsets, and their values, each
//! aligned. The shapes name the fastest dimension first.

mod tensors;
mod vocabulary;
mod write;

use std::io::{self, Write};

use crate::hugging_face::{FileTensor, tensor_values, tensors as stored_tensors};
use crate::{Family, ModelConfig, Network, NetworkDefinition, Tokenizer};

use tensors::{is_kept_exact, name_of, unrotated};
use vocabulary::Vocabulary;
use write::{Value, Writer};

/// How the weights of matrices are written; norms, biases and learned positions are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    F32,
    /// Rounded to the nearest f16, ties to even.
    F16,
}

/// Why a model has no GGUF form.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The network is not the decoder of the configuration.
    #[error(
        "gguf: the network is not the decoder that its configuration names\nhint: only networks of a model configuration can be exported"
    )]
    OtherNetwork,
    /// llama.cpp cannot cut text as this tokenizer does.
    #[error(
        "gguf: {0}\nhint: GPT-2's, Llama 3's and Qwen's rules for cutting text into words have names in llama.cpp; use such a tokenizer"
    )]
    Tokenizer(String),
    /// A weight does not fit the precision.
    #[error("gguf: a value of '{tensor}' is too large for f16\nhint: export in f32")]
    TooLarge {
        /// The tensor's name in the file.
        tensor: String,
    },
    /// The file cannot be written.
    #[error("gguf: cannot write: {0}")]
    Io(#[from] io::Error),
}

/// Tensors start at multiples of this.
const ALIGNMENT: usize = 32;

/// Writes a network, its tokenizer and the name `name` as a GGUF file.
///
/// # Errors
/// When llama.cpp could not read the result, or `out` fails.
pub fn export(
    network: &Network,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    name: &str,
    precision: Precision,
    out: impl Write,
) -> Result<(), GgufError> {
    if NetworkDefinition::decoder(config).as_ref() != Ok(network.definition()) {
        return Err(GgufError::OtherNetwork);
    }
    let vocabulary = Vocabulary::of(tokenizer, config.vocab_size).map_err(GgufError::Tokenizer)?;
    let tensors = stored_tensors(config);
    let mut metadata = metadata(config, name, precision);
    metadata.extend(vocabulary.metadata());
    let mut writer = Writer::new(out);
    writer.header(tensors.len(), &metadata)?;
    let mut offset = 0;
    for tensor in &tensors {
        let exact = is_exact(tensor, precision);
        // Ours are stored as [rows, columns] of `y = W x`; GPT-2's files have them the other way round.
        let mut shape = tensor.shape.clone();
        if !tensor.transposed {
            shape.reverse();
        }
        writer.tensor(&name_of(&tensor.name), &shape, !exact, offset)?;
        offset += (tensor.len() * if exact { 4 } else { 2 }).next_multiple_of(ALIGNMENT);
    }
    writer.align(ALIGNMENT)?;
    for tensor in &tensors {
        write_values(&mut writer, network, config, tensor, is_exact(tensor, precision))?;
        writer.align(ALIGNMENT)?;
    }
    writer.finish()?;
    Ok(())
}

fn is_exact(tensor: &FileTensor, precision: Precision) -> bool {
    precision == Precision::F32 || is_kept_exact(tensor)
}

fn write_values(
    writer: &mut Writer<impl Write>,
    network: &Network,
    config: &ModelConfig,
    tensor: &FileTensor,
    exact: bool,
) -> Result<(), GgufError> {
    let mut values = tensor_values(network, tensor);
    if config.family == Family::Llama {
        values = unrotated(config, tensor, values);
    }
    if exact {
        writer.exact(&values)?;
    } else if !writer.rounded(&values)? {
        return Err(GgufError::TooLarge { tensor: name_of(&tensor.name) });
    }
    Ok(())
}

fn metadata(config: &ModelConfig, name: &str, precision: Precision) -> Vec<(String, Value)> {
    let family = match config.family {
        Family::Qwen3 => "qwen3",
        Family::Llama => "llama",
        Family::Gpt2 => "gpt2",
    };
    let mut metadata = vec![
        ("general.architecture".to_owned(), Value::text(family)),
        ("general.name".to_owned(), Value::text(name)),
        ("general.alignment".to_owned(), Value::U32(ALIGNMENT as u32)),
        ("general.file_type".to_owned(), Value::U32(u32::from(precision == Precision::F16))),
    ];
    let mut add = |key: &str, value: Value| metadata.push((format!("{family}.{key}"), value));
    let size = |value: usize| Value::U32(value as u32);
    add("vocab_size", size(config.vocab_size));
    add("context_length", size(config.context));
    add("embedding_length", size(config.width));
    add("block_count", size(config.layers));
    add("feed_forward_length", size(config.hidden));
    add("attention.head_count", size(config.heads));
    add("attention.head_count_kv", size(config.kv_heads));
    let epsilon = Value::F32(config.norm_epsilon);
    if config.family == Family::Gpt2 {
        add("attention.layer_norm_epsilon", epsilon);
    } else {
        add("attention.layer_norm_rms_epsilon", epsilon);
        add("attention.key_length", size(config.head_dim));
        add("attention.value_length", size(config.head_dim));
        add("rope.dimension_count", size(config.head_dim));
        add("rope.freq_base", Value::F32(config.rope_theta as f32));
    }
    metadata
}
