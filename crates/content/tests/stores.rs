//! What every store does, and what the one on disk does when the disk does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use zoo_content::{
    BlobStore, Digest, Durability, FileStore, LEAF_BYTES, MemoryStore, StoreError, VerifiedBlob,
};

const BLOBS: [&[u8]; 4] = [b"", b"one", b"two, which is longer", &[0xa5; 100_000]];

fn with_every_store(test: impl Fn(&dyn BlobStore)) {
    test(&MemoryStore::new());
    let directory = tempfile::tempdir().unwrap();
    test(&FileStore::open(directory.path()).unwrap());
}

fn file_of(root: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.to_string();
    root.join(&hex[..2]).join(&hex[2..])
}

fn temporary_files(root: &Path) -> usize {
    let shards = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let files = shards.filter(|path| path.is_dir()).flat_map(|shard| fs::read_dir(shard).unwrap());
    files.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".tmp")).count()
}

#[test]
fn what_is_put_can_be_got_listed_and_removed() {
    with_every_store(|store| {
        let mut expected = Vec::new();
        for bytes in BLOBS {
            let digest = store.put(bytes).unwrap();
            assert_eq!(digest, Digest::of(bytes));
            assert_eq!(store.put(bytes).unwrap(), digest, "putting twice changes nothing");
            store.keep(&VerifiedBlob::new(bytes.to_vec())).unwrap();
            assert_eq!(store.get(&digest).unwrap().bytes(), bytes);
            assert_eq!(store.size(&digest), Some(bytes.len() as u64));
            assert!(store.contains(&digest));
            expected.push(digest);
        }
        expected.sort();
        assert_eq!(store.list().unwrap(), expected);
        assert_eq!(store.total_bytes().unwrap(), BLOBS.iter().map(|bytes| bytes.len() as u64).sum::<u64>());

        let gone = expected[1];
        assert!(store.remove(&gone).unwrap());
        assert!(!store.remove(&gone).unwrap(), "it was removed already");
        assert!(!store.contains(&gone));
        assert!(matches!(store.get(&gone), Err(StoreError::NotFound(digest)) if digest == gone));
        assert_eq!(store.list().unwrap().len(), BLOBS.len() - 1);
    });
}

#[test]
fn a_blob_is_found_by_how_its_digest_begins() {
    with_every_store(|store| {
        assert_eq!(store.find(&Digest::of(BLOBS[0]).prefix()).unwrap(), None);
        let digests = BLOBS.map(|bytes| store.put(bytes).unwrap());
        for digest in digests {
            assert_eq!(store.find(&digest.prefix()).unwrap(), Some(digest));
            let mut other = digest.prefix();
            other[7] ^= 1;
            assert_eq!(store.find(&other).unwrap(), None);
        }
        assert_eq!(store.find(&[0; 8]).unwrap(), None);
        assert_eq!(store.find(&[0xff; 8]).unwrap(), None);
    });
}

#[test]
fn keeping_stores_the_blob_under_its_digest() {
    with_every_store(|store| {
        let blob = VerifiedBlob::new(b"fetched from a peer".to_vec());
        store.keep(&blob).unwrap();
        assert_eq!(store.get(&blob.digest()).unwrap(), blob);
    });
}

#[test]
fn a_store_on_disk_is_still_there_when_it_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("made/on/the/way");
    let digest = FileStore::open(&root).unwrap().put(b"kept").unwrap();
    let store = FileStore::open(&root).unwrap();
    assert_eq!(store.get(&digest).unwrap().bytes(), b"kept");
    assert_eq!(store.list().unwrap(), [digest]);
    assert!(file_of(&root, &digest).is_file(), "blobs lie at ab/cdef...");
}

#[test]
fn what_reaches_the_disk_later_is_there_at_once_and_may_go_before_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open_with(directory.path(), Durability::Later).unwrap();
    let [kept, removed] = [store.put(b"kept").unwrap(), store.put(b"removed").unwrap()];
    assert_eq!(FileStore::open(directory.path()).unwrap().list().unwrap().len(), 2, "others see it");
    assert!(store.remove(&removed).unwrap());
    store.flush().unwrap();
    store.flush().unwrap();
    assert_eq!(store.get(&kept).unwrap().bytes(), b"kept");
}

#[test]
fn any_damage_to_a_blob_is_found_and_putting_it_again_heals_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let bytes = b"every byte of this matters";
    let digest = store.put(bytes).unwrap();
    let path = file_of(directory.path(), &digest);

    let mut damaged: Vec<Vec<u8>> = Vec::new();
    for i in 0..bytes.len() {
        let mut flipped = bytes.to_vec();
        flipped[i] ^= 1 << (i % 8);
        damaged.push(flipped);
    }
    damaged.extend([Vec::new(), bytes[..5].to_vec(), [&bytes[..], b"more"].concat()]);
    for content in damaged {
        fs::write(&path, &content).unwrap();
        let error = store.get(&digest).unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { digest: d, path: p } if *d == digest && *p == path));
        assert!(error.to_string().contains("\nhint: "), "{error}");
        assert_eq!(store.put(bytes).unwrap(), digest);
        assert_eq!(store.get(&digest).unwrap().bytes(), bytes);
    }
}

