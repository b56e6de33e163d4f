//! The one spelling of 32 bytes for people: 64 lower-case hex digits.
//!
//! `#[serde(with = "zoo_content::hex")]` on a `[u8; 32]` gives these digits in
//! human-readable formats and the plain bytes in binary ones.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Writes `bytes` as lower-case hex digits.
pub fn write(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly 64 lower-case hex digits. Upper case is refused: one value, one spelling.
pub fn read_32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// For `#[serde(with)]`.
pub fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.collect_str(&fmt::from_fn(|f| write(bytes, f)))
    } else {
        bytes.serialize(serializer)
    }
}

/// For `#[serde(with)]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    if deserializer.is_human_readable() {
        let text = String::deserialize(deserializer)?;
        read_32(&text).ok_or_else(|| de::Error::custom("expected 64 lower-case hex digits"))
    } else {
        <[u8; 32]>::deserialize(deserializer)
    }
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}
