//! `zoo train`: a model on this machine alone.

mod dry_run;
mod event;
pub mod files;
pub mod home;
pub mod layers;
mod session;
mod storing;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use zoo_job::{Corpus, Layer, RunConfig, build};
use zoo_kernels::Profile;
use zoo_storage::Address;

use super::profile_parser;
use crate::interrupt::INTERRUPTED;
use crate::reading::{available_threads, watched};

use home::{Found, Home, RunRecord};
use session::{Ending, Session};

/// Arguments of `zoo train`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo train                                         the default preset on cargo's own sources
  zoo train --preset nanogpt-shakespeare-char-cpu --data input.txt --out runs/shakespeare
  zoo train run.yaml --set training.batch_sequences=8 --steps 500
  zoo train run.yaml --dry-run                      what it would take, and nothing else
  zoo train run.yaml --storage s3://bucket/runs     keep every checkpoint in a bucket as well
  zoo train --from runs/shakespeare --data more.txt --out runs/more
  zoo train --resume --out runs/shakespeare         go on after Ctrl-C, a crash or a power cut
  zoo generate runs/shakespeare \"ROMEO:\"            let the result write

Values come from the preset, then the file, then --set and the other options; later ones win.
docs/model-builder.md lists every key.")]
pub struct Train {
    /// A YAML or TOML file that says what to train
    config: Option<PathBuf>,
    /// Start from this preset (zoo presets lists them)
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// A file or folder of text. Default: the sources and documentation of the packages that cargo has here
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Train this model further: a run's folder, or that of a Hugging Face model. Shape and tokenizer are its own
    #[arg(long, value_name = "MODEL")]
    from: Option<PathBuf>,
    /// The run's folder: checkpoints, log, data and the exported model. Default: runs/NAME
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Set any key, as in training.batch_sequences=8 or training.clip=null
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Layer::parse_setting)]
    settings: Vec<(String, Value)>,
    /// Steps to train
    #[arg(long)]
    steps: Option<u64>,
    /// Threads to compute with: changes the speed, never the bits. Default: all cores
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Print shape, parameters, memory, tokens and expected time, and stop
    #[arg(long)]
    dry_run: bool,
    /// Continue the run in --out where its last checkpoint ends, or start it if it has none
    #[arg(long)]
    resume: bool,
    /// Store every checkpoint here too: dir:PATH, s3://BUCKET/PREFIX, ipfs:HOST:PORT or car:FILE
    #[arg(long, value_name = "URL")]
    storage: Option<Address>,
    /// Print one JSON object per line on stdout
    #[arg(long)]
    json: bool,
    /// Numeric profile: the rule of the matrix products [default: the one this machine is fastest in]
    #[arg(long, value_parser = profile_parser())]
    profile: Option<Profile>,
}

impl Train {
    /// Trains to the end, or until interrupted; exits with 130 then.
    pub fn run(self) -> Result<()> {
        let started = Instant::now();
        let layers = self.layers()?;
        let threads = self.threads.map_or_else(available_threads, NonZeroUsize::get);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.with_context(|| format!("cannot start {threads} threads"))?;
        if self.dry_run {
            let config = build(None, &layers)?;
            return pool.install(|| dry_run::run(config, self.json));
        }
        let (mut config, found) = self.find_run(&layers)?;
        let (home, corpus) = match found {
            Some(record) => {
                let home = Home::open(&config.out())?;
                let corpus = self.corpus_of(&config, &record, &home, &layers)?;
                (home, corpus)
            }
            // What stops a run before its first step leaves no folder behind.
            None => {
                let corpus = watched(self.json, |reading| Corpus::prepare(&mut config, reading))?;
                let home = Home::open(&config.out())?;
                home.begin(&config, &corpus)?;
                (home, corpus)
            }
        };
        let ending = pool.install(|| Session::start(&config, &corpus, &home, started, self.json)?.run())?;
        if ending == Ending::Interrupted {
            drop(home);
            std::process::exit(i32::from(INTERRUPTED));
        }
        Ok(())
    }

    /// The file, then the command line.
    fn layers(&self) -> Result<Vec<Layer>> {
        let named = [
            ("preset", self.preset.clone().map(Value::from)),
            ("data", layers::path(self.data.as_deref())?),
            ("from", layers::path(self.from.as_deref())?),
            ("out", layers::path(self.out.as_deref())?),
            ("steps", self.steps.map(Value::from)),
            ("checkpoint_storage", self.storage.as_ref().map(|address| address.to_string().into())),
            ("training.profile", self.profile.map(|profile| profile.name().into())),
        ];
        layers::of(self.config.as_deref(), &self.settings, named)
    }

    /// What to train, and the record of the run that is there already, when it is to be continued.
    fn find_run(&self, layers: &[Layer]) -> Result<(RunConfig, Option<RunRecord>)> {
        let names_a_run = self.config.is_some() || layers.iter().any(|layer| layer.has("/preset"));
        let out = match layers.iter().rev().find_map(|layer| layer.text("out")) {
            Some(out) => PathBuf::from(out),
            None => build(None, layers)?.out(),
        };
        let shown = out.display();
        match Home::find(&out)? {
            Found::Run(_) | Found::Other if !self.resume => bail!(
                "{shown}: the folder is not empty\nhint: add --resume to continue the run in it, or choose another --out"
            ),
            Found::Run(record) => {
                let started = record.config()?;
                let base = if names_a_run { None } else { Some(&started) };
                let mut config = RunConfig { out: Some(out.clone()), ..build(base, layers)? };
                if config.from.is_some() {
                    config.training.model = started.training.model.clone();
                    config.vocabulary = started.vocabulary;
                }
                config.check_continues(&started)?;
                Ok((config, Some(*record)))
            }
            Found::Nothing | Found::Other
                if self.resume && !names_a_run && !layers.iter().any(|layer| layer.has("/data")) =>
            {
                bail!("{shown}: there is no run to resume\nhint: check --out, or say what to train")
            }
            Found::Nothing | Found::Other => Ok((build(None, layers)?, None)),
        }
    }

    /// The data the run was started with. If the person names data again, it has to be the same.
    fn corpus_of(
        &self,
        config: &RunConfig,
        record: &RunRecord,
        home: &Home,
        layers: &[Layer],
    ) -> Result<Corpus> {
        let corpus = home.corpus(record)?;
        if config.data.is_some() && layers.iter().any(|layer| layer.has("/data")) {
            watched(self.json, |reading| corpus.prepare_again(config, reading))?.check_same(&corpus)?;
        }
        Ok(corpus)
    }
}
