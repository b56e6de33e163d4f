//! Walks the tiles of a product, on one thread or on rayon's current pool.

use std::cell::RefCell;

use rayon::prelude::*;

use super::micro::{Kernels, Tile};
use super::pack::{Aligned, Layout, pack_a, pack_b, tile_len, tiles};
use super::{CHUNK, PANEL, TILE_ROWS, View, ViewMut};
use crate::onto::Onto;

/// Rows of A packed at a time: one tile of a row-major A, which is then hot in the first-level
/// cache; eight tiles of a transposed A, which is so read in long pieces.
fn block_rows(layout: Layout) -> usize {
    match layout {
        Layout::Rows => TILE_ROWS,
        Layout::Columns => 8 * TILE_ROWS,
    }
}

/// Columns of B packed at a time: one chunk of them, 1 MiB, stays in the second-level cache.
const BLOCK_COLS: usize = 32 * PANEL;

/// Multiply-adds below which a second thread costs more than it brings.
const SERIAL_WORK: usize = 1 << 19;

/// `c = a b` by the chunk rule, on rayon's current pool.
///
/// # Panics
/// If the shapes do not match.
pub fn matmul(a: View, b: View, c: ViewMut, onto: Onto) {
    let threads = rayon::current_num_threads();
    if threads == 1 || a.rows * a.cols * b.cols <= SERIAL_WORK {
        return matmul_serial(a, b, c, onto);
    }
    check_shapes(&a, &b, &c);
    let grid = Grid::new(a.rows, b.cols, threads);
    let c = Shared(c);
    (0..grid.parts()).into_par_iter().with_max_len(1).for_each(|part| {
        let (rows, cols) = grid.part(part);
        let a = a.rows_range(rows.start, rows.end);
        let b = b.cols_range(cols.start, cols.end);
        // SAFETY: parts of a grid are disjoint, and the exclusive view outlives the loop.
        let c = unsafe { c.part(rows, cols) };
        matmul_serial(a, b, c, onto);
    });
}

/// `c = a b` by the chunk rule, on the calling thread.
///
/// # Panics
/// If the shapes do not match.
pub fn matmul_serial(a: View, b: View, c: ViewMut, onto: Onto) {
    check_shapes(&a, &b, &c);
    SCRATCH.with_borrow_mut(|scratch| {
        for first in (0..b.cols).step_by(BLOCK_COLS) {
            let b = b.cols_range(first, (first + BLOCK_COLS).min(b.cols));
            // SAFETY: the columns first.. of c, which `c` borrows exclusively.
            let c = unsafe { ViewMut::from_raw(c.data.add(first), c.rows, b.cols, c.row_stride) };
            if b.rows == 0 && onto == Onto::Zero {
                clear(&c);
            }
            for k in (0..b.rows).step_by(CHUNK) {
                let end = (k + CHUNK).min(b.rows);
                let chunk = b.rows_range(k, end);
                let panels = scratch.b.reserve(chunk.cols.div_ceil(PANEL) * PANEL * chunk.rows);
                let onto = if k == 0 { onto } else { Onto::Value };
                // SAFETY: room was reserved just now; the views were checked against their slices.
                unsafe {
                    pack_b(panels, chunk);
                    multiply_chunk(&mut scratch.a, a.cols_range(k, end), panels, &c, onto);
                }
            }
        }
    });
}

/// A packed right-hand side, for products that use it more than once.
#[derive(Default)]
pub struct Packed {
    rows: usize,
    cols: usize,
    panels: Aligned,
}

impl Packed {
    /// Packs `b`; what was packed before is forgotten, its memory reused.
    pub fn pack(&mut self, b: View) {
        (self.rows, self.cols) = (b.rows, b.cols);
        let padded = b.cols.div_ceil(PANEL) * PANEL;
        let panels = self.panels.reserve(b.rows * padded);
        for k in (0..b.rows).step_by(CHUNK) {
            // SAFETY: chunk after chunk, each with room for all its panels.
            unsafe { pack_b(panels.add(k * padded), b.rows_range(k, (k + CHUNK).min(b.rows))) };
        }
    }

