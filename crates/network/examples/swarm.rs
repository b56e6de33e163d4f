//! Measures how a joiner gets a checkpoint of the size of a model of 10.8 million parameters: from one, two and three holders, each of
//! which sends so many KiB a second; and what a `kill -9` of the joiner in the middle costs.
//!
//! ```text
//! cargo run --release -p zoo-network --example swarm -- 4096
//! ```

use std::env;
use std::error::Error;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use zoo_content::{BlobStore, Digest, FileStore, MemoryStore};
use zoo_network::{BindOptions, Endpoint, Ticket};
use zoo_protocol::{NodeKey, Peer};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Six attentions, six MLPs, an embedding: f32.
const PARTS: [usize; 13] = [
    2_360_000, 2_360_000, 2_360_000, 2_360_000, 2_360_000, 2_360_000, 4_720_000, 4_720_000, 4_720_000,
    4_720_000, 4_720_000, 4_720_000, 720_000,
];

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [command, directory, tickets @ ..] = &arguments[..]
        && command == "join"
    {
        return join(Path::new(directory), tickets).await;
    }
    let kib_per_s: u64 = arguments.first().map_or(Ok(4096), |text| text.parse())?;
    let blobs: Vec<Vec<u8>> = PARTS.iter().zip(1..).map(|(bytes, seed)| noise(*bytes, seed)).collect();
    let total: u64 = blobs.iter().map(|blob| blob.len() as u64).sum();
    println!("{total} bytes in {} parts; every holder sends {kib_per_s} KiB/s", blobs.len());
    for count in 1..=3 {
        let holders = holders(count, kib_per_s, &blobs).await?;
        let directory = tempfile::tempdir()?;
        let start = Instant::now();
        run(directory.path(), &holders, None)?;
        let sent = sent(&holders);
        println!(
            "{count} holders: {:.1} s, {sent} bytes, {:.2} % too many",
            start.elapsed().as_secs_f64(),
            over(sent, total)
        );
    }
    let holders = holders(3, kib_per_s, &blobs).await?;
    let directory = tempfile::tempdir()?;
    let before = run(directory.path(), &holders, Some(Duration::from_millis(total / kib_per_s / 6)))?;
    // What was on its way to the dead is sent into the void until the holders notice.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let void = sent(&holders) - before;
    run(directory.path(), &holders, None)?;
    let again = sent(&holders) - before - void;
    println!(
        "killed when {before} bytes had been sent: {again} more, {:.2} % too many; and {void} into the void",
        over(before + again, total)
    );
    Ok(())
}

fn over(sent: u64, total: u64) -> f64 {
    100.0 * (sent as f64 / total as f64 - 1.0)
}

fn sent(holders: &[Endpoint]) -> u64 {
    holders.iter().map(|holder| holder.traffic().sent_bytes).sum()
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    (0..bytes as u64).map(|at| ((at ^ seed << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

async fn holders(count: u8, kib_per_s: u64, blobs: &[Vec<u8>]) -> Outcome<Vec<Endpoint>> {
    let mut holders = Vec::new();
    for seed in 1..=count {
        let key = NodeKey::from_seed([seed; 32]);
        let endpoint =
            Endpoint::bind(BindOptions { key: &key, listen: "127.0.0.1:0".parse()?, relay: None }).await?;
        let store = MemoryStore::new();
        for blob in blobs {
            store.put(blob)?;
        }
        endpoint.serve_blobs(Arc::new(store));
        endpoint.limit_upload(NonZero::new(kib_per_s * 1024));
        holders.push(endpoint);
    }
    Ok(holders)
}

/// Runs a joiner in a process of its own, to its end or until it is killed; what had been sent when it was.
fn run(directory: &Path, holders: &[Endpoint], kill_after: Option<Duration>) -> Outcome<u64> {
    let tickets = holders.iter().map(|holder| holder.ticket().to_string());
    let mut joiner = Command::new(env::current_exe()?).arg("join").arg(directory).args(tickets).spawn()?;
    if let Some(after) = kill_after {
        std::thread::sleep(after);
        joiner.kill()?;
    }
    let sent = sent(holders);
    let status = joiner.wait()?;
    if kill_after.is_none() && !status.success() {
        return Err("the joiner failed".into());
    }
    Ok(sent)
}

/// Fetches all parts, each from all holders, beginning with another one each time.
async fn join(directory: &Path, tickets: &[String]) -> Outcome<()> {
    let key = NodeKey::from_seed([99; 32]);
    let endpoint =
        Endpoint::bind(BindOptions { key: &key, listen: "127.0.0.1:0".parse()?, relay: None }).await?;
    let store = Arc::new(FileStore::open(directory)?);
    let peers = tickets.iter().map(|ticket| Ok(ticket.parse::<Ticket>()?.peer()));
    let peers: Vec<Peer> = peers.collect::<Outcome<_>>()?;
    let mut fetches = JoinSet::new();
    for (at, (bytes, seed)) in PARTS.iter().zip(1..).enumerate() {
        let digest = Digest::of(&noise(*bytes, seed));
        let (endpoint, store, mut peers, bytes) =
            (endpoint.clone(), store.clone(), peers.clone(), *bytes as u64);
        if store.contains(&digest) {
            continue;
        }
        peers.rotate_left(at % tickets.len());
        fetches.spawn(async move {
            let blob = endpoint.fetch_resumably(&peers, &digest, bytes, &store).await?;
            Ok(store.keep(&blob)?)
        });
    }
    while let Some(fetched) = fetches.join_next().await {
        let fetched: Outcome<()> = fetched?;
        fetched?;
    }
    endpoint.close().await;
    Ok(())
}
