//! Token embedding, and the learned positions of GPT-2.
//!
//! The gradients touch one row of a table per token: so little beside the
//! matrix products of the same token that they run on one thread, which keeps
//! token order for free.

use crate::elementwise::add_assign_task;

/// Row `i` of `y` (`width` values) is row `ids[i]` of `table`.
///
/// # Panics
/// If an id has no row.
pub fn forward(table: &[f32], width: usize, ids: &[u32], y: &mut [f32]) {
    check(table, width, ids, y);
    for (id, y) in ids.iter().zip(y.chunks_exact_mut(width)) {
        y.copy_from_slice(&table[*id as usize * width..][..width]);
    }
}

/// Gradient of [`forward`]: adds row `i` of `dy` onto row `ids[i]` of `dtable`,
/// in token order.
///
/// # Panics
/// If an id has no row.
pub fn backward(dy: &[f32], width: usize, ids: &[u32], dtable: &mut [f32]) {
    check(dtable, width, ids, dy);
    for (id, dy) in ids.iter().zip(dy.chunks_exact(width)) {
        add_assign_task(&mut dtable[*id as usize * width..][..width], dy);
    }
}

/// Adds to every row of `y` the table's row of its position, which for row `r`
/// is `start_position + r mod context`.
///
/// # Panics
/// If a position has no row.
pub fn add_positions(table: &[f32], width: usize, context: usize, start_position: usize, y: &mut [f32]) {
    assert!(width > 0 && y.len().is_multiple_of(width), "positions are added to whole rows");
    for (row, y) in y.chunks_exact_mut(width).enumerate() {
        let position = start_position + row % context;
        add_assign_task(y, &table[position * width..][..width]);
    }
}

/// Adds to row `r` of `y` the table's row `positions[r]`.
///
/// # Panics
/// If a position has no row.
pub fn add_positions_at(table: &[f32], width: usize, positions: &[u32], y: &mut [f32]) {
    assert!(width > 0 && y.len() == positions.len() * width, "one position for every row");
    for (position, y) in positions.iter().zip(y.chunks_exact_mut(width)) {
        add_assign_task(y, &table[*position as usize * width..][..width]);
    }
}

/// Gradient of [`add_positions`] from position 0: adds row `r` of `dy` onto row
/// `r mod context` of `dtable`, in token order.
pub fn backward_positions(dy: &[f32], width: usize, context: usize, dtable: &mut [f32]) {
    assert!(width > 0 && dy.len().is_multiple_of(width), "positions are added to whole rows");
    for (row, dy) in dy.chunks_exact(width).enumerate() {
        add_assign_task(&mut dtable[row % context * width..][..width], dy);
    }
}

fn check(table: &[f32], width: usize, ids: &[u32], y: &[f32]) {
    assert!(width > 0, "an embedding needs a width");
    assert_eq!(y.len(), ids.len() * width, "one row for every id");
    let rows = table.len() / width;
    for id in ids {
        assert!((*id as usize) < rows, "token {id} is outside the table of {rows}");
    }
}
