//! `POST /v1/completions`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zoo_model::TextStream;

use super::answer::{Request, Whole, finite, token_text, with};
use super::body::Body;
use super::error::ApiError;
use super::models::check_name;
use super::request::{Common, check_length};
use super::stream::{self, Pieces};
use super::{App, beside};
use crate::engine::{Event, Finish, TokenReport};
use crate::limits::TOP_LOGPROBS_MAX;
use crate::served::Served;

/// Tokens of a completion where nobody says how many: OpenAI's own default.
const TOKENS_DEFAULT: usize = 16;

#[derive(Debug, Deserialize)]
pub(super) struct Completion {
    #[serde(flatten)]
    common: Common,
    prompt: Option<Prompt>,
    max_tokens: Option<usize>,
    logprobs: Option<usize>,
    echo: Option<bool>,
    best_of: Option<usize>,
    suffix: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

pub(super) async fn create(
    State(app): State<App>,
    Body(body): Body<Completion>,
) -> Result<Response, ApiError> {
    check_name(&app.served, body.common.model.as_deref())?;
    let top = body.logprobs;
    if top.is_some_and(|top| top > TOP_LOGPROBS_MAX) {
        return Err(ApiError::invalid("logprobs", format!("at most {TOP_LOGPROBS_MAX} are possible")));
    }
    let manner = body.common.manner(top, body.echo.unwrap_or(false))?;
    if body.best_of.is_some_and(|best_of| best_of != manner.choices) {
        return Err(ApiError::invalid("best_of", "only n is possible here\nhint: leave it out"));
    }
    if body.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::invalid("suffix", "this server does not support it\nhint: leave it out"));
    }
    let prompts = prompts(&app, body.prompt).await?;
    let works = manner.works(&app, prompts, Some(body.max_tokens.unwrap_or(TOKENS_DEFAULT)), "prompt")?;
    let mut request = Request::submit(&app, "cmpl", manner.sampler.seed, works)?;
    if body.common.is_stream() {
        let include_usage = body.common.include_usage();
        let logs = request.texts.iter().map(|_| TokenLog::default()).collect();
        return Ok(stream::respond(request, Streamed { logs, include_usage, choices: manner.choices }));
    }
    let mut choices = Vec::with_capacity(request.texts.len());
    for index in 0..request.texts.len() {
        let whole = request.texts[index].whole().await?;
        choices.push(choice(&request, index, whole));
    }
    let usage = request.usage(manner.choices);
    let zoo = request.proof(0..choices.len());
    let fields = json!({ "choices": choices, "usage": usage, "zoo": zoo });
    Ok(Json(with(request.head("text_completion"), fields)).into_response())
}

async fn prompts(app: &App, prompt: Option<Prompt>) -> Result<Vec<Vec<u32>>, ApiError> {
    let texts = match prompt {
        None => vec![String::new()],
        Some(Prompt::Text(text)) => vec![text],
        Some(Prompt::Texts(texts)) => texts,
        Some(Prompt::Tokens(tokens)) => return Ok(vec![tokens]),
        Some(Prompt::TokenLists(lists)) => return Ok(lists),
    };
    texts.iter().try_for_each(|text| check_length(app, text.len(), "prompt"))?;
    let cut = |served: &Served, texts: &[String]| {
        texts.iter().map(|text| zoo_training::prompt(&served.tokenizer, text)).collect()
    };
    beside(app, move |served| cut(served, &texts)).await
}

fn choice(request: &Request, index: usize, whole: Whole) -> Value {
    let served = &request.served;
    let text = &request.texts[index];
    let start = if text.work.echo { served.tokenizer.decode(&text.work.prompt) } else { String::new() };
    let logprobs = text.work.likelihoods.map(|_| {
        let mut log = TokenLog::default();
        log.add(served, &whole.prompt);
        log.add(served, &whole.written);
        log.take()
    });
    json!({
        "index": index,
        "text": start + &whole.text,
        "logprobs": logprobs,
        "finish_reason": whole.finish.name(),
    })
}

