//! How long to wait before trying again.

use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Doubles with every failure in a row (from 1), up to `longest`.
pub(crate) fn wait(failures: u32, longest: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST_WAIT * (1 << doublings)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let longest = Duration::from_secs(10);
        let cases = [(0, 250), (1, 250), (2, 500), (3, 1000), (6, 8000), (7, 10_000), (u32::MAX, 10_000)];
        for (failures, millis) in cases {
            assert_eq!(wait(failures, longest), Duration::from_millis(millis), "{failures} failures");
        }
    }
}
