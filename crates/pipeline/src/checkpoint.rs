//! A stage after a step, as bytes: all that it needs to go on with what its neighbours kept.
//!
//! No gradient is open after a step, so it is parameters, moments, what is in flight with the weights that it went forward
//! with, what was sent and not saved by its receiver yet (both may die at once), and what gradients left unsaid.

use std::borrow::Cow;
use std::collections::BTreeMap;

use postcard::ser_flavors::Flavor;
use serde::ser::{SerializeSeq, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zoo_content::Digest;
use zoo_model::{Stage, StageWeights, VNode};

use crate::agent::{Held, PipelineError, Settings, StageAgent};
use crate::message::{Direction, Rows};
use crate::rows::Feedback;
use crate::schedule::{Position, Schedule};

/// A stage after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it had done.
    pub position: Position,
    /// All of it.
    pub bytes: Vec<u8>,
}

const FORMAT: u16 = 1;

/// Of a checkpoint. It is written from what is there, and read without a copy: a node has hardly room for its stage and the bytes.
#[derive(Serialize, Deserialize)]
struct Contents<'a> {
    format: u16,
    epoch: u64,
    schedule: Schedule,
    stage: u32,
    position: Position,
    #[serde(borrow)]
    vnodes: States<'a>,
    held: Cow<'a, BTreeMap<u64, Held>>,
    versions: Cow<'a, BTreeMap<u64, StageWeights>>,
    kept: Vec<Cow<'a, Rows>>,
    feedback: Cow<'a, Feedback>,
}

/// Of every VNode parameters and optimiser state.
enum States<'a> {
    Live(&'a [VNode]),
    Bytes(Vec<(&'a [u8], &'a [u8])>),
}

impl Serialize for States<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(states) => states.serialize(serializer),
            Self::Live(vnodes) => {
                let mut states = serializer.serialize_seq(Some(vnodes.len()))?;
                vnodes.iter().try_for_each(|vnode| states.serialize_element(&State(vnode)))?;
                states.end()
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for States<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::Bytes)
    }
}

/// Of one VNode, whose bytes are put together one half after the other.
struct State<'a>(&'a VNode);

impl Serialize for State<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pair = serializer.serialize_tuple(2)?;
        pair.serialize_element(&self.0.state_bytes())?;
        pair.serialize_element(&self.0.optimizer_bytes())?;
        pair.end()
    }
}

/// Compares an encoding with what it should be, without keeping it.
struct Compared<'a> {
    expected: &'a [u8],
}

impl Flavor for Compared<'_> {
    type Output = bool;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.expected = self.expected.strip_prefix(bytes).ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.expected.is_empty())
    }
}

impl Checkpoint {
    pub(crate) fn of(agent: &StageAgent) -> Self {
        let contents = Contents {
            format: FORMAT,
            epoch: agent.settings.epoch,
            schedule: agent.settings.schedule,
            stage: agent.stage,
            position: agent.position,
            vnodes: States::Live(agent.model.vnodes()),
            held: Cow::Borrowed(&agent.held),
            versions: Cow::Borrowed(&agent.versions),
            kept: agent.kept.values().map(Cow::Borrowed).collect(),
            feedback: Cow::Borrowed(&agent.feedback),
        };
        // What it will have, about, so that it need not be moved while it grows.
        let parameters: usize = agent.model.vnodes().iter().map(VNode::parameter_count).sum();
        let rows: usize = agent.held.values().map(|held| held.bytes.len()).sum::<usize>()
            + agent.kept.values().map(|rows| rows.bytes.len()).sum::<usize>();
        let elements = (3 + agent.versions.len()) * parameters + agent.feedback.0.len();
        let bytes = Vec::with_capacity(4 * elements + rows + rows / 8 + (1 << 16));
        let bytes = postcard::to_extend(&contents, bytes).expect("plain data");
        Self { position: agent.position, bytes }
    }
}

