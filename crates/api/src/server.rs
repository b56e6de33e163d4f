//! Connections: bounded in number, in time and in size.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// Connections held at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;
/// A request's head has arrived within this time, and so has a handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest head of a request, bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// What is being answered when the server stops may take so long.
const FAREWELL: Duration = Duration::from_secs(3);
/// After a failure to accept, which is lack of something that comes back.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener` until `stop` says so.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<ServerConfig>>,
    mut stop: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = Arc::new(GracefulShutdown::new());
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = told(&mut stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(cause) => {
                warn!(%cause, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (router, graceful, acceptor) = (router.clone(), graceful.clone(), acceptor.clone());
        tokio::spawn(converse(stream, peer, router, graceful, acceptor, permit));
    }
    drop(listener);
    if let Some(graceful) = Arc::into_inner(graceful) {
        let _ = timeout(FAREWELL, graceful.shutdown()).await;
    }
}

/// Completes when the server is to stop, or nobody is left to say so.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    graceful: Arc<GracefulShutdown>,
    acceptor: Option<TlsAcceptor>,
    permit: OwnedSemaphorePermit,
) {
    // Answers are written whole: nothing is gained by waiting for more of one.
    let _ = stream.set_nodelay(true);
    let outcome = match acceptor {
        None => answer(stream, router, &graceful).await,
        Some(acceptor) => match timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => answer(stream, router, &graceful).await,
            Ok(Err(cause)) => Err(cause.to_string()),
            Err(_) => Err("no handshake in time".to_owned()),
        },
    };
    if let Err(cause) = outcome {
        debug!(%peer, cause, "connection ended");
    }
    drop(permit);
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    graceful: &GracefulShutdown,
) -> Result<(), String> {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    graceful.watch(connection).await.map_err(|cause| cause.to_string())
}
