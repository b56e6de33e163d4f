//! `zoo chat`: a model answers in the terminal.

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use zoo_model::{Decoder, PagePool, Sampler, StoppedText, Tokenizer, generate};
use zoo_training::ModelFolder;

use super::generate::Sampling;

/// Arguments of `zoo chat`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  zoo chat runs/shakespeare

/reset forgets the conversation, /quit or Ctrl-D ends it. Ctrl-C stops an answer, or ends the
conversation between two.

A model that was only trained on text does not know what a conversation is: it continues a
script of lines that start with User: and Assistant:, and its answer ends where it would write
the next User: line.")]
pub struct Chat {
    /// An exported model (a Hugging Face folder), or the folder of a run
    model: PathBuf,
    /// Tokens of an answer at most
    #[arg(long, default_value_t = 200)]
    tokens: usize,
    #[command(flatten)]
    sampling: Sampling,
}

/// What a person's line and an answer start with in the script that the model continues.
const USER: &str = "User:";
const ASSISTANT: &str = "Assistant:";
/// Where an answer ends.
const NEXT_TURN: &str = "\nUser:";
/// Longest line of a person, bytes.
const LINE_BYTES_MAX: usize = 1 << 20;

impl Chat {
    /// Reads lines and answers them, until there are no more.
    pub fn run(self) -> Result<()> {
        let sampler = self.sampling.sampler()?;
        let mut model = Speaker::new(ModelFolder::load(&self.model)?)?;
        let stop = watch_for_ctrl_c()?;
        let prompts = std::io::stdin().is_terminal();
        let mut script = String::new();
        loop {
            if prompts {
                eprint!("you> ");
            }
            let Some(line) = read_line()? else { break };
            match line.trim() {
                "" => continue,
                "/quit" => break,
                "/reset" => script.clear(),
                said => {
                    script.push_str(&format!("{USER} {said}\n{ASSISTANT}"));
                    let answer = answer(&mut model, &script, self.tokens, &sampler, &stop)?;
                    script.push_str(&format!("{answer}\n"));
                }
            }
        }
        if prompts {
            eprintln!();
        }
        Ok(())
    }
}

/// Whether an answer is being written, and whether to stop it.
#[derive(Clone, Default)]
struct Stop {
    is_answering: Arc<AtomicBool>,
    is_asked: Arc<AtomicBool>,
}

fn watch_for_ctrl_c() -> Result<Stop> {
    let stop = Stop::default();
    let seen = stop.clone();
    ctrlc::set_handler(move || {
        if !seen.is_answering.load(Ordering::SeqCst) || seen.is_asked.swap(true, Ordering::SeqCst) {
            eprintln!();
            std::process::exit(0);
        }
    })
    .context("cannot watch for Ctrl-C")?;
    Ok(stop)
}

/// The next line; none at the end of the input.
fn read_line() -> Result<Option<String>> {
    let mut line = Vec::new();
    let mut stdin = std::io::stdin().lock();
    let read = std::io::Read::take(&mut stdin, LINE_BYTES_MAX as u64).read_until(b'\n', &mut line);
    let read = read.context("cannot read what you say")?;
    Ok((read > 0).then(|| String::from_utf8_lossy(&line).into_owned()))
}

/// A model, and what it remembers of the conversation so far.
struct Speaker {
    decoder: Decoder,
    pool: PagePool,
    tokenizer: Tokenizer,
    ends: BTreeSet<u32>,
}

impl Speaker {
    fn new(model: ModelFolder) -> Result<Self> {
        let ModelFolder { network, tokenizer, ends, .. } = model;
        let decoder = Decoder::new(network)?;
        let pool = PagePool::new(&decoder, decoder.context());
        Ok(Self { decoder, pool, tokenizer, ends })
    }
}

/// Writes an answer while it comes, and returns it.
fn answer(
    model: &mut Speaker,
    script: &str,
    tokens: usize,
    sampler: &Sampler,
    stop: &Stop,
) -> Result<String> {
    let Speaker { decoder, pool, tokenizer, ends } = model;
    let mut out = std::io::stdout().lock();
    let (mut stream, mut text) = (StoppedText::new(vec![NEXT_TURN.to_owned()]), String::new());
    let mut written = Ok(());
    stop.is_asked.store(false, Ordering::SeqCst);
    stop.is_answering.store(true, Ordering::SeqCst);
    let prompt = zoo_training::prompt(tokenizer, script);
    let generated = generate(decoder, pool, &prompt, tokens, sampler, &mut |token| {
        if stop.is_asked.load(Ordering::SeqCst) || ends.contains(&token) {
            return ControlFlow::Break(());
        }
        let piece = stream.push(tokenizer.token_bytes(token));
        text.push_str(&piece);
        written = out.write_all(piece.as_bytes()).and_then(|()| out.flush());
        if stream.is_over() || written.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    stop.is_answering.store(false, Ordering::SeqCst);
    generated?;
    written.context("cannot write the answer")?;
    let rest = stream.finish();
    writeln!(out, "{rest}").context("cannot write the answer")?;
    Ok(text + &rest)
}
