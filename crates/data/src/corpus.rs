//! From a source to datasets: gather, split, tokenise, write down.

use zoo_content::Digest;
use zoo_model::Tokenizer;
use zoo_training::Dataset;

use crate::DataError;
use crate::document::{Count, Document, Exclusion};
use crate::manifest::{
    DatasetRecord, DocumentRecord, ExclusionRecord, MANIFEST_FORMAT, Manifest, Part, TokenizerRecord,
};
use crate::selection::order_key;
use crate::source::{Gathered, Source, SourceRecord};
use crate::split::{HeldOut, Split, split};
use crate::tokenise;

/// What to prepare.
#[derive(Clone)]
pub struct Options {
    /// Where the text comes from.
    pub source: Source,
    /// Text to take at most, bytes.
    pub bytes_max: u64,
    /// How much is held out.
    pub held_out: HeldOut,
    /// What cuts the text into tokens.
    pub tokenizer: TokenizerChoice,
    /// Keys the order in which documents are chosen, and the split.
    pub seed: u64,
    /// Threads to work on; the result does not depend on it.
    pub threads: usize,
}

/// What cuts text into tokens.
#[derive(Clone)]
pub enum TokenizerChoice {
    /// Every byte is a token.
    Bytes,
    /// A tokenizer at hand.
    Given(Box<Tokenizer>),
    /// Byte-level BPE trained on the corpus, on its training part only.
    Train {
        /// Number of token ids; little text may give fewer.
        vocab_size: usize,
        /// Text to train it on at most, bytes.
        sample_bytes_max: usize,
    },
}

/// How far the preparation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Looking for text and reading it.
    Reading,
    /// The tokenizer is being trained on so many bytes.
    TrainingTokenizer {
        /// Text it is trained on.
        bytes: u64,
    },
    /// Text is being cut into tokens.
    Tokenising {
        /// Text done, bytes.
        done: u64,
        /// Text to do, bytes.
        total: u64,
    },
}

/// A corpus: its documents in two parts, and what was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    /// Where it was taken from.
    pub source: SourceRecord,
    /// Trained on, ordered by origin.
    pub training: Vec<Document>,
    /// Measured with, ordered by origin; no byte of it is in `training`.
    pub held_out: Vec<Document>,
    /// Considered and left out.
    pub excluded: Vec<Exclusion>,
    /// Files not read, the budget being full.
    pub unread: Count,
}

/// A corpus ready for a run.
#[derive(Clone)]
pub struct Prepared {
    /// What it is made of; its digest names the corpus.
    pub manifest: Manifest,
    /// What cuts its text into tokens.
    pub tokenizer: Tokenizer,
    /// The tokens to train on.
    pub training: Dataset,
    /// The tokens to measure with. A token that ends a document costs bits and
    /// stands for no bytes, so bits per byte are never flattered.
    pub held_out: Dataset,
}

/// Gathers a corpus and splits it.
///
/// # Errors
/// A source that is missing, unreadable, empty or not text, or an impossible option.
pub fn gather(options: &Options) -> Result<Corpus, DataError> {
    check(options)?;
    let Options { source, bytes_max, held_out, seed, threads, .. } = options;
    let (source, Gathered { mut documents, mut exclusions, unread }) =
        source.gather(*bytes_max, *seed, *threads)?;
    documents.sort_by(|one, other| one.origin.cmp(&other.origin));
    let Split { training, held_out, excluded } = split(documents, *held_out, *seed)?;
    exclusions.extend(excluded);
    Ok(Corpus { source, training, held_out, excluded: exclusions, unread })
}

