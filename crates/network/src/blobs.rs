//! The side of the blob exchange that wants blobs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iroh::endpoint::{Connection, IncomingAddr, ReadError, ReadExactError, RecvStream, VarInt};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zoo_content::{Digest, VerifiedBlob};
use zoo_protocol::{NodeId, Peer};

use crate::endpoint::{BLOBS_ALPN, TrafficCounters, connect, lock};
use crate::limits::{
    FETCHING_MAX, FIRST_BYTE_TIMEOUT, PIECE_BYTES, PING_TIMEOUT, PROGRESS_TIMEOUT, REMEMBERED_PEERS_MAX,
    SPEED_MIN_BYTES_PER_SECOND, UNREACHABLE_MEMORY,
};
use crate::serve::{PING, Status};
use crate::{FetchError, FetchFailure, Traffic};

pub(crate) use crate::serve::BlobServer;

/// Memory reserved for a blob before any of it has arrived: a peer's word alone gets no more.
const RESERVED_BYTES_MAX: u64 = 1 << 20;

/// Blobs up to this size are hashed on the spot, larger ones on a thread that may block.
const HASHED_IN_PLACE_BYTES_MAX: usize = 256 << 10;

/// Fetches blobs, over one connection per peer that is used again.
#[derive(Debug)]
pub(crate) struct BlobClient {
    iroh: iroh::Endpoint,
    id: NodeId,
    server: Arc<BlobServer>,
    traffic: Arc<TrafficCounters>,
    fetching: Semaphore,
    peers: Mutex<BTreeMap<NodeId, Arc<Slot>>>,
}

/// What is known of one peer.
#[derive(Debug, Default)]
struct Slot {
    /// The latest connection that it opened to here, and from where. A connection that breaks
    /// says so itself; one on which a fetch stalled may serve the next.
    incoming: Mutex<Option<(IncomingAddr, Connection)>>,
    /// How calling it went. Locked while calling, so that many fetches make one call.
    outgoing: tokio::sync::Mutex<Call>,
}

#[derive(Debug, Default)]
enum Call {
    #[default]
    None,
    Connected {
        addresses: Vec<SocketAddr>,
        connection: Connection,
    },
    Unreachable {
        addresses: Vec<SocketAddr>,
        since: Instant,
        cause: String,
    },
}

impl BlobClient {
    pub(crate) fn new(
        iroh: iroh::Endpoint,
        id: NodeId,
        server: Arc<BlobServer>,
        traffic: Arc<TrafficCounters>,
    ) -> Self {
        Self { iroh, id, server, traffic, fetching: Semaphore::new(FETCHING_MAX), peers: Mutex::default() }
    }

    /// Blobs can be asked of `node` over the connection that it opened.
    pub(crate) fn adopt(&self, node: NodeId, from: IncomingAddr, connection: Connection) {
        *lock(&self.slot(node).incoming) = Some((from, connection));
    }

    /// What the connections that are up have put on the wire, and taken from it.
    pub(crate) fn datagrams(&self) -> Traffic {
        let slots: Vec<Arc<Slot>> = lock(&self.peers).values().cloned().collect();
        let mut datagrams = Traffic::default();
        for connection in slots.iter().flat_map(|slot| slot.connections()) {
            let stats = connection.stats();
            datagrams.sent_bytes += stats.udp_tx.bytes;
            datagrams.received_bytes += stats.udp_rx.bytes;
        }
        datagrams
    }

    pub(crate) async fn fetch_from_any(
        &self,
        peers: &[Peer],
        digest: &Digest,
        max_bytes: u64,
    ) -> Result<VerifiedBlob, FetchError> {
        let mut attempts = Vec::new();
        for peer in peers {
            let _permit = self.fetching.acquire().await.expect("the semaphore is never closed");
            match self.fetch(peer, digest, max_bytes).await {
                Ok(blob) => return Ok(blob),
                Err(failure) => attempts.push((peer.node, failure)),
            }
        }
        Err(FetchError { digest: *digest, attempts })
    }

    /// Whether `peer` gives a sign of life.
    pub(crate) async fn is_alive(&self, peer: &Peer) -> bool {
        let answer = async {
            let slot = self.slot(peer.node);
            let connection = self.connection(&slot, peer).await?;
            let mut download = Download { received_bytes: 0, traffic: &self.traffic };
            let (_, [status]) = download.ask(&connection, &PING).await?;
            Ok::<_, FetchFailure>(Status::from_byte(status).is_some())
        };
        timeout(PING_TIMEOUT, answer).await.is_ok_and(|answer| answer.is_ok_and(|is_status| is_status))
    }

