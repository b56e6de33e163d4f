//! What happens in a run: JSON lines in its log and for machines, words for people.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use zoo_content::Digest;
use zoo_job::CorpusDigests;
use zoo_kernels::Profile;
use zoo_storage::Address;

use super::files;
use crate::progress::{Progress, count, duration, speed};

/// One line of the log.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// What is trained on what; said before the first step.
    Start(Box<Start>),
    /// A step was done.
    Step(StepDone),
    /// The network was measured.
    Evaluation(Evaluated),
    /// The state is on the disk.
    Checkpoint {
        /// Steps it has behind it.
        step: u64,
        /// The digest of its manifest.
        checkpoint: Digest,
        /// How long it took.
        seconds: f64,
    },
    /// A checkpoint is in the storage too.
    Stored {
        /// Steps it has behind it.
        step: u64,
        /// The digest of its manifest.
        checkpoint: Digest,
        /// The storage's name for it, and for all that belongs to it.
        snapshot: Digest,
        /// Its folder, where IPFS keeps it.
        cid: Option<String>,
        /// Bytes that the storage did not have yet.
        sent_bytes: u64,
        /// How long it took, beside the training.
        seconds: f64,
    },
    /// A checkpoint is not in the storage; the next one is tried again.
    #[serde(rename = "not-stored")]
    NotStored {
        /// The digest of its manifest.
        checkpoint: Digest,
        /// Why.
        error: String,
    },
    /// Somebody asked to stop; the state is on the disk.
    Interrupted {
        /// Steps done.
        step: u64,
        /// The command that goes on.
        resume: String,
    },
    /// The run is finished and exported.
    Done(Done),
}

/// What a run is.
#[derive(Debug, Serialize)]
pub struct Start {
    pub run: String,
    pub version: &'static str,
    pub preset: String,
    pub family: &'static str,
    pub parameters: u64,
    pub vocab_size: usize,
    pub context: usize,
    pub memory_mib: f64,
    pub profile: Profile,
    pub program: Digest,
    pub data: CorpusDigests,
    pub training_tokens: u64,
    pub held_out_tokens: u64,
    pub held_out_bytes: u64,
    pub steps: u64,
    pub first_step: u64,
    pub threads: usize,
    pub isa: String,
    pub out: PathBuf,
}

/// One step, counted from 1.
#[derive(Debug, Serialize)]
pub struct StepDone {
    pub step: u64,
    pub loss: f64,
    pub learning_rate: f64,
    pub gradient_norm: f64,
    /// Tokens trained on since the run was first started.
    pub tokens: u64,
    /// Since this command started.
    pub seconds: f64,
    pub tokens_per_s: f64,
}

/// The held-out loss after so many steps.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Evaluated {
    pub step: u64,
    /// Nats per token.
    pub val_loss: f64,
    pub bits_per_byte: f64,
    /// Held-out tokens scored, and of how many.
    pub tokens: u64,
    pub of_tokens: u64,
    pub seconds: f64,
}

/// How it ended.
#[derive(Debug, Serialize)]
pub struct Done {
    pub steps: u64,
    pub tokens: u64,
    /// Of this command, preparing and measuring included.
    pub seconds: f64,
    /// Of this command's steps alone; 0 when there were none left.
    pub tokens_per_s: f64,
    pub val_loss: f64,
    pub bits_per_byte: f64,
    pub model_digest: Digest,
    pub checkpoint: Digest,
    pub export_path: PathBuf,
}

/// Everyone who wants to know.
pub struct Reporter {
    log: File,
    log_path: PathBuf,
    json: bool,
    progress: Progress,
    total: u64,
}

