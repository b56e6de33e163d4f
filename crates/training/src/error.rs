//! Why training stops.

use thiserror::Error;
use zoo_model::{ConfigError, DefinitionError, NetworkError, StateError};
use zoo_update::UpdateError;

use crate::dataset::DatasetError;
use crate::spec::SpecError;

/// Why a network cannot be made, trained, aggregated or evaluated.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The specification makes no sense.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The data does not fit.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// The data has another vocabulary than the model.
    #[error(
        "data: its vocabulary has {data} tokens, the model's has {model}\nhint: set model.vocab_size to {data}, or prepare the data with the model's tokenizer"
    )]
    Vocabulary {
        /// Tokens of the data's vocabulary.
        data: u32,
        /// Tokens of the model's.
        model: usize,
    },
    /// The shape of the model makes no sense.
    #[error(transparent)]
    Model(#[from] ConfigError),
    /// The network cannot be built.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// A loss, a gradient or a parameter is NaN or infinite.
    #[error(
        "step {step}: the {what} of vnode {vnode} is not finite\nhint: lower the learning rate or the clip, or warm up longer; the last checkpoint is unharmed"
    )]
    NotFinite {
        /// The inner step of the job, from 0.
        step: u64,
        /// The first VNode where it shows.
        vnode: String,
        /// What is not finite.
        what: &'static str,
    },
    /// A step failed.
    #[error("step {step}: {cause}")]
    Step {
        /// The inner step of the job, from 0.
        step: u64,
        /// What happened.
        #[source]
        cause: NetworkError,
    },
    /// An evaluation failed; the cause names the VNode.
    #[error("evaluation: {0}")]
    Evaluation(#[source] NetworkError),
    /// The checkpoint, optimiser state or contribution has other VNodes than the network.
    #[error("{what}: vnode {place} is {actual}, the network's is {expected}\nhint: {HINT_PROGRAM}")]
    OtherNetwork {
        /// What was looked at.
        what: &'static str,
        /// Place in network order, from 0.
        place: usize,
        /// The id that is there.
        actual: String,
        /// The network's.
        expected: String,
    },
    /// The checkpoint was made by another program.
    #[error("checkpoint: its {what} is {actual}, the job's is {expected}\nhint: {HINT_PROGRAM}")]
    OtherLineage {
        /// Which part of its lineage.
        what: &'static str,
        /// Short digest in the checkpoint.
        actual: String,
        /// Short digest of the job's.
        expected: String,
    },
    /// The state of one VNode cannot be loaded; the cause names it.
    #[error("{what}: {cause}")]
    State {
        /// Which state.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        cause: StateError,
    },
    /// The bytes of what a replica kept are malformed.
    #[error("replica state: {0}\nhint: start the replica with the fresh state")]
    ReplicaState(String),
    /// An update cannot be encoded, decoded or added up.
    #[error("update of vnode {vnode}: {cause}")]
    Update {
        /// The VNode.
        vnode: String,
        /// What happened.
        #[source]
        cause: UpdateError,
    },
    /// A contribution does not fit the network.
    #[error("contribution: {0}")]
    Contribution(String),
    /// The share of a window makes no sense.
    #[error("share: {0}")]
    Share(String),
    /// The caller asked to stop.
    #[error("stopped after step {step}")]
    Stopped {
        /// The last inner step that was done, from 0.
        step: u64,
    },
}

impl TrainError {
    /// What happened in inner step `step` of the job. The network counts the updates of its
    /// optimiser state, which a replica that rejoined starts again from 0; people count the job's steps.
    pub(crate) fn in_step(step: u64, cause: NetworkError) -> Self {
        match cause {
            NetworkError::NotFinite { vnode, what, .. } => Self::NotFinite { step, vnode, what },
            cause => Self::Step { step, cause },
        }
    }
}

const HINT_PROGRAM: &str = "use the training specification that the checkpoint was made with";
