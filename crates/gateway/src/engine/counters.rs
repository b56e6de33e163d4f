//! What an engine has done and is doing, for whoever watches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Numbers that only the engine changes.
#[derive(Debug, Default)]
pub struct Counters {
    /// Texts that are done.
    pub finished: Count,
    /// Texts whose client went away.
    pub cancelled: Count,
    /// Texts that could not be written.
    pub failed: Count,
    /// Texts that made room for others and were computed again.
    pub preempted: Count,
    /// How often whoever computes has lost what was in its pages.
    pub lost: Count,
    /// Passes through the network.
    pub passes: Count,
    /// Tokens of prompts that were computed.
    pub prompt_tokens: Count,
    /// Tokens of prompts that were found in the cache.
    pub cached_tokens: Count,
    /// Tokens written.
    pub written_tokens: Count,
    /// Texts that are being written.
    pub running: Count,
    /// Texts that wait.
    pub waiting: Count,
    /// Pages that texts use.
    pub pages_used: Count,
    /// Pages that no text uses, but that would be found again.
    pub pages_cached: Count,
    /// Pages in all.
    pub pages: Count,
    /// Microseconds until the first token, all texts together.
    pub first_token_us: Count,
    /// Texts that got a first token.
    pub first_tokens: Count,
}

/// A number that others may read at any time.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Counters {
    pub(super) fn new(pages: usize) -> Self {
        let counters = Self::default();
        counters.pages.set(pages);
        counters
    }

    pub(super) fn first_token_after(&self, time: Duration) {
        self.first_tokens.add(1);
        self.first_token_us.add(time.as_micros() as usize);
    }
}

impl Count {
    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }
}
