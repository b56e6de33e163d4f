//! The hours of the day in which a node works.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

const DAY_MINUTES: u32 = 24 * 60;

/// Where a clock stands against UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UtcOffset {
    minutes: i32,
}

/// From one time of the day to another, every day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Minutes after midnight.
    from: u32,
    until: u32,
}

/// The hours of a node, by a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// When it works.
    pub hours: Hours,
    /// By which clock.
    pub offset: UtcOffset,
}

impl FromStr for Hours {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((from, until)) = text.split_once('-') else {
            bail!(
                "{:?} is not from one time to another\n\
                 hint: write 22-7 or 22:30-6:45, in UTC unless --utc-offset says otherwise",
                shown(text)
            );
        };
        // 24 is midnight, at the end of a day.
        let time = |text| Ok::<_, anyhow::Error>(time(text).with_context(|| no_time(text))? % DAY_MINUTES);
        let (from, until) = (time(from)?, time(until)?);
        if from == until {
            bail!(
                "hours from a time to the same time are none\nhint: leave --hours away to work around the clock"
            );
        }
        Ok(Self { from, until })
    }
}

impl FromStr for UtcOffset {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (sign, size) = match text.strip_prefix('-') {
            Some(size) => (-1, size),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let minutes = time(size).map(|minutes| sign * minutes.cast_signed());
        let minutes = minutes.filter(|minutes| (-12 * 60..=14 * 60).contains(minutes));
        let minutes = minutes.with_context(|| {
            let shown = shown(text);
            format!(
                "{shown:?} is no offset from UTC\nhint: from -12 to +14, minutes after a colon: +2, -3:30"
            )
        })?;
        Ok(Self { minutes })
    }
}

/// Minutes after midnight, up to and with 24:00.
fn time(text: &str) -> Option<u32> {
    let number = |text: &str, most: u32| {
        let is_plain = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| is_plain && *number <= most)
    };
    let (hour, minute) = text.split_once(':').unwrap_or((text, "0"));
    Some(number(hour, 24)? * 60 + number(minute, 59)?).filter(|minutes| *minutes <= DAY_MINUTES)
}

fn no_time(text: &str) -> String {
    let shown = shown(text);
    format!("{shown:?} is no time of the day\nhint: from 0 to 24, minutes after a colon: 22, 6:45")
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

impl Schedule {
    /// Whether the node works at a time, in seconds since the Unix epoch.
    pub fn is_open(&self, now_s: u64) -> bool {
        let Hours { from, until } = self.hours;
        let minute = self.second_of_day(now_s) / 60;
        if from < until { (from..until).contains(&minute) } else { minute >= from || minute < until }
    }

    /// How long until the hours begin, or end.
    pub fn until_change(&self, now_s: u64) -> Duration {
        let change = if self.is_open(now_s) { self.hours.until } else { self.hours.from };
        let (day, now) = (DAY_MINUTES * 60, self.second_of_day(now_s));
        Duration::from_secs(((change * 60 + day - now - 1) % day + 1).into())
    }

    fn second_of_day(&self, now_s: u64) -> u32 {
        let day = i64::from(DAY_MINUTES) * 60;
        let since_epoch = (now_s % day.unsigned_abs()).cast_signed() + i64::from(self.offset.minutes) * 60;
        since_epoch.rem_euclid(day) as u32
    }
}

/// Seconds since the Unix epoch, by this machine's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the hours of the day are those of the wall; no result depends on them"
)]
pub fn wall_clock_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hours { from, until } = self.hours;
        write!(f, "{:02}:{:02} to {:02}:{:02} UTC", from / 60, from % 60, until / 60, until % 60)?;
        let (minutes, sign) =
            (self.offset.minutes.unsigned_abs(), if self.offset.minutes < 0 { '-' } else { '+' });
        match (minutes / 60, minutes % 60) {
            (0, 0) => Ok(()),
            (hours, 0) => write!(f, "{sign}{hours}"),
            (hours, minutes) => write!(f, "{sign}{hours}:{minutes:02}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(hours: &str, offset: &str) -> Schedule {
        Schedule { hours: hours.parse().unwrap(), offset: offset.parse().unwrap() }
    }

    /// A time of the day in UTC, some day.
    fn at(hour: u64, minute: u64) -> u64 {
        20_000 * 86_400 + hour * 3600 + minute * 60
    }

    #[test]
    fn a_node_works_in_its_hours_also_over_midnight_and_by_another_clock() {
        let cases = [
            ("9-17", "0", at(8, 59), false, 1),
            ("9-17", "0", at(9, 0), true, 8 * 60),
            ("9-17", "0", at(16, 59), true, 1),
            ("9-17", "0", at(17, 0), false, 16 * 60),
            ("22-7", "0", at(21, 59), false, 1),
            ("22-7", "0", at(22, 0), true, 9 * 60),
            ("22-7", "0", at(0, 0), true, 7 * 60),
            ("22-7", "0", at(7, 0), false, 15 * 60),
            ("22:30-6:45", "0", at(22, 29), false, 1),
            ("22:30-6:45", "0", at(6, 44), true, 1),
            ("18-24", "0", at(23, 59), true, 1),
            ("18-24", "0", at(0, 0), false, 18 * 60),
            ("22-7", "+2", at(20, 0), true, 9 * 60),
            ("22-7", "+2", at(5, 0), false, 15 * 60),
            ("22-7", "-3:30", at(1, 29), false, 1),
            ("22-7", "-3:30", at(1, 30), true, 9 * 60),
        ];
        for (hours, offset, now, open, minutes) in cases {
            let schedule = schedule(hours, offset);
            assert_eq!(schedule.is_open(now), open, "{schedule} at {now}");
            assert_eq!(schedule.until_change(now), Duration::from_secs(minutes * 60), "{schedule} at {now}");
        }
    }

    #[test]
    fn hours_read_as_they_were_meant() {
        assert_eq!(schedule("22-7", "0").to_string(), "22:00 to 07:00 UTC");
        assert_eq!(schedule("22:30-6:45", "+2").to_string(), "22:30 to 06:45 UTC+2");
        assert_eq!(schedule("8-24", "-3:30").to_string(), "08:00 to 00:00 UTC-3:30");
    }

    #[test]
    fn what_is_no_hours_is_refused_with_a_hint() {
        for text in [
            "", "22", "22-", "-7", "25-7", "22-7:60", "22-24:01", "a-b", "22--7", "+1-2", "007-9", "7-7",
            "0-24",
        ] {
            let error = text.parse::<Hours>().unwrap_err().to_string();
            assert!(error.contains("\nhint: "), "{text}: {error}");
        }
        for text in ["", "+", "15", "-13", "+2:60", "CET", "--2", "+14:01"] {
            let error = text.parse::<UtcOffset>().unwrap_err().to_string();
            assert!(error.contains("\nhint: from -12 to +14"), "{text}: {error}");
        }
    }
}
