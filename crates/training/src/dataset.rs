//! Tokenised text as one content-addressed blob.
//!
//! Layout, integers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `ZOOTOKEN` |
//! | 4 | version, 1 |
//! | 4 | bytes per token: 1, 2 or 4, the fewest that hold every id |
//! | 8 | vocabulary size |
//! | 8 | number of tokens |
//! | 8 | bytes of text that the tokens stand for |
//! | rest | the tokens |
//!
//! One text has one encoding, so equal data has an equal digest.

use std::fmt;
use std::ops::Range;

use thiserror::Error;
use zoo_content::{Digest, VerifiedBlob};

const MAGIC: &[u8; 8] = b"ZOOTOKEN";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 40;

/// The largest vocabulary a dataset may have, tokens.
pub const VOCABULARY_MAX: u32 = 1 << 20;

/// Why bytes are not a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DatasetError {
    /// The bytes do not follow the layout.
    #[error("tokenised data: {cause}\nhint: {HINT_PREPARE}")]
    Malformed {
        /// What is wrong.
        cause: String,
    },
    /// A token is not in the vocabulary.
    #[error(
        "tokenised data: token {token} at position {position} is outside the vocabulary of {vocab_size}\nhint: {HINT_PREPARE}"
    )]
    OutsideVocabulary {
        /// Position of the token.
        position: u64,
        /// Its id.
        token: u32,
        /// Number of ids.
        vocab_size: u32,
    },
    /// There are too few tokens for one sequence.
    #[error(
        "tokenised data: {tokens} tokens are too few for one sequence of {context} and its last target\nhint: give at least {} tokens of text, or choose a shorter context", .context + 1
    )]
    TooShort {
        /// Tokens at hand.
        tokens: u64,
        /// Tokens per sequence.
        context: usize,
    },
}

const HINT_PREPARE: &str = "prepare the data again with the tokenizer of this run";

/// Tokens, packed as they are stored, and the digest of the blob.
#[derive(Clone)]
pub struct Dataset {
    blob: VerifiedBlob,
    header: Header,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    width: TokenWidth,
    vocab_size: u32,
    tokens: u64,
    text_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenWidth {
    One,
    Two,
    Four,
}

impl Dataset {
    /// Packs tokens. `text_bytes` is the length of the text they stand for: bits per byte divide by it.
    ///
    /// # Errors
    /// A vocabulary of 0 or above [`VOCABULARY_MAX`], or a token outside it.
    pub fn encode(vocab_size: u32, tokens: &[u32], text_bytes: u64) -> Result<Self, DatasetError> {
        check_vocabulary(vocab_size)?;
        let width = TokenWidth::of(vocab_size);
        let header = Header { width, vocab_size, tokens: tokens.len() as u64, text_bytes };
        let mut blob = Vec::with_capacity(HEADER_BYTES + tokens.len() * width.bytes());
        header.write(&mut blob);
        for (position, &token) in tokens.iter().enumerate() {
            if token >= vocab_size {
                return Err(DatasetError::OutsideVocabulary { position: position as u64, token, vocab_size });
            }
            blob.extend_from_slice(&token.to_le_bytes()[..width.bytes()]);
        }
        Ok(Self { blob: VerifiedBlob::new(blob), header })
    }

    /// Opens a blob; nothing but what [`Dataset::encode`] writes is accepted.
    ///
    /// # Errors
    /// Bytes that do not follow the layout, or a token outside the vocabulary.
    pub fn decode(blob: VerifiedBlob) -> Result<Self, DatasetError> {
        let header = Header::read(&blob)?;
        let dataset = Self { blob, header };
        for (position, token) in dataset.iterate(0, header.tokens).enumerate() {
            if token >= header.vocab_size {
                return Err(DatasetError::OutsideVocabulary {
                    position: position as u64,
                    token,
                    vocab_size: header.vocab_size,
                });
            }
        }
        Ok(dataset)
    }

    /// The digest of the blob: the name of the data.
    pub fn digest(&self) -> Digest {
        self.blob.digest()
    }

