//! Conversations with workers and clients, each in a task of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};
use zoo_content::{BlobStore, Digest};
use zoo_network::{
    Allowance, ControlConnection, ControlReceiver, ControlSender, ControlStream, Endpoint, NetworkError,
};
use zoo_protocol::limits::{MAX_PEERS, reason};
use zoo_protocol::{
    Declaration, FromOrchestrator, JobDescription, NodeId, Peer, Rejection, Role, ToOrchestrator, VERSION,
};
use zoo_state::{LossCause, Refusal};

use crate::copies::Copies;
use crate::evidence::{EvidenceCheck, Whose};
use crate::host::{Assignment, HostHandle, Input, Joined, SessionId};
use crate::{intake, watching};

/// A caller says who it is within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Who does not take a message within this time is let go.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// A client asks for something within this time.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);
/// Clients that watch at once.
pub(crate) const WATCHERS_MAX: usize = 256;
/// Bytes a second that a worker is heard with, after [`HEARD_AT_ONCE`].
const HEARD_PER_S: f64 = (128 << 10) as f64;
/// See [`HEARD_PER_S`].
const HEARD_AT_ONCE: f64 = (8 << 20) as f64;
/// A message counts for so many bytes more than it has: what it costs to be heard at all.
const HEARD_EACH: f64 = (4 << 10) as f64;

pub(crate) type Sender = ControlSender<FromOrchestrator>;
pub(crate) type Receiver = ControlReceiver<ToOrchestrator>;
type Stream = ControlStream<FromOrchestrator, ToOrchestrator>;

/// What every session uses.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) host: HostHandle,
    pub(crate) endpoint: Endpoint,
    pub(crate) store: Arc<dyn BlobStore>,
    /// Copies of the journal for clients.
    pub(crate) copies: Arc<Copies>,
    /// Submissions whose blobs are fetched at once.
    pub(crate) intakes: Arc<Semaphore>,
    /// Clients that watch at once.
    pub(crate) watchers: Arc<Semaphore>,
    /// Who says what evidence of hardware shows.
    pub(crate) evidence: Option<EvidenceCheck>,
}

/// Why a session ended before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("did not take a message in {} s", SEND_TIMEOUT.as_secs())]
    Slow,
    #[error(transparent)]
    Journal(#[from] crate::JournalError),
    #[error("the orchestrator is stopping")]
    Stopping,
    #[error("asked for nothing in {} s", CLIENT_PATIENCE.as_secs())]
    Idle,
}

impl Context {
    /// One conversation from its first message to its end.
    pub(crate) async fn converse(self, (node, mut stream): ControlConnection) {
        let outcome = match timeout(HELLO_TIMEOUT, stream.recv()).await {
            Err(_) => return reject(stream, "no hello in time").await,
            Ok(Ok(None)) => return,
            Ok(Ok(Some(ToOrchestrator::Hello { version, role }))) if version == VERSION => match role {
                Role::Worker { profile, addresses } => {
                    let (reply, joined) = oneshot::channel();
                    let input = Input::Join { node, profile, addresses, reply };
                    self.serve_worker(node, stream, self.ask(input, joined).await).await
                }
                Role::Client => self.serve_client(node, stream).await,
            },
            Ok(Ok(Some(ToOrchestrator::Hello { version, .. }))) => {
                let rejection = Rejection::Version { ours: VERSION, theirs: version };
                return reject_with(stream, rejection).await;
            }
            Ok(Ok(Some(_))) => return reject(stream, "the first message must be a hello").await,
            Ok(Err(cause)) => {
                if is_no_message(&cause) {
                    warn!(%node, %cause, "message refused");
                }
                let text = format!("the first message is not understood by version {VERSION}: {cause}");
                return reject(stream, text).await;
            }
        };
        match outcome {
            Err(SessionError::Network(cause)) if is_no_message(&cause) => {
                warn!(%node, %cause, "message refused")
            }
            Err(cause) => debug!(%node, %cause, "session ended"),
            Ok(()) => {}
        }
    }

