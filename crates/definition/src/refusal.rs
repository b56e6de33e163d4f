//! Why a file is not a network.

use std::fmt;

/// What is wrong, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Line of the file, counted from 1; none where the file as a whole is wrong.
    pub line: Option<u64>,
    /// The node that it is about.
    pub node: Option<String>,
    /// What is wrong.
    pub cause: String,
    /// What to do.
    pub hint: String,
}

impl Refusal {
    pub(crate) fn new(line: u64, cause: impl Into<String>, hint: impl Into<String>) -> Self {
        let line = (line > 0).then_some(line);
        Self { line, node: None, cause: cause.into(), hint: hint.into() }
    }

    pub(crate) fn of_node(self, id: &str) -> Self {
        Self { node: self.node.or_else(|| Some(id.to_owned())), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        if let Some(line) = self.line {
            write!(formatter, "line {line}: ")?;
        }
        if let Some(node) = &self.node {
            write!(formatter, "node '{node}': ")?;
        }
        write!(formatter, "{}\nhint: {}", self.cause, self.hint)
    }
}

impl std::error::Error for Refusal {}

/// The one of `known` that is most like `word`, if any is: for hints.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = known.into_iter().map(|other| (distance(word, other), other));
    let most = 1 + word.chars().count() / 4;
    close
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// Letters to change, add or remove (Levenshtein, 1966); words are cut at 64 letters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.iter().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let swapped = before + usize::from(letter != other);
            before = row[j + 1];
            row[j + 1] = swapped.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
