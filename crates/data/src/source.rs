//! Where text comes from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cargo_source::{self, CargoSource};
use crate::document::{Count, Document, Exclusion};
use crate::selection::Selection;
use crate::{DataError, path_source};

/// Where a corpus is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The source code and documentation that cargo has put on this machine.
    Cargo(CargoSource),
    /// A file, or every text below a folder.
    Path(PathBuf),
}

/// What the manifest says about the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum SourceRecord {
    /// The packages a project depends on, as `cargo metadata` lists them.
    CargoMetadata,
    /// Every package in the registry folder of cargo's home.
    CargoRegistry,
    /// A file or folder a person gave.
    Path {
        /// Its name, without the folders it lies in.
        name: String,
    },
}

/// What was found at a source.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Chosen, in no particular order.
    pub documents: Vec<Document>,
    /// Considered and left out.
    pub exclusions: Vec<Exclusion>,
    /// Not looked at, the budget being full.
    pub unread: Count,
}

impl From<Selection> for Gathered {
    fn from(selection: Selection) -> Self {
        let Selection { documents, exclusions, unread, .. } = selection;
        Self { documents, exclusions, unread }
    }
}

impl Source {
    /// Reads up to `bytes_max` bytes of text; the choice follows from `seed`
    /// and from what is there, never from `threads`.
    pub(crate) fn gather(
        &self,
        bytes_max: u64,
        seed: u64,
        threads: usize,
    ) -> Result<(SourceRecord, Gathered), DataError> {
        match self {
            Self::Cargo(source) => cargo_source::gather(source, bytes_max, seed, threads),
            Self::Path(path) => {
                let gathered = path_source::gather(path, bytes_max, seed, threads)?;
                Ok((SourceRecord::Path { name: path_source::name_of(path) }, gathered))
            }
        }
    }
}
