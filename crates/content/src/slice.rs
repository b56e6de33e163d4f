//! Parts of a blob that prove themselves: whoever knows a blob's digest and size can check a part of it without the rest.
//!
//! BLAKE3 is a tree over chunks of 1,024 bytes. A part travels with the nodes beside its way to the root, each before what lies
//! below it, so that every byte is checked when it arrives and none is believed before. The tree is cut into *leaves* of
//! some power of two of chunks: small leaves make short proofs, large ones little traffic.
//!
//! ```
//! use zoo_content::slice::{self, CHUNK_BYTES, Outline};
//! use zoo_content::Digest;
//!
//! let blob = vec![7; 10_000];
//! let proof = Outline::of(&blob, CHUNK_BYTES).prove(5_000..5_001, |at| &blob[at]);
//! let chunk = slice::verify(&Digest::of(&blob), 10_000, CHUNK_BYTES, 5_000..5_001, &proof);
//! assert_eq!(chunk, Ok(blob[4_096..5_120].to_vec()));
//! ```

use std::ops::Range;

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

use crate::Digest;

/// Smallest leaf: a chunk of BLAKE3.
pub const CHUNK_BYTES: u64 = 1024;
/// A node of the tree as it travels: the two values below it.
const NODE_BYTES: usize = 64;

/// Bytes that are not what the digest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// A node or a leaf is not what the one above it says.
    #[error("the bytes at {offset} are not those of the blob")]
    False {
        /// Where the node or leaf begins, bytes from the start of the blob.
        offset: u64,
    },
    /// Fewer or more bytes than the slice has.
    #[error("the slice has another length")]
    Length,
}

/// The values of a blob's leaves: what proofs are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    bytes: u64,
    leaf_bytes: u64,
    leaves: Vec<ChainingValue>,
}

impl Outline {
    /// That of `blob`, in leaves of `leaf_bytes`, a power of two of at least [`CHUNK_BYTES`].
    pub fn of(blob: &[u8], leaf_bytes: u64) -> Self {
        assert!(leaf_bytes.is_power_of_two() && leaf_bytes >= CHUNK_BYTES, "leaves of {leaf_bytes} bytes");
        let leaves = blob.chunks(leaf_bytes as usize).zip((0..).step_by(leaf_bytes as usize));
        let leaves = leaves.map(|(leaf, offset)| value_of(leaf, offset)).collect();
        Self { bytes: blob.len() as u64, leaf_bytes, leaves }
    }

    /// Size of the blob.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The leaves that touch `range`, with all it takes to check them; `read` gives the blob's bytes.
    pub fn prove<'a>(&self, range: Range<u64>, mut read: impl FnMut(Range<usize>) -> &'a [u8]) -> Vec<u8> {
        let mut proof = Vec::new();
        self.steps(range, |step| match step {
            Step::Node(node) => proof.extend_from_slice(&node),
            Step::Leaf(at) => proof.extend_from_slice(read(at.start as usize..at.end as usize)),
        });
        proof
    }

    /// The steps of a proof, in order: what [`Outline::prove`] puts together.
    pub fn steps(&self, range: Range<u64>, mut step: impl FnMut(Step)) {
        self.walk(0..self.bytes, &range, &mut step);
    }

    fn walk(&self, tree: Range<u64>, wanted: &Range<u64>, step: &mut impl FnMut(Step)) {
        if !touches(&tree, wanted) {
            return;
        }
        let Some((left, right)) = halves(&tree, self.leaf_bytes) else { return step(Step::Leaf(tree)) };
        let mut node = [0; NODE_BYTES];
        node[..32].copy_from_slice(&self.value(&left));
        node[32..].copy_from_slice(&self.value(&right));
        step(Step::Node(node));
        self.walk(left, wanted, step);
        self.walk(right, wanted, step);
    }

    fn value(&self, tree: &Range<u64>) -> ChainingValue {
        match halves(tree, self.leaf_bytes) {
            None => self.leaves[(tree.start / self.leaf_bytes) as usize],
            Some((left, right)) => parent_of(&self.value(&left), &self.value(&right)),
        }
    }
}

/// One step of a proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These bytes.
    Node([u8; NODE_BYTES]),
    /// The blob's bytes there.
    Leaf(Range<u64>),
}

/// Checks a slice as it arrives.
///
/// Ask how many bytes are next ([`Reader::wants`]), and [`Reader::take`] them.
#[derive(Clone, Debug)]
pub struct Reader {
    digest: Digest,
    leaf_bytes: u64,
    wanted: Range<u64>,
    bytes: u64,
    /// What is still to come, the next last, and the value it must have; the root's is the digest.
    open: Vec<(Range<u64>, ChainingValue)>,
}

