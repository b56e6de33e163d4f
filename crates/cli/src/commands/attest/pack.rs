//! `zoo attest pack`: what the hardware and its vendor gave, as one file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;
use zoo_attest::{Evidence, FILE_BYTES_MAX};

use super::read;
use crate::live::{format, print_line};

const AS_MADE: &str = "this is no evidence\nhint: give the files as they were made, in binary";

/// Arguments of `zoo attest pack`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo attest pack --quote quote.bin --collateral collateral.json --out evidence.zoo     Intel SGX or TDX
  zoo attest pack --report report.bin --ask ask.der --vcek vcek.der --out evidence.zoo  AMD SEV-SNP

Collateral is the JSON document of a collateral service: tcb_info, qe_identity, two lists of revoked certificates, issuers and signatures. \
Nothing is fetched and nothing is checked here: zoo attest check does that.")]
pub struct Pack {
    /// A quote as the hardware gave it
    #[arg(long, value_name = "FILE", requires = "collateral", conflicts_with = "report")]
    quote: Option<PathBuf>,
    /// What Intel signs about platforms like this one
    #[arg(long, value_name = "FILE", requires = "quote")]
    collateral: Option<PathBuf>,
    /// A report as the hardware gave it
    #[arg(long, value_name = "FILE", requires = "ask", requires = "vcek")]
    report: Option<PathBuf>,
    /// AMD's certificate for chips of this kind, DER
    #[arg(long, value_name = "FILE", requires = "report")]
    ask: Option<PathBuf>,
    /// The chip's certificate, DER
    #[arg(long, value_name = "FILE", requires = "report")]
    vcek: Option<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Pack {
    /// Writes the file.
    pub fn run(self) -> Result<()> {
        let part = |path: &Path| read(path, FILE_BYTES_MAX);
        let evidence = match (&self.quote, &self.collateral, &self.report, &self.ask, &self.vcek) {
            (Some(quote), Some(collateral), ..) => {
                let shown = collateral.display();
                let text = String::from_utf8(part(collateral)?)
                    .with_context(|| format!("{shown} is not text\nhint: it has to be a JSON document"))?;
                Evidence::intel(&part(quote)?, &text).context(AS_MADE)?
            }
            (_, _, Some(report), Some(ask), Some(vcek)) => {
                Evidence::amd(&part(report)?, &part(ask)?, &part(vcek)?).context(AS_MADE)?
            }
            _ => bail!("nothing to pack\nhint: give --quote and --collateral, or --report, --ask and --vcek"),
        };
        let statement = evidence.statement().context(AS_MADE)?;
        let (bytes, shown) = (evidence.to_bytes(), self.out.display());
        fs::write(&self.out, &bytes).with_context(|| format!("cannot write {shown}"))?;
        let (kind, size) = (statement.kind, bytes.len() as u64);
        match self.json {
            true => print_line(&json!({
                "event": "evidence", "kind": kind, "file": self.out, "bytes": size, "evidence": evidence.digest(),
            })),
            false => println!("{shown}: evidence of {kind}, {}", format::bytes(size)),
        }
        Ok(())
    }
}
