//! A point in time, as people write it.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 24 * 3600;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;
/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;

/// Seconds since 1970. As text `2025-06-20T12:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub u64);

impl Time {
    /// By this machine's clock.
    #[expect(clippy::disallowed_methods, reason = "a person asks whether it is valid now")]
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / DAY_S, self.0 % DAY_S);
        let (year, month, day) = date(i64::try_from(days).unwrap_or(i64::MAX / 2));
        let (hours, minutes) = (second / 3600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{:02}Z", second % 60)
    }
}

impl FromStr for Time {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(seconds) = text.parse() {
            return Ok(Self(seconds));
        }
        read(text).ok_or("not a time: write 2025-06-20, 2025-06-20T12:00:00Z or seconds since 1970")
    }
}

fn read(text: &str) -> Option<Time> {
    let (date_text, clock) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let [year, month, day] = numbers(date_text, '-')?;
    let [hours, minutes, seconds] = numbers(clock.strip_suffix('Z')?, ':')?;
    if !(1970..=9999).contains(&year) || hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let days =
        (0..=i64::from(year - 1970 + 1) * 366).find(|days| date(*days) == (year.into(), month, day))?;
    Some(Time(days.unsigned_abs() * DAY_S + u64::from(hours * 3600 + minutes * 60 + seconds)))
}

fn numbers(text: &str, between: char) -> Option<[u32; 3]> {
    let digits =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
    let numbers: Option<Vec<u32>> = text.split(between).map(digits).collect();
    numbers?.try_into().ok()
}

/// Year, month and day, so many days after 1970-01-01 (H. Hinnant, chrono-Compatible Low-Level Date Algorithms).
fn date(days: i64) -> (i64, u32, u32) {
    let days = days + EPOCH_DAYS;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56Z", 951_827_696),
            ("2025-06-20T00:00:00Z", 1_750_377_600),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(text.parse(), Ok(Time(seconds)));
            assert_eq!(Time(seconds).to_string(), text);
        }
        assert_eq!("2025-06-20".parse(), Ok(Time(1_750_377_600)));
        assert_eq!("1750377600".parse(), Ok(Time(1_750_377_600)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "today",
            "2025-02-29",
            "2025-13-01",
            "2025-06-20T24:00:00Z",
            "2025-06-20T12:00:00",
            "1969-12-31",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
