//! Strangers that want everything: what they get is bounded, and others still get what they need.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use zoo_content::Digest;
use zoo_network::limits;

use crate::blobs::{noise, serving};
use crate::common::{endpoint, raw, raw_address, within};

const BLOBS: &[u8] = b"zoo/blobs/3";
const QUICK: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn one_key_has_so_many_connections_and_others_are_served_meanwhile() {
    let blob = noise(100_000);
    let server = serving(1, &[&blob]).await;
    let flood = raw(2, BLOBS).await;
    let to = raw_address(&server.peer());
    let mut kept = Vec::new();
    for _ in 0..limits::CONNECTIONS_OF_KEY_MAX + 8 {
        kept.extend(within(QUICK, flood.connect(to.clone(), BLOBS)).await.ok());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let open = kept.iter().filter(|connection| connection.close_reason().is_none()).count();
    assert_eq!(open, limits::CONNECTIONS_OF_KEY_MAX);
    let client = endpoint(3).await;
    let fetched = within(QUICK, client.fetch(&server.peer(), &Digest::of(&blob), 1 << 20)).await;
    assert_eq!(fetched.unwrap().bytes(), &blob[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_much_and_reads_nothing_does_not_hold_up_others() {
    let blob = noise(3 << 20);
    let (server, digest) = (serving(1, &[&blob]).await, Digest::of(&blob));
    let to = raw_address(&server.peer());
    let (mut streams, mut connections) = (Vec::new(), Vec::new());
    for seed in 10..20 {
        let flood = raw(seed, BLOBS).await;
        let connection = within(QUICK, flood.connect(to.clone(), BLOBS)).await.unwrap();
        for _ in 0..limits::ASKED_AT_ONCE_MAX {
            let (mut send, receive) = connection.open_bi().await.unwrap();
            let slice = [0u32.to_le_bytes(), 16u32.to_le_bytes()].concat();
            send.write_all(&[&[1][..], digest.as_bytes(), &slice].concat()).await.unwrap();
            streams.push((send, receive));
        }
        connections.push((flood, connection));
    }
    let began = Instant::now();
    let client = endpoint(3).await;
    let fetched = within(QUICK, client.fetch(&server.peer(), &digest, 8 << 20)).await;
    assert_eq!(fetched.unwrap().bytes(), &blob[..]);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_brings_beyond_its_end_is_not_taken() {
    let server = serving(1, &[]).await;
    let flood = raw(2, BLOBS).await;
    let connection = within(QUICK, flood.connect(raw_address(&server.peer()), BLOBS)).await.unwrap();
    let (mut send, _receive) = within(QUICK, connection.open_bi()).await.unwrap();
    let piece = vec![2; 64 << 10];
    let mut pieces = 0;
    while let Ok(Ok(())) = timeout(Duration::from_millis(500), send.write_all(&piece)).await {
        pieces += 1;
        assert!(pieces < 1_000, "it is taken for ever");
    }
    // What this side has buffered itself is the transport's; the other side gives credit for a window at a time.
    let sent = connection.stats().udp_tx.bytes;
    assert!(sent < 8 * u64::from(limits::UNASKED_WINDOW_BYTES), "{sent} bytes were taken unasked");
}
