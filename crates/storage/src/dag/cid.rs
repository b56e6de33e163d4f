//! The names that IPFS gives to blocks: CIDv1 of SHA2-256, in base32
//! (<https://github.com/multiformats/cid>).

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// Bytes of a [`Cid`].
pub const CID_BYTES: usize = 36;

const VERSION: u8 = 1;
const SHA2_256: u8 = 0x12;
const HASH_BYTES: u8 = 32;
/// The multibase prefix of lower-case base32 without padding.
const BASE32: char = 'b';
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// The multibase prefix of base58 as Bitcoin writes it.
const BASE58: char = 'z';
const BASE58_ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Codec {
    /// Bytes of a file.
    Raw = 0x55,
    /// A node that links to others.
    DagPb = 0x70,
}

/// The name of a block: what it is, and the SHA2-256 of its bytes.
///
/// Other versions, hashes and codecs than those of `ipfs add --cid-version=1` do not exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cid {
    codec: Codec,
    hash: [u8; HASH_BYTES as usize],
}

impl Cid {
    /// Hashes a block.
    pub fn of(codec: Codec, block: &[u8]) -> Self {
        Self { codec, hash: Sha256::digest(block).into() }
    }

    /// What the block is.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Whether this is the name of `block`.
    #[must_use]
    pub fn names(&self, block: &[u8]) -> bool {
        *self == Self::of(self.codec, block)
    }

    /// The binary form.
    pub fn to_bytes(self) -> [u8; CID_BYTES] {
        let mut bytes = [0; CID_BYTES];
        bytes[..4].copy_from_slice(&[VERSION, self.codec as u8, SHA2_256, HASH_BYTES]);
        bytes[4..].copy_from_slice(&self.hash);
        bytes
    }

    /// Reads the binary form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let &[VERSION, codec, SHA2_256, HASH_BYTES, ref hash @ ..] = bytes else { return None };
        let codec = [Codec::Raw, Codec::DagPb].into_iter().find(|known| *known as u8 == codec)?;
        Some(Self { codec, hash: hash.try_into().ok()? })
    }

    /// Reads a text as nodes write it: some prefer base58.
    pub fn from_multibase(text: &str) -> Option<Self> {
        let Some(digits) = text.strip_prefix(BASE58) else { return text.parse().ok() };
        let mut bytes = [0; CID_BYTES];
        for digit in digits.bytes() {
            let mut carry = BASE58_ALPHABET.iter().position(|&known| known == digit)? as u32;
            for byte in bytes.iter_mut().rev() {
                carry += u32::from(*byte) * BASE58_ALPHABET.len() as u32;
                *byte = carry as u8;
                carry >>= 8;
            }
            if carry > 0 {
                return None;
            }
        }
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.to_bytes();
        write!(f, "{BASE32}")?;
        for bit in (0..8 * CID_BYTES).step_by(5) {
            let (at, shift) = (bit / 8, bit % 8);
            let word = u16::from_be_bytes([bytes[at], bytes.get(at + 1).copied().unwrap_or(0)]);
            let digit = word >> (11 - shift) & 31;
            write!(f, "{}", char::from(ALPHABET[usize::from(digit)]))?;
        }
        Ok(())
    }
}

/// The text is not a CID of the kind that is used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a CIDv1 of SHA2-256 in base32, as in bafybei...")]
pub struct ParseCidError;

impl FromStr for Cid {
    type Err = ParseCidError;

    fn from_str(text: &str) -> Result<Self, ParseCidError> {
        let digits = text.strip_prefix(BASE32).ok_or(ParseCidError)?;
        let (mut pending, mut bits) = (0u32, 0);
        let mut bytes = Vec::with_capacity(CID_BYTES);
        for digit in digits.bytes().take(8 * CID_BYTES) {
            let value = ALPHABET.iter().position(|&known| known == digit).ok_or(ParseCidError)?;
            pending = (pending << 5 | value as u32) & 0xfff;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                bytes.push((pending >> bits) as u8);
            }
        }
        let cid = Self::from_bytes(&bytes).ok_or(ParseCidError)?;
        // One value, one spelling.
        if cid.to_string() == text { Ok(cid) } else { Err(ParseCidError) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_that_everybody_knows() {
        let known = [
            (Codec::Raw, &b""[..], "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
            (Codec::Raw, b"hello world", "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"),
            (
                Codec::DagPb,
                b"\x0a\x02\x08\x01",
                "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354",
            ),
        ];
        for (codec, block, text) in known {
            let cid = Cid::of(codec, block);
            assert_eq!(cid.to_string(), text);
            assert_eq!(text.parse(), Ok(cid));
            assert_eq!(Cid::from_bytes(&cid.to_bytes()), Some(cid));
            assert!(cid.names(block) && !cid.names(b"other"));
        }
    }

    #[test]
    fn nodes_may_write_base58() {
        let cid = "bafybeihdhngugmynowkwpdiqbqridvvqqxcenkjjehvhcbfkmuwmpzqbse".parse().unwrap();
        for text in ["zdj7Wkiv5CjBsfigaoFkSPyHk6TANTtbN4We91S8kbJzwoDo6", &Cid::to_string(&cid)] {
            assert_eq!(Cid::from_multibase(text), Some(cid));
        }
        for text in ["", "z", "z0", &"z".repeat(60), "zdj7Wkiv5CjBsfigaoFkSPyHk6TANTtbN4We91S8kbJzwoDo"] {
            assert_eq!(Cid::from_multibase(text), None, "{text}");
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let text = Cid::of(Codec::Raw, b"").to_string();
        let last = [&text[..58], "z"].concat();
        for other in
            ["", "b", "Qm", &text.to_uppercase(), &text[1..], &text[..58], &(text.clone() + "a"), &last]
        {
            assert_eq!(other.parse::<Cid>(), Err(ParseCidError), "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(bytes: Vec<u8>, text: String) {
            if let Some(cid) = Cid::from_bytes(&bytes) {
                prop_assert_eq!(&cid.to_bytes()[..], &bytes[..]);
            }
            let _ = Cid::from_multibase(&format!("z{text}"));
            if let Ok(cid) = text.parse::<Cid>() {
                prop_assert_eq!(cid.to_string(), text);
            }
        }
    }
}
