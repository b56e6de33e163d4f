//! Snapshots of the state, so that opening a journal takes no longer the older it is.
//!
//! A snapshot is the state's canonical encoding, whose first field is its format, and the number of commands that led
//! to it. It is written in the transaction of the append that it follows, and says nothing that the commands do not
//! say: whether to believe it is decided by what is written beside the last of its commands.

use std::path::Path;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use tracing::warn;
use zoo_content::Digest;
use zoo_state::{Command, State};

use super::JournalError;
use super::error::database_error;
use super::replay::{Replay, digest, link};
use super::schema::{number, signed};

/// A snapshot follows an append when so many commands have come since the one before. Opening replays at most as
/// many: 0.02 s for 50 nodes, 0.6 s for 10,000. Writing one takes a few ms, and per command 60 bytes for 50 nodes,
/// 4 kB for 10,000 (`zoo bench journal`).
pub const SNAPSHOT_EVERY: u64 = 512;
/// The newest so many are kept: one may be damaged, and so may the one before.
pub const SNAPSHOTS_KEPT: u64 = 3;

/// The newest snapshot that can be believed, as the point from which a replay goes on; the first command if there is
/// none. Snapshots that cannot be believed are told of and thrown away.
pub(super) async fn newest(path: &Path, writer: &mut SqliteConnection) -> Result<Replay, JournalError> {
    let fail = |cause| database_error(path, cause);
    for commands in numbers(path, writer).await?.into_iter().rev() {
        match read(path, writer, commands).await? {
            Ok(replay) => return Ok(replay),
            Err(cause) => {
                warn!(
                    "the snapshot after {commands} commands cannot be used: {cause}; starting from an earlier point"
                );
                sqlx::query("DELETE FROM snapshots WHERE commands = ?")
                    .bind(signed(commands))
                    .execute(&mut *writer)
                    .await
                    .map_err(fail)?;
            }
        }
    }
    Ok(Replay::new(path))
}

/// Writes the snapshot of a state that `commands` commands led to, and lets go of old ones.
pub(super) async fn write(
    writer: &mut SqliteConnection,
    commands: u64,
    state: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO snapshots (commands, state) VALUES (?, ?)")
        .bind(signed(commands))
        .bind(state)
        .execute(&mut *writer)
        .await?;
    let old = "DELETE FROM snapshots WHERE commands NOT IN
        (SELECT commands FROM snapshots ORDER BY commands DESC LIMIT ?)";
    sqlx::query(old).bind(signed(SNAPSHOTS_KEPT)).execute(writer).await?;
    Ok(())
}

/// After how many commands there are snapshots, in order. A journal of old has none.
pub(super) async fn numbers(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<Vec<u64>, JournalError> {
    let fail = |cause| database_error(path, cause);
    let table = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'snapshots'";
    if number(connection, table).await.map_err(fail)? == 0 {
        return Ok(Vec::new());
    }
    let rows = sqlx::query("SELECT commands FROM snapshots ORDER BY commands")
        .fetch_all(connection)
        .await
        .map_err(fail)?;
    let number = |row: &SqliteRow| row.try_get::<i64, _>("commands").map(i64::cast_unsigned);
    rows.iter().map(number).collect::<Result<_, _>>().map_err(fail)
}

/// The snapshot after so many commands, or why it cannot be believed.
pub(super) async fn read(
    path: &Path,
    connection: &mut SqliteConnection,
    commands: u64,
) -> Result<Result<Replay, String>, JournalError> {
    let row = sqlx::query(
        "SELECT state, last.entry AS entry, last.chain AS chain, last.root AS root, before.chain AS before
         FROM snapshots
         LEFT JOIN commands AS last ON last.sequence = snapshots.commands - 1
         LEFT JOIN commands AS before ON before.sequence = snapshots.commands - 2
         WHERE snapshots.commands = ?",
    )
    .bind(signed(commands))
    .fetch_one(connection)
    .await
    .map_err(|cause| database_error(path, cause))?;
    Ok(believe(path, commands, &row))
}

fn believe(path: &Path, commands: u64, row: &SqliteRow) -> Result<Replay, String> {
    let column = |name| row.try_get::<Option<&[u8]>, _>(name).map_err(|cause| cause.to_string());
    let (Some(state), Some(entry), Some(chain), Some(root)) =
        (column("state")?, column("entry")?, column("chain")?, column("root")?)
    else {
        return Err("the command it follows, or the root beside it, is missing".into());
    };
    let mut replay = Replay::new(path);
    let before = match column("before")? {
        Some(before) => digest(before).ok_or("the digest of the command before is none")?,
        None => replay.chain,
    };
    if link(&before, entry).as_bytes() != chain {
        return Err("the command it follows is damaged".into());
    }
    let root = digest(root).ok_or("the root beside its command is none")?;
    if Digest::of(state) != root {
        return Err("it has another root than the state had".into());
    }
    replay.state = State::from_bytes(state).map_err(|cause| cause.to_string())?;
    replay.latest_ms = Command::from_bytes(entry).map_err(|cause| cause.to_string())?.now_ms();
    (replay.commands, replay.written_root) = (commands, Some(root));
    replay.chain = link(&before, entry);
    Ok(replay)
}
