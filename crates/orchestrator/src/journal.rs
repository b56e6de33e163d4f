//! The ordered log of commands: the orchestrator's only durable state.
//!
//! A SQLite database in WAL mode with `synchronous=FULL`. `commands` holds every command that
//! was applied, chained: the digest beside an entry covers the entry and everything before
//! it. The last entry of each append carries the state's root after it. `events` holds what
//! came of the commands, so that watchers can read from anywhere without a replay; it is
//! written in the same transaction, and so is what `snapshots` holds: the state itself, now and
//! then, so that opening does not have to begin with the first command.
//!
//! Only commands count. Events and snapshots follow from them, and a snapshot is believed only if its
//! digest is the root that was written beside the command it follows.

mod error;
mod events;
mod reader;
mod replay;
mod schema;
mod snapshots;

use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use zoo_content::Digest;
use zoo_protocol::encode;
use zoo_state::{Command, Event, State};

use error::database_error;
use replay::{Replay, link};
use schema::signed;

pub use error::JournalError;
pub use events::{Events, StoredEvent};
pub use reader::{JournalReader, Verified};
pub use replay::{Roots, Step};
pub use snapshots::{SNAPSHOT_EVERY, SNAPSHOTS_KEPT};

/// A command that was applied, and what came of it.
#[derive(Debug)]
pub struct Entry {
    /// The command.
    pub command: Command,
    /// What came of it.
    pub events: Vec<Event>,
}

/// What a journal leads to.
#[derive(Debug)]
pub struct Replayed {
    /// The state after its last command.
    pub state: State,
    /// Its commands.
    pub commands: u64,
    /// The latest time in it, ms since the Unix epoch; 0 if it is empty.
    pub latest_ms: u64,
    /// The root that was written beside its last command: that of `state`.
    pub written_root: Option<Digest>,
}

/// The journal, open for appending. Its user holds a lock on the directory: nobody else writes.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    writer: SqliteConnection,
    events: Events,
    commands: u64,
    next_event: u64,
    chain: Digest,
    /// Commands of the newest snapshot.
    snapshot: u64,
}

impl Journal {
    /// Opens or creates the journal at `path` and replays it, from the newest snapshot on.
    pub async fn open(path: &Path) -> Result<(Self, Replayed), JournalError> {
        let fail = |cause| database_error(path, cause);
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        let mut writer = options.connect().await.map_err(fail)?;
        schema::prepare(path, &mut writer).await?;
        let events = Events::new(path.to_owned(), options);
        let next_event = events.count().await?;
        let mut replay = snapshots::newest(path, &mut writer).await?;
        let snapshot = replay.commands;
        replay.run(&mut writer, u64::MAX, Roots::Last, |_, _| {}).await?;
        let (commands, chain) = (replay.commands, replay.chain);
        let journal = Self { path: path.to_owned(), writer, events, commands, next_event, chain, snapshot };
        Ok((journal, replay.into()))
    }

    /// Appends `entries`, which led to `state`, in one transaction. When this returns they survive a crash of the
    /// process and of the machine. Gives the state's root.
    pub async fn append(&mut self, entries: &[Entry], state: &State) -> Result<Digest, JournalError> {
        let path = self.path.clone();
        let fail = |cause| database_error(&path, cause);
        let state = state.to_bytes();
        let root = Digest::of(&state);
        let (mut sequence, mut next_event, mut chain) = (self.commands, self.next_event, self.chain);
        let mut appended = Vec::new();
        let mut transaction = self.writer.begin().await.map_err(fail)?;
        for (index, Entry { command, events }) in entries.iter().enumerate() {
            let bytes = command.to_bytes();
            chain = link(&chain, &bytes);
            let is_last = index + 1 == entries.len();
            sqlx::query("INSERT INTO commands (sequence, entry, chain, root) VALUES (?, ?, ?, ?)")
                .bind(signed(sequence))
                .bind(bytes)
                .bind(&chain.as_bytes()[..])
                .bind(is_last.then(|| root.as_bytes().to_vec()))
                .execute(&mut *transaction)
                .await
                .map_err(fail)?;
            sequence += 1;
            for event in events {
                let stored = StoredEvent {
                    sequence: next_event,
                    at_ms: command.now_ms(),
                    bytes: encode(event).into(),
                };
                sqlx::query("INSERT INTO events (sequence, at_ms, event) VALUES (?, ?, ?)")
                    .bind(signed(stored.sequence))
                    .bind(signed(stored.at_ms))
                    .bind(stored.bytes.to_vec())
                    .execute(&mut *transaction)
                    .await
                    .map_err(fail)?;
                appended.push(stored);
                next_event += 1;
            }
        }
        let snapshot_is_due = sequence - self.snapshot >= SNAPSHOT_EVERY;
        if snapshot_is_due {
            snapshots::write(&mut transaction, sequence, &state).await.map_err(fail)?;
        }
        transaction.commit().await.map_err(fail)?;
        (self.commands, self.next_event, self.chain) = (sequence, next_event, chain);
        self.events.appended(appended);
        if snapshot_is_due {
            self.snapshot = sequence;
        }
        Ok(root)
    }

    /// Commands so far.
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// Events so far.
    pub fn next_event(&self) -> u64 {
        self.next_event
    }

    /// Commands that the newest snapshot stands for; 0 if there is none.
    pub fn snapshot(&self) -> u64 {
        self.snapshot
    }

    /// What watchers read.
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// Closes the files.
    pub async fn close(self) -> Result<(), JournalError> {
        self.events.close().await;
        self.writer.close().await.map_err(|cause| database_error(&self.path, cause))
    }
}

impl From<Replay> for Replayed {
    fn from(replay: Replay) -> Self {
        let Replay { state, commands, latest_ms, written_root, .. } = replay;
        Self { state, commands, latest_ms, written_root }
    }
}
