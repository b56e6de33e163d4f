//! The training specification: everything that decides the bits of a job but the data.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zoo_content::Digest;
use zoo_model::{AdamWSettings, ConfigError, ModelConfig, Optimizer, Profile};

use zoo_update::{Codec, Dense, Sparse};

use crate::schedule::Schedule;

/// Largest encoded specification, bytes.
pub const SPEC_BYTES_MAX: usize = 1 << 20;
/// Sums over tokens are cut at multiples of this many (kernels' `SPEC.md`, the chunk rule).
pub const CHUNK_TOKENS: usize = 256;
/// The largest batch, tokens per inner step.
pub const BATCH_TOKENS_MAX: u64 = 1 << 28;

/// What to train and how. Its canonical JSON is the job's `program`.
///
/// Missing fields take the values of [`TrainingSpec::new`]; unknown ones are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSpec {
    /// Shape of the network.
    pub model: ModelConfig,
    /// The tokenizer that made the data, if it is kept as a blob.
    #[serde(default)]
    pub tokenizer: Option<Digest>,
    /// Seed of the first parameters and of the order of the data.
    #[serde(default)]
    pub seed: u64,
    /// Numeric profile: which bits an operator gives.
    #[serde(default)]
    pub profile: Profile,
    /// Sequences per inner step on one machine; in rounds the share says how many.
    #[serde(default = "defaults::batch_sequences")]
    pub batch_sequences: u32,
    /// Sequences that pass through the network at once; none means the whole batch. A micro-batch
    /// is whole chunks of 256 tokens, and then changes memory, never bits: each machine chooses its own
    /// ([`TrainingSpec::fitted`]), and it is no part of the encoding.
    #[serde(default)]
    pub micro_batch_sequences: Option<u32>,
    /// Compute activations again in the backward pass instead of keeping them: less memory, more
    /// time, equal bits. Each machine chooses, as with the micro-batch.
    #[serde(default)]
    pub recompute: bool,
    /// The norm that the gradient of a step is scaled down to; none leaves it.
    #[serde(default = "defaults::clip")]
    pub clip: Option<f64>,
    /// The optimiser of the inner steps.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// The learning rate of the inner steps.
    #[serde(default = "defaults::schedule")]
    pub schedule: Schedule,
    /// Inner steps over which the learning rate rises again after a synchronisation; 0 for none.
    #[serde(default)]
    pub rewarm_steps: u64,
    /// How a replica of a network says what a round came to.
    #[serde(default)]
    pub update: UpdateFormat,
    /// The step that a round takes with the mean pseudo-gradient.
    #[serde(default)]
    pub outer: Outer,
}

/// How a replica says what a round came to: where it started minus where it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum UpdateFormat {
    /// Every element in 32 bits.
    #[default]
    Dense,
    /// The largest elements of every chunk on four levels; the rest is fed back into later rounds.
    Sparse(SparseSettings),
}

/// Settings of sparse updates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SparseSettings {
    /// Of 4096 elements, how many an update speaks of.
    pub keep: u16,
    /// What is left of the unsaid when the next round is added to it.
    pub decay: f32,
}

/// The outer step of a round: `parameters <- parameters - learning_rate * mean pseudo-gradient`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outer {
    /// Outer learning rate; 1 with momentum 0 is plain averaging of the replicas.
    pub learning_rate: f32,
    /// Nesterov momentum; 0 keeps no state.
    pub momentum: f32,
}

impl TrainingSpec {
    /// The default way to train `model`: AdamW (0.9, 0.95), weight decay 0.1 on matrices, clip 1,
    /// a constant learning rate of 1e-3 after 100 steps of warm-up, averaging as the outer step.
    pub fn new(model: ModelConfig) -> Self {
        Self {
            model,
            tokenizer: None,
            seed: 0,
            profile: Profile::default(),
            batch_sequences: defaults::batch_sequences(),
            micro_batch_sequences: None,
            recompute: false,
            clip: defaults::clip(),
            optimizer: Optimizer::default(),
            schedule: defaults::schedule(),
            rewarm_steps: 0,
            update: UpdateFormat::default(),
            outer: Outer::default(),
        }
    }

