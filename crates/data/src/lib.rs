//! Corpora with lineage: sources, licences, splits and tokenised shards.
//!
//! [`prepare`] turns a [`Source`] into two datasets, one to train on and one to
//! measure with, and a [`Manifest`] that names every document they are made of
//! (package, version, licence, path, digest), everything that was left out and
//! why, and the tokenizer. Equal text and equal [`Options`] give an equal
//! manifest digest: the number of threads, the clock and the place on disk have
//! no part in it.
//!
//! ```
//! use zoo_data::{HeldOut, Options, Source, TokenizerChoice, prepare};
//!
//! let folder = tempfile::tempdir()?;
//! std::fs::write(folder.path().join("poem.txt"), "a rose is a rose is a rose\n".repeat(100))?;
//! let options = Options {
//!     source: Source::Path(folder.path().join("poem.txt")),
//!     bytes_max: 1_000_000,
//!     held_out: HeldOut::default(),
//!     tokenizer: TokenizerChoice::Bytes,
//!     seed: 1,
//!     threads: 2,
//! };
//! let prepared = prepare(&options, &mut |_progress| {})?;
//! assert_eq!((prepared.training.text_bytes(), prepared.held_out.text_bytes()), (2430, 270));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The default source, [`CargoSource`], is the source code and documentation of
//! the packages that cargo has already put on this machine, those under
//! permissive licences. Nothing is downloaded, here or anywhere in this crate.

mod cargo_packages;
mod cargo_source;
mod corpus;
mod document;
mod error;
mod licence;
mod manifest;
mod parallel;
mod path_source;
mod quality;
mod selection;
mod source;
mod split;
mod tokenise;
mod walk;

pub use cargo_packages::find_manifest;
pub use cargo_source::CargoSource;
pub use corpus::{Corpus, Options, Prepared, Progress, TokenizerChoice, gather, prepare};
pub use document::{Count, Document, Exclusion, Origin, Reason, count_reasons};
pub use error::DataError;
pub use licence::is_permissive;
pub use manifest::{
    DatasetRecord, DocumentRecord, ExclusionRecord, MANIFEST_BYTES_MAX, MANIFEST_FORMAT, Manifest, Part,
    TokenizerRecord,
};
pub use path_source::FOLDER_FILES_MAX;
pub use source::{Source, SourceRecord};
pub use split::{HeldOut, Split, split};
