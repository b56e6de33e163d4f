//! The files of a Hugging Face folder as a network.

use std::collections::BTreeMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::config::{self, Reader};
use super::layout::{FileTensor, Source, tensors, transpose};
use crate::{ModelConfig, Network, NetworkDefinition, NetworkOptions, Profile, Tokenizer};

/// What a folder holds.
pub struct Imported {
    /// The shape.
    pub config: ModelConfig,
    /// The network with its weights.
    pub network: Network,
    /// The tokenizer, where there is a `tokenizer.json`.
    pub tokenizer: Option<Tokenizer>,
}

/// Why files are not a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// A file that must be there is not.
    #[error("import: there is no {0}\nhint: give the whole folder of a Hugging Face model")]
    Missing(&'static str),
    /// A file cannot be used.
    #[error(
        "import: {file}: {cause}\nhint: fetch the file again if it may be damaged; supported are qwen3, llama and gpt2 in f32, f16 or bf16"
    )]
    File {
        /// Its name.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A tensor is missing, or is not what the configuration says.
    #[error(
        "import: tensor '{tensor}': {cause}\nhint: config.json and the weights must be of the same model"
    )]
    Tensor {
        /// Its name in the file.
        tensor: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// A model from the files of its folder, by name. Reads `config.json`, every `*.safetensors`, and
/// `tokenizer.json` where it exists; every shape is checked before memory is taken for the network.
pub fn import(files: &[(String, Vec<u8>)], options: NetworkOptions) -> Result<Imported, ImportError> {
    let (config, profile) = read_config(files)?;
    let tokenizer = match find(files, "tokenizer.json") {
        Some(bytes) => Some(Tokenizer::from_json(bytes).map_err(|error| {
            let text = error.to_string();
            let cause = text.lines().next().unwrap_or_default().to_owned();
            file_error("tokenizer.json", cause)
        })?),
        None => None,
    };
    let stored = Stored::read(files)?;
    let layout = tensors(&config);
    layout.iter().try_for_each(|tensor| stored.check(tensor))?;
    stored.check_nothing_else(&layout, &config)?;

    let refuse = |error: String| file_error("config.json", error);
    let definition = NetworkDefinition::decoder(&config).map_err(|error| refuse(config::cause(&error)))?;
    let mut network =
        Network::build(&definition, profile, options).map_err(|error| refuse(error.to_string()))?;
    layout.iter().try_for_each(|tensor| stored.load(tensor, &mut network))?;
    Ok(Imported { config, network, tokenizer })
}

fn read_config(files: &[(String, Vec<u8>)]) -> Result<(ModelConfig, Profile), ImportError> {
    let refuse = |cause: String| file_error("config.json", cause);
    let bytes = find(files, "config.json").ok_or(ImportError::Missing("config.json"))?;
    let json = serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
    let reader = Reader::new(&json).map_err(refuse)?;
    let (config, profile) = (reader.config().map_err(refuse)?, reader.profile().map_err(refuse)?);
    config.validate().map_err(|error| refuse(config::cause(&error)))?;
    Ok((config, profile))
}

fn find<'a>(files: &'a [(String, Vec<u8>)], wanted: &str) -> Option<&'a [u8]> {
    files.iter().find(|(name, _)| name == wanted).map(|(_, bytes)| &bytes[..])
}

fn file_error(file: &str, cause: String) -> ImportError {
    ImportError::File { file: file.to_owned(), cause }
}

fn tensor_error(tensor: &str, cause: impl Into<String>) -> ImportError {
    ImportError::Tensor { tensor: tensor.to_owned(), cause: cause.into() }
}

/// The tensors of all weight files, by name; GPT-2's are also known without their "transformer.".
struct Stored<'a>(BTreeMap<String, TensorView<'a>>);

