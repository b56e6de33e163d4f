//! A root commits to every leaf, their order and their number; proofs prove only what is there.

use zoo_content::{Digest, InclusionProof, merkle_root};

fn leaves(count: usize) -> Vec<Digest> {
    (0..count as u64).map(|i| Digest::of(&i.to_le_bytes())).collect()
}

fn h(domain: &str, parts: &[&[u8]]) -> Digest {
    let mut bytes = [b"zoo/merkle/1 ", domain.as_bytes(), &[0]].concat();
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    Digest::of(&bytes)
}

/// RFC 6962's recursive definition: split at the largest power of two below the count.
fn reference_top(leaves: &[Digest]) -> Digest {
    if let [leaf] = leaves {
        return h("leaf", &[leaf.as_bytes()]);
    }
    let split = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(split);
    h("node", &[reference_top(left).as_bytes(), reference_top(right).as_bytes()])
}

#[test]
fn the_root_is_that_of_the_recursive_definition() {
    assert_eq!(merkle_root(&[]), h("root", &[&0u64.to_le_bytes()]));
    for count in 1..70 {
        let leaves = leaves(count);
        let top = reference_top(&leaves);
        assert_eq!(
            merkle_root(&leaves),
            h("root", &[&(count as u64).to_le_bytes(), top.as_bytes()]),
            "{count}"
        );
    }
}

/// Old commitments must stay checkable: these values never change.
#[test]
fn roots_are_what_they_always_were() {
    let golden = [
        (0, "72205514d7e38f4058391c2436dfe1a626d5671a0767478b8e1567b5ecdf7b80"),
        (1, "8b8d50551e68c9898f50d8e41b111446fb3cf98d8748c13815fe15c1cbded3f1"),
        (7, "ff7386364eee1ecefc5c9dc89f2d153d84bd2fc450a37a412dc3cfc1c819a3e0"),
    ];
    for (count, root) in golden {
        assert_eq!(merkle_root(&leaves(count)).to_string(), root, "{count} leaves");
    }
}

#[test]
fn any_change_of_the_list_changes_the_root() {
    for count in 1..20 {
        let original = leaves(count);
        let root = merkle_root(&original);
        for i in 0..count {
            let mut changed = original.clone();
            changed[i] = Digest::of(b"another");
            assert_ne!(merkle_root(&changed), root, "leaf {i} of {count} replaced");
            changed.remove(i);
            assert_ne!(merkle_root(&changed), root, "leaf {i} of {count} removed");
            let mut duplicated = original.clone();
            duplicated.insert(i, original[i]);
            assert_ne!(merkle_root(&duplicated), root, "leaf {i} of {count} duplicated");
            if i > 0 {
                let mut swapped = original.clone();
                swapped.swap(i - 1, i);
                assert_ne!(merkle_root(&swapped), root, "leaves {i} of {count} swapped");
            }
        }
    }
}

#[test]
fn every_leaf_has_a_proof_and_it_proves_nothing_else() {
    for count in 1..35 {
        let leaves = leaves(count);
        let root = merkle_root(&leaves);
        assert_eq!(InclusionProof::of(&leaves, count), None);
        for (index, leaf) in leaves.iter().enumerate() {
            let proof = InclusionProof::of(&leaves, index).unwrap();
            assert!(proof.verify(&root, leaf), "leaf {index} of {count}");
            assert!(proof.siblings.len() <= count.next_power_of_two().ilog2() as usize);

            for other in leaves.iter().filter(|other| *other != leaf) {
                assert!(!proof.verify(&root, other), "another leaf in place {index} of {count}");
            }
            for index in (0..count as u64 + 2).filter(|other| *other != proof.index) {
                assert!(!InclusionProof { index, ..proof.clone() }.verify(&root, leaf), "moved to {index}");
            }
            for count in (0..count as u64 + 3).filter(|other| *other != proof.count) {
                assert!(!InclusionProof { count, ..proof.clone() }.verify(&root, leaf), "count {count}");
            }
            assert!(!proof.verify(&Digest::of(b"another root"), leaf));
        }
    }
}

#[test]
fn a_proof_with_changed_missing_or_added_siblings_proves_nothing() {
    let leaves = leaves(13);
    let root = merkle_root(&leaves);
    for (index, leaf) in leaves.iter().enumerate() {
        let proof = InclusionProof::of(&leaves, index).unwrap();
        for i in 0..proof.siblings.len() {
            let mut changed = proof.clone();
            changed.siblings[i] = Digest::of(b"forged");
            assert!(!changed.verify(&root, leaf));
            let mut shorter = proof.clone();
            shorter.siblings.remove(i);
            assert!(!shorter.verify(&root, leaf));
        }
        for extra in [0, proof.siblings.len()] {
            let mut longer = proof.clone();
            longer.siblings.insert(extra, *leaf);
            assert!(!longer.verify(&root, leaf));
        }
    }
}

#[test]
fn the_largest_claims_are_answered_without_trouble() {
    for (index, count) in [(0, u64::MAX), (u64::MAX - 1, u64::MAX), (u64::MAX, u64::MAX), (0, 0)] {
        for siblings in [0, 63, 64, 65, 1000] {
            let proof = InclusionProof { index, count, siblings: vec![Digest::of(b"x"); siblings] };
            assert!(!proof.verify(&Digest::of(b"root"), &Digest::of(b"leaf")));
        }
    }
}
