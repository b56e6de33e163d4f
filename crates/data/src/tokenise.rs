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

/// The tokens of `documents`, one after the other. `report` is told the number
/// of bytes done.
pub(crate) fn encode(
    tokenizer: &Tokenizer,
    documents: &[Document],
    threads: usize,
    report: &mut dyn FnMut(u64),
) -> Vec<u32> {
    let pieces: Vec<&str> = documents
        .iter()
        .flat_map(|document| pieces(&document.text).into_iter().map(|range| &document.text[range]))
        .collect();
    let mut tokens = Vec::new();
    let mut bytes = 0;
    for wave in pieces.chunks(WAVE_PIECES) {
        for encoded in parallel::map(threads, wave, |piece| tokenizer.encode(piece)) {
            tokens.extend(encoded);
        }
        bytes += wave.iter().map(|piece| piece.len() as u64).sum::<u64>();
        report(bytes);
    }
    tokens
}

/// Cuts a text where a new line starts with something visible: no word, run of
/// spaces or run of newlines goes across, so the tokens are those of the whole.
fn pieces(text: &str) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while text.len() - start > PIECE_BYTES {
        let from = text.ceil_char_boundary(start + PIECE_BYTES);
        let to = text.floor_char_boundary((start + PIECE_BYTES_MAX).min(text.len()));
        let end = text[from..to]
            .match_indices('\n')
            .map(|(at, _)| from + at + 1)
            .find(|&at| text[at..].chars().next().is_some_and(|next| !next.is_whitespace()))
            .unwrap_or(to);
        pieces.push(start..end);
        start = end;
    }
    if start < text.len() {
        pieces.push(start..text.len());
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_text_and_start_at_visible_lines() {
        let line = "some words in a line, größer\n";
        let indented = "    indented\n\n";
        let text: String = [line, indented, indented].concat().repeat(10_000);
        let pieces = pieces(&text);
        assert!(pieces.len() > 5);
        assert_eq!(pieces.iter().map(|range| &text[range.clone()]).collect::<String>(), text);
        for range in &pieces {
            assert!(text[range.clone()].starts_with("some words"), "{range:?}");
            assert!(range.len() < PIECE_BYTES + 200);
        }
    }

    #[test]
    fn text_without_lines_is_cut_between_characters() {
        for text in ["", "x", &"語".repeat(PIECE_BYTES), &"\n".repeat(3 * PIECE_BYTES_MAX + 1)] {
            let pieces = pieces(text);
            assert_eq!(pieces.iter().map(|range| range.len()).sum::<usize>(), text.len());
            assert!(pieces.iter().all(|range| !range.is_empty() && range.len() <= PIECE_BYTES_MAX));
        }
    }
}
