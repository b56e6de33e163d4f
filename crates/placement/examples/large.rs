//! Plans for clusters that nobody has, timed: `cargo run --release -p zoo-placement --example large -- [NODES] [LAYERS]`.

use std::time::Instant;

use zoo_kernels::random;
use zoo_model::{ModelConfig, NetworkDefinition, Profile, preset};
use zoo_placement::{Cluster, Latency, Node, Objective, Problem, Terms, Workload, plan, replan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|it| it.parse::<usize>());
    let nodes = arguments.next().transpose()?.unwrap_or(10_000);
    let layers = arguments.next().transpose()?.unwrap_or(49);
    let small = preset::by_name("qwen3-0.6b").ok_or("the preset is missing")?;
    let config = ModelConfig { layers, context: 1024, vocab_size: 32_768, tied_embeddings: false, ..small };
    let terms = Terms {
        micro_tokens: 1024,
        step_tokens: 16_384,
        moments: 2,
        profile: Profile::F32Exact,
        recompute: true,
        process_bytes: 32 << 20,
    };
    let definition = NetworkDefinition::decoder(&config)?;
    let start = Instant::now();
    let workload = Workload::of(&definition, &terms)?;
    println!(
        "{} VNodes, {:.1} GiB on one node; read in {:.0} ms",
        definition.nodes.len(),
        workload.alone_bytes() as f64 / f64::from(1 << 30),
        start.elapsed().as_secs_f64() * 1e3
    );
    let objective = Objective::default();
    for (name, least, most) in
        [("most nodes hold everything", 0.5, 4.0), ("half do", 0.3, 2.0), ("none does", 0.12, 0.9)]
    {
        let machines =
            (0..nodes as u64).map(|at| node(at, workload.alone_bytes() as f64, least, most)).collect();
        let cluster = Cluster::new(machines, &Latency::default())?;
        let problem = Problem { cluster: &cluster, workload: &workload, objective: &objective };
        let start = Instant::now();
        let found = plan(&problem)?;
        let planned = start.elapsed();
        let pipelines = found.replicas.iter().filter(|replica| replica.stages.len() > 1).count();
        println!(
            "{name}: {nodes} nodes in {:.2} s; {} replicas, {pipelines} of them pipelines, {} nodes idle; worth {:.0} tokens/s, at most {:.1} % short of the best",
            planned.as_secs_f64(),
            found.replicas.len(),
            found.idle.len(),
            found.value,
            100.0 * found.gap_max()
        );
        let gone =
            found.replicas.iter().max_by_key(|replica| replica.stages.len()).ok_or("no replica")?.stages[0]
                .node;
        let rest =
            cluster.nodes().iter().filter(|node| node.id != cluster.nodes()[gone].id).cloned().collect();
        let rest = Cluster::new(rest, &Latency::default())?;
        let start = Instant::now();
        let change = replan(&Problem { cluster: &rest, ..problem }, &cluster, &found)?;
        println!(
            "  without one of them in {:.2} s: {} fetches, {:.0} MiB",
            start.elapsed().as_secs_f64(),
            change.moves.len(),
            change.moves.iter().map(|it| it.bytes).sum::<u64>() as f64 / f64::from(1 << 20)
        );
    }
    Ok(())
}

/// A node whose memory is between these parts of what everything takes.
fn node(at: u64, everything: f64, least: f64, most: f64) -> Node {
    let unit = |stream: u64| (random::bits(5, stream, at) >> 11) as f64 / (1u64 << 53) as f64;
    let link = 2e6 + 2e8 * unit(3) * unit(3);
    Node {
        id: format!("node-{at:06}"),
        memory_bytes: (everything * (least + (most - least) * unit(1) * unit(1))) as u64,
        flops: 5e10 + 5e12 * unit(2) * unit(2),
        upload: link,
        download: 2.0 * link,
        region: format!("region-{:02}", random::bits(5, 4, at) % 20),
        tier: Default::default(),
        price: 0.0,
        reliability: 0.9 + 0.1 * unit(6),
        holds_data: true,
    }
}
