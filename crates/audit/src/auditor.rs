//! Follows a journal, and does again what it says.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};

use zoo_content::{BlobStore, Digest, StoreError, VerifiedBlob};
use zoo_protocol::{
    Commitment, Evaluate, JobId, NodeId, RefusedSummand, Report, Sealed, VNodeUpdate, Work, encode,
};
use zoo_state::{Command, Refusal, State};
use zoo_tasks::{Added, Aggregated, AtHand, Recheck, TaskError};
use zoo_training::{CheckpointError, StepReport};

use crate::finding::{Checked, Deed, Tally, Verdict};
use crate::layered::Layered;

/// What is to be checked.
#[derive(Clone, Debug)]
pub struct Extent {
    /// The job.
    pub job: JobId,
    /// Its rounds, from 0.
    pub rounds: RangeInclusive<u32>,
    /// Memory that a task may take, MiB, if that is known: the micro-batches are cut to it, which changes no bit.
    pub available_mib: Option<u64>,
}

/// Why an audit ends before the journal does.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A command that no orchestrator could have written there.
    #[error("command {sequence} of the journal does not apply: {cause}")]
    Journal {
        /// Its place, from 0.
        sequence: u64,
        /// Why not.
        cause: Refusal,
    },
    /// A blob of the evidence is damaged, or what was made again cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody stopped it.
    #[error("the audit was stopped")]
    Stopped,
}

/// What comes of adding: digests, or refusals.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Addition {
    Sums(Vec<VNodeUpdate>),
    /// And whose contributions did not count in it, or only as a part.
    Checkpoint(Digest, [Vec<NodeId>; 2]),
    Refused(Vec<RefusedSummand>),
}

/// Follows the commands of a journal, one after the other, and does again what was reported of one job.
pub struct Auditor<'a> {
    extent: Extent,
    store: Layered<'a>,
    state: State,
    at_hand: AtHand,
    tally: Tally,
    /// What came of each window that was trained again, by its round and its node.
    outcomes: BTreeMap<(u32, NodeId), Digest>,
    /// Checkpoints that were come to, by round.
    checkpoints: BTreeMap<u32, Digest>,
    /// What came of the last additions, by the digest of the work: several nodes are asked the same.
    additions: BTreeMap<Digest, Addition>,
}

type Progress<'p> = &'p mut dyn FnMut(&StepReport) -> ControlFlow<()>;

impl<'a> Auditor<'a> {
    /// Before the first command. What a task starts from is read from `evidence`, or from `scratch`, where everything is put that comes
    /// out.
    pub fn new(extent: Extent, evidence: &'a dyn BlobStore, scratch: &'a dyn BlobStore) -> Self {
        Self {
            extent,
            store: Layered::new(evidence, scratch),
            state: State::new(),
            at_hand: AtHand::default(),
            tally: Tally::default(),
            outcomes: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            additions: BTreeMap::new(),
        }
    }

    /// Takes the next command, which is number `sequence`; gives what was found if it is a report that is to be checked.
    ///
    /// `progress` hears of every inner step that is taken again, and may stop the audit.
    ///
    /// # Errors
    /// A command that does not apply, a damaged blob, a full disk.
    pub fn hear(
        &mut self,
        sequence: u64,
        command: &Command,
        progress: Progress<'_>,
    ) -> Result<Option<Checked>, JobError> {
        let checked = match command {
            Command::Reported { node, report, .. } => self.look_at(sequence, *node, report, progress)?,
            _ => None,
        };
        self.state.apply(command).map_err(|cause| JobError::Journal { sequence, cause })?;
        if let Some(checked) = &checked {
            self.tally.count(checked);
            self.store.tidy(checked.round)?;
        }
        Ok(checked)
    }

    /// What is to be checked.
    pub fn extent(&self) -> &Extent {
        &self.extent
    }

    /// What was found so far.
    pub fn tally(&self) -> Tally {
        let job = &self.extent.job;
        let last = self.state.checkpoints().newest(job);
        let checkpoint = last.map(|(round, digest)| (digest, self.checkpoints.get(&round) == Some(&digest)));
        Tally { checkpoint, ..self.tally }
    }

    /// What the commands so far lead to.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The evidence, and above it what was made again.
    pub fn store(&self) -> &dyn BlobStore {
        &self.store
    }

