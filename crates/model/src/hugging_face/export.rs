//! A network as the files of a Hugging Face folder.

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

use super::config;
use super::layout::{FileTensor, Source, tensors, transpose};
use crate::state::write_values;
use crate::{ModelConfig, Network, NetworkDefinition, Tokenizer};

/// Why a network cannot be exported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The network is not the decoder of the configuration.
    #[error(
        "export: the network is not the decoder that its configuration names\nhint: only networks of a model configuration have a Hugging Face form"
    )]
    OtherNetwork,
    /// The tokenizer has tokens that the model does not.
    #[error(
        "export: the tokenizer has {tokenizer} tokens, the model {model}\nhint: export with the tokenizer the model was trained with"
    )]
    OtherTokenizer {
        /// Tokens of the tokenizer.
        tokenizer: usize,
        /// Tokens of the model.
        model: usize,
    },
    /// The weights do not form a safetensors file.
    #[error("export: {0}")]
    SafeTensors(String),
}

/// The files, by name: `config.json`, `generation_config.json`, `model.safetensors`, `tokenizer.json`,
/// `tokenizer_config.json`.
pub fn export(
    network: &Network,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
) -> Result<Vec<(String, Vec<u8>)>, ExportError> {
    if NetworkDefinition::decoder(config).as_ref() != Ok(network.definition()) {
        return Err(ExportError::OtherNetwork);
    }
    if tokenizer.vocab_size() > config.vocab_size {
        let (tokenizer, model) = (tokenizer.vocab_size(), config.vocab_size);
        return Err(ExportError::OtherTokenizer { tokenizer, model });
    }
    let end_of_text = tokenizer.end_of_text();
    let end_of_text_name = end_of_text.map(|_| crate::tokenizer::END_OF_TEXT);
    let generation = json!({ "bos_token_id": end_of_text, "eos_token_id": end_of_text });
    let tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.context,
        "bos_token": end_of_text_name,
        "eos_token": end_of_text_name,
        "clean_up_tokenization_spaces": false,
    });
    let text = |json: serde_json::Value| format!("{json:#}\n").into_bytes();
    let files = [
        ("config.json", text(config::to_json(config, network.profile(), end_of_text))),
        ("generation_config.json", text(generation)),
        ("model.safetensors", safetensors_file(network, config)?),
        ("tokenizer.json", tokenizer.to_json()),
        ("tokenizer_config.json", text(tokenizer_config)),
    ];
    Ok(files.map(|(name, bytes)| (name.to_owned(), bytes)).to_vec())
}

fn safetensors_file(network: &Network, config: &ModelConfig) -> Result<Vec<u8>, ExportError> {
    let refuse = |error: safetensors::SafeTensorError| ExportError::SafeTensors(error.to_string());
    let tensors = tensors(config);
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|tensor| tensor_bytes(network, tensor)).collect();
    let mut views = Vec::with_capacity(tensors.len());
    for (tensor, bytes) in tensors.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).map_err(refuse)?;
        views.push((tensor.name.as_str(), view));
    }
    // One entry: a map with more would be written in an order that differs from run to run.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize(views, Some(metadata)).map_err(refuse)
}

fn tensor_bytes(network: &Network, tensor: &FileTensor) -> Vec<u8> {
    let mut bytes = Vec::new();
    match &tensor.source {
        Source::NoBias => bytes.resize(4 * tensor.len(), 0),
        Source::Parameter { vnode, parameter, elements } => {
            let values = &values(network, vnode, parameter)[elements.clone()];
            match tensor.transposed {
                true => write_values(&mut bytes, &transpose(values, tensor.shape[1], tensor.shape[0])),
                false => write_values(&mut bytes, values),
            }
        }
    }
    bytes
}

/// A tensor's values as our network has them: `[outputs, inputs]`, also where the file has them transposed.
pub(crate) fn tensor_values(network: &Network, tensor: &FileTensor) -> Vec<f32> {
    match &tensor.source {
        Source::NoBias => vec![0.0; tensor.len()],
        Source::Parameter { vnode, parameter, elements } => {
            values(network, vnode, parameter)[elements.clone()].to_vec()
        }
    }
}

fn values<'a>(network: &'a Network, vnode: &str, parameter: &str) -> &'a [f32] {
    let vnode = network.vnodes().iter().find(|it| it.id() == vnode).expect("a decoder has these VNodes");
    let parameter = vnode.parameters().iter().find(|it| it.name() == parameter);
    &parameter.expect("a decoder's VNode has these parameters").value
}
