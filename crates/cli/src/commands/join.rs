//! `zoo join`: a PNode in the foreground.

mod hours;
mod teller;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::pin;
use tokio::time::sleep;
use zoo_home::{Home, Wish};
use zoo_network::Ticket;
use zoo_pnode::{PNodeOptions, Retention};
use zoo_storage::Address;

use self::hours::{Schedule, UtcOffset, wall_clock_s};
use self::teller::Teller;
use crate::commands::up::home_directory;
use crate::foreground;

/// Somebody who asks the node to go is heard after at most this time.
const WISH_INTERVAL: Duration = Duration::from_millis(300);

/// Arguments of `zoo join`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  zoo join zoo1ab...                       with all threads of this machine\n  \
                        zoo join zoo1ab... --threads 2 --name lynx\n  \
                        zoo join zoo1ab... --hours 22-7 --utc-offset +2   at night\n  \
                        zoo join zoo1ab... --storage s3://bucket/zoo      what it keeps outlives it\n\n\
                        The node opens no port that others must reach from outside, runs no code it is sent, and\n\
                        keeps its key in its directory: joining again with the same directory is the same node. If the\n\
                        ticket names a relay, whom it cannot reach directly it meets there, and at no other."
)]
pub struct Join {
    /// What `zoo up` printed
    ticket: String,
    /// Where the key and the blobs are [default: .zoo/node in your home]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Threads to compute with [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<u16>>,
    /// Memory that the node's work may take, MiB: steps are cut into pieces that fit, and work that does not fit even so is
    /// refused [default: what is free]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(64..))]
    max_memory: Option<u64>,
    /// What the node may send to others, KiB a second [default: as fast as it goes]
    #[arg(long, value_name = "KIB")]
    max_upload: Option<NonZero<u32>>,
    /// Where the node is, in words that its network agrees on; nodes of one region fetch from each other first
    #[arg(long, value_name = "WORD", default_value = "")]
    region: String,
    /// Hours of the day in which the node works, such as 22-7 or 22:30-6:45; when they end it finishes its round and rests
    #[arg(long, value_name = "FROM-UNTIL")]
    hours: Option<String>,
    /// The clock that --hours means, such as +2 or -3:30 [default: UTC]
    #[arg(long, value_name = "OFFSET", requires = "hours", allow_hyphen_values = true)]
    utc_offset: Option<String>,
    /// Store every checkpoint that the node is asked to keep here too: dir:PATH, s3://BUCKET/PREFIX, ipfs:HOST:PORT or
    /// car:FILE. A storage that fails is tried again, and never in the way of the work
    #[arg(long, value_name = "URL")]
    storage: Option<Address>,
    /// What others see this node called
    #[arg(long, default_value = "volunteer")]
    name: String,
    /// Where to serve blobs to other nodes [default: any free port, on loopback if the orchestrator is there]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Print what happens as JSON lines
    #[arg(long)]
    json: bool,
    /// Stop when stdin ends: whoever started this process is gone
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

impl Join {
    /// Runs until Ctrl-C.
    pub fn run(self) -> Result<()> {
        foreground::block_on(self.work())
    }

    fn schedule(&self) -> Result<Option<Schedule>> {
        let Some(hours) = &self.hours else { return Ok(None) };
        let offset = self.utc_offset.as_deref().map_or(Ok(UtcOffset::default()), str::parse)?;
        Ok(Some(Schedule { hours: hours.parse()?, offset }))
    }

    async fn work(self) -> Result<()> {
        let ticket: Ticket = self.ticket.parse()?;
        let told_to_stop = foreground::told_to_stop(self.exit_with_stdin)?;
        let teller = Arc::new(Teller::new(self.json));
        let schedule = self.schedule()?;
        let directory = self.dir.clone().unwrap_or_else(|| home_directory("node"));
        let wishes = wishes(directory.clone(), teller.clone());
        let events = teller.clone();
        let options = PNodeOptions {
            directory,
            listen: self.listen.unwrap_or_else(|| listen_for(&ticket)),
            ticket,
            name: self.name,
            threads: self.threads,
            region: self.region,
            max_upload_kib_per_s: self.max_upload,
            max_memory_mib: self.max_memory,
            storage: self.storage,
            isa: None,
            retention: Retention::default(),
            events: Arc::new(move |event| events.hear(event)),
        };
        let stop = async {
            tokio::select! {
                () = told_to_stop => {}
                () = teller.nobody_answers() => {}
                () = wishes => {}
            }
        };
        pin!(stop);
        loop {
            if let Some(schedule) = schedule.filter(|schedule| !schedule.is_open(wall_clock_s())) {
                let is_over = rest(&schedule, &options.directory, &teller, &mut stop).await;
                if is_over {
                    break;
                }
            }
            let mut is_over = false;
            let ends = async {
                tokio::select! {
                    () = &mut stop => is_over = true,
                    () = end_of(schedule, &teller) => {}
                }
            };
            zoo_pnode::run(options.clone(), ends).await?;
            // Without hours nothing but a stop ends it.
            if is_over || schedule.is_none() {
                break;
            }
        }
        if let Some(cause) = teller.why_nobody_answered() {
            bail!(
                "the orchestrator cannot be reached: {}\n\
                 hint: check that `zoo up` is running there and that the ticket is its current one",
                cause.lines().next().unwrap_or_default()
            );
        }
        teller.left();
        Ok(())
    }
}

/// Waits until the hours begin; true if the node was told to stop instead.
async fn rest(
    schedule: &Schedule,
    directory: &Path,
    teller: &Teller,
    stop: &mut (impl Future<Output = ()> + Unpin),
) -> bool {
    // The directory stays the node's own, so that `zoo leave` finds somebody. The last step of a task may still hold it.
    let _home = Home::open(directory).ok();
    teller.rests(schedule, schedule.until_change(wall_clock_s()));
    tokio::select! {
        () = stop => true,
        () = schedule.reaches(true, wall_clock_s) => false,
    }
}

/// Completes when the hours are over and the network does not wait for anything that the node has begun; never without hours.
async fn end_of(schedule: Option<Schedule>, teller: &Teller) {
    let Some(schedule) = schedule else { return std::future::pending().await };
    schedule.reaches(false, wall_clock_s).await;
    teller.drains(&schedule);
    while teller.owes() {
        sleep(WISH_INTERVAL).await;
    }
}

/// Completes when `zoo leave` asks, or after `zoo drain` when the node owes the network nothing.
async fn wishes(directory: PathBuf, teller: Arc<Teller>) {
    // What was meant for an earlier process is void.
    let _ = zoo_home::take_wish(&directory);
    let mut draining = false;
    loop {
        sleep(WISH_INTERVAL).await;
        match zoo_home::take_wish(&directory) {
            Some(Wish::Leave) => return,
            Some(Wish::Drain) => draining = true,
            None => {}
        }
        if draining && !teller.owes() {
            return;
        }
    }
}

/// Any free port; on loopback if the orchestrator and its relay are reached there, else on every interface.
fn listen_for(ticket: &Ticket) -> SocketAddr {
    let ip = if ticket.is_local() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    SocketAddr::new(IpAddr::V4(ip), 0)
}
