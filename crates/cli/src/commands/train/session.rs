//! From one state of a run to the end, or to where somebody stops it.

use std::time::Instant;

use anyhow::Result;
use zoo_content::Digest;
use zoo_job::{Corpus, RunConfig};
use zoo_kernels::isa;
use zoo_training::{Dataset, Estimate, Part, StepReport, Trainer, TrainingSpec, evaluate};

use super::event::{Done, Evaluated, Event, Reporter, Start, StepDone};
use super::home::Home;
use super::storing::Storing;
use crate::commands::presets::family_name;
use crate::interrupt::Interrupt;

/// Logits of an evaluation's batch at most, elements: 16 MiB.
const EVALUATION_LOGITS_MAX: usize = 4 << 20;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done and the model is exported.
    Finished,
    /// Somebody asked to stop; the state is saved.
    Interrupted,
}

/// A run while this process works on it.
pub struct Session<'a> {
    config: &'a RunConfig,
    corpus: &'a Corpus,
    home: &'a Home,
    trainer: Trainer,
    reporter: Reporter,
    interrupt: Interrupt,
    /// When the command was started.
    started: Instant,
    first_step: u64,
    /// Spent in steps alone.
    training_seconds: f64,
    /// The newest checkpoint on the disk: steps behind it, and its name.
    saved: Option<(u64, Digest)>,
    /// Stores what is saved, if anybody asked for it.
    storing: Option<Storing>,
}

impl<'a> Session<'a> {
    /// The run at its newest checkpoint, or at its first state.
    ///
    /// # Errors
    /// Configuration and data that do not fit together; a damaged checkpoint.
    pub fn start(
        config: &'a RunConfig,
        corpus: &'a Corpus,
        home: &'a Home,
        started: Instant,
        json: bool,
    ) -> Result<Self> {
        let (spec, checkpoint) = (corpus.spec(config), home.latest()?);
        let trainer = match &checkpoint {
            Some(checkpoint) => Trainer::resume(spec, &corpus.training, checkpoint)?,
            None => corpus.trainer(spec)?,
        };
        let first_step = trainer.progress().step;
        let saved = checkpoint.map(|checkpoint| (first_step, Digest::of(&checkpoint.manifest().to_bytes())));
        let mut session = Self {
            config,
            corpus,
            home,
            trainer,
            reporter: Reporter::open(home.root(), config.steps, json)?,
            interrupt: Interrupt::install()?,
            started,
            first_step,
            training_seconds: 0.0,
            saved,
            storing: match &config.checkpoint_storage {
                Some(address) => Some(Storing::start(address, home.root())?),
                None => None,
            },
        };
        session.reporter.report(&Event::Start(Box::new(session.describe())))?;
        if corpus.start.is_some() {
            // From here on the run needs the model it started from no longer.
            session.save()?;
        }
        Ok(session)
    }

    /// Trains to the last step, saving and measuring on the way; then exports.
    ///
    /// # Errors
    /// NaN or infinity, or a disk that refuses. The newest checkpoint is unharmed.
    pub fn run(mut self) -> Result<Ending> {
        let RunConfig { steps, evaluate_every, checkpoint_every, .. } = *self.config;
        if self.first_step == 0 && evaluate_every > 0 {
            self.measure(self.config.evaluate_tokens_max)?;
        }
        while self.trainer.progress().step < steps {
            let done = self.step()?;
            self.report_storing()?;
            if self.interrupt.is_set() {
                return self.stop();
            }
            if done < steps && is_due(done, evaluate_every) {
                self.measure(self.config.evaluate_tokens_max)?;
            }
            if done < steps && is_due(done, checkpoint_every) {
                self.save()?;
            }
        }
        self.finish()
    }

    /// One step; returns how many are done.
    fn step(&mut self) -> Result<u64> {
        let before = Instant::now();
        let StepReport { loss, gradient_norm, learning_rate, .. } = self.trainer.step()?;
        self.training_seconds += before.elapsed().as_secs_f64();
        let (step, loss, tokens_per_s) = (self.trainer.progress().step, loss.mean(), self.tokens_per_s());
        self.reporter.step(step, loss, tokens_per_s, self.trainer.spec().batch_tokens());
        if step.is_multiple_of(self.config.log_every) || step == self.config.steps {
            let (tokens, seconds) = (self.tokens(), self.started.elapsed().as_secs_f64());
            let done = StepDone { step, loss, learning_rate, gradient_norm, tokens, seconds, tokens_per_s };
            self.reporter.report(&Event::Step(done))?;
        }
        Ok(step)
    }

    /// Scores the first `tokens_max` held-out tokens, about; 0: all.
    fn measure(&mut self, tokens_max: u64) -> Result<Evaluated> {
        let before = Instant::now();
        let held_out = &self.corpus.held_out;
        let part = part(self.trainer.spec(), held_out, tokens_max);
        let evaluation = evaluate(self.trainer.network(), held_out, part)?;
        let evaluated = Evaluated {
            step: self.trainer.progress().step,
            val_loss: evaluation.loss(),
            bits_per_byte: evaluation.bits_per_byte(),
            tokens: evaluation.tokens,
            of_tokens: held_out.len() - 1,
            seconds: before.elapsed().as_secs_f64(),
        };
        self.reporter.report(&Event::Evaluation(evaluated))?;
        Ok(evaluated)
    }

