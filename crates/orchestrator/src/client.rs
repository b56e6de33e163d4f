//! The other end, for whoever submits jobs and watches.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use zoo_content::{BlobStore, Digest, VerifiedBlob};
use zoo_network::{BindOptions, ControlStream, Endpoint, FetchError, NetworkError, Ticket};
use zoo_protocol::{
    Declaration, FromOrchestrator, JobDescription, JobId, JournalHead, Message, NodeId, NodeKey, Peer,
    Rejection, Role, Sealed, ToOrchestrator, VERSION, WireError,
};
use zoo_state::Event;

/// The orchestrator welcomes or rejects within this time.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a client did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No conversation.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The orchestrator speaks another version.
    #[error(
        "the orchestrator speaks version {theirs} of the protocol, this program {ours}\n\
         hint: use the same version of zoo on both sides"
    )]
    Version {
        /// What this program speaks.
        ours: u16,
        /// What the orchestrator speaks.
        theirs: u16,
    },
    /// The orchestrator does not want this conversation.
    #[error("the orchestrator rejects the connection: {0}")]
    Rejected(String),
    /// The orchestrator does not take the job.
    #[error("the orchestrator refuses the job: {0}")]
    Refused(String),
    /// The network does not go by what was declared.
    #[error("the network does not go by it: {0}")]
    Distrusted(String),
    /// It may be tried again later.
    #[error("the orchestrator does not take it now: {0}")]
    Busy(String),
    /// The job cannot be sent as it is.
    #[error("the job is invalid: {0}")]
    Invalid(WireError),
    /// The orchestrator gives no copy of its journal.
    #[error("the orchestrator gives no copy of its journal: {0}")]
    NoCopy(String),
    /// A blob could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The orchestrator does not answer.
    #[error("the orchestrator does not answer")]
    Silent,
    /// The orchestrator said something else than the protocol lets it.
    #[error("the orchestrator answers against the protocol: {0}")]
    Protocol(String),
}

type Stream = ControlStream<ToOrchestrator, FromOrchestrator>;

/// Somebody who submits jobs, watches and fetches. Every request is a conversation of its own.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    ticket: Ticket,
}

impl Client {
    /// Opens a socket and checks that the orchestrator is there and speaks this version.
    pub async fn connect(ticket: &Ticket, key: &NodeKey) -> Result<Self, ClientError> {
        let ip = if ticket.is_local() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        let listen = SocketAddr::new(ip.into(), 0);
        let endpoint = Endpoint::bind(BindOptions { key, listen, relay: ticket.relay.as_ref() }).await?;
        let client = Self { endpoint, ticket: ticket.clone() };
        match client.peers().await {
            Ok(_) => Ok(client),
            Err(cause) => {
                client.close().await;
                Err(cause)
            }
        }
    }

    /// Who serves blobs at the moment: the orchestrator and every live worker.
    pub async fn peers(&self) -> Result<Vec<Peer>, ClientError> {
        let (stream, peers) = self.introduce().await?;
        stream.close().await;
        Ok(peers)
    }

    /// Submits `job`. Its four blobs and `blobs`, the parts of its initial checkpoint, are
    /// served from `store` until the orchestrator has a copy of each and answers; from then on the
    /// job does not need this client. Submitting a job again that is there already is harmless.
    pub async fn submit(
        &self,
        job: JobDescription,
        blobs: Vec<Digest>,
        store: Arc<dyn BlobStore>,
    ) -> Result<JobId, ClientError> {
        let message =
            ToOrchestrator::Submit { job: Box::new(job), blobs, addresses: self.endpoint.addresses() };
        message.validate().map_err(ClientError::Invalid)?;
        self.endpoint.serve_blobs(store);
        let (mut stream, _) = self.introduce().await?;
        stream.send(&message).await?;
        let answer = stream.recv().await?;
        stream.close().await;
        match answer {
            Some(FromOrchestrator::Accepted(job)) => Ok(job),
            Some(FromOrchestrator::Refused(why)) => Err(ClientError::Refused(why)),
            other => Err(unexpected(other)),
        }
    }

    /// Brings what a key says about keys. To bring it again is harmless.
    pub async fn declare(&self, declaration: Declaration) -> Result<(), ClientError> {
        let (mut stream, _) = self.introduce().await?;
        stream.send(&ToOrchestrator::Declare(Box::new(declaration))).await?;
        let answer = stream.recv().await?;
        stream.close().await;
        match answer {
            Some(FromOrchestrator::Declared) => Ok(()),
            Some(FromOrchestrator::Distrusted(why)) => Err(ClientError::Distrusted(why)),
            Some(FromOrchestrator::Rejected(Rejection::Busy(why))) => Err(ClientError::Busy(why)),
            other => Err(unexpected(other)),
        }
    }

    /// Every event from number `from` on, then live.
    pub async fn watch(&self, from: u64) -> Result<Watch, ClientError> {
        let (mut stream, _) = self.introduce().await?;
        stream.send(&ToOrchestrator::Watch { from }).await?;
        Ok(Watch { stream, next: from })
    }

