//! What is refused, and what can go wrong.

use crate::definition::{TARGETS, TOKENS};
use crate::network::CHUNK_TOKENS;
use crate::plan::{NODES_MAX, SIZE_MAX};
use crate::state::StateError;

/// Why a definition is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// Two nodes have one id, or one has a reserved id.
    #[error(
        "network: node '{id}' is not the only '{id}'\nhint: ids are unique, and '{TOKENS}' and '{TARGETS}' are reserved"
    )]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// An input names nothing.
    #[error(
        "network: node '{node}' has an unknown input '{input}'\nhint: name another node, '{TOKENS}' or '{TARGETS}'"
    )]
    UnknownInput {
        /// Whose input.
        node: String,
        /// What it names.
        input: String,
    },
    /// The inputs do not fit the node's slots.
    #[error("network: node '{node}' does not take these inputs\nhint: its slots are {slots}")]
    Slots {
        /// The node.
        node: String,
        /// What its kind takes.
        slots: &'static str,
    },
    /// Nodes feed each other in a circle.
    #[error("network: node '{node}' feeds itself through its inputs\nhint: remove one edge of the cycle")]
    Cycle {
        /// One node of the circle, or behind it.
        node: String,
    },
    /// Two ends of an edge have different widths.
    #[error(
        "network: node '{node}' takes rows of {expected} elements, but '{input}' gives {found}\nhint: make the widths equal"
    )]
    Width {
        /// The consumer.
        node: String,
        /// The producer.
        input: String,
        /// The consumer's width.
        expected: usize,
        /// The producer's width.
        found: usize,
    },
    /// A size or number of a node is impossible.
    #[error(
        "network: node '{node}': {cause}\nhint: every size is at least 1 and within the limits of the model's configuration"
    )]
    Shape {
        /// The node.
        node: String,
        /// What is wrong.
        cause: String,
    },
    /// The network as a whole is too large or too small.
    #[error("network: {0}\nhint: use a context of 1 to {SIZE_MAX} and at most {NODES_MAX} nodes")]
    Size(String),
    /// A node's output goes nowhere.
    #[error("network: the output of node '{node}' is not used\nhint: connect it, or remove the node")]
    Unused {
        /// The node.
        node: String,
    },
    /// There is no cost, or more than one.
    #[error("network: {found} nodes are a cost, one is needed\nhint: end the network with one cost")]
    Costs {
        /// How many there are.
        found: usize,
    },
    /// The head is tied to something that is not an embedding of its shape.
    #[error(
        "network: node '{node}' is tied to '{tied_to}', which is not an embedding of its shape\nhint: name an embedding of the same vocab_size and width, or remove tied_to"
    )]
    Tied {
        /// The head.
        node: String,
        /// What it names.
        tied_to: String,
    },
}

/// Why a pass over a network failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// A loss or a gradient is NaN or infinite.
    #[error(
        "step {step}: {what} of VNode '{vnode}' is not finite\nhint: lower the learning rate or clip gradients; the last checkpoint is unharmed"
    )]
    NotFinite {
        /// The optimiser step, counted from 1.
        step: u64,
        /// Whose.
        vnode: String,
        /// "a parameter", "a gradient" or "the output".
        what: &'static str,
    },
    /// A token is not in the vocabulary.
    #[error(
        "token {token} is not below the vocabulary size {vocab_size}\nhint: tokenise with the model's own tokenizer"
    )]
    Token {
        /// The id.
        token: u32,
        /// The vocabulary.
        vocab_size: usize,
    },
    /// A batch is not whole sequences.
    #[error(
        "a batch of {inputs} inputs and {targets} targets is not whole sequences of {context}\nhint: give equally many of both, a multiple of the context"
    )]
    Batch {
        /// Inputs given.
        inputs: usize,
        /// Targets given.
        targets: usize,
        /// Positions of a sequence.
        context: usize,
    },
    /// A micro-batch follows one that was not whole chunks.
    #[error(
        "a micro-batch follows {tokens} tokens, which are not whole chunks of {CHUNK_TOKENS}: its bits would depend on the cut\nhint: make micro_batch_sequences times context a multiple of {CHUNK_TOKENS}, or use one micro-batch"
    )]
    Chunks {
        /// Tokens of the step before it.
        tokens: usize,
    },
    /// More positions than the model has.
    #[error(
        "{positions} positions are more than the context of {context}\nhint: start a new cache with the last part of the text"
    )]
    Context {
        /// Positions asked for.
        positions: usize,
        /// Positions of a sequence.
        context: usize,
    },
    /// No room for more keys and values.
    #[error(
        "{needed} pages of keys and values are needed and {available} are left\nhint: end other texts first, or give the cache more memory"
    )]
    Pages {
        /// Pages asked for.
        needed: usize,
        /// Pages that no sequence uses.
        available: usize,
    },
    /// A pass that is none.
    #[error("a pass cannot be computed: {0}\nhint: whoever sent it may run another version of zoo")]
    Pass(&'static str),
    /// Nothing to decode.
    #[error("no token to continue\nhint: give a prompt of at least one token")]
    Empty,
    /// An optimiser step without a gradient.
    #[error("step {step}: no gradient to apply\nhint: call forward_backward first")]
    NoGradient {
        /// The optimiser step, counted from 1.
        step: u64,
    },
    /// Values of another network.
    #[error(
        "{found} values for a network of {expected} parameters\nhint: use the file of a model of the same shape"
    )]
    Length {
        /// Values given.
        found: usize,
        /// Parameter elements.
        expected: usize,
    },
    /// A VNode's state does not fit.
    #[error(transparent)]
    State(#[from] StateError),
}
