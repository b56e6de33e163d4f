//! The tables, and the marks in the database's header by which they are known.

use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};

use super::JournalError;
use super::error::database_error;

/// Version of the tables, kept in the database's header. Snapshots do not count: a version that knows nothing of
/// them replays without, and loses nothing.
pub(super) const SCHEMA: i64 = 1;
/// Marks the file as a journal of ours, in the database's header ("Zoo1").
const APPLICATION: i64 = 0x5A6F_6F31;

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

const CREATE_SNAPSHOTS: &str = "
    CREATE TABLE IF NOT EXISTS snapshots (
        commands INTEGER PRIMARY KEY,
        state BLOB NOT NULL
    ) STRICT;
";

/// Creates the tables in a new file; else checks that they are ours and of this version.
pub(super) async fn prepare(path: &Path, writer: &mut SqliteConnection) -> Result<(), JournalError> {
    let fail = |cause| database_error(path, cause);
    if is_empty(path, writer).await? {
        let mut transaction = writer.begin().await.map_err(fail)?;
        sqlx::raw_sql(CREATE).execute(&mut *transaction).await.map_err(fail)?;
        let header = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA};");
        sqlx::raw_sql(sqlx::AssertSqlSafe(header)).execute(&mut *transaction).await.map_err(fail)?;
        transaction.commit().await.map_err(fail)?;
    }
    check(path, writer).await?;
    sqlx::raw_sql(CREATE_SNAPSHOTS).execute(writer).await.map_err(fail)?;
    Ok(())
}

/// Checks that the tables are ours and of this version.
pub(super) async fn check(path: &Path, connection: &mut SqliteConnection) -> Result<(), JournalError> {
    let fail = |cause| database_error(path, cause);
    let application = number(connection, "PRAGMA application_id").await.map_err(fail)?;
    let schema = number(connection, "PRAGMA user_version").await.map_err(fail)?;
    match (application, schema) {
        (APPLICATION, SCHEMA) => Ok(()),
        (APPLICATION, found) if found > SCHEMA => Err(JournalError::Newer { path: path.to_owned(), found }),
        _ => Err(JournalError::Foreign(path.to_owned())),
    }
}

/// SQLite's integers are signed. Sequence numbers and times stay far below 2^63.
pub(super) fn signed(value: u64) -> i64 {
    value.cast_signed()
}

async fn is_empty(path: &Path, connection: &mut SqliteConnection) -> Result<bool, JournalError> {
    let facts = "SELECT (SELECT application_id FROM pragma_application_id) = 0
        AND (SELECT user_version FROM pragma_user_version) = 0
        AND (SELECT COUNT(*) FROM sqlite_schema) = 0";
    let empty = number(connection, facts).await.map_err(|cause| database_error(path, cause))?;
    Ok(empty == 1)
}

pub(super) async fn number(
    connection: &mut SqliteConnection,
    query: &'static str,
) -> Result<i64, sqlx::Error> {
    sqlx::query(query).fetch_one(connection).await?.try_get(0)
}
