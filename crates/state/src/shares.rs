//! How the sequences of a round are divided among its participants: by how fast each has been.
//!
//! A node that is eight times slower gets an eighth of the sequences, so nobody waits for it. What counts is the time
//! from the start of a round to the contribution, with everything in it: fetching, training, and the power cut in
//! between. Before a node has contributed to the job, what the network measured of it stands in ([`crate::Rating`]), or else what it says of
//! itself, which counts for no more than is usual among those who were measured.

use std::collections::BTreeMap;

use zoo_protocol::{NodeId, Profile};

use crate::{Running, State};

/// Sequences in 2^20 ms, about 17 minutes.
pub type Pace = u64;

/// No share is larger than this many times the plan's: it has to fit into the node's memory.
const LARGEST_SHARE: u64 = 4;
/// Nobody who has not contributed yet is taken for more than this many times as fast as another.
const CLAIM_MAX: u64 = 16;
/// A pace is at most this: then sums of paces do not overflow.
const PACE_MAX: Pace = 1 << 48;

/// The pace of `sequences` in `elapsed_ms`.
pub(crate) fn pace(sequences: u64, elapsed_ms: u64) -> Pace {
    let paced = (u128::from(sequences) << 20) / u128::from(elapsed_ms.max(1));
    u64::try_from(paced).unwrap_or(PACE_MAX).clamp(1, PACE_MAX)
}

impl Running {
    /// A node contributed `sequences` after `elapsed_ms`.
    pub(crate) fn note_pace(&mut self, node: NodeId, sequences: u64, elapsed_ms: u64) {
        // Nothing is learned from a clock that stood still.
        if elapsed_ms > 0 {
            let now = pace(sequences, elapsed_ms);
            self.paces.entry(node).and_modify(|before| *before = before.midpoint(now)).or_insert(now);
        }
    }

    /// A node had not contributed `sequences` after `elapsed_ms`: it is given half of what would have been possible.
    pub(crate) fn note_lateness(&mut self, node: NodeId, sequences: u64, elapsed_ms: u64) {
        let at_most = pace(sequences, elapsed_ms.saturating_mul(2));
        self.paces.entry(node).and_modify(|before| *before = (*before).min(at_most)).or_insert(at_most);
    }
}

impl State {
    /// The sequences of an inner step that each of `nodes` gets; together as many as the plan gives to so many.
    pub(crate) fn divide(&self, running: &Running, nodes: &[NodeId]) -> Vec<u32> {
        let each = u64::from(running.description.plan.sequences_per_step);
        let most = (each * LARGEST_SHARE).min(u64::from(u32::MAX));
        let weights = self.weights(&running.paces, running.description.profile, nodes);
        divide(each * nodes.len() as u64, most, &weights)
    }

    /// Paces, and in their place what nodes say of themselves, scaled by how that relates for those who have one.
    fn weights(&self, paces: &BTreeMap<NodeId, Pace>, profile: Profile, nodes: &[NodeId]) -> Vec<Pace> {
        let claims = self.claims(profile, nodes);
        let least = claims.iter().copied().filter(|claim| *claim > 0).min().unwrap_or(1);
        let claims: Vec<u64> = claims.iter().map(|claim| (*claim).clamp(least, least * CLAIM_MAX)).collect();
        let known = || nodes.iter().zip(&claims).filter_map(|(id, claim)| Some((paces.get(id)?, claim)));
        let paced: u128 = known().map(|(pace, _)| u128::from(*pace)).sum();
        let claimed: u128 = known().map(|(_, claim)| u128::from(*claim)).sum();
        let usual = u64::try_from(paced / known().count().max(1) as u128).unwrap_or(PACE_MAX);
        let weight = |(id, claim): (&NodeId, &u64)| match paces.get(id) {
            Some(pace) => *pace,
            None if claimed == 0 => *claim,
            None => {
                let scaled = u64::try_from(u128::from(*claim) * paced / claimed).unwrap_or(PACE_MAX);
                // A boast of somebody who has never given anything takes nothing from those who have.
                let is_boast = self.is_newcomer(id) && self.measured_speed(id, profile).is_none();
                let most = if is_boast { usual } else { PACE_MAX };
                scaled.min(most).clamp(1, PACE_MAX)
            }
        };
        nodes.iter().zip(&claims).map(weight).collect()
    }
}

