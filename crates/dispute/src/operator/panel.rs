//! A block of a product's output with all that it is made of, for who looks at products as matrices.

use zoo_kernels::matmul::View;

/// Rows of a product's output that are made of the same matrices.
pub struct Panel<'a> {
    /// Where its first element lies in the output.
    pub first: usize,
    /// From one row to the next.
    pub stride: usize,
    /// Number of rows.
    pub rows: usize,
    /// Elements of a row.
    pub columns: usize,
    /// Where the output is masked right of a diagonal: row i ends with column `diagonal + i`.
    pub diagonal: Option<usize>,
    /// Pairs `[rows, terms]` and `[terms, columns]`, whose products are added in order.
    pub factors: Vec<[View<'a>; 2]>,
}

impl Panel<'_> {
    /// Elements of row `row` that are not masked.
    pub fn columns_of(&self, row: usize) -> usize {
        self.diagonal.map_or(self.columns, |diagonal| self.columns.min(diagonal + row + 1))
    }

    /// Terms of an element.
    pub fn terms(&self) -> usize {
        self.factors.iter().map(|[a, _]| a.cols()).sum()
    }
}
