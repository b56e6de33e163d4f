//! The interface over real sockets, beside an orchestrator without nodes: training with nodes is the command line's to test.

mod abuse;
mod client;
mod events;
mod jobs;
mod system;
