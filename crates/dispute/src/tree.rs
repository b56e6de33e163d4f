//! One digest for a tensor, and short proofs of what is in it.
//!
//! A tensor is a row of 32-bit words. A leaf is the hash of [`LEAF_WORDS`] of them, little-endian; a node is the hash of the two below it; where a
//! level has an odd node, it goes up as it is. Whoever looks at a tree knows from the specification how many words
//! the tensor has, so its shape is no part of the claim, and a leaf cannot pass for a node.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use zoo_content::Digest;

/// Words of one leaf.
pub const LEAF_WORDS: usize = 16;
/// Leaves that one task hashes: some 256 KiB.
const TASK_LEVEL: u32 = 12;

/// The bits of a number. A NaN has one form here, since its bits are not specified; tensors have it in that form.
pub fn word(value: f32) -> u32 {
    if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }
}

/// The shape of a tensor's tree. Level 0 are the leaves; the root is the only node of the highest level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    words: u64,
}

impl Shape {
    /// That of a tensor of so many words, at least one.
    pub fn of(words: u64) -> Self {
        Self { words: words.max(1) }
    }

    /// Number of leaves.
    pub fn leaves(self) -> u64 {
        self.words.div_ceil(LEAF_WORDS as u64)
    }

    /// The level of the root.
    pub fn height(self) -> u32 {
        self.leaves().next_power_of_two().trailing_zeros()
    }

    /// Nodes of a level.
    pub fn nodes(self, level: u32) -> u64 {
        self.leaves().div_ceil(1 << level)
    }

    /// The nodes of `level` below node `index` of the level `depth` above it.
    pub fn below(self, level: u32, depth: u32, index: u64) -> Range<u64> {
        let count = self.nodes(level);
        (index << depth).min(count)..((index + 1) << depth).min(count)
    }

    /// The words below node `index` of `level`.
    pub fn words_below(self, level: u32, index: u64) -> Range<u64> {
        let width = (LEAF_WORDS as u64) << level;
        let from = index.saturating_mul(width).min(self.words);
        from..from.saturating_add(width).min(self.words)
    }
}

/// The hash of a leaf's words.
pub fn leaf(words: impl IntoIterator<Item = u32>) -> Digest {
    let mut bytes = [0; 4 * LEAF_WORDS];
    let mut length = 0;
    for word in words.into_iter().take(LEAF_WORDS) {
        bytes[length..length + 4].copy_from_slice(&word.to_le_bytes());
        length += 4;
    }
    Digest::of(&bytes[..length])
}

fn parent(pair: &[Digest]) -> Digest {
    let [left, right] = pair else { return pair[0] };
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(left.as_bytes());
    bytes[32..].copy_from_slice(right.as_bytes());
    Digest::of(&bytes)
}

/// The node `levels` above these.
///
/// # Panics
/// If there are none, or more than one node has below it.
pub fn fold(mut nodes: Vec<Digest>, levels: u32) -> Digest {
    for _ in 0..levels {
        nodes = nodes.chunks(2).map(parent).collect();
    }
    assert_eq!(nodes.len(), 1, "one node is above these");
    nodes[0]
}

/// The hash of the leaf, or the node above the leaves, of these words.
pub fn node_of(words: impl Iterator<Item = u32>, level: u32) -> Digest {
    let words: Vec<u32> = words.collect();
    let leaves = words.chunks(LEAF_WORDS).map(|words| leaf(words.iter().copied())).collect();
    fold(leaves, level)
}

/// The root over a tensor.
pub fn root(values: &[f32]) -> Digest {
    let shape = Shape::of(values.len() as u64);
    let level = TASK_LEVEL.min(shape.height());
    fold(nodes(values, level, 0..shape.nodes(level)), shape.height() - level)
}

/// The root over a tensor of a few words.
pub fn root_of(words: &[u32]) -> Digest {
    node_of(words.iter().copied(), Shape::of(words.len() as u64).height())
}

/// These nodes of a level of a tensor's tree.
pub fn nodes(values: &[f32], level: u32, range: Range<u64>) -> Vec<Digest> {
    let shape = Shape::of(values.len() as u64);
    let node = |index| {
        let words = shape.words_below(level, index);
        let words = &values[words.start as usize..words.end as usize];
        let leaves = words.chunks(LEAF_WORDS).map(|values| leaf(values.iter().map(|value| value.to_bits())));
        fold(leaves.collect(), level)
    };
    range.into_par_iter().map(node).collect()
}

/// Some leaves of a tensor, and the nodes that it takes to come from them to the root: for each level, from the lowest and from the left,
/// those beside known nodes that are not known themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The leaves' places, ascending, and their words.
    pub leaves: Vec<(u64, Vec<u32>)>,
    /// The nodes beside the way.
    pub beside: Vec<Digest>,
}

