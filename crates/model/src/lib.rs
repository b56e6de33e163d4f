//! VNodes, networks, presets, tokenizers and model files. Knows no file, clock or network.
//!
//! A [`ModelConfig`] names a shape; [`NetworkDefinition::decoder`] turns it into a graph of
//! [`NodeDefinition`]s; [`Network::build`] makes the [`VNode`]s. A training step is then
//!
//! ```
//! use zoo_model::{Network, NetworkDefinition, NetworkOptions, Optimizer, Profile, preset};
//!
//! let config = preset::by_name("qwen3-tiny").expect("a preset");
//! let definition = NetworkDefinition::decoder(&config)?;
//! let mut network = Network::build(&definition, Profile::F32Exact, NetworkOptions::default())?;
//! network.initialise(1);
//!
//! let inputs: Vec<u32> = (0..config.context as u32).map(|at| at % 7).collect();
//! let targets: Vec<u32> = inputs.iter().map(|token| (token + 1) % 7).collect();
//! let loss = network.forward_backward(&inputs, &targets, inputs.len())?;
//! network.apply(&Optimizer::default(), 1, 1e-3, Some(1.0))?;
//! assert!(network.evaluate(&inputs, &targets)?.mean() < loss.mean());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod architecture;
mod arena;
mod buffer;
mod component;
mod config;
mod decode;
mod decoder_stage;
mod definition;
mod error;
mod execution;
mod generate;
pub mod gguf;
pub mod hugging_face;
mod initialise;
mod likelihood;
mod loss;
mod memory;
mod network;
mod optimizer;
mod pages;
mod parameter;
mod passes;
mod plan;
pub mod preset;
pub mod sampling;
mod stage;
mod state;
mod text_stream;
pub mod tokenizer;
mod vnode;

pub use config::{ConfigError, Family, ModelConfig};
pub use decode::{Decoder, DecoderInfo, Logits, Positions, Step};
pub use decoder_stage::{ComingStage, DecoderStage, StageOutput, decoder_stage_bytes, page_bytes};
pub use definition::{
    CostFunction, Function, InitialValue, MlpActivation, NetworkDefinition, NodeDefinition, NodeKind,
    NormForm, Outline, ParameterDefinition, Role, Scope, TARGETS, TOKENS,
};
pub use error::{DefinitionError, NetworkError};
pub use generate::generate;
pub use likelihood::{Likelihood, most_likely};
pub use loss::LossSum;
pub use memory::{StepMemory, VNodeMemory};
pub use network::{Network, NetworkOptions, UpdateReport};
pub use optimizer::{AdamWSettings, Decay, MuonSettings, NodeOptimizer, Optimizer, SgdSettings};
pub use pages::{PagePool, PageTable, Pages, Sequence};
pub use parameter::Parameter;
pub use passes::{DecodePass, LocalPasses, PassOutcome, PassPart, Passes, RowRequest, TokenReport, Wanted};
pub use sampling::Sampler;
pub use stage::{Stage, StageBatch, StageError, StageWeights};
pub use state::{Remembered, StateError};
pub use text_stream::{StoppedText, TextStream};
pub use tokenizer::Tokenizer;
pub use vnode::VNode;
pub use zoo_kernels::Profile;
