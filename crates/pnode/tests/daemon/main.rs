//! Real daemons over loopback, told what to do by a test.

mod memory;
mod network;
mod orchestrator;
mod rounds;
mod survival;
mod verify;
