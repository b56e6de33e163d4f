//! How many inner steps a round has: the fewest whose traffic hides behind its training.
//!
//! What a round puts on the wire hardly depends on how long it trained, so with more inner steps a smaller share of
//! its time goes to traffic; and with fewer the replicas stay closer together, which costs less loss. Both times are the
//! journal's, so the choice is replayed like everything else.

use serde::{Deserialize, Serialize};

/// Traffic may take one part in so many of a round's training.
const TRAFFIC_PARTS: u128 = 32;

/// The inner steps of the current round, and the times that decide those of the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tempo {
    /// Inner steps of the current round; before the first, those that are wanted.
    pub inner_steps: u32,
    /// How long the current round trained, ms.
    pub training_ms: u64,
    /// When its contributions were sealed.
    pub sealed_ms: u64,
}

impl Tempo {
    pub(crate) fn new() -> Self {
        Self { inner_steps: 1, training_ms: 0, sealed_ms: 0 }
    }

    pub(crate) fn sealed(&mut self, started_ms: u64, now_ms: u64) {
        self.training_ms = now_ms.saturating_sub(started_ms);
        self.sealed_ms = now_ms;
    }

    /// The inner steps that the next round should have, now that this one has come together: at most twice as many,
    /// and fewer only if it is worth a change.
    pub(crate) fn wanted(&self, now_ms: u64) -> u32 {
        let Self { inner_steps, training_ms, sealed_ms } = *self;
        if training_ms == 0 {
            // Nothing is learned from a clock that stood still.
            return inner_steps;
        }
        let traffic_ms = u128::from(now_ms.saturating_sub(sealed_ms));
        let enough = (u128::from(inner_steps) * traffic_ms * TRAFFIC_PARTS).div_ceil(training_ms.into());
        let enough = u32::try_from(enough).unwrap_or(u32::MAX).clamp(1, inner_steps.saturating_mul(2));
        let few_fewer = enough < inner_steps && enough > inner_steps - inner_steps.div_ceil(4);
        if few_fewer { inner_steps } else { enough }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(inner_steps: u32, training_ms: u64, traffic_ms: u64) -> u32 {
        Tempo { inner_steps, training_ms, sealed_ms: 5 }.wanted(5 + traffic_ms)
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
