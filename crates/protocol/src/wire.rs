//! Bytes to values and back, every size bounded.

use serde::{Serialize, de::DeserializeOwned};

/// Largest frame of the control protocol, bytes. Bulk travels as blobs.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("message of {0} bytes is larger than the limit of {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// Not an encoding of the expected type.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// An encoding followed by more bytes: there is one encoding of a value, and this is not it.
    #[error("message has {0} bytes too many")]
    Trailing(usize),
}

/// The canonical encoding of a message.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("messages contain only types that postcard encodes")
}

/// Decodes one whole message.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > MAX_FRAME_BYTES {
        return Err(WireError::TooLarge(bytes.len()));
    }
    let (value, rest) =
        postcard::take_from_bytes(bytes).map_err(|cause| WireError::Malformed(cause.to_string()))?;
    if !rest.is_empty() {
        return Err(WireError::Trailing(rest.len()));
    }
    Ok(value)
}