impl<'a> Stored<'a> {
    fn read(files: &'a [(String, Vec<u8>)]) -> Result<Self, ImportError> {
        let mut all = BTreeMap::new();
        for (file, bytes) in files.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
            let tensors =
                SafeTensors::deserialize(bytes).map_err(|error| file_error(file, error.to_string()))?;
            for (name, view) in tensors.tensors() {
                if all.insert(name.clone(), view).is_some() {
                    return Err(tensor_error(&name, "it is in two files"));
                }
            }
        }
        if all.is_empty() { Err(ImportError::Missing("model.safetensors")) } else { Ok(Self(all)) }
    }

    fn find(&self, tensor: &FileTensor) -> Option<&TensorView<'a>> {
        let short = || self.0.get(tensor.name.strip_prefix("transformer.")?);
        self.0.get(&tensor.name).or_else(short)
    }

    fn check(&self, tensor: &FileTensor) -> Result<(), ImportError> {
        let Some(view) = self.find(tensor) else {
            let absent = matches!(tensor.source, Source::NoBias);
            return if absent { Ok(()) } else { Err(tensor_error(&tensor.name, "it is missing")) };
        };
        if view.shape() != tensor.shape {
            let cause = format!("its shape is {:?}, not {:?}", view.shape(), tensor.shape);
            return Err(tensor_error(&tensor.name, cause));
        }
        if !matches!(view.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(tensor_error(
                &tensor.name,
                format!("its type is {:?}, not F32, F16 or BF16", view.dtype()),
            ));
        }
        Ok(())
    }

    /// Refuses weights that we would silently leave out.
    fn check_nothing_else(&self, layout: &[FileTensor], config: &ModelConfig) -> Result<(), ImportError> {
        let known = |name: &str| {
            let constant = [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"];
            let copy_of_the_table = config.tied_embeddings && name == "lm_head.weight";
            let listed =
                |it: &FileTensor| it.name == name || it.name.strip_prefix("transformer.") == Some(name);
            copy_of_the_table || constant.iter().any(|end| name.ends_with(end)) || layout.iter().any(listed)
        };
        match self.0.keys().find(|name| !known(name)) {
            Some(name) => Err(tensor_error(name, "the model has no such tensor")),
            None => Ok(()),
        }
    }

    fn load(&self, tensor: &FileTensor, network: &mut Network) -> Result<(), ImportError> {
        let Some(view) = self.find(tensor) else { return Ok(()) };
        let mut values = widen(view);
        let Source::Parameter { vnode, parameter, elements } = &tensor.source else {
            let zero = values.iter().all(|value| *value == 0.0);
            let cause = "config.json says that there are no biases, and this one is not zero";
            return if zero { Ok(()) } else { Err(tensor_error(&tensor.name, cause)) };
        };
        if tensor.transposed {
            values = transpose(&values, tensor.shape[0], tensor.shape[1]);
        }
        let vnode = network.vnodes_mut().iter_mut().find(|it| it.id() == vnode);
        let parameters = vnode.expect("a decoder has these VNodes").parameters_mut();
        let parameter = parameters.iter_mut().find(|it| it.name() == *parameter);
        let parameter = parameter.expect("a decoder's VNode has these parameters");
        parameter.value[elements.clone()].copy_from_slice(&values);
        Ok(())
    }
}

/// The values of a tensor of a checked type, exactly.
fn widen(view: &TensorView) -> Vec<f32> {
    let halves = || view.data().as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes));
    match view.dtype() {
        Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::BF16 => halves().map(|half| f32::from_bits(u32::from(half) << 16)).collect(),
        _ => halves().map(widen_f16).collect(),
    }
}

/// IEEE 754 binary16 to binary32.
fn widen_f16(half: u16) -> f32 {
    let sign = if half >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(half >> 10 & 0x1f), f32::from(half & 0x3ff));
    match (exponent, fraction) {
        (0, _) => sign * fraction / (1 << 24) as f32,
        (31, 0.0) => sign * f32::INFINITY,
        (31, _) => f32::NAN,
        _ => sign * (1024.0 + fraction) * f32::from_bits(((exponent - 25 + 127) as u32) << 23),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_widens_exactly() {
        let cases = [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.9604645e-8),
            (0x03ff, 6.097555e-5),
            (0x0400, 6.1035156e-5),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
        ];
        for (half, expected) in cases {
            assert_eq!(widen_f16(half).to_bits(), f32::to_bits(expected), "{half:#06x}");
        }
        assert!(widen_f16(0x7e00).is_nan());
    }
}
