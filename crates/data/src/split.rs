//! What is held out to measure the model with, fixed before training.

use serde::{Deserialize, Serialize};
use zoo_content::Digest;

use crate::DataError;
use crate::document::{Document, Exclusion, Reason};
use crate::selection::order_key;

/// Part of the characters of a single text that is trained on; the rest is
/// held out. The same 90/10 split as nanoGPT's character-level data set.
const TRAINING_PART_OF_ONE_TEXT: f64 = 0.9;
/// A whole document is held out only if it is at most one part in this many of
/// the corpus.
const WHOLE_DOCUMENT_PART_MAX: u64 = 4;
/// Fewest characters that can be split.
const CHARACTERS_MIN: usize = 2;

/// How much is held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Of many documents, those held out are together at most this part of the
    /// corpus, in percent of its bytes.
    pub percent: u64,
    /// Held-out text at most, bytes: evaluation takes time in every round.
    pub bytes_max: u64,
}

impl Default for HeldOut {
    /// 5 percent, at most 256 KiB.
    fn default() -> Self {
        Self { percent: 5, bytes_max: 256 << 10 }
    }
}

/// A corpus in its two parts. No byte is in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Trained on.
    pub training: Vec<Document>,
    /// Measured with, never trained on.
    pub held_out: Vec<Document>,
    /// Left out of both.
    pub excluded: Vec<Exclusion>,
}

/// Splits a corpus. Of many documents some are held out whole, chosen by their
/// digests, so that the choice follows from the text alone. A single text, or
/// texts all too large to be held out whole, are cut: the end of the smallest
/// is held out.
///
/// # Errors
/// Fewer than two characters altogether.
pub fn split(documents: Vec<Document>, rule: HeldOut, seed: u64) -> Result<Split, DataError> {
    let total: u64 = documents.iter().map(Document::bytes).sum();
    let target = (total / 100).saturating_mul(rule.percent).clamp(1, rule.bytes_max.max(1));
    let whole = choose_whole(&documents, total, target, rule.bytes_max, seed);
    if whole.is_empty() {
        return cut_smallest(documents, rule.bytes_max);
    }
    let (held_out, training) = documents.into_iter().partition(|document| whole.contains(&document.digest));
    Ok(Split { training, held_out, excluded: Vec::new() })
}

/// Digests of the documents to hold out whole: in an order of their digests,
/// those that fit into `target` bytes together, or else the smallest one.
fn choose_whole(documents: &[Document], total: u64, target: u64, bytes_max: u64, seed: u64) -> Vec<Digest> {
    if documents.len() < 2 {
        return Vec::new();
    }
    let mut ordered: Vec<&Document> = documents.iter().collect();
    ordered.sort_by_cached_key(|document| order_key("held out", seed, document.digest.as_bytes()));
    let mut room = target;
    let mut whole = Vec::new();
    for document in &ordered {
        if document.bytes() <= room {
            room -= document.bytes();
            whole.push(document.digest);
        }
    }
    if whole.is_empty() {
        let smallest = ordered.iter().min_by_key(|document| document.bytes());
        let small =
            smallest.filter(|document| document.bytes() <= bytes_max.min(total / WHOLE_DOCUMENT_PART_MAX));
        whole.extend(small.map(|document| document.digest));
    }
    whole
}

/// Holds out the last tenth of the smallest document's characters.
fn cut_smallest(mut documents: Vec<Document>, bytes_max: u64) -> Result<Split, DataError> {
    let smallest = (0..documents.len())
        .filter(|&index| documents[index].text.chars().nth(CHARACTERS_MIN - 1).is_some())
        .min_by_key(|&index| documents[index].bytes());
    let Some(smallest) = smallest else {
        let characters = documents.iter().map(|document| document.text.chars().count()).sum();
        return Err(DataError::TooSmall { characters, least: CHARACTERS_MIN });
    };
    let document = &documents[smallest];
    let cut = byte_of_character(&document.text, training_characters(document.text.chars().count()));
    let limit = cut.saturating_add(usize::try_from(bytes_max).unwrap_or(usize::MAX));
    let end = document.text.floor_char_boundary(limit);
    let held_out = document.part(cut, end);
    let rest = document.bytes() - end as u64;
    let mut excluded = Vec::new();
    if rest > 0 {
        let origin = document.origin.clone();
        excluded.push(Exclusion { origin, reason: Reason::HeldOutLimit, bytes: rest });
    }
    documents[smallest] = document.part(0, cut);
    Ok(Split { training: documents, held_out: vec![held_out], excluded })
}

