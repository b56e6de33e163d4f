//! What a codec is, and what all of them decode to.

use crate::{Header, UpdateError};

/// One replica's pseudo-gradient of one VNode: integers, multiples of `2^-24`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    header: Header,
    body: Body,
}

/// The elements that an update speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// All, in the order of the layout.
    Dense(Vec<i32>),
    /// Some; the others are zero.
    Sparse(Vec<Entry>),
}

/// One element that a sparse update speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its place in the order of the layout.
    pub index: u32,
    pub value: i32,
}

impl Update {
    /// An update that speaks of every element; checks that `values` has those of the header's layout.
    pub fn new(header: Header, values: Vec<i32>) -> Result<Self, UpdateError> {
        header.validate()?;
        header.layout.check_len(&values)?;
        Ok(Self { header, body: Body::Dense(values) })
    }

    /// An update that speaks of some elements, each at most once and within the layout.
    pub(crate) fn sparse(header: Header, entries: Vec<Entry>) -> Result<Self, UpdateError> {
        header.validate()?;
        Ok(Self { header, body: Body::Sparse(entries) })
    }

    /// What it is about.
    pub fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn body(&self) -> &Body {
        &self.body
    }

    /// Whether it says nothing of some elements.
    pub fn is_sparse(&self) -> bool {
        matches!(self.body, Body::Sparse(_))
    }

    /// Its Euclidean norm in units of `2^-24`, rounded down: the root of an exact sum.
    pub fn norm(&self) -> u64 {
        let mut squares = 0u128;
        self.for_each(|_, value| squares += u128::from(value.unsigned_abs()).pow(2));
        squares.isqrt() as u64
    }

    /// The elements of all parameters, in the order of the layout; those that it says nothing of are zero.
    pub fn values(&self) -> Vec<i32> {
        let mut values = vec![0; self.header.layout.elements() as usize];
        self.for_each(|index, value| values[index] = value);
        values
    }

    /// Calls `visit` with the place and the value of every element that it speaks of.
    pub fn for_each(&self, mut visit: impl FnMut(usize, i32)) {
        match &self.body {
            Body::Dense(values) => values.iter().enumerate().for_each(|(index, value)| visit(index, *value)),
            Body::Sparse(entries) => {
                entries.iter().for_each(|entry| visit(entry.index as usize, entry.value));
            }
        }
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

    /// Decodes the update that `expected` asks for. Another's, and bytes that are not the canonical encoding of what they
    /// decode to, are refused; no size is believed before it is the expected one.
    fn decode(&self, bytes: &[u8], expected: &Header) -> Result<Update, UpdateError>;
}
