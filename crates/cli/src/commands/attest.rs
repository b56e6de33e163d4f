//! `zoo attest`: evidence from trusted hardware that a node runs what it says.

mod binding;
pub mod check;
mod pack;
mod show;
pub mod time;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use zoo_attest::{Evidence, FILE_BYTES_MAX};
use zoo_network::Ticket;
use zoo_protocol::NodeId;

/// What can be done about evidence.
#[derive(clap::Subcommand)]
pub enum AttestCommand {
    /// Check evidence offline: the vendor's signatures, validity, whose it is, which software
    Check(check::Check),
    /// Say what evidence states, without checking who signed it
    Show(show::Show),
    /// Print the 64 bytes that a node has its hardware sign
    Binding(binding::PrintBinding),
    /// Make a file of evidence of what the hardware and its vendor gave
    Pack(pack::Pack),
}

impl AttestCommand {
    /// Runs it.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Check(command) => command.run(),
            Self::Show(command) => command.run(),
            Self::Binding(command) => command.run(),
            Self::Pack(command) => command.run(),
        }
    }
}

/// A network by its orchestrator's key, or by a ticket, which holds it.
pub fn network(text: &str) -> Result<NodeId, String> {
    let of_ticket = |_| text.parse::<Ticket>().map(|ticket| ticket.node);
    text.parse().or_else(of_ticket).map_err(|_| "neither a ticket nor 64 lower-case hex digits".to_owned())
}

pub fn read(path: &Path, most: usize) -> Result<Vec<u8>> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    file.take(most as u64 + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
    if bytes.len() > most {
        bail!("{shown} is larger than {most} bytes\nhint: is it the right file?");
    }
    Ok(bytes)
}

fn read_evidence(path: &Path) -> Result<Evidence> {
    Evidence::from_bytes(&read(path, FILE_BYTES_MAX)?)
        .with_context(|| format!("cannot read {}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