impl Proof {
    /// Of these leaves, ascending, of a tensor.
    pub fn of(values: &[f32], leaves: &[u64]) -> Self {
        let shape = Shape::of(values.len() as u64);
        let words = |&index: &u64| {
            let range = shape.words_below(0, index);
            let words = &values[range.start as usize..range.end as usize];
            (index, words.iter().map(|value| value.to_bits()).collect())
        };
        let mut beside = Vec::new();
        walk(shape, leaves, |level, index| beside.push(nodes(values, level, index..index + 1)[0]));
        Self { leaves: leaves.iter().map(words).collect(), beside }
    }

    /// Whether these are leaves under `root`, each once, and nothing is there that is not needed.
    #[must_use]
    pub fn verify(&self, shape: Shape, root: &Digest) -> bool {
        let fits = |(index, words): &(u64, Vec<u32>)| {
            let range = shape.words_below(0, *index);
            !range.is_empty() && words.len() as u64 == range.end - range.start
        };
        let ascending = self.leaves.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if self.leaves.is_empty() || !ascending || !self.leaves.iter().all(fits) {
            return false;
        }
        let places: Vec<u64> = self.leaves.iter().map(|(index, _)| *index).collect();
        let mut beside = BTreeMap::new();
        let mut rest = self.beside.iter();
        let mut is_short = false;
        walk(shape, &places, |level, index| match rest.next() {
            Some(node) => drop(beside.insert((level, index), *node)),
            None => is_short = true,
        });
        if is_short || rest.next().is_some() {
            return false;
        }
        let mut known: BTreeMap<u64, Digest> =
            self.leaves.iter().map(|(index, words)| (*index, leaf(words.iter().copied()))).collect();
        for level in 0..shape.height() {
            let mut above = BTreeMap::new();
            for &index in known.keys() {
                let pair = shape.below(level, 1, index / 2);
                let node = |at: u64| known.get(&at).or_else(|| beside.get(&(level, at))).copied();
                let Some(pair) = pair.map(node).collect::<Option<Vec<Digest>>>() else { return false };
                above.insert(index / 2, parent(&pair));
            }
            known = above;
        }
        known.get(&0) == Some(root)
    }
}

/// Names the nodes beside the way from these leaves to the root, level by level, from the left.
fn walk(shape: Shape, leaves: &[u64], mut beside: impl FnMut(u32, u64)) {
    let mut known = leaves.to_vec();
    for level in 0..shape.height() {
        let count = shape.nodes(level);
        for (at, &index) in known.iter().enumerate() {
            let sibling = index ^ 1;
            let is_known = known.get(at + 1) == Some(&sibling) || (at > 0 && known[at - 1] == sibling);
            if sibling < count && !is_known {
                beside(level, sibling);
            }
        }
        known.iter_mut().for_each(|index| *index /= 2);
        known.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(words: usize) -> Vec<f32> {
        (0..words).map(|at| at as f32 * 0.37 - 3.0).collect()
    }

    #[test]
    fn a_root_is_the_fold_of_any_level() {
        for words in [1, 15, 16, 17, 33, 48, 1000, 70_000, 200_001] {
            let values = tensor(words);
            let shape = Shape::of(words as u64);
            for level in 0..=shape.height() {
                let nodes = nodes(&values, level, 0..shape.nodes(level));
                assert_eq!(
                    fold(nodes, shape.height() - level),
                    root(&values),
                    "{words} words, level {level}"
                );
            }
        }
    }

    #[test]
    fn what_lies_below_a_node_folds_to_it() {
        let values = tensor(1000);
        let shape = Shape::of(1000);
        let top = nodes(&values, 4, 0..shape.nodes(4));
        for (index, node) in top.iter().enumerate() {
            let below = shape.below(1, 3, index as u64);
            assert_eq!(fold(nodes(&values, 1, below), 3), *node);
            let words = shape.words_below(4, index as u64);
            let words = values[words.start as usize..words.end as usize].iter().map(|value| value.to_bits());
            assert_eq!(node_of(words, 4), *node);
        }
    }

    #[test]
    fn a_proof_shows_its_leaves_and_no_others() {
        for words in [1, 16, 17, 50, 1000, 4096] {
            let values = tensor(words);
            let (shape, root) = (Shape::of(words as u64), root(&values));
            let last = shape.leaves() - 1;
            for leaves in [vec![0], vec![last], vec![0, last], vec![0, 1, last / 2, last]] {
                let leaves: std::collections::BTreeSet<u64> =
                    leaves.into_iter().map(|leaf| leaf.min(last)).collect();
                let leaves: Vec<u64> = leaves.into_iter().collect();
                let proof = Proof::of(&values, &leaves);
                assert!(proof.verify(shape, &root), "{words} words, leaves {leaves:?}");
                for at in 0..proof.leaves.len() {
                    let mut other = proof.clone();
                    other.leaves[at].1[0] ^= 1;
                    assert!(!other.verify(shape, &root));
                }
                let mut longer = proof.clone();
                longer.beside.push(root);
                let mut shorter = proof.clone();
                assert!(!longer.verify(shape, &root));
                assert!(shorter.beside.pop().is_none() || !shorter.verify(shape, &root));
            }
        }
    }
}
