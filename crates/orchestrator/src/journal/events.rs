//! What came of the commands, for reading from anywhere without a replay.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::JournalError;
use super::error::database_error;
use super::schema::signed;

/// Events read at once.
const EVENT_PAGE: usize = 256;
/// The newest events are kept in memory, whoever watches: so many, of so many bytes.
const RECENT_MAX: usize = 4096;
const RECENT_BYTES_MAX: usize = 4 << 20;
/// Connections to the file.
const READERS_MAX: u32 = 4;
/// After a page from the file all who read from it rest for so many times as long as it took: whoever asks for history, and however many
/// do, that is a tenth of the time. 256 events take about a millisecond, so one alone still gets tens of thousands a second.
const REST: u32 = 9;
/// But for no longer than this, should the disk hang.
const REST_MAX: Duration = Duration::from_millis(250);

/// An event as it was written.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Its place in the order of events, from 0.
    pub sequence: u64,
    /// When, ms since the Unix epoch.
    pub at_ms: u64,
    /// Its encoding.
    pub bytes: Arc<[u8]>,
}

/// The newest events, in order and without gaps.
#[derive(Debug, Default)]
struct Recent {
    events: VecDeque<StoredEvent>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, event: StoredEvent) {
        self.bytes += event.bytes.len();
        self.events.push_back(event);
        while self.events.len() > RECENT_MAX || self.bytes > RECENT_BYTES_MAX {
            self.bytes -= self.events.pop_front().map_or(0, |oldest| oldest.bytes.len());
        }
    }

    /// The next events from number `from` on, if they are all here.
    fn page(&self, from: u64) -> Option<Vec<StoredEvent>> {
        let skipped = from.checked_sub(self.events.front()?.sequence)? as usize;
        Some(self.events.iter().skip(skipped).take(EVENT_PAGE).cloned().collect())
    }
}

/// The events of a journal, for reading beside its writer.
#[derive(Clone, Debug)]
pub struct Events {
    path: PathBuf,
    readers: SqlitePool,
    recent: Arc<RwLock<Recent>>,
    /// Whoever reads history one after the other, each not before this.
    turn: Arc<Mutex<Option<Instant>>>,
}

impl Events {
    /// Connects when they are first read.
    pub(super) fn new(path: PathBuf, options: SqliteConnectOptions) -> Self {
        let readers = SqlitePoolOptions::new().max_connections(READERS_MAX).connect_lazy_with(options);
        Self { path, readers, recent: Arc::default(), turn: Arc::default() }
    }

    /// The next events from number `from` on, at most 256, for whoever asks: the newest at once, older ones at the pace of a tenth of the time for
    /// all together. None if there are none yet.
    pub async fn page(&self, from: u64) -> Result<Vec<StoredEvent>, JournalError> {
        if let Some(page) = self.recent_page(from) {
            return Ok(page);
        }
        let mut turn = self.turn.lock().await;
        if let Some(rested) = *turn {
            sleep_until(rested).await;
        }
        let began = Instant::now();
        let page = self.stored_page(from).await;
        *turn = Some(Instant::now() + (began.elapsed() * REST).min(REST_MAX));
        page
    }

    /// The same, for this process itself.
    pub async fn page_at_once(&self, from: u64) -> Result<Vec<StoredEvent>, JournalError> {
        match self.recent_page(from) {
            Some(page) => Ok(page),
            None => self.stored_page(from).await,
        }
    }

    fn recent_page(&self, from: u64) -> Option<Vec<StoredEvent>> {
        self.recent.read().unwrap_or_else(PoisonError::into_inner).page(from)
    }

    async fn stored_page(&self, from: u64) -> Result<Vec<StoredEvent>, JournalError> {
        let fail = |cause| database_error(&self.path, cause);
        let rows = sqlx::query(
            "SELECT sequence, at_ms, event FROM events WHERE sequence >= ? ORDER BY sequence LIMIT ?",
        )
        .bind(signed(from))
        .bind(EVENT_PAGE as i64)
        .fetch_all(&self.readers)
        .await
        .map_err(fail)?;
        let stored = |row: &SqliteRow| {
            Ok(StoredEvent {
                sequence: row.try_get::<i64, _>("sequence")?.cast_unsigned(),
                at_ms: row.try_get::<i64, _>("at_ms")?.cast_unsigned(),
                bytes: row.try_get::<Vec<u8>, _>("event")?.into(),
            })
        };
        rows.iter().map(stored).collect::<Result<_, sqlx::Error>>().map_err(fail)
    }

    /// Takes what was appended and is durable.
    pub(super) fn appended(&self, events: impl IntoIterator<Item = StoredEvent>) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        events.into_iter().for_each(|event| recent.push(event));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u64, bytes: usize) -> StoredEvent {
        StoredEvent { sequence, at_ms: 0, bytes: vec![0; bytes].into() }
    }

    #[test]
    fn the_newest_events_are_read_from_memory_which_is_bounded_and_older_ones_are_not() {
        let mut recent = Recent::default();
        assert!(recent.page(0).is_none(), "a journal that was just opened is read from its file");
        (7..10_000).for_each(|sequence| recent.push(event(sequence, 100)));
        let first = recent.events.front().unwrap().sequence;
        assert_eq!((first, recent.events.len()), (10_000 - RECENT_MAX as u64, RECENT_MAX));
        assert!(recent.page(first - 1).is_none());
        let sequences =
            |from| recent.page(from).unwrap().iter().map(|event| event.sequence).collect::<Vec<_>>();
        assert_eq!(sequences(first), (first..first + EVENT_PAGE as u64).collect::<Vec<_>>());
        assert_eq!(sequences(9_999), [9_999]);
        assert_eq!((sequences(10_000), sequences(20_000)), (vec![], vec![]), "nothing yet");
        recent.push(event(10_000, RECENT_BYTES_MAX));
        assert_eq!((recent.events.len(), recent.bytes), (1, RECENT_BYTES_MAX));
    }
}
