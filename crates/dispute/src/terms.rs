//! What both agree on before a dispute: which window, from which checkpoint and which state of the replica, by which program, on which data,
//! and which outcome the maker has committed to.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use zoo_content::{Digest, slice};
use zoo_model::NetworkDefinition;
use zoo_protocol::{NodeId, TrainWindow, encode};
use zoo_training::{
    CheckpointError, Dataset, DatasetError, Held, KeptLayout, Lineage, Manifest, Order, ReadSpecError, Share,
    TrainingSpec, parameter_layout, rewarm,
};

use crate::operator::{Blob, Stored};

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
    /// The manifest of the checkpoint that the round starts from.
    pub base: Vec<u8>,
    /// The tokenised training data.
    pub data: Blob,
    /// What the replica kept from its last window; none is the fresh state.
    pub kept: Option<Kept>,
    /// The round, from 0.
    pub round: u32,
    /// Inner step of the job at which the share starts.
    pub first_step: u64,
    /// What the replica trains on before, from where its last window ended.
    pub lead: Option<Share>,
    /// The window's sequences.
    pub share: Share,
    /// So many steps it takes afterwards: with any it keeps where the window ended.
    pub ahead_steps: u32,
}

/// What a replica kept, and how it lies in its blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The blob.
    pub blob: Blob,
    /// Updates that its optimiser has seen.
    pub updates: u64,
    /// Whether something was left unsaid.
    pub residuals: bool,
    /// Whether it says where its window ended.
    pub parameters: bool,
    /// The blob's beginning with its proof, so that nobody is believed how many updates there were.
    pub head: Vec<u8>,
}

/// What a task is about, read and checked.
pub(crate) struct Ground {
    pub spec: TrainingSpec,
    pub definition: NetworkDefinition,
    /// Where sequences begin.
    pub order: Order,
    /// The parameters before the round, by VNode and parameter.
    pub base: BTreeMap<(usize, usize), Stored>,
    /// What the replica kept.
    pub kept: BTreeMap<Held, Stored>,
}

