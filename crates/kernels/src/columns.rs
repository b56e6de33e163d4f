//! Parts of rows: what stands side by side in one tensor, moved to its place in another.

use rayon::prelude::*;

use crate::parallel::rows_per_task;

/// Where a part of every row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Elements of a whole row.
    pub width: usize,
    /// The first element of the part.
    pub first: usize,
}

/// Copies `count` elements of every row of `from` into every row of `to`.
///
/// # Panics
/// If a part does not fit its row, or one tensor has more rows.
pub fn copy(count: usize, from: &[f32], source: Columns, to: &mut [f32], target: Columns) {
    let fits = |part: Columns| count > 0 && part.first + count <= part.width;
    assert!(fits(source) && fits(target), "a part lies within its row");
    let rows = from.len() / source.width;
    assert!(from.len() == rows * source.width && to.len() == rows * target.width, "both have whole rows");
    let task = rows_per_task(rows, count);
    (from.par_chunks(task * source.width), to.par_chunks_mut(task * target.width)).into_par_iter().for_each(
        |(from, to)| {
            for (from, to) in from.chunks_exact(source.width).zip(to.chunks_exact_mut(target.width)) {
                to[target.first..][..count].copy_from_slice(&from[source.first..][..count]);
            }
        },
    );
}
