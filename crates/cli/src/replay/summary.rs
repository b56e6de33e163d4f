//! A timeline at one moment, for pipes and for programs.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};
use zoo_state::Activity;

use super::picture::command;
use super::rows::{LEGEND, bar, bar_width, cells, head, since_start};
use super::timeline::{Happening, Timeline};
use crate::live::format::{count, harmless, several};

/// Rounds that a summary lists: the latest so many.
const ROUNDS_MAX: usize = 12;
/// Events that a summary lists: the latest so many.
const EVENTS_MAX: usize = 12;
const AS_WRITTEN: &str = ", as the orchestrator wrote it";

/// For people, in lines of at most `width` columns. Of one node if it is named.
pub fn as_text(timeline: &Timeline, moment: usize, node: Option<usize>, width: usize) -> String {
    let mut lines = vec![
        format!(
            "{} and {}, {} long",
            several(timeline.moments.len() as u64, "command"),
            several(timeline.happenings.len() as u64, "event"),
            since_start(timeline, timeline.period_ms().1)
        ),
        format!("root {}{}", timeline.root, if timeline.root_as_written { AS_WRITTEN } else { "" }),
    ];
    if moment + 1 < timeline.moments.len() {
        lines.push(format!(
            "after command {}: {}",
            count(moment as u64 + 1),
            command(moment, timeline).trim()
        ));
    }
    lines.push(String::new());
    lines.extend(rounds(timeline, moment));
    lines.extend(nodes(timeline, moment, node, width));
    lines.extend(events(timeline, moment, node));
    let cut = |line: String| line.chars().take(width).collect::<String>().trim_end().to_owned() + "\n";
    lines.into_iter().map(|line| cut(harmless(&line))).collect()
}

/// For programs: one object.
pub fn as_json(timeline: &Timeline, moment: usize, node: Option<usize>) -> Value {
    let tally = timeline.all_then(moment);
    let (start_ms, end_ms) = timeline.period_ms();
    json!({
        "event": "summary",
        "commands": timeline.moments.len(),
        "events": timeline.happenings.len(),
        "root": timeline.root,
        "root_as_written": timeline.root_as_written,
        "from_ms": start_ms,
        "until_ms": end_ms,
        "command": (moment + 1).min(timeline.moments.len()),
        "at_ms": timeline.at_ms(moment),
        "live": timeline.here_then(moment),
        "contributions": tally.contributions,
        "tokens": tally.tokens,
        "sequences": tally.sequences,
        "update_bytes": tally.bytes,
        "faults": tally.faults,
        "nodes": selected(timeline, node).map(|at| node_json(timeline, at, moment)).collect::<Vec<_>>(),
        "rounds": started(timeline, moment).map(|round| round_json(timeline, round, moment)).collect::<Vec<_>>(),
    })
}

fn selected(timeline: &Timeline, node: Option<usize>) -> Range<usize> {
    node.map_or(0..timeline.nodes.len(), |node| node..node + 1)
}

fn started(timeline: &Timeline, moment: usize) -> Range<usize> {
    0..timeline.round_then(moment).map_or(0, |round| round + 1)
}

fn node_json(timeline: &Timeline, node: usize, moment: usize) -> Value {
    let (line, then) = (&timeline.nodes[node], timeline.node_then(node, moment));
    json!({
        "node": line.id,
        "name": line.name,
        "activity": then.activity,
        "contributions": then.tally.contributions,
        "tokens": then.tally.tokens,
        "sequences": then.tally.sequences,
        "update_bytes": then.tally.bytes,
        "missed": then.tally.missed,
        "faults": then.tally.faults,
        "busy_ms": then.busy_ms,
        "here_ms": then.here_ms,
        "busy_share": then.busy_share(),
    })
}

fn round_json(timeline: &Timeline, round: usize, moment: usize) -> Value {
    let (line, then) = (&timeline.rounds[round], timeline.round_at(round, moment));
    json!({
        "job": line.job,
        "name": line.name,
        "round": line.round,
        "starts": line.starts,
        "started_ms": timeline.at_ms(line.started as usize),
        "finished_ms": then.finished.map(|finished| timeline.at_ms(finished as usize)),
        "nodes": line.nodes,
        "contributions": then.contributions,
        "tokens": then.tokens,
        "loss": then.loss,
        "bits_per_byte": then.bits_per_byte,
    })
}

