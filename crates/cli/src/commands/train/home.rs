//! The folder of a run: `run.json` says what it is, `data/` holds its tokens, `blobs/` and `latest` its
//! checkpoints, `log.jsonl` what happened, `model/` the result.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zoo_content::{Digest, MAX_BLOB_BYTES, VerifiedBlob};
use zoo_model::{ModelConfig, Network, Tokenizer, hugging_face};
use zoo_training::{Checkpoint, Dataset, RunDirectory, TrainingSpec};

use super::corpus::{Corpus, CorpusDigests};
use super::files;
use crate::config::RunConfig;

const RECORD: &str = "run.json";
const RECORD_BYTES_MAX: u64 = 1 << 20;
const RECORD_FORMAT: u32 = 1;
const MANIFEST: &str = "data/manifest.json";
const TOKENIZER: &str = "data/tokenizer.json";
const TRAINING: &str = "data/training.tokens";
const HELD_OUT: &str = "data/held-out.tokens";

/// What is at a path where a run's folder may be.
pub enum Found {
    /// No folder, or an empty one.
    Nothing,
    /// A run that was started.
    Run(Box<RunRecord>),
    /// Something else, or a run that was killed before it was started.
    Other,
}

/// What a run is: written before its first step, never changed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    format: u32,
    config: Value,
    data: CorpusDigests,
}

impl RunRecord {
    /// The configuration the run was started with.
    pub fn config(&self) -> Result<RunConfig> {
        RunConfig::from_value(self.config.clone())
            .with_context(|| format!("{RECORD} has no configuration that this version knows"))
    }
}

/// An open run's folder; nobody else has it open.
pub struct Home {
    root: PathBuf,
    directory: RunDirectory,
}

impl Home {
    /// Looks, and touches nothing.
    ///
    /// # Errors
    /// What is no folder, cannot be read, or has a record that this version does not know.
    pub fn find(root: &Path) -> Result<Found> {
        let mut entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(cause) if cause.kind() == ErrorKind::NotADirectory => {
                bail!("{}: not a folder\nhint: choose another --out", root.display())
            }
            Err(cause) => return Err(files::failure("list", root, cause)),
        };
        let path = root.join(RECORD);
        if !path.exists() {
            return Ok(if entries.next().is_none() { Found::Nothing } else { Found::Other });
        }
        let record: RunRecord =
            serde_json::from_slice(&files::read(&path, RECORD_BYTES_MAX)?).map_err(|cause| {
                anyhow!("{}: not the record of a run: {cause}\nhint: choose another --out", path.display())
            })?;
        if record.format != RECORD_FORMAT {
            bail!(
                "{}: format {} is not known, only {RECORD_FORMAT} is\nhint: use the version of zoo that started the run",
                path.display(),
                record.format
            );
        }
        Ok(Found::Run(Box::new(record)))
    }

    /// Opens the folder and locks it; makes it if it is not there.
    ///
    /// # Errors
    /// Another process has it open, or the system refuses.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self { root: root.to_owned(), directory: RunDirectory::open(root)? })
    }

    /// Writes down what the run is; its record last, so that it stands for all of it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn begin(&self, config: &RunConfig, corpus: &Corpus) -> Result<()> {
        files::make_folder(&self.root.join("data"))?;
        files::write(&self.root.join(MANIFEST), &corpus.manifest)?;
        files::write(&self.root.join(TOKENIZER), &corpus.tokenizer.to_json())?;
        files::write(&self.root.join(TRAINING), corpus.training.blob())?;
        files::write(&self.root.join(HELD_OUT), corpus.held_out.blob())?;
        let record = RunRecord { format: RECORD_FORMAT, config: config.to_value(), data: corpus.digests() };
        let text = format!("{:#}\n", serde_json::to_value(record).context("a record is plain data")?);
        files::write(&self.root.join(RECORD), text.as_bytes())
    }

    /// The data of the run, every byte checked.
    ///
    /// # Errors
    /// A file that is missing or not what the record names.
    pub fn corpus(&self, record: &RunRecord) -> Result<Corpus> {
        let verified = |name: &str, digest: Digest| {
            let path = self.root.join(name);
            VerifiedBlob::verify(digest, files::read(&path, MAX_BLOB_BYTES)?).map_err(|mismatch| {
                anyhow!("{}: the file was changed: {mismatch}\nhint: put a copy of it back, or start the run again", path.display())
            })
        };
        let RunRecord { data, .. } = record;
        Ok(Corpus {
            manifest: verified(MANIFEST, data.manifest)?.into_bytes(),
            tokenizer: Tokenizer::from_json(&verified(TOKENIZER, data.tokenizer)?)?,
            training: Dataset::decode(verified(TRAINING, data.training)?)?,
            held_out: Dataset::decode(verified(HELD_OUT, data.held_out)?)?,
        })
    }

    /// The newest checkpoint; none before the first.
    ///
    /// # Errors
    /// A checkpoint that is missing or damaged.
    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        let loaded = self.directory.load_latest().map_err(|cause| {
            anyhow!(
                "cannot resume {}: {cause}\nhint: put back a copy of the file, or start the run again with another --out; nothing was changed",
                self.root.display()
            )
        });
        Ok(loaded?.map(|(_, checkpoint)| checkpoint))
    }

    /// Saves a checkpoint and returns its name.
    ///
    /// # Errors
    /// When the disk refuses; the checkpoint before is then still the newest.
    pub fn save(&self, spec: &TrainingSpec, checkpoint: &Checkpoint) -> Result<Digest> {
        let step = checkpoint.progress.step;
        let saved = self.directory.save(spec, checkpoint);
        saved.with_context(|| format!("step {step} cannot be saved; the checkpoint before it is unharmed"))
    }

    /// Writes the network as a Hugging Face folder, and returns where.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn export(&self, network: &Network, model: &ModelConfig, tokenizer: &Tokenizer) -> Result<PathBuf> {
        let path = self.root.join("model");
        files::write_folder(&path, &hugging_face::export(network, model, tokenizer)?)?;
        Ok(path)
    }

    /// Where the folder is.
    pub fn root(&self) -> &Path {
        &self.root
    }
}