impl Reader {
    /// Reads the leaves that touch `wanted` of a blob of `bytes` bytes.
    pub fn new(digest: Digest, bytes: u64, leaf_bytes: u64, wanted: Range<u64>) -> Self {
        let open = vec![(0..bytes, *digest.as_bytes())];
        let mut reader = Self { digest, leaf_bytes, wanted, bytes, open };
        reader.skip();
        reader
    }

    /// Bytes of the next step; `None` at the end.
    pub fn wants(&self) -> Option<usize> {
        let (tree, _) = self.open.last()?;
        let is_node = halves(tree, self.leaf_bytes).is_some();
        Some(if is_node { NODE_BYTES } else { (tree.end - tree.start) as usize })
    }

    /// Checks the next step; where it is in the blob, if it is a leaf.
    ///
    /// # Errors
    /// The bytes are not those of the blob. Nothing more can come of this slice.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<u64>, SliceError> {
        if self.wants() != Some(bytes.len()) {
            return Err(SliceError::Length);
        }
        let (tree, value) = self.open.pop().ok_or(SliceError::Length)?;
        let is_root = tree == (0..self.bytes);
        let wrong = SliceError::False { offset: tree.start };
        let Some((left, right)) = halves(&tree, self.leaf_bytes) else {
            let is =
                if is_root { Digest::of(bytes) == self.digest } else { value_of(bytes, tree.start) == value };
            self.skip();
            return if is { Ok(Some(tree.start)) } else { Err(wrong) };
        };
        let mut below = [[0; 32]; 2];
        below[0].copy_from_slice(&bytes[..32]);
        below[1].copy_from_slice(&bytes[32..]);
        let [one, other] = &below;
        let is =
            if is_root { *root_of(one, other).as_bytes() == value } else { parent_of(one, other) == value };
        if !is {
            return Err(wrong);
        }
        self.open.push((right, below[1]));
        self.open.push((left, below[0]));
        self.skip();
        Ok(None)
    }

    /// What is not wanted does not come.
    fn skip(&mut self) {
        while self.open.last().is_some_and(|(tree, _)| !touches(tree, &self.wanted)) {
            self.open.pop();
        }
    }
}

/// Checks a whole proof, and gives the leaves that touch `wanted`.
///
/// # Errors
/// It is not a proof of that part of that blob.
pub fn verify(
    digest: &Digest,
    bytes: u64,
    leaf_bytes: u64,
    wanted: Range<u64>,
    proof: &[u8],
) -> Result<Vec<u8>, SliceError> {
    let (mut reader, mut rest, mut leaves) =
        (Reader::new(*digest, bytes, leaf_bytes, wanted), proof, Vec::new());
    while let Some(wants) = reader.wants() {
        let (step, after) = rest.split_at_checked(wants).ok_or(SliceError::Length)?;
        if reader.take(step)?.is_some() {
            leaves.extend_from_slice(step);
        }
        rest = after;
    }
    if rest.is_empty() { Ok(leaves) } else { Err(SliceError::Length) }
}

/// The value of a leaf that is not the whole blob and begins at `offset`, a multiple of the leaves' size.
pub fn value_of(leaf: &[u8], offset: u64) -> ChainingValue {
    blake3::Hasher::new().set_input_offset(offset).update(leaf).finalize_non_root()
}

/// The value above two that is not the root's.
pub fn parent_of(left: &ChainingValue, right: &ChainingValue) -> ChainingValue {
    merge_subtrees_non_root(left, right, Mode::Hash)
}

/// The digest of a blob whose tree has these two values below its root.
pub fn root_of(left: &ChainingValue, right: &ChainingValue) -> Digest {
    Digest::from_bytes(*merge_subtrees_root(left, right, Mode::Hash).as_bytes())
}

/// The two parts of an inner node; `None` for a leaf.
fn halves(tree: &Range<u64>, leaf_bytes: u64) -> Option<(Range<u64>, Range<u64>)> {
    let bytes = tree.end - tree.start;
    let middle = (bytes > leaf_bytes).then(|| tree.start + left_subtree_len(bytes))?;
    Some((tree.start..middle, middle..tree.end))
}

/// The empty blob is one leaf, which every range touches.
fn touches(tree: &Range<u64>, wanted: &Range<u64>) -> bool {
    tree.start < wanted.end && wanted.start < tree.end || tree.end == 0
}
