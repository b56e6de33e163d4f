//! What a run and its nodes say to each other.

use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_kernels::attention::PAGE;
use zoo_model::{DecodePass, NetworkDefinition, Optimizer, Profile, TokenReport};
use zoo_network::NetworkError;
use zoo_pipeline::{Format, PipelineError, Position, Schedule, Settings};
use zoo_protocol::{Message as _, NodeId, Peer};

/// Version of these messages; a node says it first.
pub const VERSION: u16 = 2;
/// Longest message between a run and a node, bytes.
pub(crate) const FRAME_BYTES_MAX: usize = 32 << 20;
/// Micro-batches that are sent at once.
pub(crate) const BATCHES_MAX: u64 = 8;
/// Largest checkpoint of a stage, bytes.
pub(crate) const CHECKPOINT_BYTES_MAX: u64 = zoo_content::MAX_BLOB_BYTES;
/// Rows of a pass of stages that write.
const PASS_ROWS_MAX: usize = 1024;
/// Pages of keys and values that a node is asked for.
const PAGES_MAX: u32 = 1 << 24;
const NAME_BYTES_MAX: usize = 64;
const REASON_BYTES_MAX: usize = 4096;
const ADDRESSES_MAX: usize = 8;

/// Why a run, or a node's part in it, ended early.
#[derive(Debug, thiserror::Error)]
pub enum StagesError {
    /// The network between the machines.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The schedule, the network or a pass of it.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A blob could not be kept.
    #[error(transparent)]
    Store(#[from] zoo_content::StoreError),
    /// The run says why this node cannot take part.
    #[error("{0}")]
    Refused(String),
    /// Somebody sent what is no message of this version.
    #[error("node {} sent what is not a message of a pipeline\nhint: it may run another version of zoo", .0.short())]
    Malformed(NodeId),
    /// A node could not do its part.
    #[error("node {name} cannot host stage {stage}: {cause}")]
    Host {
        /// Its name.
        name: String,
        /// Which stage.
        stage: u32,
        /// Why.
        cause: String,
    },
    /// The run has gone without a word.
    #[error("the run is gone: its connection ended\nhint: start it again, and join with its new ticket")]
    RunGone,
    /// Everybody waited for too long.
    #[error("{0}")]
    Stuck(String),
}

/// What fixes the bits of a run, beside its network and its tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The run: messages of another are refused.
    pub epoch: u64,
    /// Who does what when.
    pub schedule: Schedule,
    /// How gradients change parameters.
    pub optimizer: Optimizer,
    /// Most that the gradient of the whole network may have as its norm.
    pub clip: Option<f64>,
    /// How activations travel.
    pub activations: Format,
    /// How their gradients travel.
    pub gradients: Format,
    /// The learning rate of every step.
    pub rate: zoo_training::Schedule,
    /// How products are rounded.
    pub profile: Profile,
    /// Of the first parameters.
    pub seed: u64,
}

impl Rules {
    /// What a stage needs of them.
    pub fn settings(&self) -> Settings {
        let Self { epoch, schedule, optimizer, clip, activations, gradients, .. } = self.clone();
        Settings { epoch, schedule, optimizer, clip, activations, gradients }
    }

    /// The learning rate of the step of a micro-batch.
    pub(crate) fn learning_rate(&self, micro_batch: u64) -> f64 {
        let (step, _) = self.schedule.step_of(micro_batch);
        self.rate.learning_rate(step)
    }
}

/// A stage that a node is to host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The network that is cut into stages.
    pub network: NetworkDefinition,
    /// How it is trained.
    pub rules: Rules,
    /// Which stage.
    pub stage: u32,
    /// What it goes on from, and its size in bytes; from the start if there is none.
    pub checkpoint: Option<(Digest, u64)>,
    /// For how long every message is held before it is sent, ms: a measurement's.
    pub latency_ms: u64,
}

impl Assignment {
    /// Most bytes that a message between two stages has: rows as wide as any that leave a VNode, and what is said of them.
    pub(crate) fn between_bytes_max(&self) -> usize {
        let width = self.network.nodes.iter().map(|node| node.kind.output_width()).max().unwrap_or(0);
        let tokens = self.rules.schedule.micro_batch_tokens as usize;
        let formats = [self.rules.activations, self.rules.gradients];
        let rows = formats.map(|format| format.bytes(tokens, width)).into_iter().max().unwrap_or(0);
        rows.saturating_add(MESSAGE_BYTES)
    }
}

