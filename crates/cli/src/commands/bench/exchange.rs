//! Replicas in this process that send each other their updates as nodes do, over sockets on loopback.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use zoo_content::{BlobStore, MemoryStore, VerifiedBlob};
use zoo_network::{BindOptions, Endpoint, Traffic};
use zoo_protocol::NodeKey;

/// What a receiver still says of the last bytes is on the wire by then.
const LAST_ACKNOWLEDGEMENTS: Duration = Duration::from_millis(100);

/// Endpoints of replicas, each with a connection to every other.
pub struct Exchange {
    runtime: Runtime,
    replicas: Vec<(Endpoint, Arc<MemoryStore>)>,
    /// What all replicas sent and received in rounds.
    pub traffic: Traffic,
    /// What one of them sent before.
    pub connection_bytes: u64,
}

impl Exchange {
    /// Opens the sockets and connects everybody with everybody.
    pub fn new(replicas: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let bind = async |at: usize| {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).context("the system has no entropy")?;
            let listen = "127.0.0.1:0".parse().expect("it is an address");
            let endpoint =
                Endpoint::bind(BindOptions { key: &NodeKey::from_seed(seed), listen, relay: None }).await?;
            let store = Arc::new(MemoryStore::default());
            store.put(&at.to_le_bytes())?;
            endpoint.serve_blobs(store.clone());
            anyhow::Ok((endpoint, store))
        };
        let replicas: Result<Vec<_>> = runtime.block_on(async {
            let mut replicas = Vec::with_capacity(replicas);
            for at in 0..replicas.capacity() {
                replicas.push(bind(at).await?);
            }
            Ok(replicas)
        });
        let mut exchange =
            Self { runtime, replicas: replicas?, traffic: Traffic::default(), connection_bytes: 0 };
        let hello = |at: usize| vec![VerifiedBlob::new(at.to_le_bytes().to_vec())];
        let hellos: Vec<Vec<VerifiedBlob>> = (0..exchange.replicas.len()).map(hello).collect();
        exchange.fetch_all(&hellos)?;
        exchange.connection_bytes = exchange.counted().sent_bytes / exchange.replicas.len() as u64;
        Ok(exchange)
    }

    /// Every replica fetches the updates of all others, and nothing of its own.
    pub fn round(&mut self, contributions: impl Iterator<Item = Vec<VerifiedBlob>>) -> Result<()> {
        let before = self.counted();
        let contributions: Vec<Vec<VerifiedBlob>> = contributions.collect();
        for (updates, (_, store)) in contributions.iter().zip(&self.replicas) {
            updates.iter().try_for_each(|update| store.keep(update).map(drop))?;
        }
        self.fetch_all(&contributions)?;
        let after = self.counted();
        self.traffic.sent_bytes += after.sent_bytes - before.sent_bytes;
        self.traffic.received_bytes += after.received_bytes - before.received_bytes;
        Ok(())
    }

    /// All at once, as a node asks for what its work needs, and for no more than their makers said.
    fn fetch_all(&self, contributions: &[Vec<VerifiedBlob>]) -> Result<()> {
        self.runtime.block_on(async {
            let mut fetches = JoinSet::new();
            for (at, (endpoint, _)) in self.replicas.iter().enumerate() {
                for (of, updates) in contributions.iter().enumerate().filter(|(of, _)| *of != at) {
                    for update in updates {
                        let (digest, bytes) = (update.digest(), update.len() as u64);
                        let (endpoint, peer) = (endpoint.clone(), self.replicas[of].0.peer());
                        fetches.spawn(async move { endpoint.fetch(&peer, &digest, bytes).await.map(drop) });
                    }
                }
            }
            while let Some(fetched) = fetches.join_next().await {
                fetched??;
            }
            tokio::time::sleep(LAST_ACKNOWLEDGEMENTS).await;
            Ok(())
        })
    }

    fn counted(&self) -> Traffic {
        let mut all = Traffic::default();
        for traffic in self.replicas.iter().map(|(endpoint, _)| endpoint.datagrams()) {
            all.sent_bytes += traffic.sent_bytes;
            all.received_bytes += traffic.received_bytes;
        }
        all
    }
}
