//! The register tile: `C[rows x PANEL] = C + (one chunk of A B)`, for each instruction set.

use super::ahead::Ahead;
use super::format::fetch_all;
use super::pack::ROW_STRIDE;
use super::{PANEL, TILE_ROWS};
use crate::isa::{Level, level};
use crate::onto::Onto;

/// One tile of work: `words` steps of a packed tile of A against a packed panel of B.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub a: *const f32,
    pub b: *const f32,
    pub words: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    pub onto: Onto,
}

/// Computes a tile of some fixed height and all [`PANEL`] columns, and calls [`Ahead::fetch`] once a row.
///
/// Unsafe to call: `a` and `b` must be packed for that height and `words`; `c` must have that many
/// rows of PANEL floats, `c_stride` apart; the instruction set must be there.
pub(super) type Kernel = unsafe fn(Tile, &mut Ahead);

/// The active instruction set's kernel for tiles of `height` rows: one of the heights that `pack::height` gives.
pub(super) fn of_height(height: usize) -> Kernel {
    macro_rules! by_height {
        ($kernel:ident) => {
            match height {
                TILE_ROWS => $kernel::<TILE_ROWS>,
                8 => $kernel::<8>,
                4 => $kernel::<4>,
                2 => $kernel::<2>,
                _ => $kernel::<1>,
            }
        };
    }
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => by_height!(avx512),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => by_height!(avx2),
        #[cfg(target_arch = "x86_64")]
        Level::Fma => by_height!(scalar_fused),
        _ => by_height!(scalar),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const H: usize>(tile: Tile, ahead: &mut Ahead) {
    use std::arch::x86_64::*;
    let Tile { mut a, mut b, words: k, c, c_stride, onto } = tile;
    // SAFETY: every address is inside what the caller vouched for; prefetches cannot fault.
    unsafe {
        let mut sum = [[_mm512_setzero_ps(); 2]; H];
        macro_rules! step {
            ($p:expr) => {
                let b0 = _mm512_load_ps(b.add($p * PANEL));
                let b1 = _mm512_load_ps(b.add($p * PANEL + 16));
                for i in 0..H {
                    let x = _mm512_set1_ps(*a.add(i * ROW_STRIDE + $p));
                    sum[i][0] = _mm512_fmadd_ps(x, b0, sum[i][0]);
                    sum[i][1] = _mm512_fmadd_ps(x, b1, sum[i][1]);
                }
            };
        }
        macro_rules! quads {
            ($quads:expr) => {
                for _ in 0..$quads {
                    step!(0);
                    step!(1);
                    step!(2);
                    step!(3);
                    a = a.add(4);
                    b = b.add(4 * PANEL);
                }
            };
        }
        // The rows of c, and what comes next, are fetched in between: all at once they would hold up b.
        let (quads, rest) = (k / 4, k % 4);
        let mut row = c;
        for _ in 0..H {
            _mm_prefetch::<_MM_HINT_ET0>(row.cast());
            _mm_prefetch::<_MM_HINT_ET0>(row.wrapping_add(16).cast());
            row = row.wrapping_add(c_stride);
            ahead.fetch();
            quads!(quads / H);
        }
        quads!(quads % H);
        for _ in 0..rest {
            step!(0);
            a = a.add(1);
            b = b.add(PANEL);
        }
        for i in 0..H {
            for half in 0..2 {
                let to = c.add(i * c_stride + 16 * half);
                let before = if onto == Onto::Value { _mm512_loadu_ps(to) } else { _mm512_setzero_ps() };
                _mm512_storeu_ps(to, _mm512_add_ps(before, sum[i][half]));
            }
        }
    }
}

/// Sixteen registers hold 6 x 16, so a tile is up to four of these.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const H: usize>(tile: Tile, ahead: &mut Ahead) {
    fetch_all(ahead, H);
    // SAFETY: the parts lie inside the tile.
    unsafe {
        for half in 0..2 {
            let at = |i: usize| Tile {
                a: tile.a.add(i * ROW_STRIDE),
                b: tile.b.add(16 * half),
                c: tile.c.add(i * tile.c_stride + 16 * half),
                ..tile
            };
            match H {
                12 => {
                    avx2_part::<6>(at(0));
                    avx2_part::<6>(at(6));
                }
                8 => {
                    avx2_part::<4>(at(0));
                    avx2_part::<4>(at(4));
                }
                _ => avx2_part::<H>(at(0)),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_part<const PART: usize>(tile: Tile) {
    use std::arch::x86_64::*;
    let Tile { mut a, mut b, words: k, c, c_stride, onto } = tile;
    // SAFETY: every address is inside what the caller vouched for.
    unsafe {
        let mut sum = [[_mm256_setzero_ps(); 2]; PART];
        for _ in 0..k {
            let b0 = _mm256_load_ps(b);
            let b1 = _mm256_load_ps(b.add(8));
            for i in 0..PART {
                let x = _mm256_set1_ps(*a.add(i * ROW_STRIDE));
                sum[i][0] = _mm256_fmadd_ps(x, b0, sum[i][0]);
                sum[i][1] = _mm256_fmadd_ps(x, b1, sum[i][1]);
            }
            a = a.add(1);
            b = b.add(PANEL);
        }
        for i in 0..PART {
            for half in 0..2 {
                let to = c.add(i * c_stride + 8 * half);
                let before = if onto == Onto::Value { _mm256_loadu_ps(to) } else { _mm256_setzero_ps() };
                _mm256_storeu_ps(to, _mm256_add_ps(before, sum[i][half]));
            }
        }
    }
}

/// The scalar path with the machine's own fused multiply-add instead of a library call.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma")]
unsafe fn scalar_fused<const H: usize>(tile: Tile, ahead: &mut Ahead) {
    // SAFETY: the caller's.
    unsafe { scalar::<H>(tile, ahead) }
}

/// What any target compiles to: four rows by eight columns at a time.
#[inline(always)]
unsafe fn scalar<const H: usize>(tile: Tile, ahead: &mut Ahead) {
    fetch_all(ahead, H);
    let Tile { a, b, words: k, c, c_stride, onto } = tile;
    for first in (0..H).step_by(4) {
        let height = (H - first).min(4);
        for column in (0..PANEL).step_by(8) {
            let mut sum = [[0f32; 8]; 4];
            // SAFETY: every address is inside what the caller vouched for.
            unsafe {
                for p in 0..k {
                    let b = &*b.add(p * PANEL + column).cast::<[f32; 8]>();
                    for i in 0..height {
                        let x = *a.add((first + i) * ROW_STRIDE + p);
                        for j in 0..8 {
                            sum[i][j] = x.mul_add(b[j], sum[i][j]);
                        }
                    }
                }
                for i in 0..height {
                    for j in 0..8 {
                        let to = c.add((first + i) * c_stride + column + j);
                        let before = if onto == Onto::Value { *to } else { 0.0 };
                        *to = before + sum[i][j];
                    }
                }
            }
        }
    }
}
