//! Gradients of tables: every row of a table gets the rows of those tokens that read it, in token order.

use zoo_kernels::embedding;

use super::{Read, SEGMENT, Unread};
use crate::tree::word;

/// Which rows of the gradient a row of the table gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scatter {
    /// Those of its token: input 0 are the ids, input 1 the gradient, `[tokens, width]`.
    ById {
        /// Number of tokens.
        tokens: usize,
        /// Elements of a row.
        width: usize,
    },
    /// Those at its position of every sequence: input 0 is the gradient.
    ByPosition {
        /// Number of sequences.
        sequences: usize,
        /// Tokens of a sequence.
        context: usize,
        /// Elements of a row.
        width: usize,
    },
}

impl Scatter {
    /// Terms of an element.
    pub fn terms(&self) -> usize {
        match *self {
            Self::ById { tokens, .. } => tokens,
            Self::ByPosition { sequences, .. } => sequences,
        }
    }

    /// See [`super::Operator::segment`].
    pub fn segment(
        &self,
        element: usize,
        segment: usize,
        before: &[u32],
        read: &mut impl Read,
    ) -> Result<Vec<u32>, Unread> {
        let mut sum = f32::from_bits(before.first().copied().unwrap_or(0));
        for term in segment * SEGMENT..self.terms().min((segment + 1) * SEGMENT) {
            match *self {
                Self::ById { width, .. } => {
                    if read.word(0, term)? as usize == element / width {
                        sum += read.value(1, term * width + element % width)?;
                    }
                }
                Self::ByPosition { context, width, .. } => {
                    // A table may have more positions than a sequence.
                    if element / width < context {
                        sum += read.value(0, term * context * width + element)?;
                    }
                }
            }
        }
        Ok(vec![word(sum)])
    }

    /// See [`super::Operator::compute`].
    pub fn compute(&self, inputs: &[&[f32]], length: usize) -> Vec<f32> {
        let mut table = vec![0.0; length];
        match *self {
            Self::ById { width, .. } => {
                let ids: Vec<u32> = inputs[0].iter().map(|id| id.to_bits()).collect();
                // An id beyond the table is nobody's row.
                let known = ids
                    .iter()
                    .zip(inputs[1].chunks(width))
                    .filter(|(id, _)| (**id as usize) < length / width);
                for (id, row) in known {
                    embedding::backward(row, width, &[*id], &mut table);
                }
            }
            Self::ByPosition { context, width, .. } => {
                embedding::backward_positions(inputs[0], width, context, &mut table);
            }
        }
        table
    }
}
