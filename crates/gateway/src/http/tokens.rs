//! From text to tokens and back.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::beside;
use super::body::Body;
use super::error::ApiError;
use crate::limits::{BODY_BYTES_MAX, TOKENIZE_BYTES_MAX};

/// A text, by either of the names that servers use.
#[derive(Deserialize)]
pub(super) struct Tokenize {
    #[serde(alias = "content")]
    prompt: String,
}

#[derive(Deserialize)]
pub(super) struct Detokenize {
    tokens: Vec<u32>,
}

/// No tokens are added before or after: these models are trained without. Control tokens that are spelled out become
/// such tokens: whoever asks for tokens is about to say which ones a model gets.
pub(super) async fn tokenize(
    State(app): State<App>,
    Body(body): Body<Tokenize>,
) -> Result<Json<Value>, ApiError> {
    if body.prompt.len() > TOKENIZE_BYTES_MAX {
        let message = format!("the text has more than {TOKENIZE_BYTES_MAX} bytes\nhint: send it in pieces");
        return Err(ApiError::invalid("prompt", message));
    }
    let tokens = beside(&app, move |served| served.tokenizer.encode_with_controls(&body.prompt)).await?;
    let max = app.engine.capacity().positions;
    Ok(Json(json!({ "count": tokens.len(), "max_model_len": max, "tokens": tokens })))
}

pub(super) async fn detokenize(
    State(app): State<App>,
    Body(body): Body<Detokenize>,
) -> Result<Json<Value>, ApiError> {
    // A token may be many bytes: the answer is bounded like a request.
    let bytes: usize = body.tokens.iter().map(|&token| app.served.tokenizer.token_bytes(token).len()).sum();
    if bytes > BODY_BYTES_MAX {
        return Err(ApiError::invalid(
            "tokens",
            format!("they are {bytes} bytes of text, more than {BODY_BYTES_MAX}"),
        ));
    }
    Ok(Json(json!({ "prompt": app.served.tokenizer.decode(&body.tokens) })))
}

pub(super) async fn info(State(app): State<App>) -> Json<Value> {
    let served = &app.served;
    let end = served.tokenizer.end_of_text().or_else(|| served.ends.first().copied());
    let text = |token: Option<u32>| token.and_then(|token| served.tokenizer.control_text(token));
    // Who scores a model starts a text with the token that ends one where there is no other.
    let start = served.tokenizer.encode("\n").first().map(|token| served.tokenizer.decode(&[*token]));
    let end_text = text(end).map(str::to_owned).or(start);
    Json(json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "vocab_size": served.tokenizer.vocab_size(),
        "model_max_length": app.engine.capacity().positions,
        "add_bos_token": false,
        "bos_token": end_text,
        "eos_token": end_text,
        "pad_token": end_text,
        "eos_token_id": end,
        "chat_template": served.chat.as_ref().map(|chat| &chat.template),
    }))
}
