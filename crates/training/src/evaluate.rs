//! How well a network predicts held-out text.

use std::f64::consts::LN_2;

use serde::{Deserialize, Serialize};
use zoo_kernels::cross_entropy;
use zoo_model::{LossSum, Network, NetworkError};

use crate::dataset::Dataset;
use crate::error::TrainError;
use crate::sequences::Windows;

/// The loss over some held-out text. Sums of shards are sums of these, exact in any grouping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Summed loss, nats.
    pub nats: f64,
    /// Tokens scored.
    pub tokens: u64,
    /// Bytes of text that those tokens stand for.
    pub bytes: u64,
}

impl Evaluation {
    /// Bits that the model needs per byte of text: comparable between tokenizers.
    pub fn bits_per_byte(&self) -> f64 {
        self.nats / LN_2 / self.bytes as f64
    }

    /// Mean loss of a token, nats; nanoGPT's validation loss.
    pub fn loss(&self) -> f64 {
        self.nats / self.tokens as f64
    }
}

impl std::ops::AddAssign for Evaluation {
    fn add_assign(&mut self, other: Self) {
        self.nats += other.nats;
        self.tokens += other.tokens;
        self.bytes += other.bytes;
    }
}

/// Which part of the held-out data to score, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which shard, from 0.
    pub shard: u32,
    /// Of how many.
    pub shards: u32,
    /// Windows that pass through the network at once; changes memory, never bits.
    pub batch_windows: u32,
}

/// Scores one part of `data` under the parameters of `network`, in a fixed order: every token but
/// the first of the data exactly once over all shards, from at most `context` tokens before it.
///
/// # Errors
/// Data that is too short or has another vocabulary; NaN or infinity, with the VNode named.
///
/// # Panics
/// When `part.shard >= part.shards`.
pub fn evaluate(network: &Network, data: &Dataset, part: Part) -> Result<Evaluation, TrainError> {
    let windows = Windows::new(data, network.context())?;
    let shard = windows.shard(part.shard, part.shards);
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    let mut sum = Evaluation::default();
    let mut next = shard.start;
    while next < shard.end {
        // The one short window goes alone.
        let end = (next + u64::from(part.batch_windows.max(1))).min(shard.end);
        let end = if end > next + 1 && windows.is_short(end - 1) { end - 1 } else { end };
        inputs.clear();
        targets.clear();
        (next..end).for_each(|window| windows.read(window, &mut inputs, &mut targets));
        let loss = if windows.is_short(next) {
            score_short(network, &inputs, &targets)
        } else {
            network.evaluate(&inputs, &targets)
        };
        let LossSum { nats, tokens } = loss.map_err(TrainError::Evaluation)?;
        let (first, last) = (windows.targets(next).start, windows.targets(end - 1).end);
        let bytes = data.text_bytes_before(last) - data.text_bytes_before(first);
        sum += Evaluation { nats, tokens, bytes };
        next = end;
    }
    Ok(sum)
}

/// The loss of fewer tokens than a sequence has. What follows them cannot reach their logits, since
/// attention is causal, so any tokens may fill the sequence up.
fn score_short(network: &Network, inputs: &[u32], targets: &[u32]) -> Result<LossSum, NetworkError> {
    let mut filled = inputs.to_vec();
    filled.resize(network.context(), 0);
    let logits = network.logits(&filled)?;
    let vocab_size = logits.len() / filled.len();
    let mut losses = vec![0.0; targets.len()];
    cross_entropy::losses(&logits[..targets.len() * vocab_size], vocab_size, targets, &mut losses);
    Ok(LossSum::of(&losses))
}
