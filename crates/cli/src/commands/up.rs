//! `zoo up`: an orchestrator in the foreground.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use zoo_orchestrator::{Audits, LEASE_MS, Orchestrator, OrchestratorOptions, TICK_MS};

use crate::foreground;
use crate::job::listed;
use crate::live::print_line;

/// Arguments of `zoo up`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  zoo up                            a network on this machine\n  \
                        zoo up --listen 0.0.0.0:4040      a network that other machines can join\n\n\
                        Started again in the same directory it goes on where it stopped.")]
pub struct Up {
    /// Where the key, the journal and the blobs are [default: .zoo/orchestrator in your home]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where to listen; port 0 takes any free port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:4040")]
    listen: SocketAddr,
    /// Print the ticket as a JSON line
    #[arg(long)]
    json: bool,
    /// Stop when stdin ends: whoever started this process is gone
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// A holder of a checkpoint is challenged so often.
const AUDIT: Duration = Duration::from_secs(30);

impl Up {
    /// Runs until Ctrl-C.
    pub fn run(self) -> Result<()> {
        foreground::block_on(self.serve())
    }

    async fn serve(self) -> Result<()> {
        let stop = foreground::told_to_stop(self.exit_with_stdin)?;
        let directory = self.dir.clone().unwrap_or_else(|| home_directory("orchestrator"));
        let orchestrator = Orchestrator::start(OrchestratorOptions {
            directory: directory.clone(),
            listen: self.listen,
            lease_ms: LEASE_MS,
            tick_ms: TICK_MS,
            audits: Some(Audits { every: AUDIT, lists: listed }),
        })
        .await?;
        self.announce(&orchestrator, &directory)?;
        orchestrator.run_until(stop).await?;
        if self.json {
            print_line(&json!({ "event": "stopped" }));
        }
        Ok(())
    }

    fn announce(&self, orchestrator: &Orchestrator, directory: &Path) -> io::Result<()> {
        let ticket = orchestrator.ticket();
        if self.json {
            print_line(&json!({
                "event": "listening",
                "ticket": ticket.to_string(),
                "node": ticket.node,
                "addresses": ticket.addresses,
                "root": orchestrator.root(),
            }));
            return Ok(());
        }
        let out = &mut io::stdout().lock();
        let addresses: Vec<String> = ticket.addresses.iter().map(SocketAddr::to_string).collect();
        writeln!(out, "orchestrator {} listens on {}", ticket.node.short(), addresses.join(", "))?;
        writeln!(out, "its journal is in {}", directory.display())?;
        writeln!(out, "\nothers join with\n\n  zoo join {ticket}\n")?;
        if ticket.addresses.iter().all(|address| address.ip().is_loopback()) {
            writeln!(out, "only this machine can: --listen 0.0.0.0:4040 lets others in")?;
        }
        writeln!(out, "Ctrl-C stops")
    }
}

/// A directory that does not depend on where a command is started: an identity outlives a terminal.
pub fn home_directory(name: &str) -> PathBuf {
    std::env::home_dir().unwrap_or_default().join(".zoo").join(name)
}
