//! A right-hand side that is packed once, for all products to come.

use rayon::prelude::*;

use super::drive::{BLOCK_COLS, Shared, cut};
use super::{Element, Operand, PANEL, Packed, View, ViewMut, with_elements};
use crate::onto::Onto;
use crate::profile::Profile;

/// Elements below which a second thread costs more than it brings. Where rows are few, a product is as fast as
/// its weights are read, so this is less than what pays for a product that also computes much.
const SERIAL_ELEMENTS: usize = 1 << 17;

/// The weights of a linear layer, packed as its products read them; in half the memory where the profile rounds
/// them to bf16. What a model that only writes keeps instead of the rows: a step of one token reads every weight
/// once and does little else, so packing would be most of its time.
pub struct Prepared {
    packed: Packed,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared([{}, {}])", self.packed.cols, self.packed.rows)
    }
}

impl Prepared {
    /// Packs `w`, `[outputs, inputs]`, for products by the rule of `profile`.
    ///
    /// # Panics
    /// If `w` is not of these sizes.
    pub fn new(profile: Profile, w: &[f32], outputs: usize, inputs: usize) -> Self {
        assert_eq!(w.len(), outputs * inputs, "a weight is outputs times inputs");
        let mut packed = Packed::default();
        packed.pack(profile, View::row_major(w, outputs, inputs).transposed());
        Self { packed }
    }

    /// `y = x w^T` (or `y += x w^T`): x `[rows, inputs]`, y `[rows, outputs]`; bit for bit what
    /// [`crate::linear::forward`] gives.
    ///
    /// # Panics
    /// If the shapes do not match, or an operand in bf16 meets a profile that does not round to it.
    pub fn forward<'a>(&self, rows: usize, x: impl Into<Operand<'a>>, y: &mut [f32], onto: Onto) {
        with_elements!(x.into(), x => self.forward_of(View::row_major(x, rows, self.packed.rows), y, onto));
    }

    fn forward_of<T: Element>(&self, x: View<T>, y: &mut [f32], onto: Onto) {
        let (rows, outputs) = (x.rows(), self.packed.cols);
        let y = ViewMut::row_major(y, rows, outputs);
        let threads = rayon::current_num_threads();
        let serial = threads == 1 || self.packed.rows * outputs <= SERIAL_ELEMENTS;
        let parts = if serial { 1 } else { threads.min(outputs.div_ceil(2 * PANEL)) };
        let y = Shared(y);
        let part = |part: usize| {
            let columns = cut(outputs, PANEL, parts, part);
            let blocks = columns.len().div_ceil(BLOCK_COLS).max(1);
            for block in (0..blocks).map(|block| cut(columns.len(), PANEL, blocks, block)) {
                let from = columns.start + block.start;
                // SAFETY: blocks of columns are disjoint, and the exclusive view outlives the loop.
                let mut y = unsafe { y.part(0..rows, from..columns.start + block.end) };
                self.columns(x, from, &mut y, onto);
            }
        };
        if parts == 1 {
            part(0);
        } else {
            (0..parts).into_par_iter().with_max_len(1).for_each(part);
        }
    }

    /// Chunk after chunk, so that a block of weights is read by all rows while it is near.
    fn columns<T: Element>(&self, x: View<T>, from: usize, y: &mut ViewMut, onto: Onto) {
        let chunk = self.packed.format.chunk();
        for k in (0..x.cols().max(1)).step_by(chunk) {
            let x = x.cols_range(k, (k + chunk).min(x.cols()));
            let onto = if k == 0 { onto } else { Onto::Value };
            self.packed.multiply_part(x, k, from, y, onto);
        }
    }
}
