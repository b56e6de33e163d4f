//! `zoo key`: the key of the node on this machine, which is who it is.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::time::sleep;
use zoo_home::Home;
use zoo_network::Ticket;
use zoo_orchestrator::{Client, ClientError};
use zoo_protocol::{Declaration, NodeId, Retirement, Succession, limits};

use super::attest;
use super::network::random_key;
use super::up::home_directory;
use crate::foreground;
use crate::live::print_line;

/// A network that has no time for it now is asked again after so long, and so often.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// See [`ASK_AGAIN`]: two minutes.
const ASK_AGAIN_MAX: u32 = 240;

/// What can be done with a node's key.
#[derive(clap::Subcommand)]
pub enum KeyCommand {
    /// Who the node is
    Show(Show),
    /// Give the node another key, under which its networks go on with it
    Rotate(Rotate),
    /// End the key: nobody joins with it any more
    Revoke(Revoke),
}

impl KeyCommand {
    /// Runs it.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Show(command) => command.run(),
            Self::Rotate(command) => foreground::block_on(command.rotate()),
            Self::Revoke(command) => foreground::block_on(command.revoke()),
        }
    }
}

/// Whose key.
#[derive(clap::Args)]
struct Whose {
    /// The node's directory [default: .zoo/node in your home]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `zoo key show`.
#[derive(clap::Args)]
pub struct Show {
    #[command(flatten)]
    whose: Whose,
}

/// Arguments of `zoo key rotate`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  zoo drain && zoo key rotate zoo1ab... && zoo join zoo1ab...

Both keys sign that the one follows the other, and the network takes over all that it knows of the node: credit, faults, quarantine, \
the checkpoints that it keeps. Credentials are for one key and have to be issued anew. The new key lies beside the old one (key.next) until every \
network has taken it; stopped in between, the same command finishes. The old key is kept aside (key.old), and no network lets it in again.")]
pub struct Rotate {
    /// The tickets of the networks that know the node
    #[arg(required = true, value_name = "TICKET")]
    tickets: Vec<Ticket>,
    #[command(flatten)]
    whose: Whose,
}

/// Arguments of `zoo key revoke`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo key revoke zoo1ab... --yes                 now
  zoo key revoke zoo1ab... --save revoked.zoo    for the day on which the key is lost or stolen
  zoo key revoke zoo1ab... --saved revoked.zoo --yes

It cannot be taken back. Whoever has the key can do it, also a thief; but nobody can do anything in its name afterwards.")]
pub struct Revoke {
    /// The ticket of the network
    ticket: Ticket,
    /// Sign it and write it to this file, and tell nobody
    #[arg(long, value_name = "FILE", conflicts_with_all = ["saved", "yes"])]
    save: Option<PathBuf>,
    /// Bring what was written before; the key is not needed
    #[arg(long, value_name = "FILE")]
    saved: Option<PathBuf>,
    /// Really
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    whose: Whose,
}

impl Whose {
    fn home(&self) -> Result<Home> {
        let directory = self.dir.clone().unwrap_or_else(|| home_directory("node"));
        if !directory.join("key").is_file() {
            bail!(
                "there is no key in {}\nhint: zoo join makes one; --dir says which node is meant",
                directory.display()
            );
        }
        Ok(Home::open(&directory)?)
    }
}

impl Show {
    fn run(self) -> Result<()> {
        let home = self.whose.home()?;
        let (node, next) = (home.key().id(), home.pending_key()?.map(|key| key.id()));
        if self.whose.json {
            print_line(&json!({ "event": "key", "node": node, "next": next }));
            return Ok(());
        }
        println!("{node}");
        if let Some(next) = next {
            println!("to be followed by {next}: zoo key rotate finishes what was begun");
        }
        Ok(())
    }
}

impl Rotate {
    async fn rotate(self) -> Result<()> {
        let home = self.whose.home()?;
        let (old, new) = (home.key().clone(), home.next_key()?);
        for ticket in &self.tickets {
            let succession = Succession::declare(ticket.node, &old, &new);
            tell(ticket, succession).await.with_context(|| {
                format!("the key stays {} as long as a network does not take the new one", old.id().short())
            })?;
        }
        home.take_next_key()?;
        let (old, new) = (old.id(), new.id());
        match self.whose.json {
            true => print_line(&json!({ "event": "rotated", "old": old, "new": new })),
            false => println!("the node goes on as {new}; {} is let in nowhere any more", old.short()),
        }
        Ok(())
    }
}

impl Revoke {
    async fn revoke(self) -> Result<()> {
        let (declaration, node) = self.declaration()?;
        if let Some(path) = &self.save {
            fs::write(path, declaration.to_file())
                .with_context(|| format!("cannot write {}", path.display()))?;
            match self.whose.json {
                true => print_line(&json!({ "event": "saved", "node": node, "file": path })),
                false => {
                    println!("{}: whoever has this file can end the key {}", path.display(), node.short())
                }
            }
            return Ok(());
        }
        if !self.yes {
            bail!(
                "key {} would be void for ever in this network\nhint: --yes if that is meant",
                node.short()
            );
        }
        tell(&self.ticket, declaration).await?;
        match self.whose.json {
            true => print_line(&json!({ "event": "revoked", "node": node })),
            false => println!("{node} is void: the network lets nobody in with it any more"),
        }
        Ok(())
    }

    fn declaration(&self) -> Result<(Declaration, NodeId)> {
        let Some(path) = &self.saved else {
            let home = self.whose.home()?;
            return Ok((Retirement::declare(self.ticket.node, home.key()), home.key().id()));
        };
        let bytes = attest::read(path, 2 * limits::MAX_DECLARATION_BYTES)?;
        let declaration = Declaration::from_file(&bytes).with_context(|| path.display().to_string())?;
        let Declaration::Retirement(sealed) = &declaration else {
            bail!("{} revokes no key\nhint: zoo key revoke --save writes what does", path.display());
        };
        let node = Declaration::retirement(sealed, self.ticket.node)?.node;
        Ok((declaration, node))
    }
}

/// Brings it to a network, again and again while that has no time for it.
pub async fn tell(ticket: &Ticket, declaration: Declaration) -> Result<()> {
    let client = Client::connect(ticket, &random_key()?).await?;
    let mut tries = 0;
    let told = loop {
        match client.declare(declaration.clone()).await {
            Err(ClientError::Busy(_)) if tries < ASK_AGAIN_MAX => {
                tries += 1;
                sleep(ASK_AGAIN).await;
            }
            told => break told,
        }
    };
    client.close().await;
    Ok(told?)
}
