//! The operators of the numeric profiles f32-exact and bf16-exact, specified to the last bit.
//!
//! `SPEC.md` says what each operator computes, operation by operation;
//! `reference` says the same in plain loops. Whatever is fast in this crate gives
//! exactly those bits, on every instruction set and for every number of threads.
//!
//! Matrices are row-major slices of `f32`. Sizes follow from the slices; a size
//! that does not fit is a bug of the caller and panics. Work is spread over
//! rayon's current pool.
//!
//! ```
//! use zoo_kernels::{Onto, Profile};
//! use zoo_kernels::linear::{self, Shape};
//!
//! zoo_kernels::isa::self_test()?;
//! let shape = Shape { rows: 1, inputs: 2, outputs: 3 };
//! let (x, w) = ([1.0, 2.0], [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
//! let mut y = [10.0; 3];
//! linear::forward(Profile::F32Exact, shape, &x, &w, &mut y, Onto::Value);
//! assert_eq!(y, [11.0, 12.0, 13.0]);
//! # Ok::<(), zoo_kernels::isa::SelfTestError>(())
//! ```

#![allow(clippy::needless_range_loop, reason = "loops over an index read like the specification")]

pub mod activation;
pub mod attention;
pub mod bf16;
pub mod clip;
pub mod columns;
pub mod cross_entropy;
pub mod digest;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod heads;
mod huge_pages;
pub mod isa;
pub mod linear;
pub mod math;
pub mod matmul;
mod multiversion;
pub mod norm;
mod onto;
pub mod optimizer;
mod parallel;
pub mod probe;
mod profile;
pub mod random;
mod reduce;
pub mod reference;
pub mod rope;
mod self_test;
pub mod square_error;

pub use huge_pages::HugePages;
pub use onto::Onto;
pub use profile::Profile;
pub use profile::UnknownProfile;
