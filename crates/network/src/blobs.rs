//! The side of the blob exchange that wants blobs: connections to those who may have them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use iroh::endpoint::{Connection, IncomingAddr, VarInt};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use zoo_protocol::{NodeId, Peer};

use crate::download::{Download, Found, Wish};
use crate::endpoint::{BLOBS_ALPN, Dialer, TrafficCounters, lock};
use crate::limits::{
    CONNECTION_WINDOW_BYTES, DIRECT_PATH_POLL, DIRECT_PATH_TIMEOUT, FETCHING_MAX, PING_TIMEOUT,
    REMEMBERED_PEERS_MAX, SLICE_TIMEOUT, UNREACHABLE_MEMORY,
};
use crate::small::Wanted;
use crate::{FetchFailure, Traffic};

pub(crate) use crate::serve::BlobServer;

/// Fetches blobs, over one connection per peer that is used again.
#[derive(Debug)]
pub(crate) struct BlobClient {
    dialer: Dialer,
    id: NodeId,
    server: Arc<BlobServer>,
    pub(crate) traffic: Arc<TrafficCounters>,
    pub(crate) fetching: Semaphore,
    peers: Mutex<BTreeMap<NodeId, Arc<Slot>>>,
}

/// What is known of one peer.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Small blobs that will be asked for together.
    pub(crate) wanted: Wanted,
    /// The latest connection that it opened to here, and from where. A connection that breaks
    /// says so itself; one on which a fetch stalled may serve the next.
    incoming: Mutex<Option<(IncomingAddr, Connection)>>,
    /// How calling it went. Locked while calling, so that many fetches make one call.
    outgoing: tokio::sync::Mutex<Call>,
    /// The connection over which a large blob was refused first, because it goes through a relay, and when.
    relayed: Mutex<Option<(usize, Instant)>>,
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
        dialer: Dialer,
        id: NodeId,
        server: Arc<BlobServer>,
        traffic: Arc<TrafficCounters>,
    ) -> Self {
        Self { dialer, id, server, traffic, fetching: Semaphore::new(FETCHING_MAX), peers: Mutex::default() }
    }

    /// Who asks.
    pub(crate) fn id(&self) -> NodeId {
        self.id
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

    /// Whether `peer` gives a sign of life.
    pub(crate) async fn is_alive(&self, peer: &Peer) -> bool {
        let answer = async {
            let slot = self.slot(peer.node);
            let connection = self.find_connection(&slot, peer).await?;
            Download::new(&self.traffic).ping(&connection).await
        };
        timeout(PING_TIMEOUT, answer).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Fetches some leaves of a blob from `peer`, one slice at a time of all that are fetched. `found` hears the blob's size once it can be
    /// believed, and every leaf that was checked.
    pub(crate) async fn download(
        self: &Arc<Self>,
        peer: &Peer,
        wish: &Wish,
        found: &mut (dyn FnMut(Found<'_>) -> Result<(), FetchFailure> + Send),
    ) -> Result<(), FetchFailure> {
        if peer.node == self.id {
            return Err(FetchFailure::Itself);
        }
        let slot = self.slot(peer.node);
        if wish.is_small() {
            let blob = self.fetch_small(slot, peer, wish).await?;
            return found(Found { bytes: blob.len() as u64, leaf: 0, is: &blob });
        }
        let connection = self.connection(&slot, peer).await?;
        loop {
            let permit = self.fetching.acquire().await.expect("the semaphore is never closed");
            let mut download = Download::new(&self.traffic);
            let outcome = timeout(SLICE_TIMEOUT, download.run(&connection, wish, found)).await;
            let outcome = outcome.unwrap_or_else(|_| Err(download.stalled()));
            drop(permit);
            if outcome != Err(FetchFailure::Relayed) || !slot.may_become_direct(&connection) {
                return outcome;
            }
            sleep(DIRECT_PATH_POLL).await;
        }
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
    pub(crate) async fn connection(&self, slot: &Slot, peer: &Peer) -> Result<Connection, FetchFailure> {
        let connection = self.find_connection(slot, peer).await?;
        // From now on it carries what was asked for.
        connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
        Ok(connection)
    }

    async fn find_connection(&self, slot: &Slot, peer: &Peer) -> Result<Connection, FetchFailure> {
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
        match self.dialer.call(peer, BLOBS_ALPN).await {
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
    /// Whether it is too early to give up on a direct path for `connection`.
    fn may_become_direct(&self, connection: &Connection) -> bool {
        let mut relayed = lock(&self.relayed);
        let since = match *relayed {
            Some((id, since)) if id == connection.stable_id() => since,
            _ => relayed.insert((connection.stable_id(), Instant::now())).1,
        };
        since.elapsed() < DIRECT_PATH_TIMEOUT
    }

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
