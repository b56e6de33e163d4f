//! Lines that stay, above lines that are redrawn in place.

use std::io::Write;
use std::time::{Duration, Instant};

use console::{Style, Term};

use super::format;

/// The terminal: what is said scrolls by, what is shown is redrawn below it. When stderr is no
/// terminal, what is said comes as plain lines and nothing is shown.
#[derive(Debug)]
pub struct Screen {
    terminal: Option<Term>,
    started: Instant,
    /// Lines on the terminal that are redrawn.
    shown: usize,
}

impl Screen {
    /// Time is counted from `started`.
    pub fn new(started: Instant) -> Self {
        let terminal = Term::buffered_stderr();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let terminal = (terminal.features().is_attended() && !dumb).then_some(terminal);
        if let Some(terminal) = &terminal {
            let _ = terminal.hide_cursor();
        }
        Self { terminal, started, shown: 0 }
    }

    /// Whether what is shown is seen.
    pub fn is_live(&self) -> bool {
        self.terminal.is_some()
    }

    /// Columns that a line may take.
    pub fn width(&self) -> usize {
        self.terminal.as_ref().map_or(100, |terminal| usize::from(terminal.size().1))
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Says one line, with the time.
    pub fn say(&mut self, line: &str) {
        let time = format::clock(self.elapsed());
        self.clear();
        match &self.terminal {
            Some(terminal) => {
                let dim = Style::new().for_stderr().dim();
                let _ = terminal.write_line(&format!("{} {line}", dim.apply_to(format!("{time:>5}"))));
            }
            None => _ = writeln!(std::io::stderr(), "{time:>5} {line}"),
        }
    }

    /// Replaces what is shown. A terminal that cannot be written is left alone: the work goes on.
    pub fn show(&mut self, lines: &[String]) {
        let Some(terminal) = &self.terminal else { return };
        let rows = usize::from(terminal.size().0).saturating_sub(1);
        let lines = &lines[..lines.len().min(rows)];
        let _ = terminal.move_cursor_up(self.shown);
        for line in lines {
            let _ = terminal.clear_line();
            let _ = terminal.write_line(line);
        }
        let _ = terminal.clear_to_end_of_screen();
        let _ = terminal.flush();
        self.shown = lines.len();
    }

    /// Takes away what is shown.
    pub fn clear(&mut self) {
        if let Some(terminal) = &self.terminal {
            let _ = terminal.move_cursor_up(self.shown);
            let _ = terminal.clear_to_end_of_screen();
            let _ = terminal.flush();
        }
        self.shown = 0;
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(terminal) = &self.terminal {
            let _ = terminal.show_cursor();
            let _ = terminal.flush();
        }
    }
}
