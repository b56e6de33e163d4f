//! Two endpoints and a real relay between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{key, within};
use tokio::sync::mpsc::Receiver;
use zoo_content::{BlobStore, Digest, MemoryStore};
use zoo_network::{
    BindOptions, ControlConnection, Endpoint, FetchError, FetchFailure, NetworkError, Relay, Ticket, limits,
};
use zoo_protocol::{FromOrchestrator, Peer, Role, ToOrchestrator, VERSION};
use zoo_relay::RelayOptions;

const QUICK: Duration = Duration::from_secs(10);
const MAX: u64 = 64 << 20;
const HELLO: ToOrchestrator = ToOrchestrator::Hello { version: VERSION, role: Role::Client };
/// There is no way from the one loopback address to the other but through a relay.
const HERE: &str = "127.0.0.1:0";
const THERE: &str = "[::1]:0";

async fn running(url: &mut Option<Relay>) -> zoo_relay::Relay {
    let relay = zoo_relay::Relay::start(RelayOptions::on(HERE.parse().unwrap())).await.unwrap();
    *url = Some(relay.url().parse().unwrap());
    relay
}

async fn endpoint(seed: u8, listen: &str, relay: &Relay) -> Endpoint {
    let options = BindOptions { key: &key(seed), listen: listen.parse().unwrap(), relay: Some(relay) };
    let endpoint = Endpoint::bind(options).await.unwrap();
    endpoint.meet_relay().await.unwrap();
    endpoint
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn serve(endpoint: &Endpoint, blobs: &[&[u8]]) {
    let store = MemoryStore::default();
    blobs.iter().for_each(|bytes| {
        store.put(bytes).unwrap();
    });
    endpoint.serve_blobs(Arc::new(store));
}

/// The node and no address of it.
fn key_alone(endpoint: &Endpoint) -> Peer {
    Peer { node: endpoint.id(), addresses: Vec::new() }
}

async fn answer_each(mut accepted: Receiver<ControlConnection>) {
    while let Some((_, mut stream)) = accepted.recv().await {
        while let Ok(Some(_)) = stream.recv().await {
            let _ = stream.send(&FromOrchestrator::CaughtUp).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_only_the_key_and_the_relay_exchanges_messages() {
    let mut url = None;
    let server_relay = running(&mut url).await;
    let relay = url.unwrap();
    let (server, client) = (endpoint(1, HERE, &relay).await, endpoint(2, THERE, &relay).await);
    tokio::spawn(answer_each(server.control_connections()));
    let ticket = Ticket { addresses: Vec::new(), ..server.ticket() };
    assert_eq!(ticket.relay.as_ref(), Some(&relay), "a ticket names the relay");
    let ticket: Ticket = ticket.to_string().parse().unwrap();
    within(QUICK, async {
        let mut stream = client.connect(&ticket).await.unwrap();
        for _ in 0..100 {
            stream.send(&HELLO).await.unwrap();
            assert_eq!(stream.recv().await.unwrap(), Some(FromOrchestrator::CaughtUp));
        }
    })
    .await;
    let counters = server_relay.counters();
    assert_eq!(counters.clients, 2);
    assert!(counters.sent_bytes > 0 && counters.received_bytes > 0, "{counters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_carries_small_blobs_and_large_ones_only_if_it_is_allowed_to() {
    let small = noise(limits::RELAYED_BLOB_BYTES_MAX as usize);
    let large = noise(small.len() + 1);
    let mut url = None;
    let _relay = running(&mut url).await;
    let spared = url.unwrap();
    let allowed = spared.clone().carrying_bulk(true);

    let (server, client) = (endpoint(3, HERE, &spared).await, endpoint(4, THERE, &spared).await);
    serve(&server, &[&small, &large]);
    let peer = server.peer();
    let fetched = within(QUICK, client.fetch(&peer, &Digest::of(&small), MAX)).await.unwrap();
    assert_eq!(fetched.bytes(), small);
    let start = Instant::now();
    let error = within(QUICK, client.fetch(&peer, &Digest::of(&large), MAX)).await.unwrap_err();
    assert_eq!(error.attempts, [(server.id(), FetchFailure::Relayed)]);
    let text = error.to_string();
    assert!(text.contains(&server.id().short()) && text.contains("--bulk-over-relay"), "{text}");
    assert!(start.elapsed() >= limits::DIRECT_PATH_TIMEOUT, "a direct path has its time");
    // What is known is not waited for again.
    let again = Instant::now();
    let error: FetchError = client.fetch(&peer, &Digest::of(&large), MAX).await.unwrap_err();
    assert_eq!(error.attempts, [(server.id(), FetchFailure::Relayed)]);
    assert!(again.elapsed() < Duration::from_secs(1), "{:?}", again.elapsed());

    let (server, client) = (endpoint(5, HERE, &allowed).await, endpoint(6, THERE, &allowed).await);
    let large = noise(3 << 20);
    serve(&server, &[&large]);
    let fetched = within(2 * QUICK, client.fetch(&server.peer(), &Digest::of(&large), MAX)).await.unwrap();
    assert_eq!(fetched.bytes(), large);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_meets_at_a_relay_goes_on_directly_where_there_is_a_way() {
    let large = noise(8 << 20);
    let mut url = None;
    let server_relay = running(&mut url).await;
    let relay = url.unwrap();
    let (server, client) = (endpoint(7, HERE, &relay).await, endpoint(8, HERE, &relay).await);
    serve(&server, &[&large]);
    let fetched = within(QUICK, client.fetch(&key_alone(&server), &Digest::of(&large), MAX)).await.unwrap();
    assert_eq!(fetched.bytes(), large);
    let relayed = server_relay.counters().sent_bytes;
    assert!(relayed > 0, "they met at the relay");
    assert!(relayed < 1 << 20, "{relayed} bytes went over the relay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_dies_does_not_disturb_who_has_a_direct_path() {
    let large = noise(4 << 20);
    let mut url = None;
    let server_relay = running(&mut url).await;
    let relay = url.unwrap();
    let (server, client) = (endpoint(9, HERE, &relay).await, endpoint(10, HERE, &relay).await);
    tokio::spawn(answer_each(server.control_connections()));
    let ticket = Ticket { addresses: Vec::new(), ..server.ticket() };
    let mut stream = within(QUICK, client.connect(&ticket)).await.unwrap();
    stream.send(&HELLO).await.unwrap();
    assert_eq!(stream.recv().await.unwrap(), Some(FromOrchestrator::CaughtUp));
    serve(&server, &[&large]);
    within(QUICK, client.fetch(&key_alone(&server), &Digest::of(&large), MAX)).await.unwrap();
    drop(server_relay);
    // Longer than a connection may be silent.
    let end = Instant::now() + limits::IDLE_TIMEOUT + Duration::from_secs(2);
    while Instant::now() < end {
        stream.send(&HELLO).await.unwrap();
        let answer = within(Duration::from_secs(1), stream.recv()).await;
        assert_eq!(answer.unwrap(), Some(FromOrchestrator::CaughtUp));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_not_there_is_named_with_its_cause_and_a_hint() {
    let nobody: Relay = "http://127.0.0.1:9".parse().unwrap();
    let no_relay = tokio::net::TcpListener::bind(HERE).await.unwrap();
    let other: Relay = format!("http://{}", no_relay.local_addr().unwrap()).parse().unwrap();
    for (seed, relay, cause) in [(11, nobody, "refused"), (12, other, "is no relay")] {
        let options = BindOptions { key: &key(seed), listen: HERE.parse().unwrap(), relay: Some(&relay) };
        let endpoint = Endpoint::bind(options).await.unwrap();
        let error = within(2 * limits::RELAY_CONNECT_TIMEOUT, endpoint.meet_relay()).await.unwrap_err();
        assert!(matches!(error, NetworkError::Relay { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains(&relay.to_string()) && text.contains(cause) && text.contains("hint: "),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_dialled_at_what_the_transport_means_a_relay_by() {
    let mut url = None;
    let _relay = running(&mut url).await;
    let (server, client) =
        (endpoint(13, HERE, url.as_ref().unwrap()).await, endpoint(14, HERE, url.as_ref().unwrap()).await);
    let stated = vec!["[fd15:70a:510b:1::1]:12345".parse().unwrap(), server.addresses()[0]];
    assert!(client.is_alive(&Peer { node: server.id(), addresses: stated }).await);
}
