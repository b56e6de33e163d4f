//! `zoo completions`.

use anyhow::Result;
use clap::CommandFactory;

/// Arguments of `zoo completions`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  zoo completions bash > ~/.local/share/bash-completion/completions/zoo")]
pub struct Completions {
    /// bash, zsh, fish, elvish or powershell
    shell: clap_complete::Shell,
}

impl Completions {
    /// Prints the script to stdout.
    pub fn run(self) -> Result<()> {
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "zoo", &mut std::io::stdout());
        Ok(())
    }
}
