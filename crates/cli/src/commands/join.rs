//! `zoo join`: a PNode in the foreground.

mod debt;
mod hours;
mod teller;
mod terms;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::pin;
use tokio::time::sleep;
use zoo_home::{Home, HomeError, Wish};
use zoo_network::Ticket;
use zoo_page::{About, Limits, Page, PageError, PageOptions, Record, Stance};
use zoo_pnode::{EventSink, PNodeOptions, Retention};
use zoo_storage::Address;

use self::debt::Debt;
use self::hours::{Schedule, UtcOffset};
use self::teller::Teller;
use self::terms::Terms;
use crate::commands::operator::own_binary;
use crate::commands::up::home_directory;
use crate::foreground;

/// Somebody who asks the node to go is heard after at most this time.
const WISH_INTERVAL: Duration = Duration::from_millis(300);
/// Where a node's page is unless another place is asked for.
const PAGE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4090);

/// Arguments of `zoo join`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  zoo join zoo1ab...                       with all threads of this machine\n  \
                        zoo join zoo1ab... --threads 2 --name lynx\n  \
                        zoo join zoo1ab... --hours 22-7 --utc-offset +2   at night\n  \
                        zoo join zoo1ab... --storage s3://bucket/zoo      what it keeps outlives it\n\n\
                        It prints where its page is: what it does and did, for this machine alone. Pause and resume it there,\n\
                        or with `zoo pause` and `zoo resume`; a pause outlives the process. `zoo drain` and `zoo leave` end it.\n\n\
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
    /// A file in which an operator vouches for this node, from `zoo operator issue`: it is checked less often then. It is read again
    /// when it changes
    #[arg(long, value_name = "FILE")]
    credential: Option<PathBuf>,
    /// A file with what this machine's hardware vouches for, from `zoo attest pack`
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// What others see this node called
    #[arg(long, default_value = "volunteer")]
    name: String,
    /// Where to serve blobs to other nodes [default: any free port, on loopback if the orchestrator is there]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Where the node's page listens, on this machine's own interface; port 0 takes any free port [default: 127.0.0.1:4090, or
    /// any port if that is taken]
    #[arg(long, value_name = "ADDR:PORT", conflicts_with = "no_page")]
    page: Option<SocketAddr>,
    /// No page
    #[arg(long)]
    no_page: bool,
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
        let schedule = self.schedule()?;
        let directory = self.dir.clone().unwrap_or_else(|| home_directory("node"));
        let home = Home::open(&directory)?;
        let record = Arc::new(Record::new(self.about(&home, schedule)));
        let node = Node {
            teller: Arc::new(Teller::new(self.json)),
            debt: Arc::default(),
            record: record.clone(),
            terms: Terms { directory: directory.clone(), schedule },
        };
        let page = if self.no_page { None } else { Some(open_page(self.page, &directory, &record).await?) };
        page.iter().for_each(|page| node.teller.has_page(&page.url()));
        let binary = self.credential.is_some().then(own_binary).transpose()?;
        let options = PNodeOptions { binary, ..self.options(ticket, directory, node.ears()) };
        let stop = async {
            tokio::select! {
                () = told_to_stop => {}
                () = node.teller.nobody_answers() => {}
                () = node.wishes() => {}
            }
        };
        let ran = node.run(home, options, stop).await;
        if let Some(page) = page {
            page.stop().await;
        }
        ran?;
        if let Some(cause) = node.teller.why_nobody_answered() {
            bail!(
                "the orchestrator cannot be reached: {}\n\
                 hint: check that `zoo up` is running there and that the ticket is its current one",
                cause.lines().next().unwrap_or_default()
            );
        }
        node.teller.left();
        Ok(())
    }

    fn schedule(&self) -> Result<Option<Schedule>> {
        let Some(hours) = &self.hours else { return Ok(None) };
        let offset = self.utc_offset.as_deref().map_or(Ok(UtcOffset::default()), str::parse)?;
        Ok(Some(Schedule { hours: hours.parse()?, offset }))
    }

    fn about(&self, home: &Home, schedule: Option<Schedule>) -> About {
        let limits = Limits {
            threads: self.threads.map(NonZero::get),
            max_memory_mib: self.max_memory,
            max_upload_kib_per_s: self.max_upload.map(NonZero::get),
            hours: schedule.map(|schedule| schedule.to_string()),
        };
        About { id: home.key().id(), name: self.name.clone(), region: self.region.clone(), limits }
    }

    fn options(self, ticket: Ticket, directory: PathBuf, events: EventSink) -> PNodeOptions {
        PNodeOptions {
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
            credential: self.credential,
            evidence: self.evidence,
            binary: None,
            retention: Retention::default(),
            events,
        }
    }
}

