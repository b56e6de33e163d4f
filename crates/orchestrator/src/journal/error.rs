//! Why a journal cannot be opened, read or written.

use std::path::{Path, PathBuf};

use zoo_content::Digest;

use super::schema::SCHEMA;

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
         hint: restore it from a copy; the commands before it are whole",
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
         hint: use the version of zoo that wrote it; zoo journal verify names the first command that differs",
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
    /// The commands are as written, and the events beside them are not what they lead to.
    #[error(
        "journal {} holds another event {sequence} than its commands lead to\n\
         hint: watchers were told something else, or it was changed since; zoo journal replay prints what should be there",
        path.display()
    )]
    OtherEvent {
        /// The journal.
        path: PathBuf,
        /// The first event that is wrong.
        sequence: u64,
    },
    /// The disk is full.
    #[error("journal {}: no space left\nhint: free some space on that disk; nothing acknowledged is lost", .0.display())]
    StorageFull(PathBuf),
    /// The operating system does not let this process at it.
    #[error(
        "journal {} cannot be opened\n\
         hint: its directory must exist, and belong to the user who runs zoo",
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

/// Gives a name to what people can do something about. The codes are SQLite's primary result codes.
pub(super) fn database_error(path: &Path, cause: sqlx::Error) -> JournalError {
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
