//! `zoo up`: an orchestrator in the foreground.

mod evidence;

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tracing::warn;
use zoo_api::{Api, ApiError, ApiOptions, Tls};
use zoo_job::listed;
use zoo_network::Relay;
use zoo_orchestrator::{Admission, Audits, LEASE_MS, Orchestrator, OrchestratorOptions, TICK_MS};
use zoo_protocol::{NodeId, Terms};

use crate::foreground;
use crate::live::print_line;

/// Arguments of `zoo up`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  zoo up                            a network on this machine\n  \
                        zoo up --listen 0.0.0.0:4040      a network that other machines can join\n  \
                        zoo up --listen 0.0.0.0:4040 --relay http://192.0.2.7:3340\n                                    \
                        and that others behind routers can join\n\n\
                        Started again in the same directory it goes on where it stopped.")]
pub struct Up {
    /// Where the key, the journal and the blobs are [default: .zoo/orchestrator in your home]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where to listen; port 0 takes any free port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:4040")]
    listen: SocketAddr,
    /// Where nodes meet that cannot reach each other directly: what `zoo relay` printed. It becomes part of the ticket
    #[arg(long, value_name = "URL")]
    relay: Option<Relay>,
    /// Let checkpoints and data go over the relay where there is no direct path, instead of refusing them
    #[arg(long, requires = "relay")]
    bulk_over_relay: bool,
    /// Where the HTTP interface listens; port 0 takes any free port [default: 127.0.0.1:4080, or any port if that is taken]
    #[arg(long, value_name = "ADDR:PORT", conflicts_with = "no_http")]
    http: Option<SocketAddr>,
    /// No HTTP interface
    #[arg(long)]
    no_http: bool,
    /// Looking needs a key, too; without this only what changes something does
    #[arg(long, conflicts_with = "no_http")]
    private: bool,
    /// Speak HTTPS with this certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The certificate's private key, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// The key of an operator whose word for a node counts, from `zoo operator show`; may be given several times. Nodes that it vouches
    /// for are checked less often
    #[arg(long, value_name = "KEY")]
    trust: Vec<NodeId>,
    #[command(flatten)]
    accept: evidence::Accept,
    /// Do not measure how fast nodes are while they wait; who joins is taken for what it says
    #[arg(long)]
    no_admission: bool,
    /// Print the ticket as a JSON line
    #[arg(long)]
    json: bool,
    /// Stop when stdin ends: whoever started this process is gone
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// Where HTTP is unless another place is asked for.
const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4080);
/// A holder of a checkpoint is challenged so often.
const AUDIT: Duration = Duration::from_secs(30);
/// It is looked so often whether anybody is to be measured.
const ADMISSION: Duration = Duration::from_secs(10);

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
            relay: self.relay.clone().map(|relay| relay.carrying_bulk(self.bulk_over_relay)),
            lease_ms: LEASE_MS,
            tick_ms: TICK_MS,
            audits: Some(Audits { every: AUDIT, lists: listed }),
            operators: self.trust.iter().copied().collect(),
            evidence: self.accept.check(),
            admission: (!self.no_admission).then(|| Admission { every: ADMISSION, terms: Terms::default() }),
        })
        .await?;
        let api = self.interface(&orchestrator, &directory).await?;
        self.announce(&orchestrator, &directory, api.as_ref())?;
        orchestrator
            .run_until(async {
                stop.await;
                if let Some(api) = api {
                    api.stop().await;
                }
            })
            .await?;
        if self.json {
            print_line(&json!({ "event": "stopped" }));
        }
        Ok(())
    }

    async fn interface(&self, orchestrator: &Orchestrator, directory: &Path) -> Result<Option<Api>> {
        if self.no_http {
            return Ok(None);
        }
        let tls = self.tls_certificate.clone().zip(self.tls_key.clone());
        let options = ApiOptions {
            listen: self.http.unwrap_or(HTTP),
            directory: directory.to_owned(),
            reading_needs_a_key: self.private,
            tls: tls.map(|(certificate, key)| Tls { certificate, key }),
        };
        let any_port = ApiOptions { listen: SocketAddr::new(HTTP.ip(), 0), ..options.clone() };
        Ok(Some(match Api::start(orchestrator.handle(), options).await {
            Err(ApiError::Listen { cause, .. })
                if self.http.is_none() && cause.kind() == ErrorKind::AddrInUse =>
            {
                warn!("port {} is taken: HTTP is on another one", HTTP.port());
                Api::start(orchestrator.handle(), any_port).await?
            }
            started => started?,
        }))
    }

    fn announce(&self, orchestrator: &Orchestrator, directory: &Path, api: Option<&Api>) -> io::Result<()> {
        let ticket = orchestrator.ticket();
        if self.json {
            print_line(&json!({
                "event": "listening",
                "ticket": ticket.to_string(),
                "node": ticket.node,
                "addresses": ticket.addresses,
                "relay": ticket.relay.as_ref().map(Relay::to_string),
                "root": orchestrator.root(),
                "http": api.map(Api::url),
            }));
            return Ok(());
        }
        let out = &mut io::stdout().lock();
        let addresses: Vec<String> = ticket.addresses.iter().map(SocketAddr::to_string).collect();
        writeln!(out, "orchestrator {} listens on {}", ticket.node.short(), addresses.join(", "))?;
        if let Some(relay) = &ticket.relay {
            let bulk = if relay.carries_bulk() { "everything" } else { "messages, and no bulk" };
            writeln!(out, "who cannot reach it directly meets it at {relay}, which carries {bulk}")?;
        }
        writeln!(out, "its journal is in {}", directory.display())?;
        if let Some(api) = api {
            writeln!(out, "its dashboard is at {0}, its HTTP interface at {0}/reference", api.url())?;
        }
        writeln!(out, "\nothers join with\n\n  zoo join {ticket}\n")?;
        if ticket.is_local() {
            writeln!(out, "only this machine can: --listen 0.0.0.0:4040 lets others in")?;
        }
        writeln!(out, "Ctrl-C stops")
    }
}

/// A directory that does not depend on where a command is started: an identity outlives a terminal.
pub fn home_directory(name: &str) -> PathBuf {
    std::env::home_dir().unwrap_or_default().join(".zoo").join(name)
}
