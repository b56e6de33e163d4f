//! The shell around the agent: sockets, disk, threads, time.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::warn;
use zoo_agent::needs::{self, BlobKind, Need};
use zoo_agent::{Agent, Effect, Input};
use zoo_content::{BlobStore, Digest, VerifiedBlob};
use zoo_kernels::isa::{self, Isa};
use zoo_network::{BindOptions, Endpoint, FetchError, FetchFailure, Ticket, Traffic};
use zoo_protocol::{Challenge, JobId, Peer, RefusedSummand, Report, Role, ToOrchestrator, VERSION};
use zoo_storage::Address;
use zoo_tasks::TaskError;
use zoo_training::Manifest;

use crate::PNodeError;
use crate::backoff;
use crate::connection::{Connection, News};
use crate::event::{EventSink, PNodeEvent};
use crate::home::Home;
use crate::keeping;
use crate::papers::Papers;
use crate::profile::{self, About, MemoryLimit};
use crate::progress::Progress;
use crate::storing::{Storing, StoringOptions};
use crate::worker::{self, Worker};
use zoo_agent::rounds::Retention;

/// Inputs that wait for the agent; their senders wait beyond that.
const INPUTS_MAX: usize = 256;
/// Reports that wait for the connection. More are dropped: the agent repeats what matters.
const REPORTS_MAX: usize = 16;
/// Longest wait before failed work is tried again.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(30);
/// A person sees progress so often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// Saying goodbye takes at most this long, and so does the last step of a task.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(400);

/// Bytes of a KiB.
const KIB: NonZero<u64> = NonZero::new(1 << 10).expect("it is not zero");

/// How a PNode runs.
#[derive(Clone)]
pub struct PNodeOptions {
    /// Where it keeps its key and its blobs.
    pub directory: PathBuf,
    /// The orchestrator.
    pub ticket: Ticket,
    /// Where it listens for peers that fetch its blobs; port 0 takes any free port.
    pub listen: SocketAddr,
    /// A name for people, at most 64 bytes.
    pub name: String,
    /// Threads it computes with; `None` takes all there are.
    pub threads: Option<NonZero<u16>>,
    /// Where it is, in words that its network agrees on; empty for anywhere.
    pub region: String,
    /// Blobs that it may send, KiB a second; `None` sends as fast as it can.
    pub max_upload_kib_per_s: Option<NonZero<u32>>,
    /// Memory that its work may take, MiB; `None` takes what there is.
    pub max_memory_mib: Option<u64>,
    /// Where every checkpoint goes that the node is asked to keep, besides its own disk; `None` is nowhere.
    pub storage: Option<Address>,
    /// Instruction set of the kernels, for the whole process; `None` takes the widest.
    pub isa: Option<Isa>,
    /// A file in which an operator vouches for the node; it is read again when it changes. Without, nobody does.
    pub credential: Option<PathBuf>,
    /// A file with what the node's hardware vouches for.
    pub evidence: Option<PathBuf>,
    /// Digest of the software that runs, which a credential has to name; `None`: that is not known here.
    pub binary: Option<Digest>,
    /// How many rounds' blobs it keeps.
    pub retention: Retention,
    /// Is told what is worth showing.
    pub events: EventSink,
}

/// Runs a PNode until `shutdown` completes: joins, fetches, computes, reports, serves.
///
/// Lost connections, failed fetches and failed tasks are tried again for as long as it takes; a
/// full disk is reported to the orchestrator and waited out. On shutdown the node says goodbye and
/// returns within a second; a step that takes longer is left to end by itself. Dropping the future
/// ends the node without a goodbye.
///
/// # Errors
/// What cannot be tried again: a directory, a socket or a machine that cannot be used, and an
/// orchestrator that does not accept the node.
pub async fn run(options: PNodeOptions, shutdown: impl Future<Output = ()>) -> Result<(), PNodeError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut node = tokio::select! {
        node = Node::start(options) => node?,
        () = &mut shutdown => return Ok(()),
    };
    let result = node.run(shutdown).await;
    node.stop().await;
    result
}

/// A running PNode.
struct Node {
    agent: Agent,
    home: Arc<Home>,
    endpoint: Endpoint,
    worker: Worker,
    progress: Arc<Progress>,
    events: EventSink,
    inputs: mpsc::Receiver<Input>,
    inputs_sender: mpsc::Sender<Input>,
    news: mpsc::Receiver<News>,
    reports: mpsc::Sender<Report>,
    leaving: watch::Sender<bool>,
    /// Ends when the node has left, or must.
    connection: JoinSet<Result<(), PNodeError>>,
    /// Fetches and waits.
    errands: JoinSet<()>,
    fetches: BTreeMap<Digest, AbortHandle>,
    /// What the orchestrator asks to keep.
    keeps: BTreeMap<(JobId, u32), Digest>,
    /// The checkpoints of which nothing may be removed, once that is known.
    held: Option<BTreeSet<Digest>>,
    storing: Option<Storing>,
    /// A checkpoint is no longer on its way to the storage.
    settled: Arc<Notify>,
}

