//! Digests of blobs as a fold: BLAKE3 is a tree over chunks of 1,024 bytes, whose bytes are words of other tensors.

use std::ops::Range;

use zoo_content::Digest;
use zoo_content::slice::{CHUNK_BYTES, parent_of, root_of, value_of};

use super::{Read, Unread};

/// Words of a digest, and of a node of the tree.
pub const DIGEST_WORDS: usize = 8;
/// Nodes that one node stands for, some levels higher.
pub const FAN: usize = 16;

/// A part of a digest. Every eight elements are a node's words.
#[derive(Clone, Debug, PartialEq)]
pub enum Hash {
    /// The value of every chunk of a blob.
    Chunks(Layout),
    /// The digest of a blob of one chunk.
    Chunk(Layout),
    /// The value above every sixteen nodes: nodes.
    Nodes {
        /// How many there are.
        nodes: usize,
    },
    /// The digest above 2 to 16 nodes: nodes.
    Root {
        /// How many there are.
        nodes: usize,
    },
    /// The digest of a network: the digests of all its VNodes.
    Network {
        /// The VNodes' ids.
        ids: Vec<String>,
    },
}

/// A blob's bytes: constants, and the words of the operator's inputs in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// Where every piece begins.
    pieces: Vec<(u64, Piece)>,
    bytes: u64,
}

/// A piece of a blob.
#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Bytes(Vec<u8>),
    /// All words of an input.
    Words(usize),
}

impl Layout {
    /// Puts bytes at the end.
    pub fn put_bytes(&mut self, bytes: Vec<u8>) {
        let first = self.bytes;
        self.bytes += bytes.len() as u64;
        self.pieces.push((first, Piece::Bytes(bytes)));
    }

    /// Puts so many words of an input at the end.
    pub fn put_words(&mut self, input: usize, words: usize) {
        self.pieces.push((self.bytes, Piece::Words(input)));
        self.bytes += 4 * words as u64;
    }

    /// Leaves out what is beyond so many bytes.
    pub fn cut(&mut self, bytes: u64) {
        self.bytes = self.bytes.min(bytes);
    }

    /// Size of the blob.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bytes of a part.
    fn read(&self, range: Range<u64>, read: &mut impl Read) -> Result<Vec<u8>, Unread> {
        let range = range.start..range.end.min(self.bytes);
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        let mut at = self.pieces.partition_point(|(first, _)| *first <= range.start).saturating_sub(1);
        while let Some((first, piece)) = self.pieces.get(at).filter(|(first, _)| *first < range.end) {
            let end = self.pieces.get(at + 1).map_or(self.bytes, |(first, _)| *first).min(range.end);
            let from = range.start.max(*first);
            at += 1;
            if from >= end {
                continue;
            }
            let (from, end) = ((from - first) as usize, (end - first) as usize);
            match piece {
                Piece::Bytes(piece) => bytes.extend_from_slice(&piece[from..end]),
                Piece::Words(input) => {
                    for word in from / 4..end.div_ceil(4) {
                        let four = read.word(*input, word)?.to_le_bytes();
                        let (from, end) = (from.max(4 * word), end.min(4 * word + 4));
                        bytes.extend_from_slice(&four[from - 4 * word..end - 4 * word]);
                    }
                }
            }
        }
        Ok(bytes)
    }
}

impl Hash {
    /// Nodes of it.
    pub fn nodes(&self) -> usize {
        match self {
            Self::Chunks(layout) => layout.bytes.div_ceil(CHUNK_BYTES) as usize,
            Self::Nodes { nodes } => nodes.div_ceil(FAN),
            Self::Chunk(_) | Self::Root { .. } | Self::Network { .. } => 1,
        }
    }

    /// The words of one of its nodes.
    pub fn node(&self, node: usize, read: &mut impl Read) -> Result<[u32; DIGEST_WORDS], Unread> {
        let value = match self {
            Self::Chunks(layout) => {
                let first = node as u64 * CHUNK_BYTES;
                value_of(&layout.read(first..first + CHUNK_BYTES, read)?, first)
            }
            Self::Chunk(layout) => *Digest::of(&layout.read(0..layout.bytes, read)?).as_bytes(),
            Self::Nodes { nodes } => {
                let mut below = children(node * FAN..(*nodes).min((node + 1) * FAN), read)?;
                while below.len() > 1 {
                    below = parents(&below);
                }
                below[0]
            }
            Self::Root { nodes } => {
                let mut below = children(0..*nodes, read)?;
                while below.len() > 2 {
                    below = parents(&below);
                }
                *root_of(&below[0], &below[1]).as_bytes()
            }
            Self::Network { ids } => {
                let mut lines = String::new();
                for (input, id) in ids.iter().enumerate() {
                    lines += &format!("{id}\0{}\n", Digest::from_bytes(bytes_of(input, 0, read)?));
                }
                *Digest::of(lines.as_bytes()).as_bytes()
            }
        };
        Ok(words_of(&value))
    }
}

/// A digest as words.
pub fn words_of(digest: &[u8; 32]) -> [u32; DIGEST_WORDS] {
    let (words, _) = digest.as_chunks::<4>();
    std::array::from_fn(|at| u32::from_le_bytes(words[at]))
}

/// The opposite of [`words_of`].
pub fn digest_of(words: &[u32]) -> Digest {
    let mut bytes = [0; 32];
    let (places, _) = bytes.as_chunks_mut::<4>();
    places.iter_mut().zip(words).for_each(|(place, word)| *place = word.to_le_bytes());
    Digest::from_bytes(bytes)
}

fn bytes_of(input: usize, node: usize, read: &mut impl Read) -> Result<[u8; 32], Unread> {
    let mut words = [0; DIGEST_WORDS];
    for (at, word) in words.iter_mut().enumerate() {
        *word = read.word(input, node * DIGEST_WORDS + at)?;
    }
    Ok(*digest_of(&words).as_bytes())
}

fn children(nodes: Range<usize>, read: &mut impl Read) -> Result<Vec<[u8; 32]>, Unread> {
    nodes.map(|node| bytes_of(0, node, read)).collect()
}

/// The nodes above these; one without a sibling goes up as it is.
fn parents(nodes: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let above = |pair: &[[u8; 32]]| if let [left, right] = pair { parent_of(left, right) } else { pair[0] };
    nodes.chunks(2).map(above).collect()
}
