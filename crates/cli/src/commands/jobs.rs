//! `zoo jobs`: what a network works on, has worked on and will work on.

use anyhow::Result;
use serde_json::{Value, json};

use super::network::NetworkArgs;
use crate::foreground;
use crate::live::format::{count, harmless};
use crate::live::{JobState, JobView, print_line};

/// Arguments of `zoo jobs`.
#[derive(clap::Args)]
pub struct Jobs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Print one JSON object a job
    #[arg(long)]
    json: bool,
}

impl Jobs {
    /// Lists the jobs in the order in which they were accepted.
    pub fn run(self) -> Result<()> {
        let connected = foreground::block_on(self.network.connect())?;
        let jobs = &connected.view.jobs;
        if self.json {
            jobs.iter().for_each(|job| print_line(&job_line(job)));
            return Ok(());
        }
        if jobs.is_empty() {
            println!("no jobs yet: submit one with zoo submit");
            return Ok(());
        }
        println!(
            "{:<10} {:<24} {:<9} {:>11} {:>14} {:>13}",
            "job", "name", "state", "steps", "tokens", "bits per byte"
        );
        for job in jobs {
            println!("{}", row(job));
            if let JobState::Failed(why) | JobState::Stopped(why) = &job.state {
                println!("{:<10} {}", "", harmless(why));
            }
        }
        Ok(())
    }
}

/// A job as an object.
pub fn job_line(job: &JobView) -> Value {
    let why = match &job.state {
        JobState::Failed(why) | JobState::Stopped(why) => Some(why),
        _ => None,
    };
    json!({
        "job": job.id,
        "name": job.name,
        "state": job.state.word(),
        "why": why,
        "rounds": job.rounds,
        "of_rounds": job.plan.rounds(),
        "steps": job.steps,
        "of_steps": job.plan.steps,
        "tokens": job.tokens,
        "bits_per_byte": job.bits_per_byte,
        "checkpoint": job.checkpoint,
    })
}

fn row(job: &JobView) -> String {
    let name: String = harmless(&job.name).chars().take(24).collect();
    let steps = format!("{}/{}", job.steps, job.plan.steps);
    let bits = job.bits_per_byte.last().map_or_else(String::new, |bits| format!("{bits:.3}"));
    format!(
        "{:<10} {name:<24} {:<9} {steps:>11} {:>14} {bits:>13}",
        job.id.short(),
        job.state.word(),
        count(job.tokens)
    )
}
