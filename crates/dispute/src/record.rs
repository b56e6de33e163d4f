//! A whole dispute as one file, and the check that needs nothing else.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `ZOODISPT` |
//! | 2 | version, 2, little-endian |
//! | rest | a signed [`Record`] |
//!
//! Who heard the dispute signs the record. Whoever checks it believes that signature in one thing alone: when moves came, and that one
//! did not come. Everything else follows from what the two have signed, by the same state machine and the same referee.

use serde::{Deserialize, Serialize};
use zoo_protocol::{Message, NodeId, NodeKey, SealError, Sealed, Statement, WireError, decode, encode};

use crate::game::{Game, Refusal};
use crate::moves::{Role, Said};
use crate::player::Answer;
use crate::replay::ReplayError;
use crate::terms::{Terms, TermsError};
use crate::verdict::Verdict;

const MAGIC: &[u8; 8] = b"ZOODISPT";
const VERSION: u16 = 2;
const HEAD_BYTES: usize = 10;
/// Largest file, bytes.
pub const FILE_BYTES_MAX: usize = HEAD_BYTES + zoo_protocol::MAX_FRAME_BYTES;

/// What was agreed on, said and decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What the two agreed on before.
    pub terms: Terms,
    /// Their moves, each with the time when it came, ms.
    pub moves: Vec<(u64, Sealed<Said>)>,
    /// When it was over by silence, ms.
    pub silence_ms: Option<u64>,
    /// Who lost, why and where.
    pub verdict: Verdict,
}

impl Message for Record {
    /// Sizes are bounded by that of the whole; what it says is checked by [`check`].
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }
}

impl Record {
    /// Plays every move again, and computes what is computed at the end.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn replay(&self) -> Result<(), CheckError> {
        let mut game = Game::open(self.terms.clone())?;
        for (at, (now_ms, sealed)) in self.moves.iter().enumerate() {
            let number = at + 1;
            game.hear(sealed, *now_ms).map_err(|cause| CheckError::Move { number, cause })?;
            if game.moves() as usize != number {
                return Err(CheckError::Move { number, cause: Refusal::Time });
            }
        }
        if let Some(now_ms) = self.silence_ms {
            let number = self.moves.len() + 1;
            game.wait(now_ms).map_err(|cause| CheckError::Move { number, cause })?;
        }
        match game.verdict() {
            Some(verdict) if *verdict == self.verdict => Ok(()),
            found => Err(CheckError::Verdict { found: Box::new(found.cloned()) }),
        }
    }
}

impl Statement for Record {
    const PURPOSE: &'static str = "dispute-record/1";
}

/// Hears a dispute, and keeps what was said.
pub struct Hearing {
    game: Game,
    moves: Vec<(u64, Sealed<Said>)>,
    silence_ms: Option<u64>,
}

/// A record that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Who heard the dispute.
    pub arbiter: NodeId,
    /// What it recorded.
    pub record: Record,
}

/// Why a file shows nothing.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It is no record of a dispute.
    #[error("not a record of a dispute: {0}\nhint: zoo dispute rehearse --out FILE writes one")]
    Format(String),
    /// The signature under the whole does not hold.
    #[error("the record is not as it was signed: {0}")]
    Seal(#[from] SealError),
    /// The terms make no sense.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// A move is none.
    #[error("move {number}: {cause}")]
    Move {
        /// Which, from 1.
        number: usize,
        /// Why.
        cause: Refusal,
    },
    /// The moves lead to another end.
    #[error("the moves lead to another verdict than the one that was recorded")]
    Verdict {
        /// What they lead to; none, where the dispute is not over.
        found: Box<Option<Verdict>>,
    },
}

impl Hearing {
    /// Of a dispute on these terms.
    ///
    /// # Errors
    /// Terms that make no sense.
    pub fn open(terms: Terms) -> Result<Self, TermsError> {
        Ok(Self { game: Game::open(terms)?, moves: Vec::new(), silence_ms: None })
    }

    /// Where the dispute stands.
    pub fn game(&self) -> &Game {
        &self.game
    }

    /// Hears a move at `now_ms`.
    ///
    /// # Errors
    /// As [`Game::hear`].
    pub fn hear(&mut self, sealed: Sealed<Said>, now_ms: u64) -> Result<(), Refusal> {
        let before = self.game.moves();
        self.game.hear(&sealed, now_ms)?;
        if self.game.moves() > before {
            self.moves.push((now_ms, sealed));
        } else {
            self.silence_ms = Some(now_ms);
        }
        Ok(())
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// As [`Game::wait`].
    pub fn wait(&mut self, now_ms: u64) -> Result<(), Refusal> {
        if self.game.wait(now_ms)? {
            self.silence_ms = Some(now_ms);
        }
        Ok(())
    }

    /// The dispute as a file, once it is over.
    pub fn file(&self, arbiter: &NodeKey) -> Option<Vec<u8>> {
        let record = Record {
            terms: self.game.terms().clone(),
            moves: self.moves.clone(),
            silence_ms: self.silence_ms,
            verdict: self.game.verdict()?.clone(),
        };
        let sealed = encode(&Sealed::seal(&record, arbiter));
        Some([&MAGIC[..], &VERSION.to_le_bytes(), &sealed].concat())
    }
}

/// A party of a dispute that is played here.
pub struct Side<'a> {
    /// What it signs with.
    pub key: &'a NodeKey,
    /// What it answers.
    pub player: &'a mut dyn Answer,
}

/// Plays a dispute to its end: each answers at once, as far as the clock goes, and whoever does not is silent until its time is up.
///
/// # Errors
/// A party that fails, or a move that is not heard.
pub fn play(terms: Terms, maker: Side, challenger: Side) -> Result<Hearing, PlayError> {
    let mut now_ms = terms.begins_ms;
    let mut hearing = Hearing::open(terms)?;
    while hearing.game.verdict().is_none() {
        let (key, said) = match hearing.game.turn() {
            Role::Maker => (maker.key, maker.player.answer(&hearing.game)?),
            Role::Challenger => (challenger.key, challenger.player.answer(&hearing.game)?),
        };
        match said {
            Some(said) => hearing.hear(hearing.game.seal(said, key), now_ms)?,
            None => {
                now_ms = hearing.game.deadline_ms() + 1;
                hearing.wait(now_ms)?;
            }
        }
    }
    Ok(hearing)
}

/// Why a dispute could not be played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// There can be none.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// A party knows no answer.
    #[error(transparent)]
    Party(#[from] ReplayError),
    /// A move was not heard.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Checks a file: every signature, every move, the computation at the end and the verdict.
///
/// # Errors
/// The first thing that does not hold.
pub fn check(file: &[u8]) -> Result<Checked, CheckError> {
    let format = |cause: &str| CheckError::Format(cause.to_owned());
    if file.len() > FILE_BYTES_MAX {
        return Err(format("it is larger than any"));
    }
    let (magic, rest) = file.split_first_chunk::<8>().ok_or_else(|| format("it is too short"))?;
    let (version, sealed) = rest.split_first_chunk::<2>().ok_or_else(|| format("it is too short"))?;
    if magic != MAGIC {
        return Err(format("it does not begin as one"));
    }
    if u16::from_le_bytes(*version) != VERSION {
        return Err(format("another version of zoo wrote it"));
    }
    let sealed: Sealed<Record> = decode(sealed).map_err(|cause| CheckError::Format(cause.to_string()))?;
    let (arbiter, record) = (sealed.signer(), sealed.open()?);
    record.replay()?;
    Ok(Checked { arbiter, record })
}
