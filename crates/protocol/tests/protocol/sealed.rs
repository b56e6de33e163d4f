//! A seal opens only as it was sent, by whom it was signed, for what it was signed.

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use zoo_protocol::{
    Commitment, JournalHead, Message, NodeId, NodeKey, ParseNodeIdError, SealError, Sealed, Statement,
    WireError, decode, encode,
};

use crate::{arbitrary, samples};

/// A sealed value as a stranger builds it: the same bytes on the wire, every field open.
#[derive(Clone, Serialize, Deserialize)]
struct Forged {
    signer: NodeId,
    bytes: Vec<u8>,
    signature: Vec<u8>,
}

impl Forged {
    fn from<T>(sealed: &Sealed<T>) -> Self {
        postcard::from_bytes(&encode(sealed)).unwrap()
    }

    fn open<T: Statement>(&self) -> Result<T, SealError> {
        postcard::from_bytes::<Sealed<T>>(&encode(self)).unwrap().open()
    }
}

/// Another statement with the fields of a commitment, and so with the same bytes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Lookalike(Commitment);

impl Message for Lookalike {
    fn validate(&self) -> Result<(), WireError> {
        self.0.validate()
    }
}

impl Statement for Lookalike {
    const PURPOSE: &'static str = "lookalike/1";
}

#[test]
fn a_seal_opens_to_what_was_sealed() {
    let sealed = Sealed::seal(&samples::commitment(), &samples::key());
    assert_eq!(sealed.open(), Ok(samples::commitment()));
    assert_eq!(sealed.signer(), samples::key().id());
    assert_eq!(sealed, Sealed::seal(&samples::commitment(), &samples::key()), "signatures are deterministic");
}

#[test]
fn any_changed_bit_breaks_the_seal() {
    let sealed = Forged::from(&Sealed::seal(&samples::commitment(), &samples::key()));
    let assert_broken = |forged: &Forged, what: &str, at: usize| {
        let opened = forged.open::<Commitment>();
        assert_eq!(opened, Err(SealError::Signature(forged.signer)), "{what} at bit {at}");
    };
    for bit in 0..sealed.bytes.len() * 8 {
        let mut forged = sealed.clone();
        forged.bytes[bit / 8] ^= 1 << (bit % 8);
        assert_broken(&forged, "bytes", bit);
    }
    for bit in 0..sealed.signature.len() * 8 {
        let mut forged = sealed.clone();
        forged.signature[bit / 8] ^= 1 << (bit % 8);
        assert_broken(&forged, "signature", bit);
    }
    for bit in 0..sealed.signer.0.len() * 8 {
        let mut forged = sealed.clone();
        forged.signer.0[bit / 8] ^= 1 << (bit % 8);
        assert_broken(&forged, "signer", bit);
    }
}

#[test]
fn bytes_and_signatures_of_another_length_break_the_seal() {
    let sealed = Forged::from(&Sealed::seal(&samples::commitment(), &samples::key()));
    let mut cases = Vec::new();
    for len in [0, 1, 63, 65, 128] {
        let mut forged = sealed.clone();
        forged.signature.resize(len, 0);
        cases.push(forged);
    }
    for len in [0, sealed.bytes.len() - 1, sealed.bytes.len() + 1] {
        let mut forged = sealed.clone();
        forged.bytes.resize(len, 0);
        cases.push(forged);
    }
    for forged in cases {
        assert_eq!(forged.open::<Commitment>(), Err(SealError::Signature(forged.signer)));
    }
}

#[test]
fn a_signature_that_is_too_long_is_refused_on_the_wire() {
    let mut forged = Forged::from(&Sealed::seal(&samples::commitment(), &samples::key()));
    forged.signature.push(0);
    let limit = WireError::Limit { what: "bytes of a signature", actual: 65, limit: 64 };
    assert_eq!(decode::<Sealed<Commitment>>(&encode(&forged)), Err(limit));
}

