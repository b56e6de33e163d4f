//! `zoo chat`: a model answers in the terminal.

use std::io::{BufRead, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use zoo_model::{Sampler, generate};

use super::generate::{Model, Sampling, TextStream};

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
        let model = Model::load(&self.model)?;
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
                    let answer = answer(&model, &script, self.tokens, &sampler, &stop)?;
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

/// Writes an answer while it comes, and returns it.
fn answer(model: &Model, script: &str, tokens: usize, sampler: &Sampler, stop: &Stop) -> Result<String> {
    let mut out = std::io::stdout().lock();
    let (mut stream, mut text, mut shown) = (TextStream::default(), String::new(), 0);
    let mut written = Ok(());
    stop.is_asked.store(false, Ordering::SeqCst);
    stop.is_answering.store(true, Ordering::SeqCst);
    let generated = generate(&model.network, &model.prompt(script), tokens, sampler, &mut |token| {
        if stop.is_asked.load(Ordering::SeqCst) || model.ends(token) {
            return ControlFlow::Break(());
        }
        text.push_str(&stream.push(&model.tokenizer.decode_bytes(&[token])));
        let (settled, is_over) = settled(&text);
        if settled > shown {
            written = out.write_all(&text.as_bytes()[shown..settled]).and_then(|()| out.flush());
            shown = settled;
        }
        if is_over || written.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    stop.is_answering.store(false, Ordering::SeqCst);
    generated?;
    written.context("cannot write the answer")?;
    let end = text.find(NEXT_TURN).unwrap_or(text.len());
    let rest = text.get(shown..end).unwrap_or_default();
    writeln!(out, "{rest}").context("cannot write the answer")?;
    text.truncate(end);
    Ok(text)
}

/// How much of an answer can be shown, since it cannot become the start of the next turn; and whether the next turn is there.
fn settled(text: &str) -> (usize, bool) {
    if let Some(end) = text.find(NEXT_TURN) {
        return (end, true);
    }
    let held = (1..NEXT_TURN.len()).rev().find(|&length| text.ends_with(&NEXT_TURN[..length]));
    (text.len() - held.unwrap_or(0), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_before_the_next_turn() {
        let cases = [
            ("", 0, false),
            ("yes", 3, false),
            ("yes\n", 3, false),
            ("yes\nUse", 3, false),
            ("yes\nUseful", 10, false),
            ("a\nUser: b", 1, true),
        ];
        for (text, shown, is_over) in cases {
            assert_eq!(settled(text), (shown, is_over), "{text:?}");
        }
    }
}
