//! `POST /v1/chat/completions`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Request, finite, token_text, with};
use super::body::Body;
use super::error::ApiError;
use super::models::check_name;
use super::request::{Common, check_length};
use super::stream::{self, Pieces};
use super::{App, beside};
use crate::engine::{Event, Finish, TokenReport};
use crate::limits::{MESSAGES_MAX, TOP_LOGPROBS_MAX};
use crate::prompt::{Message, of_conversation};
use crate::served::Served;

#[derive(Debug, Deserialize)]
pub(super) struct Conversation {
    #[serde(flatten)]
    common: Common,
    messages: Vec<Said>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Said {
    role: String,
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

pub(super) async fn create(
    State(app): State<App>,
    Body(body): Body<Conversation>,
) -> Result<Response, ApiError> {
    check_name(&app.served, body.common.model.as_deref())?;
    let wants = body.logprobs.unwrap_or(false);
    let top = body.top_logprobs.unwrap_or(0);
    if top > TOP_LOGPROBS_MAX || (top > 0 && !wants) {
        let message = format!("at most {TOP_LOGPROBS_MAX} are possible, and only with logprobs: true");
        return Err(ApiError::invalid("top_logprobs", message));
    }
    let mut manner = body.common.manner(wants.then_some(top), false)?;
    let messages = messages(body.messages)?;
    let bytes = messages.iter().map(|message| message.content.len()).sum();
    check_length(&app, bytes, "messages")?;
    let prompt = beside(&app, move |served| of_conversation(served, &messages)).await?.map_err(|cause| {
        ApiError::invalid("messages", format!("the model's chat template refuses them: {cause}"))
    })?;
    manner.stops.extend(prompt.stops);
    let tokens_max = body.max_completion_tokens.or(body.max_tokens);
    let works = manner.works(&app, vec![prompt.tokens], tokens_max, "messages")?;
    let mut request = Request::submit(&app, "chatcmpl", manner.sampler.seed, works)?;
    if body.common.is_stream() {
        let include_usage = body.common.include_usage();
        return Ok(stream::respond(request, Streamed { include_usage }));
    }
    let mut choices = Vec::with_capacity(request.texts.len());
    for index in 0..request.texts.len() {
        let whole = request.texts[index].whole().await?;
        choices.push(json!({
            "index": index,
            "message": { "role": "assistant", "content": whole.text, "refusal": null },
            "logprobs": logprobs(&request, index, &whole.written),
            "finish_reason": whole.finish.name(),
        }));
    }
    let usage = request.usage(choices.len());
    let zoo = request.proof(0..choices.len());
    let fields = json!({ "choices": choices, "usage": usage, "zoo": zoo });
    Ok(Json(with(request.head("chat.completion"), fields)).into_response())
}

fn messages(said: Vec<Said>) -> Result<Vec<Message>, ApiError> {
    if said.is_empty() || said.len() > MESSAGES_MAX {
        return Err(ApiError::invalid("messages", format!("there must be 1 to {MESSAGES_MAX} messages")));
    }
    said.into_iter().map(message).collect()
}

fn message(said: Said) -> Result<Message, ApiError> {
    let content = match said.content {
        None => String::new(),
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => {
            let mut content = String::new();
            for part in parts {
                match part.text {
                    Some(text) if part.kind == "text" => content.push_str(&text),
                    _ => return Err(ApiError::invalid("messages", "only parts of type text are possible")),
                }
            }
            content
        }
    };
    // What the newest clients call a system message.
    let role = if said.role == "developer" { "system".to_owned() } else { said.role };
    if !["system", "user", "assistant"].contains(&role.as_str()) {
        return Err(ApiError::invalid("messages", "a role must be system, user or assistant"));
    }
    Ok(Message { role, content })
}

/// The likelihoods of tokens, one object each.
fn logprobs(request: &Request, index: usize, reports: &[TokenReport]) -> Option<Value> {
    request.texts[index].work.likelihoods?;
    let served = &request.served;
    let token = |report: &TokenReport| {
        let own = entry(served, report.token, report.log_probability.unwrap_or(0.0));
        let top: Vec<Value> =
            report.top.iter().map(|(token, likely)| entry(served, *token, *likely)).collect();
        with(own, json!({ "top_logprobs": top }))
    };
    Some(json!({ "content": reports.iter().map(token).collect::<Vec<_>>(), "refusal": null }))
}

fn entry(served: &Served, token: u32, log_probability: f32) -> Value {
    let text = token_text(served, token);
    let bytes = match served.tokenizer.control_text(token) {
        Some(_) => text.as_bytes(),
        None => served.tokenizer.token_bytes(token),
    };
    json!({ "token": text, "logprob": finite(log_probability), "bytes": bytes })
}

/// A conversation's answers as they come.
struct Streamed {
    include_usage: bool,
}

impl Streamed {
    fn object(&self, request: &Request, fields: Value) -> Value {
        let usage = if self.include_usage { json!({ "usage": null }) } else { json!({}) };
        with(with(request.head("chat.completion.chunk"), usage), fields)
    }

    fn piece(
        &self,
        request: &Request,
        index: usize,
        delta: Value,
        logprobs: Option<Value>,
        finish: Option<Finish>,
    ) -> Value {
        let choice = json!({
            "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish.map(Finish::name),
        });
        self.object(request, json!({ "choices": [choice] }))
    }
}

impl Pieces for Streamed {
    fn begin(&mut self, request: &Request) -> Vec<Value> {
        let delta = || json!({ "role": "assistant", "content": "", "refusal": null });
        (0..request.texts.len()).map(|index| self.piece(request, index, delta(), None, None)).collect()
    }

    fn pieces(&mut self, request: &Request, index: usize, events: Vec<Event>) -> Vec<Value> {
        let (mut text, mut ended, mut reports) = (String::new(), None, Vec::new());
        for event in events {
            match event {
                Event::Token { report, text: more } => {
                    text.push_str(&more);
                    reports.push(report);
                }
                Event::Done { finish, text: more } => {
                    text.push_str(&more);
                    ended = Some(finish);
                }
                Event::Prompt(_) | Event::Failed(_) => {}
            }
        }
        let mut objects = Vec::new();
        let logs = logprobs(request, index, &reports).filter(|_| !reports.is_empty());
        if !text.is_empty() || logs.is_some() {
            objects.push(self.piece(request, index, json!({ "content": text }), logs, None));
        }
        if ended.is_some() {
            let last = self.piece(request, index, json!({}), None, ended);
            objects.push(with(last, json!({ "zoo": request.proof([index]) })));
        }
        objects
    }

    fn end(&mut self, request: &Request) -> Vec<Value> {
        if !self.include_usage {
            return Vec::new();
        }
        let fields = json!({ "choices": [], "usage": request.usage(request.texts.len()) });
        vec![self.object(request, fields)]
    }
}
