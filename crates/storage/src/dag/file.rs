//! A file as a DAG: cut and joined as `ipfs add --cid-version=1 --raw-leaves` does.
//!
//! Chunks of 256 KiB are raw blocks. They are joined by nodes of up to 174 parts, those by nodes of up
//! to 174 nodes, and so on until one is left; a file of one chunk is that chunk
//! (<https://specs.ipfs.tech/unixfs/#layout>, `balanced`). So the size of a file decides the shape of its DAG, and
//! a reader accepts no other: nothing that it is sent makes it ask for more.

use bytes::Bytes;

use super::cid::{Cid, Codec};
use super::node::{Link, Node, cid_of};

/// Bytes of every chunk but the last.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Parts of every node but the last of its level.
const PARTS_MAX: usize = 174;

/// A block and its name.
#[derive(Clone, Debug)]
pub struct Block {
    /// The name.
    pub cid: Cid,
    /// The bytes.
    pub bytes: Bytes,
}

/// A part of a file on its way to be joined: where it is, and bytes of the file in it.
#[derive(Clone)]
struct Part {
    link: Link,
    file_bytes: u64,
}

/// Cuts a file into blocks, parts before what joins them, and says where the whole is.
/// The blocks of chunks share the file's memory.
pub fn cut(file: &Bytes) -> (Link, Vec<Block>) {
    let mut blocks = Vec::with_capacity(file.len() / CHUNK_BYTES + 2);
    let starts = (0..file.len().max(1)).step_by(CHUNK_BYTES);
    let mut level: Vec<Part> = starts
        .map(|start| {
            let chunk = file.slice(start..file.len().min(start + CHUNK_BYTES));
            let (cid, file_bytes) = (Cid::of(Codec::Raw, &chunk), chunk.len() as u64);
            blocks.push(Block { cid, bytes: chunk });
            Part { link: Link { name: String::new(), cid, total_bytes: file_bytes }, file_bytes }
        })
        .collect();
    while level.len() > 1 {
        level = level.chunks(PARTS_MAX).map(|parts| join(parts, &mut blocks)).collect();
    }
    (level.remove(0).link, blocks)
}

fn join(parts: &[Part], blocks: &mut Vec<Block>) -> Part {
    let node = Node::File {
        parts: parts.iter().map(|part| part.link.clone()).collect(),
        part_bytes: parts.iter().map(|part| part.file_bytes).collect(),
    };
    let block = node.encode();
    let cid = cid_of(&block);
    let below: u64 = parts.iter().map(|part| part.link.total_bytes).sum();
    let total_bytes = below + block.len() as u64;
    blocks.push(Block { cid, bytes: block.into() });
    let file_bytes = parts.iter().map(|part| part.file_bytes).sum();
    Part { link: Link { name: String::new(), cid, total_bytes }, file_bytes }
}

/// Levels of nodes over the chunks of a file: 0 for a single chunk.
pub fn depth(file_bytes: u64) -> u32 {
    let (mut depth, mut whole) = (0, CHUNK_BYTES as u64);
    while whole < file_bytes {
        (depth, whole) = (depth + 1, whole.saturating_mul(PARTS_MAX as u64));
    }
    depth
}

/// Bytes of the file in each part of a node of this depth over `file_bytes`.
pub fn part_bytes(file_bytes: u64, depth: u32) -> impl Iterator<Item = u64> {
    let whole = CHUNK_BYTES as u64 * (PARTS_MAX as u64).pow(depth - 1);
    (0..file_bytes).step_by(whole as usize).map(move |start| whole.min(file_bytes - start))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// No two of its chunks are equal.
    fn file(bytes: usize) -> Bytes {
        (0..bytes).map(|at| (at >> 18 ^ at) as u8).collect::<Vec<_>>().into()
    }

    /// Computed by the reference importer: `tests/storage/reference_cid.mjs --vectors`.
    #[test]
    fn files_of_every_shape_have_the_names_that_ipfs_gives_them() {
        let vectors = [
            (0, 0, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
            (1, 1, "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu"),
            (262_144, 262_144, "bafkreibdci4uxwmvixm54ey4etx3paphmwwbv3beh4xnsndvs6tzhjav5e"),
            (262_145, 262_249, "bafybeiginrgw2yc4vcmamg5qqrcrs5khv5f34waxdek7wpjrv7xcxktfbm"),
            (45_613_056, 45_621_766, "bafybeigsx2dluxti5hvcmjnldmakizi2dmvb7wvxgfxwixbc3ugecwbm2u"),
            (45_613_057, 45_621_926, "bafybeib3kv6hhv3pfo45vxtntvutbgrchen6rfxxy6hxnrkfrrkagilyme"),
            (46_137_353, 46_146_328, "bafybeicc2pqclwjfpls4tax2tq5hetr2ouq4ihgxjldchsdlgkcfs5c4me"),
        ];
        for (bytes, total_bytes, cid) in vectors {
            let (root, _) = cut(&file(bytes));
            assert_eq!(
                (root.cid.to_string().as_str(), root.total_bytes),
                (cid, total_bytes),
                "{bytes} bytes"
            );
        }
    }

    #[test]
    fn the_size_decides_the_shape() {
        for (chunks, depths) in [(1, 0), (2, 1), (174, 1), (175, 2), (174 * 174, 2), (174 * 174 + 1, 3)] {
            let bytes = chunks * CHUNK_BYTES as u64;
            assert_eq!((depth(bytes), depth(bytes - 1)), (depths, depths));
        }
        assert_eq!(part_bytes(175 * CHUNK_BYTES as u64, 2).collect::<Vec<_>>(), [174 << 18, 1 << 18]);
        assert_eq!(part_bytes(5, 1).collect::<Vec<_>>(), [5], "the last node of a level may have one part");
    }

    #[test]
    fn a_file_is_cut_into_that_shape_and_its_size_is_that_of_its_blocks() {
        for bytes in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 175 * CHUNK_BYTES] {
            let (root, blocks) = cut(&file(bytes));
            assert_eq!(root.cid.codec() == Codec::Raw, depth(bytes as u64) == 0);
            let total: usize = blocks.iter().map(|block| block.bytes.len()).sum();
            assert_eq!(root.total_bytes, total as u64);
            assert_eq!(blocks.last().unwrap().cid, root.cid);
        }
    }

    proptest! {
        #[test]
        fn parts_are_few_and_add_up(file_bytes in 0u64..8 << 30) {
            for depth in 1..=depth(file_bytes) {
                let parts: Vec<u64> = part_bytes(file_bytes, depth).collect();
                prop_assert_eq!(parts.iter().sum::<u64>(), file_bytes);
            }
            if depth(file_bytes) > 0 {
                prop_assert!((2..=PARTS_MAX).contains(&part_bytes(file_bytes, depth(file_bytes)).count()));
            }
        }
    }
}
