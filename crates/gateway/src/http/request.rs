//! What completions and conversations ask for alike, every value checked.

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Number, Value};
use zoo_model::Sampler;

use super::App;
use super::error::ApiError;
use crate::check::choice_seed;
use crate::engine::{Capacity, Work};
use crate::limits::{CHOICES_MAX, STOP_BYTES_MAX, STOPS_MAX};

/// Fields of both kinds of requests. Absent and null are the same; fields that change nothing here are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Common {
    pub model: Option<String>,
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    n: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f64>,
    top_k: Option<i64>,
    seed: Option<Number>,
    stop: Option<Stop>,
    ignore_eos: Option<bool>,
    // What is not supported is refused where it would change the answer.
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    logit_bias: Option<Value>,
    response_format: Option<Value>,
    tools: Option<Value>,
    functions: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamOptions {
    pub include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

/// How the texts of a request are written.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    /// Texts for each prompt.
    pub choices: usize,
    /// With the seed of the request; each choice has one of its own.
    pub sampler: Sampler,
    pub stops: Vec<String>,
    pub ignore_end: bool,
    /// How many likely tokens to name beside each; none: no likelihoods at all.
    pub likelihoods: Option<usize>,
    pub echo: bool,
}

impl Common {
    /// Checks what both kinds have.
    pub fn manner(&self, likelihoods: Option<usize>, echo: bool) -> Result<Manner, ApiError> {
        self.refuse_unsupported()?;
        let temperature = self.temperature.unwrap_or(1.0);
        if !(temperature.is_finite() && (0.0..=100.0).contains(&temperature)) {
            return Err(ApiError::invalid(
                "temperature",
                format!("{temperature} is not possible\nhint: use 0 to 2"),
            ));
        }
        let top_p = self.top_p.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&top_p) {
            return Err(ApiError::invalid("top_p", format!("{top_p} is not possible\nhint: use 0 to 1")));
        }
        // As elsewhere, -1 stands for all.
        let top_k = usize::try_from(self.top_k.unwrap_or(0).max(0)).unwrap_or(usize::MAX);
        let choices = self.n.unwrap_or(1);
        if !(1..=CHOICES_MAX).contains(&choices) {
            return Err(ApiError::invalid(
                "n",
                format!("{choices} is not possible\nhint: use 1 to {CHOICES_MAX}"),
            ));
        }
        let sampler = Sampler { temperature, top_k, top_p, seed: self.seed()? };
        let (stops, ignore_end) = (self.stops()?, self.ignore_eos.unwrap_or(false));
        Ok(Manner { choices, sampler, stops, ignore_end, likelihoods, echo })
    }

    pub fn is_stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|it| it.include_usage).unwrap_or(false)
    }

    /// The seed that was given, or a fresh one that every JSON reader keeps exactly. A negative seed counts down from
    /// the largest, as 64-bit integers do.
    fn seed(&self) -> Result<u64, ApiError> {
        match &self.seed {
            Some(seed) => seed
                .as_u64()
                .or_else(|| seed.as_i64().map(i64::cast_unsigned))
                .ok_or_else(|| ApiError::invalid("seed", format!("{seed} is not an integer of 64 bits"))),
            None => getrandom::u64().map(|bits| bits >> 11).map_err(|error| {
                ApiError::failed(format!("the system gives no entropy for a seed: {error}"))
            }),
        }
    }

    fn stops(&self) -> Result<Vec<String>, ApiError> {
        let stops = match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Several(stops)) => stops.clone(),
        };
        if stops.len() > STOPS_MAX {
            return Err(ApiError::invalid("stop", format!("there are more than {STOPS_MAX} stop sequences")));
        }
        if stops.iter().any(|stop| stop.len() > STOP_BYTES_MAX) {
            return Err(ApiError::invalid(
                "stop",
                format!("a stop sequence has more than {STOP_BYTES_MAX} bytes"),
            ));
        }
        Ok(stops)
    }

    fn refuse_unsupported(&self) -> Result<(), ApiError> {
        let is_set = |value: &Option<Value>| match value {
            None | Some(Value::Null) => false,
            Some(Value::Array(several)) => !several.is_empty(),
            Some(Value::Object(fields)) => !fields.is_empty(),
            Some(_) => true,
        };
        let is_text = self.response_format.as_ref().is_none_or(|it| it.is_null() || it["type"] == "text");
        let wrong = [
            ("presence_penalty", self.presence_penalty.is_some_and(|it| it != 0.0)),
            ("frequency_penalty", self.frequency_penalty.is_some_and(|it| it != 0.0)),
            ("logit_bias", is_set(&self.logit_bias)),
            ("response_format", !is_text),
            ("tools", is_set(&self.tools)),
            ("functions", is_set(&self.functions)),
        ];
        match wrong.into_iter().find(|(_, is_wrong)| *is_wrong) {
            Some((field, _)) => {
                Err(ApiError::invalid(field, "this server does not support it\nhint: leave it out"))
            }
            None => Ok(()),
        }
    }
}

