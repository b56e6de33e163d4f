//! Text, token by token.

use std::ops::ControlFlow;

use crate::decode::{KvCache, Positions};
use crate::error::NetworkError;
use crate::network::Network;
use crate::sampling::Sampler;

/// Continues `prompt` by up to `count` tokens, each given to `on_token` as it is made; stops when that
/// breaks. When the context is full, the last half of the text starts a new one.
pub fn generate(
    network: &Network,
    prompt: &[u32],
    count: usize,
    sampler: &Sampler,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Vec<u32>, NetworkError> {
    let context = network.context();
    let recent = |text: &[u32]| text[text.len().saturating_sub((context / 2).max(1))..].to_vec();
    let mut text = prompt.to_vec();
    let mut new = if prompt.len() < context { prompt.to_vec() } else { recent(prompt) };
    let mut cache = KvCache::new(network);
    for _ in 0..count {
        if cache.positions() + new.len() > context {
            (cache, new) = (KvCache::new(network), recent(&text));
        }
        let logits = network.decode(&mut cache, &new, Positions::Last)?;
        let token = sampler.sample(&logits, text.len() as u64);
        text.push(token);
        new = vec![token];
        if on_token(token).is_break() {
            break;
        }
    }
    Ok(text.split_off(prompt.len()))
}
