//! The head and the cost, as one, so that the logits of a large vocabulary never exist all at once.

use zoo_kernels::linear::{self, Shape};
use zoo_kernels::{Onto, Profile, cross_entropy};

use crate::buffer::{Buffer, Pool};
use crate::loss::LossSum;
use crate::parameter::{Gradient, Weight};

/// `logits = x W^T`, then the cross-entropy with the targets.
#[derive(Clone)]
pub(crate) struct Head {
    pub vocab_size: usize,
    pub width: usize,
    /// The rule of its matrix products.
    pub profile: Profile,
}

/// A batch's summed loss and the gradient of the head's input.
pub(crate) struct Cost {
    pub loss: LossSum,
    pub gradient: Buffer,
}

/// Most logits at a time (8 MiB), as long as that is a chunk of tokens.
const LOGITS_MAX: usize = 2 << 20;
/// Tokens after which sums over tokens are cut, so blocks of whole chunks do not show in the bits.
const CHUNK_TOKENS: usize = 256;

impl Head {
    /// The loss of `targets` given `x`, `[targets, width]`; the gradients of `weight` and of `x`, for a
    /// cost of `scale` times the summed loss. Forward and backward are one: logits become their
    /// gradient in place, block by block.
    pub fn cost(
        &self,
        pool: &Pool,
        weight: &[f32],
        weight_gradient: &mut Gradient,
        x: &[f32],
        targets: &[u32],
        scale: f32,
    ) -> Cost {
        let mut loss = LossSum::default();
        let mut gradient = pool.take(x.len());
        weight_gradient.reserve(pool, weight.len());
        let block = Self::block_tokens(self.vocab_size);
        let blocks = x.chunks(block * self.width).zip(targets.chunks(block));
        for ((x, targets), dx) in blocks.zip(gradient.chunks_mut(block * self.width)) {
            let shape = self.shape(targets.len());
            let mut logits = self.logits(pool, Weight::Rows(weight), x);
            let mut losses = pool.take(targets.len());
            cross_entropy::losses_and_gradient(&mut logits, self.vocab_size, targets, scale, &mut losses);
            loss += LossSum::of(&losses);
            let (dw, onto) = weight_gradient.receive(pool, weight.len());
            linear::backward_weight(self.profile, shape, &logits, x, dw, onto);
            linear::backward_input(self.profile, shape, &logits, weight, dx, Onto::Zero);
        }
        Cost { loss, gradient }
    }

    /// The loss of `targets` given `x`.
    pub fn evaluate(&self, pool: &Pool, weight: Weight, x: &[f32], targets: &[u32]) -> LossSum {
        let mut loss = LossSum::default();
        let block = Self::block_tokens(self.vocab_size);
        for (x, targets) in x.chunks(block * self.width).zip(targets.chunks(block)) {
            let logits = self.logits(pool, weight, x);
            let mut losses = pool.take(targets.len());
            cross_entropy::losses(&logits, self.vocab_size, targets, &mut losses);
            loss += LossSum::of(&losses);
        }
        loss
    }

    /// `x W^T`, `[rows, vocab_size]`.
    pub fn logits(&self, pool: &Pool, weight: Weight, x: &[f32]) -> Buffer {
        let shape = self.shape(x.len() / self.width);
        let mut logits = pool.take(shape.rows * self.vocab_size);
        weight.forward(self.profile, shape, x, &mut logits, Onto::Zero);
        logits
    }

    /// Tokens whose logits exist at once.
    pub fn block_tokens(vocab_size: usize) -> usize {
        (LOGITS_MAX / vocab_size / CHUNK_TOKENS).max(1) * CHUNK_TOKENS
    }

    fn shape(&self, rows: usize) -> Shape {
        Shape { rows, inputs: self.width, outputs: self.vocab_size }
    }
}
