//! `zoo journal`: what an orchestrator has written down.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;
use zoo_orchestrator::journal::{Journal, Replayed};
use zoo_protocol::decode;
use zoo_state::Event;

use super::up::home_directory;
use crate::foreground;
use crate::live::format::{count, several};
use crate::live::{event_line, print_line};

/// What can be done with a journal.
#[derive(clap::Subcommand)]
pub enum JournalCommand {
    /// Check every entry and replay it to the state it led to
    Verify(Verify),
    /// Print every event as a JSON line
    Export(Export),
}

impl JournalCommand {
    /// Runs it.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Verify(command) => command.run(),
            Self::Export(command) => command.run(),
        }
    }
}

/// Whose journal.
#[derive(clap::Args)]
struct Where {
    /// The orchestrator's directory, which nobody may be using [default: .zoo/orchestrator in your home]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Arguments of `zoo journal verify`.
#[derive(clap::Args)]
#[command(
    after_help = "A journal is a chain of digests over every command, with the root of the state beside each write. Equal roots on two\n\
                        machines mean that both know the same history and make the same of it."
)]
pub struct Verify {
    #[command(flatten)]
    place: Where,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `zoo journal export`.
#[derive(clap::Args)]
pub struct Export {
    #[command(flatten)]
    place: Where,
    /// Begin with this event
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    from: u64,
}

impl Where {
    /// Reads the whole journal, while nobody else has the directory.
    async fn open(&self) -> Result<(zoo_home::Home, Journal, Replayed)> {
        let directory = self.dir.clone().unwrap_or_else(|| home_directory("orchestrator"));
        let path = directory.join("journal.sqlite");
        if !path.is_file() {
            bail!(
                "there is no journal in {}\nhint: zoo up writes one; --dir says where",
                directory.display()
            );
        }
        let home = zoo_home::Home::open(&directory).with_context(|| hint_of(&directory))?;
        let (journal, replayed) = Journal::open(&path).await?;
        Ok((home, journal, replayed))
    }
}

fn hint_of(directory: &Path) -> String {
    format!("cannot look into {} while it is used", directory.display())
}

impl Verify {
    fn run(self) -> Result<()> {
        foreground::block_on(async {
            let (_home, journal, Replayed { state, latest_ms }) = self.place.open().await?;
            let (commands, events, root) = (journal.commands(), journal.next_event(), state.root());
            journal.close().await?;
            if self.json {
                print_line(&json!({
                    "event": "verified", "commands": commands, "events": events, "root": root, "latest_ms": latest_ms,
                }));
            } else {
                println!(
                    "{} and {}: every digest holds",
                    several(commands, "command"),
                    several(events, "event")
                );
                println!("replayed to the root {root}");
                let finished = state.finished().count() as u64;
                println!(
                    "{} known, {} over",
                    count(state.nodes().len() as u64) + " nodes",
                    several(finished, "job")
                );
            }
            Ok(())
        })
    }
}

impl Export {
    fn run(self) -> Result<()> {
        foreground::block_on(async {
            let (_home, journal, _) = self.place.open().await?;
            if self.from > journal.next_event() {
                bail!(
                    "the journal has {}\nhint: events are numbered from 0",
                    several(journal.next_event(), "event")
                );
            }
            let (events, mut next) = (journal.events(), self.from);
            while next < journal.next_event() {
                for stored in events.page(next).await? {
                    let event: Event = decode(&stored.bytes).with_context(|| {
                        format!("event {} was written by another version", stored.sequence)
                    })?;
                    let mut line = event_line(stored.at_ms, &event);
                    line["sequence"] = stored.sequence.into();
                    print_line(&line);
                    next = stored.sequence + 1;
                }
            }
            journal.close().await?;
            Ok(())
        })
    }
}
