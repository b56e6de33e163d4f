//! `zoo operator`: vouching for nodes, for a while.

use std::env::consts::{ARCH, OS};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use zoo_content::Digest;
use zoo_home::Home;
use zoo_network::Ticket;
use zoo_protocol::{
    Build, CREDENTIAL_VALID_S_MAX, CREDENTIAL_VALID_S_MIN, Credential, Declaration, NodeId, Revocation,
    Sealed, limits,
};

use super::attest;
use super::attest::time::Time;
use super::key::tell;
use super::up::home_directory;
use crate::foreground;
use crate::live::format::harmless;
use crate::live::print_line;

const HOUR_S: u64 = 3600;
const HOURS_MIN: u64 = CREDENTIAL_VALID_S_MIN / HOUR_S;
const HOURS_MAX: u64 = CREDENTIAL_VALID_S_MAX / HOUR_S;

/// What an operator does.
#[derive(clap::Subcommand)]
#[command(after_help = "Example:
  zoo operator show                                                the key that a network's owner trusts: zoo up --trust KEY
  zoo operator issue --node KEY --network TICKET --out node.cred   on the operator's machine
  zoo join TICKET --credential node.cred                           on the node's
  zoo operator revoke node.cred --network TICKET                   ends it at once

A node for which an operator vouches is checked less often, and never not at all. A fault of the node ends it.")]
pub enum OperatorCommand {
    /// Vouch for a node and what it runs, for one to three days
    Issue(Issue),
    /// Take it back, at once
    Revoke(Revoke),
    /// Print the operator's key, or what a credential says
    Show(Show),
}

impl OperatorCommand {
    /// Runs it.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Issue(command) => command.run(),
            Self::Revoke(command) => foreground::block_on(command.revoke()),
            Self::Show(command) => command.run(),
        }
    }
}

