//! Draws what a viewer looks at, as lines of text that fit any width from 60 columns on.

use std::time::Duration;

use console::Style;
use zoo_state::Activity;

use super::timeline::{NodeThen, Timeline};
use super::viewer::{Asks, SPEEDS, Viewer};
use crate::live::format::{bytes, clock, count, several};
use crate::live::sparkline;

/// Columns of a node's name.
const NAME_WIDTH: usize = 10;
/// A node's row keeps at least so many columns for its bar.
const BAR_MIN: usize = 28;
/// Lines of the latest events.
const EVENTS: usize = 6;
/// Lines that are not nodes: title, round, ruler, time, events, keys, and what parts them.
const FRAME: usize = 8 + EVENTS;
/// Columns of a curve of losses.
const CURVE_WIDTH: usize = 24;
/// Rounds in a curve: the latest so many.
const LOSSES_MAX: usize = 240;

/// What stands for an activity in a bar; readable without colour.
pub fn glyph(activity: Option<Activity>) -> char {
    match activity {
        None | Some(Activity::Away) => ' ',
        Some(Activity::Waiting) => '·',
        Some(Activity::Training) => '█',
        Some(Activity::Aggregating) => '▒',
        Some(Activity::Evaluating) => '░',
    }
}

/// What the glyphs mean.
pub const LEGEND: &str = "█ training  ▒ aggregating  ░ evaluating  · waiting  ! fault";

fn style_of(activity: Option<Activity>) -> Style {
    match activity {
        None | Some(Activity::Away) => Style::new(),
        Some(Activity::Waiting) => Style::new().dim(),
        Some(Activity::Training) => Style::new().green(),
        Some(Activity::Aggregating) => Style::new().yellow(),
        Some(Activity::Evaluating) => Style::new().cyan(),
    }
}

/// A column beside the bar: its title, its width, and the terminal's width from which it is shown.
struct Column {
    title: &'static str,
    width: usize,
    from_width: usize,
    cell: fn(&NodeThen) -> String,
}

const COLUMNS: [Column; 7] = [
    Column { title: "does", width: 11, from_width: 90, cell: |then| then.activity.word().into() },
    Column { title: "tokens", width: 10, from_width: 60, cell: |then| count(then.tally.tokens) },
    Column { title: "sequences", width: 9, from_width: 110, cell: |then| count(then.tally.sequences) },
    Column { title: "updates", width: 9, from_width: 80, cell: |then| bytes(then.tally.bytes) },
    Column { title: "missed", width: 6, from_width: 120, cell: |then| count(then.tally.missed) },
    Column { title: "faults", width: 6, from_width: 100, cell: |then| count(then.tally.faults) },
    Column {
        title: "busy",
        width: 5,
        from_width: 60,
        cell: |then| format!("{:.0} %", 100.0 * then.busy_share()),
    },
];

/// One screen: at most `width` columns and `height` lines.
pub fn screen(viewer: &Viewer, timeline: &Timeline, name: &str, width: usize, height: usize) -> Vec<String> {
    let bold = Style::new().bold();
    let dim = Style::new().dim();
    let cut = |text: String| text.chars().take(width).collect::<String>();
    let mut lines = vec![
        bold.apply_to(cut(title(viewer, timeline, name))).to_string(),
        cut(round(viewer, timeline)),
        dim.apply_to(cut(row(head(width), &round_starts(viewer, timeline, bar_width(width))))).to_string(),
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

/// The head of the table of nodes.
pub fn head(width: usize) -> String {
    let cells = columns(width).map(|column| format!(" {:>1$}", column.title, column.width));
    format!("{:<NAME_WIDTH$}{}", "node", cells.collect::<String>())
}

/// A node's name and totals.
pub fn cells(name: &str, then: &NodeThen, width: usize) -> String {
    let name: String = name.chars().take(NAME_WIDTH).collect();
    let cells = columns(width).map(|column| format!(" {:>1$}", (column.cell)(then), column.width));
    format!("{name:<NAME_WIDTH$}{}", cells.collect::<String>())
}

/// Columns that are left for bars.
pub fn bar_width(width: usize) -> usize {
    let cells: usize = columns(width).map(|column| column.width + 1).sum();
    width.saturating_sub(NAME_WIDTH + cells + 2)
}

/// What a node did in each part of a period, and its faults.
pub fn bar(timeline: &Timeline, node: usize, period_ms: &std::ops::Range<u64>, width: usize) -> Vec<Cell> {
    let line = &timeline.nodes[node];
    let activities = line.cells(period_ms.clone(), width.max(1));
    let mut bar: Vec<Cell> =
        activities.into_iter().map(|activity| Cell { activity, is_fault: false }).collect();
    for fault in &line.faults {
        let at_ms = timeline.at_ms(*fault as usize);
        if let Some(at) = column_of(at_ms, period_ms, width) {
            bar[at].is_fault = true;
        }
    }
    bar.truncate(width);
    bar
}

/// A column of a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    activity: Option<Activity>,
    is_fault: bool,
}

impl Cell {
    /// What stands for it.
    pub fn glyph(self) -> char {
        if self.is_fault { '!' } else { glyph(self.activity) }
    }

    fn style(self) -> Style {
        if self.is_fault { Style::new().red().bold() } else { style_of(self.activity) }
    }
}

/// Time since the journal's first command.
pub fn since_start(timeline: &Timeline, at_ms: u64) -> String {
    clock(Duration::from_millis(at_ms.saturating_sub(timeline.period_ms().0)))
}

fn columns(width: usize) -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(move |column| width >= column.from_width)
}

