//! What cuts text into tokens, as people write it: `bytes`, or a number of tokens to learn.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Every byte a token, or a byte-level BPE trained on the run's own text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum Vocabulary {
    /// 256 tokens.
    Bytes,
    /// So many tokens; little text may give fewer.
    Trained(usize),
}

impl Vocabulary {
    /// The vocabulary of a model with `size` token ids.
    pub fn of_size(size: usize) -> Self {
        if size == Self::Bytes.size() { Self::Bytes } else { Self::Trained(size) }
    }

    /// Number of token ids.
    pub fn size(self) -> usize {
        match self {
            Self::Bytes => 256,
            Self::Trained(size) => size,
        }
    }
}

impl fmt::Display for Vocabulary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => formatter.write_str("bytes"),
            Self::Trained(size) => size.fmt(formatter),
        }
    }
}

impl From<Vocabulary> for Value {
    fn from(vocabulary: Vocabulary) -> Self {
        match vocabulary {
            Vocabulary::Bytes => "bytes".into(),
            Vocabulary::Trained(size) => size.into(),
        }
    }
}

impl TryFrom<Value> for Vocabulary {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match (value.as_str(), value.as_u64().and_then(|size| usize::try_from(size).ok())) {
            (Some("bytes"), _) => Ok(Self::Bytes),
            (_, Some(size)) => Ok(Self::Trained(size)),
            _ => Err(format!("{value} is neither bytes nor a number of tokens")),
        }
    }
}