    /// The canonical JSON: fields in order, no space, shortest floats. What changes no bit of the result is left at its
    /// default, so that a program has one name, however much memory its machines have.
    pub fn to_bytes(&self) -> Vec<u8> {
        let program = Self { micro_batch_sequences: None, recompute: false, ..self.clone() };
        serde_json::to_vec(&program).expect("a specification is plain data with text keys")
    }

    /// The digest of [`TrainingSpec::to_bytes`]: the job's `program`.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Reads and validates a specification.
    ///
    /// # Errors
    /// Not JSON, an unknown field, a wrong type, or a value that [`TrainingSpec::validate`] refuses.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReadSpecError> {
        if bytes.len() > SPEC_BYTES_MAX {
            return Err(ReadSpecError::TooLarge { bytes: bytes.len() });
        }
        let spec: Self = serde_json::from_slice(bytes)?;
        spec.validate()?;
        Ok(spec)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// Names the first field that makes no sense, and what to write instead.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.model.validate()?;
        self.check_batch()?;
        if let Some(clip) = self.clip
            && !(clip.is_finite() && clip > 0.0)
        {
            return Err(SpecError::new("clip", clip, "write a norm above 0, such as 1.0, or leave it out"));
        }
        self.schedule.validate()?;
        check_optimizer(&self.optimizer)?;
        if self.rewarm_steps >= 1 << 53 {
            return Err(SpecError::new("rewarm_steps", self.rewarm_steps, "write fewer than 2^53 steps"));
        }
        self.update.validate()?;
        self.outer.validate()
    }

    /// Tokens of one inner step on one machine.
    pub fn batch_tokens(&self) -> u64 {
        u64::from(self.batch_sequences) * self.model.context as u64
    }

    /// Sequences that pass through the network at once when a step has `step_sequences`.
    pub fn micro_batch(&self, step_sequences: u32) -> u32 {
        self.micro_batch_sequences.unwrap_or(step_sequences).min(step_sequences)
    }

    fn check_batch(&self) -> Result<(), SpecError> {
        if self.batch_sequences == 0 {
            return Err(SpecError::new("batch_sequences", 0, "write at least 1"));
        }
        if self.batch_tokens() > BATCH_TOKENS_MAX {
            return Err(SpecError::new(
                "batch_sequences",
                self.batch_sequences,
                format!("a step has at most {BATCH_TOKENS_MAX} tokens, sequences times context"),
            ));
        }
        let Some(micro) = self.micro_batch_sequences else { return Ok(()) };
        let whole = whole_chunk_sequences(self.model.context);
        if micro == 0 || !u64::from(micro).is_multiple_of(whole) {
            return Err(SpecError::new(
                "micro_batch_sequences",
                micro,
                format!(
                    "micro-batches are whole chunks of {CHUNK_TOKENS} tokens: write a multiple of {whole}, or leave it out"
                ),
            ));
        }
        Ok(())
    }
}

/// The fewest sequences of `context` tokens that are whole chunks.
pub fn whole_chunk_sequences(context: usize) -> u64 {
    let chunk = CHUNK_TOKENS as u64;
    let shared = 1 << (context as u64).trailing_zeros().min(chunk.trailing_zeros());
    chunk / shared
}

fn check_optimizer(optimizer: &Optimizer) -> Result<(), SpecError> {
    match optimizer {
        Optimizer::AdamW(adamw) => check_adamw("optimizer", adamw),
        Optimizer::Muon(muon) => {
            check_decay_rate("optimizer.momentum", muon.momentum)?;
            check_adamw("optimizer.adamw", &muon.adamw)
        }
    }
}

fn check_adamw(path: &str, adamw: &AdamWSettings) -> Result<(), SpecError> {
    let AdamWSettings { beta1, beta2, epsilon, weight_decay, .. } = *adamw;
    check_decay_rate(format!("{path}.beta1"), beta1)?;
    check_decay_rate(format!("{path}.beta2"), beta2)?;
    if !(epsilon.is_finite() && epsilon > 0.0) {
        let hint = "write a number above 0, such as 1e-8";
        return Err(SpecError::new(format!("{path}.epsilon"), epsilon, hint));
    }
    if !(weight_decay.is_finite() && weight_decay >= 0.0) {
        return Err(SpecError::new(
            format!("{path}.weight_decay"),
            weight_decay,
            "write 0 or more, such as 0.1",
        ));
    }
    Ok(())
}

