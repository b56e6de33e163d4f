//! What a prepared corpus is made of, as one blob that has a digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;

use crate::DataError;
use crate::document::{Count, Document, Exclusion, Origin, Reason, count_reasons};
use crate::source::SourceRecord;
use crate::split::HeldOut;

/// The version of the format that is written and read.
pub const MANIFEST_FORMAT: u32 = 1;
/// Largest manifest that is read, bytes.
pub const MANIFEST_BYTES_MAX: usize = 256 << 20;
/// Most exclusions that are listed one by one; the counts are always complete.
const LISTED_EXCLUSIONS_MAX: usize = 1_000;

/// Names every document of a corpus, what was left out and why, and the
/// datasets that were made of it.
///
/// Its bytes are JSON with the fields in the order given here and no spaces:
/// one manifest has one encoding, so equal corpora have an equal digest. It
/// names no machine, no time and no folder outside the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`].
    pub format: u32,
    /// Where the text was taken from.
    pub source: SourceRecord,
    /// What the order of choice and the split were keyed with.
    pub seed: u64,
    /// Budget of text, bytes.
    pub bytes_max: u64,
    /// The rule by which text was held out.
    pub held_out_rule: HeldOut,
    /// Every document, in the order in which the datasets hold them.
    pub documents: Vec<DocumentRecord>,
    /// What was left out.
    pub excluded: ExclusionRecord,
    /// What cut the text into tokens.
    pub tokenizer: TokenizerRecord,
    /// The tokens that are trained on.
    pub training: DatasetRecord,
    /// The tokens that are measured with.
    pub held_out: DatasetRecord,
}

/// One document of a corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentRecord {
    /// Where it comes from.
    pub origin: Origin,
    /// Byte of the file at which it starts.
    pub offset: u64,
    /// Its size.
    pub bytes: u64,
    /// Digest of its text.
    pub digest: Digest,
    /// The part of the corpus it is in.
    pub split: Part,
}

/// The two parts of a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Trained on.
    Training,
    /// Measured with.
    HeldOut,
}

/// What was left out of a corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExclusionRecord {
    /// How much every reason excluded.
    pub counts: BTreeMap<Reason, Count>,
    /// Files not read, the budget being full.
    pub unread: Count,
    /// What was excluded, ordered by origin; the first 1,000.
    pub listed: Vec<Exclusion>,
}

impl ExclusionRecord {
    pub(crate) fn new(mut exclusions: Vec<Exclusion>, unread: Count) -> Self {
        let counts = count_reasons(&exclusions);
        exclusions.sort();
        exclusions.truncate(LISTED_EXCLUSIONS_MAX);
        Self { counts, unread, listed: exclusions }
    }
}

/// A tokenizer, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerRecord {
    /// Number of token ids.
    pub vocab_size: u32,
    /// Digest of its `tokenizer.json`.
    pub digest: Digest,
}

/// A tokenised part of a corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetRecord {
    /// Number of documents.
    pub documents: u64,
    /// Size of their text.
    pub bytes: u64,
    /// Number of tokens.
    pub tokens: u64,
    /// Digest of the dataset's blob.
    pub digest: Digest,
}

impl DocumentRecord {
    pub(crate) fn new(document: &Document, split: Part) -> Self {
        let Document { origin, offset, digest, text } = document;
        Self { origin: origin.clone(), offset: *offset, bytes: text.len() as u64, digest: *digest, split }
    }
}

