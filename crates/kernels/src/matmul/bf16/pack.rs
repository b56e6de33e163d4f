//! Rounds operands to bf16 and lays them out for the kernels.
//!
//! Everything is made of squares: 16 items (rows of A, columns of B) by 16 words (32 elements of k). Where k is
//! contiguous in the source a square comes out item by item, where items are contiguous word by word; the other
//! order is a transpose away.

use super::{BLOCK, BLOCK_WORDS, PAIRS_STRIDE, SINGLES_STRIDE, words};
use crate::bf16::{round, widen};
use crate::isa::{Level, level};
use crate::matmul::ahead::prefetch;
use crate::matmul::pack::transpose_16;
use crate::matmul::{PANEL, View};

/// Items of a square.
const ITEMS: usize = 16;

/// A square of words; its rows are items or words.
#[repr(align(64))]
struct Square([[u32; 16]; 16]);

/// Packs rows of `a` as pairs: row i at `i * PAIRS_STRIDE`, the last block filled up with +0.
///
/// # Safety
/// `to` must have room for whole tiles of rows; `a`, at most a chunk wide, must be readable.
pub(in super::super) unsafe fn pack_pairs_of_rows(to: *mut u32, a: View) {
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
fn pairs_of_row(from: &[f32], to: &mut [u32]) {
    let blocks = from.chunks_exact(BLOCK);
    let rest = blocks.remainder();
    if !rest.is_empty() {
        let mut last = [0.0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        let at = to.len() - BLOCK_WORDS;
        pairs(&last, &mut to[at..]);
    }
    let whole = from.len() - rest.len();
    pairs(&from[..whole], &mut to[..whole / 2]);
}

/// Pairs of whole blocks.
fn pairs(from: &[f32], to: &mut [u32]) {
    assert_eq!(from.len(), 2 * to.len());
    match level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` reports what was detected.
        Level::Avx512 if crate::isa::tiles() => unsafe { x86::pairs(from, to) },
        _ => pairs_plain(from, to),
    }
}

crate::multiversion::multiversion! {
    fn pairs_plain(from: &[f32], to: &mut [u32]) {
        for (from, to) in from.chunks_exact(2).zip(to) {
            *to = u32::from(round(from[0])) | u32::from(round(from[1])) << 16;
        }
    }
}

/// Packs rows of `a` as f32 that were rounded to bf16: row i at `i * SINGLES_STRIDE`, the last block filled up with +0.
///
/// # Safety
/// As for [`pack_pairs_of_rows`].
pub(in super::super) unsafe fn pack_singles_of_rows(to: *mut f32, a: View) {
    let padded = a.cols.next_multiple_of(BLOCK);
    for i in 0..a.rows {
        // SAFETY: row i of the block, which the caller made room for.
        let row = unsafe { std::slice::from_raw_parts_mut(to.add(i * SINGLES_STRIDE), padded) };
        row[a.cols..].fill(0.0);
        if a.col_stride == 1 {
            round_row(a.row(i), &mut row[..a.cols]);
        } else {
            for (p, to) in row[..a.cols].iter_mut().enumerate() {
                // SAFETY: (i, p) lies in `a`.
                *to = widen(round(unsafe { *a.data.add(i * a.row_stride + p * a.col_stride) }));
            }
        }
    }
}

crate::multiversion::multiversion! {
    fn round_row(from: &[f32], to: &mut [f32]) {
        for (from, to) in from.iter().zip(to) {
            *to = widen(round(*from));
        }
    }
}

/// Packs `b` as pairs into panels of [`PANEL`] columns, each `[words][PANEL]`, filled up with +0.
///
/// # Safety
/// `to` must have room for whole panels; `b`, at most a chunk high, must be readable.
pub(in super::super) unsafe fn pack_panels(to: *mut u32, b: View) {
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
unsafe fn panel_of_rows(to: *mut u32, panel: View) {
    const AHEAD: usize = 24;
    const NONE: [f32; PANEL] = [0.0; PANEL];
    for p in 0..words(panel.rows) {
        for row in [2 * p, 2 * p + 1] {
            let ahead = panel.data.wrapping_add((row + AHEAD) * panel.row_stride);
            prefetch(ahead);
            prefetch(ahead.wrapping_add(PANEL - 1));
        }
        let row = |k: usize| {
            if k < panel.rows { panel.data.wrapping_add(k * panel.row_stride) } else { NONE.as_ptr() }
        };
        // SAFETY: two rows of a panel, one row of pairs.
        unsafe {
            let (even, odd) = (&*row(2 * p).cast::<[f32; PANEL]>(), &*row(2 * p + 1).cast::<[f32; PANEL]>());
            weave(even, odd, &mut *to.add(p * PANEL).cast::<[u32; PANEL]>());
        }
    }
}

/// Pairs of two rows.
#[inline(always)]
unsafe fn weave(even: &[f32; PANEL], odd: &[f32; PANEL], to: &mut [u32; PANEL]) {
    match level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `level` reports what was detected.
        Level::Avx512 if crate::isa::tiles() => unsafe { x86::weave(even, odd, to) },
        _ => weave_plain(even, odd, to),
    }
}

crate::multiversion::multiversion! {
    fn weave_plain(even: &[f32; PANEL], odd: &[f32; PANEL], to: &mut [u32; PANEL]) {
        for j in 0..PANEL {
            to[j] = u32::from(round(even[j])) | u32::from(round(odd[j])) << 16;
        }
    }
}

/// Writes the pairs of up to 16 items (rows of `from`) and up to 32 elements item by item.
///
/// # Safety
/// `to` must have room for 16 rows of 16 words, `stride` apart.
#[inline(always)]
unsafe fn square_by_items(from: View, to: *mut u32, stride: usize) {
    let whole = from.rows == ITEMS && from.cols == BLOCK;
    let mut square = Square([[0; 16]; 16]);
    // SAFETY: the caller's.
    unsafe {
        if whole && from.col_stride == 1 {
            along_k(from, to, stride);
        } else if whole && from.row_stride == 1 {
            along_items(from, &mut square);
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
unsafe fn square_by_words(from: View, to: *mut u32, stride: usize) {
    let whole = from.rows == ITEMS && from.cols == BLOCK;
    let mut square = Square([[0; 16]; 16]);
    // SAFETY: the caller's.
    unsafe {
        if whole && from.row_stride == 1 {
            for ahead in 0..BLOCK {
                prefetch(from.data.wrapping_add((ahead + BLOCK) * from.col_stride));
            }
            along_items(from, &mut square);
            copy(&square, to, stride);
        } else if whole && from.col_stride == 1 {
            along_k(from, square.0.as_mut_ptr().cast(), 16);
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
unsafe fn any(from: View, square: &mut Square) {
    for (item, row) in square.0.iter_mut().enumerate().take(from.rows) {
        for k in 0..from.cols {
            // SAFETY: (item, k) lies in the view.
            let value = unsafe { *from.data.add(item * from.row_stride + k * from.col_stride) };
            row[k / 2] |= u32::from(round(value)) << (16 * (k % 2));
        }
    }
}

/// Item by item, where each item's 32 elements are contiguous.
#[inline(always)]
unsafe fn along_k(from: View, to: *mut u32, stride: usize) {
    // SAFETY: the caller's; `level` reports what was detected.
    unsafe {
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if crate::isa::tiles() => x86::along_k(from.data, from.row_stride, to, stride),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx2 => x86::along_k_avx2(from.data, from.row_stride, to, stride),
            _ => along_k_plain(from.data, from.row_stride, to, stride),
        }
    }
}

#[inline(always)]
unsafe fn along_k_plain(from: *const f32, from_stride: usize, to: *mut u32, stride: usize) {
    for item in 0..ITEMS {
        // SAFETY: 32 elements of the item, 16 words of the row.
        let (from, to) = unsafe {
            (
                &*from.add(item * from_stride).cast::<[f32; BLOCK]>(),
                &mut *to.add(item * stride).cast::<[u32; BLOCK_WORDS]>(),
            )
        };
        for p in 0..BLOCK_WORDS {
            to[p] = u32::from(round(from[2 * p])) | u32::from(round(from[2 * p + 1])) << 16;
        }
    }
}

/// Word by word, where the 16 items are contiguous.
#[inline(always)]
unsafe fn along_items(from: View, square: &mut Square) {
    // SAFETY: the caller's; `level` reports what was detected.
    unsafe {
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if crate::isa::tiles() => x86::along_items(from.data, from.col_stride, square),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx2 => x86::along_items_avx2(from.data, from.col_stride, square),
            _ => along_items_plain(from.data, from.col_stride, square),
        }
    }
}

#[inline(always)]
unsafe fn along_items_plain(from: *const f32, stride: usize, square: &mut Square) {
    for (p, row) in square.0.iter_mut().enumerate() {
        // SAFETY: 16 items of two neighbouring elements.
        let (even, odd) = unsafe {
            (
                &*from.add(2 * p * stride).cast::<[f32; ITEMS]>(),
                &*from.add((2 * p + 1) * stride).cast::<[f32; ITEMS]>(),
            )
        };
        for item in 0..ITEMS {
            row[item] = u32::from(round(even[item])) | u32::from(round(odd[item])) << 16;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK_WORDS, ITEMS, PANEL, Square};

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn along_k_avx2(from: *const f32, from_stride: usize, to: *mut u32, stride: usize) {
        // SAFETY: the caller's.
        unsafe { super::along_k_plain(from, from_stride, to, stride) }
    }

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn along_items_avx2(from: *const f32, stride: usize, square: &mut Square) {
        // SAFETY: the caller's.
        unsafe { super::along_items_plain(from, stride, square) }
    }

    /// The conversion instruction rounds as [`crate::bf16::round`] does, subnormals and NaN included.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn along_k(from: *const f32, from_stride: usize, to: *mut u32, stride: usize) {
        for item in 0..ITEMS {
            // SAFETY: 32 elements of the item are readable, 16 words writable.
            unsafe {
                let from = from.add(item * from_stride);
                let pairs = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from.add(16)), _mm512_loadu_ps(from));
                _mm512_storeu_si512(
                    to.add(item * stride).cast(),
                    std::mem::transmute::<__m512bh, __m512i>(pairs),
                );
            }
        }
    }

    /// The conversion instruction rounds as [`crate::bf16::round`] does, subnormals and NaN included.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn pairs(from: &[f32], to: &mut [u32]) {
        for (from, to) in from.chunks_exact(32).zip(to.chunks_exact_mut(16)) {
            // SAFETY: 32 elements are readable, 16 words writable.
            unsafe {
                let pairs = _mm512_cvtne2ps_pbh(
                    _mm512_loadu_ps(from.as_ptr().add(16)),
                    _mm512_loadu_ps(from.as_ptr()),
                );
                _mm512_storeu_si512(to.as_mut_ptr().cast(), std::mem::transmute::<__m512bh, __m512i>(pairs));
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn weave(even: &[f32; PANEL], odd: &[f32; PANEL], to: &mut [u32; PANEL]) {
        // SAFETY: 16 elements of each at a time.
        unsafe {
            let in_turn = _mm512_loadu_si512(IN_TURN.as_ptr().cast());
            for j in [0, 16] {
                let even = _mm512_loadu_ps(even.as_ptr().add(j));
                let odd = _mm512_loadu_ps(odd.as_ptr().add(j));
                let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
                _mm512_storeu_si512(to.as_mut_ptr().add(j).cast(), _mm512_permutexvar_epi16(in_turn, halves));
            }
        }
    }

    /// Takes the halves of a converted register in turn.
    const IN_TURN: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 16 {
            order[2 * i] = i as u16;
            order[2 * i + 1] = 16 + i as u16;
            i += 1;
        }
        order
    };

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn along_items(from: *const f32, stride: usize, square: &mut Square) {
        // SAFETY: 16 items of 32 elements are readable; the square is 16 registers.
        unsafe {
            let in_turn = _mm512_loadu_si512(IN_TURN.as_ptr().cast());
            for p in 0..BLOCK_WORDS {
                let even = _mm512_loadu_ps(from.add(2 * p * stride));
                let odd = _mm512_loadu_ps(from.add((2 * p + 1) * stride));
                let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
                let pairs = _mm512_permutexvar_epi16(in_turn, halves);
                _mm512_store_si512(square.0[p].as_mut_ptr().cast(), pairs);
            }
        }
    }
}
