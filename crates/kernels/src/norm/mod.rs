//! Normalisation of rows: root mean square ([`rms_forward`]) and LayerNorm
//! ([`layer_forward`]), with their gradients.
//!
//! `x`, `y` and their gradients are rows x width; width is the length of the
//! gain, rows the length of `rstd`.

mod layer;
mod rms;

pub use layer::{layer_backward, layer_forward};
pub use rms::{rms_backward, rms_forward};
pub(crate) use rms::{rms_gradient, rms_projection, rms_row};

use crate::onto::Onto;

/// Sums over tokens that are not matrix products are cut at multiples of this.
/// It divides the chunk of the matrix products, so micro-batches of whole
/// chunks give the same bits as the whole batch.
pub(crate) const TOKEN_BLOCK: usize = 64;

/// Adds block sums, `sums.len()` values each, to `sums` in order.
pub(crate) fn add_blocks(sums: &mut [f32], onto: Onto, blocks: &[f32]) {
    onto.prepare(sums);
    for block in blocks.chunks_exact(sums.len()) {
        for (sum, value) in sums.iter_mut().zip(block) {
            *sum += value;
        }
    }
}

/// Rows and width, checked against every slice that has them.
fn shape(rstd: &[f32], gain: &[f32], matrices: &[&[f32]]) -> (usize, usize) {
    let (rows, width) = (rstd.len(), gain.len());
    assert!(width > 0, "a norm needs a width");
    for matrix in matrices {
        assert_eq!(matrix.len(), rows * width, "a norm's matrices are rows x width");
    }
    (rows, width)
}
