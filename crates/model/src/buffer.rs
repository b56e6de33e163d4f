//! Activations: buffers that come from a pool and return to it.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Free buffers, by length. Every step of a run asks for the same lengths, so after the first
/// step nothing is allocated: fresh memory costs a page fault for every 4 KiB touched.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    free: Arc<Mutex<BTreeMap<usize, Vec<Vec<f32>>>>>,
}

impl Pool {
    /// A buffer of `length` elements. Its content is whatever was there: the taker overwrites it.
    pub fn take(&self, length: usize) -> Buffer {
        let reused = self.lock().get_mut(&length).and_then(Vec::pop);
        Buffer { data: reused.unwrap_or_else(|| vec![0.0; length]), pool: self.clone() }
    }

    /// A buffer that holds a copy of `values`.
    pub fn copy_of(&self, values: &[f32]) -> Buffer {
        let mut copy = self.take(values.len());
        zoo_kernels::elementwise::copy(values, &mut copy);
        copy
    }

    /// The content of `shared` to write on: itself where nobody else holds it, else a copy.
    pub fn own(&self, shared: Arc<Buffer>) -> Buffer {
        Arc::try_unwrap(shared).unwrap_or_else(|shared| self.copy_of(&shared))
    }

    /// Gives the free buffers back to the system, for instance after an evaluation of another shape.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// How many buffers are free.
    #[cfg(test)]
    pub fn free_buffers(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Vec<Vec<f32>>>> {
        // A panic elsewhere cannot leave a list of free buffers half changed.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row-major f32 matrix of activations; its taker knows the shape. Returns to its [`Pool`] on drop.
#[derive(Debug)]
pub struct Buffer {
    data: Vec<f32>,
    pool: Pool,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        self.pool.lock().entry(data.len()).or_default().push(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_taken_again() {
        let pool = Pool::default();
        let first = pool.take(64);
        let address = first.as_ptr();
        drop(first);
        assert_eq!(pool.take(64).as_ptr(), address);
        assert_eq!(pool.take(32).len(), 32);
    }

    #[test]
    fn owning_copies_only_what_others_hold() {
        let pool = Pool::default();
        let shared = Arc::new(pool.copy_of(&[1.0, 2.0]));
        let held = Arc::clone(&shared);
        let mut copy = pool.own(shared);
        copy[0] = 5.0;
        assert_eq!(held[..], [1.0, 2.0]);
        let address = held.as_ptr();
        assert_eq!(pool.own(held).as_ptr(), address);
    }
}
