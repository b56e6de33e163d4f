//! The state, and the one function that changes it.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{JobDescription, JobId, Message, NodeId, Report};

use crate::aggregation::Attempt;
use crate::{
    Admission, Checkpoints, Command, Event, FinishedJob, Gone, Node, Opinion, Phase, Queued, Refusal,
    Running, ShardScore, Trusted, invariants,
};

/// Version of the state's encoding, its first field.
const FORMAT: u16 = 1;

/// Everything the network knows: who is here, which jobs there are, where the running one stands,
/// who did what. See the [crate's documentation](crate) for the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    format: u16,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) running: Option<Running>,
    pub(crate) paused: BTreeMap<JobId, Queued>,
    pub(crate) finished: VecDeque<FinishedJob>,
    pub(crate) checkpoints: Checkpoints,
    /// Tokens of all finished rounds of all jobs: what the accounts have to sum up to.
    pub(crate) tokens: u64,
    /// Live nodes that only their peers hear, and since when.
    pub(crate) suspects: BTreeMap<NodeId, u64>,
    /// Which network this is, by its orchestrator's key.
    pub(crate) network: Option<NodeId>,
    /// Keys that have gone.
    pub(crate) gone: BTreeMap<NodeId, Gone>,
    /// For whom somebody vouches.
    pub(crate) trusted: Trusted,
    pub(crate) admission: Admission,
}

