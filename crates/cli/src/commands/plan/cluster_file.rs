//! The file that describes machines.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde_json::Value;
use zoo_job::config::{Document, place};
use zoo_placement::{Cluster, Latency, NODES_MAX, Node, Objective};
use zoo_protocol::Tier;

/// Bytes of a MiB and of a KiB.
const MIB: u64 = 1 << 20;
const KIB: f64 = 1024.0;

/// What the file says.
pub struct Described {
    /// Its machines.
    pub nodes: Vec<Node>,
    /// How far they are from each other.
    pub latency: Latency,
    /// What counts.
    pub objective: Objective,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    nodes: BTreeMap<String, Value>,
    #[serde(default)]
    latency: LatencyTable,
    #[serde(default)]
    objective: Objective,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LatencyTable {
    within_ms: Option<f64>,
    between_ms: Option<f64>,
    /// From one region to others.
    pairs: BTreeMap<String, BTreeMap<String, f64>>,
}

/// A machine, or several that are alike.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    memory_mib: u64,
    gflops: Option<f64>,
    tokens_per_s: Option<f64>,
    upload_kib_per_s: f64,
    download_kib_per_s: Option<f64>,
    #[serde(default = "home")]
    region: String,
    #[serde(default)]
    tier: Tier,
    #[serde(default)]
    price: f64,
    #[serde(default = "usual_reliability")]
    reliability: f64,
    #[serde(default = "yes")]
    data: bool,
    #[serde(default = "one")]
    count: usize,
}

impl Described {
    /// Reads a file; `flops_per_token` is what the network to plan for takes.
    ///
    /// # Errors
    /// Not a configuration, a key that is unknown, missing or impossible, with the line.
    pub fn read(path: &Path, flops_per_token: f64) -> Result<Self> {
        let document = Document::read(path)?;
        let File { nodes, latency, objective } = serde_json::from_value(document.value)
            .map_err(|error| anyhow!("{}{error}\nhint: {HINT}", place(Some(path), None)))?;
        let mut all = Vec::new();
        for (name, value) in nodes {
            let line = document.lines.get(&format!("nodes.{name}")).copied();
            let said = || format!("{}nodes.{name}", place(Some(path), line));
            let entry: Entry = serde_json::from_value(value)
                .map_err(|error| anyhow!("{}: {error}\nhint: {HINT}", said()))?;
            entry.add(&name, flops_per_token, &mut all).with_context(said)?;
        }
        Ok(Self { nodes: all, latency: latency.read(), objective })
    }

    /// The machines, those called `without` left out.
    pub fn cluster(&self, without: &[String]) -> Result<Cluster> {
        let nodes = self.nodes.iter().filter(|node| !without.contains(&node.id)).cloned().collect();
        Ok(Cluster::new(nodes, &self.latency)?)
    }
}

const HINT: &str = "a node is written as  ibex: {memory_mib: 16000, gflops: 300, upload_kib_per_s: 2000, region: eu}; docs/model-builder.md lists every key";

impl Entry {
    fn add(self, name: &str, flops_per_token: f64, nodes: &mut Vec<Node>) -> Result<()> {
        let flops = match (self.gflops, self.tokens_per_s) {
            (Some(gflops), None) => gflops * 1e9,
            (None, Some(tokens_per_s)) => tokens_per_s * flops_per_token,
            _ => bail!(
                "its speed is said not at all, or twice\nhint: write gflops, or tokens_per_s as zoo train --dry-run measures it there"
            ),
        };
        if self.count == 0 || self.count > NODES_MAX - nodes.len().min(NODES_MAX) {
            bail!("a count of {} is not possible\nhint: a cluster has 1 to {NODES_MAX} nodes", self.count);
        }
        for number in 1..=self.count {
            nodes.push(Node {
                id: if self.count == 1 { name.to_owned() } else { format!("{name}-{number}") },
                memory_bytes: self.memory_mib.saturating_mul(MIB),
                flops,
                upload: self.upload_kib_per_s * KIB,
                download: self.download_kib_per_s.unwrap_or(self.upload_kib_per_s) * KIB,
                region: self.region.clone(),
                tier: self.tier,
                price: self.price,
                reliability: self.reliability,
                holds_data: self.data,
            });
        }
        Ok(())
    }
}

impl LatencyTable {
    fn read(self) -> Latency {
        let usual = Latency::default();
        let seconds = |ms: f64| ms / 1e3;
        let pairs = self.pairs.into_iter().flat_map(|(from, others)| {
            others.into_iter().map(move |(to, ms)| ((from.clone(), to), seconds(ms)))
        });
        Latency {
            within_s: self.within_ms.map_or(usual.within_s, seconds),
            between_s: self.between_ms.map_or(usual.between_s, seconds),
            pairs: pairs.collect(),
        }
    }
}

fn home() -> String {
    "home".to_owned()
}

fn usual_reliability() -> f64 {
    0.99
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}
