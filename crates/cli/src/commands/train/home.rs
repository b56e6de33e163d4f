//! The folder of a run: `run.json` says what it is, `data/` holds its tokens, `blobs/` and `latest` its
//! checkpoints, `log.jsonl` what happened, `model/` the result.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zoo_content::{Digest, FileStore, MAX_BLOB_BYTES, VerifiedBlob};
use zoo_job::{Corpus, CorpusDigests, RunConfig};
use zoo_model::{ModelConfig, Network, Tokenizer, hugging_face};
use zoo_storage::{Item, NAME_BYTES_MAX, Parcel};
use zoo_training::{Checkpoint, Dataset, Manifest, RunDirectory, TrainingSpec};

use super::files;

const RECORD: &str = "run.json";
const RECORD_BYTES_MAX: u64 = 1 << 20;
const RECORD_FORMAT: u32 = 1;
const MANIFEST: &str = "data/manifest.json";
const TOKENIZER: &str = "data/tokenizer.json";
const TRAINING: &str = "data/training.tokens";
const HELD_OUT: &str = "data/held-out.tokens";
const BLOBS: &str = "blobs";
const LATEST: &str = "latest";
const LATEST_BYTES_MAX: u64 = 128;

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

/// Everything that it takes to go on from one checkpoint of the run in `root`, on another machine too.
///
/// # Errors
/// No run, or a file of it that is missing.
pub fn parcel(root: &Path, checkpoint: Digest) -> Result<Parcel> {
    let Found::Run(record) = Home::find(root)? else {
        bail!("{}: there is no run\nhint: give the folder of a run", root.display());
    };
    let store = FileStore::open(root.join(BLOBS))?;
    let manifest = Manifest::load(&store, &checkpoint)?;
    let mut blobs: BTreeSet<Digest> = manifest.blobs().map(|blob| blob.digest).collect();
    blobs.extend([checkpoint, manifest.lineage.program]);
    let blobs = blobs.iter().map(|digest| (blob_path(digest), *digest));
    let CorpusDigests { manifest: documents, tokenizer, training, held_out } = record.data;
    let data = [(MANIFEST, documents), (TOKENIZER, tokenizer), (TRAINING, training), (HELD_OUT, held_out)];
    let data = data.map(|(path, digest)| (path.to_owned(), digest));
    let mut items = vec![
        Item::hashed(RECORD, root.join(RECORD))?,
        Item::memory(LATEST, format!("{checkpoint}\n").into_bytes()),
    ];
    for (path, digest) in blobs.chain(data) {
        items.push(Item::named(&path, root.join(&path), digest)?);
    }
    let name: String =
        record.config()?.run.chars().filter(|c| !c.is_control()).take(NAME_BYTES_MAX / 4).collect();
    Ok(Parcel::new(&name, manifest.progress.step, items)?)
}

/// The newest checkpoint of the run in `root`.
///
/// # Errors
/// None yet, or a file that does not say.
pub fn newest(root: &Path) -> Result<Digest> {
    let path = root.join(LATEST);
    if !path.exists() {
        bail!("{}: the run has no checkpoint yet\nhint: store it when it has one", root.display());
    }
    let text = String::from_utf8_lossy(&files::read(&path, LATEST_BYTES_MAX)?).into_owned();
    text.trim_end().parse().with_context(|| format!("{} does not name a checkpoint", path.display()))
}

/// Where a [`FileStore`] keeps a blob.
fn blob_path(digest: &Digest) -> String {
    format!("{BLOBS}/{}", FileStore::place(digest))
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
            // A run that starts from a model has saved its first state.
            start: None,
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

    /// Saves a checkpoint and returns its name. The blobs of `held` ones stay until the next time.
    ///
    /// # Errors
    /// When the disk refuses; the checkpoint before is then still the newest.
    pub fn save(&self, spec: &TrainingSpec, checkpoint: &Checkpoint, held: &[Digest]) -> Result<Digest> {
        let step = checkpoint.progress.step;
        let saved = self.directory.save_beside(spec, checkpoint, held);
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
