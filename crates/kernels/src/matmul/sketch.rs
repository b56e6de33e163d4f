//! A matrix times eight vectors, in f64: what checks of a product take, which never form the product.
//!
//! This is no operator of a profile. Its order is fixed all the same (columns ascending, each multiplication and each addition
//! rounded to f64), so that whatever is decided by it is decided the same everywhere.

use super::View;
use crate::bf16::{round, widen};
use crate::multiversion::multiversion;
use crate::profile::Profile;

/// Vectors at once.
pub const VECTORS: usize = 8;

/// One element of each of the vectors.
pub type Eight = [f64; VECTORS];

/// Rows that are summed side by side.
const ROWS: usize = 4;
/// Columns that are converted at once.
const COLUMNS: usize = 64;

/// Rows of a tile, converted.
type Tile<const R: usize> = [[f64; COLUMNS]; R];

/// `sums[i] += a[i, j] x[j]` for j ascending, and the sum of the squares of row i onto `squares[i]` (eight interleaved sums of each
/// 64 columns, which are added in order). `profile` says what an operand is: `bf16-exact` rounds it first, `None` and
/// `f32-exact` take it as it is.
///
/// # Panics
/// If `x` has not a row for each column of `a`, or `sums` and `squares` not an element for each of its rows.
pub fn sketch(a: View, profile: Option<Profile>, x: &[Eight], sums: &mut [Eight], squares: &mut [f64]) {
    assert_eq!(a.cols(), x.len(), "a vector has an element for every column");
    assert!(a.rows() == sums.len() && a.rows() == squares.len(), "a sum for every row");
    tiles(a, profile == Some(Profile::Bf16Exact), x, sums, squares);
}

multiversion! {
    fn tiles(a: View, rounded: bool, x: &[Eight], sums: &mut [Eight], squares: &mut [f64]) {
        let whole = a.rows() / ROWS * ROWS;
        for first in (0..whole).step_by(ROWS) {
            tile::<ROWS>(a.rows_range(first, first + ROWS), rounded, x, &mut sums[first..], &mut squares[first..]);
        }
        for first in whole..a.rows() {
            tile::<1>(a.rows_range(first, first + 1), rounded, x, &mut sums[first..], &mut squares[first..]);
        }
    }
}

#[inline(always)]
fn tile<const R: usize>(a: View, rounded: bool, x: &[Eight], sums: &mut [Eight], squares: &mut [f64]) {
    let mut kept: [Eight; R] = std::array::from_fn(|row| sums[row]);
    let mut values: Tile<R> = [[0.0; COLUMNS]; R];
    for (part, x) in x.chunks(COLUMNS).enumerate() {
        let from = part * COLUMNS;
        convert(a.cols_range(from, from + x.len()), rounded, &mut values);
        for (at, x) in x.iter().enumerate() {
            for row in 0..R {
                for vector in 0..VECTORS {
                    kept[row][vector] += values[row][at] * x[vector];
                }
            }
        }
        for row in 0..R {
            let mut lanes = [0.0; VECTORS];
            for eight in values[row][..x.len().next_multiple_of(VECTORS)].as_chunks::<VECTORS>().0 {
                for lane in 0..VECTORS {
                    lanes[lane] += eight[lane] * eight[lane];
                }
            }
            squares[row] += lanes.iter().fold(0.0, |sum, lane| sum + lane);
        }
    }
    sums[..R].copy_from_slice(&kept);
}

/// The columns of `a`, filled up with zeros to a multiple of eight.
#[inline(always)]
fn convert<const R: usize>(a: View, rounded: bool, values: &mut Tile<R>) {
    let value = |row: usize, at: usize, stride: usize| {
        debug_assert!(row < a.rows && at < a.cols && stride == a.col_stride);
        // SAFETY: row and column lie inside the view.
        let value = unsafe { *a.data.add(row * a.row_stride + at * stride) };
        f64::from(if rounded { widen(round(value)) } else { value })
    };
    if a.col_stride == 1 {
        for row in 0..R {
            for at in 0..a.cols() {
                values[row][at] = value(row, at, 1);
            }
        }
    } else {
        // What lies side by side is read together.
        for at in 0..a.cols() {
            for row in 0..R {
                values[row][at] = value(row, at, a.col_stride);
            }
        }
    }
    for row in values.iter_mut() {
        row[a.cols()..a.cols().next_multiple_of(VECTORS)].fill(0.0);
    }
}
