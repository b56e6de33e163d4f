//! How a node's link has turned out, by its own transfers.

use serde::{Deserialize, Serialize};

use crate::{Message, WireError, limits};

/// What a node measured while it sent blobs to others. Nobody takes it for more than the node's own word: it orders plans,
/// and is bounded by what the node stated when it joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What it sent, KiB a second of sending; from 1 to [`Link::UPLOAD_KIB_PER_S_MAX`].
    pub upload_kib_per_s: u32,
    /// How long an answer takes, ms, rounded up; from 1 to [`Link::RTT_MS_MAX`].
    pub rtt_ms: u32,
}

impl Link {
    /// The fastest link there may be: 16 GiB a second.
    pub const UPLOAD_KIB_PER_S_MAX: u32 = 1 << 24;
    /// The slowest answer there may be: a minute.
    pub const RTT_MS_MAX: u32 = 60_000;
    /// Round-trip times that differ by less say nothing.
    const RTT_NOISE_MS: u32 = 20;

    /// A measurement, brought within the bounds.
    pub fn new(upload_kib_per_s: u64, rtt_ms: u64) -> Self {
        let within = |value: u64, most: u32| value.clamp(1, most.into()) as u32;
        Self {
            upload_kib_per_s: within(upload_kib_per_s, Self::UPLOAD_KIB_PER_S_MAX),
            rtt_ms: within(rtt_ms, Self::RTT_MS_MAX),
        }
    }

    /// Whether `self` says something new after `before`: either number is a third off, and not by noise.
    pub fn is_news_after(&self, before: &Self) -> bool {
        let apart = |one: u32, other: u32, noise: u32| one.abs_diff(other) > (one.max(other) / 3).max(noise);
        apart(self.upload_kib_per_s, before.upload_kib_per_s, 0)
            || apart(self.rtt_ms, before.rtt_ms, Self::RTT_NOISE_MS)
    }
}

impl Message for Link {
    fn validate(&self) -> Result<(), WireError> {
        limits::positive("upload of a link", self.upload_kib_per_s.into())?;
        limits::at_most("upload of a link", self.upload_kib_per_s.into(), Self::UPLOAD_KIB_PER_S_MAX.into())?;
        limits::positive("round-trip time of a link", self.rtt_ms.into())?;
        limits::at_most("round-trip time of a link", self.rtt_ms.into(), Self::RTT_MS_MAX.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_third_off_is_news() {
        let link = Link::new;
        let cases = [
            (link(900, 20), link(900, 20), false),
            (link(900, 20), link(1_100, 24), false),
            (link(900, 20), link(1_400, 20), true),
            (link(900, 20), link(590, 20), true),
            (link(900, 1), link(900, 21), false),
            (link(900, 1), link(900, 22), true),
            (link(900, 200), link(900, 290), false),
            (link(900, 200), link(900, 310), true),
            (link(1, 1), link(2, 1), true),
        ];
        for (before, now, is_news) in cases {
            assert_eq!(now.is_news_after(&before), is_news, "{before:?} {now:?}");
            assert_eq!(before.is_news_after(&now), is_news, "{now:?} {before:?}");
        }
    }

    #[test]
    fn a_measurement_stays_within_its_bounds_and_what_is_outside_is_refused() {
        assert_eq!(Link::new(0, 0), Link { upload_kib_per_s: 1, rtt_ms: 1 });
        let most = Link::new(u64::MAX, u64::MAX);
        assert_eq!(most.validate(), Ok(()));
        for absurd in [
            Link { upload_kib_per_s: 0, ..most },
            Link { rtt_ms: 0, ..most },
            Link { upload_kib_per_s: most.upload_kib_per_s + 1, ..most },
            Link { rtt_ms: most.rtt_ms + 1, ..most },
        ] {
            assert!(absurd.validate().is_err(), "{absurd:?}");
        }
    }
}
