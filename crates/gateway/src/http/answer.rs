//! What answers have in common: names, counts, and what it takes to repeat them.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::App;
use super::error::ApiError;
use crate::check::{Proof, Repeatable};
use crate::engine::{Event, Finish, TokenReport, Work};
use crate::served::Served;

/// One request on its way: its texts, and what every part of the answer says.
pub(super) struct Request {
    pub served: Arc<Served>,
    pub id: String,
    pub created: u64,
    /// Seed of the request.
    pub seed: u64,
    pub texts: Vec<Text>,
}

/// One text, as far as it is known.
pub(super) struct Text {
    pub work: Work,
    pub events: UnboundedReceiver<Event>,
    /// Tokens written.
    pub tokens: Vec<u32>,
}

impl Request {
    /// Hands all texts of a request to the engine.
    pub fn submit(app: &App, prefix: &str, seed: u64, works: Vec<Work>) -> Result<Self, ApiError> {
        let id = getrandom::u64()
            .map_err(|error| ApiError::failed(format!("the system gives no entropy: {error}")))?;
        let mut texts = Vec::with_capacity(works.len());
        for work in works {
            let events = app.engine.submit(work.clone())?;
            texts.push(Text { work, events, tokens: Vec::new() });
        }
        let served = Arc::clone(&app.served);
        Ok(Self { served, id: format!("{prefix}-{id:016x}"), created: unix_seconds(), seed, texts })
    }

    /// The fields that every object of an answer has.
    pub fn head(&self, object: &str) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.served.name,
            "system_fingerprint": self.served.fingerprint(),
        })
    }

    /// Tokens read and written. A prompt that is continued several times counts once.
    pub fn usage(&self, choices: usize) -> Value {
        let prompt: usize = self.texts.iter().step_by(choices).map(|text| text.work.prompt.len()).sum();
        let completion: usize = self.texts.iter().map(|text| text.tokens.len()).sum();
        json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion })
    }

    /// What it takes to repeat some of the texts, all of them known to their ends.
    pub fn proof(&self, indices: impl IntoIterator<Item = usize>) -> Proof {
        let text = |index: usize| {
            let text = &self.texts[index];
            Repeatable {
                index,
                prompt: text.work.prompt.clone(),
                tokens: text.tokens.clone(),
                tokens_max: text.work.tokens_max,
                sampler: text.work.sampler,
                stop: text.work.stops.clone(),
                ignore_end: text.work.ignore_end,
            }
        };
        Proof {
            model: self.served.digest,
            profile: self.served.profile,
            seed: self.seed,
            choices: indices.into_iter().map(text).collect(),
        }
    }
}

/// All of one text.
pub(super) struct Whole {
    pub text: String,
    pub finish: Finish,
    /// Tokens of the prompt, if their likelihoods were asked for.
    pub prompt: Vec<TokenReport>,
    pub written: Vec<TokenReport>,
}

impl Text {
    /// The next event; an engine that is gone is an error of its own.
    pub async fn next(&mut self) -> Result<Event, ApiError> {
        let event = self.events.recv().await;
        self.take(event)
    }

    /// An event that is there already.
    pub fn next_now(&mut self) -> Result<Option<Event>, ApiError> {
        match self.events.try_recv() {
            Ok(event) => self.take(Some(event)).map(Some),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(None),
        }
    }

    pub fn take(&mut self, event: Option<Event>) -> Result<Event, ApiError> {
        match event {
            Some(Event::Failed(cause)) => Err(ApiError::failed(cause)),
            Some(event) => {
                if let Event::Token { report, .. } = &event {
                    self.tokens.push(report.token);
                }
                Ok(event)
            }
            None => {
                Err(ApiError::failed("the engine has stopped\nhint: restart the server; its log says why"))
            }
        }
    }

    /// Waits for the end.
    pub async fn whole(&mut self) -> Result<Whole, ApiError> {
        let (mut all, mut prompt, mut written) = (String::new(), Vec::new(), Vec::new());
        loop {
            match self.next().await? {
                Event::Prompt(more) => prompt.extend(more),
                Event::Token { report, text } => {
                    written.push(report);
                    all.push_str(&text);
                }
                Event::Done { finish, text } => {
                    all.push_str(&text);
                    return Ok(Whole { text: all, finish, prompt, written });
                }
                Event::Failed(cause) => return Err(ApiError::failed(cause)),
            }
        }
    }
}

/// A token's text as OpenAI's completions show it: what is not UTF-8 by itself as escaped bytes, so that different
/// tokens never look alike.
pub(super) fn token_text(served: &Served, token: u32) -> String {
    if let Some(control) = served.tokenizer.control_text(token) {
        return control.to_owned();
    }
    let bytes = served.tokenizer.token_bytes(token);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |text, byte| text + &format!("\\x{byte:02x}")),
    }
}

/// Adds fields to an object.
pub(super) fn with(mut object: Value, fields: Value) -> Value {
    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
        object.extend(fields);
    }
    object
}

/// A number that JSON can say: what has probability 0 has a very negative logarithm.
pub(super) fn finite(value: f32) -> f32 {
    value.max(-9999.0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the date of an answer is what its clients ask for; nothing follows from it"
)]
fn unix_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
