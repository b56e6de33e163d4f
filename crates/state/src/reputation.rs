//! How well a node's work has turned out so far: it orders who gets work first where there is not enough for all, and convicts nobody.
//!
//! It is the part of the rounds given to a node that it gave something to that still counts, as one expects it after so many (Laplace's rule of
//! succession); a fault weighs as much as [`FAULT_ROUNDS`] rounds that were missed. Everything in it is in the journal, so everybody comes to the same.

use std::cmp::Reverse;

use zoo_content::Digest;
use zoo_protocol::{Account, NodeId};

use crate::State;
use crate::keeping::turn;

/// A fault weighs as much as so many missed rounds.
const FAULT_ROUNDS: u64 = 16;
/// The reputation of who has always done what it was asked, after ever so many rounds.
const WHOLE: u64 = 1 << 20;

/// From 0 to 2^20, in which a newcomer stands in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reputation(pub u64);

impl Reputation {
    /// What an account comes to.
    pub fn of(account: &Account) -> Self {
        let good = account.rounds.saturating_sub(account.withdrawn).saturating_add(1);
        let bad =
            account.faults.saturating_mul(FAULT_ROUNDS).saturating_add(account.missed).saturating_add(1);
        let part = u128::from(WHOLE) * u128::from(good) / (u128::from(good) + u128::from(bad));
        Self(part as u64)
    }
}

impl State {
    /// The reputation of a node; of one that nobody knows, a newcomer's.
    pub fn reputation_of(&self, id: &NodeId) -> Reputation {
        self.nodes
            .get(id)
            .map_or_else(|| Reputation::of(&Account::default()), |node| Reputation::of(&node.account))
    }

    /// As many of `nodes` as there is room for, those of the best reputation; equals take turns, in another order for every `base`. Ordered by id.
    pub(crate) fn best_of(&self, mut nodes: Vec<NodeId>, room: usize, base: &Digest) -> Vec<NodeId> {
        if nodes.len() > room {
            nodes.sort_by_cached_key(|id| (Reverse(self.reputation_of(id)), turn(base, id)));
            nodes.truncate(room);
            nodes.sort_unstable();
        }
        nodes
    }
}

#[cfg(test)]
mod tests {
    use zoo_protocol::{NodeProfile, Speeds};

    use super::*;
    use crate::Command;

    fn account(rounds: u64, missed: u64, faults: u64) -> Account {
        Account { rounds, missed, faults, ..Account::default() }
    }

    #[test]
    fn it_grows_with_what_counted_and_falls_with_what_was_missed_or_wrong() {
        let of = |rounds, missed, faults| Reputation::of(&account(rounds, missed, faults));
        assert_eq!(of(0, 0, 0), Reputation(WHOLE / 2));
        assert!(of(1, 0, 0) > of(0, 0, 0) && of(0, 0, 0) > of(0, 1, 0) && of(0, 1, 0) > of(0, 0, 1));
        assert!(of(100, 0, 0) > of(1, 0, 0) && of(100, 1, 0) > of(100, 0, 1));
        let taken_back = Account { withdrawn: 3, ..account(3, 0, 1) };
        assert_eq!(Reputation::of(&taken_back), of(0, 0, 1));
        let most = Account { withdrawn: 0, ..account(u64::MAX, u64::MAX, u64::MAX) };
        assert!(Reputation::of(&most) <= Reputation(WHOLE));
    }

    #[test]
    fn where_there_is_no_room_for_all_the_best_have_it_and_equals_take_turns() {
        let mut state = State::new();
        let ids: Vec<NodeId> = (0..6).map(|id| NodeId([id; 32])).collect();
        let past = [(5, 0, 0), (5, 0, 1), (5, 0, 0), (5, 9, 0), (5, 0, 0), (9, 0, 0)];
        let accounts = past.map(|(rounds, missed, faults)| account(rounds, missed, faults));
        for (id, _) in ids.iter().zip(past) {
            let profile = NodeProfile {
                name: "node".into(),
                threads: 1,
                memory_mib: 1024,
                isa: "avx2".into(),
                speeds: Speeds { f32_exact: 1, bf16_exact: 1 },
                region: String::new(),
                upload_kib_per_s: 0,
                storage: None,
                software: "test".into(),
            };
            state.apply(&Command::NodeJoined { node: *id, profile, addresses: vec![], now_ms: 0 }).unwrap();
        }
        for (id, account) in ids.iter().zip(accounts) {
            state.nodes.get_mut(id).unwrap().account = account;
        }
        let chosen = |room: usize, base: &[u8]| state.best_of(ids.clone(), room, &Digest::of(base));
        assert_eq!(chosen(6, b"any"), ids);
        assert_eq!(chosen(4, b"any"), [ids[0], ids[2], ids[4], ids[5]]);
        assert_eq!(chosen(1, b"any"), [ids[5]]);
        let third: std::collections::BTreeSet<NodeId> =
            (0..32u8).flat_map(|base| chosen(2, &[base])).filter(|id| *id != ids[5]).collect();
        assert_eq!(third, [ids[0], ids[2], ids[4]].into());
    }
}
