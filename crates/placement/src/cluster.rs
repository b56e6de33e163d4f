//! Machines, as a plan knows them.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use zoo_protocol::Tier;

/// Most nodes of a cluster.
pub const NODES_MAX: usize = 100_000;
/// Most regions of a cluster: every pair of them has a latency.
pub const REGIONS_MAX: usize = 256;

/// One machine. Speeds are what training reaches, not what a data sheet says.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique name.
    pub id: String,
    /// Memory that it gives, bytes.
    pub memory_bytes: u64,
    /// Floating-point operations a second, forward and backward.
    pub flops: f64,
    /// Bytes a second that it sends.
    pub upload: f64,
    /// Bytes a second that it receives.
    pub download: f64,
    /// Its failure domain: a house, a data centre, a country.
    pub region: String,
    /// What it is taken for.
    pub tier: Tier,
    /// What an hour of it costs, in any unit.
    pub price: f64,
    /// The chance that it is still there an hour later.
    pub reliability: f64,
    /// Whether the training text is on it.
    pub holds_data: bool,
}

/// How long a message takes from one region to another, seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// Within any region.
    pub within_s: f64,
    /// Between two regions of which nothing else is said.
    pub between_s: f64,
    /// Between these, either way.
    pub pairs: BTreeMap<(String, String), f64>,
}

impl Default for Latency {
    /// A house and the internet.
    fn default() -> Self {
        Self { within_s: 0.001, between_s: 0.05, pairs: BTreeMap::new() }
    }
}

/// Machines in the order of their names.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// Of every node, a place in `regions`.
    region_of: Vec<usize>,
    regions: Vec<String>,
    /// Seconds from region to region, row by row.
    latency: Vec<f64>,
}

/// A cluster that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cluster: {thing}: {cause}\nhint: {hint}")]
pub struct ClusterError {
    /// The node, or what else is wrong.
    pub thing: String,
    /// What is wrong with it.
    pub cause: String,
    /// What to write instead.
    pub hint: &'static str,
}

impl Cluster {
    /// A cluster of `nodes`, in any order.
    ///
    /// # Errors
    /// No nodes, too many nodes or regions, two of one name, or a number that makes no sense.
    pub fn new(mut nodes: Vec<Node>, latency: &Latency) -> Result<Self, ClusterError> {
        if nodes.is_empty() || nodes.len() > NODES_MAX {
            let cause = format!("{} are not between 1 and {NODES_MAX}", nodes.len());
            return Err(refuse(
                "nodes",
                cause,
                "describe every machine once, with a count if there are several",
            ));
        }
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        if let Some(pair) = nodes.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(refuse(&pair[0].id, "two nodes have this name", "give each its own"));
        }
        nodes.iter().try_for_each(check)?;
        let regions: Vec<String> =
            nodes.iter().map(|node| node.region.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        if regions.len() > REGIONS_MAX {
            let cause = format!("{} are more than {REGIONS_MAX}", regions.len());
            return Err(refuse("regions", cause, "name what fails together, such as a house or a country"));
        }
        let place = |name: &String| regions.binary_search(name).expect("every node's region is listed");
        let region_of = nodes.iter().map(|node| place(&node.region)).collect();
        let latency = latency.table(&regions)?;
        Ok(Self { nodes, region_of, regions, latency })
    }

    /// The machines, by name.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The place of the node called `id`.
    pub fn place(&self, id: &str) -> Option<usize> {
        self.nodes.binary_search_by(|node| node.id.as_str().cmp(id)).ok()
    }

    /// The regions' names.
    pub fn regions(&self) -> &[String] {
        &self.regions
    }

    /// The region of the node at this place, as a place in [`Cluster::regions`].
    pub fn region(&self, node: usize) -> usize {
        self.region_of[node]
    }

    /// Seconds that a message takes from one node to another.
    pub fn latency(&self, from: usize, to: usize) -> f64 {
        self.latency[self.region_of[from] * self.regions.len() + self.region_of[to]]
    }
}

impl Latency {
    fn table(&self, regions: &[String]) -> Result<Vec<f64>, ClusterError> {
        let hint = "write seconds from 0 to 60";
        let possible = |seconds: f64| (0.0..=60.0).contains(&seconds);
        if let Some(seconds) = [self.within_s, self.between_s]
            .into_iter()
            .chain(self.pairs.values().copied())
            .find(|&it| !possible(it))
        {
            return Err(refuse("latency", format!("{seconds} is not possible"), hint));
        }
        let mut table = Vec::with_capacity(regions.len() * regions.len());
        for from in regions {
            for to in regions {
                let said = [(from, to), (to, from)]
                    .into_iter()
                    .find_map(|(from, to)| self.pairs.get(&(from.clone(), to.clone())));
                let usual = if from == to { self.within_s } else { self.between_s };
                table.push(said.copied().unwrap_or(usual));
            }
        }
        Ok(table)
    }
}

fn check(node: &Node) -> Result<(), ClusterError> {
    let positive = [("speed", node.flops), ("upload", node.upload), ("download", node.download)];
    if let Some((what, value)) = positive.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0))
    {
        return Err(refuse(&node.id, format!("{what} of {value} is not possible"), "write a number above 0"));
    }
    if !(node.price.is_finite() && node.price >= 0.0) {
        let cause = format!("a price of {} is not possible", node.price);
        return Err(refuse(&node.id, cause, "write 0 or more"));
    }
    if !(0.0..=1.0).contains(&node.reliability) {
        let cause = format!("a reliability of {} is not possible", node.reliability);
        return Err(refuse(&node.id, cause, "write the chance that it is still there after an hour, 0 to 1"));
    }
    Ok(())
}

fn refuse(thing: &str, cause: impl Into<String>, hint: &'static str) -> ClusterError {
    ClusterError { thing: thing.to_owned(), cause: cause.into(), hint }
}