/// Which operator.
#[derive(clap::Args)]
struct Operator {
    /// The operator's directory, with its key [default: .zoo/operator in your home]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `zoo operator issue`.
#[derive(clap::Args)]
pub struct Issue {
    /// The node's key, as `zoo key show` prints it
    #[arg(long, value_name = "KEY")]
    node: NodeId,
    /// The network: its ticket, or its orchestrator's key
    #[arg(long, value_name = "ID", value_parser = attest::network)]
    network: NodeId,
    /// How long it holds
    #[arg(long, value_name = "HOURS", default_value_t = HOURS_MAX, value_parser = clap::value_parser!(u64).range(HOURS_MIN..=HOURS_MAX))]
    hours: u64,
    /// The zoo that the node runs [default: this one]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Its version [default: that of this one]
    #[arg(long, value_name = "VERSION", requires = "binary", default_value = concat!("zoo ", env!("CARGO_PKG_VERSION")))]
    build_version: String,
    /// What it was built for [default: this machine]
    #[arg(long, value_name = "TARGET", requires = "binary")]
    target: Option<String>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    operator: Operator,
}

/// Arguments of `zoo operator revoke`.
#[derive(clap::Args)]
pub struct Revoke {
    /// The credential
    file: PathBuf,
    /// The network's ticket
    #[arg(long, value_name = "TICKET")]
    network: Ticket,
    #[command(flatten)]
    operator: Operator,
}

/// Arguments of `zoo operator show`.
#[derive(clap::Args)]
pub struct Show {
    /// A credential [default: the operator's own key]
    file: Option<PathBuf>,
    #[command(flatten)]
    operator: Operator,
}

impl Operator {
    fn home(&self) -> Result<Home> {
        Ok(Home::open(&self.dir.clone().unwrap_or_else(|| home_directory("operator")))?)
    }
}

impl Issue {
    fn run(self) -> Result<()> {
        let home = self.operator.home()?;
        let binary = match &self.binary {
            Some(path) => digest_of(path)?,
            None => own_binary()?,
        };
        let target = self.target.unwrap_or_else(|| format!("{ARCH}-{OS}"));
        let build = Build { binary, version: self.build_version, target };
        let Time(valid_from_s) = Time::now();
        let valid_until_s = valid_from_s + self.hours * HOUR_S;
        let (network, node) = (self.network, self.node);
        let credential = Credential { network, node, build, valid_from_s, valid_until_s };
        zoo_protocol::Message::validate(&credential)?;
        let sealed = Sealed::seal(&credential, home.key());
        let (id, shown) = (Credential::id_of(&sealed), self.out.display());
        fs::write(&self.out, Declaration::Credential(sealed).to_file())
            .with_context(|| format!("cannot write {shown}"))?;
        match self.operator.json {
            true => print_line(&described("issued", id, home.key().id(), &credential)),
            false => println!(
                "{shown}: {} vouches for {} until {}",
                home.key().id().short(),
                node.short(),
                Time(valid_until_s)
            ),
        }
        Ok(())
    }
}

impl Revoke {
    async fn revoke(self) -> Result<()> {
        let home = self.operator.home()?;
        let (sealed, credential) = read(&self.file)?;
        if sealed.signer() != home.key().id() {
            bail!(
                "{} was issued by {}, and this operator is {}\nhint: --dir says which operator is meant",
                self.file.display(),
                sealed.signer().short(),
                home.key().id().short()
            );
        }
        let (network, id) = (self.network.node, Credential::id_of(&sealed));
        let revocation = Revocation { network, node: credential.node, credential: id };
        tell(&self.network, Declaration::Revocation(Sealed::seal(&revocation, home.key()))).await?;
        match self.operator.json {
            true => print_line(&json!({ "event": "revoked", "credential": id, "node": credential.node })),
            false => println!("nobody goes by the credential of {} any more", credential.node.short()),
        }
        Ok(())
    }
}

impl Show {
    fn run(self) -> Result<()> {
        let Some(file) = &self.file else {
            let operator = self.operator.home()?.key().id();
            match self.operator.json {
                true => print_line(&json!({ "event": "operator", "operator": operator })),
                false => println!("{operator}"),
            }
            return Ok(());
        };
        let (sealed, credential) = read(file)?;
        if self.operator.json {
            print_line(&described("credential", Credential::id_of(&sealed), sealed.signer(), &credential));
            return Ok(());
        }
        let Credential { network, node, build, valid_from_s, valid_until_s } = credential;
        println!("operator {} vouches for node {node}", sealed.signer());
        println!("  in the network of {network}");
        let (version, target) = (harmless(&build.version), harmless(&build.target));
        println!("  which runs {version} for {target}, binary {}", build.binary);
        println!("  from {} until {}", Time(valid_from_s), Time(valid_until_s));
        Ok(())
    }
}

fn described(event: &str, id: Digest, operator: NodeId, credential: &Credential) -> Value {
    let Credential { network, node, build, valid_from_s, valid_until_s } = credential;
    json!({
        "event": event, "credential": id, "operator": operator, "network": network, "node": node, "build": build,
        "valid_from_s": valid_from_s, "valid_until_s": valid_until_s,
    })
}

/// A credential whose signature holds.
fn read(path: &std::path::Path) -> Result<(Sealed<Credential>, Credential)> {
    let shown = path.display();
    let bytes = attest::read(path, 2 * limits::MAX_DECLARATION_BYTES)?;
    match Declaration::from_file(&bytes).with_context(|| shown.to_string())? {
        Declaration::Credential(sealed) => {
            let credential = sealed.open().with_context(|| shown.to_string())?;
            Ok((sealed, credential))
        }
        _ => bail!("{shown} is no credential\nhint: zoo operator issue writes one"),
    }
}

/// Digest of the program that runs.
pub fn own_binary() -> Result<Digest> {
    let path = std::env::current_exe().context("cannot tell which program this is")?;
    digest_of(&path)
}

fn digest_of(path: &std::path::Path) -> Result<Digest> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Digest::of(&bytes))
}