impl Reporter {
    /// Appends to the log at `root`; a line that a crash cut off goes.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(root: &Path, steps: u64, json: bool) -> Result<Self> {
        let log_path = root.join("log.jsonl");
        let log = open_log(&log_path).map_err(|cause| files::failure("open", &log_path, cause))?;
        Ok(Self { log, log_path, json, progress: Progress::start(steps, json), total: steps })
    }

    /// Writes one line to the log, and tells the machine or the person.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn report(&mut self, event: &Event) -> Result<()> {
        let line = serde_json::to_string(event).context("an event is plain data")? + "\n";
        self.log
            .write_all(line.as_bytes())
            .map_err(|cause| files::failure("write", &self.log_path, cause))?;
        if self.json {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush())?;
        }
        if let Some(text) = describe(event) {
            self.progress.note(&text);
        }
        Ok(())
    }

    /// Moves the bar after every step.
    pub fn step(&mut self, done: u64, loss: f64, tokens_per_s: f64, tokens_per_step: u64) {
        let left = self.total.saturating_sub(done) * tokens_per_step;
        self.progress.update(done, || {
            format!("loss {loss:.4}  {}  {} left", speed(tokens_per_s), duration(left as f64 / tokens_per_s))
        });
    }
}

impl Reporter {
    /// Says what the end of a run waits for.
    pub fn waiting_for_storage(&mut self, address: &Address) {
        self.progress.update(self.total, || format!("storing the last checkpoint in {address}"));
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    let mut log = File::options().read(true).append(true).create(true).open(path)?;
    if !log.metadata()?.is_file() {
        return Ok(log);
    }
    let mut text = Vec::new();
    log.read_to_end(&mut text)?;
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    log.set_len(whole as u64)?;
    log.seek(SeekFrom::End(0))?;
    Ok(log)
}

fn describe(event: &Event) -> Option<String> {
    Some(match event {
        Event::Start(start) => describe_start(start),
        Event::Step(_) | Event::Checkpoint { .. } | Event::Stored { .. } => return None,
        Event::NotStored { checkpoint, error } => {
            format!(
                "warning: checkpoint {} is not in the storage: {error}\n  training goes on, and the next checkpoint is tried again",
                checkpoint.short()
            )
        }
        Event::Evaluation(at) => {
            let part = if at.tokens < at.of_tokens { ", on a part" } else { "" };
            format!(
                "step {}: held-out loss {:.4}, {:.4} bits per byte{part}",
                at.step, at.val_loss, at.bits_per_byte
            )
        }
        Event::Interrupted { step, resume } => format!("saved after step {step}; go on with:\n  {resume}"),
        Event::Done(done) => format!(
            "done: {} steps, {} tokens in {}, {:.4} bits per byte\nmodel {} in {}\ntry: zoo generate {} \"...\"",
            count(done.steps as f64),
            count(done.tokens as f64),
            duration(done.seconds),
            done.bits_per_byte,
            done.model_digest.short(),
            done.export_path.display(),
            done.export_path.display()
        ),
    })
}

fn describe_start(start: &Start) -> String {
    let steps = match start.first_step {
        0 => format!("{} steps", count(start.steps as f64)),
        first if first < start.steps => format!("resumed: steps {} to {}", first + 1, start.steps),
        first => format!("resumed: all {first} steps are done"),
    };
    format!(
        "{}: {}, {} parameters, context {}, {:.0} MiB, {} with {} on {} threads\n\
         data: {} tokens to train on, {} held out (digest {}), vocabulary {}\n\
         {steps}, into {}",
        start.run,
        start.family,
        count(start.parameters as f64),
        start.context,
        start.memory_mib,
        start.profile,
        start.isa,
        start.threads,
        count(start.training_tokens as f64),
        count(start.held_out_tokens as f64),
        start.data.held_out.short(),
        start.vocab_size,
        start.out.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_goes_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        for (before, after) in [("", "x\n"), ("{}\n", "{}\nx\n"), ("{}\n{\"ev", "{}\nx\n"), ("{\"ev", "x\n")]
        {
            std::fs::write(&path, before).unwrap();
            open_log(&path).unwrap().write_all(b"x\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }
}
