//! Executing an answer again, to compare.
//!
//! An answer says which model, profile and seed it came from, and the tokens of its prompt and text. Whoever has the
//! model computes the logits of all of them in a few passes and makes every choice again: each must be the same
//! token. That is faster than writing was, since a whole text passes through the network together.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zoo_content::Digest;
use zoo_kernels::random;
use zoo_model::{Decoder, NetworkError, PagePool, Positions, Profile, Sampler, Sequence, Step, StoppedText};

use crate::limits::CHOICES_MAX;
use crate::served::Served;

/// Tokens of a pass.
const PIECE: usize = 256;

/// Keeps the seeds of choices apart from every other use of a seed.
const CHOICES: u64 = u64::from_le_bytes(*b"choices\0");

/// The seed of a prompt's choice number `choice`: the first has the request's own, the others have numbers drawn from it, of 53
/// bits, so that every JSON reader keeps them exactly. So the choices of a request differ, and each can be had
/// again by itself.
pub fn choice_seed(seed: u64, choice: u64) -> u64 {
    if choice == 0 { seed } else { random::bits(seed, CHOICES, choice) >> 11 }
}

/// What an answer says about itself: the object `zoo`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Digest of the model's parameters.
    pub model: Digest,
    /// The rule of its matrix products.
    pub profile: Profile,
    /// Seed of the request.
    pub seed: u64,
    /// Its texts.
    pub choices: Vec<Repeatable>,
}

/// One text, with all that it depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repeatable {
    /// Which choice of the answer.
    pub index: usize,
    /// Tokens of the prompt.
    pub prompt: Vec<u32>,
    /// Tokens written.
    pub tokens: Vec<u32>,
    /// How many were allowed.
    pub tokens_max: usize,
    /// How each was chosen, with the choice's own seed.
    pub sampler: Sampler,
    /// What ended the text.
    pub stop: Vec<String>,
    /// Whether it went on where the model would have ended.
    pub ignore_end: bool,
}

/// An answer as it was received: in one piece, or as the events of a stream.
#[derive(Debug)]
pub struct Answer {
    /// What it says about itself.
    pub proofs: Vec<Proof>,
    /// The text of each choice, where the answer has it in one piece.
    pub texts: Vec<(usize, String)>,
}

/// Why an answer cannot be executed again, or is not what the model says.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// Not an answer.
    #[error(
        "the answer cannot be read: {0}\nhint: give the JSON that the server sent, or its stream of data: lines"
    )]
    Malformed(String),
    /// Nothing to check.
    #[error("the answer has no object 'zoo'\nhint: keep the whole answer of a server that zoo serve runs")]
    NoProof,
    /// It came from elsewhere.
    #[error(
        "the answer came from {what} {theirs}, this is {ours}\nhint: check it against the model that it names"
    )]
    Other {
        /// "model" or "profile".
        what: &'static str,
        /// What the answer names.
        theirs: String,
        /// What is here.
        ours: String,
    },
    /// It cannot be computed.
    #[error("choice {choice}: {cause}")]
    Impossible {
        /// Which.
        choice: usize,
        /// Why.
        cause: String,
    },
    /// The model chooses otherwise.
    #[error("choice {choice}: token {at} is {found}, the model writes {expected}")]
    Differs {
        /// Which choice.
        choice: usize,
        /// The first token that differs, counted from 0 after the prompt.
        at: usize,
        /// What the answer says.
        found: u32,
        /// What the model says.
        expected: u32,
    },
    /// The tokens are right, but the text ends elsewhere or says something else.
    #[error("choice {choice}: {cause}")]
    Text {
        /// Which.
        choice: usize,
        /// How.
        cause: &'static str,
    },
}

/// What was found to be right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Texts.
    pub choices: usize,
    /// Tokens, each chosen again.
    pub tokens: usize,
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is none, or says nothing about itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckError> {
        let malformed = |error: serde_json::Error| CheckError::Malformed(error.to_string());
        let text = str::from_utf8(bytes).map_err(|error| CheckError::Malformed(error.to_string()))?;
        let mut objects: Vec<Value> = Vec::new();
        if text.trim_start().starts_with("data:") {
            let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
            for data in data.filter(|data| *data != "[DONE]") {
                objects.push(serde_json::from_str(data).map_err(malformed)?);
            }
        } else {
            objects.push(serde_json::from_str(text).map_err(malformed)?);
        }
        let mut answer = Self { proofs: Vec::new(), texts: Vec::new() };
        for object in &mut objects {
            if !object["zoo"].is_null() {
                answer.proofs.push(serde_json::from_value(object["zoo"].take()).map_err(malformed)?);
            }
            let is_piece = object["object"].as_str().is_some_and(|it| it.ends_with(".chunk"));
            for choice in object["choices"].as_array().into_iter().flatten().filter(|_| !is_piece) {
                let text = choice["message"]["content"].as_str().or_else(|| choice["text"].as_str());
                if let (Some(text), Some(index)) = (text, choice["index"].as_u64()) {
                    answer.texts.push((index as usize, text.to_owned()));
                }
            }
        }
        if objects.len() > 1 {
            answer.texts.clear();
        }
        let choices: usize = answer.proofs.iter().map(|proof| proof.choices.len()).sum();
        match choices {
            0 => Err(CheckError::NoProof),
            1..=CHOICES_MAX => Ok(answer),
            _ => Err(CheckError::Malformed(format!("it has more than {CHOICES_MAX} choices"))),
        }
    }
}

