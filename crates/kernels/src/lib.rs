//! The operators of the numeric profile f32-exact, specified to the last bit.
//!
//! `SPEC.md` says what each operator computes, operation by operation;
//! `reference` says the same in plain loops. Whatever is fast in this crate gives
//! exactly those bits, on every instruction set and for every number of threads.
//!
//! Matrices are row-major slices of `f32`. Sizes follow from the slices; a size
//! that does not fit is a bug of the caller and panics. Work is spread over
//! rayon's current pool.

pub mod isa;
mod multiversion;
mod onto;
mod parallel;
mod reduce;
mod self_test;

pub use onto::Onto;