    async fn serve_worker(
        &self,
        node: NodeId,
        mut stream: Stream,
        joined: Result<Joined, Rejection>,
    ) -> Result<(), SessionError> {
        let Joined { session, assignments, probes } = match joined {
            Ok(joined) => joined,
            Err(rejection) => {
                reject_with(stream, rejection).await;
                return Ok(());
            }
        };
        let welcomed = send_within(stream.send(&self.welcome())).await;
        let (sender, receiver) = stream.split();
        let (heard, quiet_until) = (Allowance::new(HEARD_PER_S, HEARD_AT_ONCE, Instant::now()), None);
        let mut worker = Worker {
            context: self,
            node,
            session,
            sender,
            receiver,
            assignments,
            probes,
            heard,
            quiet_until,
            has_shown: false,
        };
        let outcome = match welcomed {
            Ok(()) => worker.run().await,
            Err(cause) => Err(cause),
        };
        let cause = if let Ok(Parting::Left) = outcome { LossCause::Left } else { LossCause::Disconnected };
        // A host that is gone needs no news.
        let _ = self.host.inputs.send(Input::Gone { node, session, cause }).await;
        worker.sender.close().await;
        outcome.map(|_| ())
    }

    async fn serve_client(&self, node: NodeId, mut stream: Stream) -> Result<(), SessionError> {
        send_within(stream.send(&self.welcome())).await?;
        let (mut sender, mut receiver) = stream.split();
        loop {
            let asked = timeout(CLIENT_PATIENCE, receiver.recv()).await.map_err(|_| SessionError::Idle)?;
            let answer = match asked? {
                None | Some(ToOrchestrator::Leave) => break,
                Some(ToOrchestrator::Watch { from }) => {
                    let Ok(_place) = self.watchers.try_acquire() else {
                        let why = format!(
                            "{WATCHERS_MAX} clients watch already\nhint: try again later, or watch over HTTP"
                        );
                        let rejection = Rejection::Busy(reason(why));
                        send(&mut sender, &FromOrchestrator::Rejected(rejection)).await?;
                        break;
                    };
                    let watched = watching::watch(&self.host, from, &mut sender, &mut receiver).await;
                    sender.close().await;
                    return watched;
                }
                Some(ToOrchestrator::Submit { job, blobs, addresses }) => {
                    let submitter = Peer { node, addresses };
                    tokio::select! {
                        answer = self.submit(submitter, *job, blobs) => answer,
                        // The client has left, or does not wait for its turn.
                        _ = receiver.recv() => break,
                    }
                }
                Some(ToOrchestrator::Journal) => match self.copies.latest().await {
                    Ok(copy) => copy,
                    Err(cause) => {
                        warn!(cause, "the journal cannot be copied");
                        FromOrchestrator::Refused(reason(cause))
                    }
                },
                Some(ToOrchestrator::Declare(declaration)) => {
                    // One a conversation: a stranger's signatures cost time.
                    let answer = self.declare(*declaration).await;
                    send(&mut sender, &answer).await?;
                    break;
                }
                Some(_) => FromOrchestrator::Rejected(Rejection::Invalid("not for clients".into())),
            };
            send(&mut sender, &answer).await?;
        }
        sender.close().await;
        Ok(())
    }

    async fn submit(&self, submitter: Peer, job: JobDescription, blobs: Vec<Digest>) -> FromOrchestrator {
        let named = [job.program, job.initial, job.training_data, job.held_out_data];
        let wanted = named.into_iter().chain(blobs).collect();
        let _permit = self.intakes.acquire().await;
        if let Err(cause) = intake::pull(&self.endpoint, &self.store, &submitter, wanted).await {
            warn!(node = %submitter.node.short(), cause, "job refused");
            return FromOrchestrator::Refused(reason(cause));
        }
        match self.host.submit(job).await {
            Ok(id) => FromOrchestrator::Accepted(id),
            Err(cause) => FromOrchestrator::Refused(reason(cause)),
        }
    }

