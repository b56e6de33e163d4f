//! A model from its folder: an exported one, or that of a run.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;
use zoo_model::hugging_face::{self, ImportError};
use zoo_model::{ModelConfig, Network, NetworkOptions, Tokenizer};

/// Largest file of weights, bytes.
const FILE_BYTES_MAX: u64 = 64 << 30;
/// Largest file of settings, bytes.
const SETTINGS_BYTES_MAX: u64 = 64 << 20;

/// Files that say how a model is to be used; all may be missing.
const GENERATION_CONFIG: &str = "generation_config.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// A network that can write, what turns text into its tokens, and how it wants to be spoken to.
pub struct ModelFolder {
    /// The network with its weights.
    pub network: Network,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its shape.
    pub config: ModelConfig,
    /// Tokens that end a text.
    pub ends: BTreeSet<u32>,
    /// How a conversation becomes a text, if the folder says so.
    pub chat: Option<ChatTemplate>,
}

/// How a conversation becomes a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatTemplate {
    /// A Jinja template over `messages`.
    pub template: String,
    /// What `bos_token` stands for in it.
    pub begin: String,
    /// What `eos_token` stands for in it.
    pub end: String,
}

/// Why a folder is not a model that can write.
#[derive(Debug, Error)]
pub enum ModelFolderError {
    /// Nothing is there.
    #[error(
        "{0}: there is no such folder\nhint: give the folder that zoo train exported, or that of the run"
    )]
    NoFolder(PathBuf),
    /// A run that is not finished.
    #[error("{0}: the run has not exported a model yet\nhint: finish it with zoo train --resume --out {0}")]
    NotExported(PathBuf),
    /// Some other folder.
    #[error(
        "{0}: there is no config.json\nhint: give the folder of a Hugging Face model or of a finished run"
    )]
    NoConfig(PathBuf),
    /// The system refuses.
    #[error("cannot {what} {path}: {cause}")]
    Io {
        /// "list" or "read".
        what: &'static str,
        /// What was to be read.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// More than is read.
    #[error("{path}: {bytes} bytes are more than such a file of a model may have")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The files are not a model.
    #[error("cannot use the model in {folder}")]
    Import {
        /// Where.
        folder: PathBuf,
        /// Which file, and why.
        #[source]
        cause: ImportError,
    },
    /// A file of settings that cannot be understood.
    #[error("{path}: {cause}\nhint: fetch the file again, or remove it")]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Nothing turns text into tokens.
    #[error("{0}: there is no tokenizer.json\nhint: give the whole folder of a Hugging Face model")]
    NoTokenizer(PathBuf),
    /// The tokenizer of something else.
    #[error(
        "{folder}: the tokenizer has {tokenizer} tokens, the model {model}\nhint: tokenizer.json and the weights must be of the same model"
    )]
    OtherTokenizer {
        /// Where.
        folder: PathBuf,
        /// Tokens of the tokenizer.
        tokenizer: usize,
        /// Tokens of the model.
        model: usize,
    },
}

impl ModelFolder {
    /// Reads a Hugging Face folder, or the one in a run's folder.
    ///
    /// # Errors
    /// A folder or file that is missing, unreadable, truncated or of something else; the file is named.
    pub fn load(path: &Path) -> Result<Self, ModelFolderError> {
        let folder = folder_of(path)?;
        let files = read(&folder)?;
        let imported = hugging_face::import(&files, NetworkOptions::default())
            .map_err(|cause| ModelFolderError::Import { folder: folder.clone(), cause })?;
        drop(files);
        let model = imported.config.vocab_size;
        let tokenizer = match imported.tokenizer {
            Some(tokenizer) => tokenizer,
            None if model == 256 => Tokenizer::bytes(),
            None => return Err(ModelFolderError::NoTokenizer(folder)),
        };
        if tokenizer.vocab_size() > model {
            return Err(ModelFolderError::OtherTokenizer {
                folder,
                tokenizer: tokenizer.vocab_size(),
                model,
            });
        }
        let ends = ends(&folder, &tokenizer)?;
        let chat = chat_template(&folder)?;
        Ok(Self { network: imported.network, tokenizer, config: imported.config, ends, chat })
    }
}

