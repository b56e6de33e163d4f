//! Checkpoints: what they hold, what they share, and what they refuse.

mod common;

use common::{advance, spec, text};
use zoo_content::{BlobStore, Digest, FileStore, MemoryStore};
use zoo_training::{Checkpoint, Manifest, Trainer};

fn trained(steps: u64) -> Checkpoint {
    let data = text();
    let mut trainer = Trainer::new(spec(), &data).unwrap();
    advance(&mut trainer, steps);
    trainer.checkpoint()
}

#[test]
fn a_checkpoint_comes_back_whole() {
    for steps in [0, 2] {
        let store = MemoryStore::new();
        let checkpoint = trained(steps);
        let name = checkpoint.save(&store).unwrap();
        assert_eq!(Checkpoint::load(&store, &name).unwrap(), checkpoint);
        assert_eq!(name, Digest::of(&checkpoint.manifest().to_bytes()));
        let has_optimizer = checkpoint.vnodes.iter().all(|vnode| vnode.optimizer.is_some());
        assert_eq!(has_optimizer, steps > 0);
    }
}

#[test]
fn vnodes_that_did_not_change_share_their_blobs() {
    let store = MemoryStore::new();
    let mut checkpoint = trained(1);
    checkpoint.save(&store).unwrap();
    let blobs = store.list().unwrap().len();
    let other = trained(2);
    checkpoint.vnodes[1] = other.vnodes[1].clone();
    checkpoint.save(&store).unwrap();
    assert_eq!(store.list().unwrap().len(), blobs + 3, "one vnode's parameters and moments, and a manifest");
}

#[test]
fn a_flipped_byte_anywhere_is_an_error_that_names_the_vnode() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    let checkpoint = trained(1);
    let name = checkpoint.save(&store).unwrap();
    for vnode in &checkpoint.vnodes {
        for blob in [&vnode.parameters, vnode.optimizer.as_ref().unwrap()] {
            let digits = blob.digest().to_string();
            let path = folder.path().join(&digits[..2]).join(&digits[2..]);
            let good = std::fs::read(&path).unwrap();
            let mut bad = good.clone();
            let middle = bad.len() / 2;
            bad[middle] ^= 1;
            std::fs::write(&path, bad).unwrap();
            let error = Checkpoint::load(&store, &name).unwrap_err().to_string();
            assert!(error.contains("corrupt") && error.contains("hint: "), "{error}");
            // A blob without parameters is shared by every vnode without parameters.
            let sharing = checkpoint
                .vnodes
                .iter()
                .filter(|other| other.parameters == *blob || other.optimizer.as_ref() == Some(blob));
            assert!(sharing.into_iter().any(|other| error.contains(&other.id)), "{error}");

            std::fs::remove_file(&path).unwrap();
            let error = Checkpoint::load(&store, &name).unwrap_err().to_string();
            assert!(error.contains("is not in the store"), "{error}");
            std::fs::write(&path, good).unwrap();
        }
    }
    assert_eq!(Checkpoint::load(&store, &name).unwrap(), checkpoint);
}

#[test]
fn only_the_canonical_manifest_is_accepted() {
    let manifest = trained(0).manifest();
    let text = String::from_utf8(manifest.to_bytes()).unwrap();
    assert_eq!(Manifest::from_bytes(text.as_bytes()).unwrap(), manifest);
    let cases = [
        (text.replace("\"format\":1", "\"format\":2"), "format 2 is not known"),
        (text.replace("\"format\":1", "\"format\": 1"), "not in canonical form"),
        (text.replace("\"round\"", "\"rounds\""), "unknown field `rounds`"),
        (text.replace("\"momentum\":null", "\"momentum\":7"), "checkpoint manifest: "),
        (text.replace("\"momentum\":null", "\"momentum\":null,\"memory\":null"), "not in canonical form"),
        (text.replacen("\"bytes\":", "\"bytes\":99999999999", 1), "would have"),
        (text[..text.len() - 1].to_owned(), "checkpoint manifest: "),
        ("nonsense".to_owned(), "checkpoint manifest: "),
    ];
    for (changed, message) in cases {
        let error = Manifest::from_bytes(changed.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(message) && error.contains("\nhint: "), "{message}: {error}");
    }
}

#[test]
fn a_checkpoint_of_the_first_format_still_opens() {
    let manifest = Manifest::from_bytes(include_bytes!("fixtures/manifest-1.json").trim_ascii_end()).unwrap();
    assert_eq!((manifest.progress.step, manifest.progress.sequences), (2, 16));
    assert_eq!(manifest.vnodes.len(), trained(0).vnodes.len());
}
