//! Copies blocks of A and chunks of B into the order in which the micro-kernel reads them.

use super::ahead::prefetch;
use super::{CHUNK, PANEL, TILE_ROWS, View};
use crate::isa::{Level, level};

/// Distance between the rows of a packed tile of A. A little more than [`CHUNK`], so that the
/// rows of a tile do not fall onto the same cache sets.
pub(super) const ROW_STRIDE: usize = CHUNK + 16;

/// A buffer of f32 whose start is aligned to a cache line; it only grows.
#[derive(Default)]
pub(super) struct Aligned(Vec<Line>);

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [f32; 16]);

impl Aligned {
    pub(super) fn reserve(&mut self, len: usize) -> *mut f32 {
        let lines = len.div_ceil(16);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0.0; 16]));
        }
        self.0.as_mut_ptr().cast()
    }

    pub(super) fn as_ptr(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }
}

/// Height of the next register tile where `rows` are left.
pub(super) fn height(rows: usize) -> Option<usize> {
    [TILE_ROWS, 8, 4, 2, 1].into_iter().find(|height| *height <= rows)
}

/// Packs `a`, of at most [`CHUNK`] columns: row i at `i * ROW_STRIDE`.
///
/// # Safety
/// `to` must have room for `a.rows * ROW_STRIDE` floats; `a` must be readable.
pub(super) unsafe fn pack_a(to: *mut f32, a: View) {
    debug_assert!(a.cols <= CHUNK);
    // SAFETY: the caller's.
    unsafe {
        if a.col_stride == 1 {
            for i in 0..a.rows {
                std::ptr::copy_nonoverlapping(a.data.add(i * a.row_stride), to.add(i * ROW_STRIDE), a.cols);
            }
        } else if a.row_stride == 1 {
            pack_columns(to, a);
        } else {
            pack_any(to, a);
        }
    }
}

/// Columns are contiguous: transpose in squares of 16.
unsafe fn pack_columns(to: *mut f32, a: View) {
    let (rows, cols) = (a.rows / 16 * 16, a.cols / 16 * 16);
    for p in (0..cols).step_by(16) {
        for i in (0..rows).step_by(16) {
            // SAFETY: the 16 x 16 square at (i, p) lies in `a` and in the room of `to`.
            unsafe {
                let from = a.data.add(p * a.col_stride + i);
                transpose_16(from, a.col_stride, to.add(i * ROW_STRIDE + p), ROW_STRIDE);
            }
        }
    }
    // SAFETY: the columns that are left, and the rows that are left.
    unsafe {
        pack_any(to.add(cols), a.rows_range(0, rows).cols_range(cols, a.cols));
        pack_any(to.add(rows * ROW_STRIDE), a.rows_range(rows, a.rows));
    }
}

unsafe fn pack_any(to: *mut f32, a: View) {
    for i in 0..a.rows {
        for p in 0..a.cols {
            // SAFETY: (i, p) lies in `a`; the caller made room.
            unsafe { *to.add(i * ROW_STRIDE + p) = *a.data.add(i * a.row_stride + p * a.col_stride) };
        }
    }
}

/// Packs `b` (at most [`CHUNK`] rows, any columns) into panels of [`PANEL`] columns, each
/// `[k][PANEL]`; missing columns of the last panel are +0 and never stored.
///
/// # Safety
/// `to` must have room for `b.cols.div_ceil(PANEL) * b.rows * PANEL` floats; `b` must be readable.
pub(super) unsafe fn pack_b(to: *mut f32, b: View) {
    let k = b.rows;
    for first in (0..b.cols).step_by(PANEL) {
        let panel = b.cols_range(first, (first + PANEL).min(b.cols));
        // SAFETY: panels follow one another; the caller made room.
        unsafe {
            let to = to.add(first * k);
            if panel.col_stride == 1 {
                pack_panel_rows(to, panel);
            } else if panel.row_stride == 1 && panel.cols == PANEL {
                pack_panel_columns(to, panel);
            } else {
                pack_panel_any(to, panel);
            }
        }
    }
}

/// Rows of the panel are contiguous: copy them. They lie far apart, which no machine foresees.
unsafe fn pack_panel_rows(to: *mut f32, panel: View) {
    const AHEAD: usize = 24;
    for p in 0..panel.rows {
        let ahead = panel.data.wrapping_add((p + AHEAD) * panel.row_stride);
        prefetch(ahead);
        prefetch(ahead.wrapping_add(PANEL - 1));
        // SAFETY: row p has panel.cols contiguous floats; `to` has PANEL per row.
        unsafe {
            let from = panel.data.add(p * panel.row_stride);
            let to = to.add(p * PANEL);
            if panel.cols == PANEL {
                std::ptr::copy_nonoverlapping(from, to, PANEL);
            } else {
                std::ptr::copy_nonoverlapping(from, to, panel.cols);
                std::ptr::write_bytes(to.add(panel.cols), 0, PANEL - panel.cols);
            }
        }
    }
}

/// Columns of the panel are contiguous: transpose in squares of 16.
unsafe fn pack_panel_columns(to: *mut f32, panel: View) {
    let whole = panel.rows / 16 * 16;
    for p in (0..whole).step_by(16) {
        for j in (0..PANEL).step_by(16) {
            // SAFETY: the 16 x 16 square at (p, j) lies in the panel and in the room of `to`.
            unsafe {
                transpose_16(
                    panel.data.add(j * panel.col_stride + p),
                    panel.col_stride,
                    to.add(p * PANEL + j),
                    PANEL,
                );
            }
        }
    }
    // SAFETY: the rows that are left.
    unsafe { pack_panel_any(to.add(whole * PANEL), panel.rows_range(whole, panel.rows)) };
}