    /// `c = a b` on the calling thread, with the first `a.cols` rows and the first `c.cols` columns of b.
    ///
    /// # Panics
    /// If `b` has fewer rows or columns, or the shapes do not match.
    pub fn multiply(&self, a: View, c: &mut ViewMut, onto: Onto) {
        assert!(a.cols <= self.rows && c.cols <= self.cols && a.rows == c.rows, "shapes do not match");
        if a.cols == 0 && onto == Onto::Zero {
            clear(c);
        }
        let padded = self.cols.div_ceil(PANEL) * PANEL;
        SCRATCH.with_borrow_mut(|scratch| {
            for k in (0..a.cols).step_by(CHUNK) {
                let end = (k + CHUNK).min(a.cols);
                let onto = if k == 0 { onto } else { Onto::Value };
                let packed_rows = CHUNK.min(self.rows - k);
                // SAFETY: the panels of this chunk lie at k * padded, each packed_rows * PANEL long.
                unsafe {
                    let panels = self.panels.as_ptr().add(k * padded);
                    multiply_panels(&mut scratch.a, a.cols_range(k, end), panels, packed_rows, c, onto);
                }
            }
        });
    }
}

struct Scratch {
    a: Aligned,
    b: Aligned,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch { a: Aligned::default(), b: Aligned::default() });
}

unsafe fn multiply_chunk(scratch: &mut Aligned, a: View, panels: *const f32, c: &ViewMut, onto: Onto) {
    // SAFETY: the caller's.
    unsafe { multiply_panels(scratch, a, panels, a.cols, c, onto) }
}

/// `c = a b` (or `c += a b`) for one chunk of k, b already in panels of `packed_rows >= a.cols` rows.
///
/// # Safety
/// `panels` must hold every panel that covers the columns of `c`; `c` must be exclusively the caller's.
unsafe fn multiply_panels(
    scratch: &mut Aligned,
    a: View,
    panels: *const f32,
    packed_rows: usize,
    c: &ViewMut,
    onto: Onto,
) {
    let k = a.cols;
    let layout = Layout::of(&a);
    let kernels = Kernels::active(layout);
    let height = block_rows(layout);
    for top in (0..a.rows).step_by(height) {
        let block = a.rows_range(top, (top + height).min(a.rows));
        let packed = scratch.reserve(tiles(block.rows).map(|(_, height)| tile_len(layout, height, k)).sum());
        // SAFETY: room was reserved; tiles and panels lie inside what was packed; every tile of c is
        // written by one kernel call, the last panel through a tile of its own where it is narrower.
        unsafe {
            pack_a(packed, block, layout);
            let mut tile_a = packed.cast_const();
            for (first, height) in tiles(block.rows) {
                let kernel = kernels.of_height(height);
                for column in (0..c.cols).step_by(PANEL) {
                    let tile = Tile {
                        a: tile_a,
                        b: panels.add(column * packed_rows),
                        k,
                        c: c.data.add((top + first) * c.row_stride + column),
                        c_stride: c.row_stride,
                        onto,
                    };
                    if c.cols - column >= PANEL {
                        kernel(tile);
                    } else {
                        narrow(kernel, tile, height, c.cols - column);
                    }
                }
                tile_a = tile_a.add(tile_len(layout, height, k));
            }
        }
    }
}

/// A tile with fewer than [`PANEL`] columns in c: computed beside it, then copied.
///
/// # Safety
/// As for the kernel, with `width` columns in c.
unsafe fn narrow(kernel: super::micro::Kernel, tile: Tile, height: usize, width: usize) {
    let mut beside = [0f32; TILE_ROWS * PANEL];
    // SAFETY: `beside` has room for the tallest tile; c has `width` columns.
    unsafe {
        for i in 0..height {
            std::ptr::copy_nonoverlapping(
                tile.c.add(i * tile.c_stride),
                beside.as_mut_ptr().add(i * PANEL),
                width,
            );
        }
        kernel(Tile { c: beside.as_mut_ptr(), c_stride: PANEL, ..tile });
        for i in 0..height {
            std::ptr::copy_nonoverlapping(
                beside.as_ptr().add(i * PANEL),
                tile.c.add(i * tile.c_stride),
                width,
            );
        }
    }
}

