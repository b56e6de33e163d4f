//! What keys say about keys, under their signatures: that one follows another, that one is void, for which node an operator vouches.
//!
//! Whoever has a declaration may bring it to the network: it is believed for its signatures, and so each names everything that it is
//! about. To bring it twice, or to another network, changes nothing.

use serde::{Deserialize, Serialize};
use zoo_content::Digest;

use crate::limits::{self, MAX_NAME_BYTES};
use crate::{Message, NodeId, NodeKey, SealError, Sealed, Statement, WireError, decode, encode};

/// An operator vouches for at least so long, seconds: a day.
pub const CREDENTIAL_VALID_S_MIN: u64 = 24 * 3600;
/// An operator vouches for at most so long, seconds: three days. What is stolen ends soon, and so does what nobody looks at any more.
pub const CREDENTIAL_VALID_S_MAX: u64 = 72 * 3600;

/// Names a credential ([`Credential::id_of`]).
pub type CredentialId = Digest;

const MAGIC: &[u8; 8] = b"ZOODECLR";
const FILE_VERSION: u16 = 1;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Declaration {
    /// A node goes on under another key. Both keys sign: nobody gives somebody else a past.
    Succession {
        /// Under the key that goes.
        by_old: Sealed<Succession>,
        /// Under the key that comes.
        by_new: Sealed<Succession>,
    },
    /// A node's key is void, as the key itself says.
    Retirement(Sealed<Retirement>),
    /// An operator vouches for a node.
    Credential(Sealed<Credential>),
    /// An operator does not vouch any more.
    Revocation(Sealed<Revocation>),
}

/// A node goes on under another key in this network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// The network.
    pub network: NodeId,
    /// The key that goes.
    pub old: NodeId,
    /// The key that comes: with everything that the network knows of the old one.
    pub new: NodeId,
}

/// A node's key is void in this network from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retirement {
    /// The network.
    pub network: NodeId,
    /// The key.
    pub node: NodeId,
}

/// An operator vouches for a node of a network, and for the software that it runs, for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The network.
    pub network: NodeId,
    /// The node.
    pub node: NodeId,
    /// What it runs.
    pub build: Build,
    /// First second since 1970 at which it holds.
    pub valid_from_s: u64,
    /// First second at which it does not any more: from [`CREDENTIAL_VALID_S_MIN`] to [`CREDENTIAL_VALID_S_MAX`] later.
    pub valid_until_s: u64,
}

/// Software as somebody built it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Digest of the binary.
    pub binary: Digest,
    /// Its version, as nodes say it of themselves.
    pub version: String,
    /// What it was built for, such as `x86_64-linux`.
    pub target: String,
}

/// An operator does not vouch any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The network.
    pub network: NodeId,
    /// The node that the credential was for.
    pub node: NodeId,
    /// Which credential.
    pub credential: CredentialId,
}

/// The file is none of a declaration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a file of a declaration: {0}\nhint: zoo operator issue and zoo key revoke --save write such files"
)]
pub struct DeclarationFileError(String);

/// Why a declaration says nothing.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum DeclarationError {
    /// It is not as it was signed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Somebody else signed than whom it is about.
    #[error("what is about {} was signed by {}", .about.short(), .signer.short())]
    Signer {
        /// Whose word it should be.
        about: NodeId,
        /// Whose it is.
        signer: NodeId,
    },
    /// The two keys of a succession do not say the same.
    #[error("the old key and the new one say different things\nhint: zoo key rotate signs with both")]
    Disagreement,
    /// It is for another network.
    #[error(
        "it is foreign: it is for the network of {}, and this is that of {}\nhint: make it again with this network's ticket",
        .meant.short(),
        .here.short()
    )]
    Foreign {
        /// The network that it names.
        meant: NodeId,
        /// Where it was brought.
        here: NodeId,
    },
}

impl Succession {
    /// Under both keys.
    pub fn declare(network: NodeId, old: &NodeKey, new: &NodeKey) -> Declaration {
        let succession = Self { network, old: old.id(), new: new.id() };
        Declaration::Succession {
            by_old: Sealed::seal(&succession, old),
            by_new: Sealed::seal(&succession, new),
        }
    }
}

impl Credential {
    /// What it is called, by everything but the signature: what two operators say is two things.
    pub fn id_of(sealed: &Sealed<Self>) -> CredentialId {
        Digest::of(&[&b"zoo/credential/1\0"[..], &sealed.signer().0, sealed.digest().as_bytes()].concat())
    }
}

impl Retirement {
    /// Under the key that is void.
    pub fn declare(network: NodeId, key: &NodeKey) -> Declaration {
        Declaration::Retirement(Sealed::seal(&Self { network, node: key.id() }, key))
    }
}

impl Declaration {
    /// As a file: `ZOODECLR`, the version 1 in two bytes, little-endian, and the declaration in postcard.
    pub fn to_file(&self) -> Vec<u8> {
        [&MAGIC[..], &FILE_VERSION.to_le_bytes(), &encode(self)].concat()
    }

