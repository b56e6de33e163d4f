//! Walks the tiles of a product, on one thread or on rayon's current pool.

use std::cell::RefCell;

use rayon::prelude::*;

use super::ahead::Ahead;
use super::format::Format;
use super::micro::{Kernel, Tile};
use super::pack::Aligned;
use super::{CHUNK, Element, MOST_TILE_ROWS, PANEL, TILE_ROWS, View, ViewMut};
use crate::onto::Onto;
use crate::profile::Profile;

/// Columns of B packed at a time, about.
pub(super) const BLOCK_COLS: usize = 32 * PANEL;

/// Words of B packed at a time, if that is a chunk or more: 1 MiB, which stays in the second-level cache.
const BLOCK_B: usize = BLOCK_COLS * CHUNK;

/// Multiply-adds below which a second thread costs more than it brings.
const SERIAL_WORK: usize = 1 << 19;

/// `c = a b` by the rule of `profile`, on rayon's current pool.
///
/// # Panics
/// If the shapes do not match, or an operand in bf16 meets a profile that does not round to it.
pub fn matmul<A: Element, B: Element>(profile: Profile, a: View<A>, b: View<B>, c: ViewMut, onto: Onto) {
    let threads = rayon::current_num_threads();
    if threads == 1 || a.rows * a.cols * b.cols <= SERIAL_WORK {
        return matmul_serial(profile, a, b, c, onto);
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
        matmul_serial(profile, a, b, c, onto);
    });
}

/// `c = a b` by the rule of `profile`, on the calling thread.
///
/// # Panics
/// As [`matmul`].
pub fn matmul_serial<A: Element, B: Element>(
    profile: Profile,
    a: View<A>,
    b: View<B>,
    c: ViewMut,
    onto: Onto,
) {
    check_shapes(&a, &b, &c);
    if b.rows == 0 && onto == Onto::Zero {
        return clear(&c);
    }
    BLOCK.with_borrow_mut(|block| {
        let blocks = ((b.cols + BLOCK_COLS / 2) / BLOCK_COLS).max(1);
        for cols in (0..blocks).map(|i| cut(b.cols, PANEL, blocks, i)) {
            let b = b.cols_range(cols.start, cols.end);
            // SAFETY: these columns of c, which `c` borrows exclusively.
            let mut c =
                unsafe { ViewMut::from_raw(c.data.add(cols.start), c.rows, cols.len(), c.row_stride) };
            let depth = (BLOCK_B / padded(b.cols).max(1) / CHUNK).max(1) * Format::active(profile).chunk();
            for k in (0..b.rows).step_by(depth) {
                let end = (k + depth).min(b.rows);
                block.pack(profile, b.rows_range(k, end));
                let onto = if k == 0 { onto } else { Onto::Value };
                block.multiply(a.cols_range(k, end), &mut c, onto);
            }
        }
    });
}

thread_local! {
    /// The block of B that a product is working through.
    static BLOCK: RefCell<Packed> = RefCell::default();
    /// The block of A that a product is working through.
    static ROWS: RefCell<Aligned> = RefCell::default();
}

/// A packed right-hand side, for products that use it more than once: the panels of one chunk of its
/// rows after those of another.
#[derive(Default)]
pub struct Packed {
    pub(super) format: Format,
    pub(super) rows: usize,
    pub(super) cols: usize,
    panels: Aligned,
}

impl Packed {
    /// Packs `b` for products by the rule of `profile`; what was packed before is forgotten, its memory reused.
    pub fn pack<B: Element>(&mut self, profile: Profile, b: View<B>) {
        let format = Format::active(profile);
        (self.format, self.rows, self.cols) = (format, b.rows, b.cols);
        let padded = padded(b.cols);
        let panels = self.panels.reserve(format.words(b.rows) * padded);
        for k in (0..b.rows).step_by(format.chunk()) {
            // SAFETY: chunk after chunk, each with room for all its panels.
            unsafe {
                let chunk = b.rows_range(k, (k + format.chunk()).min(b.rows));
                format.pack_b(panels.add(format.words(k) * padded), chunk);
            }
        }
    }

    /// `c = a b` on the calling thread, with the first `a.cols` rows and the first `c.cols` columns of b.
    ///
    /// # Panics
    /// If `b` has fewer rows or columns, or the shapes do not match.
    pub fn multiply<A: Element>(&self, a: View<A>, c: &mut ViewMut, onto: Onto) {
        self.multiply_part(a, 0, 0, c, onto);
    }

