//! Floods an orchestrator, as a stranger would: `benches/flood.py` measures what it costs the honest.
//!
//! ```text
//! cargo run --release -p zoo-network --example flood -- TICKET MODE [--seconds N] [--sources N] [--http ADDRESS] [--blob DIGEST]
//! ```
//!
//! Modes: `connections` (10,000 connections, kept), `malformed` (random datagrams, handshakes that are begun and left, other protocols, oversized
//! and false frames, claims of huge lengths), `slow` (blobs, events and HTTP that are asked for and not read), `joins` (fresh keys),
//! `accusations` (members that report whatever can be said against others). With `--sources` it calls from so many addresses of
//! the loopback network, 127.0.0.2 and on. Ends with one JSON object: what was tried and what was let in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use iroh::endpoint::{Connection, presets};
use iroh::{EndpointAddr, PublicKey, RelayMode, SecretKey};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use zoo_network::Ticket;
use zoo_protocol::{
    FromOrchestrator, Link, MAX_FRAME_BYTES, NodeId, NodeKey, NodeProfile, Report, Role, Speeds,
    ToOrchestrator, VERSION, Work, encode,
};

const CONTROL: &[u8] = b"zoo/control";
const BLOBS: &[u8] = b"zoo/blobs/3";
/// Connections that are tried to be kept open.
const CONNECTIONS: u64 = 10_000;
/// Attempts under way at once.
const AT_ONCE: usize = 64;

struct Flood {
    ticket: Ticket,
    until: Instant,
    sources: u8,
    http: Option<SocketAddr>,
    blob: Option<[u8; 32]>,
    tried: AtomicU64,
    let_in: AtomicU64,
    sent: AtomicU64,
    random: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Some((flood, mode)) = options() else {
        eprintln!("usage: flood TICKET MODE [--seconds N] [--sources N] [--http ADDRESS] [--blob DIGEST]");
        std::process::exit(2);
    };
    let flood = Arc::new(flood);
    // What is still under way when the time is over is dropped.
    let _ = timeout(flood.until - Instant::now() + Duration::from_secs(1), flood.clone().run(&mode)).await;
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    println!(
        "{{\"mode\":\"{mode}\",\"tried\":{},\"let_in\":{},\"sent\":{}}}",
        count(&flood.tried),
        count(&flood.let_in),
        count(&flood.sent)
    );
    std::process::exit(0);
}

fn options() -> Option<(Flood, String)> {
    let mut arguments = std::env::args().skip(1);
    let (ticket, mode) = (arguments.next()?.parse().ok()?, arguments.next()?);
    let (mut seconds, mut sources, mut http, mut blob) = (20, 0, None, None);
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--seconds" => seconds = value.parse().ok()?,
            "--sources" => sources = value.parse().ok()?,
            "--http" => http = Some(value.parse().ok()?),
            "--blob" => blob = Some(bytes_of(&value)?),
            _ => return None,
        }
    }
    let until = Instant::now() + Duration::from_secs(seconds);
    let [tried, let_in, sent] = [0; 3].map(AtomicU64::new);
    // Not for secrets, but other keys in every run.
    let random = AtomicU64::new(u64::from(std::process::id()) << 32);
    Some((Flood { ticket, until, sources, http, blob, tried, let_in, sent, random }, mode))
}

fn bytes_of(hex: &str) -> Option<[u8; 32]> {
    let byte = |at: usize| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok();
    (0..32).map(byte).collect::<Option<Vec<u8>>>()?.try_into().ok()
}

impl Flood {
    async fn run(self: Arc<Self>, mode: &str) {
        match mode {
            "connections" => self.connections().await,
            "malformed" => {
                tokio::join!(
                    self.garbage(),
                    self.repeat(Self::leave_a_handshake),
                    self.repeat(Self::malform)
                );
            }
            "slow" => {
                tokio::join!(self.slow_readers(), self.slow_http());
            }
            "joins" => self.repeat(Self::join_and_stay).await,
            "accusations" => self.repeat_with(8, Self::accuse).await,
            other => eprintln!("no such mode: {other}"),
        }
    }

