//! `zoo storage`: runs and models where they outlive this machine.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::json;
use zoo_storage::{Address, Item, LISTING, NAME_BYTES_MAX, Parcel, Sent, Snapshot, Storage, Stored};
use zoo_training::Manifest;

use super::train::home;
use crate::foreground;
use crate::interrupt::INTERRUPTED;
use crate::live::format::{bytes, count, harmless, several};
use crate::live::print_line;
use crate::progress::Progress;

/// What can be done with a storage.
#[derive(clap::Subcommand)]
#[command(after_help = "A storage is one of

  dir:PATH            a folder, on this machine or mounted
  s3://BUCKET/PREFIX  a bucket, with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and
                      AWS_ENDPOINT_URL, or ?endpoint=URL&region=NAME behind the prefix
  ipfs:HOST:PORT      an IPFS node, by its HTTP RPC (Kubo's is 127.0.0.1:5001)
  car:FILE            one snapshot as a file that IPFS imports

A snapshot is named by the digest of its listing, which names every file by its digest:
whoever keeps it, every byte that comes back is checked.")]
pub enum StorageCommand {
    /// Store a run at its newest checkpoint, or a model's folder
    Put(Put),
    /// Get a snapshot back as a folder
    Get(Get),
    /// List a storage's snapshots
    List(List),
}

impl StorageCommand {
    /// Runs it.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Put(command) => foreground::block_on(or_interrupted(command.put())),
            Self::Get(command) => foreground::block_on(or_interrupted(command.get())),
            Self::List(command) => foreground::block_on(or_interrupted(command.list())),
        }
    }
}

/// Arguments of `zoo storage put`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo storage put runs/shakespeare --storage dir:/mnt/backup
  zoo storage put my-model --storage ipfs:127.0.0.1:5001    what zoo fetch has made

