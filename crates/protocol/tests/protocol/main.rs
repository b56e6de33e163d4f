//! The bytes on the wire: what they are, what they may be, and what a signature covers.

mod arbitrary;
mod golden;
mod samples;
mod sealed;
mod wire;
