//! The two ways in which sums are formed: chains that are added block by block, and sixteen lanes.

use crate::tree::word;

/// Lanes of a sum along a row.
pub const LANES: usize = 16;

/// A sum of chains: each block of terms is a chain from +0, added to the sum when it is complete.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chain {
    pub sum: f32,
    pub chain: f32,
}

impl Chain {
    /// Onto a value.
    pub fn onto(start: f32) -> Self {
        Self { sum: start, chain: 0.0 }
    }

    /// From its state.
    pub fn of(state: &[u32]) -> Self {
        let value = |at: usize| f32::from_bits(state.get(at).copied().unwrap_or(0));
        Self { sum: value(0), chain: value(1) }
    }

    pub fn state(self) -> Vec<u32> {
        vec![word(self.sum), word(self.chain)]
    }

    /// Ends a block after `terms` of `all`, if one ends there.
    pub fn end_block(&mut self, terms: usize, all: usize, block: usize) {
        if terms.is_multiple_of(block) || terms == all {
            self.sum += self.chain;
            self.chain = 0.0;
        }
    }
}

/// The lanes of a state; `start` where there is none yet.
pub fn lanes(state: &[u32], start: f32) -> [f32; LANES] {
    let mut lanes = [start; LANES];
    lanes.iter_mut().zip(state).for_each(|(lane, word)| *lane = f32::from_bits(*word));
    lanes
}

/// Adds the lanes 8 apart, then 4, 2 and 1, or whatever `combine` does.
pub fn tree(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    for apart in [8, 4, 2, 1] {
        for lane in 0..apart {
            lanes[lane] = combine(lanes[lane], lanes[lane + apart]);
        }
    }
    lanes[0]
}
