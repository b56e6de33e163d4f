//! A process on the network: its socket, its identity, what it serves.

use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use iroh::endpoint::{
    BindError, Connection, Incoming, IncomingAddr, QuicTransportConfig, RecvStream, SendStream, VarInt,
    presets,
};
use iroh::{EndpointAddr, PublicKey, RelayUrl, SecretKey};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::debug;
use zoo_content::{BlobStore, Digest, FileStore, VerifiedBlob};
use zoo_protocol::limits::MAX_ADDRESSES;
use zoo_protocol::{FromOrchestrator, Link, NodeId, NodeKey, Peer, ToOrchestrator};

use crate::blobs::{BlobClient, BlobServer};
use crate::callers::Callers;
use crate::control::{ControlConnection, ControlStream};
use crate::frames::{Frames, FramesConnection};
use crate::greeting::{Call, Greeting, Handshake};
use crate::limits::{
    CONNECT_TIMEOUT, CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX, CONNECTIONS_MAX_EACH, CONTROL_BACKLOG_MAX,
    IDLE_TIMEOUT, KEEP_ALIVE, STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX, UNASKED_WINDOW_BYTES,
};
use crate::room::{GivesWay, Place, Room, Source};
use crate::{FetchError, NetworkError, Relay, Ticket, meeting, swarm};

const CONTROL_ALPN: &[u8] = b"zoo/control";
pub(crate) const BLOBS_ALPN: &[u8] = b"zoo/blobs/3";
const FRAMES_ALPN: &[u8] = b"zoo/frames";

/// With what an [`Endpoint`] is bound.
#[derive(Clone, Copy, Debug)]
pub struct BindOptions<'a> {
    /// The node's key: its [`NodeId`] is its address book entry and its TLS identity.
    pub key: &'a NodeKey,
    /// Where to listen; port 0 takes any free port.
    pub listen: SocketAddr,
    /// Where it is met, and meets others, if there is no direct way.
    pub relay: Option<&'a Relay>,
}

/// Bytes that went over the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To others.
    pub sent_bytes: u64,
    /// From others.
    pub received_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct TrafficCounters {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

/// A node on the network. Clones share one socket.
///
/// Call [`Endpoint::close`] before the process ends: peers then know at once.
/// When the last clone is dropped without it, peers notice after
/// [`crate::limits::IDLE_TIMEOUT`].
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    iroh: Dialer,
    id: NodeId,
    services: Arc<Services>,
    traffic: Arc<TrafficCounters>,
    accepting: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What it takes to call others.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    iroh: iroh::Endpoint,
    relay: Option<(RelayUrl, Relay)>,
}

/// What incoming connections find here.
#[derive(Debug)]
struct Services {
    blobs: Arc<BlobServer>,
    peers: Arc<BlobClient>,
    control: Mutex<Option<mpsc::Sender<ControlConnection>>>,
    frames: Mutex<Option<mpsc::Sender<FramesConnection>>>,
    callers: Callers,
}

impl Endpoint {
    /// Opens the socket. Nobody is contacted but the relay, if there is one: no discovery, no other host.
    pub async fn bind(options: BindOptions<'_>) -> Result<Self, NetworkError> {
        let address = options.listen;
        let relay = options.relay.cloned();
        let builder = meeting::tell(iroh::Endpoint::builder(presets::Minimal), relay.as_ref())?;
        let iroh = builder
            .secret_key(SecretKey::from_bytes(&options.key.seed()))
            .alpns(vec![CONTROL_ALPN.to_vec(), BLOBS_ALPN.to_vec(), FRAMES_ALPN.to_vec()])
            .clear_address_lookup()
            .transport_config(transport_config())
            .clear_ip_transports()
            .bind_addr(address)
            .map_err(|cause| NetworkError::Bind { address, cause: cause.to_string() })?
            .bind()
            .await
            .map_err(|cause| bind_error(address, &cause))?;

        let id = options.key.id();
        assert_eq!(iroh.id().as_bytes(), &id.0, "the transport derives the same identity from the seed");
        let traffic = Arc::new(TrafficCounters::default());
        let blobs = Arc::new(BlobServer::new(relay.as_ref(), traffic.clone()));
        let callers = Callers::new(relay.is_some());
        let relay =
            relay.map(|relay| Ok::<_, NetworkError>((meeting::url_of(&relay)?, relay))).transpose()?;
        let iroh = Dialer { iroh, relay };
        let peers = Arc::new(BlobClient::new(iroh.clone(), id, blobs.clone(), traffic.clone()));
        let services =
            Arc::new(Services { blobs, peers, control: Mutex::default(), frames: Mutex::default(), callers });
        let accepting = tokio::spawn(accept_all(iroh.iroh.clone(), services.clone()));
        Ok(Self { inner: Arc::new(Inner { iroh, id, services, traffic, accepting }) })
    }

