//! What nodes are asked to keep, and how they show that they do.
//!
//! Like work, it is level-triggered: a node is told everything that it should be keeping *now*.

use serde::{Deserialize, Serialize};
use zoo_content::slice::{self, CHUNK_BYTES};
use zoo_content::{Digest, MAX_BLOB_BYTES};

use crate::limits;
use crate::{JobId, Message, WireError};

/// A checkpoint that a node keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// The job.
    pub job: JobId,
    /// The round that ended with it.
    pub round: u32,
    /// Its manifest; what that lists is kept too.
    pub checkpoint: Digest,
    /// Grows whenever the node is asked anew: it looks again whether it has everything, fetches what it has not, and says so.
    pub ask: u32,
    /// What the node is to prove.
    pub challenge: Option<Challenge>,
}

/// A part of a blob, to be shown by who says that it keeps the blob. It is drawn at random, so it cannot be prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Tells one challenge from another.
    pub nonce: u64,
    /// The blob.
    pub blob: Digest,
    /// Its size, bytes.
    pub bytes: u64,
    /// Where the part is, bytes from the start of the blob.
    pub offset: u64,
    /// Its length, bytes: within one chunk of 1,024.
    pub length: u32,
}

impl Challenge {
    /// The chunk of a blob of `bytes` bytes that `place` lies in, taken modulo its chunks.
    pub fn of_chunk(nonce: u64, blob: Digest, bytes: u64, place: u64) -> Self {
        let offset = place % bytes.div_ceil(CHUNK_BYTES).max(1) * CHUNK_BYTES;
        let length = bytes.saturating_sub(offset).min(CHUNK_BYTES) as u32;
        Self { nonce, blob, bytes, offset, length }
    }

    /// Whether `proof` shows the part; who checks it does not need the blob.
    #[must_use]
    pub fn is_met_by(&self, proof: &[u8]) -> bool {
        let part = self.offset..self.offset + u64::from(self.length);
        slice::verify(&self.blob, self.bytes, CHUNK_BYTES, part, proof).is_ok()
    }
}

impl Message for Challenge {
    /// An empty part would prove nothing, unless the blob is empty itself.
    fn validate(&self) -> Result<(), WireError> {
        limits::at_most("bytes of a blob", self.bytes, MAX_BLOB_BYTES)?;
        limits::at_least("length of a part", self.length.into(), self.bytes.min(1))?;
        limits::at_most("length of a part", self.length.into(), CHUNK_BYTES - self.offset % CHUNK_BYTES)?;
        limits::at_most("end of a part", self.offset.saturating_add(self.length.into()), self.bytes)
    }
}

impl Message for Keep {
    fn validate(&self) -> Result<(), WireError> {
        self.challenge.as_ref().map_or(Ok(()), Challenge::validate)
    }
}
