//! The operators of the numeric profile f32-exact, specified to the last bit.
//!
//! `SPEC.md` says what each operator computes, operation by operation;
//! `reference` says the same in plain loops. Whatever is fast in this crate gives
//! exactly those bits, on every instruction set and for every number of threads.
//!
//! Matrices are row-major slices of `f32`. Sizes follow from the slices; a size
//! that does not fit is a bug of the caller and panics. Work is spread over
//! rayon's current pool.

#![allow(clippy::needless_range_loop, reason = "loops over an index read like the specification")]

pub mod activation;
pub mod attention;
pub mod clip;
pub mod cross_entropy;
pub mod digest;
pub mod elementwise;
pub mod embedding;
pub mod heads;
pub mod isa;
pub mod linear;
pub mod math;
pub mod matmul;
mod multiversion;
pub mod norm;
mod onto;
pub mod optimizer;
mod parallel;
pub mod random;
mod reduce;
pub mod reference;
pub mod rope;
mod self_test;

pub use onto::Onto;
