//! Pipelines without a barrier: a replica of several machines, whose bits do not know how many.
//!
//! A [`Schedule`] gives every stage of a network one total order of forward and backward passes over micro-batches
//! (1F1B: Narayanan et al., 2019, "PipeDream"). A step of a stage ends with the backward pass of its last micro-batch, and
//! its VNodes then update themselves; nobody waits for anybody else's update. So which version of a stage's weights a
//! forward pass sees follows from the schedule, never from when something arrived, and the backward pass of the
//! same micro-batch takes the same version. The bits follow from the schedule and the data, wherever stages are hosted.
//!
//! A [`StageAgent`] is one stage, pure: messages in, messages out. Messages name what they are (epoch, micro-batch,
//! direction, sender, digest), so duplicates and late ones change nothing, early ones wait, and what there is no room
//! for is refused. What is sent is kept until its receiver has a checkpoint behind it: a stage that dies is restored from
//! its own checkpoint and what its neighbours kept, and nobody else restarts. A [`Status`] says what a stage has and what
//! it saved; it is answered with what is missing, so a message that was lost needs no case of its own.
//!
//! [`Replica`] runs all stages on one machine: the same bits, for whoever verifies. Every pass says what arrived, what was
//! sent and, at the end of a step, the digest of every VNode; [`first_difference`] of two runs names the stage that
//! made something else of the same, the step and the VNode.
//!
//! What differs from one machine with a barrier: gradients are clipped by VNode, since their common norm would have to be
//! waited for; and a network with a borrowed table is refused, since the table and its borrower would have different versions.
//! What older gradients cost in loss, in the first hundred steps a tenth and more, stands in `benches/RESULTS.md`.
//! [`Order::Flush`] is the control: every pass of a step sees one version, and the bits are those of one stage.

mod agent;
mod checkpoint;
mod message;
mod record;
mod replica;
mod rows;
mod schedule;

pub use agent::{Batch, Done, PipelineError, Refusal, Settings, StageAgent};
pub use checkpoint::Checkpoint;
pub use message::{Direction, Message, Outgoing, Rows, Status};
pub use record::{Difference, Leaf, Pass, first_difference};
pub use replica::Replica;
pub use rows::{Feedback, Format, RowsError};
pub use schedule::{Correction, Operation, Order, Position, Schedule};
