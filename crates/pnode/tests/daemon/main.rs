//! Real daemons over loopback, told what to do by a test.

mod network;
mod orchestrator;
mod rounds;
mod survival;
mod verify;
