//! Signed values: the signature covers the bytes as sent.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use zoo_content::Digest;

use crate::limits;
use crate::{Message, NodeId, NodeKey, WireError, decode, encode};

/// A message that nodes put their signature under.
pub trait Statement: Message {
    /// What the signature is for, with a version. Goes into what is signed: a signature
    /// under one kind of statement is no signature under another, even of equal bytes.
    const PURPOSE: &'static str;
}

/// A value of type `T` as the bytes its signer sent, with the signature over
/// exactly these bytes. Nothing that was said can be left out of what was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed<T> {
    signer: NodeId,
    bytes: Vec<u8>,
    signature: Vec<u8>,
    #[serde(skip)]
    value: PhantomData<T>,
}

/// Why a sealed value was not opened.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SealError {
    /// The signature does not match the bytes and the signer.
    #[error("the signature of {0} does not cover these bytes")]
    Signature(NodeId),
    /// The signed bytes are not a value of the expected type.
    #[error("the bytes signed by {signer} do not decode: {cause}")]
    Malformed {
        /// Who signed.
        signer: NodeId,
        /// What is wrong with the bytes.
        cause: WireError,
    },
}

impl<T: Statement> Sealed<T> {
    /// Encodes and signs `value`.
    pub fn seal(value: &T, key: &NodeKey) -> Self {
        let bytes = encode(value);
        let signature = key.sign(&Self::signed(&bytes)).to_vec();
        Self { signer: key.id(), bytes, signature, value: PhantomData }
    }

    /// Checks the signature, then decodes and validates.
    pub fn open(&self) -> Result<T, SealError> {
        let signature: &[u8; 64] =
            self.signature.as_slice().try_into().map_err(|_| SealError::Signature(self.signer))?;
        if !self.signer.verify(&Self::signed(&self.bytes), signature) {
            return Err(SealError::Signature(self.signer));
        }
        decode(&self.bytes).map_err(|cause| SealError::Malformed { signer: self.signer, cause })
    }

    /// Who signed (claimed until [`Sealed::open`] has checked it).
    pub fn signer(&self) -> NodeId {
        self.signer
    }

    /// Digest of the bytes that were signed: that of the value's encoding, if they open.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// What is really signed. The purpose ends at its zero byte, so no two pairs of
    /// purpose and bytes run together into the same message.
    fn signed(bytes: &[u8]) -> Vec<u8> {
        [b"zoo/", T::PURPOSE.as_bytes(), b"\0", bytes].concat()
    }
}

impl<T: Statement> Message for Sealed<T> {
    /// Only the seal's own sizes; what is sealed is validated by [`Sealed::open`].
    fn validate(&self) -> Result<(), WireError> {
        limits::at_most("bytes of a signature", self.signature.len() as u64, 64)
    }
}