impl UpdateFormat {
    /// What encodes and decodes the updates.
    pub fn codec(self) -> Box<dyn Codec> {
        match self {
            Self::Dense => Box::new(Dense),
            Self::Sparse(SparseSettings { keep, decay }) => Box::new(Sparse { keep, decay }),
        }
    }

    fn validate(self) -> Result<(), SpecError> {
        let Self::Sparse(SparseSettings { keep, decay }) = self else { return Ok(()) };
        if !(1..=4096).contains(&keep) {
            return Err(SpecError::new("update.keep", keep, "write 1 to 4096 of 4096 elements, such as 64"));
        }
        if !(0.0..=1.0).contains(&decay) {
            return Err(SpecError::new("update.decay", decay, "write a number from 0 to 1, such as 0.95"));
        }
        Ok(())
    }
}

impl Default for SparseSettings {
    fn default() -> Self {
        let Sparse { keep, decay } = Sparse::default();
        Self { keep, decay }
    }
}

impl Outer {
    fn validate(&self) -> Result<(), SpecError> {
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(SpecError::new(
                "outer.learning_rate",
                self.learning_rate,
                "write a number above 0, such as 1",
            ));
        }
        check_decay_rate("outer.momentum", f64::from(self.momentum))
    }
}

fn check_decay_rate(field: impl Into<String>, rate: f64) -> Result<(), SpecError> {
    if (0.0..1.0).contains(&rate) {
        return Ok(());
    }
    Err(SpecError::new(field, rate, "write a number from 0 to below 1"))
}

impl Default for Outer {
    fn default() -> Self {
        Self { learning_rate: 1.0, momentum: 0.0 }
    }
}

mod defaults {
    use super::Schedule;

    pub fn batch_sequences() -> u32 {
        16
    }

    // The signature is serde's: the field is an option.
    #[allow(clippy::unnecessary_wraps)]
    pub fn clip() -> Option<f64> {
        Some(1.0)
    }

    pub fn schedule() -> Schedule {
        Schedule::Constant { learning_rate: 1e-3, warmup_steps: 100 }
    }
}

/// A value that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("training specification: {field}: {cause}\nhint: {hint}")]
pub struct SpecError {
    /// The field, as a path.
    pub field: String,
    /// What is wrong with its value.
    pub cause: String,
    /// What to write instead.
    pub hint: String,
}

impl SpecError {
    pub(crate) fn new(field: impl Into<String>, value: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self { field: field.into(), cause: format!("{value} is not possible"), hint: hint.into() }
    }
}

impl From<ConfigError> for SpecError {
    fn from(error: ConfigError) -> Self {
        Self { field: format!("model.{}", error.field), cause: error.cause, hint: error.hint }
    }
}

