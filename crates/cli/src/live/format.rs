//! Numbers for people.

use std::time::Duration;

use indicatif::{DecimalBytes, HumanCount};
use zoo_protocol::{Link, Profile, RoundPlan, Speeds};

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

/// A round, which people count from 1; of how many, where that is known before.
pub fn round_of(round: u32, plan: &RoundPlan) -> String {
    let number = u64::from(round) + 1;
    match plan.rounds() {
        Some(rounds) => format!("{}/{rounds}", number.min(rounds)),
        None => number.to_string(),
    }
}

/// How a job's steps are spread over rounds.
pub fn rhythm(plan: &RoundPlan) -> String {
    let most = plan.rhythm.last().map_or(1, |stretch| stretch.most_inner_steps);
    let after_warmup = plan.rhythm.iter().filter(|stretch| stretch.most_inner_steps > 1);
    let least = after_warmup.map(|stretch| stretch.inner_steps).min().unwrap_or(1);
    match (plan.rounds(), plan.rhythm.len()) {
        (Some(rounds), 1) => format!("{} of {}", several(rounds, "round"), several(least.into(), "step")),
        _ if least == most => format!("{} in rounds of {least} at last", several(plan.steps, "step")),
        _ => format!("{} in rounds of {least} to {most} at last", several(plan.steps, "step")),
    }
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
