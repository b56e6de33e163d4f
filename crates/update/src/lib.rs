//! Update codec and integer aggregation.
//!
//! An [`Update`] is what one replica says about one VNode after one round: its
//! pseudo-gradient (parameters at the start minus parameters at the end) as
//! integers on one shared scale, `2^-24`. Because every replica uses the same
//! scale, an [`Aggregate`] adds updates as integers: any order, any tree of
//! partial sums, the same bits (DESIGN, law 4).
//!
//! ```
//! use zoo_update::{Aggregate, Codec, Dense, Header, Layout, Shape};
//!
//! let layout = Layout::new([("weight", Shape::matrix(1, 3)), ("bias", Shape::vector(1))])?;
//! let header = Header { round: 7, vnode: "block.0".into(), tokens: 512, layout: layout.clone() };
//! let bytes = Dense.encode(&header, &[0.5, -0.25, 0.0, 1.0], &mut Vec::new())?;
//!
//! let update = Dense.decode(&bytes, &header)?;
//! let mut aggregate = Aggregate::new(7, "block.0", layout);
//! aggregate.add(&update, zoo_update::weight_of_tokens(update.header().tokens), u64::MAX)?;
//! assert_eq!(aggregate.mean()?, [0.5, -0.25, 0.0, 1.0]);
//! # Ok::<(), zoo_update::UpdateError>(())
//! ```
//!
//! [`Dense`] says everything in 32 bits an element; [`Sparse`] says the largest element of 64 in about 9.5 bits and
//! the rest in later rounds.
//!
//! Every codec is canonical: an update has one encoding, and bytes that are not
//! it are refused, so a digest of the bytes is a digest of the update.
//!
//! This crate does no I/O and starts no threads.

mod aggregate;
mod agreement;
mod bits;
mod chunks;
mod codec;
pub mod dense;
mod error;
mod header;
mod memory;
mod partial;
mod parts;
mod positions;
mod recurrence;
pub mod rules;
mod sketch;
pub mod sparse;

pub use aggregate::{Aggregate, MAX_TOTAL_WEIGHT, norm_limit, weight_of_late_tokens, weight_of_tokens};
pub use agreement::Agreement;
pub use codec::{Codec, Update};
pub use dense::Dense;
pub use error::UpdateError;
pub use header::{Header, Layout, LayoutId, MAX_ELEMENTS, MAX_NAME_BYTES, MAX_PARAMETERS, Parameter, Shape};
pub use memory::Memory;
pub use parts::{Cut, header_bytes, to_units};
pub use recurrence::Recurrence;
pub use sketch::Sketch;
pub use sparse::Sparse;

/// Integers are multiples of `2^-SCALE_EXPONENT`.
pub const SCALE_EXPONENT: u8 = 24;
