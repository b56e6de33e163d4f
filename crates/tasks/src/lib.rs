//! The work of a PNode as pure functions of blobs in a store: what is asked goes in, what is reported comes out.
//!
//! Nothing here knows a clock, a socket or who asked. The same task on the same blobs gives the
//! same outputs on any machine, which is what lets anybody do it again and compare with `==` ([`recheck`]).
//!
//! The list is closed: [`train`], [`sum`], [`aggregate`], [`evaluate`]. Nothing that arrives over a network is ever executed.

mod recheck;

use std::ops::ControlFlow;

use zoo_content::{BlobStore, Digest, StoreError, VerifiedBlob};
use zoo_protocol::{
    Aggregate, Evaluate, Form, NodeId, Profile, RefusedSummand, Sum, Summand, TrainWindow, VNodeUpdate,
    WindowOutcome, limits,
};
use zoo_training::{
    AggregateTask, Aggregation, Amendment, Checkpoint, CheckpointError, Dataset, DatasetError, Estimate,
    Evaluation, Given, Lead, Part, ReadSpecError, Share, StepReport, SumTask, TrainError, TrainingSpec,
    WindowTask, train_window_from,
};

pub use recheck::{Recheck, recheck};

/// Opened datasets that are kept: the training data and the held-out data of one job.
const DATASETS_MAX: usize = 2;

/// Why a task could not be done.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A blob cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The program is not a training specification.
    #[error(transparent)]
    Program(#[from] ReadSpecError),
    /// The data is no tokenised data.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// The computation itself failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The specification is of another numeric profile than the window.
    #[error("the window is to be trained in {asked}, its specification says {specified}")]
    Profile {
        /// What the window says.
        asked: Profile,
        /// What the specification says.
        specified: Profile,
    },
    /// The machine is too small.
    #[error(
        "the task takes at least about {needed_mib} MiB of memory, and {available_mib} MiB are available here"
    )]
    Memory {
        /// What it takes, cut into the smallest pieces.
        needed_mib: u64,
        /// What there is.
        available_mib: u64,
    },
}

impl TaskError {
    /// The blob whose bytes on disk have changed, if that is the trouble. Removed, it is fetched again.
    pub fn corrupt_blob(&self) -> Option<Digest> {
        match self {
            Self::Store(cause)
            | Self::Checkpoint(
                CheckpointError::ManifestStore(cause) | CheckpointError::VNode { cause, .. },
            ) => match cause {
                StoreError::Corrupt { digest, .. } => Some(*digest),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the task was stopped because nobody wants it any more.
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Train(TrainError::Stopped { .. }))
    }
}

/// About what adding up updates of the program takes in memory, MiB.
pub fn adding_mib(store: &dyn BlobStore, program_name: &Digest) -> Result<u64, TaskError> {
    let spec = TrainingSpec { batch_sequences: 1, ..program(store, program_name)? };
    Ok(Estimate::of(&spec, 1, 1).memory_mib() as u64)
}

/// The program as it is run where a task may take so much memory, its data included: with the largest micro-batch that fits.
/// Every choice gives the same bits.
fn fitted(
    store: &dyn BlobStore,
    spec: &TrainingSpec,
    data: &Digest,
    step_sequences: u32,
    available_mib: Option<u64>,
) -> Result<TrainingSpec, TaskError> {
    let Some(available_mib) = available_mib else { return Ok(spec.clone()) };
    let data_bytes = store.size(data).unwrap_or(0);
    let bytes_max = (available_mib << 20).saturating_sub(data_bytes);
    spec.fitted(step_sequences, bytes_max).map_err(|least_bytes| TaskError::Memory {
        needed_mib: (least_bytes + data_bytes).div_ceil(1 << 20),
        available_mib,
    })
}

/// A trained window: what is said about it, and the blobs that were said to exist.
pub struct TrainedWindow {
    /// What there is to commit to.
    pub outcome: WindowOutcome,
    /// The updates that it names.
    pub updates: Vec<VerifiedBlob>,
    /// And the replica's state.
    pub replica: VerifiedBlob,
}

fn of_training(share: zoo_protocol::Share) -> Share {
    let zoo_protocol::Share { first_sequence, sequences_per_step, inner_steps } = share;
    Share { first_sequence, sequences_per_step, inner_steps }
}

/// What a node has in memory of what its tasks start from. All of it follows from what is stored: to lose it costs time and no bits.
#[derive(Default)]
pub struct AtHand {
    /// Datasets that were opened: to open one is to read and check every token.
    datasets: Vec<Dataset>,
    /// The checkpoint that was made or read last.
    checkpoint: Option<(Digest, Checkpoint)>,
    /// What the node goes on with between two windows.
    pub lead: Option<Lead>,
}

impl AtHand {
    fn dataset(&mut self, store: &dyn BlobStore, name: &Digest) -> Result<Dataset, TaskError> {
        let dataset = match self.datasets.iter().position(|open| open.digest() == *name) {
            Some(at) => self.datasets.remove(at),
            None => {
                self.datasets.truncate(DATASETS_MAX - 1);
                Dataset::decode(store.get(name)?)?
            }
        };
        self.datasets.insert(0, dataset.clone());
        Ok(dataset)
    }