impl Manifest {
    /// The one encoding of this manifest.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and lists always have a JSON form")
    }

    /// The digest of [`Manifest::to_bytes`].
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Anything but the bytes that [`Manifest::to_bytes`] gives for it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DataError> {
        let refused = |cause: String| Err(DataError::Manifest(cause));
        if bytes.len() > MANIFEST_BYTES_MAX {
            return refused(format!("{} bytes are more than the limit of {MANIFEST_BYTES_MAX}", bytes.len()));
        }
        let manifest: Self = match serde_json::from_slice(bytes) {
            Ok(manifest) => manifest,
            Err(error) => return refused(error.to_string()),
        };
        if manifest.format != MANIFEST_FORMAT {
            return refused(format!("format {} is not known, only {MANIFEST_FORMAT} is", manifest.format));
        }
        if manifest.to_bytes() != bytes {
            return refused("it is not in its canonical form".to_owned());
        }
        Ok(manifest)
    }

    /// How much text there is under every licence expression; `None` is text
    /// that a person gave without stating one.
    pub fn licences(&self) -> BTreeMap<Option<&str>, Count> {
        let mut licences = BTreeMap::<Option<&str>, Count>::new();
        for document in &self.documents {
            licences.entry(document.origin.licence.as_deref()).or_default().add(document.bytes);
        }
        licences
    }

    /// How many packages the documents come from.
    pub fn packages(&self) -> usize {
        let packages: std::collections::BTreeSet<_> = self
            .documents
            .iter()
            .map(|document| (&document.origin.package, &document.origin.version))
            .collect();
        packages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Manifest {
        let origin = |path: &str| Origin {
            package: "anyhow".into(),
            version: Some("1.0.0".into()),
            licence: Some("MIT OR Apache-2.0".into()),
            path: path.into(),
        };
        let documents = [("README.md", Part::HeldOut), ("src/lib.rs", Part::Training)].map(|(path, part)| {
            DocumentRecord::new(&Document::new(origin(path), format!("// {path}\n")), part)
        });
        let excluded = vec![
            Exclusion { origin: origin("src/table.rs"), reason: Reason::MostlySymbols, bytes: 10 },
            Exclusion { origin: origin("src/b.rs"), reason: Reason::Duplicate, bytes: 14 },
            Exclusion { origin: origin("src/a.rs"), reason: Reason::Duplicate, bytes: 14 },
        ];
        let dataset = DatasetRecord { documents: 1, bytes: 13, tokens: 13, digest: Digest::of(b"tokens") };
        Manifest {
            format: MANIFEST_FORMAT,
            source: SourceRecord::CargoMetadata,
            seed: 1,
            bytes_max: 1000,
            held_out_rule: HeldOut::default(),
            documents: documents.to_vec(),
            excluded: ExclusionRecord::new(excluded, Count { files: 2, bytes: 99 }),
            tokenizer: TokenizerRecord { vocab_size: 256, digest: Digest::of(b"tokenizer") },
            training: dataset.clone(),
            held_out: dataset,
        }
    }

    #[test]
    fn a_manifest_comes_back_and_says_what_it_holds() {
        let manifest = example();
        assert_eq!(Manifest::from_bytes(&manifest.to_bytes()).unwrap(), manifest);
        assert_eq!(manifest.licences()[&Some("MIT OR Apache-2.0")], Count { files: 2, bytes: 27 });
        assert_eq!(manifest.packages(), 1);
        assert_eq!(manifest.excluded.counts[&Reason::Duplicate], Count { files: 2, bytes: 28 });
        let listed: Vec<&str> =
            manifest.excluded.listed.iter().map(|entry| entry.origin.path.as_str()).collect();
        assert_eq!(listed, ["src/a.rs", "src/b.rs", "src/table.rs"]);
    }

    #[test]
    fn the_encoding_of_format_1_never_changes() {
        let expected = include_str!("../fixtures/manifest-1.json");
        assert_eq!(String::from_utf8(example().to_bytes()).unwrap(), expected.trim_end());
    }

    #[test]
    fn anything_but_the_canonical_form_is_refused() {
        let good = String::from_utf8(example().to_bytes()).unwrap();
        let changed = [
            (good.replacen(":1,", ": 1,", 1), "canonical"),
            (good.replacen("\"format\":1", "\"format\":2", 1), "format 2"),
            (good.replacen("\"seed\":1", "\"seed\":1,\"sneed\":1", 1), "unknown field"),
            (good.replacen("\"seed\":1,", "", 1), "missing field"),
            (good[..good.len() - 1].to_owned(), "EOF"),
            (format!("{good}\n"), "canonical"),
            (String::new(), "EOF"),
        ];
        for (bytes, message) in changed {
            let error = Manifest::from_bytes(bytes.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message) && error.contains("hint: "), "{error}");
        }
    }

    #[test]
    fn long_lists_of_exclusions_are_cut_but_counted_whole() {
        let exclusion = example().excluded.listed.remove(0);
        let record = ExclusionRecord::new(vec![exclusion; 2_500], Count::default());
        assert_eq!((record.listed.len(), record.counts[&Reason::Duplicate].files), (1_000, 2_500));
    }
}