    /// The blob.
    pub fn blob(&self) -> &VerifiedBlob {
        &self.blob
    }

    /// Number of tokens.
    pub fn len(&self) -> u64 {
        self.header.tokens
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.header.tokens == 0
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> u32 {
        self.header.vocab_size
    }

    /// Bytes of text that all tokens together stand for.
    pub fn text_bytes(&self) -> u64 {
        self.header.text_bytes
    }

    /// Bytes of text that the tokens before `position` stand for, apportioned evenly and rounded
    /// down: exact for byte tokens and for the whole, and parts always add up to the whole.
    pub fn text_bytes_before(&self, position: u64) -> u64 {
        debug_assert!(position <= self.len());
        if self.is_empty() {
            return 0;
        }
        (u128::from(self.header.text_bytes) * u128::from(position) / u128::from(self.header.tokens)) as u64
    }

    /// Where a token lies in the blob of any dataset of that vocabulary, bytes; for whoever has only a part of it.
    pub fn bytes_of(vocab_size: u32, position: u64) -> Range<u64> {
        let width = TokenWidth::of(vocab_size).bytes() as u64;
        let start = HEADER_BYTES as u64 + position * width;
        start..start + width
    }

    /// How many tokens of that vocabulary a blob of `bytes` bytes holds.
    pub fn tokens_in(vocab_size: u32, bytes: u64) -> u64 {
        bytes.saturating_sub(HEADER_BYTES as u64) / TokenWidth::of(vocab_size).bytes() as u64
    }

    /// Copies the tokens at `start ..` into `tokens`.
    ///
    /// # Panics
    /// When they reach past the end.
    pub fn read(&self, start: u64, tokens: &mut [u32]) {
        let count = tokens.len() as u64;
        assert!(
            start.checked_add(count).is_some_and(|end| end <= self.len()),
            "tokens past the end of the data"
        );
        for (slot, token) in tokens.iter_mut().zip(self.iterate(start, count)) {
            *slot = token;
        }
    }

    fn iterate(&self, start: u64, count: u64) -> impl Iterator<Item = u32> + '_ {
        let width = self.header.width.bytes();
        let from = HEADER_BYTES + start as usize * width;
        self.blob[from..from + count as usize * width].chunks_exact(width).map(|packed| {
            let mut bytes = [0; 4];
            bytes[..packed.len()].copy_from_slice(packed);
            u32::from_le_bytes(bytes)
        })
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Dataset")
            .field("digest", &self.digest())
            .field("header", &self.header)
            .finish()
    }
}

impl Header {
    fn write(&self, blob: &mut Vec<u8>) {
        blob.extend_from_slice(MAGIC);
        blob.extend_from_slice(&VERSION.to_le_bytes());
        blob.extend_from_slice(&(self.width.bytes() as u32).to_le_bytes());
        blob.extend_from_slice(&u64::from(self.vocab_size).to_le_bytes());
        blob.extend_from_slice(&self.tokens.to_le_bytes());
        blob.extend_from_slice(&self.text_bytes.to_le_bytes());
        debug_assert_eq!(blob.len(), HEADER_BYTES);
    }

