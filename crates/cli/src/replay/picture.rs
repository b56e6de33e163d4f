//! Draws what a viewer looks at, as lines of text that fit any width from 60 columns on.

use console::Style;
use zoo_state::Activity;

use super::rows::{LEGEND, bar, bar_width, cells, column_of, head, painted, since_start};
use super::timeline::Timeline;
use super::viewer::{Asks, SPEEDS, Viewer};
use crate::live::format::{count, several};
use crate::live::sparkline;

/// Lines of the latest events.
const EVENTS: usize = 6;
/// Lines that are not nodes: title, round, ruler, time, events, keys, and what parts them.
const FRAME: usize = 8 + EVENTS;
/// Columns of a curve of losses.
const CURVE_WIDTH: usize = 24;
/// Rounds in a curve: the latest so many.
const LOSSES_MAX: usize = 240;

/// One screen: at most `width` columns and `height` lines.
pub fn screen(viewer: &Viewer, timeline: &Timeline, name: &str, width: usize, height: usize) -> Vec<String> {
    let bold = Style::new().bold();
    let dim = Style::new().dim();
    let cut = |text: String| text.chars().take(width).collect::<String>();
    let mut lines = vec![
        bold.apply_to(cut(title(viewer, timeline, name))).to_string(),
        cut(round(viewer, timeline)),
        dim.apply_to(cut(format!("{}  {}", head(width), round_starts(viewer, timeline, width)))).to_string(),
    ];
    let rows = height.saturating_sub(FRAME).max(1);
    lines.extend(node_rows(viewer, timeline, rows, width));
    lines.push(cut(ruler(viewer, timeline, width)));
    lines.push(String::new());
    lines.extend(
        events(viewer, timeline)
            .into_iter()
            .map(|(is_now, text)| if is_now { cut(text) } else { dim.apply_to(cut(text)).to_string() }),
    );
    lines.push(String::new());
    lines.push(dim.apply_to(cut(LEGEND.to_owned())).to_string());
    lines.push(cut(footer(viewer, width)));
    lines.truncate(height);
    lines
}

fn title(viewer: &Viewer, timeline: &Timeline, name: &str) -> String {
    let (_, end_ms) = timeline.period_ms();
    let now_ms = viewer.playing_ms.unwrap_or(timeline.at_ms(viewer.moment));
    let state = match viewer.playing_ms {
        Some(_) => format!("playing x{}", SPEEDS[viewer.speed]),
        None => "paused".into(),
    };
    format!(
        "{} of {}  command {} of {}  {state}  {name}",
        since_start(timeline, now_ms),
        since_start(timeline, end_ms),
        count(viewer.moment as u64 + 1),
        count(timeline.moments.len() as u64),
    )
}

fn round(viewer: &Viewer, timeline: &Timeline) -> String {
    let here = timeline.here_then(viewer.moment);
    let tally = timeline.all_then(viewer.moment);
    let nodes = format!(
        "{here}/{}, {} tokens, {}",
        several(timeline.nodes.len() as u64, "node"),
        count(tally.tokens),
        several(tally.faults, "fault")
    );
    let Some(at) = timeline.round_then(viewer.moment) else { return nodes };
    let line = &timeline.rounds[at];
    let of_job = ((at + 1).saturating_sub(LOSSES_MAX)..=at).filter(|at| timeline.rounds[*at].job == line.job);
    let losses: Vec<f64> = of_job.filter_map(|at| timeline.round_at(at, viewer.moment).loss).collect();
    let loss = timeline.round_at(at, viewer.moment).loss;
    let loss = loss.map_or_else(String::new, |loss| format!(", loss {loss:.3}"));
    let curve = sparkline(&losses, CURVE_WIDTH);
    format!("{} round {}{loss}, {nodes}  {curve}", line.name, line.of)
}

/// The numbers of the visible rounds, each where it starts, as many as there is room for.
fn round_starts(viewer: &Viewer, timeline: &Timeline, width: usize) -> String {
    let (visible_ms, mut line) = (viewer.visible_ms(timeline), vec![' '; bar_width(width)]);
    let mut free = 0;
    for round in &timeline.rounds {
        let Some(at) = column_of(timeline.at_ms(round.started as usize), &visible_ms, line.len()) else {
            continue;
        };
        let label = (round.round + 1).to_string();
        if at >= free && at + label.len() <= line.len() {
            write_at(&mut line, at, &label);
            free = at + label.len() + 1;
        }
    }
    line.into_iter().collect()
}

