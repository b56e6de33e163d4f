//! An orchestrator as a whole: started, running, stopped.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};
use zoo_content::{BlobStore, Digest, FileStore, StoreError};
use zoo_home::HomeError;
use zoo_network::{BindOptions, ControlConnection, Endpoint, NetworkError, Relay, Ticket};
use zoo_protocol::{NodeId, Terms};

use crate::audit::{self, AUDITS_MAX, Audits};
use crate::copies::Copies;
use crate::evidence::EvidenceCheck;
use crate::handle::Handle;
use crate::home::Home;
use crate::host::{Head, Host, Timing};
use crate::intake::INTAKES_MAX;
use crate::journal::{Journal, JournalError};
use crate::sessions::{Context, WATCHERS_MAX};

/// A good lease: six heartbeats, ms.
pub const LEASE_MS: u64 = 3_000;
/// A good tick, ms.
pub const TICK_MS: u64 = 250;
/// Where holders are not audited, the host looks for nothing so often.
const SELDOM: Duration = Duration::from_secs(3600);
/// Conversations held at once; more are turned away.
const SESSIONS_MAX: usize = 1024;

/// With what an orchestrator starts.
#[derive(Clone, Debug)]
pub struct OrchestratorOptions {
    /// Where its key, its journal and its blobs are. One process at a time.
    pub directory: PathBuf,
    /// Where it listens. With port 0 it takes the port of the last time if that is free, so
    /// that tickets survive a restart, else any.
    pub listen: SocketAddr,
    /// Where it is met, and its nodes meet each other, if there is no direct way. It must be there at the start.
    pub relay: Option<Relay>,
    /// A worker that was not heard of for so long is lost, ms.
    pub lease_ms: u64,
    /// Leases and deadlines are looked at so often, ms.
    pub tick_ms: u64,
    /// How holders of checkpoints are checked; `None`: not at all.
    pub audits: Option<Audits>,
    /// Operators whose word for a node counts, at most [`MAX_OPERATORS`](zoo_protocol::limits::MAX_OPERATORS).
    pub operators: BTreeSet<NodeId>,
    /// Who says what evidence of hardware shows; `None`: no such evidence counts.
    pub evidence: Option<EvidenceCheck>,
    /// How nodes that wait are measured; `None`: not at all.
    pub admission: Option<Admission>,
}

/// How a network measures its nodes.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// It is looked so often whether anybody is to be measured; the first time after as long.
    pub every: Duration,
    /// How they are measured.
    pub terms: Terms,
}

/// Why an orchestrator does not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum OrchestratorError {
    /// Its directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its blobs.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its socket.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The time options make no sense.
    #[error("tick of {tick_ms} ms and lease of {lease_ms} ms: both must be positive, the lease longer")]
    Timing {
        /// As given.
        lease_ms: u64,
        /// As given.
        tick_ms: u64,
    },
    /// The journal is another network's, or more operators are trusted than can be.
    #[error(
        "the journal does not take whose network this is: {0}\nhint: key and journal of a directory belong together"
    )]
    Name(zoo_state::Refusal),
    /// The host's task ended in a way it never should.
    #[error("the host stopped: {0}")]
    Host(String),
}

/// A running orchestrator. Dropping it stops it without telling anybody, as a crash would;
/// [`Orchestrator::stop`] takes leave.
pub struct Orchestrator {
    endpoint: Endpoint,
    ticket: Ticket,
    handle: Handle,
    head: watch::Receiver<Head>,
    stop: watch::Sender<bool>,
    host: JoinHandle<Result<(), JournalError>>,
    accepting: JoinHandle<()>,
    _home: Arc<Home>,
}

