//! Handshakes: how many at once, and how often from one place. Each costs this side a signature before it knows who calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::allowance::Allowance;
use crate::endpoint::lock;
use crate::limits::{
    HANDSHAKES_AT_ONCE, HANDSHAKES_AT_ONCE_EACH, HANDSHAKES_BEFORE_PROOF, HANDSHAKES_MAX,
    HANDSHAKES_MAX_EACH, HANDSHAKES_PER_S, HANDSHAKES_PER_S_EACH, SOURCES_REMEMBERED_MAX,
};
use crate::room::Source;

/// What becomes of a call.
#[derive(Debug)]
pub(crate) enum Call {
    /// It is answered.
    Answered(Handshake),
    /// Whoever it is from has to show first that it is there (RFC 9000, 8.1.2).
    Doubted,
    /// There are too many.
    Refused,
}

#[derive(Debug)]
pub(crate) struct Greeting(Mutex<Table>);

#[derive(Debug)]
struct Table {
    under_way: usize,
    allowance: Allowance,
    sources: BTreeMap<Source, Caller>,
}

#[derive(Debug)]
struct Caller {
    under_way: usize,
    allowance: Allowance,
}

/// A handshake under way; over when dropped.
#[derive(Debug)]
pub(crate) struct Handshake {
    greeting: Arc<Greeting>,
    source: Source,
}

impl Greeting {
    pub(crate) fn new() -> Arc<Self> {
        let allowance = Allowance::new(HANDSHAKES_PER_S, HANDSHAKES_AT_ONCE, Instant::now());
        Arc::new(Self(Mutex::new(Table { under_way: 0, allowance, sources: BTreeMap::new() })))
    }

    /// Somebody calls from `source`, which is proven or not.
    pub(crate) fn call(self: &Arc<Self>, source: Source, is_proven: bool) -> Call {
        let (mut table, now) = (lock(&self.0), Instant::now());
        if table.under_way >= HANDSHAKES_MAX {
            return Call::Refused;
        }
        if !is_proven && table.under_way >= HANDSHAKES_BEFORE_PROOF {
            return Call::Doubted;
        }
        if table.sources.len() >= SOURCES_REMEMBERED_MAX && !table.sources.contains_key(&source) {
            let is_of_interest = |caller: &mut Caller| caller.under_way > 0 || !caller.allowance.is_full(now);
            table.sources.retain(|_, caller| is_of_interest(caller));
            if table.sources.len() >= SOURCES_REMEMBERED_MAX {
                return Call::Refused;
            }
        }
        let caller = table.sources.entry(source).or_insert_with(|| Caller {
            under_way: 0,
            allowance: Allowance::new(HANDSHAKES_PER_S_EACH, HANDSHAKES_AT_ONCE_EACH, now),
        });
        if caller.under_way >= HANDSHAKES_MAX_EACH || !caller.allowance.take(1.0, now) {
            return Call::Refused;
        }
        caller.under_way += 1;
        table.under_way += 1;
        if !table.allowance.take(1.0, now) {
            table.end(source);
            return Call::Refused;
        }
        Call::Answered(Handshake { greeting: self.clone(), source })
    }
}

impl Table {
    fn end(&mut self, source: Source) {
        self.under_way -= 1;
        if let Some(caller) = self.sources.get_mut(&source) {
            caller.under_way -= 1;
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        lock(&self.greeting.0).end(self.source);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(number: u32) -> Source {
        Source::Machine(IpAddr::from(number.to_be_bytes()))
    }

    #[test]
    fn one_address_gets_its_part_and_others_are_still_greeted() {
        let greeting = Greeting::new();
        let calls = |number| match greeting.call(source(number), true) {
            Call::Answered(handshake) => Some(handshake),
            Call::Doubted | Call::Refused => None,
        };
        let held: Vec<Handshake> = (0..100).filter_map(|_| calls(1)).collect();
        assert_eq!(held.len(), HANDSHAKES_MAX_EACH);
        assert!(calls(2).is_some());
        drop(held);
        let often = (0..10_000).filter(|_| calls(1).is_some()).count() + HANDSHAKES_MAX_EACH;
        assert!((often as f64) < HANDSHAKES_AT_ONCE_EACH + 8.0, "{often} at once");
        assert!(calls(3).is_some(), "others have their own allowance");
    }

    #[test]
    fn who_may_not_be_there_at_all_is_doubted_when_many_call_and_remembered_by_nobody() {
        let greeting = Greeting::new();
        let held: Vec<Call> =
            (0..HANDSHAKES_BEFORE_PROOF).map(|at| greeting.call(source(at as u32), false)).collect();
        assert!(held.iter().all(|call| matches!(call, Call::Answered(_))));
        assert!((0..10_000).all(|at| matches!(greeting.call(source(1 << 20 | at), false), Call::Doubted)));
        assert_eq!(lock(&greeting.0).sources.len(), HANDSHAKES_BEFORE_PROOF);
        assert!(matches!(greeting.call(source(7), true), Call::Answered(_)));
    }

    #[test]
    fn many_addresses_together_have_a_limit() {
        let greeting = Greeting::new();
        let answered =
            (0..100_000).filter(|at| matches!(greeting.call(source(*at), true), Call::Answered(_)));
        assert!((answered.count() as f64) < HANDSHAKES_AT_ONCE + 200.0);
        assert!(lock(&greeting.0).sources.len() <= SOURCES_REMEMBERED_MAX);
    }
}
