//! A journal for those who only look: also the live one of a running orchestrator.

use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};
use zoo_content::Digest;
use zoo_protocol::{JournalHead, encode};
use zoo_state::State;

use super::error::database_error;
use super::replay::{self, Replay, Roots, Step};
use super::{Events, JournalError, Replayed, schema, snapshots};

/// A journal, open for reading. Nothing is written, and nobody who writes it is held up.
#[derive(Debug)]
pub struct JournalReader {
    path: PathBuf,
    connection: SqliteConnection,
    events: Events,
}

/// What was found when everything was checked.
#[derive(Debug)]
pub struct Verified {
    /// What the commands lead to.
    pub replayed: Replayed,
    /// Events, each equal to what the commands lead to.
    pub events: u64,
    /// After how many commands there are snapshots that are the state then.
    pub snapshots: Vec<u64>,
    /// After how many commands there are snapshots that are not, and why.
    pub damaged_snapshots: Vec<(u64, String)>,
}

impl JournalReader {
    /// Opens the journal at `path`.
    pub async fn open(path: &Path) -> Result<Self, JournalError> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).disable_statement_logging();
        match Self::open_with(path, options.clone()).await {
            // Reading beside a writer takes two small files beside the journal. Where this process may not write them
            // and nobody else has, there is no writer either.
            Err(JournalError::Inaccessible(_)) if path.is_file() && !is_being_written(path) => {
                Self::open_with(path, options.immutable(true)).await
            }
            opened => opened,
        }
    }

    async fn open_with(path: &Path, options: SqliteConnectOptions) -> Result<Self, JournalError> {
        let mut connection = options.connect().await.map_err(|cause| database_error(path, cause))?;
        schema::check(path, &mut connection).await?;
        let events = Events::new(path.to_owned(), options);
        Ok(Self { path: path.to_owned(), connection, events })
    }

    /// Commands so far.
    pub async fn commands(&mut self) -> Result<u64, JournalError> {
        let count = "SELECT COALESCE(MAX(sequence) + 1, 0) FROM commands";
        let count = schema::number(&mut self.connection, count).await;
        count.map(i64::cast_unsigned).map_err(|cause| database_error(&self.path, cause))
    }

    /// Events so far.
    pub async fn event_count(&self) -> Result<u64, JournalError> {
        self.events.count().await
    }

    /// What came of the commands, as it was written.
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// Replays the first `until` commands, or all if there are fewer. `each` sees every command when it is applied.
    pub async fn replay(
        &mut self,
        until: u64,
        roots: Roots,
        each: impl FnMut(&Step, &State),
    ) -> Result<Replayed, JournalError> {
        let mut replay = Replay::new(&self.path);
        replay.run(&mut self.connection, until, roots, each).await?;
        Ok(replay.into())
    }

    /// Replays all commands that there are now, and compares every root, event and snapshot. A snapshot that is
    /// believed has the root that is written beside its command, and all of those are compared.
    pub async fn verify(&mut self) -> Result<Verified, JournalError> {
        let (snapshots, damaged_snapshots) = self.judge_snapshots().await?;
        let commands = self.commands().await?;
        let mut expected = Vec::new();
        let replayed = self.replay(commands, Roots::Every, |step, _| {
            let at_ms = step.command.now_ms();
            expected.extend(step.events.iter().map(|event| (at_ms, Digest::of(&encode(event)))));
        });
        let replayed = replayed.await?;
        self.compare_events(&expected).await?;
        Ok(Verified { replayed, events: expected.len() as u64, snapshots, damaged_snapshots })
    }

    /// How far the journal is, as its writer left it: nothing is replayed for it.
    pub async fn head(&mut self) -> Result<JournalHead, JournalError> {
        let fail = |cause| database_error(&self.path, cause);
        let row = sqlx::query("SELECT sequence, chain, root FROM commands ORDER BY sequence DESC LIMIT 1");
        let Some(row) = row.fetch_optional(&mut self.connection).await.map_err(fail)? else {
            let (commands, chain, root) = (0, replay::beginning(), State::new().root());
            return Ok(JournalHead { commands, chain, root });
        };
        let sequence: i64 = row.try_get("sequence").map_err(fail)?;
        let (commands, sequence) = (sequence.cast_unsigned() + 1, sequence.cast_unsigned());
        let column = |name: &str| row.try_get::<&[u8], _>(name).ok().and_then(replay::digest);
        let damaged =
            |cause: &str| JournalError::Damaged { path: self.path.clone(), sequence, cause: cause.into() };
        let chain = column("chain").ok_or_else(|| damaged("its digest is none"))?;
        let root = column("root").ok_or_else(|| damaged("the last command has no root"))?;
        Ok(JournalHead { commands, chain, root })
    }

    /// Writes a copy of the journal as it is now to `path`, where nothing may be yet.
    pub async fn copy_to(&mut self, path: &Path) -> Result<(), JournalError> {
        let name = path.to_string_lossy().into_owned();
        let copied = sqlx::query("VACUUM INTO ?").bind(name).execute(&mut self.connection).await;
        copied.map(drop).map_err(|cause| database_error(path, cause))
    }

    /// Closes the files.
    pub async fn close(self) -> Result<(), JournalError> {
        self.events.close().await;
        self.connection.close().await.map_err(|cause| database_error(&self.path, cause))
    }

    /// After how many commands there are snapshots that can be believed, and others, with why not. All are looked at
    /// as of one moment: a writer throws old ones away.
    async fn judge_snapshots(&mut self) -> Result<(Vec<u64>, Vec<(u64, String)>), JournalError> {
        let fail = |cause| database_error(&self.path, cause);
        let mut view = self.connection.begin().await.map_err(fail)?;
        let (mut sound, mut damaged) = (Vec::new(), Vec::new());
        for commands in snapshots::numbers(&self.path, &mut view).await? {
            match snapshots::read(&self.path, &mut view, commands).await? {
                Ok(_) => sound.push(commands),
                Err(cause) => damaged.push((commands, cause)),
            }
        }
        view.rollback().await.map_err(fail)?;
        Ok((sound, damaged))
    }

    async fn compare_events(&self, expected: &[(u64, Digest)]) -> Result<(), JournalError> {
        let wrong = |at: usize| JournalError::OtherEvent { path: self.path.clone(), sequence: at as u64 };
        let mut next = 0;
        while next < expected.len() {
            let page = self.events.page_at_once(next as u64).await?;
            if page.is_empty() {
                return Err(wrong(next));
            }
            for (stored, (at_ms, digest)) in page.iter().zip(&expected[next..]) {
                let is_as_expected = (stored.sequence, stored.at_ms) == (next as u64, *at_ms)
                    && Digest::of(&stored.bytes) == *digest;
                if !is_as_expected {
                    return Err(wrong(next));
                }
                next += 1;
            }
        }
        Ok(())
    }
}

fn is_being_written(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    Path::new(&log).metadata().is_ok_and(|log| log.len() > 0)
}
