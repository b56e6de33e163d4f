//! `zoo dispute check`: a record that convinces whoever was not there.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;
use zoo_dispute::FILE_BYTES_MAX;

use super::tell::tell;
use crate::live::print_line;

/// Arguments of `zoo dispute check`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  zoo dispute check dispute.zoo\n\n\
The file holds what both agreed on, every move that they signed, and the verdict. All of it is played again on this machine, and the \
disputed segment, at most 64 terms of one element's sum or one chunk of an update, is computed from the operands that were opened, each with its proof. Nothing \
else is needed: no network, no data, no model. Exit code 0 if everything holds, whoever lost; 1 if anything does not.")]
pub struct Check {
    /// The record of a dispute
    file: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    /// Fails where the record does not hold.
    pub fn run(self) -> Result<()> {
        let shown = self.file.display();
        let (mut bytes, most) = (Vec::new(), FILE_BYTES_MAX as u64 + 1);
        let file = File::open(&self.file).with_context(|| format!("cannot read {shown}"))?;
        file.take(most).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
        match zoo_dispute::check(&bytes) {
            Ok(checked) => tell(&checked, self.json),
            Err(cause) => {
                if self.json {
                    print_line(&json!({"event": "dispute", "verified": false, "error": cause.to_string()}));
                }
                let hint =
                    "hint: get the file again from whoever holds it; a record that was changed shows nothing";
                Err(cause).with_context(|| format!("{shown} does not hold\n{hint}"))
            }
        }
    }
}