/// Characters of a text of `characters` that are trained on, rounded down from
/// the product in f64, as Python's `int(0.9 * n)` is.
fn training_characters(characters: usize) -> usize {
    (characters as f64 * TRAINING_PART_OF_ONE_TEXT) as usize
}

/// The byte at which the character of this index starts.
fn byte_of_character(text: &str, character: usize) -> usize {
    text.char_indices().nth(character).map_or(text.len(), |(byte, _)| byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Origin;
    use proptest::prelude::*;

    fn documents(texts: &[String]) -> Vec<Document> {
        let document = |(index, text): (usize, &String)| {
            let path = format!("{index}.txt");
            Document::new(Origin { package: "p".into(), version: None, licence: None, path }, text.clone())
        };
        texts.iter().enumerate().map(document).collect()
    }

    fn one(text: &str) -> Vec<Document> {
        documents(&[text.to_owned()])
    }

    const NO_LIMIT: HeldOut = HeldOut { percent: 5, bytes_max: u64::MAX };

    #[test]
    fn one_text_is_cut_where_nanogpt_cuts_it() {
        // int(0.9 * n) in Python; the last but one is the length of its Shakespeare.
        for (characters, expected) in
            [(2, 1), (9, 8), (10, 9), (11, 9), (99, 89), (1_115_394, 1_003_854), (70, 63)]
        {
            let text: String = ('a'..='z').cycle().take(characters).collect();
            let split = split(one(&text), NO_LIMIT, 1).unwrap();
            assert_eq!(split.training[0].text, text[..expected]);
            assert_eq!(split.held_out[0].text, text[expected..]);
            assert_eq!(split.held_out[0].offset, expected as u64);
            assert!(split.excluded.is_empty());
        }
    }

    #[test]
    fn the_cut_counts_characters_not_bytes() {
        let split = split(one("ääääääääää語"), NO_LIMIT, 1).unwrap();
        assert_eq!((split.training[0].text.as_str(), split.held_out[0].text.as_str()), ("äääääääää", "ä語"));
        assert_eq!(split.held_out[0].offset, 18);
    }

    #[test]
    fn a_cut_text_keeps_to_the_limit_and_says_what_it_dropped() {
        let rule = HeldOut { percent: 5, bytes_max: 25 };
        let split = split(one(&"語".repeat(100)), rule, 1).unwrap();
        assert_eq!(split.training[0].bytes(), 270);
        assert_eq!(split.held_out[0].bytes(), 24);
        assert_eq!((split.excluded[0].reason, split.excluded[0].bytes), (Reason::HeldOutLimit, 6));
    }

    #[test]
    fn two_large_texts_are_cut_rather_than_halved() {
        let texts = ["a".repeat(1000), "b".repeat(1200)];
        let split = split(documents(&texts), HeldOut::default(), 1).unwrap();
        assert_eq!(split.training.iter().map(Document::bytes).collect::<Vec<_>>(), [900, 1200]);
        assert_eq!(split.held_out[0].text, "a".repeat(100));
    }

    #[test]
    fn a_small_document_is_held_out_whole() {
        let texts = ["a".repeat(1000), "b".repeat(1200), "c".repeat(200)];
        let split = split(documents(&texts), HeldOut::default(), 1).unwrap();
        assert_eq!(split.held_out, documents(&texts)[2..]);
    }

    #[test]
    fn too_little_text_is_an_error() {
        for texts in [vec![], vec!["x".to_owned()]] {
            let error = split(documents(&texts), NO_LIMIT, 1).unwrap_err();
            assert!(
                matches!(error, DataError::TooSmall { characters, least: 2 } if characters == texts.len())
            );
        }
    }

    proptest! {
        #[test]
        fn documents_are_on_one_side_each_for_any_order(
            sizes in prop::collection::btree_set(50usize..400, 60..90),
            seed in any::<u64>(),
        ) {
            let texts: Vec<String> = sizes.iter().map(|&size| "x".repeat(size)).collect();
            let all = documents(&texts);
            let total: u64 = all.iter().map(Document::bytes).sum();
            let split_one = split(all.clone(), HeldOut::default(), seed).unwrap();
            let held: u64 = split_one.held_out.iter().map(Document::bytes).sum();
            prop_assert!(held > 0 && held <= total / 100 * 5);
            prop_assert_eq!(split_one.training.len() + split_one.held_out.len(), all.len());
            prop_assert!(split_one.held_out.iter().all(|document| !split_one.training.contains(document)));

            let reversed: Vec<Document> = all.into_iter().rev().collect();
            let mut other = split(reversed, HeldOut::default(), seed).unwrap();
            other.held_out.reverse();
            prop_assert_eq!(other.held_out, split_one.held_out);
        }
    }
}
