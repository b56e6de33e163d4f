//! The transport over real sockets on loopback.

mod blobs;
mod common;
mod control;
mod flood;
mod relay;
mod small;
mod swarm;
