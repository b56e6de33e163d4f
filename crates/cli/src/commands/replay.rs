//! `zoo replay`: a journal as people look back at it.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Result, bail};
use console::Term;
use zoo_orchestrator::journal::Roots;

use super::journal::Place;
use crate::foreground;
use crate::live::print_line;
use crate::progress::Progress;
use crate::replay::{Recorder, Timeline, Viewer, as_json, as_text, play};

/// Columns of a summary where there is no terminal to ask.
const SUMMARY_WIDTH: usize = 100;
/// Nothing is drawn in fewer columns.
const WIDTH_MIN: usize = 60;
/// Commands between two looks at the progress bar.
const PROGRESS_EVERY: u64 = 256;

/// Arguments of `zoo replay`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo replay                            the network that zoo up runs, or ran, on this machine
  zoo replay journal.sqlite             a copy from another machine
  zoo replay --at 1:30 --node lynx      from a minute and a half on, with a node selected
  zoo replay | less                     a summary

Keys: left and right go one command back and on, Page Up and Page Down a part of what is visible, \
Home and End to the first and the last; up and down select a node, / finds one by its name or id, \
n the next; j jumps to a round; space plays and pauses, < and > change the speed, + and - zoom, q quits.

Everything shown is replayed from the journal's commands and checked against its digests. It may be \
the journal of a running orchestrator: it is only read.")]
pub struct Replay {
    #[command(flatten)]
    place: Place,
    /// Begin at this moment: a command's number, or the time since the first, as in 1:30 or 2:00:00
    #[arg(long, value_name = "N|TIME")]
    at: Option<At>,
    /// Select this node, by its name or id; a summary is then of it alone
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Print a summary as a JSON object
    #[arg(long)]
    json: bool,
}

/// A moment, as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// After so many commands.
    Command(u64),
    /// So long after the first, ms.
    TimeMs(u64),
}

impl FromStr for At {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let what = "give a command's number, or a time as in 1:30 or 2:00:00";
        let parts =
            text.split(':').map(str::parse::<u64>).collect::<Result<Vec<_>, _>>().map_err(|_| what)?;
        match parts[..] {
            [command] => Ok(Self::Command(command)),
            [_, _] | [_, _, _] if parts[1..].iter().all(|part| *part < 60) => {
                let seconds =
                    parts.iter().try_fold(0u64, |sum, part| sum.checked_mul(60)?.checked_add(*part));
                seconds.and_then(|seconds| seconds.checked_mul(1000)).map(Self::TimeMs).ok_or(what)
            }
            _ => Err(what),
        }
    }
}

impl Replay {
    /// Reads everything, then shows it.
    pub fn run(self) -> Result<()> {
        let path = self.place.journal()?;
        let timeline = foreground::block_on(self.read(&path))?;
        let moment = match self.at {
            None => timeline.moments.len().saturating_sub(1),
            Some(At::Command(number)) => self.moment_of(number, &timeline)?,
            Some(At::TimeMs(ms)) => timeline.moment_at(timeline.period_ms().0.saturating_add(ms)),
        };
        let node = self.node.as_deref().map(|name| find(name, &timeline)).transpose()?;
        if self.json {
            print_line(&as_json(&timeline, moment, node));
            return Ok(());
        }
        let terminal = Term::stdout();
        let width = terminal.size_checked().map_or(SUMMARY_WIDTH, |(_, columns)| columns.into());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if !terminal.features().is_attended() || dumb {
            print!("{}", as_text(&timeline, moment, node, width.max(WIDTH_MIN)));
            return Ok(());
        }
        if width < WIDTH_MIN {
            bail!(
                "the terminal has {width} columns, and this takes {WIDTH_MIN}\nhint: make it wider, or print a \
                 summary with zoo replay | less"
            );
        }
        let first = if self.at.is_some() { moment } else { 0 };
        let viewer = Viewer::new(&timeline, first, node.unwrap_or(0));
        Ok(play(viewer, &timeline, &path.display().to_string())?)
    }

    async fn read(&self, path: &Path) -> Result<Timeline> {
        let mut reader = self.place.open().await?;
        let commands = reader.commands().await?;
        let mut progress = Progress::start(commands, true);
        let mut recorder = Recorder::new();
        let replayed = reader.replay(commands, Roots::Last, |step, state| {
            recorder.take(step, state);
            if step.sequence % PROGRESS_EVERY == 0 {
                progress.update(step.sequence, || format!("commands of {} are replayed", path.display()));
            }
        });
        let replayed = replayed.await?;
        drop(progress);
        reader.close().await?;
        Ok(recorder.finish(&replayed))
    }

    fn moment_of(&self, number: u64, timeline: &Timeline) -> Result<usize> {
        let commands = timeline.moments.len();
        match usize::try_from(number) {
            Ok(number) if number <= commands => Ok(number.saturating_sub(1)),
            _ => bail!(
                "the journal has {commands} commands\nhint: --at takes at most that many, or a time as in 1:30"
            ),
        }
    }
}

fn find(name: &str, timeline: &Timeline) -> Result<usize> {
    if let Some(exact) = timeline.nodes.iter().position(|node| node.name == name) {
        return Ok(exact);
    }
    timeline.find_node(name, None).ok_or_else(|| {
        let known: Vec<&str> = timeline.nodes.iter().take(8).map(|node| node.name.as_str()).collect();
        anyhow::anyhow!("no node's name or id begins with {name}\nhint: there are {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_named_by_number_or_time() {
        for (text, expected) in [
            ("250", Ok(At::Command(250))),
            ("1:30", Ok(At::TimeMs(90_000))),
            ("100:00", Ok(At::TimeMs(6_000_000))),
            ("2:00:05", Ok(At::TimeMs(7_205_000))),
        ] {
            assert_eq!(text.parse::<At>(), expected, "{text}");
        }
        for text in
            ["", ":", "1:60", "1:2:3:4", "-1", "1.5", "99999999999999999999", "18446744073709551615:0"]
        {
            assert!(text.parse::<At>().is_err(), "{text}");
        }
    }
}
