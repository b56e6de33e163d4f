//! Tables of tokens and of positions.

use std::sync::Arc;

use zoo_kernels::embedding;

use super::{Kept, Pass};
use crate::buffer::Buffer;
use crate::parameter::Parameter;

/// `y[row] = table[token of row]`.
#[derive(Clone)]
pub(crate) struct Embedding {
    pub width: usize,
}

impl Embedding {
    pub fn forward(&self, pass: &Pass, parameters: &[Parameter], kept: Option<&mut Kept>) -> Buffer {
        let mut y = pass.pool.take(pass.tokens.len() * self.width);
        embedding::forward(&parameters[0].value, self.width, pass.tokens, &mut y);
        if let Some(kept) = kept {
            kept.tokens.extend_from_slice(pass.tokens);
        }
        y
    }

    pub fn backward(&self, pass: &Pass, parameters: &mut [Parameter], arriving: &Buffer, kept: &mut Kept) {
        let Parameter { value, gradient, .. } = &mut parameters[0];
        let gradient = gradient.receive_rows(pass.pool, value.len());
        embedding::backward(arriving, self.width, &kept.tokens, gradient);
        kept.tokens.clear();
    }
}

/// `y[row] = x[row] + table[position of row]`.
#[derive(Clone)]
pub(crate) struct PositionEmbedding {
    pub width: usize,
}

impl PositionEmbedding {
    pub fn forward(&self, pass: &Pass, parameters: &[Parameter], input: Arc<Buffer>) -> Buffer {
        let mut y = pass.pool.own(input);
        let table = &parameters[0].value;
        match pass.positions {
            None => embedding::add_positions(table, self.width, pass.context, 0, &mut y),
            Some(positions) => embedding::add_positions_at(table, self.width, positions, &mut y),
        }
        y
    }

    pub fn backward(&self, pass: &Pass, parameters: &mut [Parameter], arriving: &Buffer) {
        let Parameter { value, gradient, .. } = &mut parameters[0];
        let gradient = gradient.receive_rows(pass.pool, value.len());
        embedding::backward_positions(arriving, self.width, pass.context, gradient);
    }
}