    /// Who this is.
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    /// Where others reach this node; at most 8. When it listens on every
    /// interface, the addresses of the interfaces.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let bound = self.inner.iroh.iroh.bound_sockets();
        let Some(everywhere) = bound.iter().find(|address| address.ip().is_unspecified()) else {
            return bound;
        };
        let mut addresses: Vec<_> = self.inner.iroh.iroh.addr().ip_addrs().copied().collect();
        addresses.retain(|address| !address.ip().is_unspecified());
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() {
            addresses.push(SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), everywhere.port()));
        }
        addresses
    }

    /// This node as a peer of others.
    pub fn peer(&self) -> Peer {
        Peer { node: self.id(), addresses: self.addresses() }
    }

    /// This node as a word to copy and paste.
    pub fn ticket(&self) -> Ticket {
        let relay = self.inner.iroh.relay.as_ref().map(|(_, relay)| relay.clone());
        Ticket { relay, ..Ticket::of(self.peer()) }
    }

    /// Waits until others can meet this node at its relay, at most [`crate::limits::RELAY_CONNECT_TIMEOUT`]; without a relay it
    /// does not wait.
    pub async fn meet_relay(&self) -> Result<(), NetworkError> {
        match &self.inner.iroh.relay {
            Some((_, relay)) => meeting::meet(&self.inner.iroh.iroh, relay).await,
            None => Ok(()),
        }
    }

    /// Blob bytes so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            sent_bytes: self.inner.traffic.sent.load(Ordering::Relaxed),
            received_bytes: self.inner.traffic.received.load(Ordering::Relaxed),
        }
    }

    /// How fast blobs have left so far and how long answers took; `None` while too few were sent.
    pub fn link(&self) -> Option<Link> {
        self.inner.services.blobs.meter.link()
    }

    /// Everything that the connections over which blobs go have put on the wire so far, as their UDP payloads: blobs, what
    /// asks for them, and what the transport adds. Connections that are closed are not counted any more.
    pub fn datagrams(&self) -> Traffic {
        self.inner.services.peers.datagrams()
    }

    /// Serves every blob of `store` to whoever asks, from now on, instead of any store given before.
    pub fn serve_blobs(&self, store: Arc<dyn BlobStore>) {
        self.inner.services.blobs.set_store(Some(store));
    }

    /// Sends blobs no faster than this from now on, in bytes a second, all streams together; `None` is without a limit.
    pub fn limit_upload(&self, bytes_per_second: Option<NonZero<u64>>) {
        self.inner.services.blobs.pace.set(bytes_per_second);
    }

    /// Accepts control connections from now on; they wait in the returned
    /// queue, of bounded length, until taken. A second call takes over from the first.
    pub fn control_connections(&self) -> mpsc::Receiver<ControlConnection> {
        let (sender, receiver) = mpsc::channel(CONTROL_BACKLOG_MAX);
        *lock(&self.inner.services.control) = Some(sender);
        receiver
    }

    /// Opens a conversation with the orchestrator that `ticket` names. The
    /// other side learns of it with the first message sent.
    pub async fn connect(
        &self,
        ticket: &Ticket,
    ) -> Result<ControlStream<ToOrchestrator, FromOrchestrator>, NetworkError> {
        let peer = ticket.peer();
        let connection = self.inner.iroh.call(&peer, CONTROL_ALPN).await.map_err(|cause| {
            NetworkError::Unreachable { node: peer.node, addresses: peer.addresses.clone(), cause }
        })?;
        // Whoever calls an orchestrator wants to hear what it says.
        connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
        let streams = connection
            .open_bi()
            .await
            .map_err(|cause| NetworkError::Lost { node: peer.node, cause: cause.to_string() })?;
        Ok(ControlStream::new(peer.node, connection, streams))
    }

    /// Accepts conversations of frames from now on; they wait in the returned queue, of bounded length, until taken. A second call takes
    /// over from the first.
    pub fn frames_connections(&self) -> mpsc::Receiver<FramesConnection> {
        let (sender, receiver) = mpsc::channel(CONTROL_BACKLOG_MAX);
        *lock(&self.inner.services.frames) = Some(sender);
        receiver
    }

    /// Opens a conversation of frames with `peer`, which learns of it with the first frame.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect_frames(&self, peer: &Peer) -> Result<Frames, NetworkError> {
        let connection = self.inner.iroh.call(peer, FRAMES_ALPN).await.map_err(|cause| {
            NetworkError::Unreachable { node: peer.node, addresses: peer.addresses.clone(), cause }
        })?;
        connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
        let streams = connection.open_bi().await;
        let streams =
            streams.map_err(|cause| NetworkError::Lost { node: peer.node, cause: cause.to_string() })?;
        Ok(Frames::new(peer.node, connection, streams))
    }

    /// Fetches a blob from `peer`. Its announced size is compared with
    /// `max_bytes` before anything is read, and its hash with `digest` before anything is returned.
    pub async fn fetch(
        &self,
        peer: &Peer,
        digest: &Digest,
        max_bytes: u64,
    ) -> Result<VerifiedBlob, FetchError> {
        self.fetch_from_any(std::slice::from_ref(peer), digest, max_bytes).await
    }

    /// Asks `peers`, in the order given, until one has the blob; a large blob is fetched from several at once.
    /// Each is given up after the times in [`crate::limits`]; the error says what became of each.
    pub async fn fetch_from_any(
        &self,
        peers: &[Peer],
        digest: &Digest,
        max_bytes: u64,
    ) -> Result<VerifiedBlob, FetchError> {
        swarm::fetch(self.inner.services.peers.clone(), peers, *digest, max_bytes, None).await
    }

    /// The same, but what has arrived of a large blob is kept in `store` until the blob is, also if this process ends: the next fetch
    /// goes on from there.
    pub async fn fetch_resumably(
        &self,
        peers: &[Peer],
        digest: &Digest,
        max_bytes: u64,
        store: &FileStore,
    ) -> Result<VerifiedBlob, FetchError> {
        swarm::fetch(self.inner.services.peers.clone(), peers, *digest, max_bytes, Some(store)).await
    }

    /// Whether `peer` gives a sign of life within [`crate::limits::PING_TIMEOUT`].
    pub async fn is_alive(&self, peer: &Peer) -> bool {
        self.inner.services.peers.is_alive(peer).await
    }

    /// Ends every connection, telling the other sides, and frees the socket.
    pub async fn close(&self) {
        lock(&self.inner.services.control).take();
        lock(&self.inner.services.frames).take();
        self.inner.services.blobs.set_store(None);
        self.inner.iroh.iroh.close().await;
    }
}

