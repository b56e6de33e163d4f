//! Strided views of matrices in slices.

use std::marker::PhantomData;

use super::Element;

/// A read-only matrix: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub struct View<'a, T = f32> {
    pub(super) data: *const T,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
    lifetime: PhantomData<&'a [T]>,
}

// SAFETY: a view only reads what its slice borrows.
unsafe impl<T: Element> Send for View<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for View<'_, T> {}

impl<'a, T: Element> View<'a, T> {
    /// A view with any strides.
    ///
    /// # Panics
    /// If an element of the view lies outside `data`.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride, col_stride), "view exceeds its slice");
        Self { data: data.as_ptr(), rows, cols, row_stride, col_stride, lifetime: PhantomData }
    }

    /// A dense row-major matrix.
    pub fn row_major(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols, 1)
    }

    /// The transpose; nothing moves.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i` of a view whose columns are contiguous.
    pub(crate) fn row(&self, i: usize) -> &'a [T] {
        assert!(i < self.rows && self.col_stride == 1, "row {i} of {} is not contiguous", self.rows);
        // SAFETY: row i lies inside the view's slice.
        unsafe { std::slice::from_raw_parts(self.data.add(i * self.row_stride), self.cols) }
    }

    /// Columns `from..to`.
    ///
    /// # Panics
    /// If they are none of the view.
    pub fn cols_range(self, from: usize, to: usize) -> Self {
        assert!(from <= to && to <= self.cols, "columns {from} to {to} of {}", self.cols);
        // An offset past an empty range is never dereferenced.
        Self { data: self.data.wrapping_add(from * self.col_stride), cols: to - from, ..self }
    }

    /// Rows `from..to`.
    ///
    /// # Panics
    /// If they are none of the view.
    pub fn rows_range(self, from: usize, to: usize) -> Self {
        assert!(from <= to && to <= self.rows, "rows {from} to {to} of {}", self.rows);
        Self { data: self.data.wrapping_add(from * self.row_stride), rows: to - from, ..self }
    }
}

/// A matrix to be written, its columns contiguous: element (i, j) is `data[i * row_stride + j]`.
pub struct ViewMut<'a> {
    pub(super) data: *mut f32,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: a view owns the exclusive borrow of its elements.
unsafe impl Send for ViewMut<'_> {}

impl<'a> ViewMut<'a> {
    /// A view whose rows lie `row_stride` apart.
    ///
    /// # Panics
    /// If an element of the view lies outside `data`, or rows overlap.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride, 1), "view exceeds its slice");
        assert!(rows <= 1 || row_stride >= cols, "rows of the result overlap");
        Self { data: data.as_mut_ptr(), rows, cols, row_stride, lifetime: PhantomData }
    }

    /// A dense row-major matrix.
    pub fn row_major(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows `from..to`.
    pub(crate) fn rows_range(&mut self, from: usize, to: usize) -> ViewMut<'_> {
        debug_assert!(from <= to && to <= self.rows);
        let data = self.data.wrapping_add(from * self.row_stride);
        ViewMut { data, rows: to - from, cols: self.cols, row_stride: self.row_stride, lifetime: PhantomData }
    }

    /// Row `i`.
    pub(crate) fn row(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        // SAFETY: row i lies inside the view, which is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(i * self.row_stride), self.cols) }
    }

    /// A view of memory that several tasks share, each writing its own rows.
    ///
    /// # Safety
    /// All `rows * cols` elements must be writable, and nobody else may touch them while the view lives.
    pub(crate) unsafe fn from_raw(data: *mut f32, rows: usize, cols: usize, row_stride: usize) -> Self {
        Self { data, rows, cols, row_stride, lifetime: PhantomData }
    }
}

fn fits(len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> bool {
    if rows == 0 || cols == 0 {
        return true;
    }
    let last = (rows - 1)
        .checked_mul(row_stride)
        .zip((cols - 1).checked_mul(col_stride))
        .and_then(|(down, right)| down.checked_add(right));
    last.is_some_and(|last| last < len)
}
