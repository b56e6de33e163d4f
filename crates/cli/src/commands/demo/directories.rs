//! Where a demo keeps its things. Nothing that was there before is touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Runs of the demo in one folder.
const RUNS_MAX: u32 = 100_000;

/// The directories of one run, all new.
#[derive(Debug)]
pub struct Directories {
    /// Of the run as a whole.
    pub run: PathBuf,
    /// Where the model goes; does not exist yet.
    pub model: PathBuf,
    /// Those of orchestrator and nodes.
    network: PathBuf,
}

impl Directories {
    /// Creates the directory of a run: `run`, or the next free one. Refuses what exists.
    pub fn create(run: Option<&Path>, model: Option<&Path>) -> Result<Self> {
        if let Some(model) = model
            && model.symlink_metadata().is_ok()
        {
            bail!(
                "{} exists already\nhint: choose another directory with --out; nothing is overwritten",
                model.display()
            );
        }
        if let Some(model) = model {
            try_writing(model)?;
        }
        let run = match run {
            Some(run) => create_new(run)?,
            None => create_next(Path::new(".zoo"))?,
        };
        let model = model.map_or_else(|| run.join("model"), Path::to_owned);
        let network = run.join("network");
        fs::create_dir(&network).with_context(|| format!("cannot create {}", network.display()))?;
        Ok(Self { run, model, network })
    }

    /// The directory of a process.
    pub fn process(&self, name: &str) -> PathBuf {
        self.network.join(name)
    }

    /// Where a process writes its log.
    pub fn log(&self, name: &str) -> PathBuf {
        self.run.join(format!("{name}.log"))
    }

    /// Removes what the processes of this run kept for themselves.
    pub fn remove_network(&self) -> Result<()> {
        fs::remove_dir_all(&self.network).with_context(|| format!("cannot remove {}", self.network.display()))
    }
}

/// Finds out now, not after minutes of training, whether the model can be written.
fn try_writing(model: &Path) -> Result<()> {
    let refused = || {
        format!(
            "cannot create {}\nhint: choose a directory that you can write to with --out",
            model.display()
        )
    };
    fs::create_dir_all(model).and_then(|()| fs::remove_dir(model)).with_context(refused)
}

fn create_new(run: &Path) -> Result<PathBuf> {
    if let Some(parent) = run.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    match fs::create_dir(run) {
        Ok(()) => Ok(run.to_owned()),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
            bail!(
                "{} exists already\nhint: choose another directory with --dir; nothing is overwritten",
                run.display()
            )
        }
        Err(cause) => Err(cause).with_context(|| format!("cannot create {}", run.display())),
    }
}

fn create_next(parent: &Path) -> Result<PathBuf> {
    fs::create_dir_all(parent).with_context(|| {
        format!(
            "cannot create {}\nhint: start in a folder that you can write to, or choose one with --dir",
            parent.display()
        )
    })?;
    for number in 1..=RUNS_MAX {
        let run = parent.join(format!("demo-{number}"));
        match fs::create_dir(&run) {
            Ok(()) => return Ok(run),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => {
                return Err(cause).with_context(|| {
                    format!(
                        "cannot create {}\nhint: choose a directory that you can write to with --dir",
                        run.display()
                    )
                });
            }
        }
    }
    bail!("{} holds {RUNS_MAX} runs\nhint: remove some", parent.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let parent = folder.path().join("zoo");
        assert_eq!(create_next(&parent).unwrap(), parent.join("demo-1"));
        assert_eq!(create_next(&parent).unwrap(), parent.join("demo-2"));
        let refused = create_new(&parent.join("demo-2")).unwrap_err().to_string();
        assert!(refused.contains("hint: choose another directory with --dir"), "{refused}");

        let file = folder.path().join("model");
        fs::write(&file, "mine").unwrap();
        let refused =
            Directories::create(Some(&folder.path().join("run")), Some(&file)).unwrap_err().to_string();
        assert!(refused.contains("hint: choose another directory with --out"), "{refused}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        assert!(!folder.path().join("run").exists(), "refused before anything is created");
    }

    #[test]
    fn only_the_network_of_the_run_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let directories = Directories::create(Some(&folder.path().join("run")), None).unwrap();
        fs::create_dir(directories.process("lynx")).unwrap();
        fs::write(directories.log("lynx"), "").unwrap();
        directories.remove_network().unwrap();
        assert!(!directories.process("lynx").exists() && directories.log("lynx").exists());
    }
}
