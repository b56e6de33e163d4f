//! `zoo generate`: a trained model writes.

mod logits;
mod sampling;

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use zoo_model::{Decoder, PagePool, TextStream, generate};
use zoo_training::ModelFolder;

use crate::progress::{count, speed};

pub use sampling::Sampling;

/// Longest prompt, bytes.
const PROMPT_BYTES_MAX: u64 = 16 << 20;

/// Arguments of `zoo generate`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  zoo generate runs/shakespeare \"ROMEO:\" --tokens 300
  zoo generate runs/shakespeare/model --greedy --json \"To be\"
  cat letter.txt | zoo generate MODEL -

Equal model, prompt, settings and seed give equal text on every machine. When the context is
full, its last half starts a new one, so a text may be longer than the context; it ends at
--tokens, or where the model ends it. The text goes to stdout, the speed to stderr.")]
pub struct Generate {
    /// An exported model (a Hugging Face folder), or the folder of a run
    model: PathBuf,
    /// What to continue; - reads it from stdin. Default: the start of a new text
    prompt: Option<String>,
    /// Tokens to write at most
    #[arg(long, default_value_t = 200)]
    tokens: usize,
    #[command(flatten)]
    sampling: Sampling,
    /// Print one JSON object instead of the text
    #[arg(long)]
    json: bool,
    /// Write the logits at every token of the prompt, and the greedy continuation, to FILE:
    /// what benches/peers/check_export.py compares with Python
    #[arg(long, value_name = "FILE")]
    logits: Option<PathBuf>,
}

#[derive(Serialize)]
struct Generated {
    prompt: String,
    text: String,
    prompt_tokens: usize,
    tokens: Vec<u32>,
    seed: u64,
    seconds: f64,
    tokens_per_s: f64,
}

impl Generate {
    /// Writes text to stdout, token by token.
    pub fn run(self) -> Result<()> {
        let prompt = match self.prompt.as_deref() {
            Some("-") => read_stdin()?,
            given => given.unwrap_or_default().to_owned(),
        };
        let sampler = self.sampling.sampler()?;
        let ModelFolder { network, tokenizer, ends, .. } = ModelFolder::load(&self.model)?;
        let decoder = Decoder::new(network)?;
        let mut pool = PagePool::new(&decoder, decoder.context());
        if let Some(path) = &self.logits {
            logits::write(path, &decoder, &tokenizer, &prompt, self.tokens)?;
        }
        let prompt_tokens = zoo_training::prompt(&tokenizer, &prompt);
        let (start, mut stream) = (Instant::now(), TextStream::default());
        let mut out = std::io::stdout().lock();
        if !self.json {
            out.write_all(prompt.as_bytes())?;
        }
        let (mut text, mut failure) = (String::new(), None);
        let on_token = &mut |token| {
            if ends.contains(&token) {
                return ControlFlow::Break(());
            }
            let piece = stream.push(tokenizer.token_bytes(token));
            text.push_str(&piece);
            if self.json {
                return ControlFlow::Continue(());
            }
            match out.write_all(piece.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(cause) => {
                    failure = Some(cause);
                    ControlFlow::Break(())
                }
            }
        };
        let mut tokens = generate(&decoder, &mut pool, &prompt_tokens, self.tokens, &sampler, on_token)?;
        let seconds = start.elapsed().as_secs_f64();
        if let Some(cause) = failure {
            return Err(cause).context("cannot write the text");
        }
        let rest = stream.finish();
        let tokens_per_s = tokens.len() as f64 / seconds;
        if self.json {
            text.push_str(&rest);
            tokens.retain(|token| !ends.contains(token));
            let (prompt_tokens, seed) = (prompt_tokens.len(), sampler.seed);
            let generated = Generated { prompt, text, prompt_tokens, tokens, seed, seconds, tokens_per_s };
            writeln!(out, "{}", serde_json::to_string(&generated)?)?;
        } else {
            writeln!(out, "{rest}")?;
            eprintln!("{} tokens, {}", count(tokens.len() as f64), speed(tokens_per_s));
        }
        Ok(())
    }
}

fn read_stdin() -> Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(PROMPT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .context("cannot read the prompt from stdin")?;
    if bytes.len() as u64 > PROMPT_BYTES_MAX {
        bail!(
            "the prompt has more than {PROMPT_BYTES_MAX} bytes\nhint: only its end fits the context anyway; give less"
        );
    }
    match String::from_utf8(bytes) {
        Ok(prompt) => Ok(prompt),
        Err(error) => bail!(
            "the prompt is not UTF-8 at byte {}\nhint: convert it first, for instance with iconv",
            error.utf8_error().valid_up_to()
        ),
    }
}
