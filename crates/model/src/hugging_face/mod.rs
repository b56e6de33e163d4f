//! Models as Hugging Face folders: named byte buffers, no file is opened here.
//!
//! Qwen3 and Llama are `Qwen3ForCausalLM` and `LlamaForCausalLM`; GPT-2 is `GPT2LMHeadModel`, whose
//! linear weights are stored transposed. Our fused weights (query, key, value; gate, up) are rows stacked
//! in that order.

mod config;
mod export;
mod import;
mod layout;

pub(crate) use export::tensor_values;
pub use export::{ExportError, export};
pub(crate) use layout::{FileTensor, tensors};

pub use import::{ImportError, Imported, import};