/// Why bytes are not a training specification.
#[derive(Debug, Error)]
pub enum ReadSpecError {
    /// Larger than any specification.
    #[error("training specification: {bytes} bytes, more than the {SPEC_BYTES_MAX} it may have")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not JSON of the right shape.
    #[error("training specification: {0}")]
    Json(#[from] serde_json::Error),
    /// A value makes no sense.
    #[error(transparent)]
    Invalid(#[from] SpecError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> TrainingSpec {
        TrainingSpec::new(zoo_model::preset::by_name("qwen3-tiny").unwrap())
    }

    #[test]
    fn the_encoding_comes_back_and_has_one_digest() {
        let spec = TrainingSpec {
            seed: u64::MAX,
            clip: None,
            outer: Outer { learning_rate: 0.7, momentum: 0.9 },
            ..tiny()
        };
        let again = TrainingSpec::from_bytes(&spec.to_bytes()).unwrap();
        assert_eq!(again, spec);
        assert_eq!(again.digest(), spec.digest());
        assert_ne!(spec.digest(), tiny().digest());
    }

    #[test]
    fn what_changes_memory_alone_is_no_part_of_the_encoding() {
        let smaller = TrainingSpec { micro_batch_sequences: Some(8), recompute: true, ..tiny() };
        assert_eq!(smaller.digest(), tiny().digest());
        // A file may say it, for one machine.
        let text = String::from_utf8(tiny().to_bytes()).unwrap();
        let written = text.replace("\"micro_batch_sequences\":null", "\"micro_batch_sequences\":8");
        let written = written.replace("\"recompute\":false", "\"recompute\":true");
        assert_eq!(TrainingSpec::from_bytes(written.as_bytes()).unwrap(), smaller);
    }

    #[test]
    fn the_encoding_of_a_released_specification_does_not_change() {
        let text = String::from_utf8(tiny().to_bytes()).unwrap();
        assert_eq!(text, include_str!("../tests/fixtures/spec-1.json").trim_end());
    }

    #[test]
    fn left_out_fields_take_the_defaults() {
        let model = serde_json::to_string(&tiny().model).unwrap();
        let spec = TrainingSpec::from_bytes(format!("{{\"model\":{model}}}").as_bytes()).unwrap();
        assert_eq!(spec, tiny());
    }

    #[test]
    fn unknown_fields_and_wrong_types_are_refused_by_name() {
        let text = String::from_utf8(tiny().to_bytes()).unwrap();
        let cases = [
            ("\"seed\"", "\"sede\"", "unknown field `sede`"),
            ("\"warmup_steps\"", "\"warmup\"", "unknown field `warmup`"),
            ("\"f32-exact\"", "\"bf16\"", "unknown variant `bf16`"),
            ("\"constant\"", "\"linear\"", "unknown variant `linear`"),
            ("\"recompute\":false", "\"recompute\":1", "expected a boolean"),
        ];
        for (from, to, message) in cases {
            assert!(text.contains(from), "{from} in {text}");
            let error = TrainingSpec::from_bytes(text.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{from} -> {to}: {error}");
        }
        assert!(TrainingSpec::from_bytes(&vec![b' '; SPEC_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_field() {
        type Change = fn(&mut TrainingSpec);
        fn sparse(keep: u16, decay: f32) -> UpdateFormat {
            UpdateFormat::Sparse(SparseSettings { keep, decay })
        }
        let cases: [(&str, Change); 12] = [
            ("model.context", |spec| spec.model.context = 0),
            ("batch_sequences", |spec| spec.batch_sequences = 0),
            ("batch_sequences", |spec| spec.batch_sequences = u32::MAX),
            ("micro_batch_sequences", |spec| spec.micro_batch_sequences = Some(0)),
            ("micro_batch_sequences", |spec| spec.micro_batch_sequences = Some(6)),
            ("clip", |spec| spec.clip = Some(0.0)),
            ("outer.learning_rate", |spec| spec.outer.learning_rate = f32::NAN),
            ("outer.momentum", |spec| spec.outer.momentum = 1.0),
            ("update.keep", |spec| spec.update = sparse(0, 0.9)),
            ("update.keep", |spec| spec.update = sparse(4097, 0.9)),
            ("update.decay", |spec| spec.update = sparse(64, f32::NAN)),
            ("rewarm_steps", |spec| spec.rewarm_steps = u64::MAX),
        ];
        for (field, change) in cases {
            let mut spec = tiny();
            change(&mut spec);
            let error = spec.validate().unwrap_err();
            assert_eq!(error.field, field);
            assert!(error.to_string().contains("\nhint: "), "{error}");
        }
        tiny().validate().unwrap();
    }

    #[test]
    fn whole_chunks_are_counted_in_sequences() {
        for (context, sequences) in [(1, 256), (64, 4), (96, 8), (100, 64), (256, 1), (300, 64), (512, 1)] {
            assert_eq!(whole_chunk_sequences(context), sequences, "context {context}");
            assert!((sequences as usize * context).is_multiple_of(CHUNK_TOKENS));
        }
    }
}
