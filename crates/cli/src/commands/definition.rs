//! `zoo network`: networks that people write themselves.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use zoo_definition::{FILE_BYTES_MAX, NetworkFile, svg, terminal};

use crate::progress::count;

/// What can be done with a network's file.
#[derive(clap::Subcommand)]
pub enum NetworkCommand {
    /// Check a network's file: every type and key, every edge, every shape
    Check(Check),
    /// Draw the network of a file
    Show(Show),
}

/// Arguments of `zoo network check`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  zoo network check examples/networks/heads-27m.yaml")]
pub struct Check {
    /// The network, as YAML
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `zoo network show`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  zoo network show examples/networks/heads-tiny.yaml\n  \
                        zoo network show examples/networks/heads-tiny.yaml --svg > network.svg")]
pub struct Show {
    /// The network, as YAML
    file: PathBuf,
    /// Print a drawing for browsers instead of text
    #[arg(long)]
    svg: bool,
}

impl NetworkCommand {
    /// Reads the file, and says what it is.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Check(check) => check.run(),
            Self::Show(show) => {
                let definition = read(&show.file)?.definition;
                let drawing = if show.svg { svg(&definition) } else { terminal(&definition) };
                Ok(std::io::stdout().lock().write_all(drawing.as_bytes())?)
            }
        }
    }
}

impl Check {
    fn run(self) -> Result<()> {
        let network = read(&self.file)?;
        let (vnodes, operators) = (network.definition.nodes.len(), network.outline.operators);
        let parameters = network.definition.parameter_count();
        let context = network.definition.context;
        if self.json {
            let line = serde_json::json!({
                "name": network.name, "vnodes": vnodes, "operators": operators, "parameters": parameters,
                "context": context,
            });
            println!("{line}");
        } else {
            println!(
                "{}: {vnodes} VNodes, run as {operators} operators; {} parameters, context {context}",
                network.name,
                count(parameters as f64)
            );
        }
        Ok(())
    }
}

/// Reads and checks a network's file.
pub fn read(path: &Path) -> Result<NetworkFile> {
    let cannot = || format!("cannot read {}", path.display());
    let mut text = String::new();
    let file = File::open(path).with_context(cannot)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text).with_context(cannot)?;
    ensure!(
        text.len() <= FILE_BYTES_MAX,
        "{}: the file is larger than {FILE_BYTES_MAX} bytes\nhint: write fewer nodes",
        path.display()
    );
    NetworkFile::read(&text).map_err(|refusal| anyhow!("{}: {refusal}", path.display()))
}
