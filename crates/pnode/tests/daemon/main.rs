//! Real daemons over loopback, told what to do by a test.

mod orchestrator;
mod rounds;
mod survival;
mod verify;