/// The likelihoods of tokens, in lists as completions have them.
#[derive(Default)]
struct TokenLog {
    tokens: Vec<String>,
    log_probabilities: Vec<Option<f32>>,
    top: Vec<Option<Map<String, Value>>>,
    offsets: Vec<usize>,
    /// Characters of the text so far.
    stream: TextStream,
    characters: usize,
}

impl TokenLog {
    fn add(&mut self, served: &Served, reports: &[TokenReport]) {
        for report in reports {
            self.tokens.push(token_text(served, report.token));
            self.offsets.push(self.characters);
            self.characters += self.stream.push(served.tokenizer.token_bytes(report.token)).chars().count();
            self.log_probabilities.push(report.log_probability.map(finite));
            self.top.push(report.log_probability.map(|own| top_of(served, report, own)));
        }
    }

    /// What was added since the last time.
    fn take(&mut self) -> Value {
        json!({
            "tokens": std::mem::take(&mut self.tokens),
            "token_logprobs": std::mem::take(&mut self.log_probabilities),
            "top_logprobs": std::mem::take(&mut self.top),
            "text_offset": std::mem::take(&mut self.offsets),
        })
    }
}

/// The most likely tokens by their text. As OpenAI's, it has the token itself too, likely or not.
fn top_of(served: &Served, report: &TokenReport, own: f32) -> Map<String, Value> {
    let mut top = Map::new();
    for (token, log_probability) in report.top.iter().copied().chain([(report.token, own)]) {
        // The first of equal texts is the most likely.
        top.entry(token_text(served, token)).or_insert_with(|| json!(finite(log_probability)));
    }
    top
}

/// Completions as they come.
struct Streamed {
    logs: Vec<TokenLog>,
    include_usage: bool,
    choices: usize,
}

impl Streamed {
    fn object(&self, request: &Request, fields: Value) -> Value {
        let usage = if self.include_usage { json!({ "usage": null }) } else { json!({}) };
        with(with(request.head("text_completion"), usage), fields)
    }

    fn piece(&mut self, request: &Request, index: usize, text: &str, finish: Option<Finish>) -> Value {
        let logprobs = request.texts[index].work.likelihoods.map(|_| self.logs[index].take());
        let choice = json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": finish.map(Finish::name) });
        let piece = self.object(request, json!({ "choices": [choice] }));
        match finish {
            Some(_) => with(piece, json!({ "zoo": request.proof([index]) })),
            None => piece,
        }
    }
}

impl Pieces for Streamed {
    fn begin(&mut self, request: &Request) -> Vec<Value> {
        let mut objects = Vec::new();
        for (index, text) in request.texts.iter().enumerate() {
            if text.work.echo {
                let prompt = request.served.tokenizer.decode(&text.work.prompt);
                objects.push(self.piece(request, index, &prompt, None));
            }
        }
        objects
    }

    fn pieces(&mut self, request: &Request, index: usize, events: Vec<Event>) -> Vec<Value> {
        let (mut text, mut ended, mut tokens) = (String::new(), None, 0);
        for event in events {
            match event {
                Event::Prompt(reports) => {
                    tokens += reports.len();
                    self.logs[index].add(&request.served, &reports);
                }
                Event::Token { report, text: more } => {
                    tokens += 1;
                    self.logs[index].add(&request.served, &[report]);
                    text.push_str(&more);
                }
                Event::Done { finish, text: more } => {
                    text.push_str(&more);
                    ended = Some(finish);
                }
                Event::Failed(_) => {}
            }
        }
        let has_logs = request.texts[index].work.likelihoods.is_some() && tokens > 0;
        if text.is_empty() && ended.is_none() && !has_logs {
            return Vec::new();
        }
        vec![self.piece(request, index, &text, ended)]
    }

    fn end(&mut self, request: &Request) -> Vec<Value> {
        if !self.include_usage {
            return Vec::new();
        }
        let fields = json!({ "choices": [], "usage": request.usage(self.choices) });
        vec![self.object(request, fields)]
    }
}
