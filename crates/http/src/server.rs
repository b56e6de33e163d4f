//! Connections: their number, their patience and their end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// Connections held at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;
/// Largest head of a request, bytes.
pub const HEAD_BYTES_MAX: usize = 32 << 10;
/// Most headers of a request.
pub const HEADERS_MAX: usize = 64;
/// After a failure to accept, which is lack of something that comes back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a server waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the head of a request, and for a TLS handshake.
    pub head: Duration,
    /// For answers that are on their way when it stops.
    pub farewell: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), farewell: Duration::from_secs(3) }
    }
}

/// Serves `router` on `listener` until `stop` completes; what is being answered then has a little longer.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<ServerConfig>>,
    patience: Patience,
    stop: impl Future<Output = ()>,
) {
    let (room, graceful) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), GracefulShutdown::new());
    let acceptor = tls.map(TlsAcceptor::from);
    tokio::pin!(stop);
    loop {
        let accepted = async {
            let permit = room.clone().acquire_owned().await.expect("nobody closes it");
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, acceptor, watcher) = (router.clone(), acceptor.clone(), graceful.watcher());
                tokio::spawn(async move {
                    // A client that breaks off or speaks no HTTP is no concern of anybody else.
                    if let Err(cause) = converse(stream, router, acceptor, patience, watcher).await {
                        debug!(%peer, cause, "a connection ended early");
                    }
                    drop(permit);
                });
            }
            Err(cause) => {
                warn!(%cause, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if timeout(patience.farewell, graceful.shutdown()).await.is_err() {
        warn!("some requests were not finished in time");
    }
}

async fn converse(
    stream: TcpStream,
    router: Router,
    acceptor: Option<TlsAcceptor>,
    patience: Patience,
    watcher: Watcher,
) -> Result<(), String> {
    // What is said is small and wanted at once.
    stream.set_nodelay(true).map_err(|cause| cause.to_string())?;
    let Some(acceptor) = acceptor else { return answer(stream, router, patience, watcher).await };
    let stream = timeout(patience.head, acceptor.accept(stream)).await.map_err(|_| "no handshake in time")?;
    answer(stream.map_err(|cause| cause.to_string())?, router, patience, watcher).await
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    patience: Patience,
    watcher: Watcher,
) -> Result<(), String> {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    watcher.watch(connection).await.map_err(|cause| cause.to_string())
}
