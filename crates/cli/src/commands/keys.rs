//! `zoo keys`: who may change something over HTTP.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::json;
use zoo_api::{Keys as KeyFile, Scope};

use super::up::home_directory;
use crate::live::print_line;

/// Arguments of `zoo keys`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo keys create laptop                      a key that may submit jobs
  zoo keys create dashboard --scope read
  zoo keys create ops --scope manage          one that may also cancel, pause and resume them
  zoo keys                                    lists them; the keys themselves are shown once, when they are made
  zoo keys revoke laptop

A running orchestrator heeds changes at once.")]
pub struct Keys {
    #[command(subcommand)]
    action: Option<Action>,
    /// The orchestrator's directory [default: .zoo/orchestrator in your home]
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Make a key and print it
    Create {
        /// What you call it
        name: String,
        /// What it allows: read, submit (which includes it), or manage (which includes both)
        #[arg(long, default_value = "submit", value_parser = |text: &str| text.parse::<Scope>())]
        scope: Scope,
    },
    /// End a key
    Revoke {
        /// What you called it
        name: String,
    },
    /// List the keys
    List,
}

impl Keys {
    /// Changes or lists the keys of an orchestrator on this machine, running or not.
    pub fn run(self) -> Result<()> {
        let directory = self.dir.unwrap_or_else(|| home_directory("orchestrator"));
        if !directory.is_dir() {
            bail!(
                "{}: there is no orchestrator\nhint: start one with zoo up, or say where it is with --dir",
                directory.display()
            );
        }
        let keys = zoo_api::keys(&directory)?;
        match self.action {
            Some(Action::Create { name, scope }) => create(&keys, &name, scope, self.json),
            Some(Action::Revoke { name }) => {
                keys.revoke(&name)?;
                if !self.json {
                    println!("{name} is no longer let in");
                }
                Ok(())
            }
            None | Some(Action::List) => list(&keys, self.json),
        }
    }
}

fn create(keys: &KeyFile, name: &str, scope: Scope, as_json: bool) -> Result<()> {
    let key = keys.create(name, scope)?;
    if as_json {
        print_line(&json!({ "name": name, "scope": scope, "key": key }));
    } else {
        println!("{key}");
        eprintln!("it is shown this once; send it as Authorization: Bearer KEY, or set ZOO_API_KEY");
    }
    Ok(())
}

fn list(keys: &KeyFile, as_json: bool) -> Result<()> {
    let keys = keys.list()?;
    if as_json {
        keys.iter().for_each(|key| print_line(&json!({ "name": key.name, "scope": key.scope })));
    } else if keys.is_empty() {
        println!("no keys yet: zoo keys create NAME makes one");
    } else {
        keys.iter().for_each(|key| println!("{:<24} {}", key.name, key.scope));
    }
    Ok(())
}
