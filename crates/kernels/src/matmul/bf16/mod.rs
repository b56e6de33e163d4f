//! The pair rule of the profile `bf16-exact` (SPEC.md): operands rounded to bf16, sums in f32, in the order
//! and with the flushing of the AMX tile instruction.
//!
//! C is rounded after every block of 32, so it may leave the registers between any two blocks, and k may be
//! cut at any multiple of 32.
//!
//! * `convert` rounds, and `pack` reorders: pairs of bf16 for the tiles and for B, rounded f32 for the rows of A that vectors
//!   read element by element;
//! * `tiles` is the tile unit's kernel; `vectors` has those for AVX-512, AVX2 and any other machine.

pub(super) mod convert;
mod pack;
mod tiles;
mod vectors;

pub(super) use pack::{pack_pairs_of_rows, pack_panels, pack_singles_of_rows};
pub(super) use tiles::{Configured, kernel as tile_kernel};
#[cfg(target_arch = "x86_64")]
pub(crate) use tiles::{permitted as tiles_permitted, spin as spin_tiles};
pub(super) use vectors::kernel as vector_kernel;

/// Elements of k that are packed at a time: sixteen blocks.
pub(super) const CHUNK: usize = 512;

/// Elements of k in one block of the rule; +0 fills up the last.
const BLOCK: usize = 32;

/// Words of a block: pairs.
const BLOCK_WORDS: usize = BLOCK / 2;

/// Items (rows of A, columns of B) of a square.
const ITEMS: usize = 16;

/// A square of words: 16 items by 32 elements of k. Its rows are items or words.
#[repr(align(64))]
pub struct Square(pub [[u32; 16]; 16]);

/// Rows of the result that the tile unit computes at a time: two tiles of 16.
pub(super) const TILE_ROWS: usize = 32;

/// Words between packed rows of pairs; a little more than a chunk, so that rows do not fall onto the same
/// cache sets.
pub(super) const PAIRS_STRIDE: usize = CHUNK / 2 + 16;

/// Words between packed rows of single elements.
pub(super) const SINGLES_STRIDE: usize = CHUNK + 16;

/// Words of `k` elements in pairs.
pub(super) const fn words(k: usize) -> usize {
    k.div_ceil(BLOCK) * BLOCK_WORDS
}
