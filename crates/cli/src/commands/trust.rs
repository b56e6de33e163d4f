//! `zoo trust`: who was checked, by whom, and what came of it.

use anyhow::Result;
use serde_json::{Value, json};
use zoo_content::Digest;
use zoo_protocol::{Attestation, NodeId};

use super::attest::time::Time;
use super::network::NetworkArgs;
use crate::foreground;
use crate::live::format::{count, harmless, several};
use crate::live::{CheckView, Standing, TrustView, print_line};

/// Nodes that are listed; a table of thousands is what `--json` is for.
const LISTED_MAX: usize = 64;

/// Arguments of `zoo trust`.
#[derive(clap::Args)]
#[command(
    after_help = "Some windows that nodes train are trained again by others, which ones nobody can know before \
                        (rounds.verified_in_1000 of a job). What comes out has to be equal, to the last bit; who committed \
                        to something else is convicted when two others came to the same.\n\nWhat a network did can be checked \
                        whole, by anybody: zoo audit"
)]
pub struct Trust {
    #[command(flatten)]
    network: NetworkArgs,
    /// The latest checks that are listed
    #[arg(long, value_name = "N", default_value_t = 10)]
    checks: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Trust {
    /// Tells what the network found out about its nodes.
    pub fn run(self) -> Result<()> {
        let mut view = TrustView::default();
        foreground::block_on(self.network.catch_up(|notice| view.hear(notice)))?;
        if self.json {
            print_line(&trust_line(&view, self.checks));
            return Ok(());
        }
        println!(
            "{:<18} {:>8} {:>9} {:>9} {:>11} {:>7}",
            "node", "windows", "verified", "verdicts", "convictions", "faults"
        );
        let mut nodes: Vec<_> = view.nodes.iter().collect();
        nodes.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        for (id, node) in nodes.iter().take(LISTED_MAX) {
            let (name, short) = (harmless(&node.name), id.short());
            let name = if name.is_empty() { short } else { name };
            println!(
                "{name:<18} {:>8} {:>9} {:>9} {:>11} {:>7}",
                count(node.contributions),
                count(node.verified),
                count(node.verdicts),
                count(node.convictions),
                count(node.faults)
            );
            vouchers(&view, id).iter().for_each(|voucher| println!("    {voucher}"));
            if let Some(fault) = &node.last_fault {
                println!("    {}", harmless(fault));
            }
        }
        let more = nodes.len().saturating_sub(LISTED_MAX);
        if more > 0 {
            println!("and {}: --json lists all", several(more as u64, "more node"));
        }
        let latest = view.checks.len().saturating_sub(self.checks);
        if self.checks > 0 {
            println!(
                "\n{} drawn to be trained again, the latest:",
                several(view.checks.len() as u64, "window")
            );
        }
        view.checks[latest..].iter().rev().for_each(|check| println!("  {}", sentence(&view, check)));
        Ok(())
    }
}

/// Who vouches for a node, in words.
fn vouchers(view: &TrustView, node: &NodeId) -> Vec<String> {
    let Some(Standing { vouched, attested, faults, convictions, .. }) = view.nodes.get(node) else {
        return Vec::new();
    };
    let until = |until_s: u64| match until_s > view.at_ms / 1000 {
        true => format!("until {}", Time(until_s)),
        false => format!("until {}, which is over", Time(until_s)),
    };
    let operator = vouched.map(|(operator, until_s)| {
        format!("operator {} vouches for it {}", operator.short(), until(until_s))
    });
    let hardware = attested.filter(|_| faults + convictions == 0).map(|attestation| {
        let others: Vec<String> =
            view.on_the_machine_of(node).iter().map(|other| name(view, other)).collect();
        let beside = if others.is_empty() {
            String::new()
        } else {
            format!(", on one machine with {}", others.join(", "))
        };
        let Attestation { kind, measurement, valid_until_s, .. } = attestation;
        format!("its {kind} shows software {} {}{beside}", measurement.short(), until(valid_until_s))
    });
    operator.into_iter().chain(hardware).collect()
}

fn name(view: &TrustView, node: &NodeId) -> String {
    let known = view.nodes.get(node).map(|known| harmless(&known.name));
    known.filter(|name| !name.is_empty()).unwrap_or_else(|| node.short())
}

fn sentence(view: &TrustView, check: &CheckView) -> String {
    let verdict = |(node, said): (&NodeId, &Option<Option<(Digest, bool)>>)| {
        let said = match said {
            None => "at it".to_owned(),
            Some(None) => "cannot have what it started from".to_owned(),
            Some(Some((_, true))) => "equal".to_owned(),
            Some(Some((outcome, false))) => format!("comes to {}", outcome.short()),
        };
        format!("{} {said}", name(view, node))
    };
    let verdicts: Vec<String> = check.verdicts.iter().map(verdict).collect();
    let end = check.end.as_deref().unwrap_or("under way");
    let said = if verdicts.is_empty() { String::new() } else { format!(" ({})", verdicts.join(", ")) };
    format!("round {:>4} of {:<16} {end}{said}", check.round + 1, name(view, &check.maker))
}

fn trust_line(view: &TrustView, checks: usize) -> Value {
    let nodes: Vec<Value> = view
        .nodes
        .iter()
        .map(|(id, node)| {
            json!({
                "node": id, "name": node.name, "contributions": node.contributions, "verified": node.verified,
                "unverified": node.unverified, "verdicts": node.verdicts, "convictions": node.convictions,
                "faults": node.faults, "last_fault": node.last_fault,
                "vouched": node.vouched.map(|(operator, until_s)| json!({ "operator": operator, "valid_until_s": until_s })),
                "attested": node.attested, "same_machine": view.on_the_machine_of(id),
            })
        })
        .collect();
    let latest = view.checks.len().saturating_sub(checks);
    let listed: Vec<Value> = view.checks[latest..]
        .iter()
        .map(|check| {
            let verdicts: Vec<Value> = check
                .verdicts
                .iter()
                .map(|(node, said)| {
                    let (outcome, equal) = said.flatten().unzip();
                    json!({ "verifier": node, "answered": said.is_some(), "outcome": outcome, "equal": equal })
                })
                .collect();
            json!({
                "job": check.job, "round": check.round, "maker": check.maker, "verdicts": verdicts, "end": check.end,
            })
        })
        .collect();
    json!({ "nodes": nodes, "checks": listed, "checks_total": view.checks.len() })
}
