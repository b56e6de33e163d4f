//! Text, token by token.

use std::ops::ControlFlow;

use crate::decode::{Decoder, Positions, Step};
use crate::error::NetworkError;
use crate::pages::PagePool;
use crate::sampling::Sampler;

/// Most tokens of a prompt that pass through the network together: activations stay small.
const PIECE: usize = 256;

/// Continues `prompt` by up to `count` tokens, each given to `on_token` as it is made; stops when that
/// breaks. When the context is full, the last half of the text starts a new one. The pool has room for a whole
/// context; what it remembers of an earlier text with the same start is not computed again.
pub fn generate(
    decoder: &Decoder,
    pool: &mut PagePool,
    prompt: &[u32],
    count: usize,
    sampler: &Sampler,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Vec<u32>, NetworkError> {
    let context = decoder.context();
    let recent = |text: &[u32]| text[text.len().saturating_sub((context / 2).max(1))..].to_vec();
    let mut text = prompt.to_vec();
    let mut new = if prompt.len() < context { prompt.to_vec() } else { recent(prompt) };
    let mut sequence = pool.table.open(&new);
    new.drain(..sequence.positions());
    let mut write = || {
        for _ in 0..count {
            if sequence.positions() + new.len() > context {
                pool.table.release(&mut sequence);
                new = recent(&text);
            }
            let (last, before) = new.split_last().ok_or(NetworkError::Empty)?;
            let whole = before.len() / PIECE * PIECE;
            for tokens in before[..whole].chunks(PIECE) {
                let positions = Positions::None;
                decoder.decode(pool, &mut [Step { sequence: &mut sequence, tokens, positions }])?;
            }
            let tokens = &[&before[whole..], &[*last]].concat();
            let positions = Positions::Last;
            let logits = decoder.decode(pool, &mut [Step { sequence: &mut sequence, tokens, positions }])?;
            let token = sampler.sample(logits.row(0)?, text.len() as u64);
            text.push(token);
            new = vec![token];
            if on_token(token).is_break() {
                break;
            }
        }
        Ok(())
    };
    let outcome: Result<(), NetworkError> = write();
    pool.table.release(&mut sequence);
    outcome?;
    Ok(text.split_off(prompt.len()))
}