    fn look_at(
        &mut self,
        command: u64,
        node: NodeId,
        report: &Report,
        progress: Progress<'_>,
    ) -> Result<Option<Checked>, JobError> {
        let Some((job, round, deed)) = self.about(&node, report) else { return Ok(None) };
        if job != self.extent.job {
            return Ok(None);
        }
        if !self.extent.rounds.contains(&round) {
            self.tally.skipped += 1;
            return Ok(None);
        }
        let verdict = match report {
            Report::Trained(sealed) => self.window(&node, sealed, progress),
            Report::Summed { sums, .. } => self.addition(&node, round, &Addition::Sums(sums.clone())),
            Report::Aggregated { checkpoint, left_out, alike, .. } => {
                let told = [left_out.clone(), alike.clone()];
                self.addition(&node, round, &Addition::Checkpoint(*checkpoint, told))
            }
            Report::Refused { summands, .. } => {
                self.addition(&node, round, &Addition::Refused(summands.clone()))
            }
            Report::Verified { maker, outcome, .. } => Ok(self.verification((round, *maker), outcome)),
            Report::Evaluated { shard, nats_bits, tokens, bytes, .. } => {
                self.evaluation(*shard, (*nats_bits, *tokens, *bytes))
            }
            _ => return Ok(None),
        };
        let verdict = verdict.or_else(verdict_of)?;
        Ok(Some(Checked { command, round, node, deed, verdict }))
    }

    /// The job, the round and the deed that a report is about, if it is one that can be done again.
    fn about(&self, node: &NodeId, report: &Report) -> Option<(JobId, u32, Deed)> {
        match report {
            Report::Trained(sealed) => {
                let work = sealed.open().ok()?.work;
                Some((work.job, work.round, Deed::Window))
            }
            Report::Summed { job, round, sum, .. } => Some((*job, *round, Deed::Sum(*sum))),
            Report::Aggregated { job, round, .. } => Some((*job, *round, Deed::OuterStep)),
            Report::Refused { job, round, .. } => match self.state.work_for(node) {
                Work::Sum(work) => Some((*job, *round, Deed::Sum(work.sum))),
                _ => Some((*job, *round, Deed::OuterStep)),
            },
            Report::Evaluated { job, round, shard, .. } => Some((*job, *round, Deed::Shard(*shard))),
            Report::Verified { job, round, .. } => Some((*job, *round, Deed::Verification)),
            Report::Missing { .. }
            | Report::Failed { .. }
            | Report::Kept { .. }
            | Report::Proved { .. }
            | Report::Withheld { .. }
            | Report::Unamendable { .. }
            | Report::Benchmarked { .. }
            | Report::Told { .. } => None,
        }
    }

    fn window(
        &mut self,
        node: &NodeId,
        sealed: &Sealed<Commitment>,
        progress: Progress<'_>,
    ) -> Result<Verdict, TaskError> {
        let expected = match sealed.open() {
            Ok(commitment) => commitment,
            Err(cause) => return Ok(Verdict::Different(vec![cause.to_string()])),
        };
        let Commitment { work, replica_in, .. } = &expected;
        let available_mib = self.extent.available_mib;
        let again =
            zoo_tasks::train(&self.store, &mut self.at_hand, work, *replica_in, available_mib, progress)?;
        // What a node has between two of its windows, the auditor of all of them has not: it takes these steps when they are asked for.
        self.at_hand.lead = None;
        for blob in again.updates.iter().chain([&again.replica]) {
            self.store.keep_for(work.round, blob)?;
        }
        self.outcomes.insert((work.round, *node), again.outcome.digest());
        let recheck = Recheck { expected: expected.outcome, got: again.outcome };
        if !recheck.equal() {
            return Ok(Verdict::Different(recheck.differences()));
        }
        self.tally.steps += u64::from(recheck.expected.steps);
        self.tally.tokens += recheck.expected.tokens;
        Ok(Verdict::Equal)
    }

    /// Whether what somebody said of another's window is what came of it here.
    fn verification(&self, window: (u32, NodeId), said: &Digest) -> Verdict {
        match self.outcomes.get(&window) {
            Some(outcome) if outcome == said => Verdict::Equal,
            Some(outcome) => Verdict::Different(vec![format!(
                "it says that the window of {} comes to {}, and it comes to {}",
                window.1.short(),
                said.short(),
                outcome.short()
            )]),
            None => Verdict::Unavailable("the window could not be trained again".into()),
        }
    }

    /// Adds again what `node` was asked to add, and compares.
    fn addition(&mut self, node: &NodeId, round: u32, reported: &Addition) -> Result<Verdict, TaskError> {
        let Some(again) = self.add(&self.state.work_for(node))? else {
            // It answered when all was over, or once more.
            return Ok(match (reported, self.checkpoints.get(&round)) {
                (Addition::Checkpoint(reported, _), Some(known)) => compare_digests(reported, known),
                _ => Verdict::Unavailable("the journal does not say what it was asked".into()),
            });
        };
        Ok(match (reported, &again) {
            _ if *reported == again => Verdict::Equal,
            (Addition::Checkpoint(reported, _), Addition::Checkpoint(known, [left_out, alike]))
                if reported == known =>
            {
                let names = |nodes: &[NodeId]| {
                    nodes.iter().map(NodeId::to_string).collect::<Vec<String>>().join(", ")
                };
                let (left_out, alike) = (names(left_out), names(alike));
                Verdict::Different(vec![format!("who is left out: [{left_out}], who is alike: [{alike}]")])
            }
            (Addition::Checkpoint(reported, _), Addition::Checkpoint(known, _)) => {
                compare_digests(reported, known)
            }
            (Addition::Sums(reported), Addition::Sums(again)) if reported.len() == again.len() => {
                let differing = reported.iter().zip(again).filter(|(reported, again)| reported != again);
                Verdict::Different(differing.map(|(sum, _)| format!("sum of vnode {}", sum.vnode)).collect())
            }
            (_, Addition::Refused(refused)) => Verdict::Different(refused.iter().map(refusal).collect()),
            (Addition::Refused(refused), _) => Verdict::Different(
                refused
                    .iter()
                    .map(|refused| format!("nothing is wrong where it says: {}", refusal(refused)))
                    .collect(),
            ),
            _ => Verdict::Different(vec!["number of sums".into()]),
        })
    }

