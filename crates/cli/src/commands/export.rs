//! `zoo export`: a model in another program's format.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use zoo_model::gguf::{self, Precision};
use zoo_training::ModelFolder;

use crate::live::format::bytes;

/// Arguments of `zoo export`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo export runs/shakespeare --gguf shakespeare.gguf
  zoo export runs/shakespeare --gguf shakespeare-f16.gguf --f16

llama.cpp and what builds on it read GGUF files. In f32 the file has the model's own weights, and
greedy texts are the same; in f16 it has half the size.")]
pub struct Export {
    /// An exported model (a Hugging Face folder), or the folder of a run
    model: PathBuf,
    /// Write a GGUF file; it must not exist
    #[arg(long, value_name = "FILE")]
    gguf: PathBuf,
    /// Round the weights of matrices to f16
    #[arg(long)]
    f16: bool,
}

impl Export {
    /// Writes the file.
    pub fn run(self) -> Result<()> {
        let shown = self.gguf.display();
        let ModelFolder { network, tokenizer, config, .. } = ModelFolder::load(&self.model)?;
        let file = match File::create_new(&self.gguf) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                bail!("{shown}: there is such a file already\nhint: remove it, or choose another name")
            }
            file => file.with_context(|| format!("cannot write {shown}"))?,
        };
        let precision = if self.f16 { Precision::F16 } else { Precision::F32 };
        let name = self.gguf.file_stem().and_then(|name| name.to_str()).unwrap_or("model");
        let written = gguf::export(&network, &config, &tokenizer, name, precision, BufWriter::new(&file));
        let written = written.map_err(anyhow::Error::from).and_then(|()| Ok(file.sync_all()?));
        if let Err(error) = written {
            // Half a file would be taken for a whole one.
            let _ = std::fs::remove_file(&self.gguf);
            return Err(error.context(format!("cannot write {shown}")));
        }
        writeln!(io::stdout(), "{shown}, {}", bytes(file.metadata()?.len()))?;
        Ok(())
    }
}
