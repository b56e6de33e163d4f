//! OpenAI-compatible serving of one model.
//!
//! * [`Served`] is what a server knows of its model beside the weights: its name, tokenizer and chat template.
//! * [`Engine`] owns the weights and the cache of keys and values. One thread takes requests from a bounded queue and
//!   continues all texts together, pass after pass; a new request joins at the next pass.
//! * [`Server`] speaks HTTP: `/v1/completions`, `/v1/chat/completions` and their neighbours.
//! * [`check`] executes an answer again and compares.
//!
//! What a request gets depends on the request alone: not on what else is in the batch, on when it came, on what was
//! cached, nor on whether it had to make room and was computed again. Every answer says what it takes to repeat it.

pub mod check;
mod engine;
mod http;
pub mod limits;
mod prompt;
mod served;

pub use engine::{
    CannotStart, Capacity, Counters, Engine, EngineSettings, Event, Finish, Refused, TokenReport, Work,
};
pub use http::{Server, ServerError, ServerSettings};
pub use served::{Served, TemplateError};