/// A stage that a node is to write with: it continues sequences, and is not trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WritingAssignment {
    /// The network that is cut into stages.
    pub network: NetworkDefinition,
    /// How products are rounded.
    pub profile: Profile,
    /// How many stages there are.
    pub stages: u32,
    /// Which stage.
    pub stage: u32,
    /// Pages of keys and values.
    pub pages: u32,
    /// The state of every VNode of the network: its digest, and its size in bytes.
    pub states: Vec<(String, Digest, u64)>,
    /// For how long every message is held before it is sent, ms: a measurement's.
    pub latency_ms: u64,
}

impl WritingAssignment {
    /// Most bytes that a message between two stages has.
    pub(crate) fn between_bytes_max(&self) -> usize {
        let width = self.network.nodes.iter().map(|node| node.kind.output_width()).max().unwrap_or(0);
        let pages = self.network.context.div_ceil(PAGE);
        // A row may be a sequence of its own, with a request of its own.
        PASS_ROWS_MAX.saturating_mul(4 * width + 5 * pages + 128).saturating_add(MESSAGE_BYTES)
    }

    /// As it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }

    /// Reads and checks it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let assignment: Self = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
        let Self { network, stages, stage, pages, .. } = &assignment;
        network.check().map_err(|cause| cause.to_string())?;
        if stage >= stages {
            return Err(format!("there is no stage {stage} of {stages}"));
        }
        if *pages > PAGES_MAX {
            return Err(format!("{pages} pages of keys and values are more than a node keeps"));
        }
        Ok(assignment)
    }
}

/// What rows may have beside their bytes, and a message between stages beside its rows, bytes.
const MESSAGE_BYTES: usize = 512;

/// The tokens of a micro-batch, and what follows each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Whole sequences, one after the other.
    pub inputs: Vec<u32>,
    /// As many.
    pub targets: Vec<u32>,
}

/// How a node is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// What its stages have done.
    pub positions: Vec<(u32, Position)>,
    /// Time that it computed, µs.
    pub busy_us: u64,
    /// Time since its first pass, to its last, µs.
    pub span_us: u64,
    /// Bytes that it has sent to the nodes of other stages.
    pub sent_bytes: u64,
    /// Most memory that its process has held, KiB; 0 where the system does not say.
    pub peak_kib: u64,
    /// Passes of stages that write.
    pub passes: u64,
}

/// What a node says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToRun {
    /// It is there.
    Hello {
        /// Of its messages.
        version: u16,
        /// For people.
        name: String,
        /// Where the nodes of other stages reach it.
        addresses: Vec<SocketAddr>,
        /// Memory that it may take, bytes, if there is a limit.
        memory_bytes: Option<u64>,
    },
    /// It lacks the tokens from this micro-batch on.
    Lacks {
        /// Which.
        from: u64,
    },
    /// A micro-batch was scored.
    Loss {
        /// Which.
        micro_batch: u64,
        /// Sum of its losses in nats, as f64 bits.
        nats_bits: u64,
        /// Tokens scored.
        tokens: u64,
    },
    /// A stage has a checkpoint, which can be fetched.
    Saved {
        /// Which stage.
        stage: u32,
        /// What it had done.
        position: Position,
        /// The blob.
        checkpoint: Digest,
        /// Its size.
        bytes: u64,
    },
    /// How it is doing.
    Report(NodeReport),
    /// A stage has done all steps.
    Finished {
        /// Which stage.
        stage: u32,
        /// Its VNodes, and what they came to.
        vnodes: Vec<(String, Digest)>,
    },
    /// It cannot host a stage.
    Failed {
        /// Which stage.
        stage: u32,
        /// Why.
        reason: String,
    },
    /// It can write with a stage.
    Ready {
        /// Which.
        stage: u32,
    },
    /// It knows where the stages of a generation are.
    Begun {
        /// Which generation.
        generation: u64,
    },
    /// The last stage has done a pass.
    Wrote {
        /// Of which generation.
        generation: u64,
        /// Which, counted from 0 within its generation.
        number: u64,
        /// A report for every request, or why there are none.
        reports: Result<Vec<Option<TokenReport>>, String>,
    },
    /// A pass came without the one before it.
    Missed {
        /// Of which generation.
        generation: u64,
    },
}