impl Node {
    async fn start(options: PNodeOptions) -> Result<Self, PNodeError> {
        let PNodeOptions { directory, ticket, listen, isa, retention, events, storage, .. } = options;
        let PNodeOptions { name, region, threads, max_memory_mib, max_upload_kib_per_s, .. } = options;
        let PNodeOptions { credential, evidence, binary, .. } = options;
        let upload_kib_per_s = max_upload_kib_per_s.map_or(0, NonZero::get);
        let about =
            About { name, region, upload_kib_per_s, storage: storage.as_ref().map(crate::storing::kind_of) };
        let memory = MemoryLimit(max_memory_mib);
        if let Some(isa) = isa {
            isa::force(isa).map_err(|cause| PNodeError::Compute(cause.to_string()))?;
        }
        let home = Arc::new(Home::open(&directory, retention)?);
        let threads = threads.map_or_else(profile::all_threads, |threads| threads.get());
        let pool = worker::pool(threads.into())?;
        let profile = {
            let pool = pool.clone();
            spawn_blocking(move || profile::measure(about, threads, memory, &pool)).await
        };
        let profile = profile.map_err(|panic| PNodeError::Compute(panic.to_string()))??;

        let endpoint =
            Endpoint::bind(BindOptions { key: home.key(), listen, relay: ticket.relay.as_ref() }).await?;
        let store: Arc<dyn BlobStore> = home.store().clone();
        endpoint.limit_upload(max_upload_kib_per_s.map(|kib| NonZero::<u64>::from(kib).saturating_mul(KIB)));
        endpoint.serve_blobs(store);
        let addresses = endpoint.addresses();
        events(PNodeEvent::Ready {
            node: endpoint.id(),
            addresses: addresses.clone(),
            profile: profile.clone(),
        });

        let settled = Arc::new(Notify::new());
        let storing = storage.map(|address| {
            let (home, endpoint, events) = (home.clone(), endpoint.clone(), events.clone());
            let (orchestrator, settled) = (ticket.peer(), settled.clone());
            Storing::start(StoringOptions { address, home, endpoint, orchestrator, events, settled })
        });
        let (inputs_sender, inputs) = mpsc::channel(INPUTS_MAX);
        let (reports, outgoing) = mpsc::channel(REPORTS_MAX);
        let (news_sender, news) = mpsc::channel(INPUTS_MAX);
        let (leaving, told_to_leave) = watch::channel(false);
        let progress = Arc::new(Progress::default());
        let worker = Worker::start(home.clone(), pool, memory, progress.clone(), inputs_sender.clone())?;
        let network = ticket.node;
        let mut connection = JoinSet::new();
        connection.spawn(
            Connection {
                endpoint: endpoint.clone(),
                ticket,
                hello: ToOrchestrator::Hello { version: VERSION, role: Role::Worker { profile, addresses } },
                progress: progress.clone(),
                reports: outgoing,
                news: news_sender,
                leaving: told_to_leave,
                papers: Papers::new(credential, evidence, binary),
            }
            .run(),
        );
        Ok(Self {
            agent: Agent::new(home.key().clone(), network),
            home,
            endpoint,
            worker,
            progress,
            events,
            inputs,
            inputs_sender,
            news,
            reports,
            leaving,
            connection,
            errands: JoinSet::new(),
            fetches: BTreeMap::new(),
            keeps: BTreeMap::new(),
            held: None,
            storing: storing.transpose()?,
            settled,
        })
    }