impl StageAgent {
    /// The stage as it was when it wrote `bytes`; `model` is the same part of the same network, initialised with the same seed.
    /// Its [`StageAgent::status`] then tells its neighbours what it lacks.
    pub fn restore(
        settings: Settings,
        stage: u32,
        model: Stage,
        bytes: &[u8],
    ) -> Result<Self, PipelineError> {
        let mut agent = Self::new(settings, stage, model)?;
        agent.load(bytes).map_err(|cause| PipelineError::Checkpoint { stage, cause })?;
        Ok(agent)
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), String> {
        let contents: Contents = postcard::from_bytes(bytes)
            .map_err(|error| format!("the bytes are not a checkpoint ({error})"))?;
        let again = postcard::serialize_with_flavor(&contents, Compared { expected: bytes });
        if !matches!(again, Ok(true)) {
            return Err("the bytes are not the only encoding of what they say".to_owned());
        }
        let run = (contents.format, contents.epoch, contents.schedule, contents.stage);
        if run != (FORMAT, self.settings.epoch, self.settings.schedule, self.stage) {
            return Err("it is of another format, run, schedule or stage".to_owned());
        }
        self.check_position(contents.position)?;
        (self.position, self.saved) = (contents.position, contents.position);
        self.check_held(&contents)?;
        self.check_kept(&contents)?;

        let vnodes = self.model.vnodes_mut();
        let States::Bytes(states) = contents.vnodes else { unreachable!("they were read") };
        if states.len() != vnodes.len() {
            return Err(format!("it has {} VNodes, the stage {}", states.len(), vnodes.len()));
        }
        for (vnode, (state, optimizer)) in vnodes.iter_mut().zip(states) {
            vnode.load_state(state).map_err(|error| error.cause)?;
            vnode.load_optimizer(optimizer).map_err(|error| error.cause)?;
        }
        self.held = contents.held.into_owned();
        self.versions = contents.versions.into_owned();
        self.feedback = contents.feedback.into_owned();
        let kept = contents.kept.into_iter().map(Cow::into_owned);
        self.kept = kept.map(|rows| ((rows.direction, rows.micro_batch), rows)).collect();
        Ok(())
    }

    fn check_position(&self, position: Position) -> Result<(), String> {
        let Position { forwards, backwards } = position;
        let schedule = &self.settings.schedule;
        let in_flight =
            forwards.checked_sub(backwards).filter(|count| *count <= schedule.ahead(self.stage) + 1);
        let is_step_end = backwards.is_multiple_of(schedule.micro_batches.into());
        if in_flight.is_some() && is_step_end && forwards <= schedule.total() {
            return Ok(());
        }
        Err(format!("a stage is never at {forwards} forward and {backwards} backward passes after a step"))
    }

    fn check_held(&self, contents: &Contents) -> Result<(), String> {
        let Position { forwards, backwards } = contents.position;
        let (present, length) = (self.version(), self.bytes_of(Direction::Forward));
        let is_known = |version: &u64| *version == present || contents.versions.contains_key(version);
        let fits = |held: &Held| held.bytes.len() == length && is_known(&held.version);
        let looks_ahead = self.settings.schedule.looks_ahead(self.stage).is_some();
        let is_held = |version: &u64| {
            (looks_ahead && *version == present)
                || contents.held.values().any(|held| held.version == *version)
        };
        if !contents.held.keys().copied().eq(backwards..forwards) || !contents.held.values().all(fits) {
            return Err("what is in flight is not what the position says".to_owned());
        }
        let versions = contents.versions.iter();
        if !versions.into_iter().all(|(version, weights)| {
            (*version < present || looks_ahead) && is_held(version) && self.model.fits(weights)
        }) {
            return Err("its older weights are not those of what is in flight".to_owned());
        }
        let elements = self.tokens() * self.model.arriving_width().unwrap_or(0);
        let feedback = &contents.feedback.0;
        if !(feedback.is_empty() || feedback.len() == elements) {
            return Err(format!("it has {} elements of feedback, the stage {elements}", feedback.len()));
        }
        Ok(())
    }

    fn check_kept(&self, contents: &Contents) -> Result<(), String> {
        let keys = contents.kept.iter().map(|rows| (rows.direction, rows.micro_batch));
        let fits = |rows: &Cow<Rows>| {
            let done = match rows.direction {
                Direction::Forward => contents.position.forwards,
                Direction::Backward => contents.position.backwards,
            };
            rows.epoch == self.settings.epoch
                && rows.sender == self.stage
                && rows.micro_batch < done
                && rows.bytes.len() == self.bytes_sent(rows.direction)
                && !rows.bytes.is_empty()
                && Digest::of(&rows.bytes) == rows.digest
        };
        if keys.is_sorted_by(|one, next| one < next) && contents.kept.iter().all(fits) {
            Ok(())
        } else {
            Err("what it kept is not what it sent".to_owned())
        }
    }
}