/// What a run says to a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToNode {
    /// It cannot take part.
    Refused(String),
    /// What to host: an [`Assignment`] as JSON.
    Host(Vec<u8>),
    /// Where the stages are.
    Where(Vec<(u32, Peer)>),
    /// Tokens, from this micro-batch on.
    Batches {
        /// The first.
        from: u64,
        /// It and those after it.
        batches: Vec<Tokens>,
    },
    /// The checkpoint of a stage is with the run.
    Kept {
        /// Which stage.
        stage: u32,
        /// What it had done.
        position: Position,
    },
    /// All stages are finished, or the run was stopped.
    Over,
    /// What to write with: a [`WritingAssignment`] as JSON.
    Write(Vec<u8>),
    /// From here on, what was written before is gone, and the stages are there.
    Begin {
        /// Counts such beginnings.
        generation: u64,
        /// Every stage, and who writes with it.
        places: Vec<(u32, Peer)>,
    },
    /// For the first stage.
    Pass {
        /// Of which generation.
        generation: u64,
        /// Which, counted from 0 within its generation.
        number: u64,
        /// What to compute.
        pass: DecodePass,
    },
}

/// A message between stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Between {
    /// Of stages that are trained, and the stage it is for.
    Training { to: u32, message: Vec<u8> },
    /// Of stages that write.
    Writing(Onward),
}

/// A pass on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Onward {
    pub generation: u64,
    pub number: u64,
    /// The stage it is for.
    pub to: u32,
    pub pass: DecodePass,
    /// The rows that arrive there, little-endian, none at the first stage; or why a stage before could not compute them.
    pub rows: Result<Vec<u8>, String>,
}

impl ToRun {
    /// Whether everything in it is as large as it may be.
    fn is_sound(&self) -> bool {
        match self {
            Self::Hello { name, addresses, .. } => {
                name.len() <= NAME_BYTES_MAX
                    && !name.chars().any(char::is_control)
                    && addresses.len() <= ADDRESSES_MAX
            }
            Self::Saved { bytes, .. } => *bytes <= CHECKPOINT_BYTES_MAX,
            Self::Failed { reason, .. } => {
                reason.len() <= REASON_BYTES_MAX && !reason.chars().any(|it| it.is_control() && it != '\n')
            }
            Self::Wrote { reports: Err(reason), .. } => reason.len() <= REASON_BYTES_MAX,
            Self::Wrote { reports: Ok(reports), .. } => reports.len() <= PASS_ROWS_MAX,
            Self::Lacks { .. } | Self::Loss { .. } | Self::Report(_) | Self::Finished { .. } => true,
            Self::Ready { .. } | Self::Begun { .. } | Self::Missed { .. } => true,
        }
    }

    /// Why a stage cannot be hosted.
    pub(crate) fn failed(stage: u32, reason: impl ToString) -> Self {
        Self::Failed { stage, reason: plain(reason) }
    }
}

/// A reason that can be sent.
pub(crate) fn plain(reason: impl ToString) -> String {
    let mut reason = reason.to_string().replace(|it: char| it.is_control() && it != '\n', " ");
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}

impl ToNode {
    fn is_sound(&self) -> bool {
        match self {
            Self::Where(stages) | Self::Begin { places: stages, .. } => {
                stages.iter().all(|(_, peer)| peer.validate().is_ok())
            }
            Self::Batches { batches, .. } => batches.len() as u64 <= BATCHES_MAX,
            Self::Pass { pass, .. } => pass.tokens.len() <= PASS_ROWS_MAX,
            Self::Refused(_) | Self::Host(_) | Self::Kept { .. } | Self::Over | Self::Write(_) => true,
        }
    }
}

impl Assignment {
    /// As it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }

    /// Reads and checks it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let assignment: Self = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
        let Self { network, rules, stage, .. } = &assignment;
        network.check().map_err(|cause| cause.to_string())?;
        rules.schedule.check()?;
        if *stage >= rules.schedule.stages {
            return Err(format!("there is no stage {stage} of {}", rules.schedule.stages));
        }
        rules.rate.validate().map_err(|cause| cause.to_string())?;
        Ok(assignment)
    }
}

pub(crate) fn encode(message: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(message).expect("plain data")
}

fn decode<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let message: T = postcard::from_bytes(bytes).ok()?;
    (encode(&message) == bytes).then_some(message)
}

/// A node's message, if these bytes are one.
pub fn read_to_run(bytes: &[u8]) -> Option<ToRun> {
    decode(bytes).filter(ToRun::is_sound)
}

/// A run's message, if these bytes are one.
pub fn read_to_node(bytes: &[u8]) -> Option<ToNode> {
    decode(bytes).filter(ToNode::is_sound)
}

