//! Text into tokens, in parallel and always into the same ones.

use std::ops::Range;

use zoo_model::Tokenizer;

use crate::document::Document;
use crate::parallel;

/// Text is cut into pieces of about this size, bytes.
const PIECE_BYTES: usize = 64 << 10;
/// A piece grows at most to this size in search of a good place to cut.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// Pieces between two reports of progress.
const WAVE_PIECES: usize = 32;

/// The tokens of `documents`, one after the other, each ended by the
/// tokenizer's end of text if it has one. `report` is told the number of bytes
/// done.
pub(crate) fn encode(
    tokenizer: &Tokenizer,
    documents: &[Document],
    threads: usize,
    report: &mut dyn FnMut(u64),
) -> Vec<u32> {
    let pieces: Vec<Piece<'_>> = documents.iter().flat_map(|document| pieces(&document.text)).collect();
    let mut tokens = Vec::new();
    let mut bytes = 0;
    for wave in pieces.chunks(WAVE_PIECES) {
        let encoded = parallel::map(threads, wave, |piece| tokenizer.encode(piece.text));
        for (piece, encoded) in wave.iter().zip(encoded) {
            tokens.extend(encoded);
            tokens.extend(tokenizer.end_of_text().filter(|_| piece.is_last));
            bytes += piece.text.len() as u64;
        }
        report(bytes);
    }
    tokens
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece<'a> {
    text: &'a str,
    is_last: bool,
}

/// Cuts a text after a line's end where something visible stands on both sides
/// of it: no word and no run of white space goes across, so the tokens are
/// those of the whole text.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > PIECE_BYTES {
        let from = rest.ceil_char_boundary(PIECE_BYTES);
        let to = rest.floor_char_boundary(PIECE_BYTES_MAX);
        let (text, after) = rest.split_at(good_cut(rest, from..to).unwrap_or(to));
        pieces.push(Piece { text, is_last: after.is_empty() });
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece { text: rest, is_last: true });
    }
    pieces
}

fn good_cut(text: &str, within: Range<usize>) -> Option<usize> {
    let is_visible = |character: Option<char>| character.is_some_and(|character| !character.is_whitespace());
    text[within.clone()]
        .match_indices('\n')
        .map(|(at, _)| within.start + at)
        .find(|&at| is_visible(text[..at].chars().next_back()) && is_visible(text[at + 1..].chars().next()))
        .map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Origin;

    fn document(text: &str) -> Document {
        let origin = Origin { package: "p".into(), version: None, licence: None, path: "a.txt".into() };
        Document::new(origin, text.to_owned())
    }

    /// Indented code, blank lines, line ends of two kinds, letters beyond ASCII.
    fn long_text() -> String {
        let lines = [
            "some words in a line, größer\n",
            "//! more,\r\n\r\n",
            "    indented\n\n\n",
            "}\n",
            "visible();\n",
        ];
        (0..20_000).map(|line| format!("{}{}", "\t".repeat(line % 3), lines[line * 7 % 11 % 5])).collect()
    }

    #[test]
    fn pieces_cover_the_text_and_are_cut_between_visible_lines() {
        let text = long_text();
        let pieces = pieces(&text);
        assert!(pieces.len() > 5);
        assert_eq!(pieces.iter().map(|piece| piece.text).collect::<String>(), text);
        for (one, other) in pieces.iter().zip(&pieces[1..]) {
            assert!(one.text.ends_with('\n') && !one.text.ends_with("\n\n"));
            assert!(!other.text.starts_with(char::is_whitespace));
            assert!(!one.is_last && one.text.len() < PIECE_BYTES + 1000);
        }
        assert!(pieces.last().unwrap().is_last);
    }

    #[test]
    fn text_without_lines_is_cut_between_characters() {
        for text in ["", "x", &"語".repeat(PIECE_BYTES), &"\n".repeat(3 * PIECE_BYTES_MAX + 1)] {
            let pieces = pieces(text);
            assert_eq!(pieces.iter().map(|piece| piece.text.len()).sum::<usize>(), text.len());
            assert!(pieces.iter().all(|piece| (1..=PIECE_BYTES_MAX).contains(&piece.text.len())));
            assert_eq!(pieces.iter().filter(|piece| piece.is_last).count(), usize::from(!text.is_empty()));
        }
    }

    #[test]
    fn the_tokens_are_those_of_the_whole_text_for_any_number_of_threads() {
        let text = long_text();
        let trained = Tokenizer::train([text.as_str()], 400).unwrap();
        for tokenizer in [trained, Tokenizer::bytes()] {
            let mut expected = tokenizer.encode(&text);
            expected.extend(tokenizer.end_of_text());
            expected.extend(tokenizer.encode("short"));
            expected.extend(tokenizer.end_of_text());
            for threads in [1, 2, 5] {
                let mut done = Vec::new();
                let documents = [document(&text), document("short")];
                assert_eq!(encode(&tokenizer, &documents, threads, &mut |bytes| done.push(bytes)), expected);
                assert_eq!(done.last(), Some(&(text.len() as u64 + 5)));
            }
        }
    }
}
