//! Numbers for people.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size, in powers of 1000.
pub fn bytes(value: u64) -> String {
    let value = value as f64;
    match value {
        0.0..1e3 => format!("{value} B"),
        1e3..1e6 => format!("{:.1} kB", value / 1e3),
        1e6..1e9 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.2} GB", value / 1e9),
    }
}

/// Minutes and seconds.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
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
        let counts = [(0, "0"), (999, "999"), (1000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")];
        counts.iter().for_each(|(value, text)| assert_eq!(count(*value), *text));
        let sizes = [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (61_234_567, "61.2 MB"), (2_500_000_000, "2.50 GB")];
        sizes.iter().for_each(|(value, text)| assert_eq!(bytes(*value), *text));
        assert_eq!(clock(Duration::from_millis(62_900)), "1:02");
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\tc\nd\r"), "a\u{fffd}[2Jb\tc\nd\u{fffd}");
    }
}
