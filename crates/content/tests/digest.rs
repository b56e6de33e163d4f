//! A digest has one spelling, and a blob exists only with the bytes of its name.

use proptest::prelude::*;
use zoo_content::{Digest, Mismatch, ParseDigestError, VerifiedBlob};

/// From the BLAKE3 authors' test vectors: inputs of 0 and of 3 bytes (0, 1, 2).
const KNOWN: [(&[u8], &str); 2] = [
    (&[], "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    (&[0, 1, 2], "e1be4d7a8ab5560aa4199eea339849ba8e293d55ca0a81006726d184519e647f"),
];

#[test]
fn digests_are_blake3_in_lower_case_hex() {
    for (bytes, hex) in KNOWN {
        let digest = Digest::of(bytes);
        assert_eq!(digest.to_string(), hex);
        assert_eq!(hex.parse(), Ok(digest));
        assert_eq!(digest.short(), hex[..12]);
        assert_eq!(format!("{digest:?}"), format!("Digest({})", &hex[..12]));
        assert_eq!(Digest::from_bytes(*digest.as_bytes()), digest);
    }
}

#[test]
fn other_spellings_are_refused() {
    let good = KNOWN[0].1;
    let bad = [
        String::new(),
        good[1..].to_string(),
        format!("{good}0"),
        good.to_uppercase(),
        good.replacen("af", "+f", 1),
        good.replacen("af", "0x", 1),
        good.replacen("af", " f", 1),
        "é".repeat(32),
    ];
    for text in bad {
        assert_eq!(text.parse::<Digest>(), Err(ParseDigestError), "{text:?}");
    }
}

#[test]
fn a_blob_is_not_made_of_other_bytes() {
    let digest = Digest::of(b"what was asked for");
    assert_eq!(
        VerifiedBlob::verify(digest, b"something else".to_vec()),
        Err(Mismatch { expected: digest, actual: Digest::of(b"something else") })
    );
    let blob = VerifiedBlob::verify(digest, b"what was asked for".to_vec()).unwrap();
    assert_eq!((blob.digest(), blob.bytes()), (digest, &b"what was asked for"[..]));
    let shared = blob.clone();
    assert_eq!(blob.into_bytes(), shared.into_bytes());
}

proptest! {
    #[test]
    fn every_digest_survives_its_text(bytes: [u8; 32]) {
        let digest = Digest::from_bytes(bytes);
        prop_assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn digests_order_as_their_text_does(a: [u8; 32], b: [u8; 32]) {
        let (a, b) = (Digest::from_bytes(a), Digest::from_bytes(b));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }
}
