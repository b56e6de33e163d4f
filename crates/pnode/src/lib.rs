//! The worker daemon: joins a network, fetches what it needs, runs tasks, serves blobs.

pub mod agent;
pub mod needs;
