//! The checkpoint of a job that comes back as a model.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use zoo_content::{BlobStore, Digest, MAX_BLOB_BYTES, MemoryStore};
use zoo_model::{Network, Tokenizer, hugging_face};
use zoo_network::Endpoint;
use zoo_protocol::{JobDescription, Peer};
use zoo_training::{Checkpoint, MANIFEST_BYTES_MAX, Manifest, SPEC_BYTES_MAX, TrainingSpec};

/// The blobs that a checkpoint's manifest lists, with their sizes.
pub fn listed(manifest: &[u8]) -> Option<Vec<(Digest, u64)>> {
    let manifest = Manifest::from_bytes(manifest).ok()?;
    Some(manifest.blobs().map(|blob| (blob.digest, blob.bytes)).collect())
}

/// The blobs that a job begins with, as far as `store` knows their names: program, data, tokenizer, first checkpoint. All else
/// follows from them and the journal.
pub fn begins_with(store: &dyn BlobStore, job: &JobDescription) -> Vec<Digest> {
    let mut names = vec![job.program, job.initial, job.training_data, job.held_out_data];
    if let Ok(manifest) = Manifest::load(store, &job.initial) {
        names.extend(manifest.blobs().map(|blob| blob.digest));
    }
    let program = store.get(&job.program).ok();
    let program = program.and_then(|program| TrainingSpec::from_bytes(program.bytes()).ok());
    names.extend(program.and_then(|program| program.tokenizer));
    names
}

/// A checkpoint and what it takes to use it, as the network has them.
pub struct Fetched {
    /// The state.
    pub checkpoint: Checkpoint,
    /// What was trained and how.
    pub spec: TrainingSpec,
    /// What cut the text into tokens.
    pub tokenizer: Tokenizer,
}

impl Fetched {
    /// Fetches everything that the checkpoint `name` needs and `local` does not hold; `progress` hears of bytes done and in all.
    ///
    /// # Errors
    /// A blob that nobody has, or that is not what it should be.
    pub async fn fetch(
        endpoint: &Endpoint,
        local: Option<&dyn BlobStore>,
        peers: &[Peer],
        name: &Digest,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Self> {
        let store = MemoryStore::new();
        let fetch =
            async |digest: &Digest, bytes_max: u64| match local.and_then(|local| local.get(digest).ok()) {
                Some(here) => anyhow::Ok(store.keep(&here)?),
                None => Ok(store.keep(&endpoint.fetch_from_any(peers, digest, bytes_max).await?)?),
            };
        fetch(name, MANIFEST_BYTES_MAX as u64).await?;
        let manifest = Manifest::load(&store, name)?;
        let total: u64 = manifest.blobs().map(|blob| blob.bytes).sum();
        let mut done = 0;
        for part in manifest.blobs() {
            fetch(&part.digest, part.bytes).await?;
            done += part.bytes;
            progress(done, total);
        }
        fetch(&manifest.lineage.program, SPEC_BYTES_MAX as u64).await?;
        let program = store.get(&manifest.lineage.program)?;
        if let Some(tokenizer) = TrainingSpec::from_bytes(program.bytes())?.tokenizer {
            fetch(&tokenizer, MAX_BLOB_BYTES).await?;
        }
        Self::read(&store, name)
    }

    /// Reads the checkpoint `name` and what it takes to use it out of a store that has all of it.
    ///
    /// # Errors
    /// A blob that is not there, or that is not what it should be.
    pub fn read(store: &dyn BlobStore, name: &Digest) -> Result<Self> {
        let checkpoint = Checkpoint::load(store, name)?;
        let spec = TrainingSpec::from_bytes(store.get(&checkpoint.lineage.program)?.bytes())?;
        let Some(tokenizer) = spec.tokenizer else {
            bail!("the job names no tokenizer\nhint: it was submitted by a program that keeps its own");
        };
        let tokenizer = Tokenizer::from_json(store.get(&tokenizer)?.bytes())?;
        Ok(Self { checkpoint, spec, tokenizer })
    }

    /// The network with the checkpoint's parameters.
    ///
    /// # Errors
    /// When the checkpoint is of another network.
    pub fn network(&self) -> Result<Network> {
        Ok(self.checkpoint.network(&self.spec)?)
    }

    /// Writes the model as a Hugging Face folder, with `more` files beside; it is there whole or not at all.
    ///
    /// # Errors
    /// A disk that refuses, a folder that is there already.
    pub fn export(&self, network: &Network, more: Vec<(String, Vec<u8>)>, folder: &Path) -> Result<()> {
        let mut files = hugging_face::export(network, &self.spec.model, &self.tokenizer)?;
        files.push(("training.json".into(), self.spec.to_bytes()));
        files.push(("checkpoint.json".into(), self.checkpoint.manifest().to_bytes()));
        files.extend(more);
        let mut unfinished = folder.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = Path::new(&unfinished);
        fs::create_dir_all(unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
        for (name, bytes) in files {
            let path = unfinished.join(name);
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        fs::rename(unfinished, folder).with_context(|| format!("cannot create {}", folder.display()))
    }
}
