//! What a node computes: the stages that it hosts, and what they wait for. No sockets, no clock but to say how long a pass took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use zoo_content::{Digest, VerifiedBlob};
use zoo_model::{DecoderStage, Stage};
use zoo_pipeline::{Batch, Message, Outgoing, PipelineError, Position, StageAgent};

use crate::message::{Assignment, BATCHES_MAX, NodeReport, Onward, Rules, Tokens};
use crate::writer::{Writer, Written};

/// Micro-batches whose tokens are asked for before they are needed.
const TOKENS_AHEAD: u64 = 2 * BATCHES_MAX;

/// What a node's stages are told.
pub(crate) enum Input {
    /// Host this, from this checkpoint or from the start.
    Host(Box<Assignment>, Option<VerifiedBlob>),
    /// A message for one of its stages.
    Message { to: u32, message: Message },
    /// Tokens from this micro-batch on.
    Batches { from: u64, batches: Vec<Tokens> },
    /// The run has the checkpoint of a stage.
    Kept { stage: u32, position: Position },
    /// It may be that others lack something: says what every stage has.
    SayStatus,
    /// Write with this stage and so many pages.
    Write { stage: u32, model: Box<DecoderStage>, pages: u32 },
    /// What was written before is gone; these stages are here.
    Begin { generation: u64, here: Vec<u32> },
    /// A pass for a stage that writes.
    Pass(Onward),
}

/// What comes of it.
pub(crate) enum Output {
    /// Of a pass.
    Written(Written),
    /// A stage can be written with.
    Ready {
        stage: u32,
    },
    /// A generation has begun here.
    Begun {
        generation: u64,
    },
    /// For a stage that is not here.
    Outgoing(Outgoing),
    /// Tokens are lacking from here on.
    Lacks(u64),
    Loss {
        micro_batch: u64,
        nats: f64,
        tokens: u64,
    },
    Checkpoint {
        stage: u32,
        position: Position,
        bytes: Vec<u8>,
    },
    Finished {
        stage: u32,
        vnodes: Vec<(String, Digest)>,
    },
    Failed {
        stage: u32,
        reason: String,
    },
}

#[derive(Default)]
pub(crate) struct Engine {
    stages: BTreeMap<u32, StageAgent>,
    /// Those that have said that they are finished.
    finished: Vec<u32>,
    rules: Option<Rules>,
    batches: BTreeMap<u64, Tokens>,
    /// Tokens that were asked for.
    asked: Option<u64>,
    busy: Duration,
    begun: Option<Instant>,
    last: Option<Instant>,
    outputs: Vec<Output>,
    writer: Writer,
}

impl Engine {
    /// What has come of everything since the last call.
    pub(crate) fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    pub(crate) fn hear(&mut self, input: Input) {
        match input {
            Input::Host(assignment, checkpoint) => {
                let stage = assignment.stage;
                if let Err(cause) = self.host(*assignment, checkpoint) {
                    self.outputs.push(Output::Failed { stage, reason: cause });
                }
            }
            Input::Message { to, message } => self.receive(to, message),
            Input::Batches { from, batches } => {
                self.asked = None;
                self.batches.extend((from..).zip(batches));
                self.ask_for_tokens();
            }
            Input::Kept { stage, position } => {
                let said = self.stages.get_mut(&stage).map(|agent| agent.saved(position));
                self.send(said.unwrap_or_default());
            }
            Input::SayStatus => {
                self.asked = None;
                let said = self.stages.values().flat_map(StageAgent::status).collect();
                self.send(said);
                self.ask_for_tokens();
            }
            Input::Write { stage, model, pages } => {
                self.writer.host(stage, *model, pages);
                self.outputs.push(Output::Ready { stage });
            }
            Input::Begin { generation, here } => {
                self.writer.begin(generation, |stage| here.contains(&stage));
                self.outputs.push(Output::Begun { generation });
            }
            Input::Pass(onward) => self.writer.receive(onward),
        }
    }

    fn host(&mut self, assignment: Assignment, checkpoint: Option<VerifiedBlob>) -> Result<(), String> {
        let Assignment { network, rules, stage, .. } = assignment;
        let stages = rules.schedule.stages as usize;
        let model = Stage::one(&network, rules.profile, stages, stage as usize);
        let mut model = model.map_err(|cause| cause.to_string())?;
        let restored = match checkpoint {
            None => {
                model.initialise(rules.seed);
                StageAgent::new(rules.settings(), stage, model)
            }
            Some(blob) => StageAgent::restore(rules.settings(), stage, model, blob.bytes()),
        };
        let agent = restored.map_err(|cause| cause.to_string())?;
        let said = agent.status();
        self.finished.retain(|finished| *finished != stage);
        self.stages.insert(stage, agent);
        self.rules = Some(rules);
        self.send(said);
        self.ask_for_tokens();
        Ok(())
    }

    /// A refusal changes nothing: whoever sent it is told what the stage lacks, sooner or later.
    fn receive(&mut self, to: u32, message: Message) {
        let Some(agent) = self.stages.get_mut(&to) else { return };
        match agent.receive(message) {
            Ok(answers) => self.send(answers),
            Err(refusal) => tracing::debug!(%refusal, "a message was refused"),
        }
    }