What is there already is not sent again, so the same command goes on after a cut.")]
pub struct Put {
    /// The folder of a run (zoo train) or of a model (zoo fetch)
    folder: PathBuf,
    /// Where to
    #[arg(long, value_name = "URL")]
    storage: Address,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `zoo storage get`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo storage get s3://bucket/runs --out runs/again
  zoo storage get dir:/mnt/backup 5d3f --out runs/again
  zoo train --resume --out runs/again

What an attempt before has fetched is not fetched again.")]
pub struct Get {
    /// Where from
    #[arg(value_name = "URL")]
    storage: Address,
    /// The snapshot: its digest, the beginning of it, or its CID [default: the newest, where there is one run]
    snapshot: Option<String>,
    /// The folder that is made; must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `zoo storage list`.
#[derive(clap::Args)]
pub struct List {
    /// Which
    #[arg(value_name = "URL")]
    storage: Address,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

impl Put {
    async fn put(self) -> Result<()> {
        put(&self.folder, &self.storage, self.json).await
    }
}

/// Stores a folder, and says so.
///
/// # Errors
/// A folder that is neither a run nor a model, or the storage's.
pub async fn put(folder: &Path, address: &Address, json: bool) -> Result<()> {
    let (started, storage, parcel) = (Instant::now(), Storage::open(address)?, parcel_of(folder)?);
    let mut progress = Progress::start(0, json);
    let sent = storage.put(&parcel, &mut |done, total| tell(&mut progress, done, total)).await?;
    drop(progress);
    let (Snapshot { name, step, .. }, total) = (parcel.snapshot(), parcel.snapshot().total_bytes());
    let Sent { digest, cid, sent_bytes } = sent;
    let cid = cid.map(|cid| cid.to_string());
    if json {
        print_line(&json!({
            "event": "stored", "storage": address, "snapshot": digest, "cid": cid, "name": name, "step": step,
            "bytes": total, "sent_bytes": sent_bytes, "seconds": started.elapsed().as_secs_f64(),
        }));
        return Ok(());
    }
    println!("{name} at step {step} is in {address}: {} of {} were sent", bytes(sent_bytes), bytes(total));
    if let Some(cid) = cid {
        println!("its CID is {cid}");
    }
    println!("\n  zoo storage get \"{address}\" {digest} --out DIR");
    Ok(())
}

impl Get {
    async fn get(self) -> Result<()> {
        let (started, storage) = (Instant::now(), Storage::open(&self.storage)?);
        let name = storage.find(self.snapshot.as_deref()).await?;
        let mut progress = Progress::start(0, self.json);
        let got = storage.get(&name, &self.out, &mut |done, total| tell(&mut progress, done, total)).await;
        let snapshot = got?;
        drop(progress);
        let (total, out) = (snapshot.total_bytes(), self.out.display());
        if self.json {
            print_line(&json!({
                "event": "fetched", "storage": self.storage, "snapshot": snapshot.to_blob().digest(), "name": snapshot.name,
                "step": snapshot.step, "bytes": total, "out": self.out, "seconds": started.elapsed().as_secs_f64(),
            }));
            return Ok(());
        }
        println!("{} at step {}, {}, is in {out}", harmless(&snapshot.name), snapshot.step, bytes(total));
        let has = |name: &str| self.out.join(name).is_file();
        match (has("run.json"), has("latest")) {
            (true, _) => println!("\n  zoo train --resume --out {out}"),
            (false, false) => println!("\n  zoo generate {out} \"...\""),
            // A network's checkpoint, as nodes store it.
            (false, true) => println!("\n  zoo fetch --storage \"{}\" makes a model of it", self.storage),
        }
        Ok(())
    }
}

impl List {
    async fn list(self) -> Result<()> {
        let stored = Storage::open(&self.storage)?.list().await?;
        if stored.is_empty() && !self.json {
            println!("nothing is stored in {}", self.storage);
        }
        for Stored { digest, cid, snapshot } in stored {
            let (total, files) = (snapshot.total_bytes(), snapshot.files.len() as u64);
            let cid = cid.map(|cid| cid.to_string());
            if self.json {
                print_line(&json!({
                    "event": "snapshot", "snapshot": digest, "cid": cid, "name": snapshot.name, "step": snapshot.step,
                    "bytes": total, "files": files,
                }));
                continue;
            }
            let (name, step, files) =
                (harmless(&snapshot.name), count(snapshot.step), several(files, "file"));
            println!("{digest}  {name}, step {step}, {files}, {}", bytes(total));
            if let Some(cid) = cid {
                println!("  {cid}");
            }
        }
        Ok(())
    }
}

/// What is stored of a folder.
fn parcel_of(folder: &Path) -> Result<Parcel> {
    let shown = folder.display();
    if folder.join("run.json").is_file() {
        return home::parcel(folder, home::newest(folder)?);
    }
    if !folder.join("config.json").is_file() {
        bail!(
            "{shown}: neither a run nor a model\nhint: give the folder that zoo train or zoo fetch has made"
        );
    }
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {shown}"))?;
    let mut items = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {shown}"))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_file() && name != LISTING {
            items.push(Item::hashed(name, path.clone())?);
        }
    }
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("model");
    let name: String = name.chars().filter(|c| !c.is_control()).take(NAME_BYTES_MAX / 4).collect();
    let manifest = std::fs::read(folder.join("checkpoint.json")).ok();
    let manifest = manifest.and_then(|manifest| Manifest::from_bytes(&manifest).ok());
    Ok(Parcel::new(&name, manifest.map_or(0, |manifest| manifest.progress.step), items)?)
}

fn tell(progress: &mut Progress, done: u64, total: u64) {
    progress.update(done, || format!("{} of {}", bytes(done), bytes(total)));
}

/// Ctrl-C ends it where it is: nothing half done is taken for whole, and the same command goes on from there.
async fn or_interrupted(command: impl Future<Output = Result<()>>) -> Result<()> {
    let stop = foreground::told_to_stop(false)?;
    tokio::select! {
        outcome = command => outcome,
        () = stop => {
            eprintln!("interrupted; the same command goes on from there");
            std::process::exit(i32::from(INTERRUPTED));
        }
    }
}
