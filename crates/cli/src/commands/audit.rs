//! `zoo audit`: whether a model is what its journal says.

mod evidence;
mod head;
mod model;
mod report;

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use zoo_audit::{Auditor, Extent, JobError};
use zoo_content::{BlobStore, Durability, FileStore};
use zoo_network::Ticket;
use zoo_orchestrator::journal::{JournalReader, Roots};

use self::evidence::{Evidence, JobEvidence};
use self::head::Signed;
use self::report::Report;
use super::journal::{BLOBS, HEAD, Place, pack_from_afar};
use crate::foreground;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::live::format::several;
use crate::progress::Progress;
use crate::reading::available_threads;

/// Arguments of `zoo audit`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  zoo audit                       the journal, the blobs, and what the newest job is made of\n  \
zoo audit --all --model m       train all of it again, and compare the model in m with what comes out\n  \
zoo audit --network TICKET      of a network that somebody else runs: its journal is fetched\n  \
zoo audit evidence --rounds 1-3 what zoo journal pack wrote, the first three rounds\n\n\
A job is a pure function of its program, its data and its journal, so this takes nobody's word: it replays the journal, does again \
what was reported (windows, sums, outer steps, evaluations), and compares every bit. To do all again takes as long as the nodes \
took together. Ends with code 1 if anything differs or cannot be checked."
)]
pub struct Audit {
    #[command(flatten)]
    place: Place,
    /// Fetch the journal, and what its jobs begin with, from the orchestrator with this ticket
    #[arg(long, value_name = "TICKET", conflicts_with_all = ["path", "dir"])]
    network: Option<Ticket>,
    /// The job: its id, the beginning of it, or its name [default: the newest]
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Do everything again
    #[arg(long, conflicts_with_all = ["rounds", "steps"])]
    all: bool,
    /// Do these rounds again (3, or 1-5); those that do not begin with the first need the blobs that they start from
    #[arg(long, value_name = "ROUNDS")]
    rounds: Option<Range>,
    /// Do the rounds again that these inner steps of the job belong to (120, or 100-200): a window is committed to as a whole
    #[arg(long, value_name = "STEPS", conflicts_with = "rounds")]
    steps: Option<Range>,
    /// Where the blobs are [default: blobs/ beside the journal]
    #[arg(long, value_name = "DIR")]
    blobs: Option<PathBuf>,
    /// What the orchestrator signed when somebody else packed its journal: is it this history? (The file head of a pack; that of this
    /// one is always looked at)
    #[arg(long, value_name = "FILE")]
    head: Vec<PathBuf>,
    /// A model that was published: compare every byte of its folder
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// What is made again goes here, and is removed at the end [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Worker threads; changes the speed, never the bits [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

/// How doing it again ended.
#[derive(PartialEq, Eq)]
enum Ending {
    Done,
    Interrupted,
}

/// Rounds or steps as people count them, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range(RangeInclusive<u64>);

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<u64>().ok().and_then(|number| number.checked_sub(1));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self(first..=last)),
            _ => Err("write one, counted from 1, or the first and the last: 3, or 1-5".into()),
        }
    }
}

impl Audit {
    /// Runs it.
    pub fn run(self) -> Result<()> {
        foreground::block_on(self.audit())
    }

