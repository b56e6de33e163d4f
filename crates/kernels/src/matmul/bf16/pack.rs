//! Rounds operands to bf16 and lays them out for the kernels.
//!
//! Everything is made of squares: 16 items (rows of A, columns of B) by 16 words (32 elements of k). Where k is
//! contiguous in the source a square comes out item by item, where items are contiguous word by word; the other
//! order is a transpose away.

use super::{BLOCK, BLOCK_WORDS, PAIRS_STRIDE, SINGLES_STRIDE, words};
use super::{ITEMS, Square};
use crate::matmul::ahead::prefetch;
use crate::matmul::pack::transpose_16;
use crate::matmul::{Element, PANEL, View};

/// Packs rows of `a` as pairs: row i at `i * PAIRS_STRIDE`, the last block filled up with +0.
///
/// # Safety
/// `to` must have room for whole tiles of rows; `a`, at most a chunk wide, must be readable.
pub(in super::super) unsafe fn pack_pairs_of_rows<T: Element>(to: *mut u32, a: View<T>) {
    // SAFETY: rows and squares lie in the tiles that the caller made room for.
    unsafe {
        if a.col_stride == 1 {
            for i in 0..a.rows {
                pairs_of_row(
                    a.row(i),
                    std::slice::from_raw_parts_mut(to.add(i * PAIRS_STRIDE), words(a.cols)),
                );
            }
        } else {
            for k in (0..a.cols).step_by(BLOCK) {
                let block = a.cols_range(k, (k + BLOCK).min(a.cols));
                for i in (0..a.rows).step_by(ITEMS) {
                    let items = block.rows_range(i, (i + ITEMS).min(a.rows));
                    square_by_items(items, to.add(i * PAIRS_STRIDE + k / 2), PAIRS_STRIDE);
                }
            }
        }
    }
}

