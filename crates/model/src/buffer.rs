//! Activations: buffers that come from a pool and return to it.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zoo_kernels::bf16::Bf16;
use zoo_kernels::{Profile, matmul};

/// Where activations come from. Every step of a run asks for the same lengths, so after the first
/// step nothing is allocated: fresh memory costs a page fault for every 4 KiB touched.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    exact: Shelf<f32>,
    rounded: Shelf<Bf16>,
}

impl Pool {
    /// A buffer of `length` elements. Its content is whatever was there: the taker overwrites it.
    pub fn take(&self, length: usize) -> Buffer {
        self.exact.take(length)
    }

    /// A buffer that holds a copy of `values`.
    pub fn copy_of(&self, values: &[f32]) -> Buffer {
        let mut copy = self.take(values.len());
        zoo_kernels::elementwise::copy(values, &mut copy);
        copy
    }

    /// A buffer that holds `values` rounded to bf16.
    pub fn rounded(&self, values: &[f32]) -> Buffer<Bf16> {
        let mut rounded = self.rounded.take(values.len());
        zoo_kernels::bf16::round_all(values, &mut rounded);
        rounded
    }

    /// The content of `shared` to write on: itself where nobody else holds it, else a copy.
    pub fn own(&self, shared: Arc<Buffer>) -> Buffer {
        Arc::try_unwrap(shared).unwrap_or_else(|shared| self.copy_of(&shared))
    }

    /// Gives the free buffers back to the system, for instance after an evaluation of another shape.
    pub fn clear(&self) {
        self.exact.lock().clear();
        self.rounded.lock().clear();
    }

    /// How many buffers are free.
    #[cfg(test)]
    pub fn free_buffers(&self) -> usize {
        self.exact.lock().values().map(Vec::len).sum::<usize>()
            + self.rounded.lock().values().map(Vec::len).sum::<usize>()
    }
}

/// Free buffers of one kind of element, by length.
#[derive(Debug)]
struct Shelf<T>(Arc<Mutex<FreeByLength<T>>>);

type FreeByLength<T> = BTreeMap<usize, Vec<Vec<T>>>;

impl<T: Copy + Default> Shelf<T> {
    fn take(&self, length: usize) -> Buffer<T> {
        let reused = self.lock().get_mut(&length).and_then(Vec::pop);
        Buffer { data: reused.unwrap_or_else(|| vec![T::default(); length]), shelf: self.clone() }
    }
}

impl<T> Shelf<T> {
    fn lock(&self) -> MutexGuard<'_, FreeByLength<T>> {
        // A panic elsewhere cannot leave a list of free buffers half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Shelf<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// A row-major matrix of activations; its taker knows the shape. Returns to its [`Pool`] on drop.
#[derive(Debug)]
pub struct Buffer<T = f32> {
    data: Vec<T>,
    shelf: Shelf<T>,
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        self.shelf.lock().entry(data.len()).or_default().push(data);
    }
}

/// An activation that only matrix products read: as it is, or rounded once where the profile's products would
/// round it each time. Half the memory, the same bits.
#[derive(Debug)]
pub enum Operand {
    /// As it was computed.
    Exact(Arc<Buffer>),
    /// In bf16.
    Rounded(Buffer<Bf16>),
}

impl Operand {
    /// `activation` for products by the rule of `profile`.
    pub fn new(pool: &Pool, profile: Profile, activation: Arc<Buffer>) -> Self {
        match profile {
            Profile::F32Exact => Self::Exact(activation),
            Profile::Bf16Exact => Self::Rounded(pool.rounded(&activation)),
        }
    }

    /// What a product takes.
    pub fn read(&self) -> matmul::Operand<'_> {
        match self {
            Self::Exact(buffer) => matmul::Operand::F32(buffer),
            Self::Rounded(buffer) => matmul::Operand::Bf16(buffer),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.read().len()
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
