//! Sums over all tokens, in blocks of 64: gradients of gains and biases.

use zoo_kernels::heads::Heads;

use super::fold::Chain;
use super::{BLOCK, Read, SEGMENT, Unread};
use crate::tree::word;

/// One sum for each element of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenSum {
    /// What is summed.
    pub sum: Sum,
    /// Number of tokens.
    pub tokens: usize,
    /// Elements of a row, or of a head.
    pub width: usize,
}

/// What is summed over tokens. Inputs are numbered as they are named.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sum {
    /// The gradient itself: dy.
    Bias,
    /// The gain of an RMS norm: dy, x, rstd.
    RmsGain,
    /// The gain of a LayerNorm: dy, x, mean, rstd.
    LayerGain,
    /// The gain of the norm of some heads, in each token one after the other: dy, x, rstd.
    HeadGain {
        /// The heads of a row.
        heads: Heads,
        /// The first of those that share the gain.
        first: usize,
        /// How many do.
        count: usize,
    },
}

impl TokenSum {
    fn per_token(&self) -> usize {
        match self.sum {
            Sum::HeadGain { count, .. } => count,
            _ => 1,
        }
    }

    /// Terms of an element.
    pub fn terms(&self) -> usize {
        self.tokens * self.per_token()
    }

    fn term(&self, element: usize, term: usize, chain: f32, read: &mut impl Read) -> Result<f32, Unread> {
        let (token, at) = (term / self.per_token(), term / self.per_token() * self.width + element);
        Ok(match self.sum {
            Sum::Bias => chain + read.value(0, at)?,
            Sum::RmsGain => read.value(0, at)?.mul_add(read.value(1, at)? * read.value(2, token)?, chain),
            Sum::LayerGain => {
                let normal = (read.value(1, at)? - read.value(2, token)?) * read.value(3, token)?;
                read.value(0, at)?.mul_add(normal, chain)
            }
            Sum::HeadGain { heads, first, count } => {
                let head = first + term % count;
                let at = token * heads.row_width() + head * heads.head_dim + element;
                let rstd = read.value(2, token * heads.turning_heads() + head)?;
                read.value(0, at)?.mul_add(read.value(1, at)? * rstd, chain)
            }
        })
    }

    fn fold(
        &self,
        element: usize,
        terms: std::ops::Range<usize>,
        chain: &mut Chain,
        read: &mut impl Read,
    ) -> Result<(), Unread> {
        for term in terms {
            chain.chain = self.term(element, term, chain.chain, read)?;
            chain.end_block(term + 1, self.terms(), BLOCK * self.per_token());
        }
        Ok(())
    }

    /// See [`super::Operator::segment`].
    pub fn segment(
        &self,
        element: usize,
        segment: usize,
        before: &[u32],
        read: &mut impl Read,
    ) -> Result<Vec<u32>, Unread> {
        let mut chain = Chain::of(before);
        let (from, to) = (segment * SEGMENT, self.terms().min((segment + 1) * SEGMENT));
        self.fold(element, from..to, &mut chain, read)?;
        Ok(if to == self.terms() { vec![word(chain.sum)] } else { chain.state() })
    }

    /// The whole sum.
    pub fn whole(&self, element: usize, read: &mut impl Read) -> Result<f32, Unread> {
        let mut chain = Chain::default();
        self.fold(element, 0..self.terms(), &mut chain, read)?;
        Ok(chain.sum)
    }
}
