//! Which machines host which VNodes.
//!
//! A [`Workload`] says what a network asks, a [`Cluster`] what there is, an [`Objective`] what counts. [`plan`] makes replicas of
//! the machines: whoever has the memory is one alone, others are pipelines of contiguous stages. [`explain`] says why. [`replan`]
//! goes on when machines leave and join, with as little state moved as that takes. All are pure functions: equal arguments give
//! equal plans on every machine, and no clock decides how long is searched.
//!
//! ```
//! use zoo_model::{NetworkDefinition, Profile, preset};
//! use zoo_placement::{Cluster, Latency, Node, Objective, Problem, Terms, Workload, plan};
//!
//! let config = preset::by_name("qwen3-10m").expect("a preset");
//! let terms = Terms {
//!     micro_tokens: 512, step_tokens: 4096, moments: 2, profile: Profile::F32Exact, recompute: false, process_bytes: 16 << 20,
//! };
//! let workload = Workload::of(&NetworkDefinition::decoder(&config)?, &terms)?;
//! let node = |id: &str, memory_mib: u64| Node {
//!     id: id.into(), memory_bytes: memory_mib << 20, flops: 1e11, upload: 1e7, download: 1e7, region: "home".into(),
//!     tier: Default::default(), price: 0.0, reliability: 0.99, holds_data: true,
//! };
//! // The first holds everything, the others only together.
//! let cluster = Cluster::new(vec![node("ibex", 4096), node("lynx", 256), node("newt", 256)], &Latency::default())?;
//! let objective = Objective::default();
//! let found = plan(&Problem { cluster: &cluster, workload: &workload, objective: &objective })?;
//! let sizes: Vec<usize> = found.replicas.iter().map(|replica| replica.stages.len()).collect();
//! assert_eq!(sizes, [1, 2]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a replica comes to
//!
//! The micro-batches of a pipeline follow each other without a gap (asynchronous 1F1B), so it is as fast as its slowest stage:
//! that which computes the longest for a micro-batch, sends or receives for the longest, or is the farthest from the next. Links are
//! those of the nodes to everybody, since a house has one. What is on its way costs memory: a stage with n others behind it has
//! 2n + 1 micro-batches between its passes, one for itself, and for each of the others one there and one on the wire.
//!
//! How often VNodes synchronise with those of other replicas decides nothing here: a round has as many steps as hide its traffic,
//! and its bytes follow from the number of replicas.

mod chain;
mod cluster;
mod explain;
mod keeping;
mod objective;
mod plan;
mod replan;
mod replica;
mod search;
mod workload;

pub use cluster::{Cluster, ClusterError, Latency, NODES_MAX, Node, REGIONS_MAX};
pub use explain::{Explanation, bottleneck, explain, size};
pub use keeping::Keepers;
pub use objective::Objective;
pub use plan::{Idle, Plan, PlanError, WhyIdle, plan};
pub use replan::{Change, Move, replan};
pub use replica::{Bottleneck, Problem, Replica, Stage};
pub use workload::{Terms, UNITS_MAX, Unit, Workload};
