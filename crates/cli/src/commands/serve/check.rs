//! `zoo serve check`: an answer executed again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::json;
use zoo_gateway::check::{Answer, CheckError, check};
use zoo_gateway::limits::ANSWER_BYTES_MAX;

use crate::live::print_line;

/// Arguments of `zoo serve check`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  zoo serve check answer.json --model runs/shakespeare

ANSWER is what the server sent: one JSON object, or the lines of a stream. Every token is chosen
again from the model's logits and must be the same; the exit code is 1 where one is not, and the
first that differs is named.")]
pub struct Check {
    /// What a server answered; - reads it from stdin
    answer: PathBuf,
    /// The model that it is said to come from
    #[arg(long)]
    model: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    /// Fails at the first difference.
    pub fn run(self) -> Result<()> {
        let answer = Answer::parse(&self.read()?)?;
        let (decoder, served) = super::load(&self.model, None)?;
        let outcome = check(&decoder, &served, &answer);
        if self.json {
            let mut line = match &outcome {
                Ok(checked) => json!({ "same": true, "choices": checked.choices, "tokens": checked.tokens }),
                Err(error) => json!({ "same": false, "error": error.to_string() }),
            };
            if let Err(CheckError::Differs { choice, at, found, expected }) = &outcome {
                line["first"] = json!({ "choice": choice, "at": at, "found": found, "expected": expected });
            }
            print_line(&line);
        }
        match outcome {
            Ok(_) if self.json => Ok(()),
            Ok(checked) => {
                let (texts, tokens) = (checked.choices, checked.tokens);
                writeln!(io::stdout(), "the same: {tokens} tokens of {texts} texts, each chosen again")?;
                Ok(())
            }
            Err(error @ CheckError::Differs { choice, at, .. }) => {
                let text =
                    answer.proofs.iter().flat_map(|proof| &proof.choices).find(|it| it.index == choice);
                let before = text.map(|it| served.tokenizer.decode(&it.tokens[..at])).unwrap_or_default();
                let end: String =
                    before.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect();
                Err(error).context(format!("not what the model writes; they agree up to {end:?}"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self) -> Result<Vec<u8>> {
        let shown = self.answer.display();
        let mut bytes = Vec::new();
        let mut source: Box<dyn Read> = match self.answer.as_os_str() == "-" {
            true => Box::new(io::stdin()),
            false => Box::new(File::open(&self.answer).with_context(|| format!("cannot read {shown}"))?),
        };
        let read = source.by_ref().take(ANSWER_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.with_context(|| format!("cannot read {shown}"))?;
        if bytes.len() as u64 > ANSWER_BYTES_MAX {
            bail!("{shown}: an answer has at most {ANSWER_BYTES_MAX} bytes");
        }
        Ok(bytes)
    }
}
