//! `zoo dispute`: who was right about a training window, down to 64 multiply-adds.

mod check;
mod forgery;
mod rehearse;
mod tell;
mod validate;

use anyhow::Result;

/// What can be done about a dispute.
#[derive(clap::Subcommand)]
pub enum DisputeCommand {
    /// Check the record of a dispute: every signature, every move, the computation at its end
    Check(check::Check),
    /// Play a dispute on this machine, one party with a flipped bit, and write its record
    Rehearse(rehearse::Rehearse),
    /// Check every operator of a step on this machine for a part of what the step costs
    Validate(validate::Validate),
}

impl DisputeCommand {
    /// Runs it.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Check(command) => command.run(),
            Self::Rehearse(command) => command.run(),
            Self::Validate(command) => command.run(),
        }
    }
}