fn row(left: String, right: &str) -> String {
    format!("{left}  {right}")
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
    format!("{} round {}/{}{loss}, {nodes}  {curve}", line.job, line.round + 1, line.of_rounds)
}

/// The numbers of the visible rounds, each where it starts, as many as there is room for.
fn round_starts(viewer: &Viewer, timeline: &Timeline, width: usize) -> String {
    let visible_ms = viewer.visible_ms(timeline);
    let first = timeline.moment_at(visible_ms.start);
    let from = timeline.rounds.partition_point(|round| (round.started as usize) < first);
    let mut text = String::new();
    let mut used = 0;
    for round in &timeline.rounds[from..] {
        let at_ms = timeline.at_ms(round.started as usize);
        let Some(at) = column_of(at_ms, &visible_ms, width) else {
            if at_ms >= visible_ms.end {
                break;
            }
            continue;
        };
        let label = (round.round + 1).to_string();
        if at >= used && at + label.len() <= width {
            text.extend(std::iter::repeat_n(' ', at - text.chars().count()));
            text.push_str(&label);
            used = at + label.len() + 1;
        }
    }
    text
}

fn node_rows(viewer: &Viewer, timeline: &Timeline, rows: usize, width: usize) -> Vec<String> {
    let count = timeline.nodes.len();
    let first = viewer.node.saturating_sub(rows / 2).min(count.saturating_sub(rows));
    let visible_ms = viewer.visible_ms(timeline);
    let bar_width = bar_width(width);
    let one = |node: usize| {
        let then = timeline.node_then(node, viewer.moment);
        let left: String =
            format!("{}  ", cells(&timeline.nodes[node].name, &then, width)).chars().take(width).collect();
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

/// One escape sequence for each run of equal cells.
fn painted(bar: &[Cell]) -> String {
    let runs = bar.chunk_by(|one, other| one == other);
    let run = |run: &[Cell]| {
        let text: String = run.iter().map(|cell| cell.glyph()).collect();
        run[0].style().apply_to(text).to_string()
    };
    runs.map(run).collect()
}

/// The visible period, with a mark under the selected moment.
fn ruler(viewer: &Viewer, timeline: &Timeline, width: usize) -> String {
    let (bar_width, visible_ms) = (bar_width(width), viewer.visible_ms(timeline));
    let now_ms = timeline.at_ms(viewer.moment);
    let at = column_of(now_ms, &visible_ms, bar_width).unwrap_or(0);
    let (from, until) = (since_start(timeline, visible_ms.start), since_start(timeline, visible_ms.end - 1));
    let mut line: Vec<char> = vec![' '; bar_width];
    let ends = from.chars().enumerate().chain(
        until.chars().enumerate().map(|(at, letter)| ((bar_width + at).saturating_sub(until.len()), letter)),
    );
    for (at, letter) in ends.filter(|(at, _)| *at < bar_width) {
        line[at] = letter;
    }
    let at = at.min(bar_width.saturating_sub(1));
    let time = since_start(timeline, now_ms);
    let (mark, from) = if at + time.len() < bar_width {
        (format!("^{time}"), at)
    } else {
        (format!("{time}^"), at.saturating_sub(time.len()))
    };
    for (offset, letter) in mark.chars().enumerate().take(bar_width.saturating_sub(from)) {
        line[from + offset] = letter;
    }
    let indent = width.saturating_sub(bar_width);
    format!("{:indent$}{}", "", line.into_iter().collect::<String>())
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

/// The column in which a time is, if it is visible.
fn column_of(at_ms: u64, period_ms: &std::ops::Range<u64>, width: usize) -> Option<usize> {
    if !period_ms.contains(&at_ms) || width == 0 {
        return None;
    }
    let passed = u128::from(at_ms - period_ms.start) * width as u128;
    Some((passed / u128::from(period_ms.end - period_ms.start)) as usize)
}

const _: () = assert!(BAR_MIN + NAME_WIDTH + 17 + 2 <= 60, "the narrowest terminal has room for a bar");
