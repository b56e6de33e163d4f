//! What a codec is, and what all of them decode to.

use crate::{Header, UpdateError};

/// One replica's pseudo-gradient of one VNode: integers, multiples of `2^-24`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    header: Header,
    values: Vec<i32>,
}

impl Update {
    /// Checks that `values` has the elements of the header's layout.
    pub fn new(header: Header, values: Vec<i32>) -> Result<Self, UpdateError> {
        header.validate()?;
        header.layout.check_len(&values)?;
        Ok(Self { header, values })
    }

    /// What it is about.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The elements of all parameters, in the order of the layout.
    pub fn values(&self) -> &[i32] {
        &self.values
    }
}

/// Turns pseudo-gradients into bytes and bytes into updates.
///
/// Encoding may lose something, and keeps what it lost; decoding is exact.
/// Whatever a codec leaves out or rounds, all of them decode to integers on the
/// one scale, so an [`crate::Aggregate`] need not know who encoded what.
pub trait Codec: Send + Sync {
    /// Encodes a pseudo-gradient: the elements of all parameters in the order of the layout.
    ///
    /// `residual` is the error feedback: what earlier encodings of the same VNode left
    /// unsaid, and afterwards what this one did. It has as many elements as the
    /// pseudo-gradient, or is empty for zero everywhere. It is part of the replica's
    /// state, and is unchanged if encoding fails.
    fn encode(
        &self,
        header: &Header,
        pseudo_gradient: &[f32],
        residual: &mut Vec<f32>,
    ) -> Result<Vec<u8>, UpdateError>;

    /// Decodes an update. Bytes that are not the canonical encoding of what they decode to are refused.
    fn decode(&self, bytes: &[u8]) -> Result<Update, UpdateError>;
}