/// Gathers a corpus, splits it, trains a tokenizer if one is wanted, and makes
/// the two datasets. What comes out follows from the text and the options,
/// never from the number of threads; `progress` hears how far it is.
///
/// # Errors
/// As [`gather`], and text or a vocabulary that no tokenizer can be trained with.
pub fn prepare(options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Prepared, DataError> {
    progress(Progress::Reading);
    let corpus = gather(options)?;
    let tokenizer = match &options.tokenizer {
        TokenizerChoice::Bytes => Tokenizer::bytes(),
        TokenizerChoice::Given(tokenizer) => (**tokenizer).clone(),
        TokenizerChoice::Train { vocab_size, sample_bytes_max } => {
            let sample = sample(&corpus.training, *sample_bytes_max, options.seed);
            progress(Progress::TrainingTokenizer {
                bytes: sample.iter().map(|text| text.len() as u64).sum(),
            });
            Tokenizer::train(sample, *vocab_size).map_err(|error| DataError::Tokenizer(error.to_string()))?
        }
    };
    let total = size(&corpus.training) + size(&corpus.held_out);
    let mut dataset = |documents: &[Document], before: u64| {
        let mut report = |done: u64| progress(Progress::Tokenising { done: before + done, total });
        let tokens = tokenise::encode(&tokenizer, documents, options.threads, &mut report);
        Dataset::encode(vocab_size(&tokenizer), &tokens, size(documents))
            .map_err(|error| DataError::Dataset(error.to_string()))
    };
    let training = dataset(&corpus.training, 0)?;
    let held_out = dataset(&corpus.held_out, size(&corpus.training))?;
    let manifest = describe(options, corpus, &tokenizer, &training, &held_out);
    Ok(Prepared { manifest, tokenizer, training, held_out })
}

fn check(options: &Options) -> Result<(), DataError> {
    let positive = |option, value: u64, hint| match value {
        0 => Err(DataError::Option { option, value: "0".into(), expected: "at least 1", hint }),
        _ => Ok(()),
    };
    positive("the budget of text", options.bytes_max, "12000000 is enough for a demonstration")?;
    positive("the limit on held-out text", options.held_out.bytes_max, "262144 is the default")?;
    let percent = options.held_out.percent;
    if !(1..=50).contains(&percent) {
        return Err(DataError::Option {
            option: "the held-out part",
            value: format!("{percent} percent"),
            expected: "1 to 50 percent",
            hint: "5 is the default",
        });
    }
    Ok(())
}

fn describe(
    options: &Options,
    corpus: Corpus,
    tokenizer: &Tokenizer,
    training: &Dataset,
    held_out: &Dataset,
) -> Manifest {
    let record = |documents: &[Document], dataset: &Dataset| DatasetRecord {
        documents: documents.len() as u64,
        bytes: dataset.text_bytes(),
        tokens: dataset.len(),
        digest: dataset.digest(),
    };
    let training_records =
        corpus.training.iter().map(|document| DocumentRecord::new(document, Part::Training));
    let held_out_records =
        corpus.held_out.iter().map(|document| DocumentRecord::new(document, Part::HeldOut));
    Manifest {
        format: MANIFEST_FORMAT,
        seed: options.seed,
        bytes_max: options.bytes_max,
        held_out_rule: options.held_out,
        documents: training_records.chain(held_out_records).collect(),
        tokenizer: TokenizerRecord {
            vocab_size: vocab_size(tokenizer),
            digest: Digest::of(&tokenizer.to_json()),
        },
        training: record(&corpus.training, training),
        held_out: record(&corpus.held_out, held_out),
        source: corpus.source,
        excluded: ExclusionRecord::new(corpus.excluded, corpus.unread),
    }
}

/// Up to `bytes_max` bytes of the documents, in an order that spreads over all
/// of them: what a tokenizer learns from.
fn sample(documents: &[Document], bytes_max: usize, seed: u64) -> Vec<&str> {
    let mut ordered: Vec<&Document> = documents.iter().collect();
    ordered.sort_by_cached_key(|document| order_key("tokenizer sample", seed, document.digest.as_bytes()));
    let mut room = bytes_max;
    let mut sample = Vec::new();
    for document in ordered {
        let text = &document.text[..document.text.floor_char_boundary(room)];
        room -= text.len();
        if !text.is_empty() {
            sample.push(text);
        }
    }
    sample
}

fn size(documents: &[Document]) -> u64 {
    documents.iter().map(Document::bytes).sum()
}

/// The vocabulary as datasets count it; one too large for them is refused there.
fn vocab_size(tokenizer: &Tokenizer) -> u32 {
    u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX)
}