    /// Saves the state, unless it is saved already, and has it stored; returns its name.
    fn save(&mut self) -> Result<Digest> {
        let name = self.save_here()?;
        if let Some(storing) = &self.storing {
            storing.store(name);
        }
        Ok(name)
    }

    fn save_here(&mut self) -> Result<Digest> {
        let step = self.trainer.progress().step;
        if let Some((saved, name)) = self.saved
            && saved == step
        {
            return Ok(name);
        }
        let before = Instant::now();
        let held = self.storing.as_ref().map(Storing::held).unwrap_or_default();
        let name = self.home.save(self.trainer.spec(), &self.trainer.checkpoint(), &held)?;
        self.saved = Some((step, name));
        let seconds = before.elapsed().as_secs_f64();
        self.reporter.report(&Event::Checkpoint { step, checkpoint: name, seconds })?;
        Ok(name)
    }

    /// Says what has become of the checkpoints that are stored.
    fn report_storing(&mut self) -> Result<()> {
        let events = self.storing.as_ref().map(Storing::events).unwrap_or_default();
        events.iter().try_for_each(|event| self.reporter.report(event))
    }

    /// Waits until the last checkpoint is stored, or cannot be; Ctrl-C ends the waiting.
    fn finish_storing(&mut self) -> Result<()> {
        let asked_before = self.interrupt.is_set();
        if let Some(storing) = &self.storing {
            self.reporter.waiting_for_storage(storing.address());
            storing.wait(|| !asked_before && self.interrupt.is_set());
        }
        self.report_storing()
    }

    fn stop(mut self) -> Result<Ending> {
        self.save()?;
        self.finish_storing()?;
        let resume = format!("zoo train --resume --out {}", self.home.root().display());
        self.reporter.report(&Event::Interrupted { step: self.trainer.progress().step, resume })?;
        Ok(Ending::Interrupted)
    }

    fn finish(mut self) -> Result<Ending> {
        let checkpoint = self.save()?;
        let Evaluated { val_loss, bits_per_byte, .. } = self.measure(0)?;
        self.finish_storing()?;
        let network = self.trainer.network();
        let export_path = self.home.export(network, &self.trainer.spec().model, &self.corpus.tokenizer)?;
        let done = Done {
            steps: self.trainer.progress().step,
            tokens: self.tokens(),
            seconds: self.started.elapsed().as_secs_f64(),
            tokens_per_s: self.tokens_per_s(),
            val_loss,
            bits_per_byte,
            model_digest: network.digest(),
            checkpoint,
            export_path,
        };
        self.reporter.report(&Event::Done(done))?;
        Ok(Ending::Finished)
    }

    fn describe(&self) -> Start {
        let (spec, config, corpus) = (self.trainer.spec(), self.config, self.corpus);
        let estimate = Estimate::of(spec, config.steps, corpus.training.len());
        Start {
            run: config.run.clone(),
            version: env!("CARGO_PKG_VERSION"),
            preset: config.preset.clone(),
            family: family_name(spec.model.family),
            parameters: estimate.parameters,
            vocab_size: spec.model.vocab_size,
            context: spec.model.context,
            memory_mib: estimate.memory_mib(),
            profile: spec.profile,
            program: spec.digest(),
            data: corpus.digests(),
            training_tokens: corpus.training.len(),
            held_out_tokens: corpus.held_out.len(),
            held_out_bytes: corpus.held_out.text_bytes(),
            steps: config.steps,
            first_step: self.first_step,
            threads: rayon::current_num_threads(),
            isa: isa::active().to_string(),
            out: self.home.root().to_owned(),
        }
    }

    fn tokens(&self) -> u64 {
        self.trainer.progress().sequences * self.trainer.spec().model.context as u64
    }

    /// Of this session's steps; 0 before the first.
    fn tokens_per_s(&self) -> f64 {
        let steps = self.trainer.progress().step - self.first_step;
        let tokens = steps * self.trainer.spec().batch_tokens();
        if steps == 0 { 0.0 } else { tokens as f64 / self.training_seconds }
    }
}

fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

/// The first part of `held_out` of about `tokens_max` tokens, in batches that take no more memory than training.
fn part(spec: &TrainingSpec, held_out: &Dataset, tokens_max: u64) -> Part {
    let shards = if tokens_max == 0 { 1 } else { held_out.len().div_ceil(tokens_max) };
    let few_logits = EVALUATION_LOGITS_MAX / spec.model.vocab_size / spec.model.context;
    let as_in_training = spec.micro_batch(spec.batch_sequences);
    let batch_windows = as_in_training.max(few_logits as u32);
    // Never more shards than windows: the part would be empty.
    let windows = (held_out.len().saturating_sub(1)).div_ceil(spec.model.context as u64).max(1);
    Part { shard: 0, shards: shards.min(windows).min(u64::from(u32::MAX)) as u32, batch_windows }
}
