//! One digest that commits to a list of digests, and short proofs of what is in it.
//!
//! The tree is that of RFC 6962, section 2.1 (certificate transparency): a
//! level's odd node is promoted to the next level, never duplicated, so no two
//! lists share a tree. Leaves, inner nodes and the root are hashed in domains
//! of their own, and the root also commits to the number of leaves:
//!
//! ```text
//! leaf(d)    = H("zoo/merkle/1 leaf" 0 d)
//! node(l, r) = H("zoo/merkle/1 node" 0 l r)
//! root       = H("zoo/merkle/1 root" 0 count top)     count: u64 little-endian
//! ```
//!
//! `top` is the single node left, and is absent for an empty list.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Commits to `leaves`, their order and their number.
pub fn merkle_root(leaves: &[Digest]) -> Digest {
    let mut level: Vec<Digest> = leaves.iter().map(leaf).collect();
    while level.len() > 1 {
        level = parents(&level);
    }
    root(leaves.len() as u64, level.first())
}

/// Shows that a digest stands at a place of the list under a [`merkle_root`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InclusionProof {
    /// Place of the leaf, from 0.
    pub index: u64,
    /// Number of leaves in the list.
    pub count: u64,
    /// What is hashed with the path from the leaf to the top, lowest first.
    pub siblings: Vec<Digest>,
}

impl InclusionProof {
    /// The proof for `leaves[index]`; `None` if there is no such leaf.
    pub fn of(leaves: &[Digest], index: usize) -> Option<Self> {
        if index >= leaves.len() {
            return None;
        }
        let mut siblings = Vec::new();
        let mut level: Vec<Digest> = leaves.iter().map(leaf).collect();
        let mut at = index;
        while level.len() > 1 {
            siblings.extend(level.get(at ^ 1));
            level = parents(&level);
            at /= 2;
        }
        Some(Self { index: index as u64, count: leaves.len() as u64, siblings })
    }

    /// Whether this proves that `digest` is leaf `index` of the `count` leaves under
    /// `merkle_root`. Work is bounded by the 64 levels that a tree can have.
    #[must_use]
    pub fn verify(&self, merkle_root: &Digest, digest: &Digest) -> bool {
        if self.index >= self.count {
            return false;
        }
        let mut siblings = self.siblings.iter();
        let mut node = leaf(digest);
        let (mut at, mut last) = (self.index, self.count - 1);
        while last > 0 {
            let promoted = at == last && at % 2 == 0;
            if !promoted {
                let Some(sibling) = siblings.next() else { return false };
                node = if at % 2 == 0 { parent(&node, sibling) } else { parent(sibling, &node) };
            }
            (at, last) = (at / 2, last / 2);
        }
        siblings.next().is_none() && root(self.count, Some(&node)) == *merkle_root
    }
}

fn parents(level: &[Digest]) -> Vec<Digest> {
    level.chunks(2).map(|pair| if let [left, right] = pair { parent(left, right) } else { pair[0] }).collect()
}

fn leaf(digest: &Digest) -> Digest {
    hash("leaf", &[digest.as_bytes()])
}

fn parent(left: &Digest, right: &Digest) -> Digest {
    hash("node", &[left.as_bytes(), right.as_bytes()])
}

fn root(count: u64, top: Option<&Digest>) -> Digest {
    let top = top.map_or(&[][..], |top| top.as_bytes());
    hash("root", &[&count.to_le_bytes(), top])
}

fn hash(domain: &str, parts: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"zoo/merkle/1 ").update(domain.as_bytes()).update(&[0]);
    for part in parts {
        hasher.update(part);
    }
    Digest::from_bytes(*hasher.finalize().as_bytes())
}
