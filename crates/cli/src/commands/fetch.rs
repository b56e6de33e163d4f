//! `zoo fetch`: a job's newest model, as files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use serde_json::{Value, json};
use zoo_content::{Digest, FileStore};
use zoo_job::Fetched;
use zoo_model::Network;
use zoo_storage::{Address, Name, Storage, Stored};

use super::network::{Connected, NetworkArgs};
use super::storage;
use crate::foreground;
use crate::live::format::{bytes, harmless};
use crate::live::print_line;
use crate::progress::Progress;

/// Digits of a snapshot's digest that tell its folder from others.
const DIGITS: usize = 12;

/// Arguments of `zoo fetch`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  zoo fetch                      the newest job's newest checkpoint\n  \
                        zoo fetch my-model --out m     that of the job called my-model\n  \
                        zoo generate m \"fn main\"       let it write\n  \
                        zoo fetch --storage URL        and store the model; if the network is gone, take it from there\n\n\
                        A job that still runs gives the model of its last finished round. In a storage that nodes write to\n\
                        (zoo join --storage) a job is called by its id.")]
pub struct Fetch {
    /// The job: its id, the beginning of it, or its name [default: the newest]
    job: Option<String>,
    /// Where the model goes; must not exist [default: the job's name]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    network: NetworkArgs,
    /// Store the model here too, or take the job's newest checkpoint from here if no network has it: dir:PATH,
    /// s3://BUCKET/PREFIX, ipfs:HOST:PORT or car:FILE
    #[arg(long, value_name = "URL")]
    storage: Option<Address>,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
}

/// A job's newest checkpoint as its network knows it.
struct Located {
    connected: Connected,
    job: Digest,
    name: String,
    checkpoint: Digest,
    rounds: u32,
    of_steps: u64,
}

impl Fetch {
    /// Fetches the checkpoint from whoever holds it, and writes the model's folder.
    pub fn run(self) -> Result<()> {
        foreground::block_on(self.fetch())
    }

    async fn fetch(self) -> Result<()> {
        let located = match self.locate().await {
            Ok(located) => located,
            Err(cause) => return self.out_of_storage(self.job.as_deref(), cause).await,
        };
        let out = self.out(&located.name)?;
        match self.over_the_network(&located).await {
            Ok((fetched, fetched_bytes)) => {
                let network = export(&fetched, &out)?;
                self.tell(&located, &fetched, &network, fetched_bytes, &out);
                located.connected.client.close().await;
                match &self.storage {
                    Some(address) => storage::put(&out, address, self.json).await,
                    None => Ok(()),
                }
            }
            Err(cause) => self.out_of_storage(Some(&located.job.to_string()), cause).await,
        }
    }

    async fn locate(&self) -> Result<Located> {
        let connected = self.network.connect().await?;
        let job = connected.job(self.job.as_deref())?;
        let Some(checkpoint) = job.checkpoint else {
            bail!("{} has no finished round yet\nhint: zoo top shows how far it is", job.name);
        };
        let (id, name, rounds, of_steps) = (job.id, job.name.clone(), job.rounds, job.plan.steps);
        Ok(Located { connected, job: id, name, checkpoint, rounds, of_steps })
    }

    async fn over_the_network(&self, located: &Located) -> Result<(Fetched, u64)> {
        let Located { connected, checkpoint, .. } = located;
        let (mut progress, mut fetched_bytes) = (Progress::start(0, self.json), 0);
        let peers = connected.client.peers().await?;
        let fetched = Fetched::fetch(connected.client.endpoint(), None, &peers, checkpoint, |done, total| {
            progress.update(done, || format!("{} of {}", bytes(done), bytes(total)));
            fetched_bytes = done;
        });
        let fetched = fetched.await.context("the checkpoint cannot be had from anyone who is here")?;
        Ok((fetched, fetched_bytes))
    }