    async fn fetch(
        &self,
        peer: &Peer,
        digest: &Digest,
        max_bytes: u64,
    ) -> Result<VerifiedBlob, FetchFailure> {
        if peer.node == self.id {
            return Err(FetchFailure::Itself);
        }
        let slot = self.slot(peer.node);
        let connection = self.connection(&slot, peer).await?;
        let mut download = Download { received_bytes: 0, traffic: &self.traffic };
        let patience = FIRST_BYTE_TIMEOUT + Duration::from_secs(max_bytes / SPEED_MIN_BYTES_PER_SECOND);
        let outcome = timeout(patience, download.run(&connection, digest, max_bytes)).await;
        let outcome =
            outcome.unwrap_or(Err(FetchFailure::Stalled { received_bytes: download.received_bytes }));
        verify(*digest, outcome?).await
    }

    /// The peer's slot. When too many peers are remembered, one is forgotten: its connection
    /// lasts as long as somebody uses it.
    fn slot(&self, node: NodeId) -> Arc<Slot> {
        let mut peers = lock(&self.peers);
        if peers.len() >= REMEMBERED_PEERS_MAX && !peers.contains_key(&node) {
            peers.pop_first();
        }
        peers.entry(node).or_default().clone()
    }

    /// A connection that leads to where the peer is now: one that is up already, in either
    /// direction, or a new one, or at last one from elsewhere (a peer that can call but not be called).
    async fn connection(&self, slot: &Slot, peer: &Peer) -> Result<Connection, FetchFailure> {
        let incoming = slot.incoming();
        if let Some((IncomingAddr::Ip(from), connection)) = &incoming
            && peer.addresses.contains(from)
        {
            return Ok(connection.clone());
        }
        self.call(slot, peer)
            .await
            .or_else(|failure| incoming.map(|(_, connection)| connection).ok_or(failure))
    }

    async fn call(&self, slot: &Slot, peer: &Peer) -> Result<Connection, FetchFailure> {
        let mut call = slot.outgoing.lock().await;
        match &*call {
            Call::Connected { addresses, connection }
                if *addresses == peer.addresses && connection.close_reason().is_none() =>
            {
                return Ok(connection.clone());
            }
            Call::Unreachable { addresses, since, cause }
                if *addresses == peer.addresses && since.elapsed() < UNREACHABLE_MEMORY =>
            {
                return Err(FetchFailure::Unreachable { addresses: addresses.clone(), cause: cause.clone() });
            }
            _ => {}
        }
        // The transport keeps calling a node where its last connection was, even if that
        // process is dead and the node has come back elsewhere. So that connection ends first.
        if let Call::Connected { connection, .. } = std::mem::take(&mut *call) {
            connection.close(VarInt::from_u32(0), b"");
        }
        let addresses = peer.addresses.clone();
        match connect(&self.iroh, peer, BLOBS_ALPN).await {
            Ok(connection) => {
                tokio::spawn(self.server.clone().serve(connection.clone()));
                *call = Call::Connected { addresses, connection: connection.clone() };
                Ok(connection)
            }
            Err(cause) => {
                let since = Instant::now();
                *call = Call::Unreachable { addresses: addresses.clone(), since, cause: cause.clone() };
                Err(FetchFailure::Unreachable { addresses, cause })
            }
        }
    }
}

impl Slot {
    /// Those that are up; while one is being made, without that.
    fn connections(&self) -> Vec<Connection> {
        let outgoing = match self.outgoing.try_lock().as_deref() {
            Ok(Call::Connected { connection, .. }) => Some(connection.clone()),
            _ => None,
        };
        self.incoming().map(|(_, connection)| connection).into_iter().chain(outgoing).collect()
    }

    fn incoming(&self) -> Option<(IncomingAddr, Connection)> {
        lock(&self.incoming).clone().filter(|(_, connection)| connection.close_reason().is_none())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Serving holds the connection open; nobody will fetch over it any more.
        if let Call::Connected { connection, .. } = self.outgoing.get_mut() {
            connection.close(VarInt::from_u32(0), b"");
        }
    }
}