    /// The next number of SplitMix64 (Steele, Lea, Flood: OOPSLA 2014).
    fn next(&self) -> u64 {
        let state = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn key(&self) -> NodeKey {
        let words = [0; 4].map(|_: u64| self.next().to_le_bytes());
        NodeKey::from_seed(words.concat().try_into().expect("four words have 32 bytes"))
    }

    /// An address of this machine to call from.
    fn from(&self) -> IpAddr {
        let last = match self.sources {
            0 => 1,
            sources => 2 + (self.next() % u64::from(sources)) as u8,
        };
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
    }

    async fn endpoint(&self, key: &NodeKey) -> Option<iroh::Endpoint> {
        let builder = iroh::Endpoint::builder(presets::Minimal)
            .secret_key(SecretKey::from_bytes(&key.seed()))
            .relay_mode(RelayMode::Disabled)
            .clear_address_lookup()
            .clear_ip_transports()
            .bind_addr(SocketAddr::new(self.from(), 0))
            .ok()?;
        builder.bind().await.ok()
    }

    async fn call(&self, endpoint: &iroh::Endpoint, protocol: &[u8]) -> Option<Connection> {
        self.tried.fetch_add(1, Ordering::Relaxed);
        let peer = self.ticket.peer();
        let id = PublicKey::from_bytes(&peer.node.0).ok()?;
        let to = peer.addresses.iter().fold(EndpointAddr::new(id), |to, &ip| to.with_ip_addr(ip));
        timeout(Duration::from_secs(5), endpoint.connect(to, protocol)).await.ok()?.ok()
    }

    /// Keeps so many attempts under way until the time is over.
    async fn repeat<F: Future<Output = Option<()>> + 'static>(self: &Arc<Self>, attempt: fn(Arc<Self>) -> F) {
        self.repeat_with(AT_ONCE, attempt).await;
    }

