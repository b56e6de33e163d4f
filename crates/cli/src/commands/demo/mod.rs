//! `zoo demo`: a whole network on this machine, from text to a trained and checked model.
//!
//! Nothing here trains or schedules: the demo starts `zoo up` and several `zoo join` as processes of
//! their own, submits a job as anybody could, watches, and does to the network what happens to networks.

mod accident;
mod directories;
mod ending;
mod preparation;
mod processes;
mod report;
mod session;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use zoo_kernels::Profile;

use self::directories::Directories;
use self::session::Session;
use super::profile_parser;
use crate::foreground;
use crate::interrupt::INTERRUPTED;
use crate::live::Audience;

/// Arguments of `zoo demo`.
#[derive(Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  zoo demo                                  about two minutes, on the text that cargo put here\n  \
                        zoo demo --data ~/notes --out my-model    on a text of your own\n  \
                        zoo demo --sparse 64                      as on slow links: updates of a hundredth of the size\n  \
                        zoo demo --json | tail -1                 the result for a program\n\n\
                        Everything stays on this machine: the processes talk over loopback, nothing is downloaded."
)]
pub struct Demo {
    /// A file or folder of text to train on [default: the sources of the packages that cargo put on this machine]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Nodes, each a process of its own with one thread
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: u16,
    /// Rounds: each ends with a synchronisation
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Steps that every node trains on its own in a round
    #[arg(long, value_name = "H", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    inner_steps: u32,
    /// Sequences of one such step
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    sequences: u32,
    /// Of 1,000 windows that nodes train, others train so many again, to compare
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=1000))]
    verified_in_1000: u32,
    /// Evaluate after every so many rounds
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    evaluate_every: u32,
    /// Shape of the model
    #[arg(long, default_value = "qwen3-1m", value_parser = clap::builder::PossibleValuesParser::new(zoo_model::preset::names()))]
    preset: String,
    /// Numeric profile: the rule of the matrix products [default: the one this machine is fastest in]
    #[arg(long, value_parser = profile_parser())]
    profile: Option<Profile>,
    /// Tokens of the vocabulary, learned from the text; 256 takes bytes
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(256..=65_536))]
    vocabulary: u32,
    /// Send only so many of every 4096 elements of an update, the others later: with 64 a node sends 100 times
    /// less and learns a little less in a round [default: everything]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    sparse: Option<u16>,
    /// Highest learning rate of the inner steps
    #[arg(long, value_name = "RATE", default_value_t = 4e-3)]
    learning_rate: f64,
    /// Seed of the split, the first parameters and the order of the data
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the model goes; must not exist [default: model/ in the directory of the run]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Directory of the run; must not exist [default: the next free .zoo/demo-N]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Port of the orchestrator on loopback; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Keep the directories of orchestrator and nodes (some hundred MB)
    #[arg(long)]
    keep: bool,
    /// Disturb nobody
    #[arg(long)]
    no_kill: bool,
    /// Print events as JSON lines, and the result as the last one
    #[arg(long)]
    json: bool,
}

impl Demo {
    /// Inner steps of every node in all rounds.
    fn steps(&self) -> u64 {
        u64::from(self.rounds) * u64::from(self.inner_steps)
    }

    /// Runs the demo to its end; stops whatever it has started, in any case.
    pub fn run(self) -> Result<()> {
        foreground::block_on(self.demonstrate())
    }

    async fn demonstrate(&self) -> Result<()> {
        let started = Instant::now();
        let directories = Directories::create(self.dir.as_deref(), self.out.as_deref())?;
        let audience = Audience::new(self.json, started);
        let Some(report) = Session::new(self, &directories, audience, started)?.run().await? else {
            eprintln!(
                "interrupted: every process of the demo is stopped, what there is so far is in {}",
                directories.run.display()
            );
            std::process::exit(INTERRUPTED.into());
        };
        if !self.keep && report.closing.recheck_equal {
            directories.remove_network()?;
        }
        if self.json {
            report.print_line()
        } else {
            report.print_for_people()?
        }
        if !report.closing.recheck_equal {
            bail!(
                "training a window again gives other bits than its node committed to\n\
                 hint: {} holds everything that is needed to find out why",
                directories.run.display()
            );
        }
        Ok(())
    }
}
