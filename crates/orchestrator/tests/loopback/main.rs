//! The orchestrator over real sockets on loopback, with workers that answer by rule.

mod identity;
mod jobs;
mod puppet;
mod restart;
mod sessions;
mod watching;
