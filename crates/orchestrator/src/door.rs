//! How often nodes may come: a join is in the journal for ever, and costs every node that is there a word.
//!
//! Whose work went into a round comes as often as one that crashes and reconnects needs to. Keys that nobody knows have a rate
//! together, and only so many of them are there at once. Nothing of this is in the state: whoever is turned away has changed nothing.

use std::collections::BTreeMap;

use tokio::time::Instant;
use zoo_network::Allowance;
use zoo_protocol::NodeId;

/// Joins of unknown keys a second, after [`NEWCOMERS_AT_ONCE`] of them.
const NEWCOMERS_PER_S: f64 = 0.5;
/// See [`NEWCOMERS_PER_S`].
const NEWCOMERS_AT_ONCE: f64 = 256.0;
/// Newcomers that are there at once.
pub(crate) const NEWCOMERS_MAX: usize = 512;
/// Joins of one key a second, after [`JOINS_AT_ONCE`] of them.
const JOINS_PER_S: f64 = 0.2;
/// See [`JOINS_PER_S`].
const JOINS_AT_ONCE: f64 = 16.0;
/// Keys whose joins are counted one by one.
const KEYS_MAX: usize = 4096;

/// Who may join now.
#[derive(Debug)]
pub(crate) struct Door {
    newcomers: Allowance,
    keys: BTreeMap<NodeId, Allowance>,
}

/// Who is at the door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) node: NodeId,
    /// Nothing of it went into a round.
    pub(crate) is_newcomer: bool,
}

impl Door {
    pub(crate) fn new(now: Instant) -> Self {
        Self { newcomers: Allowance::new(NEWCOMERS_PER_S, NEWCOMERS_AT_ONCE, now), keys: BTreeMap::new() }
    }

    /// Lets a node in, or says why not; `newcomers` are there.
    pub(crate) fn admit(&mut self, caller: Caller, newcomers: usize, now: Instant) -> Result<(), String> {
        let Caller { node, is_newcomer } = caller;
        if is_newcomer && newcomers >= NEWCOMERS_MAX {
            return Err(format!(
                "the network has {newcomers} newcomers already, which is the limit\nhint: try again in some minutes"
            ));
        }
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(&node) {
            self.keys.retain(|_, allowance| !allowance.is_full(now));
            if self.keys.len() >= KEYS_MAX {
                self.keys.pop_first();
            }
        }
        let its = self.keys.entry(node).or_insert_with(|| Allowance::new(JOINS_PER_S, JOINS_AT_ONCE, now));
        if !its.take(1.0, now) {
            return Err("this node joins too often\nhint: is another process running with its key?".into());
        }
        if is_newcomer && !self.newcomers.take(1.0, now) {
            return Err("too many newcomers have joined lately\nhint: try again in some minutes".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn caller(number: u32, is_newcomer: bool) -> Caller {
        let mut node = NodeId([0; 32]);
        node.0[..4].copy_from_slice(&number.to_le_bytes());
        Caller { node, is_newcomer }
    }

    #[test]
    fn fresh_keys_have_a_rate_together_and_who_is_known_comes_all_the_same() {
        let start = Instant::now();
        let mut door = Door::new(start);
        let admitted = (0..10_000).filter(|key| door.admit(caller(*key, true), 0, start).is_ok()).count();
        assert_eq!(admitted, NEWCOMERS_AT_ONCE as usize);
        assert!(door.keys.len() <= KEYS_MAX);
        assert_eq!(door.admit(caller(20_000, false), NEWCOMERS_MAX, start), Ok(()));
        let later = start + Duration::from_secs(10);
        let admitted =
            (30_000..40_000).filter(|key| door.admit(caller(*key, true), 0, later).is_ok()).count();
        assert_eq!(admitted, 5);
        assert!(door.admit(caller(1, true), NEWCOMERS_MAX, later).unwrap_err().contains("hint: "));
    }

    #[test]
    fn one_key_comes_as_often_as_one_that_reconnects_needs_to() {
        let start = Instant::now();
        let mut door = Door::new(start);
        let admitted = (0..100).filter(|_| door.admit(caller(1, false), 0, start).is_ok()).count();
        assert_eq!(admitted, JOINS_AT_ONCE as usize);
        assert!(door.admit(caller(2, false), 0, start).is_ok());
        assert!(door.admit(caller(1, false), 0, start + Duration::from_secs(5)).is_ok());
    }
}