fn node_rows(viewer: &Viewer, timeline: &Timeline, rows: usize, width: usize) -> Vec<String> {
    let count = timeline.nodes.len();
    let first = viewer.node.saturating_sub(rows / 2).min(count.saturating_sub(rows));
    let visible_ms = viewer.visible_ms(timeline);
    let bar_width = bar_width(width);
    let one = |node: usize| {
        let then = timeline.node_then(node, viewer.moment);
        let mark = if node == viewer.node { '>' } else { ' ' };
        let name = format!("{mark}{}", timeline.nodes[node].name);
        let left: String = format!("{}  ", cells(&name, &then, width)).chars().take(width).collect();
        let style = match then.activity {
            _ if node == viewer.node => Style::new().reverse(),
            Activity::Away => Style::new().dim(),
            _ => Style::new(),
        };
        let bar = bar(timeline, node, &visible_ms, bar_width);
        format!("{}{}", style.apply_to(left), painted(&bar))
    };
    (first..count.min(first + rows)).map(one).collect()
}

/// The visible period, with a mark under the selected moment.
fn ruler(viewer: &Viewer, timeline: &Timeline, width: usize) -> String {
    let (bar_width, visible_ms) = (bar_width(width), viewer.visible_ms(timeline));
    let now_ms = timeline.at_ms(viewer.moment);
    let at = column_of(now_ms, &visible_ms, bar_width).unwrap_or(0);
    let (from, until) = (since_start(timeline, visible_ms.start), since_start(timeline, visible_ms.end - 1));
    let time = since_start(timeline, now_ms);
    let mut line = vec![' '; bar_width];
    write_at(&mut line, 0, &from);
    write_at(&mut line, bar_width.saturating_sub(until.len()), &until);
    if at + time.len() < bar_width {
        write_at(&mut line, at, &format!("^{time}"));
    } else {
        write_at(&mut line, at.saturating_sub(time.len()), &format!("{time}^"));
    }
    let indent = width.saturating_sub(bar_width);
    format!("{:indent$}{}", "", line.into_iter().collect::<String>())
}

/// What does not fit is left out.
fn write_at(line: &mut [char], at: usize, text: &str) {
    line.iter_mut().skip(at).zip(text.chars()).for_each(|(cell, letter)| *cell = letter);
}

/// The latest events, and what the selected command was; whether each is of this moment.
fn events(viewer: &Viewer, timeline: &Timeline) -> Vec<(bool, String)> {
    let latest = timeline.latest(viewer.moment, EVENTS - 1);
    let told = latest.into_iter().map(|(at, happening)| {
        let time = since_start(timeline, timeline.at_ms(at));
        let text = happening.text.lines().next().unwrap_or_default();
        (at == viewer.moment, format!("{time:>8} {text}"))
    });
    let mut lines: Vec<(bool, String)> = told.collect();
    lines.resize(EVENTS - 1, (false, String::new()));
    lines.push((true, command(viewer.moment, timeline)));
    lines
}

/// What a command was.
pub fn command(moment: usize, timeline: &Timeline) -> String {
    let Some(known) = timeline.moments.get(moment) else { return "nothing has happened".into() };
    let time = since_start(timeline, known.at_ms);
    let who = known.node.map_or_else(String::new, |node| format!("{} ", timeline.nodes[node as usize].name));
    format!("{time:>8} > {who}{}", known.what)
}

fn footer(viewer: &Viewer, width: usize) -> String {
    if let Some(prompt) = &viewer.prompt {
        let asks = match prompt.asks {
            Asks::Node => "node",
            Asks::Round => "round",
        };
        return format!("{asks}: {}_", prompt.text);
    }
    if let Some(message) = &viewer.message {
        return message.clone();
    }
    let long = "←→ command  PgUp PgDn page  Home End  ↑↓ node  / find n next  j round  space play  < > speed  + - zoom  q quit";
    let short = "←→ PgUp PgDn ↑↓ / find j round space play + - zoom q quit";
    if width >= long.chars().count() { long } else { short }.to_owned()
}
