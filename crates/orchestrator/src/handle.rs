//! What an interface in the same process does with an orchestrator: looks at a replica of its state, follows its events, submits and
//! steers jobs.

use std::sync::Arc;

use tokio::sync::{broadcast, oneshot, watch};
use zoo_content::BlobStore;
use zoo_network::Endpoint;
use zoo_protocol::{FromOrchestrator, JobDescription, JobId, Peer};
use zoo_state::{Refusal, State, Steer};

use crate::JournalError;
use crate::host::{Head, HostHandle, Input};
use crate::journal::{Entry, StoredEvent};

/// Durable entries that a follower may be behind before it has to begin with another copy of the state.
pub(crate) const FOLLOWED_MAX: usize = 256;

/// A running orchestrator, for those who serve others with it. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) host: HostHandle,
    pub(crate) endpoint: Endpoint,
    pub(crate) store: Arc<dyn BlobStore>,
}

/// Why nothing came of a request.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The state machine refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The orchestrator is stopping.
    #[error("the orchestrator is stopping")]
    Stopping,
}

/// A copy of the state, and every entry that became durable since, in order.
#[derive(Debug)]
pub struct Followed {
    /// After the latest durable command.
    pub state: State,
    /// What became durable after it.
    pub entries: broadcast::Receiver<Arc<Vec<Entry>>>,
}

impl Handle {
    /// Submits a job whose blobs are in the [store](Handle::store).
    ///
    /// # Errors
    /// What the state machine says against it.
    pub async fn submit(&self, job: JobDescription) -> Result<JobId, RequestError> {
        self.host.submit(job).await
    }

    /// Cancels, pauses or resumes a job.
    ///
    /// # Errors
    /// What the state machine says against it.
    pub async fn steer(&self, job: JobId, steer: Steer) -> Result<(), RequestError> {
        self.host.ask(|reply| Input::Steered { job, steer, reply }).await?.map_err(RequestError::from)
    }

    /// Begins to follow the state.
    ///
    /// # Errors
    /// The orchestrator is stopping.
    pub async fn follow(&self) -> Result<Followed, RequestError> {
        self.host.ask(|reply| Input::Follow { reply }).await
    }

    /// How far the journal is, and whoever waits on it hears when it is further.
    pub fn head(&self) -> watch::Receiver<Head> {
        self.host.head.clone()
    }

    /// The next events from number `from` on, for somebody who asks: at most a page, none if there are none yet ([`crate::journal::Events::page`]).
    ///
    /// # Errors
    /// The journal's.
    pub async fn events(&self, from: u64) -> Result<Vec<StoredEvent>, JournalError> {
        self.host.events.page(from).await
    }

    /// The same, for this process itself.
    ///
    /// # Errors
    /// The journal's.
    pub async fn events_at_once(&self, from: u64) -> Result<Vec<StoredEvent>, JournalError> {
        self.host.events.page_at_once(from).await
    }

    /// The heartbeats of nodes, from now on. Who is behind misses some.
    pub fn statuses(&self) -> broadcast::Receiver<FromOrchestrator> {
        self.host.statuses.subscribe()
    }

    /// Who serves blobs: the live nodes and the orchestrator itself.
    pub fn peers(&self) -> Vec<Peer> {
        self.host.peers.borrow().clone()
    }

    /// The orchestrator's endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The orchestrator's blobs.
    pub fn store(&self) -> &Arc<dyn BlobStore> {
        &self.store
    }
}

impl HostHandle {
    /// Submits a job whose blobs are here.
    pub(crate) async fn submit(&self, job: JobDescription) -> Result<JobId, RequestError> {
        self.ask(|reply| Input::Submitted { job, reply }).await?.map_err(RequestError::from)
    }

    async fn ask<T>(&self, input: impl FnOnce(oneshot::Sender<T>) -> Input) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(input(reply)).await.map_err(|_| RequestError::Stopping)?;
        answer.await.map_err(|_| RequestError::Stopping)
    }
}
