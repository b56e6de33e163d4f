//! One key, one process: who calls from a new address has left the old one.
//!
//! The transport sends to a node where its connections are, and a process that
//! died without a word seems connected until the idle timeout. When the node's
//! next process calls, what leads to the dead one is closed, so that the node
//! can be called back at once. Where there is a relay, one process may call through it and directly, and from
//! inside and outside of its router; then the idle timeout tells.

use std::collections::BTreeMap;
use std::sync::Mutex;

use iroh::endpoint::{Connection, IncomingAddr, VarInt, WeakConnectionHandle};
use zoo_protocol::NodeId;

use crate::endpoint::lock;
use crate::limits::CONNECTIONS_OF_KEY_MAX;

/// The incoming connections that are open, by caller.
#[derive(Debug)]
pub(crate) struct Callers {
    open: Mutex<BTreeMap<NodeId, Vec<Call>>>,
    /// One process may call from several addresses.
    meets_at_relay: bool,
}

#[derive(Debug)]
struct Call {
    from: IncomingAddr,
    connection: WeakConnectionHandle,
    stable_id: usize,
}

impl Callers {
    pub(crate) fn new(meets_at_relay: bool) -> Self {
        Self { open: Mutex::default(), meets_at_relay }
    }

    /// Notes a connection and closes those of the same node from other addresses. False if it has too many already.
    pub(crate) fn add(&self, node: NodeId, from: IncomingAddr, connection: &Connection) -> bool {
        let mut callers = lock(&self.open);
        let calls = callers.entry(node).or_default();
        calls.retain(|call| {
            let same_process = self.meets_at_relay || call.from == from;
            if !same_process && let Some(connection) = call.connection.upgrade() {
                connection.close(VarInt::from_u32(2), b"the node has called from another address");
            }
            same_process
        });
        if calls.len() >= CONNECTIONS_OF_KEY_MAX {
            return false;
        }
        calls.push(Call { from, connection: connection.weak_handle(), stable_id: connection.stable_id() });
        true
    }

    /// Forgets a connection that has ended.
    pub(crate) fn remove(&self, node: NodeId, stable_id: usize) {
        let mut callers = lock(&self.open);
        if let Some(calls) = callers.get_mut(&node) {
            calls.retain(|call| call.stable_id != stable_id);
            if calls.is_empty() {
                callers.remove(&node);
            }
        }
    }
}