    /// Takes the newest checkpoint of a job from the storage that was named; without one nothing can be done about `cause`.
    async fn out_of_storage(&self, job: Option<&str>, cause: Error) -> Result<()> {
        let Some(address) = &self.storage else { return Err(cause) };
        let why = format!("{cause:#}");
        let why = why.lines().next().unwrap_or_default();
        let storage = Storage::open(address)?;
        let Stored { digest, snapshot, .. } =
            newest(storage.list().await?, job).map_err(|none| anyhow!("{why}; and in {address} {none}"))?;
        eprintln!("{why}\ntaking the model from {address}");
        let (out, name) = (self.out(&snapshot.name)?, harmless(&snapshot.name));
        let folder = beside(&out, &digest);
        if !folder.exists() {
            let mut progress = Progress::start(0, self.json);
            let mut tell =
                |done, total| progress.update(done, || format!("{} of {}", bytes(done), bytes(total)));
            storage.get(&Name::Digest(digest), &folder, &mut tell).await?;
        }
        let latest = folder.join(LATEST);
        let latest =
            fs::read_to_string(&latest).with_context(|| format!("cannot read {}", latest.display()))?;
        let checkpoint: Digest = latest.trim_end().parse().context("the snapshot names no checkpoint")?;
        let fetched = Fetched::read(&FileStore::open(folder.join("blobs"))?, &checkpoint)?;
        let network = export(&fetched, &out)?;
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        let (step, shown) = (snapshot.step, out.display());
        if self.json {
            print_line(&json!({
                "event": "fetched", "job": snapshot.name, "storage": address, "snapshot": digest, "checkpoint": checkpoint,
                "step": step, "bytes": snapshot.total_bytes(), "model_digest": network.digest(), "export_path": out,
            }));
        } else {
            println!("the model of job {name} after {step} steps is in {shown}");
            println!("its digest is {}\n\n  zoo generate {shown} \"...\"", network.digest());
        }
        Ok(())
    }

    /// Where the model goes.
    fn out(&self, name: &str) -> Result<PathBuf> {
        let out = self.out.clone().unwrap_or_else(|| folder_of(name));
        if out.exists() {
            bail!("{} exists already\nhint: remove it, or choose another --out", out.display());
        }
        Ok(out)
    }

    fn tell(&self, located: &Located, fetched: &Fetched, network: &Network, fetched_bytes: u64, out: &Path) {
        let (digest, shown) = (network.digest(), out.display());
        if self.json {
            let told: Value = json!({
                "event": "fetched", "job": located.job, "checkpoint": located.checkpoint, "round": located.rounds,
                "bytes": fetched_bytes, "model_digest": digest, "export_path": out,
            });
            return print_line(&told);
        }
        let (name, steps) = (&located.name, fetched.checkpoint.progress.step);
        println!("the model of {name} after {steps} of {} steps is in {shown}", located.of_steps);
        println!("its digest is {digest}\n\n  zoo generate {shown} \"...\"");
    }
}

/// Says which checkpoint a snapshot is of.
const LATEST: &str = "latest";

fn export(fetched: &Fetched, out: &Path) -> Result<Network> {
    let network = fetched.network()?;
    fetched.export(&network, Vec::new(), out)?;
    Ok(network)
}

/// The newest of what nodes have stored of the job whose id, or a snapshot whose digest, begins so; without a beginning there must be
/// one job only.
fn newest(stored: Vec<Stored>, job: Option<&str>) -> Result<Stored> {
    let has = |stored: &Stored, path: &str| stored.snapshot.files.iter().any(|file| file.path == path);
    let begins = |stored: &Stored| {
        let named =
            |job: &str| stored.snapshot.name.starts_with(job) || stored.digest.to_string().starts_with(job);
        job.is_none_or(named)
    };
    let is_meant = |stored: &Stored| has(stored, LATEST) && !has(stored, "run.json") && begins(stored);
    let mut meant: Vec<Stored> = stored.into_iter().filter(is_meant).collect();
    meant.sort_by_key(|stored| (stored.snapshot.name.clone(), stored.snapshot.step));
    let hint = "hint: zoo storage list shows what is there; jobs are called by their id";
    let Some(last) = meant.pop() else { bail!("is no checkpoint of that job\n{hint}") };
    if meant.iter().any(|other| other.snapshot.name != last.snapshot.name) {
        bail!("are several jobs that this may mean\n{hint}");
    }
    Ok(last)
}

/// Where a snapshot is until the model was made of it: what was fetched of it before a cut is found again.
fn beside(out: &Path, snapshot: &Digest) -> PathBuf {
    let mut folder = out.as_os_str().to_owned();
    folder.push(format!(".{}", &snapshot.to_string()[..DIGITS]));
    folder.into()
}

/// A folder in the current one, whatever strangers call their jobs.
fn folder_of(name: &str) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    PathBuf::from(
        name.trim_start_matches('.').to_owned()
            + if name.trim_matches('.').is_empty() { "model" } else { "" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_name_does_not_lead_out_of_the_folder() {
        for (name, folder) in
            [("my model", "my-model"), ("../../etc", "-..-etc"), ("a/b", "a-b"), ("..", "model"), ("é", "-")]
        {
            assert_eq!(folder_of(name), PathBuf::from(folder), "{name}");
        }
    }
}
