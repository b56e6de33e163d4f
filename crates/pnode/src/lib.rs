//! The worker daemon: joins a network, fetches what it needs, runs tasks, serves blobs.

pub mod agent;
mod backoff;
mod connection;
mod daemon;
mod error;
mod event;
pub mod home;
pub mod needs;
mod profile;
mod progress;
pub mod rounds;
pub mod task;
pub mod verify;
mod worker;

pub use daemon::{PNodeOptions, run};
pub use error::PNodeError;
pub use event::{EventSink, PNodeEvent, Snapshot};
pub use home::HomeError;
pub use rounds::Retention;
