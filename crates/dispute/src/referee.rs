//! The referee: recomputes one segment from what was opened, and takes nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use zoo_content::{Digest, slice};

use crate::moves::Opening;
use crate::operator::{Blob, Read, Unread, number};
use crate::program::{Program, group_digest};
use crate::tree::{LEAF_WORDS, Shape};

/// What both know when a segment is opened.
pub struct Bench<'a> {
    /// The disputed step.
    pub program: &'a Program,
    /// The digests of its groups.
    pub groups: &'a [Digest],
    /// The disputed group, and the roots of its tensors.
    pub group: (usize, &'a [Digest]),
}

/// What is computed again.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The tensor.
    pub tensor: usize,
    /// The element.
    pub element: usize,
    /// The segment of its chain.
    pub segment: usize,
    /// The state before it.
    pub before: &'a [u32],
}

impl Bench<'_> {
    /// The state after a segment.
    ///
    /// # Errors
    /// What is wrong with the opening: a false proof, something that is missing, something that is not needed.
    pub fn recompute(&self, segment: Segment, opening: &Opening) -> Result<Vec<u32>, &'static str> {
        let roots = self.roots(opening)?;
        let mut read =
            Opened { bench: self, segment, leaves: BTreeMap::new(), used: BTreeSet::new(), opening };
        let mut last = None;
        for (tensor, proof) in &opening.tensors {
            if last.replace(*tensor).is_some_and(|last| last >= *tensor) {
                return Err("its tensors are not in order");
            }
            let tensor = *tensor as usize;
            let root = roots.get(&tensor).ok_or("it opens a tensor that nothing is known of")?;
            if !proof.verify(Shape::of(self.program.tensors[tensor].len() as u64), root) {
                return Err("a proof does not lead to the root of its tensor");
            }
            read.leaves.extend(proof.leaves.iter().map(|(leaf, words)| ((tensor, *leaf), &words[..])));
        }
        let operator = &self.program.tensors[segment.tensor].operator;
        let after = operator.segment(segment.element, segment.segment, segment.before, &mut read);
        let after = after.map_err(|Unread| "it lacks something that the segment reads")?;
        if read.used.len() != read.leaves.len() + usize::from(opening.stored.is_some()) {
            return Err("it opens more than the segment reads");
        }
        Ok(after)
    }

    /// The roots of all tensors that may be opened.
    fn roots(&self, opening: &Opening) -> Result<BTreeMap<usize, Digest>, &'static str> {
        let (here, own) = self.group;
        let mut known = BTreeMap::new();
        let mut add = |group: usize, roots: &[Digest]| {
            known.extend(self.program.groups[group].tensors.clone().zip(roots.iter().copied()));
        };
        add(here, own);
        let mut last = None;
        for (group, roots) in &opening.groups {
            let index = *group as usize;
            let Some(digest) = self.groups.get(index).filter(|_| index != here) else {
                return Err("it opens a group that is none");
            };
            if last.replace(index).is_some_and(|last| last >= index) {
                return Err("its groups are not in order");
            }
            if roots.len() != self.program.groups[index].tensors.len() || group_digest(roots) != *digest {
                return Err("the roots of a group are not those that were said");
            }
            let is_needed = |(tensor, _): &(u32, _)| self.program.group_of(*tensor as usize) == index;
            if !opening.tensors.iter().any(is_needed) {
                return Err("it opens a group that the segment does not read");
            }
            add(index, roots);
        }
        Ok(known)
    }
}

/// Reads what was opened.
struct Opened<'a> {
    bench: &'a Bench<'a>,
    segment: Segment<'a>,
    leaves: BTreeMap<(usize, u64), &'a [u32]>,
    used: BTreeSet<Option<(usize, u64)>>,
    opening: &'a Opening,
}

impl Read for Opened<'_> {
    fn word(&mut self, input: usize, index: usize) -> Result<u32, Unread> {
        let tensor = *self.bench.program.tensors[self.segment.tensor].inputs.get(input).ok_or(Unread)?;
        let leaf = (index / LEAF_WORDS) as u64;
        let words = self.leaves.get(&(tensor, leaf)).ok_or(Unread)?;
        self.used.insert(Some((tensor, leaf)));
        words.get(index % LEAF_WORDS).copied().ok_or(Unread)
    }

    fn stored(&mut self, blob: &Blob, range: Range<u64>) -> Result<u32, Unread> {
        let proof = self.opening.stored.as_ref().ok_or(Unread)?;
        let part = slice::verify(&blob.digest, blob.bytes, slice::CHUNK_BYTES, range.clone(), proof);
        let part = part.map_err(|_| Unread)?;
        self.used.insert(None);
        let from = (range.start % slice::CHUNK_BYTES) as usize;
        part.get(from..from + (range.end - range.start) as usize).map(number).ok_or(Unread)
    }
}
