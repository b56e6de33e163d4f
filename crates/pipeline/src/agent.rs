//! One stage of a pipeline: messages in, messages out, and what to compute next.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_model::{LossSum, NetworkError, Optimizer, Stage, StageBatch, StageWeights, VNode};

use crate::checkpoint::Checkpoint;
use crate::message::{Direction, Message, Outgoing, Rows, Status};
use crate::record::{Leaf, Pass};
use crate::rows::{Feedback, Format, RowsError};
use crate::schedule::{Operation, Position, Schedule};

/// What all stages of a run have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The run: messages of another are refused.
    pub epoch: u64,
    /// Who does what when.
    pub schedule: Schedule,
    /// How gradients change parameters.
    pub optimizer: Optimizer,
    /// Most that the gradient of the whole network may have as its norm; a VNode has its share of it.
    pub clip: Option<f64>,
    /// How activations travel, and are stashed.
    pub activations: Format,
    /// How their gradients travel.
    pub gradients: Format,
}

/// What a pass needs beside rows: a function of the micro-batch.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Whole sequences, one after the other; the first stage reads them.
    pub inputs: &'a [u32],
    /// What follows each token; the last stage reads them.
    pub targets: &'a [u32],
    /// Of the run, for the step of the micro-batch.
    pub learning_rate: f64,
}

/// What came of a pass.
#[derive(Debug, Default)]
pub struct Done {
    /// To be sent.
    pub messages: Vec<Outgoing>,
    /// Of the micro-batch, where the cost is.
    pub loss: Option<LossSum>,
    /// What anybody else must come to in the same pass.
    pub pass: Option<Pass>,
    /// To be written, and then to be told to [`StageAgent::saved`].
    pub checkpoint: Option<Checkpoint>,
}

/// Why a message changed nothing. Whoever sent it may send it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is of another run, or of no neighbour.
    #[error(
        "stage {stage}: a message of run {epoch} from stage {sender}, which is not for it\nhint: send it to the stage after or before"
    )]
    Stranger {
        /// Who refuses.
        stage: u32,
        /// The message's run.
        epoch: u64,
        /// Its sender.
        sender: u32,
    },
    /// There is no room for it yet.
    #[error(
        "stage {stage}: micro-batch {micro_batch} is too early\nhint: send it again when this stage says that it lacks it"
    )]
    Early {
        /// Who refuses.
        stage: u32,
        /// Which micro-batch.
        micro_batch: u64,
    },
    /// Its bytes are not those of its digest, or not rows.
    #[error("stage {stage}: the rows of micro-batch {micro_batch} are damaged\nhint: fetch them again")]
    Damaged {
        /// Who refuses.
        stage: u32,
        /// Which micro-batch.
        micro_batch: u64,
    },
    /// Other rows of the same name are here.
    #[error(
        "stage {stage}: stage {sender} has sent two different micro-batches {micro_batch}\nhint: one of its machines computes wrongly; compare the leaves of both"
    )]
    Conflict {
        /// Who refuses.
        stage: u32,
        /// Who sent both.
        sender: u32,
        /// Which micro-batch.
        micro_batch: u64,
    },
}

/// Why a stage cannot go on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PipelineError {
    /// The schedule, or how it goes with the network, is impossible.
    #[error("{0}")]
    Settings(String),
    /// A batch of another size.
    #[error("pipeline: a micro-batch of {found} tokens, not {expected}\nhint: give what the schedule says")]
    Batch {
        /// Tokens that were given.
        found: usize,
        /// Tokens of the schedule.
        expected: usize,
    },
    /// A pass failed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A neighbour's rows cannot be read.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// A checkpoint is of something else, or damaged.
    #[error(
        "checkpoint of stage {stage}: {cause}\nhint: use the checkpoint that this stage of this run wrote"
    )]
    Checkpoint {
        /// Which stage.
        stage: u32,
        /// What is wrong.
        cause: String,
    },
}

/// A micro-batch that went forward and has not come back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// Updates before it went forward.
    pub version: u64,
    /// What arrived, as it travelled.
    pub bytes: Vec<u8>,
}

/// One stage.
pub struct StageAgent {
    pub(crate) settings: Settings,
    pub(crate) stage: u32,
    pub(crate) model: Stage,
    pub(crate) position: Position,
    /// As of the last checkpoint that is written.
    pub(crate) saved: Position,
    pub(crate) held: BTreeMap<u64, Held>,
    /// Weights that are not the present ones, by the version that passes with them: what something held went forward with, and what is looked ahead to.
    pub(crate) versions: BTreeMap<u64, StageWeights>,
    /// What is early, by what its next pass needs it for.
    arrived: BTreeMap<(Direction, u64), Rows>,
    /// What was sent, until its receiver has saved what came of it.
    pub(crate) kept: BTreeMap<(Direction, u64), Rows>,
    pub(crate) feedback: Feedback,
}

