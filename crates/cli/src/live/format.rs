//! Numbers for people.

use std::time::Duration;

use indicatif::{DecimalBytes, HumanCount};
use zoo_protocol::{Link, Profile, Speeds};

/// `1234567` as `1,234,567`.
pub fn count(value: u64) -> String {
    HumanCount(value).to_string()
}

/// A size, in powers of 1000.
pub fn bytes(value: u64) -> String {
    DecimalBytes(value).to_string()
}

/// How many of something that takes an s when there are several.
pub fn several(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// How fast a node is in each numeric profile.
pub fn speeds(speeds: Speeds) -> String {
    let each = Profile::ALL.map(|profile| format!("{profile} {}", count(speeds.of(profile).into())));
    format!("{} tokens/s", each.join(", "))
}

/// How a link turned out: what it uploads, and how long an answer takes.
pub fn link(link: Option<Link>) -> String {
    let measured =
        |link: Link| format!("{}/s {} ms", bytes(u64::from(link.upload_kib_per_s) << 10), link.rtt_ms);
    link.map_or_else(String::new, measured)
}

/// Minutes and seconds, and hours if there are any.
pub fn clock(time: Duration) -> String {
    let (minutes, seconds) = (time.as_secs() / 60, time.as_secs() % 60);
    match minutes / 60 {
        0 => format!("{minutes}:{seconds:02}"),
        hours => format!("{hours}:{:02}:{seconds:02}", minutes % 60),
    }
}

/// What a stranger or a model wrote, so that it cannot steer the terminal it is shown on.
pub fn harmless(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n' && c != '\t', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!((count(999), count(1_234_567)), ("999".into(), "1,234,567".into()));
        assert_eq!((bytes(999), bytes(61_234_567)), ("999 B".into(), "61.23 MB".into()));
        assert_eq!((several(1, "thread"), several(2, "thread")), ("1 thread".into(), "2 threads".into()));
        assert_eq!(clock(Duration::from_millis(62_900)), "1:02");
        assert_eq!(clock(Duration::from_secs(3600 * 30 + 5)), "30:00:05");
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\tc\nd\r"), "a\u{fffd}[2Jb\tc\nd\u{fffd}");
    }
}
