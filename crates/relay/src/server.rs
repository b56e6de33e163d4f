//! A relay that runs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use iroh_base::EndpointId;
use iroh_relay::server::{
    Access, AccessControl, CertConfig, ClientRateLimit, ClientRequest, ConnectionId, Limits, QuicConfig,
    RelayConfig, Server, ServerConfig, SpawnError, TlsConfig,
};

use crate::limits::{CLIENT_KIB_PER_S, CLIENT_KIB_PER_S_MAX, CLIENTS_MAX};
use crate::{RelayError, TlsFiles, tls};

const KIB: u32 = 1 << 10;
/// Free ports that are tried when any will do: between finding one and taking it somebody else may.
const PORTS_TRIED_MAX: usize = 8;

/// How to run a relay.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// Where to listen, over TCP and UDP; port 0 takes any free port.
    pub listen: SocketAddr,
    /// What one client may send through it, KiB a second; a second's worth at once.
    pub client_kib_per_s: NonZero<u32>,
    /// Clients at once.
    pub clients_max: usize,
    /// HTTPS with this certificate; without it plain HTTP.
    pub tls: Option<TlsFiles>,
}

impl RelayOptions {
    /// Plain HTTP at `listen`, with the bounds of [`crate::limits`].
    pub fn on(listen: SocketAddr) -> Self {
        Self { listen, client_kib_per_s: CLIENT_KIB_PER_S, clients_max: CLIENTS_MAX, tls: None }
    }
}

/// What a relay has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Clients connected now.
    pub clients: usize,
    /// Bytes that clients have sent, of which most were passed on.
    pub received_bytes: u64,
    /// Bytes that were passed on to clients.
    pub sent_bytes: u64,
}

/// A relay that runs, until it is stopped or dropped.
#[derive(Debug)]
pub struct Relay {
    server: Server,
    address: SocketAddr,
    is_secure: bool,
    clients: Arc<Clients>,
}