    /// Reads one. Nothing that is sealed in it is opened.
    ///
    /// # Errors
    /// Anything else than such a file.
    pub fn from_file(bytes: &[u8]) -> Result<Self, DeclarationFileError> {
        let no = |cause: &str| DeclarationFileError(cause.to_owned());
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| no("it does not begin as one"))?;
        let (version, body) = rest.split_first_chunk().ok_or_else(|| no("it ends early"))?;
        match u16::from_le_bytes(*version) {
            FILE_VERSION => decode(body).map_err(|cause| DeclarationFileError(cause.to_string())),
            other => {
                Err(no(&format!("it has version {other}, and this software reads version {FILE_VERSION}")))
            }
        }
    }

    /// Whether every seal holds, whatever is in it: what a stranger brings is not worth more than a look before.
    ///
    /// # Errors
    /// The first seal that does not.
    pub fn check_seals(&self) -> Result<(), SealError> {
        match self {
            Self::Succession { by_old, by_new } => by_old.open().and(by_new.open()).map(|_| ()),
            Self::Retirement(sealed) => sealed.open().map(|_| ()),
            Self::Credential(sealed) => sealed.open().map(|_| ()),
            Self::Revocation(sealed) => sealed.open().map(|_| ()),
        }
    }

    /// Opens a succession, signed by both keys, for the network of `here`.
    ///
    /// # Errors
    /// What makes it none.
    pub fn succession(
        by_old: &Sealed<Succession>,
        by_new: &Sealed<Succession>,
        here: NodeId,
    ) -> Result<Succession, DeclarationError> {
        let succession = by_old.open()?;
        if by_new.open()? != succession {
            return Err(DeclarationError::Disagreement);
        }
        is_signed_by(by_old.signer(), succession.old)?;
        is_signed_by(by_new.signer(), succession.new)?;
        is_for(succession.network, here)?;
        Ok(succession)
    }

    /// Opens a retirement, signed by the key that it is about, for the network of `here`.
    ///
    /// # Errors
    /// What makes it none.
    pub fn retirement(sealed: &Sealed<Retirement>, here: NodeId) -> Result<Retirement, DeclarationError> {
        let retirement = sealed.open()?;
        is_signed_by(sealed.signer(), retirement.node)?;
        is_for(retirement.network, here)?;
        Ok(retirement)
    }

    /// Opens a credential for the network of `here`. Whether its signer may vouch there, the network knows.
    ///
    /// # Errors
    /// What makes it none.
    pub fn credential(sealed: &Sealed<Credential>, here: NodeId) -> Result<Credential, DeclarationError> {
        let credential = sealed.open()?;
        is_for(credential.network, here)?;
        Ok(credential)
    }

    /// Opens a revocation for the network of `here`. Whether its signer is the one who vouched, the network knows.
    ///
    /// # Errors
    /// What makes it none.
    pub fn revocation(sealed: &Sealed<Revocation>, here: NodeId) -> Result<Revocation, DeclarationError> {
        let revocation = sealed.open()?;
        is_for(revocation.network, here)?;
        Ok(revocation)
    }
}

fn is_signed_by(signer: NodeId, about: NodeId) -> Result<(), DeclarationError> {
    if signer == about { Ok(()) } else { Err(DeclarationError::Signer { about, signer }) }
}

fn is_for(meant: NodeId, here: NodeId) -> Result<(), DeclarationError> {
    if meant == here { Ok(()) } else { Err(DeclarationError::Foreign { meant, here }) }
}

impl Message for Declaration {
    /// Sizes; what is sealed is validated when it is opened.
    fn validate(&self) -> Result<(), WireError> {
        match self {
            Self::Succession { by_old, by_new } => {
                by_old.validate()?;
                by_new.validate()?;
            }
            Self::Retirement(sealed) => sealed.validate()?,
            Self::Credential(sealed) => sealed.validate()?,
            Self::Revocation(sealed) => sealed.validate()?,
        }
        limits::at_most(
            "bytes of a declaration",
            encode(self).len() as u64,
            limits::MAX_DECLARATION_BYTES as u64,
        )
    }
}

impl Message for Succession {
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }
}

impl Message for Retirement {
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }
}

impl Message for Credential {
    fn validate(&self) -> Result<(), WireError> {
        limits::name("version of a build", &self.build.version, MAX_NAME_BYTES)?;
        limits::name("target of a build", &self.build.target, MAX_NAME_BYTES)?;
        let valid_s = self.valid_until_s.saturating_sub(self.valid_from_s);
        limits::at_least("seconds that a credential holds", valid_s, CREDENTIAL_VALID_S_MIN)?;
        limits::at_most("seconds that a credential holds", valid_s, CREDENTIAL_VALID_S_MAX)
    }
}

impl Message for Revocation {
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }
}

impl Statement for Succession {
    const PURPOSE: &'static str = "succession/1";
}

impl Statement for Retirement {
    const PURPOSE: &'static str = "retirement/1";
}

impl Statement for Credential {
    const PURPOSE: &'static str = "credential/1";
}

impl Statement for Revocation {
    const PURPOSE: &'static str = "credential-revocation/1";
}
