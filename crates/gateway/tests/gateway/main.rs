//! The gateway from outside: its engine, its routes, and what strangers try.

mod api;
mod client;
mod engine;
mod model;
mod strangers;
mod streams;
