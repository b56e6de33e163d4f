//! `zoo leave` and `zoo drain`: asking a node on this machine to go.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use zoo_home::Wish;

use super::up::home_directory;
use crate::progress::Progress;

/// A node that is asked to leave has gone after at most this time.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(15);
/// Whether it has gone is looked at so often.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Which node.
#[derive(clap::Args)]
pub struct Node {
    /// The node's directory [default: .zoo/node in your home]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Arguments of `zoo leave`.
#[derive(clap::Args)]
#[command(
    after_help = "As Ctrl-C in the node's terminal: what it was computing is lost, the round goes on without it."
)]
pub struct Leave {
    #[command(flatten)]
    node: Node,
}

/// Arguments of `zoo drain`.
#[derive(clap::Args)]
#[command(
    after_help = "The node finishes its window and the aggregation of the round, so that nothing it has computed is lost. Ctrl-C\n\
                        stops the waiting; the node goes all the same."
)]
pub struct Drain {
    #[command(flatten)]
    node: Node,
}

impl Leave {
    /// Asks, and waits until the node has gone.
    pub fn run(self) -> Result<()> {
        self.node.ask(Wish::Leave, Some(LEAVE_TIMEOUT))
    }
}

impl Drain {
    /// Asks, and waits for as long as the round takes.
    pub fn run(self) -> Result<()> {
        self.node.ask(Wish::Drain, None)
    }
}

impl Node {
    /// Where it is.
    pub fn directory(self) -> PathBuf {
        self.dir.unwrap_or_else(|| home_directory("node"))
    }

    /// Where it is, if it runs.
    pub fn running(self) -> Result<PathBuf> {
        let directory = self.directory();
        if !zoo_home::is_in_use(&directory) {
            bail!("no node runs in {}\nhint: --dir says which node is meant", directory.display());
        }
        Ok(directory)
    }

    fn ask(self, wish: Wish, at_most: Option<Duration>) -> Result<()> {
        let directory = self.running()?;
        zoo_home::make_wish(&directory, wish)?;
        let (started, mut progress) = (Instant::now(), Progress::start(0, false));
        while zoo_home::is_in_use(&directory) {
            if at_most.is_some_and(|most| started.elapsed() > most) {
                bail!("the node does not go\nhint: stop its process; its directory can be used again");
            }
            progress.update(0, || "waiting until the node has gone".to_owned());
            sleep(LOOK_INTERVAL);
        }
        drop(progress);
        println!("the node in {} has left", directory.display());
        Ok(())
    }
}
