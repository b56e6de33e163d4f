//! Parts of rows.

use crate::columns::Columns;

/// Copies a part of every row.
pub fn copy(count: usize, from: &[f32], source: Columns, to: &mut [f32], target: Columns) {
    for row in 0..from.len() / source.width {
        for j in 0..count {
            to[row * target.width + target.first + j] = from[row * source.width + source.first + j];
        }
    }
}
