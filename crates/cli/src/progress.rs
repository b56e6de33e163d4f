//! Progress on stderr: a bar on a terminal, a line every few seconds elsewhere.

use std::time::{Duration, Instant};

use console::Term;
use indicatif::{FormattedDuration, HumanFloatCount, ProgressBar, ProgressStyle};

/// Between two lines when there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How far a run is, for a person.
pub struct Progress {
    show: Show,
    total: u64,
}

enum Show {
    Bar(ProgressBar),
    Lines { last: Option<Instant> },
    Nothing,
}

impl Progress {
    /// Progress from 0 to `total`; a total of 0 shows messages only. `quiet` says nothing but on a
    /// terminal: for runs whose output a machine reads.
    pub fn start(total: u64, quiet: bool) -> Self {
        let show = if Term::stderr().is_term() {
            let template = if total == 0 { "{wide_msg}" } else { "{bar:24.cyan} {pos}/{len} {wide_msg}" };
            let style = ProgressStyle::with_template(template);
            let bar = ProgressBar::new(total).with_style(style.expect("the template is well formed"));
            Show::Bar(bar)
        } else if quiet {
            Show::Nothing
        } else {
            Show::Lines { last: None }
        };
        Self { show, total }
    }

    /// `done` of the total, and what to say about it.
    pub fn update(&mut self, done: u64, message: impl FnOnce() -> String) {
        match &mut self.show {
            Show::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(message());
            }
            Show::Lines { last } if last.is_none_or(|last| last.elapsed() >= LINE_EVERY) => {
                *last = Some(Instant::now());
                match self.total {
                    0 => eprintln!("{}", message()),
                    total => eprintln!("{done}/{total} {}", message()),
                }
            }
            Show::Lines { .. } | Show::Nothing => {}
        }
    }

    /// Lets something be printed that stays.
    pub fn aside(&self, print: impl FnOnce()) {
        match &self.show {
            Show::Bar(bar) => bar.suspend(print),
            Show::Lines { .. } | Show::Nothing => print(),
        }
    }

    /// A line that stays.
    pub fn note(&self, line: &str) {
        match &self.show {
            Show::Bar(bar) => bar.suspend(|| eprintln!("{line}")),
            Show::Lines { .. } => eprintln!("{line}"),
            Show::Nothing => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Show::Bar(bar) = &self.show {
            bar.finish_and_clear();
        }
    }
}

/// `31,204 tokens/s`.
pub fn speed(tokens_per_second: f64) -> String {
    format!("{} tokens/s", count(tokens_per_second))
}

/// A number with its thousands apart and no fraction.
pub fn count(number: f64) -> String {
    HumanFloatCount(number.round()).to_string()
}

/// Hours, minutes and seconds.
pub fn duration(seconds: f64) -> String {
    let bounded = if seconds.is_finite() { seconds.clamp(0.0, 1e12) } else { 1e12 };
    FormattedDuration(Duration::from_secs_f64(bounded.round())).to_string()
}
