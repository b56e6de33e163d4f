//! The parts of two rooms that decode, without the clients and sockets around them.

#[path = "../../crates/storage/src/dag/car.rs"]
pub mod car;
#[path = "../../crates/storage/src/dag/cid.rs"]
pub mod cid;
#[path = "../../crates/storage/src/dag/file.rs"]
pub mod file;
#[path = "../../crates/storage/src/dag/node.rs"]
pub mod node;
#[path = "../../crates/network/src/relay.rs"]
pub mod relay;
#[path = "../../crates/storage/src/snapshot.rs"]
pub mod snapshot;
#[path = "../../crates/network/src/ticket.rs"]
pub mod ticket;
#[path = "../../crates/storage/src/dag/varint.rs"]
mod varint;
