//! From blocks back to files, whoever gives the blocks.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::cid::{Cid, Codec};
use super::file;
use super::node::{BLOCK_BYTES_MAX, Link, Node};
use crate::StorageError;

/// Blocks of one file that are asked for at a time.
const BLOCKS_IN_FLIGHT: usize = 4;

/// Somebody who has blocks. What he gives is checked by who asks.
pub trait Blocks {
    /// The bytes of a block, at most [`BLOCK_BYTES_MAX`].
    async fn block(&self, cid: &Cid) -> Result<Bytes, StorageError>;
}

/// Reads a file of `file_bytes`.
///
/// # Errors
/// A block that is missing or changed, or a file of another shape than its size gives.
pub async fn read_file(blocks: &impl Blocks, root: &Cid, file_bytes: u64) -> Result<Vec<u8>, StorageError> {
    let mut level = vec![(*root, file_bytes)];
    for depth in (1..=file::depth(file_bytes)).rev() {
        let nodes: Vec<(Bytes, u64)> = read_level(blocks, level).try_collect().await?;
        level = Vec::new();
        for (block, file_bytes) in nodes {
            let Some(Node::File { parts, part_bytes }) = Node::decode(&block) else {
                return Err(other_shape(root));
            };
            if !file::part_bytes(file_bytes, depth).eq(part_bytes.iter().copied()) {
                return Err(other_shape(root));
            }
            level.extend(parts.iter().map(|part| part.cid).zip(part_bytes));
        }
    }
    let (mut body, mut chunks) = (Vec::new(), std::pin::pin!(read_level(blocks, level)));
    while let Some((chunk, chunk_bytes)) = chunks.try_next().await? {
        if chunk.len() as u64 != chunk_bytes {
            return Err(other_shape(root));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads a file whose size nobody has said; only one of at most `bytes_max` is wanted.
///
/// # Errors
/// As [`read_file`], and when it is larger.
pub async fn read_small_file(
    blocks: &impl Blocks,
    root: &Cid,
    bytes_max: u64,
) -> Result<Vec<u8>, StorageError> {
    let block = checked(blocks, root).await?;
    if root.codec() == Codec::Raw {
        return Ok(block.to_vec());
    }
    let Some(Node::File { part_bytes, .. }) = Node::decode(&block) else { return Err(other_shape(root)) };
    match part_bytes.iter().sum() {
        file_bytes if file_bytes <= bytes_max => read_file(blocks, root, file_bytes).await,
        _ => Err(other_shape(root)),
    }
}

/// The entries of a folder by name.
///
/// # Errors
/// A block that is missing, changed or no folder.
pub async fn read_folder(blocks: &impl Blocks, root: &Cid) -> Result<BTreeMap<String, Cid>, StorageError> {
    match Node::decode(&checked(blocks, root).await?) {
        Some(Node::Folder(links)) => {
            Ok(links.into_iter().map(|Link { name, cid, .. }| (name, cid)).collect())
        }
        _ => Err(other_shape(root)),
    }
}

/// The blocks of one level in order, with the bytes of the file that each stands for.
fn read_level(
    blocks: &impl Blocks,
    level: Vec<(Cid, u64)>,
) -> impl stream::Stream<Item = Result<(Bytes, u64), StorageError>> {
    let block = move |(cid, bytes): (Cid, u64)| async move { Ok((checked(blocks, &cid).await?, bytes)) };
    stream::iter(level).map(block).buffered(BLOCKS_IN_FLIGHT)
}

async fn checked(blocks: &impl Blocks, cid: &Cid) -> Result<Bytes, StorageError> {
    let block = blocks.block(cid).await?;
    if block.len() <= BLOCK_BYTES_MAX && cid.names(&block) {
        Ok(block)
    } else {
        Err(StorageError::Damaged { what: format!("block {cid}") })
    }
}

fn other_shape(root: &Cid) -> StorageError {
    StorageError::NotOurs { what: format!("block {root}") }
}
