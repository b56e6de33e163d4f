//! A job as a network takes it.

use std::sync::Arc;

use anyhow::Result;
use zoo_content::{BlobStore, Digest, MemoryStore};
use zoo_model::{Network, Tokenizer};
use zoo_protocol::{CheckpointPlan, JobDescription, NodeId, RoundPlan};
use zoo_training::{Dataset, Trainer, TrainingSpec};

use crate::{Corpus, Reading, RunConfig, memory};

/// What a network is told beside what is trained.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The network that the job is for, by its orchestrator's key.
    pub network: NodeId,
    /// How the rounds run.
    pub plan: RoundPlan,
    /// Which checkpoints are kept.
    pub checkpoints: CheckpointPlan,
    /// Tokens at which the budget is used up.
    pub tokens_max: Option<u64>,
}

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
    /// Reads the text that `config` names, and makes a job of both, for `network`.
    ///
    /// # Errors
    /// Those of [`Corpus::prepare`], a model that is too large for this machine, and a specification that does not fit its data.
    pub fn prepare(mut config: RunConfig, network: NodeId, reading: &mut Reading<'_>) -> Result<Self> {
        memory::check(config.training.model.parameter_count(), memory::available_bytes())?;
        let corpus = Corpus::prepare(&mut config, reading)?;
        let spec = corpus.spec(&config);
        let terms = Terms {
            network,
            plan: config.round_plan(),
            checkpoints: config.checkpoint_plan(),
            tokens_max: config.tokens_max(spec.model.parameter_count()),
        };
        let Corpus { tokenizer, training, held_out, start, .. } = &corpus;
        Self::new(config.run, spec, tokenizer, training, held_out, start.as_ref(), terms)
    }

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
        terms: Terms,
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
            network: terms.network,
            name,
            program: store.put(&spec.to_bytes())?,
            profile: spec.profile,
            initial,
            training_data: training.digest(),
            held_out_data: held_out.digest(),
            plan: terms.plan,
            checkpoints: terms.checkpoints,
            tokens_max: terms.tokens_max,
        };
        Ok(Self { description, blobs, store: Arc::new(store), spec })
    }
}
