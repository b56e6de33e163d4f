//! A model that several nodes answer with: each has a part of it, and none needs room for all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use zoo_content::{BlobStore, Digest, FileStore, VerifiedBlob};
use zoo_gateway::Engine;
use zoo_home::Home;
use zoo_kernels::attention::PAGE;
use zoo_model::{Network, NetworkDefinition, decoder_stage_bytes, page_bytes};
use zoo_network::{BindOptions, Endpoint};
use zoo_stages::{WritingEvent, WritingOptions, remote_passes, write};

use super::{Serve, read};
use crate::commands::pipeline::temporary_folder;
use crate::foreground;
use crate::live::print_line;

/// What a node's process takes beside its stages, bytes.
const PROCESS_BYTES: u64 = 32 << 20;

/// How a model is spread over nodes.
#[derive(clap::Args)]
pub struct NetworkSettings {
    /// Parts that the model is cut into. Default: as many as nodes
    #[arg(long, value_name = "N", requires = "network", value_parser = clap::value_parser!(u32).range(1..=256))]
    stages: Option<u32>,
    /// Where to listen for the nodes; port 0 takes any free port
    #[arg(long, value_name = "ADDR:PORT", requires = "network", default_value = "127.0.0.1:0")]
    nodes_listen: SocketAddr,
    /// Seconds that a part waits for a fresh node when its own is gone, before another takes it as well
    #[arg(long, value_name = "SECONDS", requires = "network", default_value_t = 3)]
    patience: u64,
    /// Hold every message between nodes for so long, ms: to measure what distance costs
    #[arg(long, value_name = "MS", requires = "network", default_value_t = 0)]
    latency: u64,
}

impl Serve {
    /// Serves until Ctrl-C, with whoever joins.
    pub(super) async fn serve_through(self, nodes: u16, start: Instant) -> Result<()> {
        let stop = foreground::told_to_stop(self.exit_with_stdin)?;
        let api_key = self.api_key()?;
        let (network, served) = read(self.path(), self.name.clone())?;
        let served = Arc::new(served);
        let definition = network.definition().clone();
        let page = page_bytes(&definition);
        let positions = self.cache_positions(served.context, page)?;
        let stages = self.nodes.stages.unwrap_or(u32::from(nodes));
        let stage_bytes = stage_bytes(&definition, stages, positions)?;

        let folder = temporary_folder()?;
        let home = Home::open(folder.path())?;
        let store: Arc<dyn BlobStore> = Arc::new(FileStore::open(folder.path().join("blobs"))?);
        let states = keep_states(network, &*store)?;
        let (key, listen) = (home.key(), self.nodes.nodes_listen);
        let endpoint = Endpoint::bind(BindOptions { key, listen, relay: None }).await?;

        let (passes, requests) = remote_passes(stages);
        let settings = self.engine_settings(positions, 1);
        let (engine, _) = Engine::over(Box::new(passes), Arc::clone(&served), settings)?;
        let has_key = api_key.is_some();
        let server = self.start_server(&engine, &served, api_key).await?;
        let cache_bytes = positions / PAGE * page;
        self.announce(&server, &served, start.elapsed().as_secs_f64(), cache_bytes, has_key)?;
        self.invite(&endpoint, nodes, stages);

        let options = WritingOptions {
            network: &definition,
            profile: served.profile,
            stages,
            nodes: usize::from(nodes).min(stages as usize),
            pages: (positions / PAGE) as u32,
            states: &states,
            stage_bytes: &stage_bytes,
            patience: Duration::from_secs(self.nodes.patience),
            latency_ms: self.nodes.latency,
            endpoint: endpoint.clone(),
            store,
        };
        let (serving, served_until) = tokio::sync::oneshot::channel::<()>();
        let end = async {
            let _ = served_until.await;
        };
        let mut writing = Box::pin(write(&options, requests, end, |event| self.tell(&event, nodes, stages)));
        let outcome = tokio::select! {
            outcome = &mut writing => outcome,
            () = server.run_until(stop) => {
                drop(serving);
                writing.await
            }
        };
        endpoint.close().await;
        outcome?;
        self.take_leave(&engine)?;
        Ok(())
    }

    fn invite(&self, endpoint: &Endpoint, nodes: u16, stages: u32) {
        let ticket = endpoint.ticket().to_string();
        if self.json {
            print_line(&json!({ "event": "waiting", "ticket": ticket, "nodes": nodes, "stages": stages }));
        } else {
            println!(
                "\nit answers when {nodes} nodes are there; on each of them run\n\n  zoo pipeline join {ticket}\n"
            );
        }
    }

    fn tell(&self, event: &WritingEvent, wanted: u16, stages: u32) {
        if self.json {
            print_line(&match event {
                WritingEvent::Joined { name, nodes } => {
                    json!({ "event": "joined", "name": name, "nodes": nodes })
                }
                WritingEvent::Placed { stage, name } => {
                    json!({ "event": "placed", "stage": stage, "name": name })
                }
                WritingEvent::Begun { generation } => json!({ "event": "begun", "generation": generation }),
                WritingEvent::Gone { name, stages } => {
                    json!({ "event": "gone", "name": name, "stages": stages })
                }
                WritingEvent::Failed { name, stage, cause } => {
                    json!({ "event": "failed", "name": name, "stage": stage, "cause": cause })
                }
            });
            return;
        }
        match event {
            WritingEvent::Joined { name, nodes } => println!("{name} joined: {nodes} of {wanted}"),
            WritingEvent::Placed { stage, name } => println!("part {} of {stages} goes to {name}", stage + 1),
            WritingEvent::Begun { generation: 1 } => println!("every part is there: it answers"),
            WritingEvent::Begun { .. } => println!("every part is there again: texts go on"),
            WritingEvent::Gone { name, stages } if stages.is_empty() => println!("{name} is gone"),
            WritingEvent::Gone { name, stages } => {
                println!("{name} is gone, with {} of the parts: texts wait", stages.len());
            }
            WritingEvent::Failed { name, stage, cause } => {
                println!("{name} cannot host part {}, and is sent away: {cause}", stage + 1);
            }
        }
    }
}

/// Memory that each stage takes, bytes.
fn stage_bytes(definition: &NetworkDefinition, stages: u32, positions: usize) -> Result<Vec<u64>> {
    let pages = (positions / PAGE) as u64;
    let bytes = decoder_stage_bytes(definition, stages as usize)?;
    Ok(bytes.into_iter().map(|(parameters, page)| parameters + pages * page + PROCESS_BYTES).collect())
}

/// Puts the state of every VNode where nodes fetch it; the network itself is then no longer in memory.
fn keep_states(network: Network, store: &dyn BlobStore) -> Result<Vec<(String, Digest, u64)>> {
    let keep = |vnode: &zoo_model::VNode| {
        let blob = VerifiedBlob::new(vnode.state_bytes());
        store.keep(&blob)?;
        Ok((vnode.id().to_owned(), blob.digest(), blob.len() as u64))
    };
    network.vnodes().iter().map(keep).collect()
}