impl StageAgent {
    /// A stage before its first pass; `model` is the stage of that number of a network cut into the schedule's stages.
    pub fn new(settings: Settings, stage: u32, model: Stage) -> Result<Self, PipelineError> {
        settings.schedule.check().map_err(PipelineError::Settings)?;
        let stages = settings.schedule.stages;
        let place = (stage == 0, stage + 1 == stages);
        if stage >= stages || place != (model.arriving_width().is_none(), model.leaving_width().is_none()) {
            let cause = format!("pipeline: this is not stage {stage} of {stages}");
            return Err(PipelineError::Settings(format!(
                "{cause}\nhint: cut the network as the schedule says"
            )));
        }
        Ok(Self {
            settings,
            stage,
            model,
            position: Position::default(),
            saved: Position::default(),
            held: BTreeMap::new(),
            versions: BTreeMap::new(),
            arrived: BTreeMap::new(),
            kept: BTreeMap::new(),
            feedback: Feedback::default(),
        })
    }

    /// Which stage it is.
    pub fn stage(&self) -> u32 {
        self.stage
    }

    /// What it has done.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Its VNodes, with their present values.
    pub fn model(&self) -> &Stage {
        &self.model
    }

    /// Its VNodes, to change their values.
    pub fn model_mut(&mut self) -> &mut Stage {
        &mut self.model
    }

    /// Whether its last step has ended.
    pub fn is_finished(&self) -> bool {
        self.settings.schedule.next(self.stage, self.position).is_none()
    }

    /// Takes a message; what to answer. What came before, came late or comes again changes nothing.
    pub fn receive(&mut self, message: Message) -> Result<Vec<Outgoing>, Refusal> {
        match message {
            Message::Rows(rows) => self.receive_rows(rows).map(|()| Vec::new()),
            Message::Status(status) => self.receive_status(status),
        }
    }

    fn receive_rows(&mut self, rows: Rows) -> Result<(), Refusal> {
        let Rows { epoch, micro_batch, direction, sender, .. } = rows;
        let (neighbour, next, early_max) = match direction {
            Direction::Forward => {
                let before = self.stage.checked_sub(1);
                let early_max = before.map_or(0, |before| self.settings.schedule.early_max(before));
                (before, self.position.forwards, early_max)
            }
            Direction::Backward => {
                let after = Some(self.stage + 1).filter(|after| *after < self.settings.schedule.stages);
                (after, self.position.backwards, self.settings.schedule.early_max(self.stage))
            }
        };
        let stage = self.stage;
        if epoch != self.settings.epoch || neighbour != Some(sender) {
            return Err(Refusal::Stranger { stage, epoch, sender });
        }
        if micro_batch < next {
            return Ok(());
        }
        if micro_batch - next >= early_max || micro_batch >= self.settings.schedule.total() {
            return Err(Refusal::Early { stage, micro_batch });
        }
        if rows.bytes.len() != self.bytes_of(direction) || Digest::of(&rows.bytes) != rows.digest {
            return Err(Refusal::Damaged { stage, micro_batch });
        }
        match self.arrived.get(&(direction, micro_batch)) {
            Some(other) if other.digest != rows.digest => {
                Err(Refusal::Conflict { stage, sender, micro_batch })
            }
            Some(_) => Ok(()),
            None => {
                self.arrived.insert((direction, micro_batch), rows);
                Ok(())
            }
        }
    }

    /// Forgets what a neighbour has saved, and sends what it lacks.
    fn receive_status(&mut self, status: Status) -> Result<Vec<Outgoing>, Refusal> {
        let Status { epoch, sender, position, saved } = status;
        let towards = if epoch != self.settings.epoch {
            None
        } else if self.stage.checked_add(1) == Some(sender) && sender < self.settings.schedule.stages {
            Some((Direction::Forward, saved.forwards, position.forwards))
        } else if self.stage.checked_sub(1) == Some(sender) {
            Some((Direction::Backward, saved.backwards, position.backwards))
        } else {
            None
        };
        let Some((direction, saved, next)) = towards else {
            return Err(Refusal::Stranger { stage: self.stage, epoch, sender });
        };
        self.kept.retain(|(way, micro_batch), _| *way != direction || *micro_batch >= saved);
        let lacking = self.kept.range((direction, next)..=(direction, u64::MAX));
        let room = self.settings.schedule.early_max(self.stage.min(sender)) as usize;
        let again =
            lacking.take(room).map(|(_, rows)| Outgoing { to: sender, message: Message::Rows(rows.clone()) });
        Ok(again.collect())
    }

