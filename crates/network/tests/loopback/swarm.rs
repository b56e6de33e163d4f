//! One large blob from several peers, cut and taken up again.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{endpoint, within};
use zoo_content::{BlobStore, Digest, FileStore, MemoryStore};
use zoo_network::Endpoint;
use zoo_protocol::Peer;

const LONG: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

async fn holder(seed: u8, blob: &[u8], bytes_per_second: Option<u64>) -> Endpoint {
    let endpoint = endpoint(seed).await;
    let store = MemoryStore::default();
    store.put(blob).unwrap();
    endpoint.serve_blobs(Arc::new(store));
    endpoint.limit_upload(bytes_per_second.and_then(NonZero::new));
    endpoint
}

fn peers(holders: &[Endpoint]) -> Vec<Peer> {
    holders.iter().map(Endpoint::peer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_holder_sends_a_part() {
    let blob = noise(24 * MIB + 12_345);
    // Slow enough that no one of them can be done before the others begin.
    let mut holders = Vec::new();
    for seed in 40..43 {
        holders.push(holder(seed, &blob, Some(4 * MIB as u64)).await);
    }
    let client = endpoint(44).await;
    let (peers, digest) = (peers(&holders), Digest::of(&blob));
    let fetched = client.fetch_from_any(&peers, &digest, blob.len() as u64);
    assert_eq!(within(LONG, fetched).await.unwrap().bytes(), blob);
    let sent: Vec<u64> = holders.iter().map(|holder| holder.traffic().sent_bytes).collect();
    assert!(sent.iter().all(|sent| *sent >= MIB as u64), "{sent:?}");
    // What is late is asked of two.
    let twice = client.traffic().received_bytes - blob.len() as u64;
    assert!(twice < 4 * MIB as u64, "{twice} bytes more than the blob");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_before_a_cut_is_not_fetched_again() {
    let blob = noise(12 * MIB);
    let digest = Digest::of(&blob);
    let holder = holder(45, &blob, Some(4 * MIB as u64)).await;
    let directory = tempfile::tempdir().unwrap();
    let received = {
        let (client, store) = (endpoint(46).await, FileStore::open(directory.path()).unwrap());
        let peers = [holder.peer()];
        let fetch = client.fetch_resumably(&peers, &digest, blob.len() as u64, &store);
        let cut = async {
            while client.traffic().received_bytes < 6 * MIB as u64 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = fetch => panic!("it is cut before its end"),
            () = cut => {}
        }
        client.traffic().received_bytes
    };
    let (client, store) = (endpoint(47).await, FileStore::open(directory.path()).unwrap());
    let fetch = client.fetch_resumably(&[holder.peer()], &digest, blob.len() as u64, &store).await;
    assert_eq!(fetch.unwrap().bytes(), blob);
    let again = (client.traffic().received_bytes + received).saturating_sub(blob.len() as u64);
    assert!(again < MIB as u64 / 4, "{again} bytes twice, of {received} that had arrived");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_other_bytes_spoils_nothing() {
    let blob = noise(8 * MIB);
    let mut other = blob.clone();
    other[5 * MIB] ^= 1;
    let (digest, size) = (Digest::of(&blob), blob.len() as u64);
    let liar = endpoint(48).await;
    liar.serve_blobs(Arc::new(Renamed(other)));
    let honest = holder(49, &blob, None).await;
    let client = endpoint(50).await;
    let fetched = client.fetch_from_any(&[liar.peer(), honest.peer()], &digest, size).await.unwrap();
    assert_eq!(fetched.bytes(), blob);
    let alone = client.fetch_from_any(&[liar.peer()], &digest, size).await.unwrap_err();
    assert!(alone.to_string().contains("sent false bytes"), "{alone}");
}

/// Gives out one blob whatever it is asked for.
struct Renamed(Vec<u8>);

impl BlobStore for Renamed {
    fn get(&self, _: &Digest) -> Result<zoo_content::VerifiedBlob, zoo_content::StoreError> {
        Ok(zoo_content::VerifiedBlob::new(self.0.clone()))
    }
    fn put(&self, bytes: &[u8]) -> Result<Digest, zoo_content::StoreError> {
        Ok(Digest::of(bytes))
    }
    fn size(&self, _: &Digest) -> Option<u64> {
        Some(self.0.len() as u64)
    }
    fn list(&self) -> Result<Vec<Digest>, zoo_content::StoreError> {
        Ok(Vec::new())
    }
    fn remove(&self, _: &Digest) -> Result<bool, zoo_content::StoreError> {
        Ok(false)
    }
}
