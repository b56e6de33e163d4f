//! The ordered log of commands: the orchestrator's only durable state.
//!
//! A SQLite database in WAL mode with `synchronous=FULL`. `commands` holds every command that
//! was applied, chained: the digest beside an entry covers the entry and everything before
//! it. The last entry of each append carries the state's root after it. `events` holds what
//! came of the commands, so that watchers can read from anywhere without a replay; it is
//! written in the same transaction.

use std::path::{Path, PathBuf};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row};
use zoo_content::Digest;
use zoo_protocol::encode;
use zoo_state::{Command, Event, Refusal, State};

/// Version of the tables, kept in the database's header.
const SCHEMA: i64 = 1;
/// Marks the file as a journal of ours, in the database's header ("Zoo1").
const APPLICATION: i64 = 0x5A6F_6F31;
/// Commands read at once on opening.
const REPLAY_PAGE: i64 = 1024;
/// Events read at once by a watcher.
const EVENT_PAGE: i64 = 256;
/// Watchers that read at the same moment; others wait their turn.
const READERS_MAX: u32 = 4;

const CREATE: &str = "
    CREATE TABLE commands (
        sequence INTEGER PRIMARY KEY,
        entry BLOB NOT NULL,
        chain BLOB NOT NULL,
        root BLOB
    ) STRICT;
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        event BLOB NOT NULL
    ) STRICT;
";

/// Why a journal cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It was written by a newer version.
    #[error(
        "journal {} has format {found}, and this version of zoo reads up to {SCHEMA}\n\
         hint: use the version that wrote it, or a newer one",
        path.display()
    )]
    Newer {
        /// The journal.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// It is some other file.
    #[error("{} is not a journal of zoo, or its head is damaged\nhint: restore it from a copy, or choose another directory", .0.display())]
    Foreign(PathBuf),
    /// Its bytes were changed.
    #[error(
        "journal {} is damaged at command {sequence}: {cause}\n\
         hint: restore it from a copy; no command was applied",
        path.display()
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The first command that is wrong.
        sequence: u64,
        /// What is wrong.
        cause: String,
    },
    /// The commands are as written, and this software makes another state of them.
    #[error(
        "journal {} does not replay: after command {sequence} the state's root is {}, and was {} when it was written\n\
         hint: use the version of zoo that wrote it",
        path.display(), actual.short(), expected.short()
    )]
    Diverged {
        /// The journal.
        path: PathBuf,
        /// The command.
        sequence: u64,
        /// The root that was written.
        expected: Digest,
        /// The root of the replayed state.
        actual: Digest,
    },
    /// The disk is full.
    #[error("journal {}: no space left\nhint: free some space on that disk; nothing acknowledged is lost", .0.display())]
    StorageFull(PathBuf),
    /// The operating system does not let this process at it.
    #[error(
        "journal {} cannot be opened for writing\n\
         hint: its directory must exist, and be writable for the user who runs zoo",
        .0.display()
    )]
    Inaccessible(PathBuf),
    /// Any other failure of the database.
    #[error("journal {}: {cause}", path.display())]
    Database {
        /// The journal.
        path: PathBuf,
        /// What the database said.
        cause: sqlx::Error,
    },
}

/// A command that was applied, and what came of it.
#[derive(Debug)]
pub struct Entry {
    /// The command.
    pub command: Command,
    /// What came of it.
    pub events: Vec<Event>,
}

/// An event as it was written.
#[derive(Debug)]
pub struct StoredEvent {
    /// Its place in the order of events, from 0.
    pub sequence: u64,
    /// When, ms since the Unix epoch.
    pub at_ms: u64,
    /// Its encoding.
    pub bytes: Vec<u8>,
}

/// What a journal holds.
#[derive(Debug)]
pub struct Replayed {
    /// The state after its last command.
    pub state: State,
    /// The latest time in it, ms since the Unix epoch; 0 if it is empty.
    pub latest_ms: u64,
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
}

impl Journal {
    /// Opens or creates the journal at `path`, verifies it and replays it.
    pub async fn open(path: &Path) -> Result<(Self, Replayed), JournalError> {
        let fail = |cause| database_error(path, cause);
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        let mut writer = options.connect().await.map_err(fail)?;
        check_schema(path, &mut writer).await?;
        let readers = SqlitePoolOptions::new().max_connections(READERS_MAX).connect_lazy_with(options);
        let events = Events { path: path.to_owned(), readers };
        let next_event = events.count().await?;
        let mut journal = Self {
            path: path.to_owned(),
            writer,
            events,
            commands: 0,
            next_event,
            chain: Digest::of(b"zoo/journal/1"),
        };
        let replayed = journal.replay().await?;
        Ok((journal, replayed))
    }

