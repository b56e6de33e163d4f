//! A node's row: its name, its totals, and a bar of what it did when.

use std::ops::Range;
use std::time::Duration;

use console::Style;
use zoo_state::Activity;

use super::timeline::{NodeThen, Timeline};
use crate::live::format::{bytes, clock, count};

/// Columns of a node's name, and of the mark before the selected one.
const NAME_WIDTH: usize = 11;
/// A node's row keeps at least so many columns for its bar.
const BAR_MIN: usize = 28;

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
pub fn bar(timeline: &Timeline, node: usize, period_ms: &Range<u64>, width: usize) -> Vec<Cell> {
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

/// One escape sequence for each run of equal cells.
pub fn painted(bar: &[Cell]) -> String {
    let runs = bar.chunk_by(|one, other| one == other);
    let run = |run: &[Cell]| {
        let text: String = run.iter().map(|cell| cell.glyph()).collect();
        run[0].style().apply_to(text).to_string()
    };
    runs.map(run).collect()
}

/// Time since the journal's first command.
pub fn since_start(timeline: &Timeline, at_ms: u64) -> String {
    clock(Duration::from_millis(at_ms.saturating_sub(timeline.period_ms().0)))
}

/// The column in which a time is, if it is visible.
pub fn column_of(at_ms: u64, period_ms: &Range<u64>, width: usize) -> Option<usize> {
    if !period_ms.contains(&at_ms) || width == 0 {
        return None;
    }
    let passed = u128::from(at_ms - period_ms.start) * width as u128;
    Some((passed / u128::from(period_ms.end - period_ms.start)) as usize)
}

/// What stands for an activity in a bar; readable without colour.
fn glyph(activity: Option<Activity>) -> char {
    match activity {
        None | Some(Activity::Away) => ' ',
        Some(Activity::Waiting) => '·',
        Some(Activity::Training) => '█',
        Some(Activity::Aggregating) => '▒',
        Some(Activity::Evaluating) => '░',
        Some(Activity::Verifying) => '▓',
    }
}

/// What the glyphs mean.
pub const LEGEND: &str = "█ train  ▒ aggregate  ░ evaluate  ▓ verify  · wait  ! fault";

fn style_of(activity: Option<Activity>) -> Style {
    match activity {
        None | Some(Activity::Away) => Style::new(),
        Some(Activity::Waiting) => Style::new().dim(),
        Some(Activity::Training) => Style::new().green(),
        Some(Activity::Aggregating) => Style::new().yellow(),
        Some(Activity::Evaluating) => Style::new().cyan(),
        Some(Activity::Verifying) => Style::new().magenta(),
    }
}

fn columns(width: usize) -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(move |column| width >= column.from_width)
}

const _: () = assert!(BAR_MIN + NAME_WIDTH + 17 + 2 <= 60, "the narrowest terminal has room for a bar");