impl Manner {
    /// The texts to write: for each prompt, each choice.
    pub fn works(
        &self,
        app: &App,
        prompts: Vec<Vec<u32>>,
        tokens_max: Option<usize>,
        param: &'static str,
    ) -> Result<Vec<Work>, ApiError> {
        let capacity = app.engine.capacity();
        if prompts.is_empty() {
            return Err(ApiError::invalid(param, "there is no prompt\nhint: give at least one"));
        }
        if prompts.len() * self.choices > CHOICES_MAX {
            let message = format!(
                "{} prompts times n = {} are more than {CHOICES_MAX} texts\nhint: send several requests",
                prompts.len(),
                self.choices
            );
            return Err(ApiError::invalid(param, message));
        }
        let mut works = Vec::with_capacity(prompts.len() * self.choices);
        for prompt in prompts {
            check_prompt(capacity, &prompt, param)?;
            // The last token of a text is written but never read, so it needs no position.
            let room = capacity.positions + 1 - prompt.len();
            for choice in 0..self.choices {
                works.push(Work {
                    prompt: prompt.clone(),
                    tokens_max: tokens_max.unwrap_or(room).min(room),
                    sampler: Sampler { seed: choice_seed(self.sampler.seed, choice as u64), ..self.sampler },
                    stops: self.stops.clone(),
                    ignore_end: self.ignore_end,
                    likelihoods: self.likelihoods,
                    echo: self.echo,
                });
            }
        }
        Ok(works)
    }
}

/// Refuses what is too long however it is cut into tokens.
pub(super) fn check_length(app: &App, bytes: usize, param: &'static str) -> Result<(), ApiError> {
    let (least, positions) = (app.served.tokens_min(bytes), app.engine.capacity().positions);
    if least > positions { Err(too_long(&format!("at least {least}"), positions, param)) } else { Ok(()) }
}

fn too_long(tokens: &str, positions: usize, param: &'static str) -> ApiError {
    let message = format!(
        "the prompt has {tokens} tokens, and this server's texts have at most {positions}\nhint: give a shorter prompt"
    );
    ApiError::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message).about(param)
}

fn check_prompt(capacity: Capacity, prompt: &[u32], param: &'static str) -> Result<(), ApiError> {
    let Capacity { positions, vocab_size } = capacity;
    if prompt.is_empty() {
        return Err(ApiError::invalid(param, "a prompt is empty\nhint: give at least one token"));
    }
    if prompt.len() > positions {
        return Err(too_long(&prompt.len().to_string(), positions, param));
    }
    match prompt.iter().find(|token| **token as usize >= vocab_size) {
        Some(token) => {
            let message = format!("token {token} is not below the vocabulary size {vocab_size}");
            Err(ApiError::invalid(param, message))
        }
        None => Ok(()),
    }
}
