//! What a program takes from blobs that both parties know by name: tokens of the data, parameters, what a replica kept.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_training::{Dataset, Order};

/// A blob by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// Words that lie one after the other in a blob.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stored {
    /// The blob.
    pub blob: Blob,
    /// Where the first word begins, bytes.
    pub first: u64,
}

/// The ids of a batch: which token of the data every one is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tokens {
    /// The data.
    pub blob: Blob,
    /// Token ids of it.
    pub vocab_size: u32,
    /// Where sequences begin.
    pub order: Order,
    /// The batch's first sequence.
    pub first_sequence: u64,
    /// Tokens of a sequence.
    pub context: usize,
    /// 0 for inputs, 1 for targets.
    pub shift: u64,
}

impl Stored {
    /// Where an element lies.
    pub fn range(&self, element: usize) -> Range<u64> {
        let first = self.first + 4 * element as u64;
        first..first + 4
    }
}

impl Tokens {
    /// Where an element lies.
    pub fn range(&self, element: usize) -> Range<u64> {
        let (sequence, at) = (element / self.context, element % self.context);
        let position = self.order.start(self.first_sequence + sequence as u64) + at as u64 + self.shift;
        Dataset::bytes_of(self.vocab_size, position)
    }
}

/// A number of at most four bytes, lowest first.
pub fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}