    fn checkpoint(&mut self, store: &dyn BlobStore, name: &Digest) -> Result<&Checkpoint, TaskError> {
        let here = self.checkpoint.take().filter(|(latest, _)| latest == name);
        let checkpoint = match here {
            Some((_, checkpoint)) => checkpoint,
            None => Checkpoint::load(store, name)?,
        };
        Ok(&self.checkpoint.insert((*name, checkpoint)).1)
    }

    /// Takes the checkpoint called `name`, which was just made.
    pub fn made(&mut self, name: Digest, checkpoint: Checkpoint) {
        self.checkpoint = Some((name, checkpoint));
    }

    /// The lead, if it is the one that `window` asks of a replica that kept `replica_in`.
    pub fn lead_of(&self, window: &TrainWindow, replica_in: Option<Digest>) -> Option<&Lead> {
        let (kept, share) = (replica_in?, window.lead?);
        self.lead.as_ref().filter(|lead| lead.is(&kept, window.first_step, of_training(share)))
    }
}

/// Trains one window from what is in `store`, and from its lead as far as it was taken already, in micro-batches that fit into the memory
/// that is available, MiB, if that is known; stores nothing.
pub fn train(
    store: &dyn BlobStore,
    at_hand: &mut AtHand,
    window: &TrainWindow,
    replica_in: Option<Digest>,
    available_mib: Option<u64>,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<TrainedWindow, TaskError> {
    let spec = program(store, &window.program)?;
    if spec.profile != window.profile {
        return Err(TaskError::Profile { asked: window.profile, specified: spec.profile });
    }
    let spec = fitted(store, &spec, &window.data, window.share.sequences_per_step, available_mib)?;
    let is_there = at_hand.lead_of(window, replica_in).is_some();
    let lead = at_hand.lead.take().filter(|_| is_there);
    let kept = replica_in.filter(|_| !is_there);
    let replica = kept.map(|state| store.get(&state)).transpose()?;
    let task = WindowTask {
        spec: &spec,
        data: &at_hand.dataset(store, &window.data)?,
        base: at_hand.checkpoint(store, &window.base)?,
        replica: replica.as_deref(),
        round: window.round,
        first_step: window.first_step,
        lead: window.lead.map(of_training),
        share: of_training(window.share),
        ahead_steps: window.ahead_steps,
    };
    let (result, ahead) = train_window_from(task, lead, progress)?;

    let updates = result.updates.iter().map(|update| VNodeUpdate {
        vnode: update.vnode.clone(),
        update: update.blob.digest(),
        bytes: update.blob.len() as u64,
        norm: update.norm,
    });
    let outcome = WindowOutcome {
        tokens: result.tokens(),
        replica_out: result.replica.digest(),
        steps_root: result.steps_root,
        steps: result.leaves.len() as u32,
        updates: updates.collect(),
        mean_loss_bits: result.loss.mean().to_bits(),
    };
    let updates = result.updates.into_iter().map(|update| update.blob).collect();
    at_hand.lead = ahead;
    Ok(TrainedWindow { outcome, updates, replica: result.replica })
}

/// What became of summands that were to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added<T> {
    /// This.
    Is(T),
    /// These are not what they must be, so nothing can come of it.
    Refused(Vec<RefusedSummand>),
}

/// An aggregated round.
pub struct Aggregated {
    /// The next checkpoint.
    pub checkpoint: Checkpoint,
    /// Whose contributions did not count, in order: they have nothing to do with the others', or were given in a round before.
    pub left_out: Vec<NodeId>,
    /// Whose counted only as a part, in order: they are alike.
    pub alike: Vec<NodeId>,
}

/// Aggregates a round from what is in `store` and takes the outer step; stores nothing.
pub fn aggregate(
    store: &dyn BlobStore,
    at_hand: &mut AtHand,
    work: &Aggregate,
) -> Result<Added<Aggregated>, TaskError> {
    let spec = program(store, &work.program)?;
    let base = at_hand.checkpoint(store, &work.base)?;
    let here = work.amendments.iter().map(|said| {
        let [summands, withdrawn, withdraws] =
            [&said.summands, &said.withdrawn, &said.withdraws].map(|list| Fetched::all(store, list));
        Ok::<_, StoreError>((said, [summands?, withdrawn?, withdraws?]))
    });
    let here: Vec<_> = here.collect::<Result<_, _>>()?;
    let lists = here.iter().map(|(said, here)| {
        (*said, here.each_ref().map(|list| (Fetched::summands(list), Fetched::copies(list, &said.alike))))
    });
    let lists: Vec<_> = lists.collect();
    let amendments = lists.iter().map(|(said, lists)| {
        let given = |at: usize| Given { summands: &lists[at].0, copies: &lists[at].1 };
        let [summands, withdrawn, withdraws] = [given(0), given(1), given(2)];
        Amendment { round: said.round, norm_limits: &said.norm_limits, summands, withdrawn, withdraws }
    });
    let amendments: Vec<Amendment<'_>> = amendments.collect();
    let (amendments, is_last) = (&amendments[..], work.is_last);
    add(store, &spec, work.round, &work.summands, |summands| {
        let (round, step, norm_limits) = (work.round, work.step, &work.norm_limits[..]);
        let task =
            AggregateTask { spec: &spec, base, round, step, norm_limits, summands, amendments, is_last };
        let Aggregation { checkpoint, left_out, alike } = zoo_training::aggregate(task)?;
        let makers = |places: Vec<usize>| {
            let mut makers: Vec<NodeId> = places.into_iter().map(|at| work.summands[at].node).collect();
            makers.sort_unstable();
            makers
        };
        Ok(Aggregated { checkpoint, left_out: makers(left_out), alike: makers(alike) })
    })
}

/// Adds part of a round from what is in `store`; stores nothing.
pub fn sum(store: &dyn BlobStore, work: &Sum) -> Result<Added<Vec<(String, VerifiedBlob)>>, TaskError> {
    let spec = program(store, &work.program)?;
    let first = work.first_vnode as usize;
    let vnodes = (first, first.saturating_add(work.vnodes as usize));
    add(store, &spec, work.round, &work.summands, |summands| {
        let norm_limits = &work.norm_limits[..];
        zoo_training::partial_sums(SumTask { spec: &spec, round: work.round, vnodes, norm_limits, summands })
    })
}

/// A summand whose blobs are here.
struct Fetched<'a> {
    said: &'a Summand,
    norms: Vec<u64>,
    blobs: Vec<VerifiedBlob>,
}

