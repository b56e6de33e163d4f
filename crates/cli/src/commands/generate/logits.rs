//! What this engine computes, for another one to compare with.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use zoo_model::{Decoder, PagePool, Positions, Sampler, Sequence, Step, Tokenizer, generate};

/// The format of `benches/peers/check_export.py`.
#[derive(Serialize)]
struct Computed<'a> {
    tokens: &'a [u32],
    logits: Vec<Vec<f32>>,
    greedy: Vec<u32>,
    text: &'a str,
    text_ids: Vec<u32>,
}

/// Writes the logits after every token of the prompt, and the `count` most likely tokens that follow.
pub fn write(
    path: &Path,
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    prompt: &str,
    count: usize,
) -> Result<()> {
    let (tokens, context) = (zoo_training::prompt(tokenizer, prompt), decoder.context());
    if tokens.len() + count > context {
        bail!(
            "--logits: {} tokens of prompt and {count} of text do not fit the context of {context}\nhint: lower --tokens, or give a shorter prompt",
            tokens.len()
        );
    }
    let (mut pool, mut sequence) = (PagePool::new(decoder, context), Sequence::default());
    let step = Step { sequence: &mut sequence, tokens: &tokens, positions: Positions::All };
    let logits = decoder.decode(&mut pool, &mut [step])?;
    let logits = (0..logits.len()).map(|at| Ok(logits.row(at)?.to_vec())).collect::<Result<_>>()?;
    pool.table.release(&mut sequence);
    let go_on = &mut |_| ControlFlow::Continue(());
    let greedy = generate(decoder, &mut pool, &tokens, count, &Sampler::greedy(), go_on)?;
    let computed =
        Computed { tokens: &tokens, logits, greedy, text: prompt, text_ids: tokenizer.encode(prompt) };
    std::fs::write(path, serde_json::to_vec(&computed)?)
        .with_context(|| format!("cannot write {}", path.display()))
}
