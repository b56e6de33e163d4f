//! Connections: their number, their patience and their end.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::patient::Patient;

/// Connections held at once; more are closed.
const CONNECTIONS_MAX: usize = 4096;
/// Of those, from one address: half, so that one address never has all, and a proxy in front has many.
const CONNECTIONS_MAX_EACH: usize = CONNECTIONS_MAX / 2;
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
    /// For a client to take something of an answer.
    pub reading: Duration,
    /// For answers that are on their way when it stops.
    pub farewell: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { head: seconds(10), reading: seconds(30), farewell: seconds(3) }
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
    let (room, graceful) = (Arc::new(Room::default()), GracefulShutdown::new());
    let acceptor = tls.map(TlsAcceptor::from);
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = room.enter(peer.ip()) else {
                    debug!(%peer, "turned a connection away: there are too many");
                    continue;
                };
                let (router, acceptor, watcher) = (router.clone(), acceptor.clone(), graceful.watcher());
                tokio::spawn(async move {
                    // A client that breaks off or speaks no HTTP is no concern of anybody else.
                    if let Err(cause) = converse(stream, router, acceptor, patience, watcher).await {
                        debug!(%peer, cause, "a connection ended early");
                    }
                    drop(place);
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

/// The connections that are open, by the address they come from.
#[derive(Debug, Default)]
struct Room(Mutex<(usize, BTreeMap<IpAddr, usize>)>);

/// A connection's place, given back when dropped.
struct Place(Arc<Room>, IpAddr);

impl Room {
    fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let mut open = self.0.lock().expect("nothing panics while it holds this lock");
        let its = open.1.get(&from).copied().unwrap_or(0);
        if open.0 >= CONNECTIONS_MAX || its >= CONNECTIONS_MAX_EACH {
            return None;
        }
        open.0 += 1;
        open.1.insert(from, its + 1);
        Some(Place(self.clone(), from))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.0.0.lock().expect("nothing panics while it holds this lock");
        open.0 -= 1;
        if let Some(its) = open.1.get_mut(&self.1) {
            *its -= 1;
            if *its == 0 {
                open.1.remove(&self.1);
            }
        }
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
    let stream = Patient::new(stream, patience.reading);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_gets_half_of_the_connections_and_gives_them_back() {
        let (room, [one, other]) =
            (Arc::new(Room::default()), [1, 2].map(|last| IpAddr::from([10, 0, 0, last])));
        let many: Vec<Place> = (0..CONNECTIONS_MAX).filter_map(|_| room.enter(one)).collect();
        assert_eq!(many.len(), CONNECTIONS_MAX_EACH);
        let others: Vec<Place> = (0..CONNECTIONS_MAX).filter_map(|_| room.enter(other)).collect();
        assert_eq!(others.len(), CONNECTIONS_MAX - CONNECTIONS_MAX_EACH);
        assert!(room.enter(IpAddr::from([10, 0, 0, 3])).is_none());
        drop((many, others));
        assert!(room.0.lock().unwrap().1.is_empty());
        assert!(room.enter(one).is_some());
    }
}
