//! Single bits in bytes, lowest first.

use crate::UpdateError;

/// Writes bits.
#[derive(Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits that do not fill a byte yet.
    pending: u64,
    count: u32,
}

impl BitWriter {
    /// The lowest `count` bits of `value`, at most 32; the others must be zero.
    pub fn put(&mut self, value: u32, count: u32) {
        debug_assert!(count <= 32 && u64::from(value) < 1 << count);
        self.pending |= u64::from(value) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// `count` ones.
    pub fn ones(&mut self, mut count: u32) {
        while count > 0 {
            let now = count.min(31);
            self.put((1 << now) - 1, now);
            count -= now;
        }
    }

    /// How many there are.
    pub fn bits(&self) -> u32 {
        8 * self.bytes.len() as u32 + self.count
    }

    /// The bytes, the last filled up with zeros.
    pub fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.bytes.push(self.pending as u8);
        }
        self.bytes
    }
}

/// Reads what [`BitWriter`] wrote.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    pending: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, pending: 0, count: 0 }
    }

    /// The next `count` bits, at most 32.
    pub fn take(&mut self, count: u32) -> Result<u32, UpdateError> {
        debug_assert!(count <= 32);
        while self.count < count {
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(UpdateError::NotCanonical("it ends early"));
            };
            self.pending |= u64::from(byte) << self.count;
            self.count += 8;
            self.at += 1;
        }
        let value = self.pending & ((1 << count) - 1);
        self.pending >>= count;
        self.count -= count;
        Ok(value as u32)
    }

    /// Ones up to a zero, which is read too; or `most` ones, after which no zero stands.
    pub fn ones(&mut self, most: u32) -> Result<u32, UpdateError> {
        let mut count = 0;
        while count < most && self.take(1)? == 1 {
            count += 1;
        }
        Ok(count)
    }

    /// Checks that nothing is left but the zeros that fill the last byte.
    pub fn finish(self) -> Result<(), UpdateError> {
        if self.pending != 0 {
            return Err(UpdateError::NotCanonical("bits after its end are not zero"));
        }
        if self.at < self.bytes.len() {
            return Err(UpdateError::NotCanonical("bytes follow its end"));
        }
        Ok(())
    }
}