    /// A copy of the journal, and the head that the orchestrator signed under the key of the ticket.
    pub async fn journal(&self) -> Result<(Sealed<JournalHead>, VerifiedBlob), ClientError> {
        let (mut stream, _) = self.introduce().await?;
        stream.send(&ToOrchestrator::Journal).await?;
        let answer = stream.recv().await?;
        stream.close().await;
        let (head, journal, bytes) = match answer {
            Some(FromOrchestrator::Journal { head, journal, bytes }) => (head, journal, bytes),
            Some(FromOrchestrator::Refused(why)) => return Err(ClientError::NoCopy(why)),
            other => return Err(unexpected(other)),
        };
        if head.signer() != self.ticket.node {
            return Err(ClientError::Protocol("the head of its journal is signed by somebody else".into()));
        }
        head.open().map_err(|cause| ClientError::Protocol(cause.to_string()))?;
        Ok((head, self.fetch(&journal, bytes).await?))
    }

    /// Fetches a blob from whoever has it now.
    pub async fn fetch(&self, digest: &Digest, max_bytes: u64) -> Result<VerifiedBlob, ClientError> {
        let peers = self.peers().await?;
        Ok(self.endpoint.fetch_from_any(&peers, digest, max_bytes).await?)
    }

    /// The socket, to fetch many blobs from known peers.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes leave.
    pub async fn close(self) {
        self.endpoint.close().await;
    }

    async fn introduce(&self) -> Result<(Stream, Vec<Peer>), ClientError> {
        let introduction = async {
            let mut stream = self.endpoint.connect(&self.ticket).await?;
            stream.send(&ToOrchestrator::Hello { version: VERSION, role: Role::Client }).await?;
            let answer = stream.recv().await?;
            Ok((stream, answer))
        };
        let introduced: Result<_, NetworkError> =
            timeout(WELCOME_TIMEOUT, introduction).await.map_err(|_| ClientError::Silent)?;
        match introduced? {
            (stream, Some(FromOrchestrator::Welcome { peers })) => Ok((stream, peers)),
            (_, other) => Err(unexpected(other)),
        }
    }
}

/// One thing a watcher is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Something happened.
    Event {
        /// Its number, from 0, without gaps.
        sequence: u64,
        /// When, by the orchestrator's clock, ms since the Unix epoch.
        at_ms: u64,
        /// What.
        event: Event,
    },
    /// How a worker is doing.
    Status(NodeStatus),
    /// A job has ended, and this is the state's root after it.
    StateRoot(Digest),
    /// What had happened when the watch began has been told; what follows is live.
    CaughtUp,
}

/// A worker's latest heartbeat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeStatus {
    /// The worker.
    pub node: NodeId,
    /// Inner step within its window.
    pub step: u32,
    /// Loss of its latest inner step, nats per token.
    pub loss: f32,
    /// Its speed.
    pub tokens_per_second: u32,
    /// Bytes of blobs it has sent since it started.
    pub sent_bytes: u64,
    /// Bytes of blobs it has received since it started.
    pub received_bytes: u64,
}

/// A conversation that tells what happens.
#[derive(Debug)]
pub struct Watch {
    stream: Stream,
    next: u64,
}

impl Watch {
    /// The next notice; `None` when the orchestrator has stopped. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Notice>, ClientError> {
        let notice = match self.stream.recv().await? {
            None => return Ok(None),
            Some(FromOrchestrator::Event { sequence, at_ms, event }) => {
                if sequence != self.next {
                    let what = format!("event {sequence} where {} was due", self.next);
                    return Err(ClientError::Protocol(what));
                }
                self.next += 1;
                let event = postcard::from_bytes(&event)
                    .map_err(|cause| ClientError::Protocol(format!("event {sequence}: {cause}")))?;
                Notice::Event { sequence, at_ms, event }
            }
            Some(FromOrchestrator::NodeStatus {
                node,
                step,
                loss_bits,
                tokens_per_second,
                sent_bytes,
                received_bytes,
            }) => {
                let loss = f32::from_bits(loss_bits);
                Notice::Status(NodeStatus { node, step, loss, tokens_per_second, sent_bytes, received_bytes })
            }
            Some(FromOrchestrator::StateRoot(root)) => Notice::StateRoot(root),
            Some(FromOrchestrator::CaughtUp) => Notice::CaughtUp,
            other => return Err(unexpected(other)),
        };
        Ok(Some(notice))
    }

    /// Number of the next event: where to go on after the connection broke.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }
}

fn unexpected(answer: Option<FromOrchestrator>) -> ClientError {
    match answer {
        Some(FromOrchestrator::Rejected(Rejection::Version { ours, .. })) => {
            ClientError::Version { ours: VERSION, theirs: ours }
        }
        Some(FromOrchestrator::Rejected(Rejection::Invalid(why) | Rejection::Busy(why))) => {
            ClientError::Rejected(why)
        }
        Some(_) => ClientError::Protocol("an answer to another question".into()),
        None => ClientError::Protocol("it closed the connection".into()),
    }
}