pub(crate) fn read_between(bytes: &[u8]) -> Option<Between> {
    decode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zoo_model::{PassPart, RowRequest, Sampler, Wanted};

    #[test]
    fn a_message_has_one_encoding_and_what_is_too_large_is_none() {
        let lacks = encode(&ToRun::Lacks { from: 300 });
        assert_eq!(read_to_run(&lacks), Some(ToRun::Lacks { from: 300 }));
        assert_eq!(read_to_run(&[&lacks[..], &[0]].concat()), None);
        for at in 0..lacks.len() {
            assert_eq!(read_to_run(&lacks[..at]), None);
        }
        let hello = |name: &str| {
            let (name, addresses) = (name.to_owned(), vec![]);
            encode(&ToRun::Hello { version: VERSION, name, addresses, memory_bytes: None })
        };
        assert!(read_to_run(&hello("ibex")).is_some());
        assert_eq!(read_to_run(&hello(&"x".repeat(65))), None);
        assert_eq!(read_to_run(&hello("\u{1b}[2J")), None);
        let batches = vec![Tokens { inputs: vec![1], targets: vec![2] }; BATCHES_MAX as usize + 1];
        assert_eq!(read_to_node(&encode(&ToNode::Batches { from: 0, batches })), None);
    }

    #[test]
    fn bytes_that_were_changed_anywhere_are_another_message_or_none() {
        let choice = Wanted::Choice { sampler: Sampler::default(), position: 300 };
        let pass = DecodePass {
            tokens: vec![1, 300],
            parts: vec![PassPart { rows: 2, first: 16, pages: vec![300, 0] }],
            requests: vec![
                RowRequest { row: 0, token: Wanted::Given(300), likelihoods: Some(2) },
                RowRequest { row: 1, token: choice, likelihoods: None },
            ],
        };
        let report = TokenReport { token: 300, log_probability: Some(-0.5), top: vec![(1, -0.25)] };
        let messages = [
            ToRun::Saved {
                stage: 1,
                position: Position::default(),
                checkpoint: Digest::of(b"x"),
                bytes: 300,
            },
            ToRun::Finished { stage: 300, vnodes: vec![("block.0".into(), Digest::of(b"y"))] },
            ToRun::Report(NodeReport { positions: vec![(0, Position::default())], ..NodeReport::default() }),
            ToRun::Wrote { generation: 300, number: 1, reports: Ok(vec![Some(report), None]) },
            ToRun::Wrote { generation: 1, number: 300, reports: Err("it is not finite".into()) },
            ToRun::Missed { generation: 300 },
        ];
        let batches = vec![Tokens { inputs: vec![1, 300], targets: vec![300, 2] }];
        let peer = Peer { node: NodeId([7; 32]), addresses: vec!["127.0.0.1:4000".parse().unwrap()] };
        let others = [
            ToNode::Batches { from: 300, batches },
            ToNode::Where(vec![(0, peer.clone())]),
            ToNode::Begin { generation: 2, places: vec![(300, peer)] },
            ToNode::Pass { generation: 2, number: 300, pass: pass.clone() },
        ];
        let onward = Onward { generation: 2, number: 300, to: 1, pass, rows: Ok(vec![0, 0, 128, 63]) };
        let failed = Onward { rows: Err("no".into()), ..onward.clone() };
        let between = [
            Between::Training { to: 1, message: vec![7; 3] },
            Between::Writing(onward),
            Between::Writing(failed),
        ];
        let bytes = messages.iter().map(encode).chain(others.iter().map(encode));
        let bytes = bytes.chain(between.iter().map(encode));
        for bytes in bytes {
            for at in 0..8 * bytes.len() {
                let mut changed = bytes.clone();
                changed[at / 8] ^= 1 << (at % 8);
                for read in [
                    read_to_run(&changed).map(|it| encode(&it)),
                    read_to_node(&changed).map(|it| encode(&it)),
                ] {
                    assert!(read.is_none_or(|again| again == changed), "one message has two encodings");
                }
                let again = read_between(&changed).map(|it| encode(&it));
                assert!(again.is_none_or(|again| again == changed), "one message has two encodings");
                let _ = (Assignment::from_bytes(&changed), WritingAssignment::from_bytes(&changed));
            }
        }
    }

    #[test]
    fn a_reason_can_be_sent_whatever_it_was() {
        let failed = ToRun::failed(1, "a\tb\u{1b}".repeat(5_000));
        assert_eq!(read_to_run(&encode(&failed)), Some(failed));
    }

    #[test]
    fn an_assignment_that_makes_no_sense_is_refused() {
        assert!(Assignment::from_bytes(b"{}").is_err());
        assert!(Assignment::from_bytes(b"").is_err());
    }
}
