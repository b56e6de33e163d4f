//! Blocks one after the other: CARv1 with one root (<https://ipld.io/specs/transport/car/carv1/>).
//!
//! ```text
//! header   varint(length) dag-cbor {"roots": [cid], "version": 1}
//! section  varint(length) cid block                                    any number
//! ```

use super::cid::{CID_BYTES, Cid};
use super::file::Block;
use super::node::BLOCK_BYTES_MAX;
use super::varint;

/// Bytes of a [`header`].
pub const HEADER_BYTES: usize = 1 + BEFORE_ROOT.len() + CID_BYTES + AFTER_ROOT.len();
/// Most bytes in front of a block: its section's length and its name.
pub const SECTION_HEAD_BYTES_MAX: usize = 4 + CID_BYTES;

/// A map of two; "roots": a list of one: tag 42 on 37 bytes, of which the first is 0.
const BEFORE_ROOT: &[u8] = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00";
const AFTER_ROOT: &[u8] = b"\x67version\x01";

/// What a file with this root begins with.
pub fn header(root: &Cid) -> Vec<u8> {
    let body = [BEFORE_ROOT, &root.to_bytes(), AFTER_ROOT].concat();
    let mut header = Vec::with_capacity(HEADER_BYTES);
    varint::write(body.len() as u64, &mut header);
    header.extend(body);
    header
}

/// The root that a header names; `None` if it is not one of [`header`]'s.
pub fn read_header(bytes: &[u8; HEADER_BYTES]) -> Option<Cid> {
    let root = &bytes[1 + BEFORE_ROOT.len()..HEADER_BYTES - AFTER_ROOT.len()];
    let root = Cid::from_bytes(root)?;
    (header(&root) == bytes).then_some(root)
}

/// What stands before a block.
pub fn section_head(block: &Block) -> Vec<u8> {
    let mut head = Vec::with_capacity(SECTION_HEAD_BYTES_MAX);
    varint::write((CID_BYTES + block.bytes.len()) as u64, &mut head);
    head.extend(block.cid.to_bytes());
    head
}

/// Reads what stands before a block at the front of `bytes`: its own length, the block's name, the block's length.
pub fn read_section_head(bytes: &[u8]) -> Option<(usize, Cid, usize)> {
    let mut rest = bytes;
    let section_bytes = usize::try_from(varint::read(&mut rest)?).ok()?;
    let cid = Cid::from_bytes(rest.get(..CID_BYTES)?)?;
    let block_bytes = section_bytes.checked_sub(CID_BYTES)?;
    let head_bytes = bytes.len() - rest.len() + CID_BYTES;
    (block_bytes <= BLOCK_BYTES_MAX).then_some((head_bytes, cid, block_bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::cid::Codec;
    use super::*;

    #[test]
    fn a_header_is_what_others_write() {
        let root = Cid::of(Codec::Raw, b"");
        let header = header(&root);
        assert_eq!(header.len(), HEADER_BYTES);
        assert_eq!(&header[..18], b"\x3a\xa2\x65roots\x81\xd8\x2a\x58\x25\x00\x01\x55\x12\x20");
        assert_eq!(&header[header.len() - 9..], b"\x67version\x01");
        assert_eq!(read_header(&header.try_into().unwrap()), Some(root));
    }

    #[test]
    fn a_section_comes_back_and_a_long_one_is_refused() {
        let block = |bytes: usize| {
            let bytes = vec![7; bytes];
            Block { cid: Cid::of(Codec::Raw, &bytes), bytes: bytes.into() }
        };
        for bytes in [0, 1, 91, 92, BLOCK_BYTES_MAX] {
            let block = block(bytes);
            let head = section_head(&block);
            assert!(head.len() <= SECTION_HEAD_BYTES_MAX);
            assert_eq!(read_section_head(&head), Some((head.len(), block.cid, bytes)));
            assert_eq!(read_section_head(&head[..head.len() - 1]), None);
        }
        assert_eq!(read_section_head(&section_head(&block(BLOCK_BYTES_MAX + 1))), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Some((head_bytes, _, block_bytes)) = read_section_head(&bytes) {
                prop_assert!(head_bytes <= bytes.len() && block_bytes <= BLOCK_BYTES_MAX);
            }
        }
    }
}
