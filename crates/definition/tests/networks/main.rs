//! Files of networks: those that are good, and several hundred that are not.

mod generated;
mod good;
mod handwritten;

/// The examples, by name.
const EXAMPLES: [(&str, &str); 5] = [
    ("heads-tiny", include_str!("../../../../examples/networks/heads-tiny.yaml")),
    ("attention-tiny", include_str!("../../../../examples/networks/attention-tiny.yaml")),
    ("mlp-tiny", include_str!("../../../../examples/networks/mlp-tiny.yaml")),
    ("heads-27m", include_str!("../../../../examples/networks/heads-27m.yaml")),
    ("heads-45m", include_str!("../../../../examples/networks/heads-45m.yaml")),
];

fn example(name: &str) -> &'static str {
    EXAMPLES.iter().find(|(other, _)| *other == name).map(|(_, text)| *text).expect("an example")
}

/// Asserts that a file is refused as people need it; returns what is said.
fn refused(what: &str, text: &str) -> zoo_definition::Refusal {
    let refusal = match zoo_definition::NetworkFile::read(text) {
        Ok(_) => panic!("{what}: accepted\n{text}"),
        Err(refusal) => refusal,
    };
    let lines = text.lines().count() as u64;
    let line = refusal.line.unwrap_or_else(|| panic!("{what}: no line in {refusal}"));
    assert!((1..=lines.max(1)).contains(&line), "{what}: line {line} of {lines}: {refusal}");
    assert!(!refusal.cause.is_empty() && refusal.hint.len() > 8, "{what}: {refusal}");
    assert!(refusal.to_string().starts_with(&format!("line {line}: ")), "{what}: {refusal}");
    refusal
}
