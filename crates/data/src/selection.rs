//! Documents chosen in a fixed order until a budget of bytes is full.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zoo_content::Digest;

use crate::document::{Count, Document, Exclusion, Origin, Reason};
use crate::{parallel, quality};

/// Files read before the next decision.
const WAVE_FILES: usize = 256;
/// The budget counts as full when less than one part in this many is left:
/// nobody need list more folders to fill the rest.
const FULL_REMAINDER: u64 = 64;

/// A file that may become a document.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub origin: Origin,
    pub file: PathBuf,
    pub bytes: u64,
}

/// How files are chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Text to take at most, bytes.
    pub bytes_max: u64,
    /// Threads that read.
    pub threads: usize,
    /// Whether what a program wrote is left out.
    pub only_by_persons: bool,
}

/// The documents chosen so far.
#[derive(Debug)]
pub(crate) struct Selection {
    limits: Limits,
    bytes: u64,
    seen: BTreeSet<Digest>,
    pub documents: Vec<Document>,
    pub exclusions: Vec<Exclusion>,
    /// Candidates that were not read, the budget being full.
    pub unread: Count,
}

impl Selection {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            bytes: 0,
            seen: BTreeSet::new(),
            documents: Vec::new(),
            exclusions: Vec::new(),
            unread: Count::default(),
        }
    }

    /// Whether the budget is as good as used up.
    pub fn is_full(&self) -> bool {
        self.room() == 0 || self.room() < self.limits.bytes_max / FULL_REMAINDER
    }

    /// Leaves out what `origin` names.
    pub fn exclude(&mut self, origin: Origin, reason: Reason, bytes: u64) {
        self.exclusions.push(Exclusion { origin, reason, bytes });
    }

    /// Takes `candidates` in order, those that are text and fit into what is
    /// left of the budget. The outcome depends on the order and on nothing else.
    pub fn add(&mut self, candidates: Vec<Candidate>) {
        let mut queue = candidates.into_iter().peekable();
        loop {
            let wave = self.next_wave(&mut queue);
            if wave.is_empty() {
                break;
            }
            let only_by_persons = self.limits.only_by_persons;
            let read =
                parallel::map(self.limits.threads, &wave, |candidate| examine(candidate, only_by_persons));
            for (candidate, outcome) in wave.into_iter().zip(read) {
                match outcome {
                    Ok(document) => self.take(document),
                    Err(reason) => self.exclude(candidate.origin, reason, candidate.bytes),
                }
            }
        }
    }

    /// The next candidates that fit into the budget together. Empty when the
    /// queue is.
    fn next_wave(
        &mut self,
        queue: &mut std::iter::Peekable<std::vec::IntoIter<Candidate>>,
    ) -> Vec<Candidate> {
        let mut wave = Vec::new();
        let mut room = self.room();
        while wave.len() < WAVE_FILES {
            // One that could not be taken even alone does not end the wave.
            let hopeless = |candidate: &Candidate| candidate.bytes > self.room();
            let Some(candidate) = queue.next_if(|next| next.bytes <= room || hopeless(next)) else { break };
            if !hopeless(&candidate) {
                room -= candidate.bytes;
                wave.push(candidate);
            } else if self.is_full() {
                self.unread.add(candidate.bytes);
            } else {
                self.exclude(candidate.origin, Reason::OverBudget, candidate.bytes);
            }
        }
        wave
    }

    fn take(&mut self, document: Document) {
        if self.seen.insert(document.digest) {
            self.bytes += document.bytes();
            self.documents.push(document);
        } else {
            let bytes = document.bytes();
            self.exclude(document.origin, Reason::Duplicate, bytes);
        }
    }

    fn room(&self) -> u64 {
        self.limits.bytes_max.saturating_sub(self.bytes)
    }
}

/// Reads a candidate and judges it.
fn examine(candidate: &Candidate, only_by_persons: bool) -> Result<Document, Reason> {
    let bytes = read_bounded(&candidate.file, candidate.bytes).map_err(|_| Reason::Unreadable)?;
    let text = quality::text_of(bytes)?;
    if only_by_persons {
        quality::written_by_a_person(&text)?;
    }
    Ok(Document::new(candidate.origin.clone(), text))
}

