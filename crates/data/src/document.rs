//! What a corpus is made of: texts that say where they come from.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;

/// Where a text comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The package; for `--data`, the name of the file or folder given.
    pub package: String,
    /// The package's version, if it has one.
    pub version: Option<String>,
    /// The SPDX expression the package declares, if it declares one.
    pub licence: Option<String>,
    /// Path inside the package, parts joined by `/`. Empty when the whole
    /// package is meant.
    pub path: String,
}

/// One text of a corpus, with its lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Where it comes from.
    pub origin: Origin,
    /// Byte of the file at which the text starts: not 0 only where one file is
    /// cut into a training and a held-out part.
    pub offset: u64,
    /// Digest of the text's bytes.
    pub digest: Digest,
    /// The text, byte for byte as in the file.
    pub text: String,
}

impl Document {
    /// The document that holds `text`, the whole of a file.
    pub fn new(origin: Origin, text: String) -> Self {
        Self { origin, offset: 0, digest: Digest::of(text.as_bytes()), text }
    }

    /// Size of the text, bytes.
    pub fn bytes(&self) -> u64 {
        self.text.len() as u64
    }

    /// The part `from..to` of the text (bytes, on character boundaries).
    pub(crate) fn part(&self, from: usize, to: usize) -> Self {
        let text = self.text[from..to].to_owned();
        Self { offset: self.offset + from as u64, ..Self::new(self.origin.clone(), text) }
    }
}

/// A file or a package that was considered and left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// What was left out.
    pub origin: Origin,
    /// Why.
    pub reason: Reason,
    /// Its size in bytes; 0 for a whole package, whose files were not looked at.
    pub bytes: u64,
}

/// Why something is not in the corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The package declares no licence.
    NoLicence,
    /// The package's licence expression is not a permissive one.
    LicenceNotPermissive,
    /// A newer version of the same package is in the corpus: most of its text is the same.
    OlderVersion,
    /// The operating system does not let it be read.
    Unreadable,
    /// Nothing in it but white space.
    Empty,
    /// Holds a NUL byte: not a text.
    Binary,
    /// Not UTF-8.
    NotUtf8,
    /// Says itself that a program wrote it.
    Generated,
    /// Has lines no person writes: minified or embedded data.
    LongLines,
    /// Mostly punctuation or digits: a table or embedded data.
    MostlySymbols,
    /// Byte for byte equal to another document.
    Duplicate,
    /// Larger than what was left of the budget.
    OverBudget,
    /// Past the limit on held-out text: neither trained on nor evaluated.
    HeldOutLimit,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLicence => "no licence declared",
            Self::LicenceNotPermissive => "licence not permissive",
            Self::OlderVersion => "older version of a package",
            Self::Unreadable => "unreadable",
            Self::Empty => "empty",
            Self::Binary => "binary",
            Self::NotUtf8 => "not UTF-8",
            Self::Generated => "generated",
            Self::LongLines => "very long lines",
            Self::MostlySymbols => "mostly symbols",
            Self::Duplicate => "duplicate",
            Self::OverBudget => "over the budget",
            Self::HeldOutLimit => "past the held-out limit",
        })
    }
}

/// A number of files and the sum of their sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// How many.
    pub files: u64,
    /// Their sizes together.
    pub bytes: u64,
}

impl Count {
    /// Counts one more file.
    pub fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// How much each reason excluded.
pub fn count_reasons(exclusions: &[Exclusion]) -> BTreeMap<Reason, Count> {
    let mut counts = BTreeMap::<Reason, Count>::new();
    for exclusion in exclusions {
        counts.entry(exclusion.reason).or_default().add(exclusion.bytes);
    }
    counts
}
