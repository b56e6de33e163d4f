//! What this engine computes, for another one to compare with.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use zoo_model::{KvCache, Positions, Sampler, generate};

use super::Model;

/// The format of `benches/peers/check_export.py`.
#[derive(Serialize)]
struct Computed<'a> {
    tokens: &'a [u32],
    logits: Vec<&'a [f32]>,
    greedy: Vec<u32>,
    text: &'a str,
    text_ids: Vec<u32>,
}

/// Writes the logits after every token of the prompt, and the `count` most likely tokens that follow.
pub fn write(path: &Path, model: &Model, prompt: &str, count: usize) -> Result<()> {
    let (network, tokens) = (&model.network, model.prompt(prompt));
    let context = network.context();
    if tokens.len() + count > context {
        bail!(
            "--logits: {} tokens of prompt and {count} of text do not fit the context of {context}\nhint: lower --tokens, or give a shorter prompt",
            tokens.len()
        );
    }
    let logits = network.decode(&mut KvCache::new(network), &tokens, Positions::All)?;
    let greedy = generate(network, &tokens, count, &Sampler::greedy(), &mut |_| ControlFlow::Continue(()))?;
    let computed = Computed {
        tokens: &tokens,
        logits: logits.chunks_exact(logits.len() / tokens.len()).collect(),
        greedy,
        text: prompt,
        text_ids: model.tokenizer.encode(prompt),
    };
    std::fs::write(path, serde_json::to_vec(&computed)?)
        .with_context(|| format!("cannot write {}", path.display()))
}
