//! Matrix products.

use super::product;
use crate::onto::Onto;
use crate::profile::Profile;

/// A strided matrix: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance between rows.
    pub row_stride: usize,
    /// Distance between columns.
    pub col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A dense row-major matrix.
    pub fn row_major(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The transpose.
    pub fn transposed(self) -> Self {
        let Self { data, rows, cols, row_stride, col_stride } = self;
        Self { data, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }

    /// One element.
    pub fn at(&self, i: usize, j: usize) -> f32 {
        self.data[i * self.row_stride + j * self.col_stride]
    }
}

/// `c = a b`, rows of `c` lying `c_stride` apart.
pub fn matmul(profile: Profile, a: Matrix, b: Matrix, c: &mut [f32], c_stride: usize, onto: Onto) {
    for i in 0..a.rows {
        for j in 0..b.cols {
            let c = &mut c[i * c_stride + j];
            *c = product(profile, onto.start(*c), a.cols, |k| a.at(i, k), |k| b.at(k, j));
        }
    }
}