#[test]
fn half_written_files_are_ignored_and_swept_when_nobody_else_has_the_store_open() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let first = FileStore::open(root).unwrap();
    let digest = first.put(b"whole").unwrap();
    let path = file_of(root, &digest);
    for (i, content) in [&b""[..], b"who", b"whole and more"].iter().enumerate() {
        fs::write(path.with_extension(format!("4242.{i}.tmp")), content).unwrap();
    }
    assert_eq!(first.list().unwrap(), [digest]);
    assert_eq!(first.total_bytes().unwrap(), 5);

    let second = FileStore::open(root).unwrap();
    assert_eq!(temporary_files(root), 3, "the first might still be writing them");
    drop((first, second));
    let store = FileStore::open(root).unwrap();
    assert_eq!(temporary_files(root), 0);
    assert_eq!(store.get(&digest).unwrap().bytes(), b"whole");
}

#[test]
fn files_that_are_no_blobs_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    for name in ["note.txt", "ab/README", "ab/cdef", "cd/UPPER"] {
        fs::write(directory.path().join(name), b"a person's").unwrap();
    }
    assert_eq!(store.list().unwrap(), []);
    drop(store);
    FileStore::open(directory.path()).unwrap();
    assert!(directory.path().join("ab/README").exists());
}

#[test]
fn many_threads_may_put_the_same_blobs() {
    with_every_store(|store| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..20u32 {
                        let bytes = i.to_le_bytes().repeat(100);
                        let digest = store.put(&bytes).unwrap();
                        assert_eq!(store.get(&digest).unwrap().bytes(), bytes);
                    }
                });
            }
        });
        assert_eq!(store.list().unwrap().len(), 20);
    });
}

#[test]
fn a_file_where_the_store_should_be_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("occupied");
    fs::write(&path, b"a file").unwrap();
    let error = FileStore::open(&path).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
}

const CHILD_ROOT: &str = "ZOO_CONTENT_TEST_ROOT";

/// Not a test by itself: the process that the next test kills.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(root) = std::env::var(CHILD_ROOT) else { return };
    let store = FileStore::open(root).unwrap();
    for i in 0u64.. {
        store.put(&child_blob(i)).unwrap();
    }
}

#[test]
fn a_process_killed_while_it_writes_leaves_only_whole_blobs() {
    let directory = tempfile::tempdir().unwrap();
    let mut whole = 0;
    for extra_ms in [0, 3, 7, 12, 20] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_until_it_is_killed"])
            .env(CHILD_ROOT, directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let has_written = || file_of(directory.path(), &Digest::of(&child_blob(whole))).exists();
        while !has_written() {
            assert_eq!(child.try_wait().unwrap(), None, "the child ended by itself");
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(extra_ms));
        child.kill().unwrap();
        child.wait().unwrap();

        let store = FileStore::open(directory.path()).unwrap();
        assert_eq!(temporary_files(directory.path()), 0);
        let digests = store.list().unwrap();
        for digest in &digests {
            store.get(digest).unwrap();
        }
        assert!(digests.len() as u64 > whole, "what was acknowledged is there");
        whole = digests.len() as u64;
    }
}

fn child_blob(i: u64) -> Vec<u8> {
    i.to_le_bytes().repeat(50_000)
}

#[test]
fn what_arrived_in_part_is_there_after_a_restart_and_goes_when_the_blob_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let blob: Vec<u8> = (0..3 * LEAF_BYTES + 5).map(|at| (at % 251) as u8).collect();
    let (digest, bytes) = (Digest::of(&blob), blob.len() as u64);
    let leaf = |leaf: usize| {
        let at = leaf * LEAF_BYTES as usize;
        &blob[at..blob.len().min(at + LEAF_BYTES as usize)]
    };
    {
        let store = FileStore::open(directory.path()).unwrap();
        assert!(store.partial(&digest, bytes).unwrap().is_none());
        let mut partial = store.begin(&digest, bytes).unwrap();
        partial.keep(3, leaf(3)).unwrap();
        partial.keep(1, leaf(1)).unwrap();
    }
    let store = FileStore::open(directory.path()).unwrap();
    assert!(store.partial(&digest, bytes - 1).unwrap().is_none(), "over the limit");
    let mut partial = store.partial(&digest, bytes).unwrap().unwrap();
    let here: Vec<bool> = (0..5).map(|leaf| partial.has(leaf)).collect();
    assert_eq!((partial.bytes(), here), (bytes, vec![false, true, false, true, false]));
    partial.keep(0, leaf(0)).unwrap();
    assert!(!partial.is_whole());
    partial.keep(2, leaf(2)).unwrap();
    assert!(partial.is_whole() && !store.contains(&digest));
    let whole = partial.finish(digest).unwrap().unwrap();
    store.keep(&whole).unwrap();
    assert_eq!(store.get(&digest).unwrap().bytes(), blob);
    assert!(store.partial(&digest, bytes).unwrap().is_none());
    assert_eq!(store.list().unwrap(), [digest]);
}

#[test]
fn a_partial_blob_whose_bytes_have_changed_is_thrown_away_and_so_is_one_that_nobody_wants() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let [blob, other] = [Digest::of(b"some bytes"), Digest::of(b"others")];
    store.begin(&blob, 10).unwrap().keep(0, b"same bytes").unwrap();
    let partial = store.partial(&blob, 10).unwrap().unwrap();
    assert!(partial.is_whole() && partial.finish(blob).unwrap().is_err());
    assert!(store.partial(&blob, 10).unwrap().is_none());
    store.begin(&blob, 10).unwrap();
    store.begin(&other, 10).unwrap();
    store.remove_partials(|digest| *digest == blob).unwrap();
    assert!(store.partial(&blob, 10).unwrap().is_some() && store.partial(&other, 10).unwrap().is_none());
}
