//! Causal attention with grouped queries (SPEC.md, "Attention").
//!
//! Memory is linear in the context: a thread holds the scores of [`QUERY_BLOCK`] queries at a
//! time, and the backward pass recomputes them from the log-sum-exp that the forward pass left.
//!
//! A query's result depends on the keys up to its own position and on nothing else, not even
//! on how many queries are computed together: masked keys add an exact zero. So decoding with a cache of keys
//! gives the same bits as training.

mod backward;
mod forward;
mod paged;

pub use backward::backward;
pub use forward::forward;
pub use paged::{Cached, PAGE, decode, store};

/// Queries handled together. The gradients of keys and values are sums over queries, cut at
/// multiples of this, so it is part of the specification.
pub const QUERY_BLOCK: usize = 64;

/// `1 / sqrt(head_dim)`.
fn scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}

/// A pointer to rows that several tasks write, each its own heads or its own sequence.
#[derive(Clone, Copy)]
struct SharedRows(*mut f32);

// SAFETY: the tasks of this module write disjoint elements.
unsafe impl Send for SharedRows {}
// SAFETY: as above.
unsafe impl Sync for SharedRows {}

impl SharedRows {
    /// # Safety
    /// `offset` must lie inside the rows.
    unsafe fn at(&self, offset: usize) -> *mut f32 {
        // SAFETY: the caller's.
        unsafe { self.0.add(offset) }
    }
}