    /// What it has done and saved, for its neighbours: to be told when it waits, and when it was restored.
    pub fn status(&self) -> Vec<Outgoing> {
        let (epoch, sender) = (self.settings.epoch, self.stage);
        let status = Status { epoch, sender, position: self.position, saved: self.saved };
        let neighbours = [sender.checked_sub(1), Some(sender + 1)];
        let there = neighbours.into_iter().flatten().filter(|to| *to < self.settings.schedule.stages);
        there.map(|to| Outgoing { to, message: Message::Status(status) }).collect()
    }

    /// A checkpoint up to `position` is written: neighbours need to keep nothing for before it.
    pub fn saved(&mut self, position: Position) -> Vec<Outgoing> {
        self.saved = self.saved.max(position);
        self.status()
    }

    /// The next pass, if what it needs is here and there is room for what comes of it.
    pub fn ready(&self) -> Option<Operation> {
        let operation = self.settings.schedule.next(self.stage, self.position)?;
        let (needs, makes) = match operation {
            Operation::Forward(at) => {
                let needs = self.model.arriving_width().map(|_| (Direction::Forward, at));
                (needs, self.model.leaving_width().map(|_| Direction::Forward))
            }
            Operation::Backward(at) => {
                let needs = self.model.leaving_width().map(|_| (Direction::Backward, at));
                (needs, self.model.arriving_width().map(|_| Direction::Backward))
            }
        };
        let is_here = needs.is_none_or(|needs| self.arrived.contains_key(&needs));
        let has_room = makes.is_none_or(|way| {
            let kept = self.kept.range((way, 0)..=(way, u64::MAX)).count() as u64;
            kept < self.settings.schedule.kept_max()
        });
        (is_here && has_room).then_some(operation)
    }

    /// Does the pass that is [`StageAgent::ready`], of that micro-batch; nothing if none is. After an error the stage is to be
    /// restored from its checkpoint.
    pub fn work(&mut self, batch: Batch) -> Result<Done, PipelineError> {
        let (found, expected) = (batch.inputs.len(), self.tokens());
        if found != expected || batch.targets.len() != expected {
            return Err(PipelineError::Batch { found, expected });
        }
        match self.ready() {
            Some(Operation::Forward(micro_batch)) => self.forward(micro_batch, batch),
            Some(Operation::Backward(micro_batch)) => self.backward(micro_batch, batch),
            None => Ok(Done::default()),
        }
    }

    fn pass(&self, operation: Operation, arrived: Option<Digest>) -> Pass {
        Pass { stage: self.stage, operation, arrived, sent: None, leaves: Vec::new() }
    }

    /// The last stage does both passes at once when it goes back.
    fn forward(&mut self, micro_batch: u64, batch: Batch) -> Result<Done, PipelineError> {
        let arrived = self.arrived.remove(&(Direction::Forward, micro_batch));
        let mut pass = self.pass(Operation::Forward(micro_batch), arrived.as_ref().map(|rows| rows.digest));
        let bytes = arrived.map(|rows| rows.bytes).unwrap_or_default();
        let mut done = Done::default();
        if let Some(width) = self.model.leaving_width() {
            let arriving = self.arriving(&bytes)?;
            let place = self.place(micro_batch, batch);
            let output = self.under(self.version(), |model| model.forward(place, &arriving))?;
            let bytes = self.settings.activations.encode(&output, width);
            pass.sent = Some(Digest::of(&bytes));
            done.messages.push(self.send(Direction::Forward, micro_batch, bytes));
        }
        done.pass = Some(pass);
        self.held.insert(micro_batch, Held { version: self.version(), bytes });
        self.position.forwards += 1;
        Ok(done)
    }

    fn backward(&mut self, micro_batch: u64, batch: Batch) -> Result<Done, PipelineError> {
        let Held { version, bytes } = self.held.remove(&micro_batch).expect("it went forward");
        let arriving = self.arriving(&bytes)?;
        let place = self.place(micro_batch, batch);
        let mut done = Done::default();
        let rows = self.arrived.remove(&(Direction::Backward, micro_batch));
        let mut pass = self.pass(Operation::Backward(micro_batch), rows.as_ref().map(|rows| rows.digest));
        let gradient = match self.model.leaving_width() {
            None => {
                let tokens = self.tokens() * self.settings.schedule.micro_batches as usize;
                let cost = |model: &mut Stage| model.cost(place, &arriving, batch.targets, tokens);
                let (loss, gradient) = self.under(version, cost)?;
                done.loss = Some(loss);
                gradient
            }
            Some(width) => {
                let bytes = rows.expect("it is ready").bytes;
                let gradient = self.settings.gradients.decode(&bytes, self.tokens(), width)?;
                self.under(version, |model| model.backward(place, &arriving, &gradient))?
            }
        };
        if let Some(width) = self.model.arriving_width() {
            let bytes = self.settings.gradients.encode_with(&gradient, width, &mut self.feedback);
            pass.sent = Some(Digest::of(&bytes));
            done.messages.push(self.send(Direction::Backward, micro_batch, bytes));
        }
        self.position.backwards += 1;
        self.forget_versions();
        let (step, place) = self.settings.schedule.step_of(micro_batch);
        if place + 1 == u64::from(self.settings.schedule.micro_batches) {
            pass.leaves = self.update(step, batch.learning_rate)?;
            done.checkpoint = self.settings.schedule.is_saved(step).then(|| Checkpoint::of(self));
        }
        done.pass = Some(pass);
        Ok(done)
    }