/// Who disagrees about what. Its digest is in every move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The window.
    pub task: Task,
    /// The digest of its outcome ([`zoo_protocol::WindowOutcome::digest`]), as the maker has committed to it: it cannot say another now.
    pub outcome: Digest,
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
    /// The base is no checkpoint.
    #[error("the terms' base: {0}")]
    Base(#[from] CheckpointError),
    /// The parts of the terms belong to different networks, programs or data.
    #[error("the terms' {0} does not belong to the rest of them")]
    Other(&'static str),
    /// The layout of an update is not possible.
    #[error("the terms' network: {0}")]
    Update(#[from] zoo_update::UpdateError),
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
        self.ground().map(|ground| ground.spec)
    }

    /// Whether it is the window that a node was asked for, from what it says that it started from.
    pub fn is(&self, work: &TrainWindow, replica_in: Option<Digest>) -> bool {
        let share = |share: zoo_protocol::Share| {
            let zoo_protocol::Share { first_sequence, sequences_per_step, inner_steps } = share;
            Share { first_sequence, sequences_per_step, inner_steps }
        };
        let lead = work.lead.filter(|_| replica_in.is_some()).map(share);
        let blobs = [Digest::of(&self.program), Digest::of(&self.base), self.data.digest];
        let numbers = (self.round, self.first_step, self.ahead_steps);
        blobs == [work.program, work.base, work.data]
            && numbers == (work.round, work.first_step, work.ahead_steps)
            && (self.lead, self.share) == (lead, share(work.share))
            && self.kept.as_ref().map(|kept| kept.blob.digest) == replica_in
    }

    /// All that a program is derived from.
    pub(crate) fn ground(&self) -> Result<Ground, TermsError> {
        let spec = TrainingSpec::from_bytes(&self.program)?;
        if spec.to_bytes() != self.program {
            return Err(TermsError::NotCanonical);
        }
        self.check_numbers(&spec)?;
        let tokens = Dataset::tokens_in(spec.model.vocab_size as u32, self.data.bytes);
        let order = Order::new(tokens, spec.seed, spec.model.context)?;
        let definition = NetworkDefinition::decoder(&spec.model)?;
        let base = self.base_of(&spec, &definition)?;
        let kept = self.kept.as_ref().map(|kept| kept.places(&spec, &definition)).transpose()?;
        Ok(Ground { spec, definition, order, base, kept: kept.unwrap_or_default() })
    }

    fn check_numbers(&self, spec: &TrainingSpec) -> Result<(), TermsError> {
        let layers = spec.model.layers;
        let lead_steps = self.lead.map_or(0, |lead| u64::from(lead.inner_steps));
        let steps = lead_steps + u64::from(self.share.inner_steps);
        let from_where = self.kept.as_ref().is_some_and(|kept| kept.parameters);
        first_impossible(&[
            ("number of layers", layers as u64, layers <= LAYERS_MAX),
            ("number of steps", steps, (1..=u64::from(STEPS_MAX)).contains(&steps)),
            ("first step", self.first_step, (lead_steps..1 << 53).contains(&self.first_step)),
            ("lead", lead_steps, self.lead.is_none() || from_where),
        ])?;
        for share in self.lead.into_iter().chain([self.share]) {
            let Share { first_sequence, sequences_per_step, inner_steps } = share;
            let tokens = u64::from(sequences_per_step) * spec.model.context as u64;
            let sequences = u64::from(sequences_per_step) * u64::from(inner_steps);
            first_impossible(&[
                ("number of steps", u64::from(inner_steps), inner_steps > 0),
                ("tokens of a step", tokens, (1..=STEP_TOKENS_MAX).contains(&tokens)),
                ("first sequence", first_sequence, first_sequence.checked_add(sequences).is_some()),
            ])?;
        }
        Ok(())
    }

    /// Where the parameters of the base lie.
    fn base_of(
        &self,
        spec: &TrainingSpec,
        definition: &NetworkDefinition,
    ) -> Result<BTreeMap<(usize, usize), Stored>, TermsError> {
        let manifest = Manifest::from_bytes(&self.base)?;
        let Lineage { program, data, .. } = manifest.lineage;
        if program != spec.digest() || data != self.data.digest {
            return Err(TermsError::Other("base"));
        }
        let ids = definition.nodes.iter().map(|node| &node.id);
        if !ids.eq(manifest.vnodes.iter().map(|vnode| &vnode.id)) {
            return Err(TermsError::Other("base"));
        }
        let mut places = BTreeMap::new();
        for (at, (node, entry)) in definition.nodes.iter().zip(&manifest.vnodes).enumerate() {
            let blob = Blob { digest: entry.parameters.digest, bytes: entry.parameters.bytes };
            let stored = places_in(blob, parameter_layout(at, node), definition);
            for (held, stored) in stored.ok_or(TermsError::Other("base"))? {
                if let Held::Value(place) = held {
                    places.insert(place, stored);
                }
            }
        }
        Ok(places)
    }

    /// Steps of the lead, if the window has one.
    pub fn lead_steps(&self) -> u32 {
        self.lead.map_or(0, |lead| lead.inner_steps)
    }

    /// Steps of the window, with those of its lead.
    pub fn steps(&self) -> u32 {
        self.lead_steps() + self.share.inner_steps
    }

    /// The sequences of a step of the window, from 0.
    pub fn sequences(&self, step: u32) -> Range<u64> {
        let (share, step) = match self.lead {
            Some(lead) if step < lead.inner_steps => (lead, step),
            _ => (self.share, step - self.lead_steps()),
        };
        let count = u64::from(share.sequences_per_step);
        let first = share.first_sequence + u64::from(step) * count;
        first..first + count
    }

    /// The inner step of the job that a step of the window is.
    pub fn job_step(&self, step: u32) -> u64 {
        self.first_step - u64::from(self.lead_steps()) + u64::from(step)
    }

    /// The update that a step of the window makes, from 1.
    pub fn update(&self, step: u32) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.updates) + u64::from(step) + 1
    }

    /// Tokens of all steps.
    pub fn tokens(&self, context: usize) -> u64 {
        let sequences = (0..self.steps()).map(|step| self.sequences(step));
        sequences.map(|range| (range.end - range.start) * context as u64).sum()
    }

    /// The learning rate of a step of the window, from 0.
    pub fn learning_rate(&self, spec: &TrainingSpec, step: u32) -> f64 {
        let rate = spec.schedule.learning_rate(self.job_step(step));
        match step.checked_sub(self.lead_steps()) {
            Some(inner_step) => rate * rewarm(inner_step.into(), spec.rewarm_steps),
            None => rate,
        }
    }
}

impl Kept {
    fn places(
        &self,
        spec: &TrainingSpec,
        definition: &NetworkDefinition,
    ) -> Result<BTreeMap<Held, Stored>, TermsError> {
        let &Self { blob, updates, residuals, parameters, .. } = self;
        first_impossible(&[("number of updates", updates, (1..1 << 53).contains(&updates))])?;
        let optimizer = &spec.optimizer;
        let pieces = KeptLayout { network: definition, optimizer, updates, residuals, parameters }.pieces();
        let Some(Held::Frame(begins)) = pieces.first().cloned() else {
            return Err(TermsError::Other("replica"));
        };
        let head = slice::verify(&blob.digest, blob.bytes, slice::CHUNK_BYTES, 0..1, &self.head);
        if !head.is_ok_and(|head| head.starts_with(&begins)) {
            return Err(TermsError::Other("replica"));
        }
        places_in(blob, pieces, definition).ok_or(TermsError::Other("replica"))
    }
}

/// Where the pieces of a blob lie; nothing where it has another size.
fn places_in(
    blob: Blob,
    pieces: Vec<Held>,
    definition: &NetworkDefinition,
) -> Option<BTreeMap<Held, Stored>> {
    let sizes: Vec<Vec<usize>> = definition
        .nodes
        .iter()
        .map(|node| node.parameters().iter().map(|parameter| parameter.len()).collect())
        .collect();
    let (mut first, mut places) = (0, BTreeMap::new());
    for piece in pieces {
        let bytes = piece.bytes(|(at, place)| sizes[at][place]);
        if !matches!(piece, Held::Frame(_)) {
            places.insert(piece, Stored { blob, first });
        }
        first += bytes;
    }
    (first == blob.bytes).then_some(places)
}