#[test]
fn nobody_signs_for_somebody_else() {
    let own = Forged::from(&Sealed::seal(&samples::commitment(), &samples::key()));
    let other = NodeKey::from_seed([8; 32]);
    let forged = Forged { signer: other.id(), ..own.clone() };
    assert_eq!(forged.open::<Commitment>(), Err(SealError::Signature(other.id())));
    let signed_by_other = Forged::from(&Sealed::seal(&samples::commitment(), &other));
    let forged = Forged { signer: own.signer, ..signed_by_other };
    assert_eq!(forged.open::<Commitment>(), Err(SealError::Signature(own.signer)));
}

/// The small-order points of the curve sign anything under sloppy verification.
#[test]
fn weak_keys_sign_nothing() {
    let sealed = Forged::from(&Sealed::seal(&samples::commitment(), &samples::key()));
    let mut one = [0; 32];
    one[0] = 1;
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    for point in [[0; 32], one, minus_one] {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&point);
        let forged = Forged { signer: NodeId(point), signature: signature.to_vec(), ..sealed.clone() };
        assert_eq!(forged.open::<Commitment>(), Err(SealError::Signature(NodeId(point))));
    }
}

#[test]
fn a_signature_for_one_purpose_is_none_for_another() {
    let lookalike = Sealed::seal(&Lookalike(samples::commitment()), &samples::key());
    assert_eq!(encode(&Lookalike(samples::commitment())), encode(&samples::commitment()));
    assert_eq!(lookalike.open(), Ok(Lookalike(samples::commitment())));
    let forged = Forged::from(&lookalike);
    assert_eq!(forged.open::<Commitment>(), Err(SealError::Signature(samples::key().id())));
}

#[test]
fn a_signed_value_beyond_its_limits_does_not_open() {
    let mut commitment = samples::commitment();
    commitment.outcome.updates[1].vnode = "x".repeat(129);
    let cause = WireError::Limit { what: "vnode id", actual: 129, limit: 128 };
    let opened = Sealed::seal(&commitment, &samples::key()).open();
    assert_eq!(opened, Err(SealError::Malformed { signer: samples::key().id(), cause }));
}

proptest! {
    #[test]
    fn every_commitment_survives_sealing(commitment in arbitrary::any_commitment(), seed: [u8; 32]) {
        let key = NodeKey::from_seed(seed);
        prop_assert_eq!(Sealed::seal(&commitment, &key).open(), Ok(commitment));
    }
}

#[test]
fn a_node_id_is_the_public_key_in_hex() {
    // RFC 8032, section 7.1, test 1.
    let secret =
        zoo_content::hex::read_32("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .unwrap();
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let key = NodeKey::from_seed(secret);
    assert_eq!(key.id().to_string(), public);
    assert_eq!(public.parse(), Ok(key.id()));
    assert_eq!(key.id().short(), "d75a9801");
    assert_eq!(key.seed(), secret);
    assert_eq!(format!("{key:?}"), "NodeKey(d75a9801)", "a secret is never shown");
    for bad in ["", &public[1..], &public.to_uppercase(), &public.replacen("d7", "+7", 1)] {
        assert_eq!(bad.parse::<NodeId>(), Err(ParseNodeIdError), "{bad:?}");
    }
}

#[test]
fn two_heads_conflict_only_if_no_history_has_both() {
    let head = samples::head();
    assert!(!head.conflicts_with(&head));
    assert!(head.conflicts_with(&JournalHead { chain: head.root, ..head }));
    assert!(head.conflicts_with(&JournalHead { root: head.chain, ..head }));
    let later = JournalHead { commands: head.commands + 1, ..head };
    assert!(
        !head.conflicts_with(&later) && !later.conflicts_with(&head),
        "one may be the beginning of the other"
    );
    let sealed = Sealed::seal(&head, &samples::key());
    assert_eq!(sealed.open(), Ok(head));
    // What is signed as a head is not taken for a commitment.
    assert!(decode::<Sealed<Commitment>>(&encode(&sealed)).expect("the seal decodes").open().is_err());
}