impl Relay {
    /// Listens.
    pub async fn start(options: RelayOptions) -> Result<Self, RelayError> {
        let clients = Arc::new(Clients { now: AtomicUsize::new(0), most: options.clients_max });
        let mut tries = 0;
        loop {
            let listen = free_port(options.listen)?;
            let is_taken = match Server::spawn(config(&options, listen, clients.clone())?).await {
                Ok(server) => {
                    let is_secure = options.tls.is_some();
                    return Ok(Self { server, address: listen, is_secure, clients });
                }
                Err(cause) => spawn_error(listen, &cause),
            };
            tries += 1;
            let again = options.listen.port() == 0 && tries < PORTS_TRIED_MAX;
            if !(again && matches!(is_taken, RelayError::AddressInUse { .. })) {
                return Err(is_taken);
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to give to nodes: at an address of this machine if it listens on every interface.
    pub fn url(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        let ip = match self.address.ip() {
            ip if ip.is_unspecified() => own_address(ip),
            ip => ip,
        };
        format!("{scheme}://{}", SocketAddr::new(ip, self.address.port()))
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        let metrics = &self.server.metrics().server;
        Counters {
            clients: self.clients.now.load(Ordering::Relaxed),
            received_bytes: metrics.bytes_recv.get(),
            sent_bytes: metrics.bytes_sent.get(),
        }
    }

    /// Runs until `shutdown` completes, and says what it did; or until the server ends by itself, which is an error.
    pub async fn run_until(mut self, shutdown: impl Future<Output = ()>) -> Result<Counters, RelayError> {
        tokio::select! {
            () = shutdown => {
                let counters = self.counters();
                self.stop().await;
                Ok(counters)
            }
            ended = self.server.join() => Err(RelayError::Server(match ended {
                Ok(Ok(())) => "its tasks have ended".to_string(),
                Ok(Err(cause)) => cause.to_string(),
                Err(cause) => cause.to_string(),
            })),
        }
    }

    /// Ends every connection, and frees the port.
    pub async fn stop(self) {
        // That a task of the server had failed does not keep it from stopping.
        let _ = self.server.shutdown().await;
    }
}

/// Who is connected, counted.
#[derive(Debug)]
struct Clients {
    now: AtomicUsize,
    most: usize,
}

impl AccessControl for Clients {
    async fn on_connect(&self, _: &ClientRequest) -> Access {
        let admitted = self
            .now
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < self.most).then_some(now + 1));
        match admitted {
            Ok(_) => Access::Allow,
            Err(_) => {
                Access::Deny { reason: Some(format!("the relay is full: it has {} clients", self.most)) }
            }
        }
    }

    fn on_disconnect(&self, _: EndpointId, _: ConnectionId) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

fn config(
    options: &RelayOptions,
    listen: SocketAddr,
    clients: Arc<Clients>,
) -> Result<ServerConfig, RelayError> {
    let kib = options.client_kib_per_s.get().min(CLIENT_KIB_PER_S_MAX);
    let bytes_per_s = NonZero::new(kib * KIB).expect("a product of two that are not zero");
    let mut rate = ClientRateLimit::new(bytes_per_s);
    rate.max_burst_bytes = Some(bytes_per_s);
    let mut limits = Limits::default();
    limits.client_rx = Some(rate);

    let mut relay = RelayConfig::new(listen);
    relay.limits = limits;
    relay.access = clients;
    let mut quic = QuicConfig::new(listen);
    match &options.tls {
        None => quic.server_config = Some(tls::unsigned()?),
        Some(files) => {
            let server_config = files.load()?;
            quic.server_config = Some(server_config.clone());
            relay.tls = Some(TlsConfig::new(listen, CertConfig::Manual { server_config }));
            // The server insists on a port without TLS as well; nobody has to reach it.
            relay.http_bind_addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        }
    }
    let mut config = ServerConfig::default();
    config.relay = Some(relay);
    config.quic = Some(quic);
    Ok(config)
}

/// `listen`, with a port that is free for TCP and UDP if any will do.
fn free_port(listen: SocketAddr) -> Result<SocketAddr, RelayError> {
    let error = |cause: io::Error| bind_error(listen, &cause);
    if listen.port() != 0 {
        return Ok(listen);
    }
    let mut tries = 0;
    loop {
        let tcp = TcpListener::bind(listen).map_err(error)?;
        let found = tcp.local_addr().map_err(error)?;
        tries += 1;
        match UdpSocket::bind(found) {
            Ok(_) => return Ok(found),
            Err(_) if tries < PORTS_TRIED_MAX => {}
            Err(cause) => return Err(error(cause)),
        }
    }
}

fn spawn_error(listen: SocketAddr, error: &SpawnError) -> RelayError {
    let mut cause: &dyn std::error::Error = error;
    loop {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return bind_error(listen, io);
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return RelayError::Server(cause.to_string()),
        }
    }
}

fn bind_error(address: SocketAddr, cause: &io::Error) -> RelayError {
    match cause.kind() {
        io::ErrorKind::AddrInUse => RelayError::AddressInUse { address },
        _ => RelayError::Bind { address, cause: cause.to_string() },
    }
}

/// The address of this machine that the rest of its network most likely sees. Choosing a route for a datagram sends none.
fn own_address(unspecified: IpAddr) -> IpAddr {
    let (anywhere, loopback): (IpAddr, IpAddr) = match unspecified {
        // Addresses for documentation (RFC 5737, RFC 3849), which nobody has.
        IpAddr::V4(_) => (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::LOCALHOST.into()),
    };
    let found = UdpSocket::bind(SocketAddr::new(unspecified, 0))
        .and_then(|socket| socket.connect(SocketAddr::new(anywhere, 9)).and_then(|()| socket.local_addr()));
    found.map_or(loopback, |address| address.ip())
}