/// Why bytes are not a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Written by another version of this software.
    #[error("state has format {0}, and this software reads format {FORMAT}")]
    Format(u16),
    /// Not the canonical encoding of a state.
    #[error("state does not decode: {0}")]
    Malformed(String),
    /// A state that no journal leads to.
    #[error("state is inconsistent: {0}")]
    Inconsistent(String),
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// The state before the first command.
    pub fn new() -> Self {
        State {
            format: FORMAT,
            nodes: BTreeMap::new(),
            queue: VecDeque::new(),
            running: None,
            paused: BTreeMap::new(),
            finished: VecDeque::new(),
            checkpoints: Checkpoints::default(),
            tokens: 0,
            suspects: BTreeMap::new(),
            network: None,
            gone: BTreeMap::new(),
            trusted: Trusted::default(),
            admission: Admission::default(),
        }
    }

    /// Applies one command. A refused command has changed nothing.
    ///
    /// The command itself is heard first and the time it brings counts afterwards: a
    /// contribution that arrives before anybody noticed the deadline is in time.
    pub fn apply(&mut self, command: &Command) -> Result<Vec<Event>, Refusal> {
        command.validate()?;
        let mut events = Vec::new();
        match command {
            Command::NodeJoined { node, profile, addresses, now_ms } => {
                self.join(*node, profile, addresses, *now_ms, &mut events)?;
            }
            Command::NodeLost { node, cause, .. } => self.lose(*node, *cause, &mut events)?,
            Command::JobSubmitted { job, .. } => self.submit(job, &mut events)?,
            Command::Reported { node, report, now_ms } => self.report(*node, report, *now_ms, &mut events)?,
            Command::LinkMeasured { node, link, now_ms } => {
                self.measure(*node, *link, *now_ms, &mut events)?
            }
            Command::NodeSuspected { node, reached_by, now_ms } => {
                self.suspect(*node, reached_by, *now_ms, &mut events)?;
            }
            Command::NodeHeard { node, .. } => self.hear(*node, &mut events)?,
            Command::Tick { .. } => {}
            Command::JobSteered { job, steer, .. } => self.steer(*job, *steer, &mut events)?,
            Command::NetworkNamed { network, operators, .. } => {
                self.name_network(*network, operators, &mut events)?;
            }
            Command::Declared { declaration, now_ms } => self.declared(declaration, *now_ms, &mut events)?,
            Command::Attested { node, attestation, now_ms } => {
                self.attest(*node, attestation, *now_ms, &mut events)?;
            }
            Command::Challenged { node, job, round, challenge, now_ms } => {
                self.challenge(*node, (*job, *round), *challenge, *now_ms)?;
            }
            Command::SittingOpened { draw, terms, now_ms } => {
                self.open_sitting(draw, *terms, *now_ms, &mut events)?;
            }
            Command::CheckersDrawn { draw, .. } => self.draw_checkers(draw, &mut events)?,
        }
        self.lose_suspects(command.now_ms(), &mut events);
        self.tend_verification(command.now_ms(), &mut events);
        self.settle(command.now_ms(), &mut events);
        self.tend_checkpoints(command.now_ms(), &mut events);
        self.tend_admission(command.now_ms(), &mut events);
        debug_assert_eq!(invariants::check(self), Ok(()), "after {command:?}");
        Ok(events)
    }

    fn report(
        &mut self,
        node: NodeId,
        report: &Report,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        match self.nodes.get(&node) {
            None => return Err(Refusal::UnknownNode(node)),
            Some(known) if !known.live => return Err(Refusal::NotLive(node)),
            Some(_) => {}
        }
        match *report {
            Report::Trained(ref sealed) => self.contribute(node, sealed, now_ms, events),
            Report::Aggregated { job, round, attempt, checkpoint, ref left_out, ref alike } => {
                self.aggregated(node, &Attempt { job, round, attempt }, checkpoint, left_out, alike)
            }
            Report::Summed { job, round, attempt, sum, ref sums } => {
                self.summed(node, &Attempt { job, round, attempt }, sum, sums, now_ms, events)
            }
            Report::Missing { job, round, attempt, maker } => {
                self.missing(node, &Attempt { job, round, attempt }, maker)
            }
            Report::Unamendable { job, round, attempt } => {
                self.unamendable(node, &Attempt { job, round, attempt })
            }
            Report::Refused { job, round, attempt, ref summands } => {
                self.refused(node, &Attempt { job, round, attempt }, summands)
            }
            Report::Evaluated { job, round, shard, nats_bits, tokens, bytes } => {
                self.evaluated(job, round, shard, ShardScore { node, nats_bits, tokens, bytes })
            }
            Report::Kept { job, round, ask } => self.kept(node, (job, round), ask, now_ms, events),
            Report::Proved { job, round, nonce, ref proof } => {
                self.proved(node, (job, round), nonce, proof, now_ms, events)
            }
            Report::Verified { job, round, maker, outcome } => {
                self.verified(node, job, (round, maker), Opinion::Came(outcome), events)
            }
            Report::Withheld { job, round, maker } => {
                self.verified(node, job, (round, maker), Opinion::Withheld, events)
            }
            Report::Benchmarked { seed, answer } => self.benchmarked(node, (seed, answer), now_ms, events),
            Report::Told { job, round, secret } => self.told(node, job, round, secret),
            Report::Failed { job, round, ref reason } => self.failed(node, job, round, reason, events),
        }
    }

    /// When time alone would next change something: a [`Command::Tick`] before it changes nothing
    /// and need not be journaled.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let deadlines = [
            self.round_deadline_ms(),
            self.keeping_deadline_ms(),
            self.suspicion_end_ms(),
            self.verification_deadline_ms(),
            self.admission_deadline_ms(),
        ];
        deadlines.into_iter().flatten().min()
    }

    pub(crate) fn round_deadline_ms(&self) -> Option<u64> {
        let running = self.running.as_ref()?;
        let since_ms = match &running.phase {
            Phase::Waiting => None,
            Phase::Training(training) => {
                return Some(training.ends_ms(running.description.plan.contribution_deadline_ms));
            }
            Phase::Settling(settling) => return Some(running.settling_deadline_ms(settling)),
            Phase::Aggregating(aggregating) => {
                return aggregating.deadline_ms(running.description.plan.contribution_deadline_ms);
            }
            Phase::Evaluating(evaluating) => evaluating.progress_ms,
        };
        Some(running.deadline_after(since_ms?))
    }

    /// Every node that ever joined.
    pub fn nodes(&self) -> &BTreeMap<NodeId, Node> {
        &self.nodes
    }

    /// The nodes that are here, ordered.
    pub fn live(&self) -> impl Iterator<Item = (&NodeId, &Node)> {
        self.nodes.iter().filter(|(_, node)| node.live)
    }

    /// The job that runs.
    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// The jobs that wait, in order.
    pub fn queue(&self) -> impl Iterator<Item = &JobDescription> {
        self.queue.iter().map(Queued::description)
    }

    /// The jobs that are paused.
    pub fn paused(&self) -> impl Iterator<Item = &JobDescription> {
        self.paused.values().map(Queued::description)
    }

    /// The jobs that are over, the oldest first.
    pub fn finished(&self) -> impl Iterator<Item = &FinishedJob> {
        self.finished.iter()
    }

    /// The checkpoints that are kept.
    pub fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// Live nodes that reported to hold a checkpoint, ordered.
    pub fn holders(&self, checkpoint: &Digest) -> Vec<NodeId> {
        self.checkpoints.holders(checkpoint).into_iter().filter(|node| self.is_live(node)).collect()
    }

    /// Digest of [`State::to_bytes`]: equal wherever the same journal was replayed.
    pub fn root(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// The canonical encoding: postcard, every map ordered by key.
    pub fn to_bytes(&self) -> Vec<u8> {
        zoo_protocol::encode(self)
    }

    /// Decodes a state and checks its [invariants]. The bytes are this software's own: a
    /// snapshot beside the journal, whose root is known.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (format, _) = postcard::take_from_bytes::<u16>(bytes)
            .map_err(|cause| SnapshotError::Malformed(cause.to_string()))?;
        if format != FORMAT {
            return Err(SnapshotError::Format(format));
        }
        let state: State =
            postcard::from_bytes(bytes).map_err(|cause| SnapshotError::Malformed(cause.to_string()))?;
        if state.to_bytes() != bytes {
            return Err(SnapshotError::Malformed("not the canonical encoding".into()));
        }
        invariants::check(&state).map_err(SnapshotError::Inconsistent)?;
        Ok(state)
    }
}
