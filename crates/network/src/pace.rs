//! What may be sent in a second.

use std::num::NonZero;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::endpoint::lock;
use crate::limits::PIECE_BYTES;

/// Makes senders wait so that together they stay within a rate.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bytes_per_second: Option<NonZero<u64>>,
    /// When what was let through until now will have been sent at that rate.
    sent_at: Option<Instant>,
}

impl Pace {
    /// From now on; `None` lets everything through.
    pub fn set(&self, bytes_per_second: Option<NonZero<u64>>) {
        lock(&self.0).bytes_per_second = bytes_per_second;
    }

    /// How much to send at a time, so that a slow link is shared evenly and never silent for long.
    pub fn piece_bytes(&self) -> usize {
        let limit = lock(&self.0).bytes_per_second;
        limit.map_or(PIECE_BYTES, |limit| (limit.get() / 8).clamp(1 << 10, PIECE_BYTES as u64) as usize)
    }

    /// Waits until `bytes` may be sent.
    pub async fn wait_for(&self, bytes: usize) {
        let turn = {
            let mut state = lock(&self.0);
            let Some(limit) = state.bytes_per_second else { return };
            let now = Instant::now();
            let turn = state.sent_at.unwrap_or(now).max(now);
            state.sent_at = Some(turn + Duration::from_secs_f64(bytes as f64 / limit.get() as f64));
            turn
        };
        sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn senders_share_the_rate() {
        let pace = Arc::new(Pace::default());
        pace.set(NonZero::new(1000));
        let start = Instant::now();
        let send = |pace: Arc<Pace>| async move {
            for _ in 0..10 {
                pace.wait_for(500).await;
            }
        };
        let (one, other) = (tokio::spawn(send(pace.clone())), tokio::spawn(send(pace.clone())));
        let _ = (one.await, other.await);
        // 10,000 bytes at 1,000 a second; the last piece leaves when its turn has come.
        assert_eq!(start.elapsed().as_millis() / 100, 95);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nobody_waits_and_a_pause_is_not_made_up_for() {
        let pace = Pace::default();
        let start = Instant::now();
        pace.wait_for(1 << 30).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        pace.set(NonZero::new(1000));
        tokio::time::sleep(Duration::from_secs(100)).await;
        pace.wait_for(1000).await;
        pace.wait_for(1000).await;
        assert_eq!(start.elapsed().as_millis() / 100, 1010);
    }
}