/// A node between work and rest, and those who are told of it.
struct Node {
    terms: Terms,
    debt: Arc<Debt>,
    teller: Arc<Teller>,
    record: Arc<Record>,
}

impl Node {
    fn ears(&self) -> EventSink {
        let (debt, teller, record) = (self.debt.clone(), self.teller.clone(), self.record.clone());
        Arc::new(move |event| {
            debt.hear(&event);
            record.hear(&event);
            teller.hear(event);
        })
    }

    /// Works while it may and rests while it may not, until `stop`.
    async fn run(&self, mut home: Home, options: PNodeOptions, stop: impl Future<Output = ()>) -> Result<()> {
        pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = self.rest() => {}
            }
            drop(home);
            let mut is_over = false;
            let ends = async {
                tokio::select! {
                    () = &mut stop => is_over = true,
                    () = self.may_rest() => {}
                }
            };
            zoo_pnode::run(options.clone(), ends).await?;
            if is_over {
                return Ok(());
            }
            // The directory stays the node's own, so that `zoo leave` finds somebody.
            home = tokio::select! {
                () = &mut stop => return Ok(()),
                home = self.home() => home?,
            };
        }
    }

    /// The node's directory, once the last step of a task lets go of it.
    async fn home(&self) -> Result<Home, HomeError> {
        loop {
            match Home::open(&self.terms.directory) {
                Err(HomeError::InUse(_)) => sleep(WISH_INTERVAL).await,
                home => return home,
            }
        }
    }

    /// Waits until it is time to work.
    async fn rest(&self) {
        if let Some(rest) = self.terms.rest() {
            self.debt.forget();
            self.record.stands(Stance::Resting);
            self.teller.rests(rest);
            self.terms.begins().await;
        }
        self.record.stands(Stance::Working);
    }

    /// Completes when it is time to rest and the network does not wait for anything that the node has begun.
    async fn may_rest(&self) {
        loop {
            let rest = self.terms.ends().await;
            self.teller.drains(rest);
            self.record.stands(Stance::Finishing);
            tokio::select! {
                () = self.debt.paid() => return,
                () = self.terms.begins() => {}
            }
            self.teller.goes_on();
            self.record.stands(Stance::Working);
        }
    }

    /// Completes when `zoo leave` asks, or after `zoo drain` when the node owes the network nothing.
    async fn wishes(&self) {
        // What was meant for an earlier process is void.
        let _ = zoo_home::take_wish(&self.terms.directory);
        if self.wish().await == Wish::Drain {
            tokio::select! {
                () = self.debt.paid() => {}
                () = async { while self.wish().await == Wish::Drain {} } => {}
            }
        }
    }

    async fn wish(&self) -> Wish {
        loop {
            match zoo_home::take_wish(&self.terms.directory) {
                Some(wish) => return wish,
                None => sleep(WISH_INTERVAL).await,
            }
        }
    }
}

/// At `asked`; else at the usual place or, as a machine may have several nodes, at any port.
async fn open_page(
    asked: Option<SocketAddr>,
    directory: &Path,
    record: &Arc<Record>,
) -> Result<Page, PageError> {
    let options = |listen| PageOptions { listen, directory: directory.to_owned(), record: record.clone() };
    match Page::start(options(asked.unwrap_or(PAGE))).await {
        Err(PageError::Listen { cause, .. }) if asked.is_none() && cause.kind() == ErrorKind::AddrInUse => {
            Page::start(options(SocketAddr::new(PAGE.ip(), 0))).await
        }
        started => started,
    }
}

/// Any free port; on loopback if the orchestrator and its relay are reached there, else on every interface.
fn listen_for(ticket: &Ticket) -> SocketAddr {
    let ip = if ticket.is_local() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    SocketAddr::new(IpAddr::V4(ip), 0)
}
