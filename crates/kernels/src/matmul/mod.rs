//! Matrix products `C = A B`, by the rule of a numeric profile (SPEC.md, "Matrix products").
//!
//! By the chunk rule of `f32-exact`, C starts at +0 or at the value already there; k is cut at multiples of
//! [`CHUNK`]; each chunk is one chain of fused multiply-adds over ascending k, starting from +0; chunk sums are
//! added to C in order. By the pair rule of `bf16-exact` the operands are rounded to bf16, and blocks of 32 take
//! the place of chunks.
//!
//! Rows and columns may be tiled in any way, so everything below is free to do what is fast:
//!
//! * `pack` copies a block of A and a chunk of B into the order in which the micro-kernel reads them;
//! * `micro` holds the register tile, 12 rows of 32 columns, for each instruction set; `bf16` what the other
//!   profile has in place of both, and `format` chooses between them;
//! * `drive` walks the tiles so that a tile of A stays in the first-level cache, a block of B in
//!   the second, and C is written along its rows;
//! * `ahead` fetches the next block of A meanwhile;
//! * `prepared` keeps a right-hand side packed for good;
//! * `sketch` multiplies with a few vectors in f64, for who checks a product without forming it;
//! * `element` is what operands are made of.

mod ahead;
mod bf16;
mod drive;
mod element;
mod format;
mod micro;
mod pack;
mod prepared;
mod sketch;
mod view;

pub(crate) use bf16::convert::round_slice;
#[cfg(target_arch = "x86_64")]
pub(crate) use bf16::{spin_tiles, tiles_permitted};
pub use drive::{Packed, matmul, matmul_serial};
pub(crate) use element::with_elements;
pub use element::{Element, Operand};
pub use prepared::Prepared;
pub use sketch::{Eight, VECTORS, sketch};
pub use view::{View, ViewMut};

/// Length of one chain of fused multiply-adds: k is cut at multiples of this.
pub const CHUNK: usize = 256;

/// Columns of a packed panel of B: two 512-bit registers.
const PANEL: usize = 32;

/// Rows of the register tile: 12 x 2 accumulators, which leaves registers for two of B and one of A.
const TILE_ROWS: usize = 12;

/// Rows of the tallest tile of any format.
const MOST_TILE_ROWS: usize = bf16::TILE_ROWS;
