//! The nodes of a DAG of files and folders: dag-pb with UnixFS inside.
//!
//! ```text
//! PBNode { repeated PBLink Links = 2; optional bytes Data = 1 }      the links are written first
//! PBLink { bytes Hash = 1; string Name = 2; uint64 Tsize = 3 }
//! Data   { DataType Type = 1; uint64 filesize = 3; repeated uint64 blocksizes = 4 }
//! ```
//!
//! <https://ipld.io/specs/codecs/dag-pb/spec/>, <https://specs.ipfs.tech/unixfs/>. Only what
//! `ipfs add --cid-version=1` writes of files and folders exists here, in its one encoding.

use super::cid::{CID_BYTES, Cid, Codec};
use super::varint;

/// Largest block: what IPFS nodes exchange.
pub const BLOCK_BYTES_MAX: usize = 2 << 20;

const NODE_DATA: u64 = 1;
const NODE_LINKS: u64 = 2;
const LINK_HASH: u64 = 1;
const LINK_NAME: u64 = 2;
const LINK_TOTAL_BYTES: u64 = 3;
const UNIXFS_TYPE: u64 = 1;
const UNIXFS_FILE_BYTES: u64 = 3;
const UNIXFS_PART_BYTES: u64 = 4;
const TYPE_FOLDER: u64 = 1;
const TYPE_FILE: u64 = 2;

/// The types of protobuf fields that occur.
const WIRE_VARINT: u64 = 0;
const WIRE_BYTES: u64 = 2;

/// From a node to a part of a file or an entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name of the entry; empty for a part.
    pub name: String,
    /// What it leads to.
    pub cid: Cid,
    /// Bytes of all blocks below, as often as they are linked to.
    pub total_bytes: u64,
}

/// A node that has links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A file in parts.
    File {
        /// The parts in order.
        parts: Vec<Link>,
        /// Bytes of the file in each.
        part_bytes: Vec<u64>,
    },
    /// A folder: its entries in the order of their names' bytes.
    Folder(Vec<Link>),
}

impl Node {
    /// The block.
    pub fn encode(&self) -> Vec<u8> {
        let mut block = Vec::new();
        let mut unixfs = Vec::new();
        let links = match self {
            Self::Folder(entries) => {
                write_number(UNIXFS_TYPE, TYPE_FOLDER, &mut unixfs);
                entries
            }
            Self::File { parts, part_bytes } => {
                write_number(UNIXFS_TYPE, TYPE_FILE, &mut unixfs);
                write_number(UNIXFS_FILE_BYTES, part_bytes.iter().sum(), &mut unixfs);
                part_bytes.iter().for_each(|&bytes| write_number(UNIXFS_PART_BYTES, bytes, &mut unixfs));
                parts
            }
        };
        for link in links {
            let mut field = Vec::new();
            write_bytes(LINK_HASH, &link.cid.to_bytes(), &mut field);
            write_bytes(LINK_NAME, link.name.as_bytes(), &mut field);
            write_number(LINK_TOTAL_BYTES, link.total_bytes, &mut field);
            write_bytes(NODE_LINKS, &field, &mut block);
        }
        write_bytes(NODE_DATA, &unixfs, &mut block);
        block
    }

    /// Reads a block; `None` if [`Node::encode`] did not write it.
    pub fn decode(block: &[u8]) -> Option<Self> {
        if block.len() > BLOCK_BYTES_MAX {
            return None;
        }
        let (mut fields, mut links) = (Fields(block), Vec::new());
        let unixfs = loop {
            match fields.next()? {
                (NODE_LINKS, Value::Bytes(field)) => links.push(Link::decode(field)?),
                (NODE_DATA, Value::Bytes(unixfs)) => break unixfs,
                _ => return None,
            }
        };
        let node = Self::with_unixfs(links, unixfs)?;
        (node.encode() == block).then_some(node)
    }

