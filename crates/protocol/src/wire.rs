//! Bytes to values and back, every size bounded.

use serde::{Serialize, de::DeserializeOwned};

/// Largest frame of the control protocol, bytes. Bulk travels as blobs.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// A value that travels, and knows its own limits.
pub trait Message: Serialize + DeserializeOwned {
    /// Checks sizes, counts and values against [`crate::limits`]. [`decode`] does this
    /// to everything it returns.
    fn validate(&self) -> Result<(), WireError>;
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("message of {0} bytes is larger than the limit of {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// Not an encoding of the expected type.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// An encoding followed by more bytes.
    #[error("message has {0} bytes too many")]
    Trailing(usize),
    /// Decodes, but to a value that is encoded otherwise: there is one encoding of a value.
    #[error("message is not the canonical encoding of its value")]
    NotCanonical,
    /// Something in the message exceeds its limit.
    #[error("{what}: {actual} exceeds the limit of {limit}")]
    Limit {
        /// What exceeds it.
        what: &'static str,
        /// How much or how long it is.
        actual: u64,
        /// How much or how long it may be.
        limit: u64,
    },
    /// Something that must be at least 1 is 0.
    #[error("{0} is 0; it must be at least 1")]
    Zero(&'static str),
    /// A number is smaller than it may be.
    #[error("{what} is {actual}; it must be at least {least}")]
    Least {
        /// Of what.
        what: &'static str,
        /// How small it is.
        actual: u64,
        /// How small it may be.
        least: u64,
    },
    /// A text meant for people contains control characters.
    #[error("{0} contains a control character")]
    ControlCharacter(&'static str),
}

/// The canonical encoding of a message.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("messages contain only types that postcard encodes")
}

/// Decodes one whole message and validates it. Accepts exactly the bytes that [`encode`]
/// makes: a digest or a signature over them is one over the value.
pub fn decode<T: Message>(bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > MAX_FRAME_BYTES {
        return Err(WireError::TooLarge(bytes.len()));
    }
    let (value, rest): (T, _) =
        postcard::take_from_bytes(bytes).map_err(|cause| WireError::Malformed(cause.to_string()))?;
    if !rest.is_empty() {
        return Err(WireError::Trailing(rest.len()));
    }
    // Postcard reads overlong integers; only comparing shows that there were none.
    if encode(&value) != bytes {
        return Err(WireError::NotCanonical);
    }
    value.validate()?;
    Ok(value)
}
