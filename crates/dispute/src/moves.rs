//! What the two say.

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{Message, Sealed, Statement, WireError, encode};

use crate::account::Account;
use crate::tree::Proof;

/// Largest move, bytes as it is sent.
pub const MOVE_BYTES_MAX: usize = 512 << 10;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Who says what the window came to.
    Maker,
    /// Who says that it came to something else.
    Challenger,
}

impl Role {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Maker => "maker",
            Self::Challenger => "challenger",
        }
    }
}

/// A move. All but the last two are the maker's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Move {
    /// The outcome, and what every step of the window came to.
    Account(Account),
    /// The digests of the groups of the disputed step.
    Groups(Vec<Digest>),
    /// The roots of the tensors of the disputed group.
    Roots(Vec<Digest>),
    /// Nodes some levels below the disputed one.
    Nodes(Vec<Digest>),
    /// The words below the disputed node.
    Words(Vec<u32>),
    /// The states between segments of the disputed element, one after the other.
    States(Vec<u32>),
    /// What the disputed segment reads.
    Opening(Opening),
    /// The first of what was just said that is wrong, counted from 0: of several parts of a chain, the first whose end is.
    Pick(u64),
    /// Whoever says this gives up.
    Withdraw,
}

/// A move as it is signed: in which dispute, in which place, after which move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The digest of the terms.
    pub dispute: Digest,
    /// Which move of the dispute, from 0.
    pub number: u32,
    /// The digest of the signed move before; of the first, that of the terms.
    pub after: Digest,
    /// The move.
    pub said: Move,
}

impl Message for Said {
    /// What a move may hold depends on where the dispute stands; that nothing is larger than a move, who hears it has seen.
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }
}

impl Statement for Said {
    const PURPOSE: &'static str = "dispute-move/1";
}

/// The digest of a signed move.
pub fn digest_of(sealed: &Sealed<Said>) -> Digest {
    Digest::of(&[&b"zoo/dispute/1 move\0"[..], &encode(sealed)].concat())
}

/// What a segment reads, with what proves it, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The groups that tensors of other groups are in, ascending: the roots of their tensors.
    pub groups: Vec<(u32, Vec<Digest>)>,
    /// The tensors that are read, ascending, and the leaves of them.
    pub tensors: Vec<(u32, Proof)>,
    /// The part of a blob that is read, the data's or a state's ([`zoo_content::slice`]).
    pub stored: Option<Vec<u8>>,
}
