//! The transport over real sockets on loopback.

mod blobs;
mod common;
mod control;
mod small;
mod swarm;
