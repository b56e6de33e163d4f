//! `zoo status`: a network at one glance.

use anyhow::Result;
use serde_json::{Value, json};

use super::jobs::job_line;
use super::network::NetworkArgs;
use crate::foreground;
use crate::live::format::{count, harmless, link, several};
use crate::live::{JobState, NetworkView, print_line};

/// Nodes that are listed; a table of thousands is what `--json` is for.
const LISTED_MAX: usize = 32;

/// Arguments of `zoo status`.
#[derive(clap::Args)]
pub struct Status {
    #[command(flatten)]
    network: NetworkArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Status {
    /// Says who is there and what runs.
    pub fn run(self) -> Result<()> {
        let orchestrator = self.network.ticket()?.node;
        let view = foreground::block_on(self.network.connect())?.view;
        if self.json {
            print_line(&status_line(&orchestrator.to_string(), &view));
            return Ok(());
        }
        let waiting = view.jobs.iter().filter(|job| job.state == JobState::Queued).count();
        println!("orchestrator {}", orchestrator.short());
        println!(
            "{} here, of {} that ever joined",
            several(view.live() as u64, "node"),
            view.overview.nodes.len()
        );
        for node in view.overview.nodes.values().take(LISTED_MAX) {
            let (name, link, region) = (harmless(&node.name), link(node.link), harmless(&node.region));
            let (state, tier) = (node.word(), node.tier.word());
            let line = format!("  {name:<16} {state:<12} {tier:<10} {link:<20} {region}");
            println!("{}", line.trim_end());
        }
        match view.running() {
            Some(job) => println!(
                "{} ({}) is in round {}, after {} of {} steps, {} tokens so far{}",
                harmless(&job.name),
                job.id.short(),
                job.rounds + 1,
                job.steps,
                job.plan.steps,
                count(job.tokens),
                job.bits_per_byte
                    .last()
                    .map_or_else(String::new, |bits| format!(", {bits:.3} bits per byte")),
            ),
            None => println!("no job runs"),
        }
        println!("{} in the queue", several(waiting as u64, "job"));
        Ok(())
    }
}

fn status_line(orchestrator: &str, view: &NetworkView) -> Value {
    let nodes: Vec<Value> = view
        .overview
        .nodes
        .iter()
        .map(|(id, node)| {
            json!({
                "node": id,
                "name": node.name,
                "state": node.word(),
                "tokens_per_s": node.tokens_per_second,
                "tier": node.tier,
                "region": node.region,
                "upload_limit_kib_per_s": Some(node.upload_limit_kib_per_s).filter(|limit| *limit > 0),
                "upload_kib_per_s": node.link.map(|link| link.upload_kib_per_s),
                "rtt_ms": node.link.map(|link| link.rtt_ms),
            })
        })
        .collect();
    let jobs: Vec<Value> = view.jobs.iter().map(job_line).collect();
    json!({ "orchestrator": orchestrator, "live": view.live(), "nodes": nodes, "jobs": jobs })
}
