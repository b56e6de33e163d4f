//! Networks, clusters and objectives that are drawn.

use std::ops::Range;

use zoo_kernels::random;
use zoo_model::{Family, ModelConfig, NetworkDefinition, Profile, preset};
use zoo_placement::{Cluster, Latency, Node, Terms, Workload};
use zoo_protocol::Tier;

/// Numbers that follow from a seed.
pub struct Draw {
    seed: u64,
    next: u64,
}

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    pub fn below(&mut self, most: u64) -> u64 {
        self.next += 1;
        random::bits(self.seed, 11, self.next) % most
    }

    pub fn unit(&mut self) -> f64 {
        self.below(1 << 30) as f64 / f64::from(1u32 << 30)
    }

    /// Between two numbers, evenly by their logarithm.
    pub fn between(&mut self, least: f64, most: f64) -> f64 {
        least * raised(most / least, self.unit())
    }
}

/// A power by square roots, to 20 binary digits of the exponent: the same everywhere.
fn raised(base: f64, mut exponent: f64) -> f64 {
    let (mut root, mut product) = (base, 1.0);
    for _ in 0..20 {
        root = root.sqrt();
        exponent *= 2.0;
        if exponent >= 1.0 {
            exponent -= 1.0;
            product *= root;
        }
    }
    product
}

/// A decoder of one or two layers: five to ten units.
pub fn workload(draw: &mut Draw) -> Workload {
    let small = preset::by_name("qwen3-1m").expect("a preset");
    let config = ModelConfig {
        family: if draw.below(2) == 0 { Family::Qwen3 } else { Family::Llama },
        layers: 1 + draw.below(2) as usize,
        vocab_size: 256 << draw.below(5),
        hidden: 128 << draw.below(4),
        tied_embeddings: draw.below(2) == 0,
        ..small
    };
    let terms = Terms {
        micro_tokens: 256,
        step_tokens: 1024,
        moments: 2,
        profile: Profile::F32Exact,
        recompute: draw.below(4) == 0,
        process_bytes: 1 << 16,
    };
    Workload::of(&NetworkDefinition::decoder(&config).expect("valid"), &terms).expect("valid")
}

/// Nodes around what the network takes: some hold it all, some a part, some nothing.
pub fn cluster(draw: &mut Draw, count: Range<u64>, workload: &Workload) -> Cluster {
    let count = count.start + draw.below(count.end - count.start);
    let nodes = (0..count).map(|at| node(draw, at, workload)).collect();
    let latency =
        Latency { within_s: 0.0005, between_s: draw.between(0.005, 0.1), pairs: Default::default() };
    Cluster::new(nodes, &latency).expect("valid")
}

pub fn node(draw: &mut Draw, at: u64, workload: &Workload) -> Node {
    let link = draw.between(2e5, 2e8);
    Node {
        id: format!("node-{at:05}"),
        memory_bytes: (workload.alone_bytes() as f64 * draw.between(0.2, 1.6)) as u64,
        flops: draw.between(1e9, 1e11),
        upload: link,
        download: link * draw.between(1.0, 4.0),
        region: format!("region-{}", draw.below(2)),
        tier: if draw.below(3) == 0 { Tier::Bronze } else { Tier::Community },
        price: draw.unit(),
        reliability: 0.5 + 0.5 * draw.unit(),
        holds_data: draw.below(2) == 0,
    }
}