impl<'a> Fetched<'a> {
    fn all(store: &dyn BlobStore, summands: &'a [Summand]) -> Result<Vec<Self>, StoreError> {
        let fetched = |said: &'a Summand| {
            let blobs = said.updates.iter().map(|update| store.get(&update.update));
            let norms = said.updates.iter().map(|update| update.norm).collect();
            Ok(Self { said, norms, blobs: blobs.collect::<Result<_, _>>()? })
        };
        summands.iter().map(fetched).collect()
    }

    /// Of how many that were alike each counted as one.
    fn copies(fetched: &[Self], alike: &[NodeId]) -> Vec<u64> {
        let is_alike = |it: &Self| it.said.form == Form::Contribution && alike.contains(&it.said.node);
        fetched.iter().map(|it| if is_alike(it) { alike.len() as u64 } else { 1 }).collect()
    }

    /// As they are added.
    fn summands(fetched: &'a [Self]) -> Vec<zoo_training::Summand<'a>> {
        let summand = |Self { said, norms, blobs }: &'a Self| zoo_training::Summand {
            form: match said.form {
                Form::Contribution => zoo_training::Form::Updates { norms },
                Form::Sum(contributions) => zoo_training::Form::Sums(contributions),
            },
            round: said.round,
            tokens: said.tokens,
            first_vnode: said.first_vnode as usize,
            blobs,
        };
        fetched.iter().map(summand).collect()
    }
}