/// The pairs of one row, the last block filled up with +0.
fn pairs_of_row<T: Element>(from: &[T], to: &mut [u32]) {
    let blocks = from.chunks_exact(BLOCK);
    let rest = blocks.remainder();
    if !rest.is_empty() {
        let mut last = [T::default(); BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        let at = to.len() - BLOCK_WORDS;
        T::pairs(&last, &mut to[at..]);
    }
    let whole = from.len() - rest.len();
    T::pairs(&from[..whole], &mut to[..whole / 2]);
}

/// Packs rows of `a` as f32 that were rounded to bf16: row i at `i * SINGLES_STRIDE`, the last block filled up with +0.
///
/// # Safety
/// As for [`pack_pairs_of_rows`].
pub(in super::super) unsafe fn pack_singles_of_rows<T: Element>(to: *mut f32, a: View<T>) {
    let padded = a.cols.next_multiple_of(BLOCK);
    for i in 0..a.rows {
        // SAFETY: row i of the block, which the caller made room for.
        let row = unsafe { std::slice::from_raw_parts_mut(to.add(i * SINGLES_STRIDE), padded) };
        row[a.cols..].fill(0.0);
        if a.col_stride == 1 {
            T::singles(a.row(i), &mut row[..a.cols]);
        } else {
            for (p, to) in row[..a.cols].iter_mut().enumerate() {
                // SAFETY: (i, p) lies in `a`.
                *to = unsafe { *a.data.add(i * a.row_stride + p * a.col_stride) }.rounded().to_f32();
            }
        }
    }
}

/// Packs `b` as pairs into panels of [`PANEL`] columns, each `[words][PANEL]`, filled up with +0.
///
/// # Safety
/// `to` must have room for whole panels; `b`, at most a chunk high, must be readable.
pub(in super::super) unsafe fn pack_panels<T: Element>(to: *mut u32, b: View<T>) {
    let words = words(b.rows);
    for first in (0..b.cols).step_by(PANEL) {
        let panel = b.cols_range(first, (first + PANEL).min(b.cols));
        if panel.col_stride == 1 && panel.cols == PANEL {
            // SAFETY: inside the panel at `first * words`.
            unsafe { panel_of_rows(to.add(first * words), panel) };
            continue;
        }
        for j in (0..PANEL).step_by(ITEMS) {
            let items = panel.cols_range(j.min(panel.cols), (j + ITEMS).min(panel.cols)).transposed();
            for k in (0..b.rows).step_by(BLOCK) {
                let block = items.cols_range(k, (k + BLOCK).min(b.rows));
                // SAFETY: inside the panel at `first * words`.
                unsafe { square_by_words(block, to.add(first * words + k / 2 * PANEL + j), PANEL) };
            }
        }
    }
}

/// A whole panel whose rows are contiguous: two rows become one of pairs.
unsafe fn panel_of_rows<T: Element>(to: *mut u32, panel: View<T>) {
    const AHEAD: usize = 24;
    let none = [T::default(); PANEL];
    for p in 0..words(panel.rows) {
        for row in [2 * p, 2 * p + 1] {
            let ahead = panel.data.wrapping_add((row + AHEAD) * panel.row_stride);
            prefetch(ahead);
            prefetch(ahead.wrapping_add(PANEL - 1));
        }
        let row = |k: usize| {
            if k < panel.rows { panel.data.wrapping_add(k * panel.row_stride) } else { none.as_ptr() }
        };
        // SAFETY: two rows of a panel, one row of pairs.
        unsafe {
            let (even, odd) = (&*row(2 * p).cast::<[T; PANEL]>(), &*row(2 * p + 1).cast::<[T; PANEL]>());
            T::weave(even, odd, &mut *to.add(p * PANEL).cast::<[u32; PANEL]>());
        }
    }
}

/// Writes the pairs of up to 16 items (rows of `from`) and up to 32 elements item by item.
///
/// # Safety
/// `to` must have room for 16 rows of 16 words, `stride` apart.
#[inline(always)]
unsafe fn square_by_items<T: Element>(from: View<T>, to: *mut u32, stride: usize) {
    let whole = from.rows == ITEMS && from.cols == BLOCK;
    let mut square = Square([[0; 16]; 16]);
    // SAFETY: the caller's.
    unsafe {
        if whole && from.col_stride == 1 {
            T::along_k(from.data, from.row_stride, to, stride);
        } else if whole && from.row_stride == 1 {
            T::along_items(from.data, from.col_stride, &mut square);
            transpose_16(square.0.as_ptr().cast(), 16, to.cast(), stride);
        } else {
            any(from, &mut square);
            copy(&square, to, stride);
        }
    }
}

/// Writes the pairs of up to 16 items (rows of `from`) and up to 32 elements word by word.
///
/// # Safety
/// As for [`square_by_items`].
#[inline(always)]
unsafe fn square_by_words<T: Element>(from: View<T>, to: *mut u32, stride: usize) {
    let whole = from.rows == ITEMS && from.cols == BLOCK;
    let mut square = Square([[0; 16]; 16]);
    // SAFETY: the caller's.
    unsafe {
        if whole && from.row_stride == 1 {
            for ahead in 0..BLOCK {
                prefetch(from.data.wrapping_add((ahead + BLOCK) * from.col_stride));
            }
            T::along_items(from.data, from.col_stride, &mut square);
            copy(&square, to, stride);
        } else if whole && from.col_stride == 1 {
            T::along_k(from.data, from.row_stride, square.0.as_mut_ptr().cast(), 16);
            transpose_16(square.0.as_ptr().cast(), 16, to.cast(), stride);
        } else {
            any(from, &mut square);
            let words = std::array::from_fn(|p| std::array::from_fn(|item| square.0[item][p]));
            copy(&Square(words), to, stride);
        }
    }
}

unsafe fn copy(square: &Square, to: *mut u32, stride: usize) {
    for (i, row) in square.0.iter().enumerate() {
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), to.add(i * stride), 16) };
    }
}

/// Item by item, from any strides; missing elements are +0.
unsafe fn any<T: Element>(from: View<T>, square: &mut Square) {
    for (item, row) in square.0.iter_mut().enumerate().take(from.rows) {
        for k in 0..from.cols {
            // SAFETY: (item, k) lies in the view.
            let value = unsafe { *from.data.add(item * from.row_stride + k * from.col_stride) };
            row[k / 2] |= u32::from(value.rounded().0) << (16 * (k % 2));
        }
    }
}
