//! Which licences let their text be used freely: SPDX expressions, decided.
//!
//! The grammar is that of SPDX 2.3, annex D (`OR` binds weakest, then `AND`,
//! then `WITH`), plus the slash that old cargo manifests write for `OR`.

/// Licences whose text may be trained on, kept and passed on when the notice
/// goes with it: the manifest carries it for every document.
const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Exceptions that only add permissions to the licence they are attached to.
const PERMISSIVE_EXCEPTIONS: &[&str] = &["LLVM-exception"];

/// Longest expression that is read, bytes. The longest that cargo packages
/// carry is under 100.
const EXPRESSION_BYTES_MAX: usize = 1024;

/// Whether the SPDX `expression` lets everybody use the text under permissive
/// terms: an `OR` needs one permissive side, an `AND` both. What cannot be
/// parsed is not permissive.
pub fn is_permissive(expression: &str) -> bool {
    if expression.len() > EXPRESSION_BYTES_MAX {
        return false;
    }
    let words = words(expression);
    let mut parser = Parser { words: &words };
    parser.alternatives() == Some(true) && parser.words.is_empty()
}

/// Cuts an expression at spaces, around parentheses and around slashes.
fn words(expression: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for spaced in expression.split_whitespace() {
        let mut rest = spaced;
        while let Some(at) = rest.find(['(', ')', '/']) {
            words.extend([&rest[..at], &rest[at..=at]].into_iter().filter(|word| !word.is_empty()));
            rest = &rest[at + 1..];
        }
        if !rest.is_empty() {
            words.push(rest);
        }
    }
    words
}

/// Recursive descent over the words. Every method returns `None` where the
/// expression is malformed. Depth is bounded by [`EXPRESSION_BYTES_MAX`].
struct Parser<'a> {
    words: &'a [&'a str],
}

impl Parser<'_> {
    fn alternatives(&mut self) -> Option<bool> {
        let mut permissive = self.conjunction()?;
        while self.take(&["OR", "or", "/"]) {
            permissive |= self.conjunction()?;
        }
        Some(permissive)
    }

    fn conjunction(&mut self) -> Option<bool> {
        let mut permissive = self.licence()?;
        while self.take(&["AND", "and"]) {
            permissive &= self.licence()?;
        }
        Some(permissive)
    }

    fn licence(&mut self) -> Option<bool> {
        if self.take(&["("]) {
            let permissive = self.alternatives()?;
            return self.take(&[")"]).then_some(permissive);
        }
        let name = self.name()?;
        // `+` is "or any later version": what the version named here permits stays permitted.
        let permissive = contains(PERMISSIVE, name.strip_suffix('+').unwrap_or(name));
        if self.take(&["WITH", "with"]) {
            return Some(permissive & contains(PERMISSIVE_EXCEPTIONS, self.name()?));
        }
        Some(permissive)
    }

    fn name(&mut self) -> Option<&str> {
        let (&name, rest) = self.words.split_first()?;
        let is_operator =
            ["AND", "OR", "WITH", "(", ")", "/"].iter().any(|word| name.eq_ignore_ascii_case(word));
        if is_operator {
            return None;
        }
        self.words = rest;
        Some(name)
    }

    fn take(&mut self, spellings: &[&str]) -> bool {
        match self.words.split_first() {
            Some((word, rest)) if spellings.contains(word) => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

fn contains(list: &[&str], name: &str) -> bool {
    list.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::is_permissive;

    #[test]
    fn expressions_are_decided_as_spdx_says() {
        let table = [
            ("MIT", true),
            ("mit", true),
            ("Apache-2.0+", true),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 / MIT", true),
            ("Unlicense/MIT", true),
            ("MIT OR Apache-2.0 OR LGPL-2.1-or-later", true),
            ("GPL-3.0-only OR MIT", true),
            ("(Apache-2.0 OR MIT) AND BSD-3-Clause", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("CC0-1.0 OR MIT-0 OR Apache-2.0", true),
            ("Apache-2.0 AND ISC", true),
            ("0BSD OR BSL-1.0 OR Zlib", true),
            ("((MIT))", true),
            // AND binds tighter than OR: MIT OR (GPL AND GPL).
            ("MIT OR GPL-3.0-only AND GPL-2.0-only", true),
            ("GPL-3.0-only AND MIT OR GPL-2.0-only", false),
            ("(MIT OR Apache-2.0) AND GPL-3.0-only", false),
            ("MIT AND MPL-2.0", false),
            ("GPL-3.0-only", false),
            ("MPL-2.0", false),
            ("AGPL-3.0-or-later", false),
            ("LGPL-2.1-or-later", false),
            ("CC-BY-NC-4.0", false),
            ("Apache-2.0 WITH Classpath-exception-2.0", false),
            ("GPL-2.0-only WITH LLVM-exception", false),
            ("LicenseRef-proprietary", false),
            // Malformed is never permissive.
            ("", false),
            ("   ", false),
            ("MIT OR", false),
            ("OR MIT", false),
            ("MIT MIT", false),
            ("(MIT", false),
            ("MIT)", false),
            ("()", false),
            ("MIT AND AND ISC", false),
            ("MIT WITH", false),
            ("/", false),
            ("see the LICENSE file", false),
        ];
        for (expression, expected) in table {
            assert_eq!(is_permissive(expression), expected, "{expression:?}");
        }
    }

    #[test]
    fn an_endless_expression_is_refused_without_deep_recursion() {
        assert!(!is_permissive(&"(".repeat(10_000_000)));
        assert!(!is_permissive(&"MIT OR ".repeat(1_000_000)));
        assert!(is_permissive(&format!("{}MIT{}", "(".repeat(500), ")".repeat(500))));
    }
}
