//! How many inner steps a round has: the fewest whose traffic hides behind its training.
//!
//! Where replicas go on training meanwhile, traffic hides behind the steps that they take ahead, and these are a small part of a round;
//! where they do not, it takes a small part of a round's time. What a round puts on the wire hardly depends on how long it trained, so with more inner steps a smaller share of
//! its time goes to traffic; and with fewer the replicas stay closer together, which costs less loss. Both times are the
//! journal's, so the choice is replayed like everything else.

use serde::{Deserialize, Serialize};
use zoo_protocol::OVERLAP_PARTS;

/// Traffic that nothing hides may take one part in so many of a round's training.
const TRAFFIC_PARTS: u128 = 32;

/// The inner steps of the current round, and the times that decide those of the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tempo {
    /// Inner steps of the current round, its lead included; before it starts, those that are wanted.
    pub inner_steps: u32,
    /// Of these, so many were taken ahead of the round's checkpoint.
    pub lead_steps: u32,
    /// So many of the next round's are taken ahead while this one comes together.
    pub ahead_steps: u32,
    /// As many steps would have been taken while the last round came together, if that is known.
    pub meanwhile_steps: Option<u32>,
    /// How long the current round trained, ms.
    pub training_ms: u64,
    /// When its contributions were sealed.
    pub sealed_ms: u64,
}

impl Tempo {
    pub(crate) fn new() -> Self {
        Self {
            inner_steps: 1,
            lead_steps: 0,
            ahead_steps: 0,
            meanwhile_steps: None,
            training_ms: 0,
            sealed_ms: 0,
        }
    }

    pub(crate) fn sealed(&mut self, started_ms: u64, now_ms: u64) {
        self.training_ms = now_ms.saturating_sub(started_ms);
        self.sealed_ms = now_ms;
    }

    /// Inner steps that every replica of the current round takes from its checkpoint on.
    pub(crate) fn steps_from_base(&self) -> u32 {
        self.inner_steps.saturating_sub(self.lead_steps).max(1)
    }

    /// So many of the `next_steps` of a next round are taken ahead: no more than there is time for.
    pub(crate) fn ahead_of(&self, next_steps: u32) -> u32 {
        (next_steps / OVERLAP_PARTS).min(self.meanwhile_steps.unwrap_or(u32::MAX))
    }

    /// The round has come together: decides the inner steps that the next should have. At most twice as many, and fewer only if it is worth
    /// a change.
    pub(crate) fn learn(&mut self, now_ms: u64, overlap: bool) {
        let Self { inner_steps, training_ms, sealed_ms, .. } = *self;
        if training_ms == 0 {
            // Nothing is learned from a clock that stood still.
            return;
        }
        let traffic_ms = u128::from(now_ms.saturating_sub(sealed_ms));
        let steps_in = |ms: u128| {
            let steps = (u128::from(inner_steps) * ms).div_ceil(training_ms.into());
            u32::try_from(steps).unwrap_or(u32::MAX)
        };
        // One more: who is first waits for the others too.
        let meanwhile = steps_in(traffic_ms).saturating_add(1);
        let hidden = if overlap {
            meanwhile.saturating_mul(OVERLAP_PARTS)
        } else {
            steps_in(traffic_ms * TRAFFIC_PARTS)
        };
        let enough = hidden.clamp(1, inner_steps.saturating_mul(2));
        let few_fewer = enough < inner_steps && enough > inner_steps - inner_steps.div_ceil(4);
        self.meanwhile_steps = Some(meanwhile);
        self.inner_steps = if few_fewer { inner_steps } else { enough };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(inner_steps: u32, training_ms: u64, traffic_ms: u64) -> u32 {
        learned(inner_steps, training_ms, traffic_ms, false).inner_steps
    }

    fn learned(inner_steps: u32, training_ms: u64, traffic_ms: u64, overlap: bool) -> Tempo {
        let mut tempo = Tempo { inner_steps, training_ms, sealed_ms: 5, ..Tempo::new() };
        tempo.learn(5 + traffic_ms, overlap);
        tempo
    }

    #[test]
    fn steps_that_are_taken_meanwhile_hide_more() {
        let wanted = |inner_steps, training_ms, traffic_ms| {
            learned(inner_steps, training_ms, traffic_ms, true).inner_steps
        };
        assert_eq!(wanted(8, 8_000, 1_000), 8, "one step's time, and one for waiting");
        assert_eq!(wanted(32, 32_000, 7_000), 32);
        assert_eq!(wanted(32, 32_000, 9_000), 40);
        assert_eq!(wanted(32, 32_000, 1_000), 8);
        assert_eq!(wanted(1, 1_000, 0), 2, "at most twice as many");
        let ahead = |next_steps, traffic_ms| learned(30, 30_000, traffic_ms, true).ahead_of(next_steps);
        assert_eq!(ahead(30, 2_500), 4, "as many as there is time for");
        assert_eq!(ahead(30, 25_000), 7, "but a small part of the round");
        assert_eq!((ahead(3, 2_500), Tempo::new().ahead_of(30)), (0, 7));
    }

    #[test]
    fn a_round_has_the_fewest_steps_that_hide_its_traffic() {
        assert_eq!(wanted(32, 32_000, 1_000), 32, "just hidden");
        assert_eq!(wanted(32, 32_000, 500), 16, "half as long would do");
        assert_eq!(wanted(32, 32_000, 900), 32, "not worth a change");
        assert_eq!(wanted(32, 32_000, 1_400), 45);
        assert_eq!(wanted(32, 32_000, 9_000), 64, "at most twice as many");
        assert_eq!(wanted(1, 10, 0), 1);
        assert_eq!(wanted(7, 0, 100), 7, "a clock that stands still teaches nothing");
        assert_eq!(wanted(u32::MAX, 1, u64::MAX - 5), u32::MAX);
    }
}