impl Dialer {
    /// Calls `peer` at its addresses, and at this node's own relay. The error is a cause for people; callers add whom they called.
    pub(crate) async fn call(&self, peer: &Peer, alpn: &[u8]) -> Result<Connection, String> {
        let id = PublicKey::from_bytes(&peer.node.0).map_err(|_| "its id is not a valid key".to_string())?;
        let addresses = peer.addresses.iter().take(MAX_ADDRESSES);
        let mut address = addresses
            .filter(|address| meeting::is_of_a_machine(address))
            .fold(EndpointAddr::new(id), |address, &ip| address.with_ip_addr(ip));
        let mut ways = String::new();
        if let Some((url, relay)) = &self.relay {
            address = address.with_relay_url(url.clone());
            ways = format!(", nor through the relay {relay}");
        }
        match timeout(CONNECT_TIMEOUT, self.iroh.connect(address, alpn)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(cause)) => Err(innermost(&cause) + &ways),
            Err(_) => Err(format!("no answer within {} s{ways}", CONNECT_TIMEOUT.as_secs())),
        }
    }
}

async fn accept_all(iroh: iroh::Endpoint, services: Arc<Services>) {
    let connections = Room::new(CONNECTIONS_MAX, CONNECTIONS_MAX_EACH, GivesWay::Newest);
    let greeting = Greeting::new();
    while let Some(incoming) = iroh.accept().await {
        let source = Source::of(&incoming.remote_addr());
        let handshake = match greeting.call(source, incoming.remote_addr_validated()) {
            Call::Answered(handshake) => handshake,
            Call::Doubted => {
                // It was not proven, so it can be asked.
                let _ = incoming.retry();
                continue;
            }
            Call::Refused => {
                debug!(?source, "refused a connection: too many handshakes");
                incoming.refuse();
                continue;
            }
        };
        let Some(place) = connections.enter(source) else {
            debug!(?source, "refused a connection: too many are open");
            incoming.refuse();
            continue;
        };
        let services = services.clone();
        tokio::spawn(async move {
            if let Err(cause) = accept_one(incoming, handshake, place, &services).await {
                debug!(cause, "incoming connection failed");
            }
        });
    }
}

