//! `zoo fetch`: a job's newest model, as files.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::json;
use zoo_storage::Address;

use super::network::NetworkArgs;
use super::storage;
use crate::foreground;
use crate::job::Fetched;
use crate::live::format::bytes;
use crate::live::print_line;
use crate::progress::Progress;

/// Arguments of `zoo fetch`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  zoo fetch                      the newest job's newest checkpoint\n  \
                        zoo fetch my-model --out m     that of the job called my-model\n  \
                        zoo generate m \"fn main\"       let it write\n\n\
                        A job that still runs gives the model of its last finished round.")]
pub struct Fetch {
    /// The job: its id, the beginning of it, or its name [default: the newest]
    job: Option<String>,
    /// Where the model goes; must not exist [default: the job's name]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    network: NetworkArgs,
    /// Store the model here too: dir:PATH, s3://BUCKET/PREFIX, ipfs:HOST:PORT or car:FILE
    #[arg(long, value_name = "URL")]
    storage: Option<Address>,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
}

impl Fetch {
    /// Fetches the checkpoint from whoever holds it, and writes the model's folder.
    pub fn run(self) -> Result<()> {
        foreground::block_on(self.fetch())
    }

    async fn fetch(self) -> Result<()> {
        let connected = self.network.connect().await?;
        let job = connected.job(self.job.as_deref())?;
        let Some(checkpoint) = job.checkpoint else {
            bail!("{} has no finished round yet\nhint: zoo top shows how far it is", job.name);
        };
        let out = self.out.clone().unwrap_or_else(|| folder_of(&job.name));
        if out.exists() {
            bail!("{} exists already\nhint: remove it, or choose another --out", out.display());
        }
        let (mut progress, mut fetched_bytes) = (Progress::start(0, self.json), 0);
        let peers = connected.client.peers().await?;
        let fetched = Fetched::fetch(&connected.client, &peers, &checkpoint, |done, total| {
            progress.update(done, || format!("{} of {}", bytes(done), bytes(total)));
            fetched_bytes = done;
        });
        let fetched = fetched.await.context("the checkpoint cannot be had from anyone who is here")?;
        drop(progress);
        let network = fetched.network()?;
        fetched.export(&network, Vec::new(), &out)?;
        let digest = network.digest();
        if self.json {
            print_line(&json!({
                "event": "fetched", "job": job.id, "checkpoint": checkpoint, "round": job.rounds, "bytes": fetched_bytes,
                "model_digest": digest, "export_path": out,
            }));
        } else {
            println!(
                "the model of {} after {} of {} steps is in {}",
                job.name,
                job.steps,
                job.plan.steps,
                out.display()
            );
            println!("its digest is {digest}\n\n  zoo generate {} \"...\"", out.display());
        }
        connected.client.close().await;
        match &self.storage {
            Some(address) => storage::put(&out, address, self.json).await,
            None => Ok(()),
        }
    }
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
