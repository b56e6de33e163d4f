//! What answers look like. Times are ms since the Unix epoch, by the orchestrator's clock; digests and ids are 64 hex digits.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zoo_protocol::{JobId, NodeId, StorageKind, Tier};
use zoo_state::{Activity, Checkpoint as KeptCheckpoint, Node as KnownNode, Running, State, Stop};

use crate::feed::Item;
use crate::history::{ContributionRecord, JobRecord, RoundRecord, Standing};
use crate::json::Kinds;
use crate::problem::Problem;

/// Rounds whose speed counts as the speed of a job.
const SPEED_ROUNDS: usize = 4;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Others run before it.
    Queued,
    /// Nodes work on it, or are waited for.
    Running,
    /// It waits until it is resumed.
    Paused,
    /// It was trained to its last step.
    Finished,
    /// It will not go on by itself.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// Its budget is used up.
    BudgetUsed,
}

/// A job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Job {
    /// Its id: a digest of all that it is.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where it stands.
    pub state: JobState,
    /// Why it failed or was stopped.
    pub why: Option<String>,
    /// Numeric profile, if the job is still remembered.
    pub profile: Option<String>,
    /// Rounds that are finished.
    pub rounds: u32,
    /// Of these, so many from the first on are final: it is settled what comes of all their windows, and nothing is taken back out of them. Known
    /// while it runs.
    pub final_rounds: Option<u32>,
    /// Rounds that it has, if that can be known before.
    pub of_rounds: Option<u64>,
    /// Inner steps that are done.
    pub steps: u64,
    /// Inner steps that it has.
    pub of_steps: u64,
    /// Tokens that it has been trained on.
    pub tokens: u64,
    /// Tokens at which its budget is used up.
    pub tokens_max: Option<u64>,
    /// Mean training loss of the last finished round, nats per token.
    pub loss: Option<f64>,
    /// The latest evaluation on the held-out text, bits per byte.
    pub bits_per_byte: Option<f64>,
    /// Tokens a second, over the last rounds.
    pub tokens_per_second: Option<f64>,
    /// When it will be done if it goes on like this.
    pub done_ms: Option<u64>,
    /// When it was accepted.
    pub accepted_ms: u64,
    /// When its first round began.
    pub started_ms: Option<u64>,
    /// When it was over.
    pub ended_ms: Option<u64>,
    /// Manifest of the newest checkpoint.
    pub checkpoint: Option<String>,
    /// The storage that it names for its checkpoints, if no node that is here has one: until one comes, others keep them.
    pub storage_missing: Option<&'static str>,
}

impl Job {
    pub(crate) fn of(record: &JobRecord, state: &State) -> Self {
        let (standing, why) = match &record.standing {
            Standing::Queued => (JobState::Queued, None),
            Standing::Running => (JobState::Running, None),
            Standing::Paused => (JobState::Paused, None),
            Standing::Finished => (JobState::Finished, None),
            Standing::Failed(why) => (JobState::Failed, Some(why.clone())),
            Standing::Stopped(why @ Stop::Cancelled) => (JobState::Cancelled, Some(why.to_string())),
            Standing::Stopped(why @ Stop::Budget) => (JobState::BudgetUsed, Some(why.to_string())),
        };
        let description = state.description(&record.id);
        let speed = Speed::of(record);
        let is_running = standing == JobState::Running;
        let steps_left = record.plan.steps.saturating_sub(record.steps);
        let done_ms = speed
            .as_ref()
            .filter(|_| is_running)
            .map(|speed| speed.at_ms.saturating_add((steps_left as f64 / speed.steps_per_ms) as u64));
        Self {
            id: record.id.to_string(),
            name: record.name.clone(),
            state: standing,
            why,
            profile: description.map(|description| description.profile.to_string()),
            rounds: record.finished_rounds,
            final_rounds: state
                .running()
                .filter(|running| running.job == record.id)
                .map(Running::final_rounds),
            of_rounds: record.plan.rounds(),
            steps: record.steps,
            of_steps: record.plan.steps,
            tokens: record.tokens,
            tokens_max: description.and_then(|description| description.tokens_max),
            loss: record
                .rounds
                .iter()
                .rev()
                .find(|round| round.finished_ms.is_some())
                .and_then(RoundRecord::loss),
            bits_per_byte: record.bits_per_byte,
            tokens_per_second: speed.map(|speed| speed.tokens_per_ms * 1000.0),
            done_ms,
            accepted_ms: record.accepted_ms,
            started_ms: record.started_ms,
            ended_ms: record.ended_ms,
            checkpoint: record.checkpoint.map(|checkpoint| checkpoint.to_string()),
            storage_missing: description
                .and_then(|description| description.checkpoints.storage)
                .filter(|storage| !state.has_storage(*storage))
                .map(StorageKind::name),
        }
    }
}