/// The tokens of a prompt; of none, what starts a text.
pub fn prompt(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    match tokenizer.encode(text) {
        tokens if !tokens.is_empty() => tokens,
        _ => tokenizer.end_of_text().map_or_else(|| tokenizer.encode("\n"), |end| vec![end]),
    }
}

fn folder_of(path: &Path) -> Result<PathBuf, ModelFolderError> {
    let exported = path.join("model");
    if path.join("config.json").is_file() {
        return Ok(path.to_owned());
    }
    if exported.join("config.json").is_file() {
        return Ok(exported);
    }
    let path = path.to_owned();
    Err(match fs::metadata(&path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => ModelFolderError::NoFolder(path),
        Err(cause) => ModelFolderError::Io { what: "read", path, cause },
        Ok(_) if path.join("run.json").is_file() => ModelFolderError::NotExported(path),
        Ok(_) => ModelFolderError::NoConfig(path),
    })
}

/// The files that make up a model, by name.
fn read(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, ModelFolderError> {
    let refuse = |cause| ModelFolderError::Io { what: "list", path: folder.to_owned(), cause };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(refuse)? {
        let entry = entry.map_err(refuse)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name == "config.json" || name == "tokenizer.json" || name.ends_with(".safetensors") {
            files.push((name, read_file(entry.path(), FILE_BYTES_MAX)?));
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: PathBuf, bytes_max: u64) -> Result<Vec<u8>, ModelFolderError> {
    let refuse = |cause| ModelFolderError::Io { what: "read", path: path.clone(), cause };
    let file = File::open(&path).map_err(refuse)?;
    let size = file.metadata().map_err(refuse)?.len();
    if size > bytes_max {
        return Err(ModelFolderError::TooLarge { path, bytes: size });
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(bytes_max).read_to_end(&mut bytes).map_err(refuse)?;
    Ok(bytes)
}

/// A file of settings; none where it is missing.
fn settings(folder: &Path, name: &str) -> Result<Option<Value>, ModelFolderError> {
    let path = folder.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = read_file(path.clone(), SETTINGS_BYTES_MAX)?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(ModelFolderError::Settings { path, cause: error.to_string() }),
    }
}

/// The tokens that end a text: the tokenizer's own, and those that the folder names (one, or a list).
fn ends(folder: &Path, tokenizer: &Tokenizer) -> Result<BTreeSet<u32>, ModelFolderError> {
    let mut ends: BTreeSet<u32> = tokenizer.end_of_text().into_iter().collect();
    for name in [GENERATION_CONFIG, "config.json"] {
        let Some(settings) = settings(folder, name)? else { continue };
        let named = match &settings["eos_token_id"] {
            Value::Array(several) => several.clone(),
            one => vec![one.clone()],
        };
        let token = |value: Value| u32::try_from(value.as_u64()?).ok();
        ends.extend(
            named.into_iter().filter_map(token).filter(|end| (*end as usize) < tokenizer.vocab_size()),
        );
    }
    Ok(ends)
}

fn chat_template(folder: &Path) -> Result<Option<ChatTemplate>, ModelFolderError> {
    let config = settings(folder, TOKENIZER_CONFIG)?.unwrap_or_default();
    let path = folder.join(CHAT_TEMPLATE);
    let template = if path.is_file() {
        let bytes = read_file(path.clone(), SETTINGS_BYTES_MAX)?;
        let text = String::from_utf8(bytes);
        Some(text.map_err(|error| ModelFolderError::Settings { path, cause: error.to_string() })?)
    } else {
        match &config["chat_template"] {
            Value::String(template) => Some(template.clone()),
            Value::Array(several) => several
                .iter()
                .find(|it| it["name"] == "default")
                .and_then(|it| it["template"].as_str())
                .map(str::to_owned),
            _ => None,
        }
    };
    // A token is its text, or an object that has it.
    let token = |name: &str| {
        let value = &config[name];
        value.as_str().or_else(|| value["content"].as_str()).unwrap_or_default().to_owned()
    };
    Ok(template.map(|template| ChatTemplate { template, begin: token("bos_token"), end: token("eos_token") }))
}
