//! The HTTP interface of an orchestrator: jobs, nodes, rounds, checkpoints, and everything that happens.
//!
//! ```text
//! requests -- server --> routes --> replica of the state    (what is)
//!                               --> history, feed of events (what was, what happens)
//!                               --> submission, handle      (what is to be)
//! ```
//!
//! # Invariants
//!
//! - **A request never waits for the journal, nor the journal for a request**: what is read comes from a replica that applies what
//!   became durable (`replica`), and from a fold of the events (`history`).
//! - **Nothing changes without a key.** Handlers that change something take what proves it as an argument (`extract`): without, they
//!   do not compile into something that runs. Keys are stored as digests (`keys`).
//! - **Nobody names a path of this machine from afar.** Text is uploaded and named by digest (`submission`).
//! - **A watcher misses nothing**: events have numbers, and the journal has them all (`feed`).
//! - **Everything is bounded**: connections, heads, bodies, time (`zoo_http`).
//!
//! # What is not here
//!
//! No rule of jobs or rounds: those are the state machine's. No rule of what a job may say: that is `zoo_job`'s, the same for the
//! command line. No cross-origin access: pages of other hosts cannot read answers.

mod app;
mod dashboard;
mod extract;
mod feed;
mod history;
mod json;
mod keys;
mod openapi;
mod owners;
mod problem;
mod replica;
mod routes;
mod schema;
mod submission;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use zoo_http::{Patience, names_another};
use zoo_orchestrator::{Handle, JournalError, RequestError};

use crate::app::{App, Statuses};
use crate::feed::Feed;
use crate::owners::Owners;
use crate::replica::Replica;
use crate::routes::{events, jobs, models, network, system, texts};
use crate::submission::{Submissions, Texts};

pub use json::event_line;
pub use keys::{Key, Keys, KeysError, Scope};
pub use openapi::text as openapi;
pub use problem::Problem;
pub use zoo_http::{Tls, TlsError};

/// Largest body of a request, but for text, bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Who asks a question has sent it, and has its answer, within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// With what the interface starts.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Where it listens; port 0 takes any free port.
    pub listen: SocketAddr,
    /// The orchestrator's directory: keys, uploaded text and exported models are in it.
    pub directory: PathBuf,
    /// Whether also looking needs a key.
    pub reading_needs_a_key: bool,
    /// What makes it HTTPS.
    pub tls: Option<Tls>,
}

/// Why the interface does not start.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Its keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Its certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The orchestrator's journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The orchestrator.
    #[error(transparent)]
    Orchestrator(#[from] RequestError),
    /// Its socket.
    #[error("cannot listen for HTTP on {address}: {cause}\nhint: choose another port with --http")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the operating system said.
        cause: std::io::Error,
    },
}

/// The interface, running.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    is_tls: bool,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Api {
    /// Reads the events so far, and listens.
    ///
    /// # Errors
    /// A file or socket that cannot be had, an orchestrator that is stopping.
    pub async fn start(handle: Handle, options: ApiOptions) -> Result<Self, ApiError> {
        let ApiOptions { listen, directory, reading_needs_a_key, tls } = options;
        let config = tls.as_ref().map(Tls::config).transpose()?;
        let keys = Arc::new(Keys::open(&directory)?);
        let failed = |cause| ApiError::Listen { address: listen, cause };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        Texts::new(&directory).sweep();
        let app = App {
            replica: Replica::start(handle.clone()).await?,
            feed: Feed::start(handle.clone(), stopped.clone()).await?,
            turns: events::Turns::default(),
            statuses: Statuses::start(&handle),
            handle,
            keys,
            owners: Arc::new(Owners::open(&directory)?),
            reading_needs_a_key,
            submissions: Submissions::new(),
            directory: Arc::new(directory),
            exports: Arc::new(Semaphore::new(1)),
            stop: stopped.clone(),
        };
        let is_tls = config.is_some();
        let told = async move {
            let mut stopped = stopped;
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let router = router(app, address.ip().is_loopback());
        let serving = tokio::spawn(zoo_http::serve(listener, router, config, Patience::default(), told));
        Ok(Self { address, is_tls, stop, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL that people on this machine open.
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Ends every connection, those that are being answered last.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // Whatever ended it, it has ended.
        let _ = self.serving.await;
    }
}

/// The keys of the orchestrator in `directory`.
///
/// # Errors
/// A file that cannot be read.
pub fn keys(directory: &Path) -> Result<Keys, KeysError> {
    Keys::open(directory)
}

fn router(app: App, is_local: bool) -> Router {
    let questions = Router::new()
        .route("/health", get(system::health))
        .route("/metrics", get(system::metrics))
        .route("/openapi.json", get(system::openapi))
        .route("/reference", get(system::reference))
        .route("/v1/schemas/job.json", get(system::job_schema))
        .route("/v1/journal", get(system::journal))
        .route("/v1/jobs/{id}", get(jobs::look))
        .route("/v1/jobs/{id}/rounds", get(jobs::rounds))
        .route("/v1/jobs/{id}/history", get(events::history))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/pause", post(jobs::pause))
        .route("/v1/jobs/{id}/resume", post(jobs::resume))
        .route("/v1/nodes", get(network::nodes))
        .route("/v1/nodes/{id}", get(network::node))
        .route("/v1/checkpoints", get(network::checkpoints))
        .route("/v1/blobs/{digest}", get(network::blob))
        .layer(from_fn(in_time));
    // These take as long as they take: what is read or made is large, or goes on.
    let long = Router::new()
        .route("/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/v1/jobs/{id}/model", get(models::files))
        .route("/v1/jobs/{id}/model/{name}", get(models::file))
        .route("/v1/events", get(events::all))
        .route("/v1/jobs/{id}/events", get(events::of_job));
    let upload = Router::new().route("/v1/texts", post(texts::upload)).layer(DefaultBodyLimit::disable());
    questions
        .merge(long)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .merge(upload)
        .fallback(system::nowhere)
        .method_not_allowed_fallback(system::no_such_method)
        .layer(from_fn(move |request: Request, next: Next| guarded(is_local, request, next)))
        .merge(dashboard::routes())
        .with_state(app)
}

/// Gives up on what takes too long.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("there was no answer within {} s", ANSWER_TIMEOUT.as_secs());
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response()
        }
    }
}

/// Tells browsers what not to do with answers, and says problems that the framework found as problems.
async fn guarded(is_local: bool, request: Request, next: Next) -> Response {
    // The page of reference is made by a library, which writes scripts and styles into it.
    const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src 'self' data:; script-src 'self' 'unsafe-inline'; \
                          style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let mut response = if is_local && names_another(request.headers()) {
        let detail = "this server answers to names of its own machine only; hint: use localhost, or let it listen elsewhere with --http";
        Problem::new(StatusCode::FORBIDDEN, detail).into_response()
    } else {
        next.run(request).await
    };
    if response.status() == StatusCode::PAYLOAD_TOO_LARGE
        && response.headers().get("content-type").is_none_or(|kind| kind != "application/problem+json")
    {
        let detail = format!("the body has more than {BODY_BYTES_MAX} bytes; hint: text goes to /v1/texts");
        response = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
    }
    zoo_http::guard(response.headers_mut(), POLICY);
    response
}