    /// To stages that are here at once, to others by way of the network.
    fn send(&mut self, messages: Vec<Outgoing>) {
        for Outgoing { to, message } in messages {
            if self.stages.contains_key(&to) {
                self.receive(to, message);
            } else {
                self.outputs.push(Output::Outgoing(Outgoing { to, message }));
            }
        }
    }

    /// Does one pass of a stage that is ready; whether there was one. Which of several goes first shows in no bit.
    pub(crate) fn work(&mut self) -> bool {
        let begun = Instant::now();
        if let Some(written) = self.writer.work() {
            self.worked(begun);
            self.outputs.push(Output::Written(written));
            return true;
        }
        let ready = self.stages.iter().find_map(|(stage, agent)| {
            let micro_batch = agent.ready()?.micro_batch();
            self.has_tokens(agent, micro_batch).then_some((*stage, micro_batch))
        });
        let Some((stage, micro_batch)) = ready else { return false };
        if let Err(cause) = self.pass(stage, micro_batch) {
            self.stages.remove(&stage);
            self.outputs.push(Output::Failed { stage, reason: cause.to_string() });
        }
        true
    }

    fn pass(&mut self, stage: u32, micro_batch: u64) -> Result<(), PipelineError> {
        let (Some(rules), Some(agent)) = (&self.rules, self.stages.get_mut(&stage)) else { return Ok(()) };
        let none;
        let (inputs, targets) = match self.batches.get(&micro_batch) {
            Some(Tokens { inputs, targets }) => (&inputs[..], &targets[..]),
            // Stages in the middle read no tokens, only how many there are.
            None => {
                none = vec![0; rules.schedule.micro_batch_tokens as usize];
                (&none[..], &none[..])
            }
        };
        let begun = Instant::now();
        let learning_rate = rules.learning_rate(micro_batch);
        let done = agent.work(Batch { inputs, targets, learning_rate })?;
        let is_finished = agent.is_finished();
        let leaf = |vnode: &zoo_model::VNode| (vnode.id().to_owned(), vnode.digest());
        let vnodes: Vec<_> =
            if is_finished { agent.model().vnodes().iter().map(leaf).collect() } else { vec![] };
        self.worked(begun);
        self.send(done.messages);
        if let Some(loss) = done.loss {
            let (nats, tokens) = (loss.nats, loss.tokens);
            self.outputs.push(Output::Loss { micro_batch, nats, tokens });
        }
        if let Some(checkpoint) = done.checkpoint {
            let (position, bytes) = (checkpoint.position, checkpoint.bytes);
            self.outputs.push(Output::Checkpoint { stage, position, bytes });
        }
        if is_finished && !self.finished.contains(&stage) {
            self.finished.push(stage);
            self.outputs.push(Output::Finished { stage, vnodes });
        }
        self.ask_for_tokens();
        Ok(())
    }

    /// Notes how long a pass took that is over now.
    fn worked(&mut self, begun: Instant) {
        let ended = Instant::now();
        self.begun.get_or_insert(begun);
        self.busy += ended - begun;
        self.last = Some(ended);
    }

    /// Whether a stage reads tokens: the first and the last do.
    fn reads(agent: &StageAgent) -> bool {
        agent.model().arriving_width().is_none() || agent.model().leaving_width().is_none()
    }

    fn has_tokens(&self, agent: &StageAgent, micro_batch: u64) -> bool {
        !Self::reads(agent) || self.batches.contains_key(&micro_batch)
    }

    /// Forgets tokens that nobody here reads any more, and asks for those that will be read next.
    fn ask_for_tokens(&mut self) {
        let Some(rules) = &self.rules else { return };
        let total = rules.schedule.total();
        let readers = || self.stages.values().filter(|agent| Self::reads(agent) && !agent.is_finished());
        let Some(first) = readers().map(|agent| agent.position().backwards).min() else {
            self.batches.clear();
            return;
        };
        let ahead = readers().map(|agent| agent.position().forwards).max().unwrap_or(first) + TOKENS_AHEAD;
        self.batches.retain(|micro_batch, _| *micro_batch >= first);
        let lacking = (first..ahead.min(total)).find(|micro_batch| !self.batches.contains_key(micro_batch));
        if let (Some(from), None) = (lacking, self.asked) {
            self.asked = Some(from);
            self.outputs.push(Output::Lacks(from));
        }
    }

    /// How it is doing, but for what it has sent and what its process holds.
    pub(crate) fn report(&self) -> NodeReport {
        let micros = |duration: Duration| duration.as_micros() as u64;
        let span = self.begun.zip(self.last).map(|(begun, last)| last - begun);
        NodeReport {
            positions: self.stages.iter().map(|(stage, agent)| (*stage, agent.position())).collect(),
            busy_us: micros(self.busy),
            span_us: span.map_or(0, micros),
            passes: self.writer.passes(),
            ..NodeReport::default()
        }
    }
}
