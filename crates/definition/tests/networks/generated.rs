//! Good files with one thing broken, in every place where it can be; and files of anything.

use proptest::prelude::*;
use zoo_definition::{NetworkFile, svg, terminal};

use crate::{EXAMPLES, example, refused};

/// The files that have one node or edge a line.
const BASES: [&str; 2] = ["heads-tiny", "attention-tiny"];

/// Every line that `wanted` names, changed by `change` (none: left out): the number of the line, and the file.
fn changed(
    base: &str,
    wanted: impl Fn(&str) -> bool,
    change: impl Fn(&str) -> Option<String>,
) -> Vec<(u64, String)> {
    let lines: Vec<&str> = base.lines().collect();
    let places = (0..lines.len()).filter(|&at| wanted(lines[at]));
    let file = |at: usize| {
        let kept = lines
            .iter()
            .enumerate()
            .filter_map(|(other, line)| if other == at { change(line) } else { Some((*line).to_owned()) });
        (at as u64 + 1, kept.collect::<Vec<_>>().join("\n"))
    };
    places.map(file).collect()
}

fn is_node(line: &str) -> bool {
    line.contains("- {id: ")
}

fn is_edge(line: &str) -> bool {
    line.contains("- {from: ")
}

/// The word behind `key: `.
fn word<'a>(line: &'a str, key: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("{key}: ")).expect("the key is there");
    rest.split([',', '}']).next().expect("a first part")
}

fn with_word(line: &str, key: &str, new: &str) -> Option<String> {
    Some(line.replacen(&format!("{key}: {}", word(line, key)), &format!("{key}: {new}"), 1))
}

#[test]
fn every_file_with_one_thing_broken_is_refused_with_its_line_and_a_hint() {
    let mut count = 0;
    for name in BASES {
        let base = example(name);
        NetworkFile::read(base).expect("the file itself is good");
        type Wanted = fn(&str) -> bool;
        type Change = fn(&str) -> Option<String>;
        // What is broken, where, what is said, and whether of the very line.
        let classes: [(&str, Wanted, Change, &str, bool); 15] = [
            (
                "a type with a letter too many",
                is_node,
                |it| with_word(it, "type", &format!("{}x", word(it, "type"))),
                "is not known",
                true,
            ),
            (
                "a type that nobody knows",
                is_node,
                |it| with_word(it, "type", "convolution_of_nothing"),
                "is not known",
                true,
            ),
            (
                "a type that belongs elsewhere",
                is_node,
                |it| with_word(it, "type", "tokenizer"),
                "no part of a network",
                true,
            ),
            (
                "no type",
                is_node,
                |it| Some(it.replacen(&format!("type: {}", word(it, "type")), "scope: shared", 1)),
                "",
                true,
            ),
            (
                "a key that nobody knows",
                is_node,
                |it| Some(it.replacen("type:", "colour: red, type:", 1)),
                "unknown key 'colour'",
                true,
            ),
            (
                "a scope that nobody knows",
                is_node,
                |it| Some(it.replacen("type:", "scope: everybody, type:", 1)),
                "",
                true,
            ),
            (
                "a precision of its own",
                is_node,
                |it| Some(it.replacen("type:", "precision: fp16, type:", 1)),
                "16-bit floats",
                true,
            ),
            (
                "an optimiser that nobody knows",
                is_node,
                |it| Some(it.replacen("type:", "optimizer: lion, type:", 1)),
                "optimizer is 'lion'",
                true,
            ),
            ("no id", is_node, |it| Some(it.replacen("id:", "name:", 1)), "has no id", true),
            (
                "an id twice",
                |it| is_node(it) && !it.contains("id: embedding,"),
                |it| with_word(it, "id", "embedding"),
                "the same id",
                true,
            ),
            ("a node that is gone", is_node, |_| None, "", false),
            ("an edge to nobody", is_edge, |it| with_word(it, "to", "nobody.at.all"), "no such node", true),
            (
                "an edge from nobody",
                is_edge,
                |it| with_word(it, "from", "nobody.at.all"),
                "no such node",
                true,
            ),
            ("an edge twice", is_edge, |it| Some(format!("{it}\n{it}")), "", false),
            (
                "an edge that is not closed",
                is_edge,
                |it| it.rsplit_once('}').map(|(line, _)| line.to_owned()),
                "not YAML",
                false,
            ),
        ];
        for (what, wanted, change, cause, of_the_line) in classes {
            for (line, text) in changed(base, wanted, change) {
                let what = format!("{name}, {what}, line {line}");
                let refusal = refused(&what, &text);
                assert!(refusal.cause.contains(cause), "{what}: {refusal}");
                assert!(!of_the_line || refusal.line == Some(line), "{what}: {refusal}");
                count += 1;
            }
        }
        // A residual is the one input that may be missing.
        let needed = |line: &str| is_edge(line) && !(name == "attention-tiny" && line.contains("to_slot: 1"));
        for (line, text) in changed(base, needed, |_| None) {
            refused(&format!("{name}, an edge that is gone, line {line}"), &text);
            count += 1;
        }
        // Whoever feeds those that fed it: a cycle, or a slot that is not free, or an end that goes on.
        for (line, text) in changed(base, is_edge, |it| {
            Some(format!("{it}\n  - {{from: {}, to: {}}}", word(it, "to"), word(it, "from")))
        }) {
            refused(&format!("{name}, an edge and its opposite, line {line}"), &text);
            count += 1;
        }
    }
    assert!(count > 400, "{count} files");
}

#[test]
fn every_size_that_is_wrong_is_refused_with_its_line() {
    let mut count = 0;
    let sizes = ["in_dim", "out_dim", "input_dim", "dim", "num_outputs", "seq_len", "head_dim", "vocab_size"];
    for (name, key) in BASES.into_iter().flat_map(|name| sizes.map(|key| (name, key))) {
        for wrong in ["0", "-3", "1.5", "many", "[1]", "99999999999999999999", "17"] {
            if (name, wrong) == ("attention-tiny", "17") && ["vocab_size", "out_dim"].contains(&key) {
                continue; // Its head has a weight of its own, so both may be anything.
            }
            let has = |line: &str| is_node(line) && line.contains(&format!("{key}: "));
            for (line, text) in changed(example(name), has, |it| with_word(it, key, wrong)) {
                let what = format!("{name}, {key}: {wrong}, line {line}");
                let refusal = refused(&what, &text);
                // 17 is a size: it is the edges that do not fit, and another node may be the first to say so.
                assert!(wrong == "17" || refusal.line == Some(line), "{what}: {refusal}");
                count += 1;
            }
        }
    }
    assert!(count > 200, "{count} files");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        let _ = NetworkFile::read(&text);
    }

    #[test]
    fn a_file_with_anything_in_any_place_is_read_or_refused_with_a_hint(
        which in 0usize..3, from in 0usize..4000, length in 0usize..60, new in "[ -~\n]{0,20}",
    ) {
        let base = EXAMPLES[which].1;
        let from = from % base.len();
        let to = (from + length).min(base.len());
        let text = format!("{}{new}{}", &base[..from], &base[to..]);
        match NetworkFile::read(&text) {
            Ok(file) => {
                prop_assert_eq!(&file.text, &text);
                prop_assert!(svg(&file.definition).ends_with("</svg>\n"));
                prop_assert!(!terminal(&file.definition).is_empty());
            }
            Err(refusal) => prop_assert!(refusal.line.is_some() && !refusal.hint.is_empty(), "{}", refusal),
        }
    }
}
