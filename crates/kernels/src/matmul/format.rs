//! How operands are packed and multiplied: one format for each profile and kind of unit.

use super::ahead::Ahead;
use super::micro::{self, Kernel};
use super::{CHUNK, Element, TILE_ROWS, View, bf16, pack};
use crate::isa;
use crate::profile::Profile;

/// Packing and kernels that belong together. A packed operand is made of 32-bit words: an f32, or a pair
/// of bf16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// The chunk rule on vectors of f32.
    #[default]
    F32,
    /// The pair rule on the tile unit.
    Bf16Tiles,
    /// The pair rule on vectors of f32.
    Bf16Vectors,
}

impl Format {
    /// What `profile` is computed with by the active instruction set.
    pub(super) fn active(profile: Profile) -> Self {
        match profile {
            Profile::F32Exact => Self::F32,
            Profile::Bf16Exact if isa::tiles() => Self::Bf16Tiles,
            Profile::Bf16Exact => Self::Bf16Vectors,
        }
    }

    /// Elements of k that are packed and multiplied at a time.
    pub(super) fn chunk(self) -> usize {
        match self {
            Self::F32 => CHUNK,
            Self::Bf16Tiles | Self::Bf16Vectors => bf16::CHUNK,
        }
    }

    /// Rows of the tallest tile.
    pub(super) fn tile_rows(self) -> usize {
        match self {
            Self::F32 | Self::Bf16Vectors => TILE_ROWS,
            Self::Bf16Tiles => bf16::TILE_ROWS,
        }
    }

    /// Words between the rows of a packed block of A.
    pub(super) fn row_stride(self) -> usize {
        match self {
            Self::F32 => pack::ROW_STRIDE,
            Self::Bf16Tiles => bf16::PAIRS_STRIDE,
            Self::Bf16Vectors => bf16::SINGLES_STRIDE,
        }
    }

    /// Words of a column of packed B with `k` elements.
    pub(super) fn words(self, k: usize) -> usize {
        match self {
            Self::F32 => k,
            Self::Bf16Tiles | Self::Bf16Vectors => bf16::words(k),
        }
    }

    /// Packs the rows of `a`, at most a chunk of its columns: row i at `i * row_stride`.
    ///
    /// # Safety
    /// `to` must have room for whole tiles of rows; `a` must be readable.
    pub(super) unsafe fn pack_a<T: Element>(self, to: *mut f32, a: View<T>) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Self::F32 => pack::pack_a(to, T::exact(a)),
                Self::Bf16Tiles => bf16::pack_pairs_of_rows(to.cast(), a),
                Self::Bf16Vectors => bf16::pack_singles_of_rows(to, a),
            }
        }
    }

    /// Packs `b`, at most a chunk of its rows, into panels of [`super::PANEL`] columns, each `[words][PANEL]`; what
    /// is missing in the last panel is +0.
    ///
    /// # Safety
    /// `to` must have room for whole panels; `b` must be readable.
    pub(super) unsafe fn pack_b<T: Element>(self, to: *mut f32, b: View<T>) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Self::F32 => pack::pack_b(to, T::exact(b)),
                Self::Bf16Tiles | Self::Bf16Vectors => bf16::pack_panels(to.cast(), b),
            }
        }
    }

    /// The heights of the tiles that cover `rows`, with their first rows.
    pub(super) fn tiles(self, rows: usize) -> impl Iterator<Item = (usize, usize)> {
        let mut first = 0;
        std::iter::from_fn(move || {
            let left = rows - first;
            let height = match self {
                Self::F32 => pack::height(left)?,
                Self::Bf16Tiles | Self::Bf16Vectors if left == 0 => return None,
                Self::Bf16Tiles | Self::Bf16Vectors => left.min(self.tile_rows()),
            };
            first += height;
            Some((first - height, height))
        })
    }

    /// The kernel for a tile of `height` rows, and the height it computes, which is no less.
    pub(super) fn kernel(self, height: usize) -> (Kernel, usize) {
        match self {
            Self::F32 => (micro::of_height(height), height),
            Self::Bf16Tiles => (bf16::tile_kernel(), bf16::TILE_ROWS),
            Self::Bf16Vectors => (bf16::vector_kernel(), TILE_ROWS),
        }
    }

    /// Makes the calling thread ready for the kernels, until the result is dropped.
    pub(super) fn enter(self) -> Option<bf16::Configured> {
        (self == Self::Bf16Tiles).then(bf16::Configured::new)
    }
}

/// Calls of [`Ahead::fetch`] that a kernel makes for one tile.
pub(super) fn fetch_all(ahead: &mut Ahead, rows: usize) {
    (0..rows).for_each(|_| ahead.fetch());
}