/// How fast a job has been lately.
struct Speed {
    at_ms: u64,
    tokens_per_ms: f64,
    steps_per_ms: f64,
}

impl Speed {
    fn of(record: &JobRecord) -> Option<Self> {
        let finished = record.rounds.iter().rev().filter(|round| round.finished_ms.is_some());
        let last: Vec<&RoundRecord> = finished.take(SPEED_ROUNDS).collect();
        let (newest, oldest) = (last.first()?, last.last()?);
        let at_ms = newest.finished_ms?;
        let elapsed_ms = at_ms.saturating_sub(oldest.started_ms);
        if elapsed_ms == 0 {
            return None;
        }
        let tokens: u64 = last.iter().map(|round| round.tokens).sum();
        let before = record.rounds.iter().rev().find(|round| round.round < oldest.round);
        let steps = newest.step?.saturating_sub(before.and_then(|round| round.step).unwrap_or(0)).max(1);
        let elapsed_ms = elapsed_ms as f64;
        Some(Self {
            at_ms,
            tokens_per_ms: tokens as f64 / elapsed_ms,
            steps_per_ms: steps as f64 / elapsed_ms,
        })
    }
}

/// Some jobs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Jobs {
    /// The newest first.
    pub jobs: Vec<Job>,
    /// Give this as `cursor` for those after; none: these were the last.
    pub next: Option<u64>,
}

/// A round of a job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Round {
    /// Which, from 0.
    pub round: u32,
    /// Times that it was started.
    pub starts: u32,
    /// When training began.
    pub started_ms: u64,
    /// When the contributions were fixed, and aggregation began.
    pub sealed_ms: Option<u64>,
    /// When it was over.
    pub finished_ms: Option<u64>,
    /// Inner steps of the job after it.
    pub step: Option<u64>,
    /// Nodes that it was started with.
    pub participants: u32,
    /// Contributions that were accepted.
    pub contributed: u32,
    /// Contributions that were missed.
    pub missed: u32,
    /// Tokens of the contributions.
    pub tokens: u64,
    /// Tokens a second, from its start to its end.
    pub tokens_per_second: Option<f64>,
    /// Bytes of all updates.
    pub bytes: u64,
    /// Mean training loss, nats per token.
    pub loss: Option<f64>,
    /// Loss on the held-out text after it, nats per token, if it was evaluated.
    pub held_out_loss: Option<f64>,
    /// And bits per byte.
    pub bits_per_byte: Option<f64>,
    /// Manifest of its checkpoint.
    pub checkpoint: Option<String>,
    /// Its contributions, if they were asked for: the first of very many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contributions: Option<Vec<Contribution>>,
}

impl Round {
    pub(crate) fn of(record: &RoundRecord, with_contributions: bool) -> Self {
        let elapsed_ms =
            record.finished_ms.map(|end| end.saturating_sub(record.started_ms)).filter(|ms| *ms > 0);
        let contributions = || record.contributions.iter().map(Contribution::of).collect();
        Self {
            round: record.round,
            starts: record.starts,
            started_ms: record.started_ms,
            sealed_ms: record.sealed_ms,
            finished_ms: record.finished_ms,
            step: record.step,
            participants: record.participants,
            contributed: record.contributed,
            missed: record.missed,
            tokens: record.tokens,
            tokens_per_second: elapsed_ms.map(|ms| record.tokens as f64 * 1000.0 / ms as f64),
            bytes: record.bytes,
            loss: record.loss(),
            held_out_loss: record.held_out_loss,
            bits_per_byte: record.bits_per_byte,
            checkpoint: record.checkpoint.map(|checkpoint| checkpoint.to_string()),
            contributions: with_contributions.then(contributions),
        }
    }
}

/// What a node contributed to a round.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Contribution {
    /// The node.
    pub node: String,
    /// When it was accepted.
    pub at_ms: u64,
    /// Tokens that it was trained on.
    pub tokens: u64,
    /// Mean training loss, nats per token.
    pub loss: f64,
    /// Bytes of its updates.
    pub bytes: u64,
}

impl Contribution {
    fn of(record: &ContributionRecord) -> Self {
        let ContributionRecord { node, at_ms, tokens, loss, bytes } = *record;
        Self { node: node.to_string(), at_ms, tokens, loss, bytes }
    }
}

/// Some rounds of a job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Rounds {
    /// In order.
    pub rounds: Vec<Round>,
    /// Give this as `from` for those after; none: these were the last so far.
    pub next: Option<u32>,
}

