//! Connections: their number, their patience and their end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service;

use super::guard::Guard;
use super::{App, router};
use crate::engine::Engine;
use crate::limits::{CONNECTIONS_MAX, GRACE, HEADER_BYTES_MAX, HEADERS_MAX};
use crate::served::Served;

/// Pause after the system refused a connection, for instance because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a server is reached.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where to listen; port 0 takes any free port.
    pub listen: SocketAddr,
    /// What every request must carry as its bearer key, if anything.
    pub api_key: Option<String>,
    /// How long a request may take to arrive: [`crate::limits::PATIENCE`] unless there is a reason.
    pub patience: Duration,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not this machine's.
    #[error(
        "cannot listen on {address}: {cause}\nhint: choose another address with --listen; port 0 takes any free port"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: App,
}

impl Server {
    /// Listens, and answers once [`Server::run_until`] runs.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn start(
        engine: Engine,
        served: Arc<Served>,
        settings: ServerSettings,
    ) -> Result<Self, ServerError> {
        let refuse = |cause| ServerError::Listen { address: settings.listen, cause };
        let listener = TcpListener::bind(settings.listen).await.map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        let guard = Guard::new(settings.api_key.as_deref(), address.ip().is_loopback());
        let app = App { engine, served, guard: Arc::new(guard), patience: settings.patience };
        Ok(Self { listener, address, app })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop`; those that have begun then have a little longer.
    pub async fn run_until(self, stop: impl Future<Output = ()>) {
        let patience = self.app.patience;
        let routes = router(self.app);
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let graceful = GracefulShutdown::new();
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &room) => accepted,
                () = &mut stop => break,
            };
            match accepted {
                Ok((stream, permit)) => {
                    let connection = connection(stream, routes.clone(), patience);
                    let connection = graceful.watch(connection);
                    tokio::spawn(async move {
                        // A client that breaks off or sends no HTTP is no concern of anybody else.
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "a connection ended early");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
            tracing::warn!("some requests were not finished in time");
        }
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.expect("nobody closes it");
    let (stream, _) = listener.accept().await?;
    // Tokens are small and wanted at once.
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

type Connection = http1::Connection<TokioIo<TcpStream>, Routes>;

fn connection(stream: TcpStream, routes: axum::Router, patience: Duration) -> Connection {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), Routes(routes))
}

/// The routes as hyper wants them.
#[derive(Clone)]
struct Routes(axum::Router);

impl hyper::service::Service<Request<Incoming>> for Routes {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = <axum::Router as Service<Request<Body>>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.0.clone().call(request.map(Body::new))
    }
}