    async fn repeat_with<F: Future<Output = Option<()>> + 'static>(
        self: &Arc<Self>,
        at_once: usize,
        attempt: fn(Arc<Self>) -> F,
    ) {
        let attempts = (0..at_once).map(|_| async {
            while Instant::now() < self.until {
                attempt(self.clone()).await;
                tokio::task::yield_now().await;
            }
        });
        let local = tokio::task::LocalSet::new();
        let mut all = Vec::new();
        for attempt in attempts {
            all.push(Box::pin(attempt));
        }
        local.run_until(join_all(all)).await;
    }

    /// Many connections of few sockets and keys, and as many more as are turned away.
    async fn connections(self: &Arc<Self>) {
        let (mut calls, mut kept) = (JoinSet::new(), Vec::new());
        let mut endpoints = Vec::new();
        for _ in 0..CONNECTIONS / 16 {
            if self.tried.load(Ordering::Relaxed) >= CONNECTIONS || Instant::now() >= self.until {
                break;
            }
            let Some(endpoint) = self.endpoint(&self.key()).await else { break };
            for _ in 0..16 {
                let (flood, endpoint) = (self.clone(), endpoint.clone());
                calls.spawn(async move {
                    flood.call(&endpoint, if flood.next() % 2 == 0 { CONTROL } else { BLOBS }).await
                });
                if calls.len() >= AT_ONCE
                    && let Some(Ok(Some(connection))) = calls.join_next().await
                {
                    self.let_in.fetch_add(1, Ordering::Relaxed);
                    kept.push(connection);
                }
            }
            endpoints.push(endpoint);
        }
        while let Some(Ok(called)) = calls.join_next().await {
            self.let_in.fetch_add(u64::from(called.is_some()), Ordering::Relaxed);
            kept.extend(called);
        }
        sleep(self.until.saturating_duration_since(Instant::now())).await;
        let open = kept.iter().filter(|connection| connection.close_reason().is_none()).count();
        self.sent.store(open as u64, Ordering::Relaxed);
    }

    /// Random bytes, some of which begin like packets of QUIC.
    async fn garbage(&self) {
        let Ok(socket) = UdpSocket::bind(SocketAddr::new(self.from(), 0)).await else { return };
        let to = self.ticket.peer().addresses;
        while Instant::now() < self.until {
            for _ in 0..16 {
                let mut datagram: Vec<u8> = (0..150).flat_map(|_| self.next().to_le_bytes()).collect();
                if self.next().is_multiple_of(2) {
                    // A long header of version 1: an Initial with connection ids that nobody gave.
                    datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
                }
                for &to in &to {
                    if socket.send_to(&datagram, to).await.is_ok() {
                        self.sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn leave_a_handshake(self: Arc<Self>) -> Option<()> {
        let endpoint = self.endpoint(&self.key()).await?;
        for _ in 0..16 {
            let patience = Duration::from_micros(200 + self.next() % 2_000);
            let _ = timeout(patience, self.call(&endpoint, CONTROL)).await;
        }
        Some(())
    }

    /// One connection that says what nobody should.
    async fn malform(self: Arc<Self>) -> Option<()> {
        let endpoint = self.endpoint(&self.key()).await?;
        let protocol = match self.next() % 4 {
            0 => b"zoo/none",
            1 => BLOBS,
            _ => CONTROL,
        };
        let connection = self.call(&endpoint, protocol).await?;
        self.let_in.fetch_add(1, Ordering::Relaxed);
        let (mut send, mut receive) = connection.open_bi().await.ok()?;
        let hello = |version| frame(&ToOrchestrator::Hello { version, role: Role::Client });
        let said: Vec<u8> = match self.next() % 6 {
            0 => u32::MAX.to_le_bytes().into(),
            1 => [&(MAX_FRAME_BYTES as u32).to_le_bytes()[..], &vec![0xff; MAX_FRAME_BYTES]].concat(),
            2 => hello(VERSION + 1),
            3 => (0..64).flat_map(|_| self.next().to_le_bytes()).collect(),
            // A claim of 2^60 reports, and one of a slice of 4 GiB.
            4 => [
                &hello(VERSION)[..],
                &16u32.to_le_bytes(),
                &[2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
                &[0; 6],
            ]
            .concat(),
            _ => [&[1][..], &[7; 32], &[0; 4], &[0xff; 4]].concat(),
        };
        send.write_all(&said).await.ok()?;
        self.sent.fetch_add(said.len() as u64, Ordering::Relaxed);
        let _ = timeout(Duration::from_secs(1), receive.read_chunk(1 << 16)).await;
        Some(())
    }

    /// Asks for blobs and for events, and reads a byte a second, or none.
    async fn slow_readers(self: &Arc<Self>) {
        let mut readers = JoinSet::new();
        for reader in 0..32 {
            let Some(endpoint) = self.endpoint(&self.key()).await else { break };
            for _ in 0..8 {
                let (flood, endpoint) = (self.clone(), endpoint.clone());
                readers.spawn(async move {
                    while Instant::now() < flood.until {
                        let read = if reader % 2 == 0 {
                            flood.slow_blobs(&endpoint).await
                        } else {
                            flood.slow_events(&endpoint).await
                        };
                        if read.is_none() {
                            sleep(Duration::from_millis(500)).await;
                        }
                    }
                });
            }
        }
        while readers.join_next().await.is_some() {}
    }

    async fn slow_blobs(&self, endpoint: &iroh::Endpoint) -> Option<()> {
        let blob = self.blob?;
        let connection = self.call(endpoint, BLOBS).await?;
        self.let_in.fetch_add(1, Ordering::Relaxed);
        let mut streams = Vec::new();
        while let Ok(Ok((mut send, mut receive))) =
            timeout(Duration::from_secs(2), connection.open_bi()).await
        {
            let slice = [0u32.to_le_bytes(), 16u32.to_le_bytes()].concat();
            send.write_all(&[&[1][..], &blob, &slice].concat()).await.ok()?;
            self.sent.fetch_add(1, Ordering::Relaxed);
            let _ = timeout(Duration::from_secs(1), receive.read_chunk(1)).await;
            streams.push((send, receive));
            if streams.len() > 128 {
                streams.clear();
            }
        }
        Some(())
    }

    async fn slow_events(&self, endpoint: &iroh::Endpoint) -> Option<()> {
        let connection = self.call(endpoint, CONTROL).await?;
        self.let_in.fetch_add(1, Ordering::Relaxed);
        let (mut send, _receive) = connection.open_bi().await.ok()?;
        let hello = frame(&ToOrchestrator::Hello { version: VERSION, role: Role::Client });
        send.write_all(&[hello, frame(&ToOrchestrator::Watch { from: 0 })].concat()).await.ok()?;
        connection.closed().await;
        Some(())
    }

    /// Requests that arrive a byte a second, and answers that nobody reads.
    async fn slow_http(&self) {
        let Some(http) = self.http else { return };
        let (mut streams, mut at) = (Vec::new(), 0u64);
        let watch = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
        while Instant::now() < self.until {
            if streams.len() < 6_000
                && let Ok(Ok(mut stream)) =
                    timeout(Duration::from_millis(200), TcpStream::connect(http)).await
            {
                self.tried.fetch_add(1, Ordering::Relaxed);
                if at % 2 == 0 {
                    let _ = stream.write_all(watch).await;
                }
                streams.push((stream, at % 2));
                at += 1;
            } else {
                sleep(Duration::from_millis(200)).await;
            }
            if at.is_multiple_of(256) {
                for (stream, kind) in &mut streams {
                    if *kind == 1 {
                        let _ = stream.try_write(b"G");
                    }
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn join(&self) -> Option<Member> {
        let key = self.key();
        let endpoint = self.endpoint(&key).await?;
        let connection = self.call(&endpoint, CONTROL).await?;
        let (mut send, receive) = connection.open_bi().await.ok()?;
        let addresses = endpoint.bound_sockets().into_iter().take(1).collect();
        let role = Role::Worker { profile: profile(), addresses };
        send.write_all(&frame(&ToOrchestrator::Hello { version: VERSION, role })).await.ok()?;
        let mut member =
            Member { _endpoint: endpoint, _connection: connection, send, receive, buffer: Vec::new() };
        let answer = timeout(Duration::from_secs(10), member.next()).await.ok()??;
        let is_in = matches!(answer, FromOrchestrator::Welcome { .. });
        self.let_in.fetch_add(u64::from(is_in), Ordering::Relaxed);
        is_in.then_some(member)
    }

    /// A fresh key that stays, says that it is there, and does nothing.
    async fn join_and_stay(self: Arc<Self>) -> Option<()> {
        let mut member = match self.join().await {
            Some(member) => member,
            None => {
                sleep(Duration::from_millis(100)).await;
                return None;
            }
        };
        let flood = self.clone();
        tokio::task::spawn_local(async move {
            while Instant::now() < flood.until {
                let status = ToOrchestrator::Heartbeat {
                    step: 1,
                    loss_bits: 0,
                    tokens_per_second: 1 << 30,
                    sent_bytes: 0,
                    received_bytes: 0,
                };
                if member.send.write_all(&frame(&status)).await.is_err() {
                    return;
                }
                let _ = timeout(Duration::from_secs(1), member.next()).await;
            }
        });
        Some(())
    }

    /// A member that reports whatever can be said against others, of the round that it is in, as fast as it can.
    async fn accuse(self: Arc<Self>) -> Option<()> {
        let mut member = match self.join().await {
            Some(member) => member,
            None => {
                sleep(Duration::from_millis(200)).await;
                return None;
            }
        };
        let (mut job, mut round) = (None, 0);
        while Instant::now() < self.until {
            if let Ok(message) = timeout(Duration::from_millis(1), member.next()).await
                && let FromOrchestrator::Work { work: Work::Train(window), .. } = message?
            {
                (job, round) = (Some(window.job), window.round);
            }
            let job = job.unwrap_or(zoo_content::Digest::of(b"some job"));
            let mut said = Vec::new();
            for number in 0..64u64 {
                let maker = NodeId([number as u8; 32]);
                let attempt = 1;
                let report = match self.next() % 5 {
                    0 => Report::Missing { job, round, attempt, maker },
                    1 => Report::Withheld { job, round, maker },
                    2 => Report::Verified {
                        job,
                        round,
                        maker,
                        outcome: zoo_content::Digest::of(&number.to_le_bytes()),
                    },
                    3 => Report::Failed { job, round, reason: format!("no {number}") },
                    _ => Report::Aggregated {
                        job,
                        round,
                        attempt,
                        checkpoint: zoo_content::Digest::of(b"none"),
                        left_out: Vec::new(),
                        alike: Vec::new(),
                    },
                };
                said.extend(frame(&ToOrchestrator::Report(report)));
                said.extend(frame(&ToOrchestrator::Measured(Link::new(number * 100_000, number))));
            }
            timeout(Duration::from_secs(5), member.send.write_all(&said)).await.ok()?.ok()?;
            self.sent.fetch_add(128, Ordering::Relaxed);
        }
        Some(())
    }
}

/// A node that was let in.
struct Member {
    _endpoint: iroh::Endpoint,
    _connection: Connection,
    send: iroh::endpoint::SendStream,
    receive: iroh::endpoint::RecvStream,
    buffer: Vec<u8>,
}

impl Member {
    async fn next(&mut self) -> Option<FromOrchestrator> {
        loop {
            if let Some(length) = self.buffer.first_chunk::<4>() {
                let end = 4 + u32::from_le_bytes(*length) as usize;
                if let Some(payload) = self.buffer.get(4..end) {
                    let message = zoo_protocol::decode(payload).ok();
                    self.buffer.drain(..end);
                    return message;
                }
            }
            let chunk = self.receive.read_chunk(1 << 16).await.ok()??;
            self.buffer.extend_from_slice(&chunk);
        }
    }
}

fn frame(message: &ToOrchestrator) -> Vec<u8> {
    let payload = encode(message);
    [&(payload.len() as u32).to_le_bytes()[..], &payload].concat()
}

fn profile() -> NodeProfile {
    NodeProfile {
        name: "flood".into(),
        threads: 64,
        memory_mib: 1 << 20,
        isa: "scalar".into(),
        speeds: Speeds { f32_exact: 1 << 30, bf16_exact: 1 << 30 },
        region: "everywhere".into(),
        upload_kib_per_s: 0,
        storage: None,
        software: "none".into(),
    }
}

async fn join_all<F: Future<Output = ()>>(futures: Vec<std::pin::Pin<Box<F>>>) {
    let mut futures = futures;
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