/// One blob on its way here.
struct Download<'a> {
    received_bytes: u64,
    traffic: &'a TrafficCounters,
}

impl Download<'_> {
    async fn run(
        &mut self,
        connection: &Connection,
        digest: &Digest,
        max_bytes: u64,
    ) -> Result<Vec<u8>, FetchFailure> {
        let (mut receive, [status]) = self.ask(connection, digest).await?;
        match Status::from_byte(status) {
            Some(Status::Held) => {}
            Some(Status::Absent) => return Err(FetchFailure::Absent),
            Some(Status::Unreadable) => return Err(FetchFailure::Unreadable),
            None => return Err(FetchFailure::Protocol("unknown status")),
        }
        let bytes = u64::from_le_bytes(self.read_array(&mut receive).await?);
        if bytes > max_bytes {
            // The rest is not wanted; a stream that has ended by itself is as good.
            let _ = receive.stop(VarInt::from_u32(0));
            return Err(FetchFailure::TooLarge { bytes, max_bytes });
        }
        self.read_body(&mut receive, bytes).await
    }

    /// Asks for a blob; the answer begins with a status.
    async fn ask(
        &mut self,
        connection: &Connection,
        digest: &Digest,
    ) -> Result<(RecvStream, [u8; 1]), FetchFailure> {
        let (mut send, mut receive) = connection.open_bi().await.map_err(|cause| self.lost(&cause))?;
        send.write_all(digest.as_bytes()).await.map_err(|cause| self.lost(&cause))?;
        send.finish().map_err(|cause| self.lost(&cause))?;
        let status = self.read_array(&mut receive).await?;
        Ok((receive, status))
    }

    async fn read_array<const N: usize>(
        &mut self,
        receive: &mut RecvStream,
    ) -> Result<[u8; N], FetchFailure> {
        let mut array = [0; N];
        match timeout(FIRST_BYTE_TIMEOUT, receive.read_exact(&mut array)).await {
            Err(_) => Err(self.stalled()),
            Ok(Err(ReadExactError::FinishedEarly(_))) => {
                Err(FetchFailure::Protocol("it ends within its header"))
            }
            Ok(Err(ReadExactError::ReadError(cause))) => Err(self.lost(&read_cause(cause))),
            Ok(Ok(())) => {
                self.count(N);
                Ok(array)
            }
        }
    }

    async fn read_body(&mut self, receive: &mut RecvStream, bytes: u64) -> Result<Vec<u8>, FetchFailure> {
        let mut body = Vec::with_capacity(bytes.min(RESERVED_BYTES_MAX) as usize);
        loop {
            match timeout(PROGRESS_TIMEOUT, receive.read_chunk(PIECE_BYTES)).await {
                Err(_) => return Err(self.stalled()),
                Ok(Err(cause)) => return Err(self.lost(&read_cause(cause))),
                Ok(Ok(Some(piece))) => {
                    self.count(piece.len());
                    if (body.len() + piece.len()) as u64 > bytes {
                        return Err(FetchFailure::Protocol("it is longer than announced"));
                    }
                    body.extend_from_slice(&piece);
                }
                Ok(Ok(None)) if (body.len() as u64) < bytes => {
                    return Err(FetchFailure::Protocol("it is shorter than announced"));
                }
                Ok(Ok(None)) => return Ok(body),
            }
        }
    }

    fn count(&mut self, bytes: usize) {
        self.received_bytes += bytes as u64;
        self.traffic.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn stalled(&self) -> FetchFailure {
        FetchFailure::Stalled { received_bytes: self.received_bytes }
    }

    fn lost(&self, cause: &dyn ToString) -> FetchFailure {
        FetchFailure::Lost { received_bytes: self.received_bytes, cause: cause.to_string() }
    }
}

/// What lies behind "connection lost".
fn read_cause(error: ReadError) -> String {
    match error {
        ReadError::ConnectionLost(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

async fn verify(digest: Digest, bytes: Vec<u8>) -> Result<VerifiedBlob, FetchFailure> {
    let verified = if bytes.len() <= HASHED_IN_PLACE_BYTES_MAX {
        VerifiedBlob::verify(digest, bytes)
    } else {
        tokio::task::spawn_blocking(move || VerifiedBlob::verify(digest, bytes))
            .await
            .expect("hashing does not panic and is not aborted")
    };
    verified.map_err(FetchFailure::False)
}
