//! Parts of blobs and their proofs: every right one is believed, and nothing else.

use proptest::prelude::*;
use zoo_content::Digest;
use zoo_content::slice::{self, CHUNK_BYTES, Outline, SliceError};

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn prove(blob: &[u8], leaf: u64, range: std::ops::Range<u64>) -> Vec<u8> {
    Outline::of(blob, leaf).prove(range, |at| &blob[at])
}

#[test]
fn every_chunk_of_blobs_of_every_shape_proves_itself() {
    for size in [0, 1, 1023, 1024, 1025, 2048, 3000, 4096, 5 * 1024 + 1, 16 * 1024, 33 * 1024 + 7] {
        let (blob, bytes) = (noise(size), size as u64);
        let digest = Digest::of(&blob);
        for leaf in [1024, 4096, 16 << 10] {
            for at in (0..bytes.max(1)).step_by(leaf as usize) {
                let proof = prove(&blob, leaf, at..at + 1);
                let end = (at + leaf).min(bytes);
                let expected = blob[at as usize..end as usize].to_vec();
                assert_eq!(slice::verify(&digest, bytes, leaf, at..at + 1, &proof), Ok(expected));
                let levels = bytes.div_ceil(leaf).max(1).next_power_of_two().ilog2() as usize;
                assert!(proof.len() <= 64 * levels + leaf as usize, "{} bytes", proof.len());
            }
        }
    }
}

#[test]
fn the_end_of_a_blob_proves_its_size() {
    let blob = noise(9 * 1024 + 5);
    let (digest, bytes) = (Digest::of(&blob), blob.len() as u64);
    let proof = prove(&blob, CHUNK_BYTES, bytes - 1..bytes);
    assert!(slice::verify(&digest, bytes, CHUNK_BYTES, bytes - 1..bytes, &proof).is_ok());
    for claimed in (1..40 * 1024).filter(|claimed| *claimed != bytes) {
        let end = claimed - 1..claimed;
        assert!(
            slice::verify(&digest, claimed, CHUNK_BYTES, end, &proof).is_err(),
            "a size of {claimed} is believed"
        );
    }
}

#[test]
fn a_proof_of_another_place_or_blob_is_none() {
    let (blob, other) = (noise(20_000), vec![1; 20_000]);
    let digest = Digest::of(&blob);
    let proof = prove(&blob, CHUNK_BYTES, 3_000..3_001);
    let check = |at: u64, proof: &[u8]| slice::verify(&digest, 20_000, CHUNK_BYTES, at..at + 1, proof);
    assert!(check(3_000, &proof).is_ok());
    assert!(check(4_096, &proof).is_err());
    assert_eq!(check(3_000, &prove(&other, CHUNK_BYTES, 3_000..3_001)), Err(SliceError::False { offset: 0 }));
    assert_eq!(check(3_000, &proof[..proof.len() - 1]), Err(SliceError::Length));
    assert_eq!(check(3_000, &[&proof[..], &[0]].concat()), Err(SliceError::Length));
}

proptest! {
    #[test]
    fn any_range_comes_back_and_any_flipped_bit_is_found(
        size in 1usize..200_000, from in 0.0..1.0f64, length in 1u64..100_000, flip in 0.0..1.0f64, bit in 0u8..8,
    ) {
        let (blob, bytes, leaf) = (noise(size), size as u64, 8 << 10);
        let digest = Digest::of(&blob);
        let from = (from * size as f64) as u64;
        let range = from..(from + length).min(bytes);
        let mut proof = prove(&blob, leaf, range.clone());
        let (first, end) = (from / leaf * leaf, (range.end.div_ceil(leaf) * leaf).min(bytes));
        let leaves = slice::verify(&digest, bytes, leaf, range.clone(), &proof);
        prop_assert_eq!(leaves, Ok(blob[first as usize..end as usize].to_vec()));
        let at = (flip * proof.len() as f64) as usize;
        proof[at] ^= 1 << bit;
        prop_assert!(slice::verify(&digest, bytes, leaf, range, &proof).is_err());
    }
}
