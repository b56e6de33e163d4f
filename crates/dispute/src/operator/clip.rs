//! The factor by which the gradient is scaled: from the sums of squares of all its blocks, in f64.

use super::{Read, SEGMENT, Unread};
use crate::tree::word;

/// Three sums in f64.
pub const STATE_WORDS: usize = 6;

/// Input i are the sums of squares of the blocks of parameter i, in the order of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// The norm that is not exceeded.
    pub most: f64,
    /// Of every parameter, its number of blocks.
    pub blocks: Vec<usize>,
    /// Of every parameter, whether it is its VNode's last.
    pub is_last: Vec<bool>,
}

/// Block sums are added to a parameter's, those to a VNode's, and those to that of all.
#[derive(Default)]
struct Sums {
    all: f64,
    vnode: f64,
    parameter: f64,
}

impl Clip {
    /// Blocks of all parameters.
    pub fn terms(&self) -> usize {
        self.blocks.iter().sum()
    }

    /// See [`super::Operator::segment`].
    pub fn segment(&self, segment: usize, before: &[u32], read: &mut impl Read) -> Result<Vec<u32>, Unread> {
        let mut sums = Sums::of(before);
        let (from, to) = (segment * SEGMENT, self.terms().min((segment + 1) * SEGMENT));
        let (mut parameter, mut block) = self.place(from);
        for _ in from..to {
            sums.parameter += f64::from(read.value(parameter, block)?);
            block += 1;
            if block == self.blocks[parameter] {
                sums.end_parameter(self.is_last[parameter]);
                (parameter, block) = (parameter + 1, 0);
            }
        }
        if to < self.terms() {
            return Ok(sums.state());
        }
        let norm = sums.all.sqrt();
        Ok(vec![word((self.most / (norm + 1e-6)).min(1.0) as f32)])
    }

    /// The parameter of a term, and its block.
    fn place(&self, term: usize) -> (usize, usize) {
        let mut rest = term;
        for (parameter, &blocks) in self.blocks.iter().enumerate() {
            if rest < blocks {
                return (parameter, rest);
            }
            rest -= blocks;
        }
        (self.blocks.len(), 0)
    }
}

impl Sums {
    fn of(state: &[u32]) -> Self {
        let value = |at: usize| match state.get(2 * at..2 * at + 2) {
            Some(&[low, high]) => f64::from_bits(u64::from(high) << 32 | u64::from(low)),
            _ => 0.0,
        };
        Self { all: value(0), vnode: value(1), parameter: value(2) }
    }

    fn state(&self) -> Vec<u32> {
        let words = |value: f64| {
            let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
            [bits as u32, (bits >> 32) as u32]
        };
        [self.all, self.vnode, self.parameter].into_iter().flat_map(words).collect()
    }

    fn end_parameter(&mut self, is_last: bool) {
        self.vnode += std::mem::take(&mut self.parameter);
        if is_last {
            self.all += std::mem::take(&mut self.vnode);
        }
    }
}