    fn add(&mut self, work: &Work) -> Result<Option<Addition>, TaskError> {
        let name = Digest::of(&encode(work));
        if let Some(known) = self.additions.get(&name) {
            return Ok(Some(known.clone()));
        }
        let addition = match work {
            Work::Sum(work) => match zoo_tasks::sum(&self.store, work)? {
                Added::Is(sums) => {
                    sums.iter().try_for_each(|(_, blob)| self.store.keep_for(work.round, blob))?;
                    let sum = |(vnode, blob): (String, VerifiedBlob)| VNodeUpdate {
                        vnode,
                        update: blob.digest(),
                        bytes: blob.len() as u64,
                        norm: 0,
                    };
                    Addition::Sums(sums.into_iter().map(sum).collect())
                }
                Added::Refused(refused) => Addition::Refused(refused),
            },
            Work::Aggregate(work) => match zoo_tasks::aggregate(&self.store, &mut self.at_hand, work)? {
                Added::Is(Aggregated { checkpoint, left_out, alike }) => {
                    let manifest = VerifiedBlob::new(checkpoint.manifest().to_bytes());
                    let blobs = checkpoint.blobs().chain([&manifest]);
                    blobs.into_iter().try_for_each(|blob| self.store.keep_for(work.round, blob))?;
                    self.checkpoints.insert(work.round, manifest.digest());
                    self.at_hand.made(manifest.digest(), checkpoint);
                    Addition::Checkpoint(manifest.digest(), [left_out, alike])
                }
                Added::Refused(refused) => Addition::Refused(refused),
            },
            _ => return Ok(None),
        };
        // Those of a round before are not asked for again.
        if matches!(addition, Addition::Checkpoint(..)) {
            self.additions.clear();
        }
        self.additions.insert(name, addition.clone());
        Ok(Some(addition))
    }

    fn evaluation(
        &mut self,
        shard: u32,
        (nats_bits, tokens, bytes): (u64, u64, u64),
    ) -> Result<Verdict, TaskError> {
        let Some(running) = self.state.running() else {
            return Ok(Verdict::Unavailable("the journal does not say what it was asked".into()));
        };
        let work: Evaluate = running.evaluation(shard);
        let available_mib = self.extent.available_mib;
        let again = zoo_tasks::evaluate(&self.store, &mut self.at_hand, &work, available_mib)?;
        let is_equal = (again.nats.to_bits(), again.tokens, again.bytes) == (nats_bits, tokens, bytes);
        Ok(if is_equal {
            Verdict::Equal
        } else {
            let (said, is) = (f64::from_bits(nats_bits), again.nats);
            Verdict::Different(vec![format!(
                "it says {said} nats of {tokens} tokens, and it is {is} of {}",
                again.tokens
            )])
        })
    }
}

fn compare_digests(reported: &Digest, again: &Digest) -> Verdict {
    if reported == again {
        return Verdict::Equal;
    }
    Verdict::Different(vec![format!("checkpoint {} where {} comes out", reported.short(), again.short())])
}

fn refusal(refused: &RefusedSummand) -> String {
    format!("the contribution of {} cannot be added: {}", refused.maker.short(), refused.reason)
}

/// What it means that a task could not be done: the evidence is incomplete, or damaged, or there was nothing that could be done.
fn verdict_of(cause: TaskError) -> Result<Verdict, JobError> {
    match cause {
        _ if cause.is_stop() => Err(JobError::Stopped),
        TaskError::Store(cause)
        | TaskError::Checkpoint(
            CheckpointError::ManifestStore(cause) | CheckpointError::VNode { cause, .. },
        ) => match cause {
            StoreError::NotFound(blob) => {
                Ok(Verdict::Unavailable(format!("blob {} that it starts from is not at hand", blob.short())))
            }
            damaged => Err(damaged.into()),
        },
        TaskError::Memory { .. } => Ok(Verdict::Unavailable(cause.to_string())),
        other => Ok(Verdict::Different(vec![format!("it cannot be done: {other}")])),
    }
}
