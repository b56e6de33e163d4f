//! From commands to the state they lead to: the one way in which a journal is read.

use std::path::{Path, PathBuf};

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use zoo_content::Digest;
use zoo_state::{Command, Event, Refusal, State};

use super::JournalError;
use super::error::database_error;
use super::schema::signed;

/// Commands read at once.
const COMMAND_PAGE: u64 = 1024;

/// Which of the roots that were written along the way have to come out again. The state after the last command
/// depends on all before it, so its root says it all; checking every root names the command at which a replay
/// goes astray, for one encoding of the state at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Every one.
    Every,
    /// That of the last command.
    Last,
}

/// A command that was applied once more.
#[derive(Debug)]
pub struct Step {
    /// Its place in the order of commands, from 0.
    pub sequence: u64,
    /// The command.
    pub command: Command,
    /// What came of it.
    pub events: Vec<Event>,
    /// The digest over it and all before it.
    pub chain: Digest,
    /// The root of the state after it, if one was written beside it: one is after the last command of each append.
    pub written_root: Option<Digest>,
}

/// How far a replay is.
#[derive(Clone, Debug)]
pub(super) struct Replay {
    path: PathBuf,
    pub(super) state: State,
    pub(super) commands: u64,
    pub(super) chain: Digest,
    pub(super) latest_ms: u64,
    /// The root that was written beside the latest command.
    pub(super) written_root: Option<Digest>,
}

impl Replay {
    /// Before the first command.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            state: State::new(),
            commands: 0,
            chain: beginning(),
            latest_ms: 0,
            written_root: None,
        }
    }

    /// Goes on until so many commands are applied, or to the end. `each` sees every command as soon as it is.
    pub(super) async fn run(
        &mut self,
        connection: &mut SqliteConnection,
        until: u64,
        roots: Roots,
        mut each: impl FnMut(&Step, &State),
    ) -> Result<(), JournalError> {
        while self.commands < until {
            let wanted = COMMAND_PAGE.min(until - self.commands);
            let rows = sqlx::query(
                "SELECT sequence, entry, chain, root FROM commands WHERE sequence >= ? ORDER BY sequence LIMIT ?",
            )
            .bind(signed(self.commands))
            .bind(signed(wanted))
            .fetch_all(&mut *connection)
            .await
            .map_err(|cause| database_error(&self.path, cause))?;
            for row in &rows {
                let step = self.step(row)?;
                if roots == Roots::Every {
                    self.check_root()?;
                }
                each(&step, &self.state);
            }
            if (rows.len() as u64) < wanted {
                break;
            }
        }
        self.check_root()
    }

    fn step(&mut self, row: &SqliteRow) -> Result<Step, JournalError> {
        let sequence = self.commands;
        let damaged = |cause: String| JournalError::Damaged { path: self.path.clone(), sequence, cause };
        let column = |cause: sqlx::Error| damaged(cause.to_string());
        if row.try_get::<i64, _>("sequence").map_err(column)? != signed(sequence) {
            return Err(damaged("it is missing".into()));
        }
        let bytes: &[u8] = row.try_get("entry").map_err(column)?;
        let chain = link(&self.chain, bytes);
        if row.try_get::<&[u8], _>("chain").map_err(column)? != chain.as_bytes() {
            return Err(damaged("its digest does not match".into()));
        }
        let written_root = match row.try_get::<Option<&[u8]>, _>("root").map_err(column)? {
            None => None,
            Some(root) => Some(digest(root).ok_or_else(|| damaged("its root is no digest".into()))?),
        };
        let command = Command::from_bytes(bytes).map_err(|cause| damaged(cause.to_string()))?;
        let events = self
            .state
            .apply(&command)
            .map_err(|refusal: Refusal| damaged(format!("it does not apply: {refusal}")))?;
        self.commands += 1;
        self.chain = chain;
        self.latest_ms = self.latest_ms.max(command.now_ms());
        self.written_root = written_root;
        Ok(Step { sequence, command, events, chain, written_root })
    }

    fn check_root(&self) -> Result<(), JournalError> {
        let Some(expected) = self.written_root else { return Ok(()) };
        let actual = self.state.root();
        if actual == expected {
            return Ok(());
        }
        let sequence = self.commands.saturating_sub(1);
        Err(JournalError::Diverged { path: self.path.clone(), sequence, expected, actual })
    }
}

/// The digest that stands for no entry.
pub(super) fn beginning() -> Digest {
    Digest::of(b"zoo/journal/1")
}

/// The digest that stands for an entry and all before it.
pub(super) fn link(chain: &Digest, entry: &[u8]) -> Digest {
    Digest::of(&[chain.as_bytes(), entry].concat())
}

pub(super) fn digest(bytes: &[u8]) -> Option<Digest> {
    bytes.try_into().map(Digest::from_bytes).ok()
}