/// Executes an answer again.
///
/// # Errors
/// At the first difference, or when the answer cannot be computed with this model.
pub fn check(decoder: &Decoder, served: &Served, answer: &Answer) -> Result<Checked, CheckError> {
    let mut checked = Checked::default();
    let mut pool = PagePool::new(decoder, decoder.context());
    for proof in &answer.proofs {
        same("model", &proof.model, &served.digest)?;
        same("profile", &proof.profile, &served.profile)?;
        for choice in &proof.choices {
            check_choice(decoder, served, &mut pool, choice)?;
            let shown = answer.texts.iter().find(|(index, _)| *index == choice.index);
            if let Some((_, shown)) = shown {
                check_text(served, choice, shown)?;
            }
            checked.choices += 1;
            checked.tokens += choice.tokens.len();
        }
    }
    Ok(checked)
}

fn same<T: PartialEq + ToString>(what: &'static str, theirs: &T, ours: &T) -> Result<(), CheckError> {
    if theirs == ours {
        return Ok(());
    }
    Err(CheckError::Other { what, theirs: theirs.to_string(), ours: ours.to_string() })
}

fn check_choice(
    decoder: &Decoder,
    served: &Served,
    pool: &mut PagePool,
    choice: &Repeatable,
) -> Result<(), CheckError> {
    let impossible = |cause: String| CheckError::Impossible { choice: choice.index, cause };
    let Sampler { temperature, top_p, .. } = choice.sampler;
    if !(temperature.is_finite() && temperature >= 0.0 && (0.0..=1.0).contains(&top_p)) {
        return Err(impossible("its sampling settings make no sense".to_owned()));
    }
    if choice.prompt.is_empty() {
        return Err(impossible("its prompt is empty".to_owned()));
    }
    let mut first_difference = None;
    // The last token was written and never read.
    let read = choice.tokens.len().saturating_sub(1);
    let text: Vec<u32> = choice.prompt.iter().chain(&choice.tokens[..read]).copied().collect();
    if !choice.tokens.is_empty() {
        each_logits(decoder, pool, &text, choice.prompt.len() - 1, |position, logits| {
            let (at, expected) =
                (position + 1 - choice.prompt.len(), choice.sampler.sample(logits, position as u64 + 1));
            let found = choice.tokens[at];
            if found != expected {
                first_difference = Some(CheckError::Differs { choice: choice.index, at, found, expected });
            }
            first_difference.is_none()
        })
        .map_err(|error| impossible(error.to_string()))?;
    }
    first_difference.map_or(Ok(()), Err)?;
    check_end(decoder, served, choice)
}

/// Gives the logits after every position of `text` from `from` on to `look`, until that says no.
fn each_logits(
    decoder: &Decoder,
    pool: &mut PagePool,
    text: &[u32],
    from: usize,
    mut look: impl FnMut(usize, &[f32]) -> bool,
) -> Result<(), NetworkError> {
    // Nothing is taken from what was remembered: who checks computes everything.
    let mut sequence = Sequence::default();
    let mut work = || {
        for (tokens, first) in text.chunks(PIECE).zip((0..).step_by(PIECE)) {
            let positions = if first + tokens.len() > from { Positions::All } else { Positions::None };
            let step = Step { sequence: &mut sequence, tokens, positions };
            let logits = decoder.decode(pool, &mut [step])?;
            for row in 0..logits.len() {
                if first + row >= from && !look(first + row, logits.row(row)?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    };
    let outcome = work();
    pool.table.release(&mut sequence);
    outcome
}

/// Whether the text ended where it had to, and nowhere else.
fn check_end(decoder: &Decoder, served: &Served, choice: &Repeatable) -> Result<(), CheckError> {
    let wrong = |cause| Err(CheckError::Text { choice: choice.index, cause });
    let mut text = StoppedText::new(choice.stop.clone());
    for (at, &token) in choice.tokens.iter().enumerate() {
        let ends = !choice.ignore_end && served.ends.contains(&token);
        if !ends {
            text.push(served.tokenizer.token_bytes(token));
        }
        if (ends || text.is_over()) && at + 1 < choice.tokens.len() {
            return wrong("it goes on after its end");
        }
        if ends || text.is_over() {
            return Ok(());
        }
    }
    let room = (decoder.context() + 1).saturating_sub(choice.prompt.len());
    match choice.tokens.len().cmp(&choice.tokens_max.min(room)) {
        std::cmp::Ordering::Less => wrong("it ends too early: the model would have gone on"),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => wrong("it has more tokens than were allowed"),
    }
}

/// Whether the text that was shown is that of the tokens, perhaps after its prompt.
fn check_text(served: &Served, choice: &Repeatable, shown: &str) -> Result<(), CheckError> {
    let mut text = StoppedText::new(choice.stop.clone());
    let mut expected = String::new();
    for &token in &choice.tokens {
        if choice.ignore_end || !served.ends.contains(&token) {
            expected.push_str(&text.push(served.tokenizer.token_bytes(token)));
        }
    }
    expected.push_str(&text.finish());
    let after_prompt = shown.strip_prefix(&served.tokenizer.decode(&choice.prompt));
    if shown == expected || after_prompt == Some(&expected) {
        return Ok(());
    }
    Err(CheckError::Text { choice: choice.index, cause: "its text is not that of its tokens" })
}
