//! Who a node is: an ed25519 key, and what the node says about itself.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zoo_content::hex;
use zoo_kernels::Profile;

use crate::limits::{self, MAX_NAME_BYTES};
use crate::{Message, StorageKind, WireError};

/// Public half of a node's ed25519 key; the transport's identity as well. Human-readable
/// formats carry it as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(#[serde(with = "hex")] pub [u8; 32]);

impl NodeId {
    /// First eight hex digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_string()
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(&self.0, f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

/// The text is not 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node id is not 64 lower-case hex digits")]
pub struct ParseNodeIdError;

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, ParseNodeIdError> {
        hex::read_32(text).map(Self).ok_or(ParseNodeIdError)
    }
}

/// A node's secret key.
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// The key whose secret is `seed`. Entropy is the caller's to bring.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The secret, to be stored with permissions for its owner only.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn id(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.id().short())
    }
}

/// What a node says of itself when it joins. Nothing here is believed for
/// correctness; it orders the schedule and informs people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProfile {
    /// A name for people, at most 64 bytes.
    pub name: String,
    /// Worker threads the node computes with.
    pub threads: u16,
    /// Memory the node offers, in MiB.
    pub memory_mib: u64,
    /// Instruction set of its kernels: `scalar`, `avx2`, `avx512`, `amx`.
    pub isa: String,
    /// Its own measurement on the benchmark network.
    pub speeds: Speeds,
    /// Where it is, in whatever words its network agrees on (`eu-west`, `home`); at most 64 bytes, empty for anywhere.
    /// Nodes of one region fetch from each other first and are taken to fail together.
    pub region: String,
    /// What it may upload, KiB a second; 0 is without a limit.
    pub upload_kib_per_s: u32,
    /// Where the checkpoints that it keeps are stored beside its own disk.
    pub storage: Option<StorageKind>,
    /// Version of its software.
    pub software: String,
}

/// Tokens per second in each numeric profile. A machine without a tile unit computes `bf16-exact` several times
/// slower than one with it, which whoever schedules or verifies has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speeds {
    /// In `f32-exact`.
    pub f32_exact: u32,
    /// In `bf16-exact`.
    pub bf16_exact: u32,
}

impl Speeds {
    /// In this profile.
    pub fn of(self, profile: Profile) -> u32 {
        match profile {
            Profile::F32Exact => self.f32_exact,
            Profile::Bf16Exact => self.bf16_exact,
        }
    }
}

impl Message for NodeProfile {
    fn validate(&self) -> Result<(), WireError> {
        limits::name("node name", &self.name, MAX_NAME_BYTES)?;
        limits::name("node isa", &self.isa, MAX_NAME_BYTES)?;
        limits::name("node region", &self.region, MAX_NAME_BYTES)?;
        limits::name("node software version", &self.software, MAX_NAME_BYTES)
    }
}
