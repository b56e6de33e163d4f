//! Small blobs that are wanted at once: one stream, full packets, and each its own answer.

use std::time::Duration;

use crate::blobs::{noise, scripted, serving};
use crate::common::{endpoint, within};
use tokio::task::JoinHandle;
use zoo_content::slice::SliceError;
use zoo_content::{Digest, VerifiedBlob};
use zoo_network::{Endpoint, FetchError, FetchFailure};
use zoo_protocol::Peer;

const QUICK: Duration = Duration::from_secs(5);

type Fetching = JoinHandle<Result<VerifiedBlob, FetchError>>;

/// Fetches in a task of its own.
fn fetching(client: &Endpoint, peer: &Peer, digest: Digest, max_bytes: u64) -> Fetching {
    let (client, peer) = (client.clone(), peer.clone());
    tokio::spawn(async move { client.fetch(&peer, &digest, max_bytes).await })
}

async fn outcome(fetching: Fetching) -> Result<Vec<u8>, FetchFailure> {
    match within(QUICK, fetching).await.expect("it was not given up") {
        Ok(blob) => Ok(blob.bytes().to_vec()),
        Err(error) => Err(error.attempts.into_iter().next().expect("one peer was asked").1),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_blobs_that_are_wanted_at_once_share_their_packets() {
    let blobs: Vec<Vec<u8>> = (0..100).map(|at| noise(900 + at)).collect();
    let server = serving(60, &blobs.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
    let client = endpoint(61).await;
    client.fetch(&server.peer(), &Digest::of(&blobs[0]), 900).await.unwrap();
    let before = (client.datagrams(), client.traffic());
    let wanted = |bytes: &Vec<u8>| fetching(&client, &server.peer(), Digest::of(bytes), bytes.len() as u64);
    let fetches: Vec<_> = blobs.iter().map(wanted).collect();
    for (fetch, bytes) in fetches.into_iter().zip(&blobs) {
        assert_eq!(outcome(fetch).await.as_ref(), Ok(bytes));
    }
    let bytes = blobs.iter().map(|blob| blob.len() as u64).sum::<u64>();
    assert_eq!(client.traffic().received_bytes - before.1.received_bytes, bytes + 3 * 100, "a size each");
    // One by one each takes a packet of its own, and half of one for its request.
    let received = client.datagrams().received_bytes - before.0.received_bytes;
    assert!(received < bytes + bytes / 10, "{received} bytes on the wire for {bytes}");
    let sent = client.datagrams().sent_bytes - before.0.sent_bytes;
    assert!(sent < 100 * 40, "{sent} bytes on the wire to ask for 100 blobs");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_them_has_its_own_answer() {
    let blobs: Vec<Vec<u8>> = (0..8).map(|at| noise(1000 + at)).collect();
    let server = serving(62, &blobs.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
    let client = endpoint(63).await;
    let fetches: Vec<_> = blobs
        .iter()
        .enumerate()
        .map(|(at, bytes)| match at {
            2 => fetching(&client, &server.peer(), Digest::of(b"nobody has it"), 1000),
            4 => fetching(&client, &server.peer(), Digest::of(bytes), 999),
            _ => fetching(&client, &server.peer(), Digest::of(bytes), 2000),
        })
        .collect();
    for (at, (fetch, bytes)) in fetches.into_iter().zip(blobs).enumerate() {
        let expected = match at {
            2 => Err(FetchFailure::Absent),
            4 => Err(FetchFailure::TooLarge { bytes: 1004, max_bytes: 999 }),
            _ => Ok(bytes),
        };
        assert_eq!(outcome(fetch).await, expected, "number {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_takes_nobody_along() {
    let blobs: Vec<Vec<u8>> = (0..8).map(|at| noise(1000 + at)).collect();
    let server = serving(64, &blobs.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
    let client = endpoint(65).await;
    let mut fetches: Vec<_> = blobs
        .iter()
        .map(|bytes| fetching(&client, &server.peer(), Digest::of(bytes), bytes.len() as u64))
        .collect();
    // Whoever came first asks for all.
    tokio::task::yield_now().await;
    fetches.remove(0).abort();
    for (fetch, bytes) in fetches.into_iter().zip(&blobs[1..]) {
        assert_eq!(outcome(fetch).await.as_ref(), Ok(bytes));
    }
}

fn answer(announced: u32, body: &[u8]) -> Vec<u8> {
    [&announced.to_le_bytes()[..3], body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_against_the_protocol_are_refused_with_their_reason() {
    let body = b"0123456789";
    let digest = Digest::of(body);
    let client = endpoint(66).await;
    let too_large = |bytes| FetchFailure::TooLarge { bytes, max_bytes: 10 };
    let cases = [
        (answer(10, body), None),
        (answer(10, b"0123456788"), Some(FetchFailure::False(SliceError::False { offset: 0 }))),
        (answer(9, body), Some(FetchFailure::False(SliceError::False { offset: 0 }))),
        (answer(10, b"012"), Some(FetchFailure::Protocol("it is shorter than announced"))),
        (answer(11, body), Some(too_large(11))),
        (answer(0xff_fffd, &[]), Some(too_large(0xff_fffd))),
        (vec![0, 1], Some(FetchFailure::Protocol("it ends within its header"))),
        (vec![], Some(FetchFailure::Protocol("it ends within its header"))),
        (answer(0xff_ffff, &[]), Some(FetchFailure::Absent)),
        (answer(0xff_fffe, &[]), Some(FetchFailure::Unreadable)),
    ];
    for (index, (answer, expected)) in cases.into_iter().enumerate() {
        let peer = scripted(130 + index as u8, answer.clone(), false).await;
        let outcome = within(QUICK, client.fetch(&peer, &digest, 10)).await;
        match expected {
            None => assert_eq!(outcome.unwrap().bytes(), body),
            Some(failure) => assert_eq!(outcome.unwrap_err().attempts, [(peer.node, failure)], "{answer:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_blob_arrives_too() {
    let (server, client) = (serving(67, &[b""]).await, endpoint(68).await);
    assert_eq!(client.fetch(&server.peer(), &Digest::of(b""), 0).await.unwrap().bytes(), b"");
}