fn rounds(timeline: &Timeline, moment: usize) -> Vec<String> {
    let all = started(timeline, moment);
    if all.is_empty() {
        return Vec::new();
    }
    let shown = all.end.saturating_sub(ROUNDS_MAX)..all.end;
    let mut lines = vec![format!(
        "{:<16} {:>11} {:>8} {:>8} {:>7} {:>7} {:>9}",
        "job", "round", "start", "took", "gave", "loss", "bits/byte"
    )];
    if shown.start > 0 {
        lines.push(format!("{} before these: --json lists all", several(shown.start as u64, "round")));
    }
    lines.extend(shown.map(|round| round_row(timeline, round, moment)));
    lines.push(String::new());
    lines
}

fn round_row(timeline: &Timeline, round: usize, moment: usize) -> String {
    let (line, then) = (&timeline.rounds[round], timeline.round_at(round, moment));
    let job: String = line.name.chars().take(16).collect();
    let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.3}"));
    let started_ms = timeline.at_ms(line.started as usize);
    let took_ms = then.finished.map(|finished| timeline.at_ms(finished as usize).saturating_sub(started_ms));
    let took = took_ms.map_or_else(|| "-".into(), |took_ms| format!("{:.1} s", took_ms as f64 / 1000.0));
    let of = &line.of;
    let gave = format!("{}/{}", then.contributions, line.nodes);
    let start = since_start(timeline, started_ms);
    let (loss, bits) = (number(then.loss), number(then.bits_per_byte));
    format!("{job:<16} {of:>11} {start:>8} {took:>8} {gave:>7} {loss:>7} {bits:>9}")
}

fn nodes(timeline: &Timeline, moment: usize, node: Option<usize>, width: usize) -> Vec<String> {
    let bar_width = bar_width(width);
    let period_ms = timeline.period_ms().0..timeline.at_ms(moment) + 1;
    let row = |at: usize| {
        let then = timeline.node_then(at, moment);
        let bar = bar(timeline, at, &period_ms, bar_width);
        let bar: String = bar.iter().map(|cell| cell.glyph()).collect();
        format!("{}  {bar}", cells(&timeline.nodes[at].name, &then, width))
    };
    let mut lines = vec![head(width)];
    lines.extend(selected(timeline, node).map(row));
    lines.push(LEGEND.to_owned());
    lines.push(format!("at that moment: {}", doing(timeline, moment, node)));
    lines.push(String::new());
    lines
}

/// How many nodes do what.
fn doing(timeline: &Timeline, moment: usize, node: Option<usize>) -> String {
    let mut nodes: BTreeMap<Activity, u64> = BTreeMap::new();
    for at in selected(timeline, node) {
        *nodes.entry(timeline.node_then(at, moment).activity).or_default() += 1;
    }
    let busiest_first = nodes.iter().rev();
    let doing: Vec<String> =
        busiest_first.map(|(activity, nodes)| format!("{} {}", count(*nodes), activity.word())).collect();
    if doing.is_empty() { "nobody".into() } else { doing.join(", ") }
}

fn events(timeline: &Timeline, moment: usize, node: Option<usize>) -> Vec<String> {
    let latest = match node {
        None => timeline.latest(moment, EVENTS_MAX),
        Some(_) => timeline.latest(moment, usize::MAX),
    };
    let wanted: Vec<_> = latest
        .into_iter()
        .filter(|(_, happening)| node.is_none_or(|node| happening.node == Some(node as u32)))
        .collect();
    let shown = &wanted[wanted.len().saturating_sub(EVENTS_MAX)..];
    let line = |(at, happening): &(usize, &Happening)| {
        let text = happening.text.lines().next().unwrap_or_default();
        format!("{:>8} {text}", since_start(timeline, timeline.at_ms(*at)))
    };
    shown.iter().map(line).collect()
}
