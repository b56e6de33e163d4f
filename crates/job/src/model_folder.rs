//! A model from its folder.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use zoo_model::{ModelConfig, Network, NetworkOptions, Tokenizer, hugging_face};

/// Largest file of a model, bytes.
const FILE_BYTES_MAX: u64 = 64 << 30;

/// A network that can write, and what turns text into its tokens.
pub struct Model {
    /// The network with its weights.
    pub network: Network,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its shape.
    pub config: ModelConfig,
}

impl Model {
    /// Reads a Hugging Face folder, or the one in a run's folder.
    ///
    /// # Errors
    /// A folder or file that is missing, unreadable, truncated or of something else; the file is named.
    pub fn load(path: &Path) -> Result<Self> {
        let folder = folder_of(path)?;
        let shown = folder.display();
        let imported = hugging_face::import(&read(&folder)?, NetworkOptions::default())
            .with_context(|| format!("cannot use the model in {shown}"))?;
        let vocab_size = imported.config.vocab_size;
        let tokenizer = match imported.tokenizer {
            Some(tokenizer) => tokenizer,
            None if vocab_size == 256 => Tokenizer::bytes(),
            None => bail!(
                "{shown}: there is no tokenizer.json\nhint: give the whole folder of a Hugging Face model"
            ),
        };
        if tokenizer.vocab_size() > vocab_size {
            bail!(
                "{shown}: the tokenizer has {} tokens, the model {vocab_size}\nhint: tokenizer.json and the weights must be of the same model",
                tokenizer.vocab_size()
            );
        }
        Ok(Self { network: imported.network, tokenizer, config: imported.config })
    }

    /// The tokens of a prompt; of none, what starts a text.
    pub fn prompt(&self, text: &str) -> Vec<u32> {
        match self.tokenizer.encode(text) {
            tokens if !tokens.is_empty() => tokens,
            _ => self.tokenizer.end_of_text().map_or_else(|| self.tokenizer.encode("\n"), |end| vec![end]),
        }
    }

    /// Whether a token ends the text.
    pub fn ends(&self, token: u32) -> bool {
        self.tokenizer.end_of_text() == Some(token)
    }
}

fn folder_of(path: &Path) -> Result<PathBuf> {
    let exported = path.join("model");
    if path.join("config.json").is_file() {
        return Ok(path.to_owned());
    }
    if exported.join("config.json").is_file() {
        return Ok(exported);
    }
    let shown = path.display();
    match fs::metadata(path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            bail!(
                "{shown}: there is no such folder\nhint: give the folder that zoo train exported, or that of the run"
            )
        }
        Err(cause) => Err(anyhow!("cannot read {shown}: {cause}")),
        Ok(_) if path.join("run.json").is_file() => {
            bail!(
                "{shown}: the run has not exported a model yet\nhint: finish it with zoo train --resume --out {shown}"
            )
        }
        Ok(_) => bail!(
            "{shown}: there is no config.json\nhint: give the folder of a Hugging Face model or of a finished run"
        ),
    }
}

/// The files that make up a model, by name.
fn read(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let listed = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in listed {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name == "config.json" || name == "tokenizer.json" || name.ends_with(".safetensors") {
            files.push((name, read_file(&entry.path())?));
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let size = file.metadata().with_context(|| format!("cannot read {shown}"))?.len();
    if size > FILE_BYTES_MAX {
        bail!("{shown}: {size} bytes are more than a file of a model may have");
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
    Ok(bytes)
}