unsafe fn pack_panel_any(to: *mut f32, panel: View) {
    for p in 0..panel.rows {
        for j in 0..PANEL {
            // SAFETY: inside the panel, or padding.
            unsafe {
                *to.add(p * PANEL + j) = if j < panel.cols {
                    *panel.data.add(p * panel.row_stride + j * panel.col_stride)
                } else {
                    0.0
                };
            }
        }
    }
}

/// `to[p * to_stride + j] = from[j * stride + p]` for p and j below 16.
#[inline(always)]
pub(super) unsafe fn transpose_16(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: the caller's; the instruction sets are there when `level` says so.
    unsafe {
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => transpose_16_avx512(from, stride, to, to_stride),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                for p in [0, 8] {
                    for j in [0, 8] {
                        let to = to.add(p * to_stride + j);
                        transpose_8_avx2(from.add(j * stride + p), stride, to, to_stride);
                    }
                }
            }
            _ => {
                for p in 0..16 {
                    for j in 0..16 {
                        *to.add(p * to_stride + j) = *from.add(j * stride + p);
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_16_avx512(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
    use std::arch::x86_64::*;
    // SAFETY: 16 rows of 16 floats are readable at `from`, and writable at `to`.
    let row: [__m512; 16] = std::array::from_fn(|i| unsafe { _mm512_loadu_ps(from.add(i * stride)) });
    let mut pair = [_mm512_setzero_ps(); 16];
    for i in 0..8 {
        pair[2 * i] = _mm512_unpacklo_ps(row[2 * i], row[2 * i + 1]);
        pair[2 * i + 1] = _mm512_unpackhi_ps(row[2 * i], row[2 * i + 1]);
    }
    let wide = _mm512_castps_pd;
    let narrow = _mm512_castpd_ps;
    let mut four = [_mm512_setzero_ps(); 16];
    for i in 0..4 {
        four[4 * i] = narrow(_mm512_unpacklo_pd(wide(pair[4 * i]), wide(pair[4 * i + 2])));
        four[4 * i + 1] = narrow(_mm512_unpackhi_pd(wide(pair[4 * i]), wide(pair[4 * i + 2])));
        four[4 * i + 2] = narrow(_mm512_unpacklo_pd(wide(pair[4 * i + 1]), wide(pair[4 * i + 3])));
        four[4 * i + 3] = narrow(_mm512_unpackhi_pd(wide(pair[4 * i + 1]), wide(pair[4 * i + 3])));
    }
    for i in 0..4 {
        let even_low = _mm512_shuffle_f32x4::<0x88>(four[i], four[i + 4]);
        let odd_low = _mm512_shuffle_f32x4::<0xdd>(four[i], four[i + 4]);
        let even_high = _mm512_shuffle_f32x4::<0x88>(four[i + 8], four[i + 12]);
        let odd_high = _mm512_shuffle_f32x4::<0xdd>(four[i + 8], four[i + 12]);
        let columns = [
            (i, _mm512_shuffle_f32x4::<0x88>(even_low, even_high)),
            (i + 4, _mm512_shuffle_f32x4::<0x88>(odd_low, odd_high)),
            (i + 8, _mm512_shuffle_f32x4::<0xdd>(even_low, even_high)),
            (i + 12, _mm512_shuffle_f32x4::<0xdd>(odd_low, odd_high)),
        ];
        for (p, column) in columns {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(to.add(p * to_stride), column) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn transpose_8_avx2(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
    use std::arch::x86_64::*;
    // SAFETY: 8 rows of 8 floats are readable at `from`, and writable at `to`.
    let row: [__m256; 8] = std::array::from_fn(|i| unsafe { _mm256_loadu_ps(from.add(i * stride)) });
    let mut pair = [_mm256_setzero_ps(); 8];
    for i in 0..4 {
        pair[2 * i] = _mm256_unpacklo_ps(row[2 * i], row[2 * i + 1]);
        pair[2 * i + 1] = _mm256_unpackhi_ps(row[2 * i], row[2 * i + 1]);
    }
    let wide = _mm256_castps_pd;
    let narrow = _mm256_castpd_ps;
    let mut four = [_mm256_setzero_ps(); 8];
    for i in 0..2 {
        four[4 * i] = narrow(_mm256_unpacklo_pd(wide(pair[4 * i]), wide(pair[4 * i + 2])));
        four[4 * i + 1] = narrow(_mm256_unpackhi_pd(wide(pair[4 * i]), wide(pair[4 * i + 2])));
        four[4 * i + 2] = narrow(_mm256_unpacklo_pd(wide(pair[4 * i + 1]), wide(pair[4 * i + 3])));
        four[4 * i + 3] = narrow(_mm256_unpackhi_pd(wide(pair[4 * i + 1]), wide(pair[4 * i + 3])));
    }
    for i in 0..4 {
        // SAFETY: as above.
        unsafe {
            let low = _mm256_permute2f128_ps::<0x20>(four[i], four[i + 4]);
            let high = _mm256_permute2f128_ps::<0x31>(four[i], four[i + 4]);
            _mm256_storeu_ps(to.add(i * to_stride), low);
            _mm256_storeu_ps(to.add((i + 4) * to_stride), high);
        }
    }
}