/// A node that has joined at least once.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Node {
    /// Its key.
    pub id: String,
    /// What it calls itself.
    pub name: String,
    /// Where it says it is.
    pub region: String,
    /// Whether it is here.
    pub live: bool,
    /// Whether only its peers hear it at the moment.
    pub suspected: bool,
    /// What it is doing: away, waiting, training, aggregating, evaluating or verifying.
    pub activity: &'static str,
    /// Threads that it computes with.
    pub threads: u16,
    /// Memory that it offers, MiB.
    pub memory_mib: u64,
    /// Instruction set of its kernels.
    pub isa: String,
    /// What it stores checkpoints in beside its own disk: dir, s3, ipfs or car.
    pub storage: Option<&'static str>,
    /// Version of its software.
    pub software: String,
    /// What it says it is worth in `f32-exact`, tokens a second on the benchmark network.
    pub speed_f32_exact: u32,
    /// And in `bf16-exact`.
    pub speed_bf16_exact: u32,
    /// What it is taken for, by what the network measured: community, bronze, silver or gold.
    pub tier: &'static str,
    /// Tokens a second on the benchmark network that the network measured in `f32-exact`.
    pub measured_f32_exact: Option<u32>,
    /// And in `bf16-exact`.
    pub measured_bf16_exact: Option<u32>,
    /// And of a walk over its memory, MiB a second.
    pub measured_memory_mib_per_s: Option<u32>,
    /// What its transfers said of its link, KiB a second.
    pub upload_kib_per_s: Option<u32>,
    /// And how long an answer takes, ms.
    pub rtt_ms: Option<u32>,
    /// Contributions that were accepted.
    pub contributions: u64,
    /// Of those, how many went into a finished round.
    pub rounds: u64,
    /// Tokens of those.
    pub tokens: u64,
    /// Rounds that went on without it.
    pub missed: u64,
    /// Checkpoints that it reported and that were agreed on.
    pub aggregations: u64,
    /// Held-out shards that it evaluated.
    pub shards: u64,
    /// Times that it did what no honest node does.
    pub faults: u64,
    /// Windows of its that others trained again to the same outcome.
    pub verified: u64,
    /// Windows of others that it trained again to what turned out to be right.
    pub verifications: u64,
    /// Windows, or verdicts on others', that turned out to be wrong.
    pub convictions: u64,
    /// What its last heartbeat said, while it is here.
    pub status: Option<NodeStatus>,
}

/// A node's heartbeat.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct NodeStatus {
    /// Inner step within its window.
    pub step: u32,
    /// Loss of that step, nats per token.
    pub loss: f32,
    /// Tokens a second.
    pub tokens_per_second: u32,
    /// Bytes of blobs sent since its process began.
    pub sent_bytes: u64,
    /// Bytes of blobs received since.
    pub received_bytes: u64,
}

impl Node {
    pub(crate) fn of(
        id: &NodeId,
        node: &KnownNode,
        (suspected, activity): (bool, Activity),
        status: Option<NodeStatus>,
    ) -> Self {
        let (profile, account, measured) = (&node.profile, &node.account, node.measured.as_ref());
        Self {
            id: id.to_string(),
            name: profile.name.clone(),
            region: profile.region.clone(),
            live: node.live,
            suspected,
            activity: activity.word(),
            threads: profile.threads,
            memory_mib: profile.memory_mib,
            isa: profile.isa.clone(),
            storage: profile.storage.map(StorageKind::name),
            software: profile.software.clone(),
            speed_f32_exact: profile.speeds.f32_exact,
            speed_bf16_exact: profile.speeds.bf16_exact,
            tier: node.rating.map_or(Tier::Community, |rating| rating.tier).word(),
            measured_f32_exact: node.rating.map(|rating| rating.speeds.f32_exact),
            measured_bf16_exact: node.rating.map(|rating| rating.speeds.bf16_exact),
            measured_memory_mib_per_s: node.rating.map(|rating| rating.memory_mib_per_s),
            upload_kib_per_s: measured.map(|measured| measured.link.upload_kib_per_s),
            rtt_ms: measured.map(|measured| measured.link.rtt_ms),
            contributions: account.contributions,
            rounds: account.rounds,
            tokens: account.tokens,
            missed: account.missed,
            aggregations: account.aggregations,
            shards: account.shards,
            faults: account.faults,
            verified: account.verified,
            verifications: account.verifications,
            convictions: account.convictions,
            status: status.filter(|_| node.live),
        }
    }
}

/// Some nodes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Nodes {
    /// Ordered by id.
    pub nodes: Vec<Node>,
    /// Give this as `cursor` for those after; none: these were the last.
    pub next: Option<String>,
    /// Nodes that are here.
    pub live: usize,
    /// Nodes that ever joined.
    pub known: usize,
}

