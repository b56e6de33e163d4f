//! What can go wrong while a corpus is prepared, and what to do about it.

use std::path::PathBuf;

/// Why no corpus could be prepared.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// `--data` names nothing.
    #[error("{}: no such file or folder\nhint: check the path given with --data", path.display())]
    Missing {
        /// The path given.
        path: PathBuf,
    },
    /// The file has no text in it.
    #[error("{}: the file is empty\nhint: give a file or folder that holds text", path.display())]
    EmptyFile {
        /// The path given.
        path: PathBuf,
    },
    /// The folder has no files.
    #[error("{}: the folder holds no files\nhint: give a file or folder that holds text (hidden files are not read)", path.display())]
    EmptyFolder {
        /// The path given.
        path: PathBuf,
    },
    /// Every file of the folder was left out.
    #[error("{}: none of its {files} files can be used ({reasons})\nhint: give a folder with UTF-8 text files", path.display())]
    NothingUsable {
        /// The path given.
        path: PathBuf,
        /// How many files were looked at.
        files: u64,
        /// The reasons with their counts.
        reasons: String,
    },
    /// The path is neither a file nor a folder.
    #[error("{}: neither a regular file nor a folder\nhint: give a file or folder that holds text", path.display())]
    NotAFile {
        /// The path given.
        path: PathBuf,
    },
    /// The operating system refuses access.
    #[error("{}: permission denied\nhint: make it readable for the user who runs zoo, for instance with chmod -R u+rX", path.display())]
    PermissionDenied {
        /// What could not be read.
        path: PathBuf,
    },
    /// The file holds a NUL byte.
    #[error("{}: not a text: NUL byte at offset {offset}\nhint: give plain text; archives, images and the like must be unpacked or converted first", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// Where, bytes from the start.
        offset: usize,
    },
    /// The file is not UTF-8.
    #[error("{}: not UTF-8: bad byte 0x{byte:02x} at offset {offset}\nhint: convert it first, for instance with iconv -f LATIN1 -t UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Where the first bad byte is, bytes from the start.
        offset: usize,
        /// The bad byte.
        byte: u8,
    },
    /// The folder holds more files than are looked at.
    #[error("{}: more than {limit} files\nhint: give a smaller folder, or one file", path.display())]
    TooManyFiles {
        /// The path given.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// Any other failure of the operating system.
    #[error("cannot read {}: {cause}", path.display())]
    Io {
        /// What was being read.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// Cargo has put no packages with a permissive licence on this machine.
    #[error(
        "no source code of cargo packages found on this machine ({cause})\nhint: run cargo fetch in a Rust project, or give your own text with --data PATH"
    )]
    NoPackages {
        /// What was tried and what came of it.
        cause: String,
    },
    /// Too little text to train on and hold some out.
    #[error(
        "the corpus has {characters} characters: too few to train on and hold some out\nhint: give at least {least} characters of text with --data PATH"
    )]
    TooSmall {
        /// Characters in the corpus.
        characters: usize,
        /// The fewest that can be split.
        least: usize,
    },
    /// An option has an impossible value.
    #[error("{option} is {value}, but must be {expected}\nhint: {hint}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        expected: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The tokenizer could not be trained.
    #[error("cannot train a tokenizer: {0}")]
    Tokenizer(String),
    /// The tokens do not make a dataset.
    #[error("cannot make a dataset: {0}")]
    Dataset(String),
    /// Bytes that are not a data manifest as this version writes it.
    #[error("not a data manifest: {0}\nhint: prepare the data again with this version of zoo")]
    Manifest(String),
}

impl DataError {
    /// The error for a failure of the operating system at `path`.
    pub(crate) fn io(path: &std::path::Path, cause: std::io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Self::Missing { path },
            std::io::ErrorKind::PermissionDenied => Self::PermissionDenied { path },
            _ => Self::Io { path, cause },
        }
    }
}
