//! What both agree on before a dispute: which window, from which state, by which program, on which data, and what the maker says that it came to.

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_model::Optimizer;
use zoo_protocol::{NodeId, encode};
use zoo_training::{Dataset, DatasetError, Order, ReadSpecError, Share, TrainingSpec, rewarm};

/// Most inner steps of a window.
pub const STEPS_MAX: u32 = 1 << 12;
/// Most tokens of an inner step.
const STEP_TOKENS_MAX: u64 = 1 << 28;
/// Most layers of a network.
const LAYERS_MAX: usize = 128;
/// Longest time that one move may be given, ms: a month.
const MOVE_MS_MAX: u64 = 31 * 24 * 3600 * 1000;

/// A window of training: all that decides what it comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The training specification, as [`TrainingSpec::to_bytes`] writes it.
    pub program: Vec<u8>,
    /// The tokenised training data.
    pub data: Digest,
    /// Its size, bytes.
    pub data_bytes: u64,
    /// The state before the window ([`crate::state_digest`]).
    pub start: Digest,
    /// Inner step of the job at which the window begins, from 0.
    pub first_step: u64,
    /// Updates that the optimiser had seen by then.
    pub updates: u64,
    /// The window's sequences.
    pub share: Share,
}

/// Who disagrees about what. Its digest is in every move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The window.
    pub task: Task,
    /// The state after it, as the maker has claimed before: it cannot say another now.
    pub end: Digest,
    /// Who claimed that.
    pub maker: NodeId,
    /// Who says that it is another.
    pub challenger: NodeId,
    /// When the dispute begins, ms on the clock of whoever hears the moves.
    pub begins_ms: u64,
    /// How long each of the two has for a move, ms.
    pub move_ms: u64,
}

/// Why there can be no dispute on such terms.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    /// The program cannot be read.
    #[error("the terms' program: {0}")]
    Program(#[from] ReadSpecError),
    /// The program is written in another way than its one.
    #[error("the terms' program is not in its canonical form")]
    NotCanonical,
    /// The data is too short.
    #[error("the terms' data: {0}")]
    Data(#[from] DatasetError),
    /// The network cannot be built.
    #[error("the terms' network: {0}")]
    Network(#[from] zoo_model::ConfigError),
    /// The optimiser has no operators here.
    #[error("{0} has no rules of dispute\nhint: only AdamW has; zoo audit checks every optimiser")]
    Optimizer(&'static str),
    /// A number makes no sense.
    #[error("the terms' {what} ({value}) is not possible")]
    Value {
        /// Which.
        what: &'static str,
        /// What it is.
        value: u64,
    },
}

impl Terms {
    /// The name of the dispute.
    pub fn digest(&self) -> Digest {
        Digest::of(&[&b"zoo/dispute/1 terms\0"[..], &encode(self)].concat())
    }

    /// The program, checked with everything else.
    ///
    /// # Errors
    /// The first thing that makes no sense.
    pub fn check(&self) -> Result<TrainingSpec, TermsError> {
        let checks = [
            ("time of a move", self.move_ms, (1..=MOVE_MS_MAX).contains(&self.move_ms)),
            ("beginning", self.begins_ms, self.begins_ms < 1 << 62),
        ];
        first_impossible(&checks)?;
        self.task.check()
    }
}

fn first_impossible(checks: &[(&'static str, u64, bool)]) -> Result<(), TermsError> {
    match checks.iter().find(|(.., is_possible)| !is_possible) {
        Some(&(what, value, _)) => Err(TermsError::Value { what, value }),
        None => Ok(()),
    }
}

impl Task {
    /// The program, checked with everything else.
    ///
    /// # Errors
    /// The first thing that makes no sense.
    pub fn check(&self) -> Result<TrainingSpec, TermsError> {
        let spec = TrainingSpec::from_bytes(&self.program)?;
        if spec.to_bytes() != self.program {
            return Err(TermsError::NotCanonical);
        }
        if matches!(spec.optimizer, Optimizer::Muon(_)) {
            return Err(TermsError::Optimizer("Muon"));
        }
        let Share { first_sequence, sequences_per_step, inner_steps } = self.share;
        let tokens = u64::from(sequences_per_step) * spec.model.context as u64;
        let sequences = u64::from(sequences_per_step) * u64::from(inner_steps);
        let layers = spec.model.layers;
        let checks = [
            ("number of layers", layers as u64, layers <= LAYERS_MAX),
            ("number of steps", u64::from(inner_steps), (1..=STEPS_MAX).contains(&inner_steps)),
            ("tokens of a step", tokens, (1..=STEP_TOKENS_MAX).contains(&tokens)),
            ("first sequence", first_sequence, first_sequence.checked_add(sequences).is_some()),
            ("first step", self.first_step, self.first_step < 1 << 53),
            ("number of updates", self.updates, self.updates < 1 << 53),
        ];
        first_impossible(&checks)?;
        self.order(&spec)?;
        Ok(spec)
    }

    /// Where the sequences of the data begin.
    pub(crate) fn order(&self, spec: &TrainingSpec) -> Result<Order, DatasetError> {
        let tokens = Dataset::tokens_in(spec.model.vocab_size as u32, self.data_bytes);
        Order::new(tokens, spec.seed, spec.model.context)
    }

    /// The first sequence of an inner step of the window, from 0.
    pub fn first_sequence(&self, step: u32) -> u64 {
        self.share.first_sequence + u64::from(step) * u64::from(self.share.sequences_per_step)
    }

    /// The learning rate of an inner step of the window, from 0.
    pub fn learning_rate(&self, spec: &TrainingSpec, step: u32) -> f64 {
        let rate = spec.schedule.learning_rate(self.first_step + u64::from(step));
        rate * rewarm(step.into(), spec.rewarm_steps)
    }
}
