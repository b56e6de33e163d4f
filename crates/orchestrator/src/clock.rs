//! The one clock: stamps commands with a time that never goes back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch. The system's clock is read once; from then on time
/// passes as the monotonic clock says, so that a corrected clock moves no deadline.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_ms: u64,
}

impl Clock {
    /// A clock that is never behind `latest_ms`, the latest time in the journal.
    #[expect(clippy::disallowed_methods, reason = "this is the host that stamps commands")]
    pub(crate) fn start(latest_ms: u64) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let system_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Self { started: Instant::now(), started_ms: system_ms.max(latest_ms) }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        let passed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.started_ms.saturating_add(passed_ms)
    }
}
