//! Activations and gradients: buffers that come from a pool and return to it.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytemuck::Pod;
use zoo_kernels::bf16::Bf16;
use zoo_kernels::{Profile, matmul};

use crate::arena::{Arena, Piece};

/// Where activations and gradients come from: one [`Arena`], so that what a backward pass has read makes room
/// for the gradients it writes, and so that steps after the first touch no fresh memory.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    arena: Arena,
}

impl Pool {
    /// A buffer of `length` elements. Its content is whatever was there: the taker overwrites it.
    pub fn take(&self, length: usize) -> Buffer {
        Buffer::new(&self.arena, length)
    }

    /// A buffer that holds a copy of `values`.
    pub fn copy_of(&self, values: &[f32]) -> Buffer {
        let mut copy = self.take(values.len());
        zoo_kernels::elementwise::copy(values, &mut copy);
        copy
    }

    /// A buffer that holds `values` rounded to bf16.
    pub fn rounded(&self, values: &[f32]) -> Buffer<Bf16> {
        let mut rounded = Buffer::new(&self.arena, values.len());
        zoo_kernels::bf16::round_all(values, &mut rounded);
        rounded
    }

    /// The content of `shared` to write on: itself where nobody else holds it, else a copy.
    pub fn own(&self, shared: Arc<Buffer>) -> Buffer {
        Arc::try_unwrap(shared).unwrap_or_else(|shared| self.copy_of(&shared))
    }

    /// Gives free memory back to the system, for instance after an evaluation of another shape.
    pub fn clear(&self) {
        self.arena.release();
    }

    /// The most bytes that were in use at once since the last [`Pool::clear`].
    pub fn peak_bytes(&self) -> usize {
        self.arena.usage().peak
    }
}

/// A row-major matrix; its taker knows the shape. Returns to its [`Pool`] on drop.
#[derive(Debug)]
pub struct Buffer<T = f32> {
    piece: Piece,
    length: usize,
    element: PhantomData<T>,
}

impl<T> Buffer<T> {
    fn new(arena: &Arena, length: usize) -> Self {
        Self { piece: arena.take(length * size_of::<T>()), length, element: PhantomData }
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.piece.bytes()[..self.length * size_of::<T>()])
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.piece.bytes_mut()[..self.length * size_of::<T>()])
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
