//! The layers of a configuration that a command line stands for: a file, then what options say.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use zoo_job::Layer;

/// The file, then `--set` and the options that have a name of their own.
pub fn of<const N: usize>(
    file: Option<&Path>,
    settings: &[(String, Value)],
    named: [(&str, Option<Value>); N],
) -> Result<Vec<Layer>> {
    let mut settings = settings.to_vec();
    settings.extend(named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    let file = file.map(Layer::file).transpose()?;
    Ok(file.into_iter().chain([Layer::command_line(&settings)?]).collect())
}

/// A path as a configuration keeps it.
pub fn path(path: Option<&Path>) -> Result<Option<Value>> {
    let text =
        |path: &Path| path.to_str().map(Value::from).context("a path that is not UTF-8 cannot be kept");
    path.map(text).transpose()
}