    /// Appends `entries` and the state's root after them, in one transaction. When this
    /// returns they survive a crash of the process and of the machine.
    pub async fn append(&mut self, entries: &[Entry], root: Digest) -> Result<(), JournalError> {
        let path = self.path.clone();
        let fail = |cause| database_error(&path, cause);
        let (mut sequence, mut next_event, mut chain) = (self.commands, self.next_event, self.chain);
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
                sqlx::query("INSERT INTO events (sequence, at_ms, event) VALUES (?, ?, ?)")
                    .bind(signed(next_event))
                    .bind(signed(command.now_ms()))
                    .bind(encode(event))
                    .execute(&mut *transaction)
                    .await
                    .map_err(fail)?;
                next_event += 1;
            }
        }
        transaction.commit().await.map_err(fail)?;
        (self.commands, self.next_event, self.chain) = (sequence, next_event, chain);
        Ok(())
    }

    /// Commands so far.
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// Events so far.
    pub fn next_event(&self) -> u64 {
        self.next_event
    }

    /// What watchers read.
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// Closes the files.
    pub async fn close(self) -> Result<(), JournalError> {
        self.events.readers.close().await;
        self.writer.close().await.map_err(|cause| database_error(&self.path, cause))
    }

    async fn replay(&mut self) -> Result<Replayed, JournalError> {
        let mut state = State::new();
        let mut latest_ms = 0;
        loop {
            let rows = sqlx::query(
                "SELECT sequence, entry, chain, root FROM commands WHERE sequence >= ? ORDER BY sequence LIMIT ?",
            )
            .bind(signed(self.commands))
            .bind(REPLAY_PAGE)
            .fetch_all(&mut self.writer)
            .await
            .map_err(|cause| database_error(&self.path, cause))?;
            for row in &rows {
                let command = self.replay_one(&mut state, row)?;
                latest_ms = latest_ms.max(command.now_ms());
            }
            if rows.len() < REPLAY_PAGE as usize {
                return Ok(Replayed { state, latest_ms });
            }
        }
    }

    fn replay_one(
        &mut self,
        state: &mut State,
        row: &sqlx::sqlite::SqliteRow,
    ) -> Result<Command, JournalError> {
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
        let command = Command::from_bytes(bytes).map_err(|cause| damaged(cause.to_string()))?;
        state.apply(&command).map_err(|refusal: Refusal| damaged(format!("it does not apply: {refusal}")))?;
        if let Some(root) = row.try_get::<Option<&[u8]>, _>("root").map_err(column)? {
            let expected = root
                .try_into()
                .map(Digest::from_bytes)
                .map_err(|_| damaged("its root is no digest".into()))?;
            let actual = state.root();
            if actual != expected {
                return Err(JournalError::Diverged { path: self.path.clone(), sequence, expected, actual });
            }
        }
        self.commands += 1;
        self.chain = chain;
        Ok(command)
    }
}

/// The events of a journal, for reading beside its writer.
#[derive(Clone, Debug)]
pub struct Events {
    path: PathBuf,
    readers: SqlitePool,
}

impl Events {
    /// The next events from number `from` on: at most 256, none if there are none yet.
    pub async fn page(&self, from: u64) -> Result<Vec<StoredEvent>, JournalError> {
        let fail = |cause| database_error(&self.path, cause);
        let rows = sqlx::query(
            "SELECT sequence, at_ms, event FROM events WHERE sequence >= ? ORDER BY sequence LIMIT ?",
        )
        .bind(signed(from))
        .bind(EVENT_PAGE)
        .fetch_all(&self.readers)
        .await
        .map_err(fail)?;
        let stored = |row: &sqlx::sqlite::SqliteRow| {
            Ok(StoredEvent {
                sequence: row.try_get::<i64, _>("sequence")?.cast_unsigned(),
                at_ms: row.try_get::<i64, _>("at_ms")?.cast_unsigned(),
                bytes: row.try_get("event")?,
            })
        };
        rows.iter().map(stored).collect::<Result<_, sqlx::Error>>().map_err(fail)
    }

    async fn count(&self) -> Result<u64, JournalError> {
        let row = sqlx::query("SELECT COALESCE(MAX(sequence) + 1, 0) AS count FROM events")
            .fetch_one(&self.readers)
            .await
            .map_err(|cause| database_error(&self.path, cause))?;
        let count: i64 = row.try_get("count").map_err(|cause| database_error(&self.path, cause))?;
        Ok(count.cast_unsigned())
    }
}

/// The digest that stands for an entry and all before it.
fn link(chain: &Digest, entry: &[u8]) -> Digest {
    Digest::of(&[chain.as_bytes(), entry].concat())
}

/// SQLite's integers are signed. Sequence numbers and times stay far below 2^63.
fn signed(value: u64) -> i64 {
    value.cast_signed()
}

/// Creates the tables in a new file; else checks that they are ours and of this version.
async fn check_schema(path: &Path, writer: &mut SqliteConnection) -> Result<(), JournalError> {
    let fail = |cause| database_error(path, cause);
    let application = pragma(writer, "PRAGMA application_id").await.map_err(fail)?;
    let schema = pragma(writer, "PRAGMA user_version").await.map_err(fail)?;
    let tables = pragma(writer, "SELECT COUNT(*) FROM sqlite_schema").await.map_err(fail)?;
    match (application, schema, tables) {
        (0, 0, 0) => {
            let mut transaction = writer.begin().await.map_err(fail)?;
            sqlx::raw_sql(CREATE).execute(&mut *transaction).await.map_err(fail)?;
            let header = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA};");
            sqlx::raw_sql(sqlx::AssertSqlSafe(header)).execute(&mut *transaction).await.map_err(fail)?;
            transaction.commit().await.map_err(fail)
        }
        (APPLICATION, SCHEMA, _) => Ok(()),
        (APPLICATION, found, _) if found > SCHEMA => {
            Err(JournalError::Newer { path: path.to_owned(), found })
        }
        _ => Err(JournalError::Foreign(path.to_owned())),
    }
}

async fn pragma(writer: &mut SqliteConnection, query: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query(query).fetch_one(writer).await?.try_get(0)
}

/// Gives a name to what people can do something about. The codes are SQLite's primary result codes.
fn database_error(path: &Path, cause: sqlx::Error) -> JournalError {
    let path = path.to_owned();
    let code = cause.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    match code.map(|code| code & 0xff) {
        Some(13) => JournalError::StorageFull(path),
        Some(3 | 8 | 14) => JournalError::Inaccessible(path),
        Some(26) => JournalError::Foreign(path),
        Some(11) => JournalError::Damaged { path, sequence: 0, cause: "the database is malformed".into() },
        _ => JournalError::Database { path, cause },
    }
}
