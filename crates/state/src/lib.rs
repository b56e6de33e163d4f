//! The one state machine: membership, jobs, rounds and work accounting, as a pure function.
//!
//! [`State::apply`] takes a [`Command`] and gives [`Event`]s, or a [`Refusal`] that leaves the
//! state as it was. It reads no clock, draws no randomness and does no I/O: time and evidence
//! arrive in commands. A journal of commands therefore replays to the same [`State::root`]
//! anywhere, and simulation, crash recovery and audit are all the same thing: replay.
//!
//! ```
//! use zoo_state::{Command, State};
//!
//! let mut state = State::new();
//! let events = state.apply(&Command::Tick { now_ms: 1_000 }).unwrap();
//! assert!(events.is_empty());
//! assert_eq!(state.root(), State::new().root());
//! ```
//!
//! # What a node does is derived, never sent
//!
//! [`State::work_for`] answers "what should this node be doing now?" from the state alone. A node
//! that crashed, lost its connection or was told twice asks again and carries on; no command
//! exists for any of those cases.
//!
//! # The life of a round
//!
//! One job runs at a time; the others queue in order. Its phases are the variants of [`Phase`]:
//!
//! 1. **Waiting** until [`minimum_nodes`](zoo_protocol::RoundPlan::minimum_nodes) live nodes in good
//!    standing are there. (A node that was at fault in a round is barred through the next one.)
//! 2. **Training.** Those nodes, ordered by id, get disjoint shares of fresh sequences; the cursor
//!    never goes back, also when a round restarts, so no two replicas ever see the same sequence.
//!    Who joins later waits for the next round. Who is lost is a missing summand, unless it has
//!    contributed already or is back before the seal; who is silent only for the orchestrator, while
//!    its peers reach it, is waited for a little ([`SUSPICION_MS`]). The round is sealed when nobody is left to
//!    wait for, or at the deadline.
//! 3. **Aggregating.** Up to some number of contributions *every* live node in good standing aggregates them, not
//!    only those who trained: a newcomer gets the checkpoint that way, and it has many holders. Beyond, they come
//!    together over a tree of partial sums ([`Gathering`]), and a committee takes the outer step.
//!    Nodes that report another checkpoint than most are at fault; without a strict winner the
//!    job fails. A contribution that cannot be fetched, or added, is dropped by the rule in
//!    [`Aggregating`], and the rest is aggregated again.
//! 4. **Evaluating**, after the rounds that complete `evaluate_every` inner steps and after the last: held-out shards are
//!    spread over the live nodes and summed in shard order. The next round trains after that.
//!
//! The plan's `contribution_deadline_ms` bounds the wait in every one of these phases, while there is
//! anybody to wait for. While nobody is there, the job waits for as long as it takes.
//!
//! A round that gets nowhere restarts from the same base. [`MAX_FRUITLESS`](limits::MAX_FRUITLESS)
//! restarts that cannot be put down to everybody having left are borne; the next fails the job, loudly.
//!
//! # Checkpoints
//!
//! The newest checkpoint of a job and some older ones are *kept* ([`Checkpoints`]), each by as many nodes as its plan says, in
//! different regions if there are any. What a node keeps is derived like its work ([`State::keeps_for`]). Holders are challenged
//! to prove that they hold a part which nobody could foresee; who leaves, is silent or fails is replaced.
//!
//! # Verification
//!
//! Some windows are trained again by other nodes ([`Verification`]): which, and by whom, is drawn from what nobody could know when they were
//! committed to. Sums and evaluations are not run again while a job runs; a checkpoint is what most of those who were asked say it is.
//!
//! # Whose network it is, and whose word counts in it
//!
//! The host says first which network this is ([`Command::NetworkNamed`]), and which operators its owner trusts. Jobs of another network are
//! refused, and so is whatever was signed for one. Keys that go are the subject of [`Gone`], trust that of [`Trusted`].
//!
//! # Admission
//!
//! How fast a node is, is measured ([`Sitting`]): all that have nothing to do compute, at the same moment, what nobody could compute before,
//! and check each other. What comes of it ([`Rating`]) orders the first shares.
//!
//! # Evidence
//!
//! A report of training is journaled as the [`Sealed`](zoo_protocol::Sealed) commitment its node
//! signed, and `apply` itself opens it. There is no second, opened copy that could disagree with
//! the signed bytes, and a replay by an auditor verifies every signature again.

mod activity;
mod admission;
mod aggregation;
mod checkpoints;
mod command;
mod detector;
mod evaluation;
mod event;
mod finality;
mod gathering;
pub mod invariants;
mod jobs;
mod judging;
mod keeping;
mod lateness;
pub mod limits;
mod links;
mod membership;
mod newcomers;
mod refusal;
mod repeats;
mod reputation;
mod round;
mod settling;
mod shares;
mod state;
mod steering;
mod succession;
mod suspicion;
mod tempo;
mod trail;
mod training;
mod trusted;
mod verification;
mod work;

pub use activity::Activity;
pub use admission::{
    Admission, Candidate, Draw, Pledged, RATING_MS, Rating, SITTING_INTERVAL_MS, SITTING_MAX, Sitting,
    Unrated,
};
pub use aggregation::{Aggregating, Answer, Doubted};
pub use checkpoints::{Checkpoint, Checkpoints, JobCheckpoints};
pub use command::{Command, JournalError, LossCause};
pub use detector::{Detector, Finding};
pub use evaluation::{Evaluating, ShardScore, ShardState};
pub use event::{Event, Failure, FaultKind, Missed, Restart, Stop, Unverified};
pub use finality::{AMENDED_WITHIN, Amends, OpenRound};
pub use gathering::{Gathering, Item, PartialSum, SumState};
pub use jobs::{FinishedJob, JobStatus, Outcome, Queued};
pub use keeping::{CHALLENGE_MS, Keeper, Keeping, Release};
pub use lateness::Late;
pub use links::{LINK_INTERVAL_MS, Measured};
pub use membership::Node;
pub use newcomers::{GONE_MAX, IN_TURN_MIN};
pub use refusal::Refusal;
pub use reputation::Reputation;
pub use round::{Phase, Running};
pub use settling::{SETTLED_WITHIN, Settling};
pub use shares::Pace;
pub use state::{SnapshotError, State};
pub use steering::Steer;
pub use succession::Gone;
pub use suspicion::{SUSPICION_MS, WITNESSES_MAX};
pub use tempo::Tempo;
pub use trail::Trail;
pub use training::{Contribution, Seat, SeatState, Training};
pub use trusted::{CLOCKS_APART_S, Distrust, Trusted, Vouched};
pub use verification::{
    CHALLENGE_ROUNDS, Check, Claim, Opinion, QUARANTINE_ROUNDS, Verification, Verifier, WindowName,
};
