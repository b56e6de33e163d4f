//! What every command that talks to a network needs: which one, and a look at it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::timeout;
use zoo_network::Ticket;
use zoo_orchestrator::{Client, Notice, Watch};
use zoo_protocol::NodeKey;

use super::up::home_directory;
use crate::live::{JobView, NetworkView};

/// An orchestrator that is there tells all it has to tell within this time.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// Which network.
#[derive(Clone, clap::Args)]
pub struct NetworkArgs {
    /// The network's ticket, as `zoo up` prints it [default: that of the orchestrator in your home]
    #[arg(long, value_name = "TICKET", env = "ZOO_NETWORK")]
    network: Option<String>,
}

/// A conversation with a network, and what it has told so far.
pub struct Connected {
    /// Submits and fetches.
    pub client: Client,
    /// Goes on telling.
    pub watch: Watch,
    /// All that had happened.
    pub view: NetworkView,
}

impl NetworkArgs {
    /// The ticket that was given, or the one that `zoo up` has left on this machine.
    pub fn ticket(&self) -> Result<Ticket> {
        let text = match &self.network {
            Some(ticket) => ticket.clone(),
            None => {
                let path = home_directory("orchestrator").join("ticket");
                fs::read_to_string(&path).map_err(|_| {
                    anyhow!(
                        "no network is named, and none was started here: there is no {}\n\
                         hint: start one with zoo up, or name one with --network TICKET",
                        path.display()
                    )
                })?
            }
        };
        Ok(text.trim().parse()?)
    }

    /// Connects as nobody in particular.
    pub async fn client(&self) -> Result<Client> {
        let ticket = self.ticket()?;
        Client::connect(&ticket, &random_key()?).await.with_context(|| {
            let relay = ticket.relay.iter().map(ToString::to_string);
            let addresses: Vec<String> =
                ticket.addresses.iter().map(ToString::to_string).chain(relay).collect();
            format!("cannot reach the orchestrator at {}", addresses.join(", "))
        })
    }

    /// Connects, and hears what has happened so far.
    pub async fn connect(&self) -> Result<Connected> {
        let mut view = NetworkView::default();
        let (client, watch) = self.catch_up(|notice| view.hear(notice)).await?;
        Ok(Connected { client, watch, view })
    }

    /// Connects, and tells `hear` of everything that has happened so far.
    pub async fn catch_up(&self, mut hear: impl FnMut(&Notice)) -> Result<(Client, Watch)> {
        let client = self.client().await?;
        let mut watch = client.watch(0).await?;
        let catch_up = async {
            loop {
                match watch.next().await?.context("the orchestrator stopped in the middle of a sentence")? {
                    Notice::CaughtUp => return anyhow::Ok(()),
                    notice => hear(&notice),
                }
            }
        };
        timeout(CATCH_UP_TIMEOUT, catch_up).await.context("the orchestrator does not come to an end")??;
        Ok((client, watch))
    }
}

impl Connected {
    /// The job that `wanted` names: an id, the beginning of one, or a name; without it the newest.
    pub fn job(&self, wanted: Option<&str>) -> Result<&JobView> {
        let Some(wanted) = wanted else {
            let newest = self.view.jobs.last();
            return newest.context("the network has no job\nhint: submit one with zoo submit");
        };
        match self.view.find(wanted)[..] {
            [job] => Ok(job),
            [] => bail!("the network has no job {wanted}\nhint: zoo jobs lists them"),
            [.., newest] if newest.name == wanted => Ok(newest),
            [..] => bail!("several jobs begin with {wanted}\nhint: write more of the id"),
        }
    }
}

/// A key that is forgotten after this process.
pub fn random_key() -> Result<NodeKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|cause| anyhow!("the operating system gives no random bytes: {cause}"))?;
    Ok(NodeKey::from_seed(seed))
}
