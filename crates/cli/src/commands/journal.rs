//! `zoo journal`: what an orchestrator has written down.

mod pack;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::json;
use zoo_orchestrator::journal::{JournalReader, Roots, Verified};
use zoo_protocol::decode;
use zoo_state::Event;

use super::up::home_directory;
use crate::foreground;
use crate::live::format::{count, several};
use crate::live::{event_line, print_line};

pub use pack::{BLOBS, HEAD, Pack, from_afar as pack_from_afar};

/// A journal's name in its directory.
const JOURNAL: &str = "journal.sqlite";

/// What can be done with a journal.
#[derive(clap::Subcommand)]
pub enum JournalCommand {
    /// Check every entry, root, event and snapshot, and replay it to the state it led to
    Verify(Verify),
    /// Print every event, as it was written, as a JSON line
    Export(Export),
    /// Replay the commands to the root they lead to
    Replay(Replay),
    /// Copy the journal and what its jobs begin with into a folder, for whoever audits them
    Pack(Pack),
}

impl JournalCommand {
    /// Runs it.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Verify(command) => foreground::block_on(command.run()),
            Self::Export(command) => foreground::block_on(command.run()),
            Self::Replay(command) => foreground::block_on(command.run()),
            Self::Pack(command) => foreground::block_on(command.run()),
        }
    }
}

/// Whose journal. It is only read, also while an orchestrator writes it.
#[derive(Clone, clap::Args)]
pub struct Place {
    /// The journal, or the directory it is in [default: .zoo/orchestrator in your home]
    #[arg(value_name = "FILE|DIR")]
    path: Option<PathBuf>,
    /// The directory it is in
    #[arg(long, value_name = "DIR", conflicts_with = "path", hide = true)]
    dir: Option<PathBuf>,
}

impl Place {
    /// The journal in this directory.
    pub fn of(directory: PathBuf) -> Self {
        Self { path: Some(directory), dir: None }
    }

    /// The journal's file.
    pub fn journal(&self) -> Result<PathBuf> {
        let named = self.path.clone().or_else(|| self.dir.clone());
        let path = named.unwrap_or_else(|| home_directory("orchestrator"));
        if path.is_file() {
            return Ok(path);
        }
        let journal = path.join(JOURNAL);
        if !journal.is_file() {
            bail!(
                "there is no journal in {}\nhint: zoo up writes one; name its file, or the directory it is in",
                path.display()
            );
        }
        Ok(journal)
    }

    /// Opens it.
    pub async fn open(&self) -> Result<JournalReader> {
        Ok(JournalReader::open(&self.journal()?).await?)
    }
}

/// Arguments of `zoo journal verify`.
#[derive(clap::Args)]
#[command(after_help = "A journal is a chain of digests over every command, with the root of the state \
beside each write. Equal roots on two machines mean that both know the same history and make the same of \
it. An orchestrator that starts begins with the newest snapshot; this begins with the first command.")]
pub struct Verify {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Verify {
    async fn run(self) -> Result<()> {
        let mut reader = self.place.open().await?;
        let verified = reader.verify().await?;
        reader.close().await?;
        let Verified { replayed, events, snapshots, damaged_snapshots } = &verified;
        if let [(commands, cause), ..] = &damaged_snapshots[..] {
            bail!(
                "the snapshot after {commands} commands is damaged: {cause}; every command is whole\n\
                 hint: nothing is lost; the orchestrator replaces it when it is started again"
            );
        }
        let root = replayed.state.root();
        if self.json {
            print_line(&json!({
                "event": "verified", "commands": replayed.commands, "events": events, "root": root,
                "latest_ms": replayed.latest_ms, "snapshots": snapshots,
            }));
            return Ok(());
        }
        let (commands, events) = (several(replayed.commands, "command"), several(*events, "event"));
        println!("{commands} and {events}: every digest holds");
        println!(
            "{} on the way, each as the commands lead to it",
            several(snapshots.len() as u64, "snapshot")
        );
        println!("replayed to the root {root}");
        let over = several(replayed.state.finished().count() as u64, "job");
        println!("{} nodes known, {over} over", count(replayed.state.nodes().len() as u64));
        Ok(())
    }
}

/// Arguments of `zoo journal export`.
#[derive(clap::Args)]
pub struct Export {
    #[command(flatten)]
    place: Place,
    /// Begin with this event
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    from: u64,
}

impl Export {
    async fn run(self) -> Result<()> {
        let reader = self.place.open().await?;
        let count = reader.event_count().await?;
        if self.from > count {
            bail!("the journal has {}\nhint: events are numbered from 0", several(count, "event"));
        }
        let (events, mut next) = (reader.events(), self.from);
        while next < count {
            for stored in events.page_at_once(next).await? {
                let event: Event = decode(&stored.bytes)
                    .with_context(|| format!("event {} was written by another version", stored.sequence))?;
                let mut line = event_line(stored.at_ms, &event);
                line["sequence"] = stored.sequence.into();
                print_line(&line);
                next = stored.sequence + 1;
            }
        }
        reader.close().await?;
        Ok(())
    }
}

/// Arguments of `zoo journal replay`.
#[derive(clap::Args)]
#[command(after_help = "The events are what the commands lead to here and now; zoo journal export prints \
what was written when they happened. Wherever the orchestrator wrote a root, the replay has the same, or \
this fails and names the command.")]
pub struct Replay {
    #[command(flatten)]
    place: Place,
    /// Stop after so many commands
    #[arg(long, value_name = "N")]
    until: Option<u64>,
    /// Print every event as a JSON line, and the root at the end
    #[arg(long)]
    json: bool,
}

impl Replay {
    async fn run(self) -> Result<()> {
        let mut reader = self.place.open().await?;
        let commands = reader.commands().await?;
        let until = self.until.unwrap_or(commands);
        if until > commands {
            bail!("the journal has {}\nhint: --until takes at most that many", several(commands, "command"));
        }
        let (mut events, mut roots, mut agreed) = (0u64, 0u64, None);
        let replayed = reader.replay(until, Roots::Every, |step, _| {
            for event in &step.events {
                if self.json {
                    let mut line = event_line(step.command.now_ms(), event);
                    (line["sequence"], line["command"]) = (events.into(), step.sequence.into());
                    print_line(&line);
                }
                events += 1;
            }
            if step.written_root.is_some() {
                (roots, agreed) = (roots + 1, Some(step.sequence + 1));
            }
        });
        let replayed = replayed.await?;
        reader.close().await?;
        let root = replayed.state.root();
        if self.json {
            print_line(&json!({
                "event": "replayed", "commands": replayed.commands, "events": events, "root": root,
                "roots_compared": roots, "root_as_written": replayed.written_root == Some(root),
            }));
            return Ok(());
        }
        println!("{} lead to {}", several(replayed.commands, "command"), several(events, "event"));
        println!("root {root}");
        match agreed {
            Some(agreed) if agreed == replayed.commands => println!(
                "the orchestrator wrote the same root there, and the same {} on the way",
                several(roots - 1, "root")
            ),
            Some(agreed) => println!(
                "the orchestrator wrote no root there; the {} before, the last after command {agreed}, are the same",
                several(roots, "root")
            ),
            None => println!("the orchestrator wrote no root up to there"),
        }
        Ok(())
    }
}