    /// As [`Packed::multiply`], with the rows of b from `from_row` on, a multiple of the format's chunk, and its
    /// columns from `from_col` on, a multiple of [`PANEL`].
    pub(super) fn multiply_part<A: Element>(
        &self,
        a: View<A>,
        from_row: usize,
        from_col: usize,
        c: &mut ViewMut,
        onto: Onto,
    ) {
        let fits = from_row + a.cols <= self.rows && from_col + c.cols <= self.cols && a.rows == c.rows;
        assert!(fits, "shapes do not match");
        assert!(from_row.is_multiple_of(self.format.chunk()) && from_col.is_multiple_of(PANEL), "cut inside");
        if a.cols == 0 && onto == Onto::Zero {
            return clear(c);
        }
        // All chunks of a block of rows before the next rows: that part of c stays near.
        let (format, _configured) = (self.format, self.format.enter());
        let (height, chunk) = (block_rows(format, &a), format.chunk());
        let steps = || {
            let chunks = (0..a.cols).step_by(chunk);
            (0..a.rows).step_by(height).flat_map(move |top| chunks.clone().map(move |k| (top, k)))
        };
        let part = |(top, k): (usize, usize)| {
            a.rows_range(top, (top + height).min(a.rows)).cols_range(k, (k + chunk).min(a.cols))
        };
        ROWS.with_borrow_mut(|rows| {
            let packed = rows.reserve(height.next_multiple_of(format.tile_rows()) * format.row_stride());
            for ((top, k), next) in steps().zip(steps().skip(1).map(Some).chain([None])) {
                let a = part((top, k));
                let mut ahead = Ahead::over(next.map(part), a.rows * c.cols.div_ceil(PANEL));
                let b_words = format.words(chunk.min(self.rows - from_row - k));
                // Panels of this chunk lie behind those of the chunks before.
                let before = format.words(from_row + k) * padded(self.cols) + from_col * b_words;
                let block = Block {
                    a: packed,
                    rows: a.rows,
                    format,
                    words: format.words(a.cols),
                    b: self.panels.as_ptr().wrapping_add(before),
                    b_words,
                    c: c.data.wrapping_add(top * c.row_stride),
                    c_cols: c.cols,
                    c_stride: c.row_stride,
                    onto: if k == 0 { onto } else { Onto::Value },
                };
                // SAFETY: room was reserved just now; the views were checked against their slices.
                unsafe {
                    format.pack_a(packed, a);
                    block.multiply(&mut ahead);
                }
            }
        });
    }
}

/// Rows of A packed at a time: one tile of a row-major A, which is then hot in the first-level
/// cache; several tiles of a transposed A, which is so read in long pieces.
fn block_rows<A: Element>(format: Format, a: &View<A>) -> usize {
    if a.col_stride == 1 { format.tile_rows() } else { 192 }
}

/// Columns with those that fill the last panel.
fn padded(cols: usize) -> usize {
    cols.div_ceil(PANEL) * PANEL
}

/// A packed block of A against the packed panels of one chunk of B.
struct Block {
    format: Format,
    a: *const f32,
    rows: usize,
    words: usize,
    b: *const f32,
    b_words: usize,
    c: *mut f32,
    c_cols: usize,
    c_stride: usize,
    onto: Onto,
}

impl Block {
    /// `c = a b` or `c += a b`.
    ///
    /// # Safety
    /// `a` and `b` must be packed for these sizes, `b_words >= words`; `c` must be exclusively the caller's.
    unsafe fn multiply(self, ahead: &mut Ahead) {
        for (first, height) in self.format.tiles(self.rows) {
            let (kernel, computed) = self.format.kernel(height);
            for column in (0..self.c_cols).step_by(PANEL) {
                // SAFETY: rows and panels lie inside what was packed; every tile of c is written by one
                // kernel call, the last panel through a tile of its own where it is narrower.
                unsafe {
                    let tile = Tile {
                        a: self.a.add(first * self.format.row_stride()),
                        b: self.b.add(column * self.b_words),
                        words: self.words,
                        c: self.c.add(first * self.c_stride + column),
                        c_stride: self.c_stride,
                        onto: self.onto,
                    };
                    let width = PANEL.min(self.c_cols - column);
                    if (height, width) == (computed, PANEL) {
                        kernel(tile, ahead);
                    } else {
                        partial(kernel, tile, ahead, height, width);
                    }
                }
            }
        }
    }
}

/// A tile that is smaller in c than what the kernel computes: computed beside it, then copied.
///
/// # Safety
/// As for the kernel, with `height` rows and `width` columns in c.
unsafe fn partial(kernel: Kernel, tile: Tile, ahead: &mut Ahead, height: usize, width: usize) {
    let mut beside = [0f32; MOST_TILE_ROWS * PANEL];
    // SAFETY: `beside` has room for the tallest tile; c has `height` rows of `width` columns.
    unsafe {
        for i in 0..height {
            std::ptr::copy_nonoverlapping(
                tile.c.add(i * tile.c_stride),
                beside.as_mut_ptr().add(i * PANEL),
                width,
            );
        }
        kernel(Tile { c: beside.as_mut_ptr(), c_stride: PANEL, ..tile }, ahead);
        for i in 0..height {
            std::ptr::copy_nonoverlapping(
                beside.as_ptr().add(i * PANEL),
                tile.c.add(i * tile.c_stride),
                width,
            );
        }
    }
}

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
    /// One part a thread, cut so that packing costs least: every part packs its rows of A and its columns
    /// of B, so a cut of the columns packs all of A again, and a cut of the rows all of B. (Packing B once for
    /// all was slower: what another core has just written is far away.)
    fn new(rows: usize, cols: usize, wanted: usize) -> Self {
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
pub(super) fn cut(len: usize, unit: usize, parts: usize, i: usize) -> std::ops::Range<usize> {
    let units = len.div_ceil(unit);
    let at = |i: usize| (units * i / parts * unit).min(len);
    at(i)..at(i + 1)
}

pub(super) struct Shared<'a>(pub(super) ViewMut<'a>);

// SAFETY: only disjoint parts are written, see `part`.
unsafe impl Sync for Shared<'_> {}

impl Shared<'_> {
    /// # Safety
    /// Parts in use at the same time must not overlap.
    pub(super) unsafe fn part(
        &self,
        rows: std::ops::Range<usize>,
        cols: std::ops::Range<usize>,
    ) -> ViewMut<'_> {
        let c = &self.0;
        // SAFETY: inside the view; disjointness is the caller's.
        unsafe {
            let corner = c.data.wrapping_add(rows.start * c.row_stride + cols.start);
            ViewMut::from_raw(corner, rows.len(), cols.len(), c.row_stride)
        }
    }
}

fn check_shapes<A: Element, B: Element>(a: &View<A>, b: &View<B>, c: &ViewMut) {
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
