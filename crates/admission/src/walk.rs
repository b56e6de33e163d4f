//! A walk over memory that is quick only for who holds all of it.
//!
//! The area is an array of blocks of 1 KiB. A pass goes over it in order; each block becomes itself, exclusive-or a mixture of the block
//! before it and of another one, anywhere in the area, that the block before names. So each step waits for a read whose place
//! nobody knew, and in every pass but the first each block is made of three others, two of which have changed meanwhile.
//! This is Argon2d (RFC 9106) with one lane and one slice; the crate's tests measure what it costs to hold every second block only.

use std::ops::ControlFlow;

use zoo_content::Digest;
use zoo_protocol::Effort;

use crate::{BenchmarkError, checked};

/// Words of a block.
const WORDS: usize = 128;
/// Blocks of a MiB.
const MIB_BLOCKS: usize = 1 << 10;
/// Blocks that are drawn from the seed.
const DRAWN: usize = 2;

type Block = [u64; WORDS];

/// A walk that is under way.
pub struct Walk {
    area: Vec<Block>,
    steps: usize,
}

pub(crate) fn walk(
    seed: &Digest,
    effort: &Effort,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Digest, BenchmarkError> {
    let mut walk = Walk::new(seed, effort.area_mib as usize * MIB_BLOCKS);
    let steps = walk.area.len() * effort.passes as usize;
    while walk.steps < steps {
        if walk.steps.is_multiple_of(MIB_BLOCKS) {
            checked(go_on)?;
        }
        walk.step();
    }
    Ok(walk.end())
}

impl Walk {
    /// The beginning of a walk over so many blocks.
    ///
    /// # Panics
    /// If there are fewer than three.
    pub fn new(seed: &Digest, blocks: usize) -> Self {
        assert!(blocks > DRAWN, "a block is made of two others");
        let mut area = vec![[0; WORDS]; blocks];
        let mut source = blake3::Hasher::new_keyed(seed.as_bytes()).finalize_xof();
        for word in area[..DRAWN].as_flattened_mut() {
            let mut bytes = [0; 8];
            source.fill(&mut bytes);
            *word = u64::from_le_bytes(bytes);
        }
        Self { area, steps: 0 }
    }

    /// Makes the next block; gives the place of the other block that it is made of, beside the one before it and itself. The first
    /// blocks are drawn, and made of none.
    pub fn step(&mut self) -> Option<usize> {
        let (pass, at) = (self.steps / self.area.len(), self.steps % self.area.len());
        self.steps += 1;
        if pass == 0 && at < DRAWN {
            return None;
        }
        let before = self.area[(at + self.area.len() - 1) % self.area.len()];
        let other = place(before[0], pass, at, self.area.len());
        let mixed = mixture(&before, &self.area[other]);
        self.area[at].iter_mut().zip(mixed).for_each(|(word, mixed)| *word ^= mixed);
        Some(other)
    }

    /// Digest of the last block, into which every other goes.
    pub fn end(&self) -> Digest {
        let last = self.area.last().expect("an area has blocks");
        Digest::of(&last.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>())
    }
}

/// The block that goes into the one at `at`, besides the one before it: neither of these, in the first pass one that is there already.
fn place(word: u64, pass: usize, at: usize, blocks: usize) -> usize {
    let of = |count: usize| ((u128::from(word) * count as u128) >> 64) as usize;
    if pass == 0 { of(at - 1) } else { (at + 1 + of(blocks - 2)) % blocks }
}

/// The compression function of RFC 9106, section 3.5.
fn mixture(one: &Block, other: &Block) -> Block {
    let sum: Block = std::array::from_fn(|at| one[at] ^ other[at]);
    let mut block = sum;
    for row in block.as_chunks_mut::<16>().0 {
        permute(row);
    }
    for column in 0..8 {
        // Two neighbouring words of each of the eight rows.
        let index = |at: usize| at / 2 * 16 + 2 * column + at % 2;
        let mut words: [u64; 16] = std::array::from_fn(|at| block[index(at)]);
        permute(&mut words);
        (0..16).for_each(|at| block[index(at)] = words[at]);
    }
    std::array::from_fn(|at| block[at] ^ sum[at])
}

/// A round of BLAKE2b with multiplications (RFC 9106, section 3.6).
fn permute(v: &mut [u64; 16]) {
    const QUARTERS: [[usize; 4]; 8] = [
        [0, 4, 8, 12],
        [1, 5, 9, 13],
        [2, 6, 10, 14],
        [3, 7, 11, 15],
        [0, 5, 10, 15],
        [1, 6, 11, 12],
        [2, 7, 8, 13],
        [3, 4, 9, 14],
    ];
    for [a, b, c, d] in QUARTERS {
        v[a] = multiplied(v[a], v[b]);
        v[d] = (v[d] ^ v[a]).rotate_right(32);
        v[c] = multiplied(v[c], v[d]);
        v[b] = (v[b] ^ v[c]).rotate_right(24);
        v[a] = multiplied(v[a], v[b]);
        v[d] = (v[d] ^ v[a]).rotate_right(16);
        v[c] = multiplied(v[c], v[d]);
        v[b] = (v[b] ^ v[c]).rotate_right(63);
    }
}

fn multiplied(x: u64, y: u64) -> u64 {
    let product = u64::from(x as u32) * u64::from(y as u32);
    x.wrapping_add(y).wrapping_add(product.wrapping_mul(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_block_is_made_of_itself_or_twice_of_the_one_before() {
        for word in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            for blocks in [3usize, 4, 100] {
                for at in DRAWN..blocks {
                    assert!(place(word, 0, at, blocks) < at - 1);
                }
                for at in 0..blocks {
                    let place = place(word, 1, at, blocks);
                    assert!(place < blocks && place != at && (place + 1) % blocks != at);
                }
            }
        }
    }

    #[test]
    fn a_bit_that_was_changed_anywhere_changes_the_end() {
        let blocks = 64;
        let end = |change: Option<usize>| {
            let mut walk = Walk::new(&Digest::of(b"seed"), blocks);
            (0..blocks).for_each(|_| _ = walk.step());
            if let Some(at) = change {
                walk.area[at][5] ^= 1;
            }
            (0..blocks).for_each(|_| _ = walk.step());
            walk.end()
        };
        assert!((0..blocks).all(|at| end(Some(at)) != end(None)));
    }
}
