//! Limits of what a stranger may say, and the checks against them.
//!
//! [`crate::decode`] applies them to every message. Senders that fill a
//! message from what a person typed call [`crate::Message::validate`] first.

use std::net::SocketAddr;

use crate::{VNodeUpdate, WireError};

/// Longest name of a node or a job, bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest id of a VNode, bytes.
pub const MAX_VNODE_ID_BYTES: usize = 128;
/// Longest explanation, bytes; [`reason`] cuts to it.
pub const MAX_REASON_BYTES: usize = 512;
/// Most addresses of one node.
pub const MAX_ADDRESSES: usize = 8;
/// Most peers in one message.
pub const MAX_PEERS: usize = 1024;
/// Most VNodes of a network: updates in one contribution.
pub const MAX_VNODES: usize = 4096;
/// Most summands of one piece of work.
pub const MAX_SUMMANDS: usize = 1024;
/// Most earlier rounds that one outer step amends.
pub const MAX_AMENDMENTS: usize = 64;
/// Most summands that an inner node of a tree adds.
pub const MAX_FAN_IN: u64 = 256;
/// Most stretches of a job's rhythm.
pub const MAX_STRETCHES: u64 = 64;
/// Most blobs of a submitted job.
pub const MAX_JOB_BLOBS: usize = 8192;
/// Most shards that held-out data is evaluated in.
pub const MAX_EVALUATION_SHARDS: u64 = 4096;

/// Most times that windows of trusted nodes are drawn more seldom than those of others.
pub const MAX_TRUST_DISCOUNT: u64 = 16;
/// Most operators that a network trusts.
pub const MAX_OPERATORS: usize = 64;
/// Largest evidence of hardware, bytes: a frame holds it.
pub const MAX_EVIDENCE_BYTES: usize = 512 << 10;
/// Most bytes of what a key signs about keys.
pub const MAX_DECLARATION_BYTES: usize = 2048;
/// Most nodes that keep a checkpoint.
pub const MAX_REDUNDANCY: u64 = 64;
/// Most checkpoints of a job that are kept beside its newest.
pub const MAX_KEPT_CHECKPOINTS: u64 = 64;
/// Most checkpoints that one node is asked to keep.
pub const MAX_KEEPS: usize = 512;
/// Longest proof that a part of a blob is held, bytes: a chunk, and 64 for every level of the largest blob.
pub const MAX_PROOF_BYTES: usize = 4096;

/// An explanation fit to send: at most [`MAX_REASON_BYTES`], and of the control characters
/// only line ends, so that it cannot steer the terminal it is shown on.
pub fn reason(text: impl ToString) -> String {
    let mut text = text.to_string().replace(|c: char| c.is_control() && c != '\n', " ");
    text.truncate(text.floor_char_boundary(MAX_REASON_BYTES));
    text
}

pub(crate) fn at_most(what: &'static str, actual: u64, limit: u64) -> Result<(), WireError> {
    if actual > limit { Err(WireError::Limit { what, actual, limit }) } else { Ok(()) }
}

pub(crate) fn at_least(what: &'static str, actual: u64, least: u64) -> Result<(), WireError> {
    if actual < least { Err(WireError::Least { what, actual, least }) } else { Ok(()) }
}

pub(crate) fn positive(what: &'static str, value: u64) -> Result<(), WireError> {
    if value == 0 { Err(WireError::Zero(what)) } else { Ok(()) }
}

/// Names are shown to people: no control characters, which could steer a terminal.
pub(crate) fn name(what: &'static str, text: &str, limit: usize) -> Result<(), WireError> {
    at_most(what, text.len() as u64, limit as u64)?;
    if text.contains(char::is_control) { Err(WireError::ControlCharacter(what)) } else { Ok(()) }
}

pub(crate) fn explanation(what: &'static str, text: &str) -> Result<(), WireError> {
    at_most(what, text.len() as u64, MAX_REASON_BYTES as u64)?;
    let steers_terminal = text.contains(|c: char| c.is_control() && c != '\n');
    if steers_terminal { Err(WireError::ControlCharacter(what)) } else { Ok(()) }
}

pub(crate) fn addresses(addresses: &[SocketAddr]) -> Result<(), WireError> {
    at_most("addresses of a node", addresses.len() as u64, MAX_ADDRESSES as u64)
}

pub(crate) fn updates(updates: &[VNodeUpdate]) -> Result<(), WireError> {
    at_most("updates of a contribution", updates.len() as u64, MAX_VNODES as u64)?;
    updates.iter().try_for_each(|update| {
        name("vnode id", &update.vnode, MAX_VNODE_ID_BYTES)?;
        at_most("bytes of an update", update.bytes, zoo_content::MAX_BLOB_BYTES)
    })
}