/// Sees one connection through from handshake to close.
async fn accept_one(
    incoming: Incoming,
    handshake: Handshake,
    place: Place,
    services: &Services,
) -> Result<(), String> {
    let from = incoming.remote_addr();
    let connection = timeout(CONNECT_TIMEOUT, incoming)
        .await
        .map_err(|_| "no handshake in time".to_string())?
        .map_err(|cause| innermost(&cause))?;
    drop(handshake);
    let node = NodeId(*connection.remote_id().as_bytes());
    let stable_id = connection.stable_id();
    if !services.callers.add(node, from.clone(), &connection) {
        connection.close(VarInt::from_u32(3), b"this node has too many connections");
        return Err(format!("node {} has too many connections", node.short()));
    }
    let closing = connection.weak_handle();
    let outcome = tokio::select! {
        outcome = serve_one(node, from, connection, services) => outcome,
        () = place.taken_away() => {
            if let Some(connection) = closing.upgrade() {
                connection.close(VarInt::from_u32(4), b"others need the room");
            }
            Err("others need the room".into())
        }
    };
    services.callers.remove(node, stable_id);
    outcome
}

async fn serve_one(
    node: NodeId,
    from: IncomingAddr,
    connection: Connection,
    services: &Services,
) -> Result<(), String> {
    if connection.alpn() == BLOBS_ALPN {
        services.peers.adopt(node, from, connection.clone());
        services.blobs.clone().serve(connection).await;
        return Ok(());
    }
    if connection.alpn() == FRAMES_ALPN {
        let queue = lock(&services.frames).clone();
        let frames = |connection, streams| (node, Frames::new(node, connection, streams));
        return hand_over(connection, queue, b"this node has no such conversations", frames).await;
    }
    let queue = lock(&services.control).clone();
    let control = |connection, streams| (node, ControlStream::new(node, connection, streams));
    hand_over(connection, queue, b"this node is no orchestrator", control).await
}

/// Hands the conversation that a connection is to whoever waits for one, and stays until it ends.
async fn hand_over<T>(
    connection: Connection,
    queue: Option<mpsc::Sender<T>>,
    otherwise: &'static [u8],
    conversation: impl FnOnce(Connection, (SendStream, RecvStream)) -> T,
) -> Result<(), String> {
    let Some(queue) = queue else {
        connection.close(VarInt::from_u32(1), otherwise);
        return Ok(());
    };
    let streams = timeout(CONNECT_TIMEOUT, connection.accept_bi())
        .await
        .map_err(|_| "no first message in time".to_string())?
        .map_err(|cause| cause.to_string())?;
    let closed = connection.weak_handle().closed();
    queue.send(conversation(connection, streams)).await.map_err(|_| "closing".to_string())?;
    closed.await;
    Ok(())
}

fn transport_config() -> QuicTransportConfig {
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_PER_CONNECTION_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(UNASKED_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .keep_alive_interval(KEEP_ALIVE)
        .default_path_keep_alive_interval(KEEP_ALIVE)
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32).into()))
        .default_path_max_idle_timeout(IDLE_TIMEOUT)
        .build()
}

fn bind_error(address: SocketAddr, error: &BindError) -> NetworkError {
    match error {
        BindError::Sockets { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            NetworkError::AddressInUse { address }
        }
        other => NetworkError::Bind { address, cause: innermost(other) },
    }
}

/// The deepest cause of an error: the transport's outer layers only say that something failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// The lock, which no panic can have poisoned.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this lock")
}
