//! How fast blobs leave, and how long answers take.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use zoo_protocol::Link;

use crate::endpoint::lock;

/// Less than this says nothing of a link, bytes.
const BYTES_MIN: f64 = (256 << 10) as f64;
/// After so much time of sending, what was before counts half, seconds.
const MEMORY_SECONDS: f64 = 20.0;
/// A new round-trip time changes the smoothed one by this part, as in TCP (RFC 6298).
const RTT_GAIN: f64 = 0.125;

/// Measures an endpoint's transfers: all that go on at once together, and only while some do.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Sending>);

#[derive(Debug, Default)]
struct Sending {
    /// Blobs under way.
    under_way: u32,
    /// Until when the time has been counted.
    counted: Option<Instant>,
    bytes: f64,
    seconds: f64,
    rtt_ms: Option<f64>,
}

/// A blob that arrived whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub bytes: u64,
    /// Of the connection it went over.
    pub rtt: Option<Duration>,
}

impl Meter {
    /// A blob begins to be sent.
    pub fn begin(&self, now: Instant) {
        lock(&self.0).begin(now);
    }

    /// It has arrived, or never will.
    pub fn end(&self, now: Instant, arrived: Option<Arrived>) {
        lock(&self.0).end(now, arrived);
    }

    /// What is known so far; `None` while too little was sent.
    pub fn link(&self) -> Option<Link> {
        lock(&self.0).link()
    }
}

impl Sending {
    fn begin(&mut self, now: Instant) {
        if self.under_way == 0 {
            self.counted = Some(now);
        }
        self.under_way += 1;
    }

    fn end(&mut self, now: Instant, arrived: Option<Arrived>) {
        let passed = self.counted.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.under_way = self.under_way.saturating_sub(1);
        // Time in which nothing but a blob that never arrived was under way says nothing of the link.
        if arrived.is_some() || self.under_way > 0 {
            self.seconds += passed.as_secs_f64();
        }
        self.counted = Some(now);
        let Some(Arrived { bytes, rtt }) = arrived else { return };
        self.bytes += bytes as f64;
        if self.seconds > MEMORY_SECONDS {
            self.seconds /= 2.0;
            self.bytes /= 2.0;
        }
        if let Some(rtt_ms) = rtt.map(|rtt| rtt.as_secs_f64() * 1e3) {
            let before = self.rtt_ms.unwrap_or(rtt_ms);
            self.rtt_ms = Some(before + RTT_GAIN * (rtt_ms - before));
        }
    }

    fn link(&self) -> Option<Link> {
        let rtt_ms = self.rtt_ms.filter(|_| self.bytes >= BYTES_MIN && self.seconds > 0.0)?;
        Some(Link::new((self.bytes / self.seconds / 1024.0) as u64, rtt_ms.ceil() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Transfers as (begins at ms, ends at ms, bytes if it arrives).
    fn measured(transfers: &[(u64, u64, Option<u64>)]) -> Option<Link> {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut moments: Vec<(u64, Option<Option<u64>>)> = Vec::new();
        for (begins, ends, bytes) in transfers {
            moments.extend([(*begins, None), (*ends, Some(*bytes))]);
        }
        moments.sort_by_key(|(ms, _)| *ms);
        let mut sending = Sending::default();
        for (ms, end) in moments {
            match end {
                None => sending.begin(at(ms)),
                Some(bytes) => {
                    let rtt = Some(Duration::from_millis(30));
                    sending.end(at(ms), bytes.map(|bytes| Arrived { bytes, rtt }));
                }
            }
        }
        sending.link()
    }

    #[test]
    fn speed_is_bytes_in_the_time_of_sending() {
        let link = |kib| Some(Link { upload_kib_per_s: kib, rtt_ms: 30 });
        assert_eq!(measured(&[]), None);
        assert_eq!(measured(&[(0, 100, Some(1000))]), None, "a thousand bytes say nothing");
        assert_eq!(measured(&[(0, 1000, Some(MIB))]), link(1024));
        assert_eq!(
            measured(&[(0, 1000, Some(MIB)), (5_000, 6_000, Some(MIB))]),
            link(1024),
            "pauses are free"
        );
        assert_eq!(measured(&[(0, 1000, Some(MIB)), (0, 1000, Some(MIB))]), link(2048), "together");
        assert_eq!(measured(&[(0, 1000, Some(MIB)), (500, 1500, Some(2 * MIB))]), link(2048), "overlapping");
    }

    #[test]
    fn a_peer_that_stops_reading_does_not_make_the_link_slow() {
        let link = |kib| Some(Link { upload_kib_per_s: kib, rtt_ms: 30 });
        assert_eq!(measured(&[(0, 1000, Some(MIB)), (2_000, 60_000, None)]), link(1024));
        assert_eq!(measured(&[(0, 60_000, None)]), None);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let slow = (0..20).map(|i| (i * 1000, i * 1000 + 1000, Some(MIB)));
        let fast = (20..120).map(|i| (i * 1000, i * 1000 + 1000, Some(8 * MIB)));
        let transfers: Vec<_> = slow.chain(fast).collect();
        let upload = measured(&transfers).unwrap().upload_kib_per_s;
        assert!((7_500..=8_192).contains(&upload), "{upload} KiB/s");
    }

    #[test]
    fn round_trips_are_smoothed() {
        let (mut sending, now) = (Sending::default(), Instant::now());
        for (rtt, expected) in [(100, 100), (900, 200), (200, 200), (200, 200)] {
            sending.begin(now);
            let rtt = Some(Duration::from_millis(rtt));
            sending.end(now + Duration::from_secs(1), Some(Arrived { bytes: MIB, rtt }));
            assert_eq!(sending.link().unwrap().rtt_ms, expected);
        }
    }
}