    async fn run(&mut self, mut shutdown: impl Future<Output = ()> + Unpin) -> Result<(), PNodeError> {
        let mut show_progress = interval(PROGRESS_INTERVAL);
        show_progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shown = Traffic::default();
        loop {
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                Some(ended) = self.connection.join_next() => {
                    return ended.expect("the connection's task neither panics nor is aborted");
                }
                Some(news) = self.news.recv() => self.hear(news),
                Some(input) = self.inputs.recv() => self.handle(input),
                Some(_) = self.errands.join_next() => {}
                () = self.settled.notified() => self.let_go(),
                _ = show_progress.tick() => {
                    let snapshot = self.progress.snapshot();
                    if snapshot.step > 0 {
                        (self.events)(PNodeEvent::Progress(snapshot));
                    }
                    let traffic = self.endpoint.traffic();
                    if traffic != shown {
                        shown = traffic;
                        (self.events)(PNodeEvent::Traffic(traffic));
                    }
                }
            }
        }
    }

    /// Says goodbye and frees everything, in bounded time.
    async fn stop(mut self) {
        self.storing = None;
        self.errands.shutdown().await;
        self.leaving.send_replace(true);
        self.worker.cancel();
        let goodbye = async {
            while self.connection.join_next().await.is_some() {}
            self.endpoint.close().await;
        };
        if timeout(GOODBYE_TIMEOUT, goodbye).await.is_err() {
            warn!("left without the orchestrator's acknowledgement");
        }
        let Self { worker, .. } = self;
        let _ = spawn_blocking(move || worker.stop(GOODBYE_TIMEOUT)).await;
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Connected(orchestrator) => {
                (self.events)(PNodeEvent::Connected { orchestrator });
                self.handle(Input::Connected);
            }
            News::Disconnected { cause, retry_in } => {
                (self.events)(PNodeEvent::Disconnected { cause, retry_in });
                self.handle(Input::Disconnected);
            }
            News::Trusted => (self.events)(PNodeEvent::Trusted),
            News::Distrusted(why) => (self.events)(PNodeEvent::Distrusted(why)),
            News::Work { work, peers } => {
                if *work != *self.agent.work() {
                    (self.events)(PNodeEvent::WorkChanged((*work).clone()));
                }
                self.handle(Input::WorkChanged { work, peers });
            }
            News::Keep { keeps, peers } => {
                self.keeps = keeps.iter().map(|keep| ((keep.job, keep.round), keep.checkpoint)).collect();
                (self.events)(PNodeEvent::KeepsChanged(keeps.clone()));
                self.handle(Input::KeepsChanged { keeps, peers });
            }
            News::Standing(standing) => (self.events)(PNodeEvent::StandingChanged(standing)),
        }
    }

    fn handle(&mut self, input: Input) {
        match &input {
            Input::Fetched { digest, .. } => {
                self.fetches.remove(digest);
            }
            Input::FetchFailed { digest, reason, .. } => {
                self.fetches.remove(digest);
                (self.events)(PNodeEvent::Trouble(reason.clone()));
            }
            Input::TaskFailed { reason, .. } => (self.events)(PNodeEvent::Trouble(reason.clone())),
            _ => {}
        }
        for effect in self.agent.handle(input) {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Fetch { digest, need, sources } => self.fetch(digest, need, sources),
            Effect::Forget(digest) => {
                if let Some(fetch) = self.fetches.remove(&digest) {
                    fetch.abort();
                }
            }
            Effect::Run { assignment, task } => {
                (self.events)(PNodeEvent::Started(self.agent.work().clone()));
                self.worker.run(assignment, task);
            }
            Effect::Cancel => self.worker.cancel(),
            Effect::RetryAfter { assignment, failures } => {
                let wait = backoff::wait(failures, RETRY_WAIT_MAX);
                let inputs = self.inputs_sender.clone();
                self.errands.spawn(async move {
                    sleep(wait).await;
                    let _ = inputs.send(Input::Retry(assignment)).await;
                });
            }
            Effect::Hold { checkpoint, blobs } => {
                self.home.hold(checkpoint, blobs);
                self.write_down_and_remove(BTreeSet::new());
            }
            Effect::HoldOnly(held) => {
                self.held = Some(held);
                self.let_go();
            }
            Effect::RetryKeepAfter { failures } => {
                let wait = backoff::wait(failures, RETRY_WAIT_MAX);
                let inputs = self.inputs_sender.clone();
                self.errands.spawn(async move {
                    sleep(wait).await;
                    let _ = inputs.send(Input::RetryKeep).await;
                });
            }
            Effect::Prove { job, round, challenge } => self.prove(job, round, challenge),
            Effect::Report(report) => {
                if let Report::Refused { round, summands, .. } = &report {
                    for RefusedSummand { maker, reason, .. } in summands {
                        warn!(%maker, round, reason, "contribution refused");
                    }
                }
                if let (Report::Kept { job, round, .. }, Some(storing)) = (&report, &self.storing)
                    && let Some(checkpoint) = self.keeps.get(&(*job, *round))
                {
                    storing.kept(*job, *round, *checkpoint);
                }
                (self.events)(PNodeEvent::Reported(report.clone()));
                if self.reports.try_send(report).is_err() {
                    warn!("the connection is behind; the report is repeated after the next reconnect");
                }
            }
        }
    }

    /// Removes what belongs only to checkpoints that nobody asks for any more, nor are on their way to the storage.
    fn let_go(&mut self) {
        let Some(mut held) = self.held.clone() else { return };
        let underway = self.storing.as_ref().and_then(|storing| storing.keep_only(&held));
        held.extend(underway);
        self.write_down_and_remove(self.home.hold_only(&held));
    }

    /// What cannot be written down now is with the next change.
    fn write_down_and_remove(&mut self, gone: BTreeSet<Digest>) {
        let home = self.home.clone();
        self.errands.spawn(async move {
            if let Ok(Err(cause)) = spawn_blocking(move || home.write_down_and_remove(gone)).await {
                warn!(%cause, "what this node keeps is not written down");
            }
        });
    }

    fn prove(&mut self, job: JobId, round: u32, challenge: Challenge) {
        let (home, inputs) = (self.home.clone(), self.inputs_sender.clone());
        self.errands.spawn(async move {
            let proof = spawn_blocking(move || keeping::prove(&home, &challenge)).await;
            let proof = proof.expect("reading and hashing do not panic");
            let _ = inputs.send(Input::Proved { job, round, nonce: challenge.nonce, proof }).await;
        });
    }

    fn fetch(&mut self, digest: Digest, need: Need, sources: Vec<Peer>) {
        let noted_for = if need.kind.is_kept() { None } else { needs::round_of(self.agent.work()) };
        if self.fetches.contains_key(&digest) {
            // Under way for work or to be kept, and now needed for the other as well.
            return noted_for.into_iter().for_each(|(job, round)| self.home.note(job, round, digest));
        }
        let fetch = Fetch {
            home: self.home.clone(),
            endpoint: self.endpoint.clone(),
            noted_for,
            digest,
            need,
            sources,
        };
        let inputs = self.inputs_sender.clone();
        let handle = self.errands.spawn(async move {
            let input = match fetch.run().await {
                Ok(lists) => Input::Fetched { digest, lists },
                Err(Failure { reason, wrong }) => Input::FetchFailed { digest, reason, wrong },
            };
            let _ = inputs.send(input).await;
        });
        self.fetches.insert(digest, handle);
    }
}