/// A checkpoint that is kept.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Checkpoint {
    /// Of which job.
    pub job: String,
    /// The round that ended with it.
    pub round: u32,
    /// Its manifest.
    pub digest: String,
    /// How many nodes are to keep it.
    pub redundancy: u32,
    /// Nodes that hold it, and are here.
    pub holders: Vec<String>,
    /// Nodes that were asked to keep it, and have not said yet that they do.
    pub asked: Vec<String>,
}

impl Checkpoint {
    pub(crate) fn of(job: &JobId, round: u32, redundancy: u32, kept: &KeptCheckpoint, state: &State) -> Self {
        let asked = kept.keepers.iter().filter(|(_, keeper)| !keeper.holds());
        Self {
            job: job.to_string(),
            round,
            digest: kept.digest.to_string(),
            redundancy,
            holders: state.holders(&kept.digest).iter().map(NodeId::to_string).collect(),
            asked: asked.map(|(node, _)| node.to_string()).collect(),
        }
    }
}

/// The checkpoints that are kept.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Checkpoints {
    /// By job and round.
    pub checkpoints: Vec<Checkpoint>,
}

/// How far the journal is.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Journal {
    /// Commands so far.
    pub commands: u64,
    /// Events so far.
    pub events: u64,
    /// Root of the state after the latest command: equal wherever the same journal is replayed.
    #[schema(value_type = String)]
    pub root: zoo_content::Digest,
}

/// An event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Event {
    /// Its number, in the order of all events.
    pub id: u64,
    /// What kind of event it is.
    #[schema(example = "round_finished")]
    pub event: String,
    /// What there is to say of it: `event` again, `at_ms`, and what depends on the kind.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}

impl Event {
    pub(crate) fn of(item: &Item) -> Result<Self, Problem> {
        let data = serde_json::from_str(&item.text).map_err(Problem::internal)?;
        Ok(Self { id: item.sequence, event: item.kind.to_string(), data })
    }
}

/// Some events of a job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Events {
    /// In order.
    pub events: Vec<Event>,
    /// Give this as `from` for those after; none: these were the last so far.
    pub next: Option<u64>,
}

/// Whether the orchestrator works.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Health {
    /// It does.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// Version of its software.
    pub version: &'static str,
}

/// Text that was uploaded.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Text {
    /// What a job's `data` names it by.
    #[schema(example = "text:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub data: String,
    /// Its size.
    pub bytes: u64,
}

/// A file of a model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ModelFile {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// A job's model, as the folder that Hugging Face's libraries read.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Model {
    /// Manifest of the checkpoint that it is.
    pub checkpoint: String,
    /// Its files; each is at `/v1/jobs/{id}/model/{name}`.
    pub files: Vec<ModelFile>,
}

/// Which jobs to list.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobsPage {
    /// From where on: `next` of the answer before.
    pub cursor: Option<u64>,
    /// How many at most: 1 to 200, 50 if it is not said.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<usize>,
    /// Only those that stand here.
    #[param(inline)]
    pub state: Option<JobState>,
}

/// Which nodes to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NodesPage {
    /// From where on: `next` of the answer before.
    pub cursor: Option<String>,
    /// How many at most: 1 to 10000, 1000 if it is not said.
    #[param(minimum = 1, maximum = 10000)]
    pub limit: Option<usize>,
    /// Only those that are here, or that are not.
    pub live: Option<bool>,
}

/// Which rounds to list.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RoundsPage {
    /// The first one; the first that is known if it is not said.
    pub from: Option<u32>,
    /// How many at most: 1 to 4096, 1000 if it is not said.
    #[param(minimum = 1, maximum = 4096)]
    pub limit: Option<usize>,
    /// With the contributions to each.
    #[serde(default)]
    pub contributions: bool,
}

/// Which events to list.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsPage {
    /// Number of the first event wanted; the one that accepted the job if it is not said.
    pub from: Option<u64>,
    /// How many at most: 1 to 1000, 100 if it is not said.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
}

/// Which of a job's models is meant.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ModelAt {
    /// Manifest of the checkpoint; the newest if it is not said.
    pub checkpoint: Option<String>,
}

/// From where on to watch what.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Watched {
    /// Number of the first event wanted; without it, and without the header `Last-Event-ID`, all from the first on.
    pub from: Option<u64>,
    /// Kinds of events that are wanted, separated by commas; without it all.
    #[param(value_type = Option<Vec<String>>, style = Form, explode = false)]
    pub kinds: Option<Kinds>,
}

/// From where on to watch.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WatchFrom {
    /// Number of the first event wanted; without it, and without the header `Last-Event-ID`, all from the first on.
    pub from: Option<u64>,
}