/// More than one, so that a thread that was interrupted does not hold up the rest.
const PARTS_PER_THREAD: usize = 2;

/// Packing an element of B (it may have to be transposed), in terms of one of A.
const PACK_B_COST: usize = 2;

/// How a product is cut into independent parts: rows and columns only, never k.
struct Grid {
    rows: usize,
    cols: usize,
    row_parts: usize,
    col_parts: usize,
}

impl Grid {
    /// About [`PARTS_PER_THREAD`] parts a thread, cut so that packing costs least: every part packs its rows
    /// of A and its columns of B, so a cut of the columns packs all of A again, and a cut of the rows all of B.
    fn new(rows: usize, cols: usize, threads: usize) -> Self {
        let wanted = PARTS_PER_THREAD * threads;
        let most_row_parts = (rows / (2 * TILE_ROWS)).max(1);
        let most_col_parts = (cols / (2 * PANEL)).clamp(1, wanted);
        let grid = |col_parts: usize| (wanted.div_ceil(col_parts).min(most_row_parts), col_parts);
        let packing =
            |(row_parts, col_parts): (usize, usize)| rows * col_parts + PACK_B_COST * cols * row_parts;
        let missing = |(row_parts, col_parts): (usize, usize)| wanted.saturating_sub(row_parts * col_parts);
        let (row_parts, col_parts) = (1..=most_col_parts)
            .map(grid)
            .min_by_key(|parts| (missing(*parts), packing(*parts)))
            .expect("there is at least one column part");
        Self { rows, cols, row_parts, col_parts }
    }

    fn parts(&self) -> usize {
        self.row_parts * self.col_parts
    }

    fn part(&self, part: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let (row, col) = (part / self.col_parts, part % self.col_parts);
        (cut(self.rows, TILE_ROWS, self.row_parts, row), cut(self.cols, PANEL, self.col_parts, col))
    }
}

/// Part `i` of `parts` of `len`, cut at multiples of `unit`, as even as can be.
fn cut(len: usize, unit: usize, parts: usize, i: usize) -> std::ops::Range<usize> {
    let units = len.div_ceil(unit);
    let at = |i: usize| (units * i / parts * unit).min(len);
    at(i)..at(i + 1)
}

struct Shared<'a>(ViewMut<'a>);

// SAFETY: only disjoint parts are written, see `part`.
unsafe impl Sync for Shared<'_> {}

impl Shared<'_> {
    /// # Safety
    /// Parts in use at the same time must not overlap.
    unsafe fn part(&self, rows: std::ops::Range<usize>, cols: std::ops::Range<usize>) -> ViewMut<'_> {
        let c = &self.0;
        // SAFETY: inside the view; disjointness is the caller's.
        unsafe {
            let corner = c.data.wrapping_add(rows.start * c.row_stride + cols.start);
            ViewMut::from_raw(corner, rows.len(), cols.len(), c.row_stride)
        }
    }
}

fn check_shapes(a: &View, b: &View, c: &ViewMut) {
    assert!(
        a.rows == c.rows && a.cols == b.rows && b.cols == c.cols,
        "shapes do not match: {}x{} times {}x{} into {}x{}",
        a.rows,
        a.cols,
        b.rows,
        b.cols,
        c.rows,
        c.cols
    );
}

fn clear(c: &ViewMut) {
    for i in 0..c.rows {
        // SAFETY: rows of the exclusive view.
        unsafe { std::ptr::write_bytes(c.data.add(i * c.row_stride), 0, c.cols) };
    }
}