    async fn audit(&self) -> Result<()> {
        let mut report = Report::new(self.json);
        let scratch = Scratch::new(self.scratch.as_deref())?;
        let place = self.place(&scratch).await?;
        let mut journal = place.open().await?;
        let evidence = Evidence::gather(&mut journal, &self.heads(&place)?, &mut report).await?;
        let store = self.store(&place)?;
        let job = evidence.job(self.job.as_deref())?;
        let damaged = job.check_blobs(&store, &mut report)?;
        job.tell(&store, &mut report);
        if damaged > 0 {
            bail!(
                "{} damaged, named above\nhint: get them again; nothing else can be said from these",
                several(damaged, "blob")
            );
        }
        let scratch_store = FileStore::open_with(scratch.0.join("blobs"), Durability::Later)?;
        let rounds = match (&self.rounds, &self.steps) {
            (Some(Range(rounds)), _) => Some(job.rounds_among(rounds)?),
            (None, Some(Range(steps))) => Some(job.rounds_of(steps)?),
            (None, None) => self.all.then_some(0..=u32::MAX),
        };
        let mut faults = Vec::new();
        match rounds {
            Some(rounds) => {
                let extent = Extent { job: job.id, rounds, available_mib: available_mib() };
                let mut auditor = Auditor::new(extent, &store, &scratch_store);
                if self.again(&mut journal, job, &mut auditor, &mut report).await? == Ending::Interrupted {
                    drop(scratch);
                    eprintln!("stopped; what was found so far is above, and nothing was changed");
                    std::process::exit(i32::from(INTERRUPTED));
                }
                faults.extend(report.sum_up(job, auditor.tally()));
                faults.extend(self.compare_model(job, auditor.store(), &scratch, &mut report)?);
            }
            None => faults.extend(self.compare_model(job, &store, &scratch, &mut report)?),
        }
        journal.close().await?;
        if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("\n")) }
    }

    /// Where the journal is; if it is elsewhere, it and what its jobs begin with are fetched.
    async fn place(&self, scratch: &Scratch) -> Result<Place> {
        let Some(ticket) = &self.network else { return Ok(self.place.clone()) };
        let folder = scratch.0.join("pack");
        std::fs::create_dir(&folder)?;
        pack_from_afar(ticket, &folder).await?;
        Ok(Place::of(folder))
    }

    /// What orchestrators signed, as far as it is here.
    fn heads(&self, place: &Place) -> Result<Vec<Signed>> {
        let beside = place.journal()?.with_file_name(HEAD);
        let beside = beside.is_file().then_some(beside);
        beside.iter().chain(&self.head).map(|path| Signed::read(path)).collect()
    }

    fn store(&self, place: &Place) -> Result<FileStore> {
        let beside = || Ok::<_, anyhow::Error>(place.journal()?.with_file_name(BLOBS));
        let folder = self.blobs.clone().map_or_else(beside, Ok)?;
        if !folder.is_dir() {
            bail!("there are no blobs in {}\nhint: name their folder with --blobs", folder.display());
        }
        Ok(FileStore::open(folder)?)
    }

    /// Does again what the journal says of the job.
    async fn again(
        &self,
        journal: &mut JournalReader,
        job: &JobEvidence,
        auditor: &mut Auditor<'_>,
        report: &mut Report,
    ) -> Result<Ending> {
        let interrupt = Interrupt::install()?;
        let threads = self.threads.map_or_else(available_threads, NonZeroUsize::get);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let (steps, mut done, mut ended) = (job.steps(&auditor.extent().rounds), 0, None);
        let mut progress = Progress::start(steps, self.json);
        let replay = journal.replay(u64::MAX, Roots::Last, |step, _| {
            if ended.is_some() {
                return;
            }
            let found = pool.install(|| {
                auditor.hear(step.sequence, &step.command, &mut |_| {
                    done += 1;
                    progress.update(done, || "inner steps".into());
                    interrupt.keep_going()
                })
            });
            match found {
                Ok(None) => {}
                Ok(Some(checked)) => progress.aside(|| report.checked(job, &checked)),
                Err(cause) => ended = Some(cause),
            }
        });
        replay.await?;
        drop(progress);
        match ended {
            None => Ok(Ending::Done),
            Some(JobError::Stopped) => Ok(Ending::Interrupted),
            Some(cause) => Err(cause.into()),
        }
    }

    fn compare_model(
        &self,
        job: &JobEvidence,
        store: &dyn BlobStore,
        scratch: &Scratch,
        report: &mut Report,
    ) -> Result<Option<String>> {
        let Some(folder) = &self.model else { return Ok(None) };
        let Some(checkpoint) = job.checkpoint else {
            bail!("the job has no finished round, so there is no model of it yet");
        };
        model::compare(store, &checkpoint, folder, &scratch.0, report)
    }
}

/// Memory that a task may take, MiB: three quarters of what is free, for the blobs that it reads and writes need some too.
fn available_mib() -> Option<u64> {
    zoo_job::available_bytes().map(|bytes| (bytes >> 20) / 4 * 3)
}

/// A folder that goes with the process.
struct Scratch(PathBuf);

impl Scratch {
    fn new(folder: Option<&std::path::Path>) -> Result<Self> {
        let folder = folder.map_or_else(std::env::temp_dir, ToOwned::to_owned);
        let folder = folder.join(format!("zoo-audit-{}", std::process::id()));
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_counted_from_one() {
        assert_eq!("3".parse(), Ok(Range(2..=2)));
        assert_eq!("1-5".parse(), Ok(Range(0..=4)));
        for wrong in ["0", "5-1", "", "a", "1-", "-1", "1-2-3"] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }
}
