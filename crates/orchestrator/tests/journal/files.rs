//! Journals in folders of their own, and what may happen to their files.

use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

pub fn fresh() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    (directory, path)
}

/// A journal of format 1, as it was before there were snapshots.
pub fn of_format_1() -> (tempfile::TempDir, PathBuf) {
    let (directory, path) = fresh();
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/journal-1.sqlite"), &path).unwrap();
    (directory, path)
}

pub async fn edit(path: &Path, sql: &str) {
    let mut connection =
        SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

/// The file that SQLite writes before the journal itself.
pub fn log_of(path: &Path) -> PathBuf {
    path.with_extension("sqlite-wal")
}
