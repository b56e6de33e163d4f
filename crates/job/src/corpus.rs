//! The tokens of a run, and what cut them.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_data::{CargoSource, Options, Progress, Source, TokenizerChoice, prepare};
use zoo_model::{Network, Tokenizer};
use zoo_training::{Dataset, ModelFolder, Sequences, Trainer, TrainingSpec, Windows};

use crate::config::{RunConfig, Vocabulary};

/// Text that a tokenizer learns from at most, bytes: more changes few of its tokens.
const TOKENIZER_SAMPLE_BYTES_MAX: usize = 4 << 20;

/// What a run trains on and measures with.
pub struct Corpus {
    /// What names every document; canonical JSON.
    pub manifest: Vec<u8>,
    /// What cuts text into tokens.
    pub tokenizer: Tokenizer,
    /// Trained on.
    pub training: Dataset,
    /// Measured with; fixed before the first step.
    pub held_out: Dataset,
    /// The model that training starts from; none: one that is drawn from the seed.
    pub start: Option<Network>,
}

/// How text is read: nothing of it reaches a result.
pub struct Reading<'a> {
    /// On so many threads.
    pub threads: usize,
    /// Hears how far it is.
    pub progress: &'a mut dyn FnMut(Progress),
}

/// The digests of a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusDigests {
    /// Of the data manifest.
    pub manifest: Digest,
    /// Of `tokenizer.json`.
    pub tokenizer: Digest,
    /// Of the tokens to train on.
    pub training: Digest,
    /// Of the tokens to measure with.
    pub held_out: Digest,
}

impl Corpus {
    /// Reads the text of `config`, splits it and cuts it into tokens; with the model that it starts from, if it names one. Shape and
    /// vocabulary of `config` are then that model's.
    ///
    /// # Errors
    /// Text that is missing, unreadable, empty, no text, or too little; a model that cannot be read.
    pub fn prepare(config: &mut RunConfig, reading: &mut Reading<'_>) -> Result<Self> {
        if let Some(path) = &config.from {
            let ModelFolder { network, tokenizer, config: model, .. } = ModelFolder::load(path)?;
            if tokenizer.vocab_size() != model.vocab_size {
                bail!(
                    "{}: the tokenizer has {} tokens and the model {}: training it further is not possible yet",
                    path.display(),
                    tokenizer.vocab_size(),
                    model.vocab_size
                );
            }
            config.vocabulary = Vocabulary::of_size(model.vocab_size);
            config.training.model = model;
            config.validate()?;
            let corpus = Self::prepare_with(config, TokenizerChoice::Given(Box::new(tokenizer)), reading)?;
            return Ok(Self { start: Some(network), ..corpus });
        }
        let tokenizer = match config.vocabulary {
            Vocabulary::Bytes => TokenizerChoice::Bytes,
            Vocabulary::Trained(vocab_size) => {
                TokenizerChoice::Train { vocab_size, sample_bytes_max: TOKENIZER_SAMPLE_BYTES_MAX }
            }
        };
        Self::prepare_with(config, tokenizer, reading)
    }

    /// As [`Corpus::prepare`], with the tokenizer of this corpus.
    ///
    /// # Errors
    /// As [`Corpus::prepare`].
    pub fn prepare_again(&self, config: &RunConfig, reading: &mut Reading<'_>) -> Result<Self> {
        Self::prepare_with(config, TokenizerChoice::Given(Box::new(self.tokenizer.clone())), reading)
    }

    fn prepare_with(
        config: &RunConfig,
        tokenizer: TokenizerChoice,
        reading: &mut Reading<'_>,
    ) -> Result<Self> {
        let source = match &config.data {
            Some(path) => Source::Path(path.clone()),
            None => Source::Cargo(CargoSource::from_environment(Path::new("."))),
        };
        let options = Options {
            source,
            bytes_max: config.bytes_max(),
            held_out: config.held_out,
            tokenizer,
            seed: config.training.seed,
            threads: reading.threads,
        };
        let prepared = prepare(&options, reading.progress)?;
        let corpus = Self {
            manifest: prepared.manifest.to_bytes(),
            tokenizer: prepared.tokenizer,
            training: prepared.training,
            held_out: prepared.held_out,
            start: None,
        };
        corpus.check(config)?;
        Ok(corpus)
    }

    /// Refuses text that is too short for the model's context.
    fn check(&self, config: &RunConfig) -> Result<()> {
        let TrainingSpec { seed, model, .. } = &config.training;
        Sequences::new(&self.training, *seed, model.context).context("the text to train on")?;
        Windows::new(&self.held_out, model.context).context("the held-out text")?;
        Ok(())
    }

    /// The digests.
    pub fn digests(&self) -> CorpusDigests {
        CorpusDigests {
            manifest: Digest::of(&self.manifest),
            tokenizer: Digest::of(&self.tokenizer.to_json()),
            training: self.training.digest(),
            held_out: self.held_out.digest(),
        }
    }

    /// The specification of a run on this corpus: the tokenizer decides the number of token ids.
    pub fn spec(&self, config: &RunConfig) -> TrainingSpec {
        let mut spec = config.training.clone();
        spec.model.vocab_size = self.tokenizer.vocab_size();
        spec.tokenizer = Some(Digest::of(&self.tokenizer.to_json()));
        spec
    }

    /// A run at its first state.
    ///
    /// # Errors
    /// A specification that does not fit the data.
    pub fn trainer(&self, spec: TrainingSpec) -> Result<Trainer> {
        Ok(match &self.start {
            Some(start) => Trainer::starting_from(spec, &self.training, start)?,
            None => Trainer::new(spec, &self.training)?,
        })
    }

    /// Refuses other text than the run was started with.
    ///
    /// # Errors
    /// Names the part that differs.
    pub fn check_same(&self, started: &Self) -> Result<()> {
        for (part, now, before) in [
            ("held-out text", self.held_out.digest(), started.held_out.digest()),
            ("training text", self.training.digest(), started.training.digest()),
        ] {
            if now != before {
                bail!(
                    "cannot resume with other data: the digest of the {part} was {}, now {}\nhint: give the data the run was \
                     started with, leave --data out to use the run's own copy, or start another run",
                    before.short(),
                    now.short()
                );
            }
        }
        Ok(())
    }
}
