//! `zoo relay`: a relay in the foreground.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;
use zoo_relay::limits::{CLIENT_KIB_PER_S, CLIENT_KIB_PER_S_MAX, CLIENTS_MAX};
use zoo_relay::{Counters, RelayOptions, TlsFiles};

use crate::foreground;
use crate::live::format::bytes;
use crate::live::print_line;

/// Arguments of `zoo relay`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  zoo relay                                     for a LAN, a VPN, or behind a TLS proxy\n  \
                        zoo relay --certificate C.pem --key K.pem     with TLS of its own\n  \
                        zoo up --listen 0.0.0.0:4040 --relay URL      a network whose nodes meet there\n\n\
                        It passes sealed messages on between nodes that cannot reach each other, and helps them to open\n\
                        a direct path. It can read nothing, keeps nothing, and calls no other host. Its port must be\n\
                        open over TCP; over UDP too, or routers at home keep nodes apart."
)]
pub struct Relay {
    /// Where to listen, over TCP and UDP; port 0 takes any free port
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:3340")]
    listen: SocketAddr,
    /// What one client may send through it, KiB a second
    #[arg(long, value_name = "KIB", default_value_t = CLIENT_KIB_PER_S.get(),
          value_parser = clap::value_parser!(u32).range(1..=i64::from(CLIENT_KIB_PER_S_MAX)))]
    max_per_client: u32,
    /// Clients at once
    #[arg(long, value_name = "N", default_value_t = CLIENTS_MAX)]
    max_clients: usize,
    /// HTTPS instead of HTTP, with this certificate and its chain, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Print what happens as JSON lines
    #[arg(long)]
    json: bool,
    /// Stop when stdin ends: whoever started this process is gone
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

impl Relay {
    /// Runs until Ctrl-C.
    pub fn run(self) -> Result<()> {
        foreground::block_on(self.serve())
    }

    async fn serve(self) -> Result<()> {
        let stop = foreground::told_to_stop(self.exit_with_stdin)?;
        let tls = self.certificate.clone().zip(self.key.clone());
        let relay = zoo_relay::Relay::start(RelayOptions {
            listen: self.listen,
            client_kib_per_s: NonZero::new(self.max_per_client).expect("its least value is 1"),
            clients_max: self.max_clients,
            tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
        })
        .await?;
        self.announce(&relay)?;
        let counters = relay.run_until(stop).await?;
        self.take_leave(counters)?;
        Ok(())
    }

    fn announce(&self, relay: &zoo_relay::Relay) -> io::Result<()> {
        let (url, address) = (relay.url(), relay.address());
        if self.json {
            print_line(&json!({ "event": "listening", "url": url, "address": address }));
            return Ok(());
        }
        let out = &mut io::stdout().lock();
        writeln!(out, "relay listens on {address}, over TCP and UDP")?;
        writeln!(
            out,
            "\na network whose nodes meet there starts with\n\n  zoo up --listen 0.0.0.0:4040 --relay {url}\n"
        )?;
        if self.certificate.is_some() {
            writeln!(out, "write the name of the certificate instead of the address")?;
        } else if address.ip().is_loopback() {
            writeln!(out, "only this machine can: --listen 0.0.0.0:3340 lets others in")?;
        }
        writeln!(out, "Ctrl-C stops")
    }

    fn take_leave(&self, counters: Counters) -> io::Result<()> {
        let Counters { received_bytes, sent_bytes, .. } = counters;
        if self.json {
            let line =
                json!({ "event": "stopped", "received_bytes": received_bytes, "sent_bytes": sent_bytes });
            print_line(&line);
            return Ok(());
        }
        writeln!(io::stdout(), "passed on {}", bytes(sent_bytes))
    }
}