/// Adds `summands`; when that fails, finds out which of them cannot be added, and why.
fn add<T>(
    store: &dyn BlobStore,
    spec: &TrainingSpec,
    round: u32,
    summands: &[Summand],
    add: impl Fn(&[zoo_training::Summand]) -> Result<T, TrainError>,
) -> Result<Added<T>, TaskError> {
    let here = Fetched::all(store, summands)?;
    let fetched = Fetched::summands(&here);
    let added = add(&fetched);
    if let Err(cause) = &added
        && !is_fault_of_summand(cause)
    {
        return Ok(Added::Is(added?));
    }
    let mut refused = Vec::new();
    for (summand, fetched) in summands.iter().zip(&fetched) {
        if let Some(reason) = misstated(summand, fetched.blobs) {
            refused.push(refusal_of(summand, reason));
        } else if added.is_err() {
            match zoo_training::inspect(spec, round, *fetched) {
                Err(cause) if is_fault_of_summand(&cause) => refused.push(refusal_of(summand, cause)),
                other => other?,
            }
        }
    }
    match added {
        Ok(added) if refused.is_empty() => Ok(Added::Is(added)),
        Err(cause) if refused.is_empty() => Err(cause.into()),
        _ => Ok(Added::Refused(refused)),
    }
}

/// The sizes that a summand's maker committed to are those of its blobs.
fn misstated(summand: &Summand, blobs: &[VerifiedBlob]) -> Option<String> {
    let mut updates = summand.updates.iter().zip(blobs);
    let (update, blob) = updates.find(|(update, blob)| update.bytes != blob.len() as u64)?;
    let (vnode, said) = (&update.vnode, update.bytes);
    Some(format!("update of vnode {vnode}: it has {} bytes where {said} were committed to", blob.len()))
}

fn refusal_of(summand: &Summand, reason: impl ToString) -> RefusedSummand {
    RefusedSummand {
        maker: summand.node,
        form: summand.form,
        first_vnode: summand.first_vnode,
        reason: limits::reason(reason),
    }
}

fn is_fault_of_summand(cause: &TrainError) -> bool {
    matches!(cause, TrainError::Update { .. } | TrainError::Contribution(_))
}

/// Scores one shard of the held-out data, as much at once as fits into the memory that is available, MiB, if that is known.
pub fn evaluate(
    store: &dyn BlobStore,
    at_hand: &mut AtHand,
    work: &Evaluate,
    available_mib: Option<u64>,
) -> Result<Evaluation, TaskError> {
    let spec = program(store, &work.program)?;
    let spec = fitted(store, &spec, &work.data, spec.batch_sequences, available_mib)?;
    let network = at_hand.checkpoint(store, &work.checkpoint)?.network(&spec)?;
    let part = Part {
        shard: work.shard,
        shards: work.shards,
        batch_windows: spec.micro_batch(spec.batch_sequences),
    };
    Ok(zoo_training::evaluate(&network, &at_hand.dataset(store, &work.data)?, part)?)
}

fn program(store: &dyn BlobStore, name: &Digest) -> Result<TrainingSpec, TaskError> {
    Ok(TrainingSpec::from_bytes(&store.get(name)?)?)
}