/// Why a blob is not to be had.
struct Failure {
    reason: String,
    /// As in [`Input::FetchFailed`].
    wrong: Option<String>,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, wrong: None }
    }
}

/// One blob to be had.
struct Fetch {
    home: Arc<Home>,
    endpoint: Endpoint,
    /// The round that uses it, unless it is fetched to be kept.
    noted_for: Option<(JobId, u32)>,
    digest: Digest,
    need: Need,
    sources: Vec<Peer>,
}

impl Fetch {
    /// Returns when the store holds the blob; what it lists, if it is a manifest.
    async fn run(self) -> Result<Vec<(Digest, u64)>, Failure> {
        // Before looking, so that it is not tidied away in between.
        if let Some((job, round)) = self.noted_for {
            self.home.note(job, round, self.digest);
        }
        let held = if self.need.kind.is_kept() {
            let (home, digest) = (self.home.clone(), self.digest);
            spawn_blocking(move || keeping::is_whole(&home, &digest))
                .await
                .map_err(|panic| panic.to_string())?
        } else {
            self.home.store().contains(&self.digest)
        };
        if !held {
            let (sources, max_bytes, store) = (&self.sources, self.need.max_bytes, self.home.store());
            let fetched = self.endpoint.fetch_resumably(sources, &self.digest, max_bytes, store).await;
            let fetched = fetched
                .map_err(|cause| Failure { wrong: self.wrong_answer(&cause), ..cause.to_string().into() })?;
            self.keep(fetched).await?;
        }
        if self.need.kind.is_manifest() { Ok(self.read_manifest().await?) } else { Ok(Vec::new()) }
    }

    /// What the maker of an update answered that no maker should: everything else may come right.
    fn wrong_answer(&self, cause: &FetchError) -> Option<String> {
        let BlobKind::Update(maker) = self.need.kind else { return None };
        let is_wrong = |failure: &FetchFailure| {
            matches!(
                failure,
                FetchFailure::TooLarge { .. } | FetchFailure::False(_) | FetchFailure::Protocol(_)
            )
        };
        let mut answers = cause.attempts.iter().filter(|(node, _)| *node == maker);
        answers.find(|(_, failure)| is_wrong(failure)).map(|(_, failure)| failure.to_string())
    }

    async fn keep(&self, blob: VerifiedBlob) -> Result<(), String> {
        let store = self.home.store().clone();
        let kept = spawn_blocking(move || store.keep(&blob)).await;
        kept.map_err(|panic| panic.to_string())?.map(|_| ()).map_err(|cause| cause.to_string())
    }

    async fn read_manifest(self) -> Result<Vec<(Digest, u64)>, String> {
        let read = spawn_blocking(move || {
            let read = Manifest::load(self.home.store().as_ref(), &self.digest).map_err(TaskError::from);
            read.inspect_err(|cause| self.home.remove_if_corrupt(cause))
        });
        let manifest = read.await.map_err(|panic| panic.to_string())?.map_err(|cause| cause.to_string())?;
        Ok(manifest.blobs().map(|blob| (blob.digest, blob.bytes)).collect())
    }
}
