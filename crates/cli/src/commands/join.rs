//! `zoo join`: a PNode in the foreground.

mod teller;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::sleep;
use zoo_home::Wish;
use zoo_network::Ticket;
use zoo_pnode::{PNodeOptions, Retention};

use self::teller::Teller;
use crate::commands::up::home_directory;
use crate::foreground;

/// Somebody who asks the node to go is heard after at most this time.
const WISH_INTERVAL: Duration = Duration::from_millis(300);

/// Arguments of `zoo join`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  zoo join zoo1ab...                       with all threads of this machine\n  \
                        zoo join zoo1ab... --threads 2 --name lynx\n\n\
                        The node opens no port that others must reach from outside, runs no code it is sent, and\n\
                        keeps its key in its directory: joining again with the same directory is the same node."
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
    /// Memory that the node's work may take, MiB; work that takes more is refused [default: what is free]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(64..))]
    max_memory: Option<u64>,
    /// What the node may send to others, KiB a second [default: as fast as it goes]
    #[arg(long, value_name = "KIB")]
    max_upload: Option<NonZero<u32>>,
    /// Where the node is, in words that its network agrees on; nodes of one region fetch from each other first
    #[arg(long, value_name = "WORD", default_value = "")]
    region: String,
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

    async fn work(self) -> Result<()> {
        let ticket: Ticket = self.ticket.parse()?;
        let told_to_stop = foreground::told_to_stop(self.exit_with_stdin)?;
        let teller = Arc::new(Teller::new(self.json));
        let listen = self.listen.unwrap_or_else(|| listen_for(&ticket));
        let events = teller.clone();
        let directory = self.dir.unwrap_or_else(|| home_directory("node"));
        let wishes = wishes(directory.clone(), teller.clone());
        let options = PNodeOptions {
            directory,
            ticket,
            listen,
            name: self.name,
            threads: self.threads,
            region: self.region,
            max_upload_kib_per_s: self.max_upload,
            max_memory_mib: self.max_memory,
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
        zoo_pnode::run(options, stop).await?;
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

/// Any free port; on loopback if the orchestrator is reached there, else on every interface.
fn listen_for(ticket: &Ticket) -> SocketAddr {
    let local = ticket.addresses.iter().all(|address| address.ip().is_loopback());
    let ip = if local { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    SocketAddr::new(IpAddr::V4(ip), 0)
}
