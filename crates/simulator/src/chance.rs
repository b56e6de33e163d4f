//! What looks like chance and is decided by the seed.

/// A stream of numbers: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The stream of `seed` that is called `name`: one fault more or less elsewhere does not shift it.
    pub fn new(seed: u64, name: &str) -> Self {
        let digest = zoo_content::Digest::of(&[&seed.to_le_bytes(), name.as_bytes()].concat());
        let (first, _) = digest.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
        Self(u64::from_le_bytes(*first))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number from `low` to `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = u128::from(high - low) + 1;
        low + ((u128::from(self.next()) * span) >> 64) as u64
    }

    /// Whether something happens that happens so many times in 1,000.
    pub fn in_1000(&mut self, times: u64) -> bool {
        self.between(0, 999) < times
    }

    /// A waiting time of this mean, exponentially distributed, at least 1.
    pub fn wait(&mut self, mean: u64) -> u64 {
        // -ln(u) in steps of the geometric distribution: halve until the coin falls, then a uniform part. No
        // transcendental function, so that the history is the same everywhere.
        let halvings = u64::from(self.next().leading_zeros());
        // The mean of `halvings + u` is 1.5.
        let unit = 1 << 20;
        let length = halvings * unit + self.between(0, unit);
        (length.saturating_mul(mean) / (unit + unit / 2)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_their_range_and_waits_have_their_mean() {
        let mut chance = Chance::new(1, "test");
        assert!((0..1000).all(|_| (3..=7).contains(&chance.between(3, 7))));
        let mean = (0..100_000).map(|_| chance.wait(1000)).sum::<u64>() / 100_000;
        assert!((980..1020).contains(&mean), "{mean}");
        let happened = (0..100_000).filter(|_| chance.in_1000(30)).count();
        assert!((2800..3200).contains(&happened), "{happened}");
    }

    #[test]
    fn streams_differ_by_seed_and_name() {
        let first = |seed, name| Chance::new(seed, name).next();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(2, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
    }
}
