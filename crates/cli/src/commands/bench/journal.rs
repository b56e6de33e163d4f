//! `zoo bench journal`: what durability costs, and what opening and looking back take.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use zoo_orchestrator::journal::{Journal, JournalReader, Roots, SNAPSHOT_EVERY};

use super::made_up::Network;
use crate::foreground;
use crate::live::format::{bytes, count};
use crate::progress::Progress;
use crate::replay::{Recorder, Viewer, screen};

/// Screens that are drawn.
const SCREENS: usize = 200;

/// Arguments of `zoo bench journal`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo bench journal --json
  zoo bench journal --nodes 10000 --batch 64
  zoo bench journal --commands 5000 --out sample.sqlite      keep it, for zoo replay sample.sqlite

Writes the journal of a made-up network, whose nodes sign, report, leave and come back; then opens it as \
an orchestrator does, replays it from its first command, and draws it.")]
pub struct JournalBench {
    /// Nodes
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    nodes: u32,
    /// Commands
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    commands: u64,
    /// Commands of one append: what waits while the disk is busy is written together
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1024))]
    batch: u64,
    /// Where to write the journal; thrown away unless this is given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct JournalReport {
    nodes: u32,
    commands: u64,
    batch: u64,
    rounds: usize,
    /// Size of the file with all its snapshots.
    journal_bytes: u64,
    /// Size of one snapshot.
    snapshot_bytes: u64,
    /// Commands after the newest snapshot.
    commands_after_snapshot: u64,
    /// Of one append, in the mean.
    append_ms: f64,
    /// Of one that a snapshot follows, in the mean; 0 if none was.
    append_with_snapshot_ms: f64,
    /// From nothing to a state that goes on, from the newest snapshot.
    open_s: f64,
    /// The same from the first command.
    open_without_snapshots_s: f64,
    /// Everything compared with everything.
    verify_s: f64,
    /// From the file to a timeline that can be looked at.
    timeline_s: f64,
    /// One screen of 160 columns and 50 lines, in the mean.
    screen_ms: f64,
}

impl JournalBench {
    /// Writes, measures and prints.
    pub fn run(self) -> Result<()> {
        let scratch = std::env::temp_dir().join(format!("zoo-bench-journal-{}", std::process::id()));
        let path = self.out.clone().unwrap_or_else(|| scratch.join("journal.sqlite"));
        if path.exists() {
            bail!("{} exists already\nhint: choose another file", path.display());
        }
        if self.out.is_none() {
            std::fs::create_dir(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
        }
        let report = foreground::block_on(self.measure(&path));
        if self.out.is_none() {
            let _ = std::fs::remove_dir_all(&scratch);
        }
        let report = report?;
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
            return Ok(());
        }
        println!(
            "{} commands of {} nodes in {} rounds, {} an append; {} on disk",
            count(report.commands),
            count(report.nodes.into()),
            report.rounds,
            report.batch,
            bytes(report.journal_bytes)
        );
        println!(
            "append        {:>9.2} ms, {:.2} ms with a snapshot, every {SNAPSHOT_EVERY} commands",
            report.append_ms, report.append_with_snapshot_ms
        );
        println!(
            "open          {:>9.3} s from a snapshot of {} and {} commands after it",
            report.open_s,
            bytes(report.snapshot_bytes),
            count(report.commands_after_snapshot)
        );
        println!("  without     {:>9.3} s from the first command", report.open_without_snapshots_s);
        println!("verify        {:>9.3} s", report.verify_s);
        println!(
            "look back     {:>9.3} s to the first screen, {:.2} ms each",
            report.timeline_s, report.screen_ms
        );
        Ok(())
    }

    async fn measure(&self, path: &Path) -> Result<JournalReport> {
        let mut network = Network::new(self.nodes);
        let (append_ms, append_with_snapshot_ms) = self.write(path, &mut network).await?;

        let begun = Instant::now();
        let (journal, replayed) = Journal::open(path).await?;
        let open_s = begun.elapsed().as_secs_f64();
        if replayed.state != network.state {
            bail!("the journal leads to another state");
        }
        let commands_after_snapshot = journal.commands() - journal.snapshot();
        journal.close().await?;

        let begun = Instant::now();
        let mut reader = JournalReader::open(path).await?;
        reader.replay(u64::MAX, Roots::Last, |_, _| {}).await?;
        let open_without_snapshots_s = begun.elapsed().as_secs_f64();

        let begun = Instant::now();
        reader.verify().await?;
        let verify_s = begun.elapsed().as_secs_f64();

        let begun = Instant::now();
        let mut recorder = Recorder::new();
        let replayed = reader.replay(u64::MAX, Roots::Last, |step, state| recorder.take(step, state)).await?;
        let timeline = recorder.finish(&replayed);
        let timeline_s = begun.elapsed().as_secs_f64();
        reader.close().await?;

        let begun = Instant::now();
        for at in 0..SCREENS {
            let moment = timeline.moments.len() * at / SCREENS;
            let viewer = Viewer::new(&timeline, moment, timeline.nodes.len() * at / SCREENS);
            if screen(&viewer, &timeline, "", 160, 50).is_empty() {
                bail!("nothing was drawn");
            }
        }
        let screen_ms = begun.elapsed().as_secs_f64() * 1000.0 / SCREENS as f64;
        Ok(JournalReport {
            nodes: self.nodes,
            commands: self.commands,
            batch: self.batch,
            rounds: timeline.rounds.len(),
            journal_bytes: path.metadata()?.len(),
            snapshot_bytes: network.state.to_bytes().len() as u64,
            commands_after_snapshot,
            append_ms,
            append_with_snapshot_ms,
            open_s,
            open_without_snapshots_s,
            verify_s,
            timeline_s,
            screen_ms,
        })
    }

    /// Mean time of an append, and of one that a snapshot follows, ms.
    async fn write(&self, path: &Path, network: &mut Network) -> Result<(f64, f64)> {
        let mut progress = Progress::start(self.commands, true);
        let (mut journal, _) = Journal::open(path).await?;
        let (mut all, mut with_snapshot) = (Mean::default(), Mean::default());
        while journal.commands() < self.commands {
            let count = self.batch.min(self.commands - journal.commands());
            let entries = (0..count).map(|_| network.next()).collect::<Result<Vec<_>>>()?;
            let (begun, snapshot) = (Instant::now(), journal.snapshot());
            journal.append(&entries, &network.state).await?;
            let took_ms = begun.elapsed().as_secs_f64() * 1000.0;
            all.add(took_ms);
            if journal.snapshot() != snapshot {
                with_snapshot.add(took_ms);
            }
            progress.update(journal.commands(), || "commands are appended".into());
        }
        journal.close().await?;
        Ok((all.of(), with_snapshot.of()))
    }
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: f64) {
        (self.sum, self.count) = (self.sum + value, self.count + 1);
    }

    fn of(&self) -> f64 {
        self.sum / f64::from(self.count.max(1))
    }
}
