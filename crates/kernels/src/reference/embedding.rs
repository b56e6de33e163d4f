//! Embeddings of tokens and positions.

/// Row `ids[t]` of the table becomes row `t` of `y`.
pub fn forward(table: &[f32], width: usize, ids: &[u32], y: &mut [f32]) {
    for t in 0..ids.len() {
        for i in 0..width {
            y[t * width + i] = table[ids[t] as usize * width + i];
        }
    }
}

/// Gradient of [`forward`], added in token order.
pub fn backward(dy: &[f32], width: usize, ids: &[u32], dtable: &mut [f32]) {
    for t in 0..ids.len() {
        for i in 0..width {
            dtable[ids[t] as usize * width + i] += dy[t * width + i];
        }
    }
}

/// Adds the row of its position to every row of `y`.
pub fn add_positions(table: &[f32], width: usize, context: usize, start_position: usize, y: &mut [f32]) {
    for (at, y) in y.iter_mut().enumerate() {
        *y += table[(start_position + at / width % context) * width + at % width];
    }
}

/// Gradient of [`add_positions`], added in token order.
pub fn backward_positions(dy: &[f32], width: usize, context: usize, dtable: &mut [f32]) {
    for (at, dy) in dy.iter().enumerate() {
        dtable[at / width % context * width + at % width] += dy;
    }
}