    /// Brings what a key says about keys, if its seals hold, to the state machine, which judges the rest.
    async fn declare(&self, declaration: Declaration) -> FromOrchestrator {
        if let Err(cause) = declaration.check_seals() {
            return FromOrchestrator::Distrusted(reason(cause));
        }
        self.done(|reply| Input::Declared { declaration, reply }).await
    }

    /// Has what a node shows of its hardware checked, and keeps it if it shows something.
    async fn attest(&self, node: NodeId, session: SessionId, evidence: Vec<u8>) -> FromOrchestrator {
        let Some(check) = self.evidence.clone() else {
            let why = "this network goes by no evidence of hardware\nhint: its owner says which software counts with zoo up --accept-software";
            return FromOrchestrator::Distrusted(reason(why));
        };
        let (network, store) = (self.endpoint.id(), self.store.clone());
        let checked = spawn_blocking(move || {
            let attestation = check.check(&evidence, Whose { network, node })?;
            // Who doubts it later can check it again.
            store.put(&evidence).map_err(|cause| cause.to_string())?;
            Ok(attestation)
        });
        match checked.await.unwrap_or_else(|cause| Err(cause.to_string())) {
            Ok(attestation) => self.done(|reply| Input::Attested { node, session, attestation, reply }).await,
            Err(cause) => {
                info!(%node, cause, "evidence refused");
                FromOrchestrator::Distrusted(reason(cause))
            }
        }
    }

    async fn done(
        &self,
        input: impl FnOnce(oneshot::Sender<Result<(), Refusal>>) -> Input,
    ) -> FromOrchestrator {
        let (reply, answer) = oneshot::channel();
        if self.host.inputs.send(input(reply)).await.is_err() {
            return FromOrchestrator::Rejected(Rejection::Busy(reason(SessionError::Stopping)));
        }
        match answer.await {
            Ok(Ok(())) => FromOrchestrator::Declared,
            Ok(Err(refusal @ Refusal::NotNow(_))) => {
                FromOrchestrator::Rejected(Rejection::Busy(reason(refusal)))
            }
            Ok(Err(refusal)) => FromOrchestrator::Distrusted(reason(refusal)),
            Err(_) => FromOrchestrator::Rejected(Rejection::Busy(reason(SessionError::Stopping))),
        }
    }

    async fn ask<T>(
        &self,
        input: Input,
        answer: oneshot::Receiver<Result<T, Rejection>>,
    ) -> Result<T, Rejection> {
        let stopping = || Rejection::Busy(reason(SessionError::Stopping));
        self.host.inputs.send(input).await.map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    fn welcome(&self) -> FromOrchestrator {
        let peers = self.host.peers.borrow().iter().take(MAX_PEERS).cloned().collect();
        FromOrchestrator::Welcome { peers }
    }
}

/// A worker's session after its welcome.
struct Worker<'a> {
    context: &'a Context,
    node: NodeId,
    session: crate::host::SessionId,
    sender: Sender,
    receiver: Receiver,
    assignments: tokio::sync::watch::Receiver<Assignment>,
    probes: tokio::sync::mpsc::Receiver<Peer>,
    /// How much more it is heard with at once.
    heard: Allowance,
    /// It has said more than that, and waits until then.
    quiet_until: Option<Instant>,
    /// It has shown what its hardware vouches for: once a conversation.
    has_shown: bool,
}

/// How a worker's session ends well.
enum Parting {
    Left,
    Ended,
}