    fn with_unixfs(links: Vec<Link>, unixfs: &[u8]) -> Option<Self> {
        let mut fields = Fields(unixfs);
        match fields.next()? {
            (UNIXFS_TYPE, Value::Number(TYPE_FOLDER)) => {
                let ascending = links.windows(2).all(|pair| pair[0].name < pair[1].name);
                ascending.then_some(Self::Folder(links))
            }
            (UNIXFS_TYPE, Value::Number(TYPE_FILE)) => {
                let (UNIXFS_FILE_BYTES, Value::Number(file_bytes)) = fields.next()? else { return None };
                let (mut part_bytes, mut sum) = (Vec::new(), 0u64);
                while let Some((UNIXFS_PART_BYTES, Value::Number(bytes))) = fields.next() {
                    sum = sum.checked_add(bytes)?;
                    part_bytes.push(bytes);
                }
                let whole = sum == file_bytes && part_bytes.len() == links.len();
                whole.then_some(Self::File { parts: links, part_bytes })
            }
            _ => None,
        }
    }
}

impl Link {
    fn decode(field: &[u8]) -> Option<Self> {
        let mut fields = Fields(field);
        let (LINK_HASH, Value::Bytes(hash)) = fields.next()? else { return None };
        let (LINK_NAME, Value::Bytes(name)) = fields.next()? else { return None };
        let (LINK_TOTAL_BYTES, Value::Number(total_bytes)) = fields.next()? else { return None };
        let name = str::from_utf8(name).ok()?.to_owned();
        Some(Self { name, cid: Cid::from_bytes(hash)?, total_bytes })
    }
}

/// Bytes that a link to an entry of this name takes in a folder's block, as IPFS estimates them
/// when it decides that a folder is too large for one block.
pub fn estimated_link_bytes(name: &str) -> usize {
    name.len() + CID_BYTES
}

/// The name of a node's block.
pub fn cid_of(block: &[u8]) -> Cid {
    Cid::of(Codec::DagPb, block)
}

/// The fields of a protobuf message that are left to read.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    /// The next field's number and value; `None` at the end, and for what is no field.
    fn next(&mut self) -> Option<(u64, Value<'a>)> {
        let key = varint::read(&mut self.0)?;
        let number = varint::read(&mut self.0)?;
        let value = match key & 7 {
            WIRE_VARINT => Value::Number(number),
            WIRE_BYTES => {
                let (bytes, rest) = self.0.split_at_checked(usize::try_from(number).ok()?)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

fn write_number(field: u64, value: u64, out: &mut Vec<u8>) {
    varint::write(field << 3 | WIRE_VARINT, out);
    varint::write(value, out);
}

fn write_bytes(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint::write(field << 3 | WIRE_BYTES, out);
    varint::write(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link(name: &str) -> Link {
        Link { name: name.to_owned(), cid: Cid::of(Codec::Raw, name.as_bytes()), total_bytes: 7 }
    }

    #[test]
    fn nodes_come_back() {
        let file = Node::File { parts: vec![link(""), link("")], part_bytes: vec![5, 2] };
        for node in [Node::Folder(vec![]), Node::Folder(vec![link("a"), link("b")]), file] {
            assert_eq!(Node::decode(&node.encode()), Some(node));
        }
    }

    #[test]
    fn folders_out_of_order_and_files_that_do_not_add_up_are_refused() {
        let unsorted = Node::Folder(vec![link("b"), link("a")]);
        let unequal = Node::File { parts: vec![link("")], part_bytes: vec![5, 2] };
        let overflowing =
            Node::File { parts: vec![link("a"), link("b")], part_bytes: vec![1 << 62, 1 << 61] };
        assert!(Node::decode(&overflowing.encode()).is_some());
        for node in [unsorted, unequal] {
            assert_eq!(Node::decode(&node.encode()), None, "{node:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_node_in_its_one_encoding_or_none(bytes: Vec<u8>) {
            if let Some(node) = Node::decode(&bytes) {
                prop_assert_eq!(node.encode(), bytes);
            }
        }

        #[test]
        fn a_flipped_bit_never_panics(at in 0usize..200, bit in 0u8..8) {
            let mut block = Node::Folder(vec![link("first"), link("second")]).encode();
            let at = at % block.len();
            block[at] ^= 1 << bit;
            if let Some(node) = Node::decode(&block) {
                prop_assert_eq!(node.encode(), block);
            }
        }
    }
}