impl Orchestrator {
    /// Opens the directory, replays the journal, listens.
    pub async fn start(options: OrchestratorOptions) -> Result<Self, OrchestratorError> {
        let OrchestratorOptions { directory, listen, relay, lease_ms, tick_ms, audits, .. } = options;
        let OrchestratorOptions { operators, evidence, admission, .. } = options;
        if tick_ms == 0 || lease_ms <= tick_ms {
            return Err(OrchestratorError::Timing { lease_ms, tick_ms });
        }
        let home = Arc::new(Home::open(&directory)?);
        let store: Arc<dyn BlobStore> = Arc::new(FileStore::open(home.blobs())?);
        let (journal, replayed) = Journal::open(&home.journal()).await?;
        let (commands, snapshot) = (journal.commands(), journal.snapshot());
        info!(commands, snapshot, events = journal.next_event(), "journal replayed");

        let endpoint = bind(&home, listen, relay.as_ref()).await?;
        endpoint.meet_relay().await?;
        endpoint.serve_blobs(store.clone());
        let ticket = endpoint.ticket();
        home.remember_ticket(&ticket)?;
        let timing = Timing {
            lease: Duration::from_millis(lease_ms),
            tick: Duration::from_millis(tick_ms),
            audit: audits.map_or(SELDOM, |audits| audits.every.max(Duration::from_millis(tick_ms))),
        };
        let (mut host, handle) = Host::new(journal, replayed, endpoint.peer(), timing);
        host.name_network(&operators).map_err(OrchestratorError::Name)?;
        let head = handle.head.clone();
        if let Some(Audits { lists, .. }) = audits {
            let (auditor, asked) = mpsc::channel(AUDITS_MAX);
            host.audit_with(auditor);
            tokio::spawn(audit::run(asked, lists, endpoint.clone(), handle.inputs.clone()));
        }
        if let Some(admission) = admission {
            host.admit_with(admission);
        }
        let (stop, stopped) = watch::channel(false);
        let shared = Handle { host: handle.clone(), endpoint: endpoint.clone(), store: store.clone() };
        let context = Context {
            host: handle,
            endpoint: endpoint.clone(),
            copies: Arc::new(Copies::new(home.clone(), store.clone())),
            store,
            intakes: Arc::new(Semaphore::new(INTAKES_MAX)),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            evidence,
        };
        let connections = endpoint.control_connections();
        let host = tokio::spawn(host.run(stopped));
        let accepting = tokio::spawn(accept(connections, context));
        Ok(Self { endpoint, ticket, handle: shared, head, stop, host, accepting, _home: home })
    }

    /// What others connect with. It stays valid over restarts as long as the port can be had.
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// For an interface in this process.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Root of the state after the latest durable command.
    pub fn root(&self) -> Digest {
        self.head.borrow().root
    }

    /// Runs until `shutdown` completes or the orchestrator has to stop by itself.
    pub async fn run_until(mut self, shutdown: impl Future<Output = ()>) -> Result<(), OrchestratorError> {
        tokio::select! {
            () = shutdown => self.stop().await,
            ended = &mut self.host => {
                self.close().await;
                ended.map_err(|cause| OrchestratorError::Host(cause.to_string()))?.map_err(OrchestratorError::from)
            }
        }
    }

    /// Ends all conversations, closes the journal.
    pub async fn stop(mut self) -> Result<(), OrchestratorError> {
        self.stop.send_replace(true);
        let ended = (&mut self.host).await;
        self.close().await;
        ended.map_err(|cause| OrchestratorError::Host(cause.to_string()))?.map_err(OrchestratorError::from)
    }

    async fn close(&mut self) {
        self.accepting.abort();
        self.endpoint.close().await;
    }
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        self.host.abort();
        self.accepting.abort();
    }
}

/// Listens; if the remembered port is taken by somebody else, on any port.
async fn bind(home: &Home, listen: SocketAddr, relay: Option<&Relay>) -> Result<Endpoint, OrchestratorError> {
    let preferred = home.preferred(listen);
    let endpoint = match Endpoint::bind(BindOptions { key: home.key(), listen: preferred, relay }).await {
        Err(NetworkError::AddressInUse { .. }) if preferred != listen => {
            warn!("port {} is taken; tickets given out so far are void", preferred.port());
            Endpoint::bind(BindOptions { key: home.key(), listen, relay }).await?
        }
        bound => bound?,
    };
    if let Some(address) = endpoint.addresses().first() {
        home.remember_port(address.port())?;
    }
    Ok(endpoint)
}

/// Holds a conversation with everybody who calls. Ends, with all conversations, when aborted.
async fn accept(mut connections: mpsc::Receiver<ControlConnection>, context: Context) {
    let mut sessions = JoinSet::new();
    while let Some(connection) = connections.recv().await {
        while sessions.try_join_next().is_some() {}
        if sessions.len() < SESSIONS_MAX {
            sessions.spawn(context.clone().converse(connection));
        } else {
            warn!("turned a caller away: {SESSIONS_MAX} conversations are held");
        }
    }
}
