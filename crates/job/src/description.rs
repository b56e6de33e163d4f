//! A job as a network takes it.

use std::sync::Arc;

use anyhow::Result;
use zoo_content::{BlobStore, Digest, MemoryStore};
use zoo_model::{Network, Tokenizer};
use zoo_protocol::{CheckpointPlan, JobDescription, RoundPlan};
use zoo_training::{Dataset, Trainer, TrainingSpec};

/// Everything that is submitted, and what is needed to understand the result.
pub struct Job {
    /// What the network is told.
    pub description: JobDescription,
    /// The parts of the first checkpoint, and the tokenizer.
    pub blobs: Vec<Digest>,
    /// All blobs of the job.
    pub store: Arc<MemoryStore>,
    /// What is trained and how.
    pub spec: TrainingSpec,
}

impl Job {
    /// The job of training `spec` on this data, from the parameters of `start` or those that its seed draws.
    ///
    /// # Errors
    /// When specification, tokenizer and data do not fit together.
    pub fn new(
        name: String,
        mut spec: TrainingSpec,
        tokenizer: &Tokenizer,
        training: &Dataset,
        held_out: &Dataset,
        start: Option<&Network>,
        (plan, checkpoints): (RoundPlan, CheckpointPlan),
    ) -> Result<Self> {
        let tokenizer = tokenizer.to_json();
        spec.tokenizer = Some(Digest::of(&tokenizer));
        spec.validate()?;
        let first = match start {
            Some(start) => Trainer::starting_from(spec.clone(), training, start)?,
            None => Trainer::new(spec.clone(), training)?,
        };
        let first = first.checkpoint();
        let store = MemoryStore::new();
        let initial = first.save(&store)?;
        let mut blobs: Vec<Digest> = first.manifest().blobs().map(|blob| blob.digest).collect();
        blobs.push(store.put(&tokenizer)?);
        store.keep(training.blob())?;
        store.keep(held_out.blob())?;
        let description = JobDescription {
            name,
            program: store.put(&spec.to_bytes())?,
            profile: spec.profile,
            initial,
            training_data: training.digest(),
            held_out_data: held_out.digest(),
            plan,
            checkpoints,
        };
        Ok(Self { description, blobs, store: Arc::new(store), spec })
    }
}