impl State {
    /// Tokens a second that nodes are taken to compute: as measured, or else as they say, but then at most what is usual among the measured.
    fn claims(&self, profile: Profile, nodes: &[NodeId]) -> Vec<u64> {
        let mut measured: Vec<u64> = nodes.iter().filter_map(|id| self.measured_speed(id, profile)).collect();
        measured.sort_unstable();
        let usual = measured.get(measured.len() / 2).copied().unwrap_or(u64::MAX);
        let said = |id| self.nodes.get(id).map_or(0, |node| node.profile.speeds.of(profile).into());
        nodes
            .iter()
            .map(|id| self.measured_speed(id, profile).unwrap_or_else(|| usual.min(said(id))))
            .collect()
    }

    fn measured_speed(&self, id: &NodeId, profile: Profile) -> Option<u64> {
        let rating = self.nodes.get(id)?.rating?;
        Some(rating.speeds.of(profile).into()).filter(|speed| *speed > 0)
    }
}

/// Divides `total` in proportion to `weights`, each part from 1 to `most`; what is over goes to the largest remainders,
/// the first first.
fn divide(total: u64, most: u64, weights: &[Pace]) -> Vec<u32> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let quota = |weight: Pace| u128::from(total) * u128::from(weight);
    let mut parts: Vec<u64> =
        weights.iter().map(|weight| ((quota(*weight) / sum.max(1)) as u64).clamp(1, most)).collect();
    // How much more a part should be than it is, times the sum.
    let owed = |at: usize, part: u64| quota(weights[at]) as i128 - part as i128 * sum as i128;
    let mut given: u64 = parts.iter().sum();
    while given != total {
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(owed(at, parts[at])));
        if given < total {
            for at in order {
                let more = u64::from(given < total && parts[at] < most);
                parts[at] += more;
                given += more;
            }
        } else {
            for at in order.into_iter().rev() {
                let less = u64::from(given > total && parts[at] > 1);
                parts[at] -= less;
                given -= less;
            }
        }
    }
    parts.into_iter().map(|part| part as u32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_follow_the_weights() {
        assert_eq!(divide(32, 32, &[1, 2, 4, 8]), [2, 4, 9, 17]);
        assert_eq!(divide(32, 32, &[5, 5, 5, 5]), [8, 8, 8, 8]);
        assert_eq!(
            divide(8, 8, &[98, 101, 103, 99]),
            [2, 2, 2, 2],
            "small differences leave small shares equal"
        );
        assert_eq!(divide(4, 4, &[1, 1000, 1, 1]), [1, 1, 1, 1], "everybody gets something");
        assert_eq!(divide(32, 16, &[1, 1, 1, 1000]), [6, 5, 5, 16], "nobody gets more than fits");
        assert_eq!(divide(5, 20, &[7]), [5]);
    }

    #[test]
    fn a_pace_is_sequences_in_time() {
        assert_eq!(pace(1, 1 << 20), 1);
        assert_eq!(pace(640, 10_000), 640 * (1 << 20) / 10_000);
        assert_eq!(pace(0, 1), 1);
        assert_eq!(pace(u64::MAX, 0), PACE_MAX);
    }

    proptest! {
        #[test]
        fn everything_is_given_and_nobody_gets_nothing(
            each in 1u64..40,
            weights in prop::collection::vec(prop_oneof![1u64..50, 1u64..PACE_MAX], 1..60),
        ) {
            let total = each * weights.len() as u64;
            let parts = divide(total, each * LARGEST_SHARE, &weights);
            prop_assert_eq!(parts.iter().map(|part| u64::from(*part)).sum::<u64>(), total);
            prop_assert!(parts.iter().all(|part| (1..=each * LARGEST_SHARE).contains(&u64::from(*part))));
            for (i, j) in (0..parts.len()).zip(1..parts.len()) {
                prop_assert!(weights[i] <= weights[j] || parts[i] + 1 >= parts[j], "{:?} {:?}", weights, parts);
            }
        }
    }
}
