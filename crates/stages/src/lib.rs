//! Pipelines over processes: a run places the stages of a network on the nodes that joined it, and stages talk to each other directly.
//!
//! [`coordinate`] is the run: it has the text, waits for nodes, says who hosts what and where the others are, keeps the newest checkpoint of every stage,
//! and places a stage again when its node is gone. [`join`] is a node: it computes what it was given to host, on a thread of its own, saves its
//! stages' checkpoints with the run, and sends rows to the nodes of the stages beside its own. What is computed, and in which order, follows from
//! `zoo_pipeline::Schedule` alone, so the parameters that come out are the same whoever hosts what, and whoever died on the way.
//!
//! Messages may be lost, come twice or late: stages name what they lack ([`zoo_pipeline::Status`]), and are sent it again. So a connection that breaks
//! needs no case of its own: what was on it is lost, and the next one is opened when there is something to say.
//!
//! ```text
//! run   -> node   what to host, where the other stages are, tokens, that a checkpoint is kept, that it is over
//! node  -> run    that it is there, which tokens it lacks, losses, checkpoints, how it is doing, what its stages came to
//! node <-> node   rows and statuses of stages
//! ```
//!
//! Checkpoints go as blobs, each under its digest, as all that is large does in Zoo.

mod coordinate;
mod engine;
mod host;
mod links;
mod members;
mod message;
mod node;
mod placing;
mod writer;
mod writing;

pub use coordinate::{Event, RunOptions, Summary, coordinate, stage_bytes, states};
pub use message::{
    Assignment, NodeReport, Rules, StagesError, ToNode, ToRun, Tokens, WritingAssignment, read_to_node,
    read_to_run,
};
pub use node::{JoinOptions, NodeEvent, join};
pub use writing::{RemotePasses, Requests, WritingEvent, WritingOptions, remote_passes, write};
