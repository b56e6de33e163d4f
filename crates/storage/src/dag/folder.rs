//! A folder as a DAG: one node a folder, as `ipfs add --recursive --cid-version=1` makes it.

use std::collections::BTreeMap;

use super::file::Block;
use super::node::{Link, Node, cid_of, estimated_link_bytes};

/// A folder of more than this, by IPFS's own estimate, would be spread over several nodes.
const FOLDER_BYTES_MAX: usize = 256 << 10;

/// A folder has more entries than one node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a folder of {0} entries does not fit into one block")]
pub struct FolderTooLarge(usize);

/// What an entry of a folder is.
enum Entry<'a> {
    File(&'a Link),
    Folder(Files<'a>),
}

/// Files below a folder, by the rest of their path.
type Files<'a> = Vec<(&'a str, &'a Link)>;

/// Joins files by their paths (`a/b/c`), folders before what they are in; the last block is the root.
///
/// # Errors
/// When one folder has too many entries.
pub fn join(files: &[(&str, &Link)]) -> Result<(Link, Vec<Block>), FolderTooLarge> {
    let mut blocks = Vec::new();
    let root = join_below(files, &mut blocks)?;
    Ok((root, blocks))
}

fn join_below(files: &[(&str, &Link)], blocks: &mut Vec<Block>) -> Result<Link, FolderTooLarge> {
    let mut entries: BTreeMap<&str, Entry<'_>> = BTreeMap::new();
    for &(path, link) in files {
        match path.split_once('/') {
            None => drop(entries.insert(path, Entry::File(link))),
            Some((folder, rest)) => {
                let entry = entries.entry(folder).or_insert_with(|| Entry::Folder(Vec::new()));
                if let Entry::Folder(below) = entry {
                    below.push((rest, link));
                }
            }
        }
    }
    if entries.keys().map(|name| estimated_link_bytes(name)).sum::<usize>() > FOLDER_BYTES_MAX {
        return Err(FolderTooLarge(entries.len()));
    }
    let mut links = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let link = match entry {
            Entry::File(link) => link.clone(),
            Entry::Folder(files) => join_below(&files, blocks)?,
        };
        links.push(Link { name: name.to_owned(), ..link });
    }
    let below: u64 = links.iter().map(|link| link.total_bytes).sum();
    let block = Node::Folder(links).encode();
    let (cid, total_bytes) = (cid_of(&block), below + block.len() as u64);
    blocks.push(Block { cid, bytes: block.into() });
    Ok(Link { name: String::new(), cid, total_bytes })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::file::cut;
    use super::*;

    fn file(bytes: &'static [u8]) -> Link {
        cut(&Bytes::from_static(bytes)).0
    }

    #[test]
    fn an_empty_folder_is_the_one_that_everybody_knows() {
        let (root, blocks) = join(&[]).unwrap();
        assert_eq!(root.cid.to_string(), "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354");
        assert_eq!((root.total_bytes, blocks.len()), (4, 1));
    }

    /// Computed by the reference importer: `tests/storage/reference_cid.mjs FOLDER`.
    #[test]
    fn a_folder_has_the_name_that_ipfs_gives_it() {
        let files =
            [("data/one", file(b"one")), ("two", file(b"two")), ("a/empty", file(b"")), ("a-c", file(b"x"))];
        let files: Vec<_> = files.iter().map(|(path, link)| (*path, link)).collect();
        let (root, blocks) = join(&files).unwrap();
        let cids: Vec<String> = blocks.iter().map(|block| block.cid.to_string()).collect();
        assert_eq!(
            cids,
            [
                "bafybeigalvxqcgqiogiv6bimmxedgxbhu7cikwhwha2c2iqzdbnabewjai",
                "bafybeieaqaq3rvvioqlkzisej6orcwyu7czpyr752ko6oqsig4x5v4qco4",
                "bafybeih7xrjfhnc3a2p7hmtsek6magehi3omj5aa2ocn3ysliywf2ypphm",
            ]
        );
        assert_eq!(root.total_bytes, 302);
    }

    #[test]
    fn files_stand_in_folders_by_their_paths() {
        let (one, two) = (file(b"one"), file(b"two"));
        let (root, blocks) = join(&[("a/b/one", &one), ("a/two", &two), ("a-c", &one)]).unwrap();
        let entries = |block: &Block| match Node::decode(&block.bytes) {
            Some(Node::Folder(links)) => links.into_iter().map(|link| link.name).collect::<Vec<_>>(),
            other => panic!("not a folder: {other:?}"),
        };
        assert_eq!(
            blocks.iter().map(entries).collect::<Vec<_>>(),
            [vec!["one"], vec!["b", "two"], vec!["a", "a-c"]]
        );
        assert_eq!(blocks.last().unwrap().cid, root.cid);
    }

    #[test]
    fn too_many_entries_are_refused() {
        let (link, names) = (file(b""), (0..7000).map(|at| format!("{at:06}")).collect::<Vec<_>>());
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), &link)).collect();
        assert_eq!(join(&files).unwrap_err(), FolderTooLarge(7000));
        assert!(join(&files[..6000]).is_ok());
    }
}