/// The first `bytes_max` bytes of a file, even if it grows meanwhile.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A key that orders `name` among others in a way that neither names nor
/// machines influence, only `seed`; `purpose` keeps orders apart.
pub(crate) fn order_key(purpose: &str, seed: u64, name: &[u8]) -> Digest {
    let mut keyed = Vec::with_capacity(purpose.len() + 9 + name.len());
    keyed.extend_from_slice(purpose.as_bytes());
    keyed.push(0);
    keyed.extend_from_slice(&seed.to_le_bytes());
    keyed.extend_from_slice(name);
    Digest::of(&keyed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of the given sizes, every one with its own text.
    fn candidates(folder: &Path, sizes: &[usize]) -> Vec<Candidate> {
        sizes
            .iter()
            .enumerate()
            .map(|(index, &size)| {
                let text = format!("{index:04} {}", "words and ".repeat(size / 10 + 1));
                let file = folder.join(format!("{index:04}.txt"));
                std::fs::write(&file, &text[..size]).unwrap();
                let path = format!("{index:04}.txt");
                let origin = Origin { package: "p".into(), version: None, licence: None, path };
                Candidate { origin, file, bytes: size as u64 }
            })
            .collect()
    }

    fn select(candidates: Vec<Candidate>, bytes_max: u64, threads: usize) -> Selection {
        let mut selection = Selection::new(Limits { bytes_max, threads, only_by_persons: false });
        selection.add(candidates);
        selection
    }

    fn paths(selection: &Selection) -> Vec<&str> {
        selection.documents.iter().map(|document| document.origin.path.as_str()).collect()
    }

    #[test]
    fn the_budget_is_filled_in_order_and_never_exceeded() {
        let folder = tempfile::tempdir().unwrap();
        let all = candidates(folder.path(), &[400, 300, 5000, 200, 90, 100, 50, 8]);
        let selection = select(all.clone(), 1000, 2);
        // 5000 can never fit; 400 + 300 + 200 + 90 leave 10, less than 1000 / 64; 8 still fit.
        assert_eq!(paths(&selection), ["0000.txt", "0001.txt", "0003.txt", "0004.txt", "0007.txt"]);
        assert_eq!(selection.bytes, 998);
        assert_eq!(selection.exclusions.len(), 1);
        assert_eq!(selection.exclusions[0].reason, Reason::OverBudget);
        assert_eq!(selection.unread, Count { files: 2, bytes: 150 });

        assert_eq!(select(all, 100_000, 2).documents.len(), 8);
    }

    #[test]
    fn the_choice_does_not_depend_on_the_number_of_threads() {
        let folder = tempfile::tempdir().unwrap();
        let sizes: Vec<usize> = (0..700).map(|index| 20 + index * 37 % 500).collect();
        let all = candidates(folder.path(), &sizes);
        let one = select(all.clone(), 90_000, 1);
        assert!(one.is_full() && one.bytes <= 90_000);
        for threads in [2, 3, 7] {
            let other = select(all.clone(), 90_000, threads);
            assert_eq!(one.documents, other.documents);
            assert_eq!(one.exclusions, other.exclusions);
            assert_eq!(one.unread, other.unread);
        }
    }

    #[test]
    fn every_file_left_out_has_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = candidates(folder.path(), &[50, 50, 50, 50, 50, 50]);
        std::fs::copy(&all[0].file, &all[1].file).unwrap();
        std::fs::write(&all[2].file, b"a\0b").unwrap();
        std::fs::write(&all[3].file, b"caf\xe9").unwrap();
        std::fs::write(&all[4].file, b"\n").unwrap();
        std::fs::remove_file(&all[5].file).unwrap();
        all.iter_mut().for_each(|candidate| candidate.bytes = 50);
        let selection = select(all, 10_000, 3);
        let reasons: Vec<Reason> = selection.exclusions.iter().map(|exclusion| exclusion.reason).collect();
        assert_eq!(
            reasons,
            [Reason::Duplicate, Reason::Binary, Reason::NotUtf8, Reason::Empty, Reason::Unreadable]
        );
        assert_eq!(paths(&selection), ["0000.txt"]);
    }

    #[test]
    fn keys_depend_on_the_purpose_the_seed_and_the_name() {
        let key = order_key("files", 7, b"name");
        assert_eq!(key, order_key("files", 7, b"name"));
        for other in
            [order_key("splits", 7, b"name"), order_key("files", 8, b"name"), order_key("files", 7, b"nam")]
        {
            assert_ne!(key, other);
        }
    }
}