    fn read(blob: &[u8]) -> Result<Self, DatasetError> {
        let malformed = |cause: String| DatasetError::Malformed { cause };
        let Some((header, packed)) = blob.split_at_checked(HEADER_BYTES) else {
            return Err(malformed(format!(
                "{} bytes are fewer than the header's {HEADER_BYTES}",
                blob.len()
            )));
        };
        if &header[..8] != MAGIC {
            return Err(malformed("it does not start with the mark of tokenised data".into()));
        }
        let version = word(header, 8) as u32;
        if version != VERSION {
            return Err(malformed(format!("version {version} is not known, only {VERSION} is")));
        }
        let vocab_size = u32::try_from(word(header, 16)).unwrap_or(u32::MAX);
        check_vocabulary(vocab_size)?;
        let width = TokenWidth::of(vocab_size);
        let width_bytes = (word(header, 8) >> 32) as usize;
        if width_bytes != width.bytes() {
            return Err(malformed(format!(
                "{width_bytes} bytes per token, where a vocabulary of {vocab_size} takes {}",
                width.bytes()
            )));
        }
        let tokens = word(header, 24);
        if tokens.checked_mul(width_bytes as u64) != Some(packed.len() as u64) {
            return Err(malformed(format!(
                "the header promises {tokens} tokens of {width_bytes} bytes, {} bytes follow",
                packed.len()
            )));
        }
        Ok(Self { width, vocab_size, tokens, text_bytes: word(header, 32) })
    }
}

impl TokenWidth {
    fn of(vocab_size: u32) -> Self {
        match vocab_size {
            0..=0x100 => Self::One,
            0x101..=0x1_0000 => Self::Two,
            _ => Self::Four,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

fn check_vocabulary(vocab_size: u32) -> Result<(), DatasetError> {
    if (1..=VOCABULARY_MAX).contains(&vocab_size) {
        return Ok(());
    }
    Err(DatasetError::Malformed {
        cause: format!("a vocabulary of {vocab_size} is not in 1..={VOCABULARY_MAX}"),
    })
}

fn word(header: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(bytes: &[u8]) -> Result<Dataset, DatasetError> {
        Dataset::decode(VerifiedBlob::new(bytes.to_vec()))
    }

    #[test]
    fn tokens_come_back_in_every_width() {
        for (vocab_size, width) in
            [(1, 1), (2, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 4), (VOCABULARY_MAX, 4)]
        {
            let tokens = [0, vocab_size - 1, vocab_size / 2, 0];
            let dataset = Dataset::encode(vocab_size, &tokens, 9).unwrap();
            assert_eq!(dataset.blob().len(), HEADER_BYTES + 4 * width);
            let opened = Dataset::decode(dataset.blob().clone()).unwrap();
            let mut read = [0; 3];
            opened.read(1, &mut read);
            assert_eq!(read, tokens[1..]);
            assert_eq!((opened.len(), opened.vocab_size(), opened.text_bytes()), (4, vocab_size, 9));
            assert_eq!(opened.digest(), dataset.digest());
        }
    }

    #[test]
    fn a_changed_header_is_refused() {
        let good = Dataset::encode(300, &[1, 2, 299], 5).unwrap().blob().to_vec();
        let cases: [(usize, u8, &str); 7] = [
            (0, b'X', "mark of tokenised data"),
            (8, 2, "version 2"),
            (12, 4, "4 bytes per token"),
            (16, 0, "4 bytes per token, where a vocabulary of 256 takes 1"),
            (24, 4, "promises 4 tokens"),
            (31, 255, "promises"),
            (45, 2, "outside the vocabulary"),
        ];
        for (at, byte, message) in cases {
            let mut bad = good.clone();
            bad[at] = byte;
            if at == 16 {
                bad[12] = 4;
                bad[17] = 1;
            }
            let error = open(&bad).unwrap_err().to_string();
            assert!(error.contains(message), "byte {at}: {error}");
        }
        assert!(open(&good[..HEADER_BYTES - 1]).is_err());
        assert!(open(&good[..good.len() - 1]).is_err());
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_named() {
        let error = Dataset::encode(4, &[0, 3, 4], 3).unwrap_err();
        assert_eq!(error, DatasetError::OutsideVocabulary { position: 2, token: 4, vocab_size: 4 });
    }

    #[test]
    fn apportioned_bytes_add_up() {
        let dataset = Dataset::encode(300, &[7; 10], 37).unwrap();
        assert_eq!([0, 1, 5, 10].map(|position| dataset.text_bytes_before(position)), [0, 3, 18, 37]);
    }

    proptest! {
        #[test]
        fn decoding_any_bytes_is_an_error_or_the_one_encoding(tail in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&tail);
            if let Ok(dataset) = open(&bytes) {
                let mut tokens = vec![0; dataset.len() as usize];
                dataset.read(0, &mut tokens);
                let again = Dataset::encode(dataset.vocab_size(), &tokens, dataset.text_bytes()).unwrap();
                prop_assert_eq!(again.blob().bytes(), bytes.as_slice());
            }
        }
    }
}
