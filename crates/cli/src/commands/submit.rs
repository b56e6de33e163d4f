//! `zoo submit`: a training job for a network.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use zoo_job::{Job, Layer, RunConfig, build};
use zoo_kernels::Profile;

use super::network::{Connected, NetworkArgs};
use super::profile_parser;
use super::top::follow;
use super::train::layers;
use crate::foreground;
use crate::live::format::{count, rhythm};
use crate::live::{Audience, print_line};
use crate::reading::watched;

/// Arguments of `zoo submit`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo submit                                        the default preset on cargo's own sources
  zoo submit run.yaml --wait                        what a file says, and watch until it is done
  zoo submit --preset qwen3-10m --data texts/ --set training.update.type=sparse
  zoo submit --schema > job.schema.json             every key and its values, for an editor
  zoo fetch                                         the newest job's model

The file is that of zoo train; its key rounds says how often the nodes synchronise. Once the orchestrator has
answered, the job does not need this machine any more. docs/model-builder.md lists every key.")]
pub struct Submit {
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
    /// What people call the job
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Set any key, as in rounds.inner_steps=100 or training.update.type=sparse
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Layer::parse_setting)]
    settings: Vec<(String, Value)>,
    /// Steps that every node trains, in all rounds together
    #[arg(long)]
    steps: Option<u64>,
    /// Numeric profile: the rule of the matrix products [default: the one this machine is fastest in]
    #[arg(long, value_parser = profile_parser())]
    profile: Option<Profile>,
    /// Watch until the job is done
    #[arg(long)]
    wait: bool,
    /// Print the JSON Schema of such a file, and submit nothing
    #[arg(long, exclusive = true)]
    schema: bool,
    #[command(flatten)]
    network: NetworkArgs,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

impl Submit {
    /// Prepares the data here, hands the job over, and with --wait watches it.
    pub fn run(self) -> Result<()> {
        if self.schema {
            print!("{}", zoo_job::SCHEMA);
            return Ok(());
        }
        let config = build(None, &self.layers()?)?;
        if config.checkpoint_storage.is_some() {
            bail!(
                "checkpoint_storage: it is for runs on this machine; nodes store what they keep where they were told to\n\
                 hint: leave it out; checkpoint.storage says which kind of storage they should have"
            );
        }
        foreground::block_on(self.submit(config))
    }

    fn layers(&self) -> Result<Vec<Layer>> {
        let named = [
            ("preset", self.preset.clone().map(Value::from)),
            ("data", layers::path(self.data.as_deref())?),
            ("from", layers::path(self.from.as_deref())?),
            ("run", self.name.clone().map(Value::from)),
            ("steps", self.steps.map(Value::from)),
            ("training.profile", self.profile.map(|profile| profile.name().into())),
        ];
        layers::of(self.config.as_deref(), &self.settings, named)
    }

    async fn submit(self, config: RunConfig) -> Result<()> {
        let started = Instant::now();
        let stop = foreground::told_to_stop(false)?;
        // A network that cannot be reached is told of before minutes go into the data.
        let mut connected = self.network.connect().await?;
        let (quiet, network) = (self.json, self.network.ticket()?.node);
        let work = async {
            let job =
                spawn_blocking(move || watched(quiet, |reading| Job::prepare(config, network, reading)))
                    .await??;
            self.hand_over(&connected, job).await
        };
        tokio::pin!(stop);
        let id = tokio::select! {
            id = work => id?,
            () = &mut stop => interrupted("nothing was submitted"),
        };
        if self.wait {
            let mut audience = Audience::new(self.json, started);
            tokio::select! {
                followed = follow(&mut connected, Some(id), &mut audience) => followed?,
                () = &mut stop => {
                    audience.clear();
                    interrupted("the job goes on without this watcher; zoo top watches again");
                }
            }
            if !self.json {
                println!("done: zoo fetch {} has the model", id.short());
            }
        }
        connected.client.close().await;
        Ok(())
    }

    async fn hand_over(&self, connected: &Connected, job: Job) -> Result<zoo_protocol::JobId> {
        let Job { description, blobs, store, spec } = job;
        let id = connected.client.submit(description.clone(), blobs, store).await?;
        let plan = &description.plan;
        if self.json {
            print_line(&json!({
                "event": "submitted", "job": id, "name": description.name, "profile": description.profile,
                "parameters": spec.model.parameter_count(), "rounds": plan.rounds(), "steps": plan.steps,
                "rhythm": plan.rhythm,
                "held_out": description.held_out_data,
            }));
        } else {
            println!(
                "job {} ({}): {} parameters, {}",
                id.short(),
                description.name,
                count(spec.model.parameter_count() as u64),
                rhythm(plan)
            );
            println!("the network has it; zoo top watches, zoo fetch {} gets the model", id.short());
        }
        Ok(id)
    }
}

fn interrupted(what: &str) -> ! {
    eprintln!("interrupted: {what}");
    std::process::exit(crate::interrupt::INTERRUPTED.into());
}
