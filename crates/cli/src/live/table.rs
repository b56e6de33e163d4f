//! The table of nodes, and the header above it.

use std::time::Duration;

use console::Style;

use super::format::{bytes, clock, count, link, round_of};
use super::overview::{NodeState, NodeView, Overview};
use super::sparkline::sparkline;

/// Columns of a row before the curve.
const CELLS_WIDTH: usize = 103;
/// Columns of a curve.
const CURVE_WIDTH_MAX: usize = 32;

/// The overview as lines of at most `width` columns. `training` is the time since the first round started.
pub fn lines(overview: &Overview, training: Option<Duration>, width: usize) -> Vec<String> {
    let style = || Style::new().for_stderr();
    let cut = |line: String| line.chars().take(width).collect::<String>();
    let curve_width = width.saturating_sub(CELLS_WIDTH).min(CURVE_WIDTH_MAX);
    let mut lines = vec![String::new()];
    lines.push(style().bold().apply_to(cut(progress(overview, training))).to_string());
    if !overview.bits_per_byte.is_empty() {
        lines.push(style().cyan().apply_to(cut(held_out(overview))).to_string());
    }
    let head = row(
        ["node", "state", "tier", "step", "loss", "tokens/s", "sent", "received", "measured link"],
        "loss over time",
    );
    lines.push(style().dim().apply_to(cut(head)).to_string());
    let mut nodes: Vec<&NodeView> = overview.nodes.values().collect();
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    for node in nodes {
        let style = match node.state {
            _ if node.suspected => style().yellow(),
            NodeState::Lost => style().red(),
            NodeState::Training => style(),
            _ => style().green(),
        };
        lines.push(style.apply_to(cut(node_row(node, overview, curve_width))).to_string());
    }
    lines
}

fn progress(overview: &Overview, training: Option<Duration>) -> String {
    let round = round_of(overview.round, &overview.plan);
    let mut line = format!("round {round}   {} tokens", count(overview.tokens));
    let done = overview.done();
    if let Some(training) = training.filter(|_| done > 0.02) {
        let left = training.mul_f64((1.0 - done) / done);
        line.push_str(&format!("   about {} left", clock(left)));
    }
    line
}

fn held_out(overview: &Overview) -> String {
    let bits = &overview.bits_per_byte;
    let latest = bits.last().copied().unwrap_or_default();
    format!("held-out bits per byte {latest:.3}  {}", sparkline(bits, CURVE_WIDTH_MAX))
}

fn node_row(node: &NodeView, overview: &Overview, curve_width: usize) -> String {
    let step = match node.state {
        NodeState::Training => format!("{}/{}", node.step, overview.inner_steps),
        _ => String::new(),
    };
    let loss = node.losses.last().map_or_else(String::new, |loss| format!("{loss:.3}"));
    let speed = match node.state {
        NodeState::Lost => String::new(),
        _ => count(node.tokens_per_second.into()),
    };
    let (sent, received) = (bytes(node.sent_bytes()), bytes(node.received_bytes()));
    row(
        [&node.name, node.word(), node.tier.word(), &step, &loss, &speed, &sent, &received, &link(node.link)],
        &sparkline(&node.losses, curve_width),
    )
}

fn row([node, state, tier, step, loss, speed, sent, received, link]: [&str; 9], curve: &str) -> String {
    let node: String = node.chars().take(10).collect();
    format!(
        "{node:<10} {state:<12} {tier:<9} {step:>7} {loss:>7} {speed:>9} {sent:>9} {received:>9} {link:>19}   {curve}"
    )
}

#[cfg(test)]
mod tests {
    use zoo_orchestrator::Notice;
    use zoo_protocol::{NodeId, NodeProfile, RoundPlan, Speeds};
    use zoo_state::Event;

    use super::*;

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let plan = RoundPlan {
            steps: 1,
            rhythm: RoundPlan::constant(1),
            sequences_per_step: 1,
            evaluate_every: 1,
            evaluation_shards: 1,
            minimum_nodes: 1,
            contribution_deadline_ms: 1,
            topology: Default::default(),
            overlap: false,
            verified_in_1000: 0,
            trust_discount: 4,
        };
        let mut overview = Overview::new(plan);
        let profile = NodeProfile {
            name: "a name that is far too long for its column".into(),
            threads: 1,
            memory_mib: 1,
            isa: "scalar".into(),
            speeds: Speeds { f32_exact: 123_456, bf16_exact: 7 },
            region: String::new(),
            upload_kib_per_s: 0,
            storage: None,
            software: "zoo".into(),
        };
        let joined = Event::NodeJoined { node: NodeId([1; 32]), profile };
        overview.hear(&Notice::Event { sequence: 0, at_ms: 0, event: joined });
        overview.bits_per_byte = vec![3.0; 100];
        for node in overview.nodes.values_mut() {
            node.losses = (0..500).map(f64::from).collect();
        }
        for width in [0, 1, 20, 73, 80, 200] {
            for line in lines(&overview, Some(Duration::from_secs(60)), width) {
                let plain = console::strip_ansi_codes(&line).into_owned();
                assert!(plain.chars().count() <= width, "{width}: {plain}");
            }
        }
        let wide = lines(&overview, None, 120).join("\n");
        assert!(wide.contains("waiting") && wide.contains("123,456") && wide.contains('█'), "{wide}");
    }
}
