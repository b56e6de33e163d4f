//! Keys of one place of a file: each is taken once, and what nobody took is refused.

use crate::refusal::{Refusal, nearest};
use crate::tree::{Tree, Value};

/// What is left of the keys of a place.
#[derive(Debug)]
pub struct Keys<'a> {
    /// The place's own line.
    pub line: u64,
    what: &'static str,
    left: Vec<(&'a str, &'a Tree)>,
    /// Everything that was asked for, for hints.
    known: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    /// The keys of `tree`, which `what` names in messages.
    pub fn of(tree: &'a Tree, what: &'static str) -> Result<Self, Refusal> {
        let left = match &tree.value {
            Value::Keys(keys) => keys.iter().map(|(key, tree)| (key.as_str(), tree)).collect(),
            Value::Nothing => Vec::new(),
            other => {
                let cause = format!("{what} is {}, not keys and values", other.what());
                return Err(Refusal::new(
                    tree.line,
                    cause,
                    "write key: value, one per line, or {key: value}",
                ));
            }
        };
        Ok(Self { line: tree.line, what, left, known: Vec::new() })
    }

    /// No keys at all.
    pub fn none(line: u64, what: &'static str) -> Self {
        Self { line, what, left: Vec::new(), known: Vec::new() }
    }

    /// Takes a key.
    pub fn take(&mut self, key: &'static str) -> Option<&'a Tree> {
        self.known.push(key);
        let at = self.left.iter().position(|(name, _)| *name == key)?;
        let (_, tree) = self.left.remove(at);
        (!matches!(tree.value, Value::Nothing)).then_some(tree)
    }

    /// Looks at a key that will be taken later.
    pub fn look(&self, key: &str) -> Option<&'a Tree> {
        let (_, tree) = self.left.iter().find(|(name, _)| *name == key)?;
        (!matches!(tree.value, Value::Nothing)).then_some(*tree)
    }

    /// Takes a key that must be there.
    pub fn need(&mut self, key: &'static str, example: &str) -> Result<&'a Tree, Refusal> {
        self.take(key).ok_or_else(|| {
            Refusal::new(self.line, format!("{} has no {key}", self.what), format!("add {key}: {example}"))
        })
    }

    /// Refuses what nobody took.
    pub fn end(self) -> Result<(), Refusal> {
        let Some((key, tree)) = self.left.first() else { return Ok(()) };
        let hint = match nearest(key, self.known.iter().copied()) {
            Some(known) => format!("did you mean {known}?"),
            None if self.known.is_empty() => "remove it: there is nothing to configure here".to_owned(),
            None => format!("the keys here are {}", self.known.join(", ")),
        };
        Err(Refusal::new(tree.line, format!("{} has an unknown key '{key}'", self.what), hint))
    }
}

/// A text.
pub fn text<'a>(tree: &'a Tree, key: &str) -> Result<&'a str, Refusal> {
    match &tree.value {
        Value::Text(text) => Ok(text),
        other => {
            let cause = format!("{key} is {}, not one value", other.what());
            Err(Refusal::new(tree.line, cause, format!("write {key}: value")))
        }
    }
}

/// A list.
pub fn list<'a>(tree: &'a Tree, key: &str) -> Result<&'a [Tree], Refusal> {
    match &tree.value {
        Value::List(list) => Ok(list),
        other => {
            let cause = format!("{key} is {}, not a list", other.what());
            Err(Refusal::new(tree.line, cause, "write one item per line, each after a dash"))
        }
    }
}

/// A size: a whole number of at least 1.
pub fn size(tree: &Tree, key: &str) -> Result<usize, Refusal> {
    let text = text(tree, key)?;
    text.trim().parse().ok().filter(|size| (1..=1 << 20).contains(size)).ok_or_else(|| {
        let cause = format!("{key} is '{text}', not a size");
        Refusal::new(tree.line, cause, "write a whole number from 1 to 1048576")
    })
}

/// A finite number.
pub fn number(tree: &Tree, key: &str) -> Result<f64, Refusal> {
    let text = text(tree, key)?;
    text.trim().parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| {
        Refusal::new(tree.line, format!("{key} is '{text}', not a number"), "write a number, as in 0.1")
    })
}

/// Yes or no.
pub fn truth(tree: &Tree, key: &str) -> Result<bool, Refusal> {
    one_of(tree, key, &[("true", true), ("false", false)])
}

/// One of a few words.
pub fn one_of<T: Copy>(tree: &Tree, key: &str, known: &[(&'static str, T)]) -> Result<T, Refusal> {
    let text = text(tree, key)?;
    let found = known.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        Refusal::new(tree.line, format!("{key} is '{text}'"), format!("write one of {}", words.join(", ")))
    })
}
