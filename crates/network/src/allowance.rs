//! How often something may be done: so many times at once, then at a steady rate (a token bucket).

use std::time::Duration;

use tokio::time::Instant;

/// What may be used now, and how it comes back.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    per_s: f64,
    most: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    /// All of `most`, which comes back at `per_s` a second.
    pub fn new(per_s: f64, most: f64, now: Instant) -> Self {
        Self { per_s, most, left: most, at: now }
    }

    /// Uses so much, if it is there.
    pub fn take(&mut self, cost: f64, now: Instant) -> bool {
        self.refill(now);
        let is_there = self.left >= cost;
        if is_there {
            self.left -= cost;
        }
        is_there
    }

    /// Uses so much whether it is there or not; says how long to wait until nothing is owed.
    pub fn spend(&mut self, cost: f64, now: Instant) -> Duration {
        self.refill(now);
        self.left -= cost;
        Duration::from_secs_f64((-self.left / self.per_s).max(0.0))
    }

    /// Whether all of it is there, so that nothing is lost with forgetting it.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= self.most
    }

    fn refill(&mut self, now: Instant) {
        let passed_s = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left, self.at) = ((self.left + passed_s * self.per_s).min(self.most), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_then_at_a_steady_rate() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut allowance = Allowance::new(2.0, 3.0, start);
        let taken =
            |allowance: &mut Allowance, ms| (0..10).filter(|_| allowance.take(1.0, after(ms))).count();
        assert_eq!([0, 400, 1_000, 60_000].map(|ms| taken(&mut allowance, ms)), [3, 0, 2, 3]);
        assert!(!allowance.is_full(after(61_000)) && allowance.is_full(after(61_500)));
        assert_eq!(allowance.spend(5.0, after(70_000)), Duration::from_secs(1), "two are owed");
    }
}
