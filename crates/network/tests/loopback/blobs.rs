//! The blob exchange over real sockets, with peers that lie, stall and vanish.

use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{endpoint, key, raw, raw_peer, within};
use iroh::endpoint::{RecvStream, SendStream};
use tokio::runtime::Runtime;
use zoo_content::slice::SliceError;
use zoo_content::{BlobStore, Digest, LEAF_BYTES, MemoryStore, StoreError, VerifiedBlob};
use zoo_network::{Endpoint, FetchFailure, Traffic, limits};
use zoo_protocol::Peer;

const QUICK: Duration = Duration::from_secs(5);
const MAX: u64 = 64 << 20;

fn store(blobs: &[&[u8]]) -> Arc<MemoryStore> {
    let store = MemoryStore::default();
    blobs.iter().for_each(|bytes| {
        store.put(bytes).unwrap();
    });
    Arc::new(store)
}

pub async fn serving(seed: u8, blobs: &[&[u8]]) -> Endpoint {
    let endpoint = endpoint(seed).await;
    endpoint.serve_blobs(store(blobs));
    endpoint
}

/// Bytes that are not all alike.
pub fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// What it takes to check a blob: of every slice of 1 MiB a header, and the nodes above its leaves.
fn overhead(bytes: u64) -> u64 {
    let leaves = bytes.div_ceil(LEAF_BYTES).max(1);
    let slices = leaves.div_ceil(16);
    let nodes = |slice: u64| {
        let (mut nodes, mut trees) = (0, Vec::new());
        trees.push(0..leaves);
        while let Some(tree) = trees.pop() {
            let size = tree.end - tree.start;
            if size > 1 && tree.start < (slice + 1) * 16 && slice * 16 < tree.end {
                let left = size.next_power_of_two() / 2;
                nodes += 1;
                trees.extend([tree.start..tree.start + left, tree.start + left..tree.end]);
            }
        }
        nodes
    };
    (0..slices).map(|slice| 9 + 64 * nodes(slice)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_every_size_arrive_whole_and_are_counted() {
    let client = endpoint(1).await;
    let mut total = 0;
    let sizes = [0, 1, 31, 1 << 18, (1 << 18) + 1, (1 << 20) + 7, 20 << 20];
    let blobs: Vec<Vec<u8>> = sizes.iter().map(|&size| noise(size)).collect();
    let server = serving(2, &blobs.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
    for bytes in &blobs {
        let blob = within(QUICK, client.fetch(&server.peer(), &Digest::of(bytes), MAX)).await.unwrap();
        assert_eq!(blob.bytes(), bytes);
        total += bytes.len() as u64 + overhead(bytes.len() as u64);
    }
    assert_eq!(client.traffic(), Traffic { sent_bytes: 0, received_bytes: total });
    assert_eq!(server.traffic(), Traffic { sent_bytes: total, received_bytes: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn many_fetches_at_once_share_one_connection_and_all_arrive() {
    let blobs: Vec<Vec<u8>> = (0..200).map(|i| noise(10_000 + i)).collect();
    let server = serving(3, &blobs.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
    let client = endpoint(4).await;
    let fetches: Vec<_> = blobs
        .iter()
        .map(|bytes| {
            let (client, peer, digest) = (client.clone(), server.peer(), Digest::of(bytes));
            tokio::spawn(async move { client.fetch(&peer, &digest, MAX).await.unwrap().bytes().len() })
        })
        .collect();
    for (fetch, bytes) in fetches.into_iter().zip(&blobs) {
        assert_eq!(within(QUICK, fetch).await.unwrap(), bytes.len());
    }
}

/// A store whose answers are well-formed and false.
struct Liar;

impl BlobStore for Liar {
    fn get(&self, _: &Digest) -> Result<VerifiedBlob, StoreError> {
        Ok(VerifiedBlob::new(b"something else".to_vec()))
    }
    fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        Ok(Digest::of(bytes))
    }
    fn size(&self, _: &Digest) -> Option<u64> {
        Some(14)
    }
    fn list(&self) -> Result<Vec<Digest>, StoreError> {
        Ok(Vec::new())
    }
    fn remove(&self, _: &Digest) -> Result<bool, StoreError> {
        Ok(false)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_peer_is_detected_and_the_next_one_asked() {
    let wanted = noise(1000);
    let digest = Digest::of(&wanted);
    let liar = endpoint(5).await;
    liar.serve_blobs(Arc::new(Liar));
    let (empty, honest, client) = (serving(6, &[]).await, serving(7, &[&wanted]).await, endpoint(8).await);

    let error = client.fetch(&liar.peer(), &digest, MAX).await.unwrap_err();
    assert!(matches!(error.attempts[..], [(who, FetchFailure::False(_))] if who == liar.id()), "{error}");
    assert!(error.to_string().contains(&liar.id().short()), "{error}");

    let peers = [client.peer(), liar.peer(), empty.peer(), honest.peer()];
    let blob = client.fetch_from_any(&peers, &digest, MAX).await.unwrap();
    assert_eq!(blob.bytes(), wanted);

    let error = client.fetch_from_any(&peers[..3], &digest, MAX).await.unwrap_err();
    let failures: Vec<_> = error.attempts.iter().map(|(_, failure)| failure.clone()).collect();
    assert!(
        matches!(failures[..], [FetchFailure::Itself, FetchFailure::False(_), FetchFailure::Absent]),
        "{failures:?}"
    );
    let text = error.to_string();
    for peer in &peers[..3] {
        assert!(text.contains(&peer.node.short()), "every peer and what it said is in: {text}");
    }
    let nobody = client.fetch_from_any(&[], &digest, MAX).await.unwrap_err();
    assert!(nobody.to_string().contains("no peer"), "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_over_the_callers_limit_is_not_read() {
    let bytes = noise(100_000);
    let server = serving(9, &[&bytes]).await;
    let client = endpoint(10).await;
    let error = client.fetch(&server.peer(), &Digest::of(&bytes), 99_999).await.unwrap_err();
    let (_, failure) = &error.attempts[0];
    assert_eq!(*failure, FetchFailure::TooLarge { bytes: 100_000, max_bytes: 99_999 });
    assert_eq!(client.traffic().received_bytes, 9, "only the header was read");
    assert!(client.fetch(&server.peer(), &Digest::of(&bytes), 100_000).await.is_ok());
}

/// Serves one answer, byte for byte, to every request; keeps the stream open afterwards if `silent`.
pub async fn scripted(seed: u8, answer: Vec<u8>, silent: bool) -> Peer {
    let server = raw(seed, b"zoo/blobs/3").await;
    let peer = raw_peer(seed, &server);
    tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            let Ok(connection) = incoming.await else { continue };
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut open: Vec<(SendStream, RecvStream)> = Vec::new();
                while let Ok((mut send, receive)) = connection.accept_bi().await {
                    let _ = send.write_all(&answer).await;
                    if silent {
                        open.push((send, receive));
                    } else {
                        let _ = send.finish();
                    }
                }
            });
        }
    });
    peer
}

fn answer(status: u8, announced: u64, body: &[u8]) -> Vec<u8> {
    [&[status][..], &announced.to_le_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_against_the_protocol_are_refused_with_their_reason() {
    let body = b"0123456789";
    let digest = Digest::of(body);
    let client = endpoint(11).await;
    let cases = [
        (answer(0, 10, body), None),
        (answer(0, 10, b"0123456789?"), Some(FetchFailure::Protocol("it is longer than announced"))),
        (answer(0, 9, body), Some(FetchFailure::False(SliceError::False { offset: 0 }))),
        (answer(0, 11, body), Some(FetchFailure::Protocol("it is shorter than announced"))),
        (answer(0, u64::MAX, body), Some(FetchFailure::TooLarge { bytes: u64::MAX, max_bytes: MAX })),
        (answer(0, MAX, &[]), Some(FetchFailure::Protocol("it is shorter than announced"))),
        (answer(7, 10, body), Some(FetchFailure::Protocol("unknown status"))),
        (vec![0, 1, 2], Some(FetchFailure::Protocol("it ends within its header"))),
        (vec![], Some(FetchFailure::Protocol("it ends within its header"))),
        (vec![1], Some(FetchFailure::Absent)),
        (vec![2], Some(FetchFailure::Unreadable)),
    ];
    for (index, (answer, expected)) in cases.into_iter().enumerate() {
        let peer = scripted(100 + index as u8, answer.clone(), false).await;
        let outcome = within(QUICK, client.fetch(&peer, &digest, MAX)).await;
        match expected {
            None => assert_eq!(outcome.unwrap().bytes(), body),
            Some(failure) => assert_eq!(outcome.unwrap_err().attempts, [(peer.node, failure)], "{answer:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_goes_silent_is_given_up_and_the_next_one_asked() {
    let body = noise(1000);
    let honest = serving(12, &[&body]).await;
    let client = endpoint(13).await;
    let silent = scripted(14, answer(0, 1000, &body[..500]), true).await;
    let start = Instant::now();
    let limit = limits::PROGRESS_TIMEOUT + QUICK;
    let blob = within(limit, client.fetch_from_any(&[silent, honest.peer()], &Digest::of(&body), MAX))
        .await
        .unwrap();
    assert_eq!(blob.bytes(), body);
    assert!(start.elapsed() >= limits::PROGRESS_TIMEOUT, "it was given its time: {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_there_costs_one_connect_timeout_not_one_per_fetch() {
    let client = endpoint(15).await;
    let peer = Peer { node: key(16).id(), addresses: vec!["127.0.0.1:9".parse().unwrap()] };
    let fetches: Vec<_> = (0..8u8)
        .map(|i| {
            let (client, peer) = (client.clone(), peer.clone());
            tokio::spawn(async move { client.fetch(&peer, &Digest::of(&[i]), MAX).await.unwrap_err() })
        })
        .collect();
    within(limits::CONNECT_TIMEOUT + QUICK / 2, async {
        for fetch in fetches {
            let error = fetch.await.unwrap();
            assert!(matches!(error.attempts[..], [(_, FetchFailure::Unreachable { .. })]), "{error}");
            assert!(error.to_string().contains("127.0.0.1:9"), "{error}");
        }
    })
    .await;
}

/// Both have fetched from each other when one dies without a word; its successor has the same key and
/// another port.
#[test]
fn a_peer_that_died_and_came_back_elsewhere_is_found_at_once() {
    let bytes = noise(5000);
    let digest = Digest::of(&bytes);
    let (doomed, survivor) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let before = doomed.block_on(serving(17, &[&bytes]));
    let client = survivor.block_on(endpoint(18));
    client.serve_blobs(store(&[&bytes]));
    survivor.block_on(client.fetch(&before.peer(), &digest, MAX)).unwrap();
    let old = before.peer();
    let home = client.peer();
    doomed.block_on(before.fetch(&home, &digest, MAX)).unwrap();
    doomed.shutdown_background();
    std::mem::forget(before);

    survivor.block_on(async {
        let after = serving(17, &[&bytes]).await;
        assert_ne!(after.peer().addresses, old.addresses);
        let start = Instant::now();
        let there = within(QUICK, after.fetch(&client.peer(), &digest, MAX)).await.unwrap();
        let here = within(QUICK, client.fetch(&after.peer(), &digest, MAX)).await.unwrap();
        assert_eq!((here.bytes(), there.bytes()), (&bytes[..], &bytes[..]));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_measured_by_what_arrives_through_it() {
    let limit_kib = 2_048;
    let (small, large) = (noise(1_000), noise(1 << 20));
    let server = serving(40, &[&small, &large]).await;
    server.limit_upload(NonZero::new(limit_kib << 10));
    let client = endpoint(41).await;
    client.fetch(&server.peer(), &Digest::of(&small), MAX).await.unwrap();
    assert_eq!(server.link(), None, "a thousand bytes say nothing");
    client.fetch(&server.peer(), &Digest::of(&large), MAX).await.unwrap();
    // The sender learns of the arrival a moment after the receiver.
    let link = within(QUICK, async {
        loop {
            match server.link() {
                Some(link) => return link,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await;
    // What is paced cannot arrive much faster; the last piece leaves when its turn has come.
    assert!((1..=limit_kib as u32 * 3 / 2).contains(&link.upload_kib_per_s), "{link:?}");
    assert!(link.rtt_ms >= 1, "{link:?}");
    assert_eq!(client.link(), None, "who only fetches has nothing to say");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_of_life_is_given_by_who_is_there_whether_it_serves_or_not() {
    let (asking, there, serving) =
        (endpoint(42).await, endpoint(43).await, serving(44, &[b"something"]).await);
    assert!(asking.is_alive(&there.peer()).await);
    assert!(asking.is_alive(&serving.peer()).await);
    let (gone, since) = (there.peer(), Instant::now());
    there.close().await;
    assert!(!asking.is_alive(&gone).await);
    assert!(since.elapsed() < QUICK, "the dead are not waited for");
    // Somebody else who has taken the address proves to be somebody else.
    let impostor = Peer { node: gone.node, addresses: serving.addresses() };
    assert!(!asking.is_alive(&impostor).await);
}
