//! What came of the commands, for reading from anywhere without a replay.

use std::path::PathBuf;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};

use super::JournalError;
use super::error::database_error;
use super::schema::signed;

/// Events read at once.
const EVENT_PAGE: i64 = 256;
/// Watchers that read at the same moment; others wait their turn.
const READERS_MAX: u32 = 4;

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

/// The events of a journal, for reading beside its writer.
#[derive(Clone, Debug)]
pub struct Events {
    path: PathBuf,
    readers: SqlitePool,
}

impl Events {
    /// Connects when they are first read.
    pub(super) fn new(path: PathBuf, options: SqliteConnectOptions) -> Self {
        let readers = SqlitePoolOptions::new().max_connections(READERS_MAX).connect_lazy_with(options);
        Self { path, readers }
    }

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
        let stored = |row: &SqliteRow| {
            Ok(StoredEvent {
                sequence: row.try_get::<i64, _>("sequence")?.cast_unsigned(),
                at_ms: row.try_get::<i64, _>("at_ms")?.cast_unsigned(),
                bytes: row.try_get("event")?,
            })
        };
        rows.iter().map(stored).collect::<Result<_, sqlx::Error>>().map_err(fail)
    }

    /// Events so far.
    pub(super) async fn count(&self) -> Result<u64, JournalError> {
        let row = sqlx::query("SELECT COALESCE(MAX(sequence) + 1, 0) AS count FROM events")
            .fetch_one(&self.readers)
            .await
            .map_err(|cause| database_error(&self.path, cause))?;
        let count: i64 = row.try_get("count").map_err(|cause| database_error(&self.path, cause))?;
        Ok(count.cast_unsigned())
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
    }
}
