//! `zoo pause` and `zoo resume`: whether the node on this machine works.

use anyhow::{Result, bail};

use super::leave::Node;

/// Arguments of `zoo pause`.
#[derive(clap::Args)]
#[command(
    after_help = "The node finishes its round, says goodbye and rests, until `zoo resume` or Resume on its page. A pause outlives the\n\
                        process: started again, also after a restart of the machine, the node goes on resting."
)]
pub struct Pause {
    #[command(flatten)]
    node: Node,
}

/// Arguments of `zoo resume`.
#[derive(clap::Args)]
#[command(
    after_help = "A node that runs joins its network again at once, or when its hours begin; one that does not, once it is started."
)]
pub struct Resume {
    #[command(flatten)]
    node: Node,
}

impl Pause {
    /// Asks, and does not wait for the round to end.
    pub fn run(self) -> Result<()> {
        let directory = self.node.running()?;
        zoo_home::pause(&directory)?;
        println!("the node in {} finishes its round, then rests until it is resumed", directory.display());
        Ok(())
    }
}

impl Resume {
    /// Takes the pause back.
    pub fn run(self) -> Result<()> {
        let directory = self.node.directory();
        if !zoo_home::is_paused(&directory) {
            bail!("no node is paused in {}\nhint: --dir says which node is meant", directory.display());
        }
        zoo_home::resume(&directory)?;
        let when = if zoo_home::is_in_use(&directory) { "" } else { " when it is started again" };
        println!("the node in {} goes on{when}", directory.display());
        Ok(())
    }
}
