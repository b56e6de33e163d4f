//! `zoo attest show`: what evidence states.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Map, json};

use super::{hex, read_evidence};
use crate::live::{format, print_line};

/// Arguments of `zoo attest show`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  zoo attest show evidence.zoo\n\n\
Nothing of it is checked: anybody can write such a file. zoo attest check says what the vendor's signatures show.")]
pub struct Show {
    /// A file of evidence
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    /// Prints what it says.
    pub fn run(self) -> Result<()> {
        let evidence = read_evidence(&self.file)?;
        let statement =
            evidence.statement().with_context(|| format!("cannot read {}", self.file.display()))?;
        if self.json {
            let registers: Map<_, _> = statement
                .registers
                .iter()
                .map(|register| (register.name.to_owned(), hex(&register.bytes).into()))
                .collect();
            let parts: Map<_, _> =
                evidence.parts().iter().map(|(name, size)| ((*name).to_owned(), (*size).into())).collect();
            print_line(&json!({
                "event": "evidence", "checked": false, "evidence": evidence.digest(), "kind": statement.kind,
                "measurement": statement.measurement(), "registers": registers,
                "report_data": hex(&statement.report_data), "debug": statement.debug, "bytes": parts,
            }));
            return Ok(());
        }
        let mut out = io::stdout();
        writeln!(out, "evidence of {}, not checked", statement.kind)?;
        writeln!(out, "  measurement {}", statement.measurement())?;
        for register in &statement.registers {
            writeln!(out, "    {} {}", register.name, hex(&register.bytes))?;
        }
        writeln!(out, "  report data {}", hex(&statement.report_data))?;
        writeln!(out, "  debugging {}", if statement.debug { "on: it will be refused" } else { "off" })?;
        for (name, size) in evidence.parts() {
            writeln!(out, "  {name}: {}", format::bytes(size as u64))?;
        }
        Ok(())
    }
}
