//! `zoo journal pack`: what an auditor needs of a network.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;
use zoo_content::{BlobStore, FileStore, MAX_BLOB_BYTES};
use zoo_network::Ticket;
use zoo_orchestrator::Client;
use zoo_orchestrator::journal::{JournalReader, Roots};
use zoo_protocol::{JobDescription, encode};
use zoo_state::Command;

use super::{JOURNAL, Place};
use crate::commands::network::random_key;
use crate::live::format::{bytes, several};
use crate::live::print_line;

/// Its blobs' folder beside a journal.
pub const BLOBS: &str = "blobs";
/// In a pack, what the orchestrator signed.
pub const HEAD: &str = "head";

/// Arguments of `zoo journal pack`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  zoo journal pack --out evidence                    of the orchestrator in your home\n  \
zoo journal pack --network TICKET --out evidence   of one that runs elsewhere, with the head that it signs\n\n\
The folder has journal.sqlite and blobs/: programs, data, tokenizers and first checkpoints. All else \
follows from these; zoo audit FOLDER --all does it again. No key is in it."
)]
pub struct Pack {
    #[command(flatten)]
    place: Place,
    /// Ask the orchestrator with this ticket
    #[arg(long, value_name = "TICKET", conflicts_with_all = ["path", "dir"])]
    network: Option<Ticket>,
    /// The folder; must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Pack {
    pub(super) async fn run(self) -> Result<()> {
        let shown = self.out.display();
        if self.out.exists() {
            bail!("{shown} exists already\nhint: remove it, or choose another --out");
        }
        // It is there whole or not at all.
        let mut unfinished = self.out.clone().into_os_string();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)
                .with_context(|| format!("cannot remove {}", unfinished.display()))?;
        }
        fs::create_dir_all(&unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
        let commands = match &self.network {
            Some(ticket) => from_afar(ticket, &unfinished).await?,
            None => self.pack_from_here(&unfinished).await?,
        };
        let store = FileStore::open(unfinished.join(BLOBS))?;
        let (blobs, blob_bytes) = (store.list()?.len() as u64, store.total_bytes()?);
        drop(store);
        fs::rename(&unfinished, &self.out).with_context(|| format!("cannot create {shown}"))?;
        if self.json {
            print_line(&json!({
                "event": "packed", "folder": self.out, "commands": commands, "blobs": blobs, "blob_bytes": blob_bytes,
            }));
        } else {
            let (commands, blobs) = (several(commands, "command"), several(blobs, "blob"));
            println!(
                "{commands} and {blobs} of {} are in {shown}\n\n  zoo audit {shown} --all",
                bytes(blob_bytes)
            );
        }
        Ok(())
    }

    async fn pack_from_here(&self, to: &Path) -> Result<u64> {
        let from = self.place.journal()?.with_file_name(BLOBS);
        if !from.is_dir() {
            bail!("there are no blobs in {}\nhint: name the directory of an orchestrator", from.display());
        }
        let mut journal = self.place.open().await?;
        journal.copy_to(&to.join(JOURNAL)).await?;
        journal.close().await?;
        let (from, store) = (FileStore::open(from)?, FileStore::open(to.join(BLOBS))?);
        let (jobs, commands) = jobs_of(&to.join(JOURNAL)).await?;
        for name in jobs.iter().flat_map(|job| zoo_job::begins_with(&from, job)) {
            // What one of the jobs never brought, nobody has.
            if let Ok(blob) = from.get(&name) {
                store.keep(&blob)?;
            }
        }
        Ok(commands)
    }
}

/// Fetches a copy of a journal, the head that its orchestrator signed, and what its jobs begin with.
pub async fn from_afar(ticket: &Ticket, to: &Path) -> Result<u64> {
    let client = Client::connect(ticket, &random_key()?).await.context("cannot reach the orchestrator")?;
    let (head, journal) = client.journal().await?;
    fs::write(to.join(JOURNAL), journal.bytes())?;
    fs::write(to.join(HEAD), encode(&head))?;
    let store = FileStore::open(to.join(BLOBS))?;
    let (jobs, commands) = jobs_of(&to.join(JOURNAL)).await?;
    for job in &jobs {
        // The program and the first manifest say what else there is.
        for _ in 0..2 {
            for name in zoo_job::begins_with(&store, job) {
                if !store.contains(&name) {
                    store.keep(&client.fetch(&name, MAX_BLOB_BYTES).await?)?;
                }
            }
        }
    }
    client.close().await;
    Ok(commands)
}

/// The jobs of a journal, and how many commands it has.
async fn jobs_of(journal: &Path) -> Result<(Vec<JobDescription>, u64)> {
    let mut jobs = Vec::new();
    let mut journal = JournalReader::open(journal).await?;
    let replay = journal.replay(u64::MAX, Roots::Last, |step, _| {
        if let Command::JobSubmitted { job, .. } = &step.command {
            jobs.push(job.clone());
        }
    });
    let commands = replay.await?.commands;
    journal.close().await?;
    Ok((jobs, commands))
}