impl Worker<'_> {
    async fn run(&mut self) -> Result<Parting, SessionError> {
        // The first assignment is news as well.
        self.assignments.mark_changed();
        let mut told = Assignment::default();
        let mut is_first = true;
        loop {
            tokio::select! {
                changed = self.assignments.changed() => {
                    if changed.is_err() {
                        // The lease ended, or another connection of this node took over.
                        return Ok(Parting::Ended);
                    }
                    let now = self.assignments.borrow_and_update().clone();
                    let Assignment { work, peers, keeps, keep_peers, standing } = now.clone();
                    if is_first || (&told.work, &told.peers) != (&work, &peers) {
                        send(&mut self.sender, &FromOrchestrator::Work { work, peers }).await?;
                    }
                    if is_first || (&told.keeps, &told.keep_peers) != (&keeps, &keep_peers) {
                        send(&mut self.sender, &FromOrchestrator::Keep { keeps, peers: keep_peers }).await?;
                    }
                    if is_first || told.standing != standing {
                        send(&mut self.sender, &FromOrchestrator::Standing(standing)).await?;
                    }
                    (told, is_first) = (now, false);
                }
                Some(peer) = self.probes.recv() => send(&mut self.sender, &FromOrchestrator::Probe(peer)).await?,
                () = sleep_until(self.quiet_until.unwrap_or_else(Instant::now)), if self.quiet_until.is_some() => {
                    self.quiet_until = None;
                }
                message = self.receiver.recv(), if self.quiet_until.is_none() => {
                    // Who says more than it should is read later: its messages wait with itself.
                    let (now, bytes) = (Instant::now(), self.receiver.take_bytes() as f64);
                    let wait = self.heard.spend(HEARD_EACH + bytes, now);
                    self.quiet_until = (!wait.is_zero()).then(|| now + wait);
                    match message? {
                        None => return Ok(Parting::Ended),
                        Some(ToOrchestrator::Leave) => return Ok(Parting::Left),
                        Some(message) => self.take(message).await?,
                    }
                }
            }
        }
    }

    async fn take(&mut self, message: ToOrchestrator) -> Result<(), SessionError> {
        let (node, session) = (self.node, self.session);
        let input = match message {
            ToOrchestrator::Report(report) => Input::Reported { node, session, report },
            ToOrchestrator::Probed { node: subject, reached } => {
                Input::Probed { witness: node, session, subject, reached }
            }
            ToOrchestrator::Measured(link) => Input::Measured { node, session, link },
            ToOrchestrator::Heartbeat { step, loss_bits, tokens_per_second, sent_bytes, received_bytes } => {
                let status = FromOrchestrator::NodeStatus {
                    node,
                    step,
                    loss_bits,
                    tokens_per_second,
                    sent_bytes,
                    received_bytes,
                };
                Input::Alive { node, session, status }
            }
            ToOrchestrator::Declare(declaration) => {
                let answer = self.context.declare(*declaration).await;
                return send(&mut self.sender, &answer).await;
            }
            ToOrchestrator::Evidence(evidence) if !self.has_shown => {
                self.has_shown = true;
                let answer = self.context.attest(node, session, evidence).await;
                return send(&mut self.sender, &answer).await;
            }
            _ => {
                let rejection = Rejection::Invalid("not for workers".into());
                return send(&mut self.sender, &FromOrchestrator::Rejected(rejection)).await;
            }
        };
        // A full queue holds back this worker's messages, nobody else's.
        self.context.host.inputs.send(input).await.map_err(|_| SessionError::Stopping)
    }
}

/// Sends one message, and gives up on who does not take it.
pub(crate) async fn send(sender: &mut Sender, message: &FromOrchestrator) -> Result<(), SessionError> {
    send_within(sender.send(message)).await
}

async fn send_within(sending: impl Future<Output = Result<(), NetworkError>>) -> Result<(), SessionError> {
    timeout(SEND_TIMEOUT, sending).await.map_err(|_| SessionError::Slow)?.map_err(SessionError::from)
}

/// Whether somebody sent bytes that are no message, rather than being gone.
fn is_no_message(cause: &NetworkError) -> bool {
    matches!(
        cause,
        NetworkError::FrameTooLarge { .. } | NetworkError::Wire { .. } | NetworkError::Truncated { .. }
    )
}

async fn reject(stream: Stream, why: impl ToString) {
    reject_with(stream, Rejection::Invalid(reason(why))).await;
}

async fn reject_with(mut stream: Stream, rejection: Rejection) {
    debug!(node = %stream.node().short(), ?rejection, "connection rejected");
    // Whether the other side reads it or not, the connection ends.
    let _ = send_within(stream.send(&FromOrchestrator::Rejected(rejection))).await;
    stream.close().await;
}