    /// Does a pass under the weights that belong to a version: the present ones, where no others are kept for it.
    fn under<T>(&mut self, version: u64, pass: impl FnOnce(&mut Stage) -> T) -> T {
        let Some(mut weights) = self.versions.remove(&version) else { return pass(&mut self.model) };
        self.model.exchange(&mut weights);
        let outcome = pass(&mut self.model);
        self.model.exchange(&mut weights);
        self.versions.insert(version, weights);
        outcome
    }

    /// Ends a step. What is in flight keeps the weights with which it went forward.
    fn update(&mut self, step: u64, lr: f64) -> Result<Vec<Leaf>, PipelineError> {
        let present = step - 1;
        let is_held = self.held.values().any(|held| held.version == present);
        if is_held && !self.versions.contains_key(&present) {
            self.versions.insert(present, self.model.weights());
        }
        let looks_ahead = self.settings.schedule.looks_ahead(self.stage);
        let before = looks_ahead.map(|delay| (delay, self.model.weights()));
        let lr = self.settings.schedule.learning_rate(self.stage, step, lr);
        self.model.update(&self.settings.optimizer, step, lr, self.settings.clip)?;
        if let Some((delay, before)) = before {
            self.versions.insert(step, self.model.moved_on(before, delay));
        }
        let leaf = |vnode: &VNode| Leaf { vnode: vnode.id().to_owned(), digest: vnode.digest() };
        Ok(self.model.vnodes().iter().map(leaf).collect())
    }

    fn forget_versions(&mut self) {
        let (held, present) = (&self.held, self.version());
        let is_used = |version: u64| version == present || held.values().any(|held| held.version == version);
        self.versions.retain(|version, _| is_used(*version));
    }

    fn send(&mut self, direction: Direction, micro_batch: u64, bytes: Vec<u8>) -> Outgoing {
        let (epoch, sender, digest) = (self.settings.epoch, self.stage, Digest::of(&bytes));
        let rows = Rows { epoch, micro_batch, direction, sender, digest, bytes };
        self.kept.insert((direction, micro_batch), rows.clone());
        let to = match direction {
            Direction::Forward => self.stage + 1,
            Direction::Backward => self.stage - 1,
        };
        Outgoing { to, message: Message::Rows(rows) }
    }

    fn arriving(&self, bytes: &[u8]) -> Result<Vec<f32>, RowsError> {
        match self.model.arriving_width() {
            Some(width) => self.settings.activations.decode(bytes, self.tokens(), width),
            None => Ok(Vec::new()),
        }
    }

    /// Bytes of the rows that arrive going in a direction.
    pub(crate) fn bytes_of(&self, direction: Direction) -> usize {
        match direction {
            Direction::Forward => self.bytes(direction, self.model.arriving_width()),
            Direction::Backward => self.bytes(direction, self.model.leaving_width()),
        }
    }

    /// Bytes of the rows that it sends in a direction.
    pub(crate) fn bytes_sent(&self, direction: Direction) -> usize {
        match direction {
            Direction::Forward => self.bytes(direction, self.model.leaving_width()),
            Direction::Backward => self.bytes(direction, self.model.arriving_width()),
        }
    }

    fn bytes(&self, direction: Direction, width: Option<usize>) -> usize {
        let format = match direction {
            Direction::Forward => self.settings.activations,
            Direction::Backward => self.settings.gradients,
        };
        width.map_or(0, |width| format.bytes(self.tokens(), width))
    }

    /// Updates so far.
    pub(crate) fn version(&self) -> u64 {
        self.position.backwards / u64::from(self.settings.schedule.micro_batches)
    }

    pub(crate) fn tokens(&self) -> usize {
        self.settings.schedule.micro_batch_tokens as usize
    }

    fn place<'a>(&self, micro_batch: u64, batch: Batch<'a>) -> StageBatch<'a> {
        let (step, place) = self.settings.schedule.step_of(micro_batch);
        StageBatch { step, first_row: place as usize * self.tokens(), inputs: batch.inputs }
    }
}
