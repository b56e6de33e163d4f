//! An authority that issues certificates in AMD's format: AMD's own, with other keys in them and other signatures under them.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PSS_SHA384, RsaKeyPair};
use x509_cert::certificate::Certificate;
use x509_cert::der::{Decode, Encode};
use zoo_attest::{Evidence, Policy, Roots};

use super::{binding, lenient};

const REPORT: &[u8] = include_bytes!("../samples/milan.report");
const ARK: &[u8] = include_bytes!("../../roots/ark-milan.der");
const ASK: &[u8] = include_bytes!("../samples/ask-milan.der");
const VCEK: &[u8] = include_bytes!("../samples/vcek-milan.der");

/// What AMD's hardware signed.
pub fn sample() -> Evidence {
    Evidence::amd(REPORT, ASK, VCEK).expect("it is of the right size")
}

/// Root, intermediate and chip, whose private keys lie beside the tests.
pub struct Authority {
    ark: RsaKeyPair,
    ask: RsaKeyPair,
    vcek: EcdsaKeyPair,
    random: SystemRandom,
}

impl Authority {
    pub fn new() -> Self {
        let rsa = |key: &[u8]| RsaKeyPair::from_pkcs8(key).expect("a key of the tests");
        let random = SystemRandom::new();
        let vcek = include_bytes!("../keys/vcek.pk8");
        Self {
            ark: rsa(include_bytes!("../keys/ark.pk8")),
            ask: rsa(include_bytes!("../keys/ask.pk8")),
            vcek: EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, vcek, &random)
                .expect("likewise"),
            random,
        }
    }

    /// Trusts this authority alone.
    pub fn policy(&self) -> Policy {
        let ark = self.issue(ARK, self.ark.public().as_ref(), &self.ark, |_| {});
        Policy { roots: Roots { amd: vec![ark], ..Roots::vendors() }, ..lenient() }
    }

    /// Evidence about the node of the tests.
    pub fn evidence(&self) -> Evidence {
        self.evidence_with(|_| {}, |_| {}, |_| {})
    }

    /// Evidence of which report or certificates say something else, under valid signatures.
    pub fn evidence_with(
        &self,
        report: impl Fn(&mut Vec<u8>),
        ask: impl Fn(&mut Vec<u8>),
        vcek: impl Fn(&mut Vec<u8>),
    ) -> Evidence {
        let ask = self.issue(ASK, self.ask.public().as_ref(), &self.ark, ask);
        let vcek = self.issue(VCEK, self.vcek.public_key().as_ref(), &self.ask, vcek);
        let mut bound = REPORT.to_vec();
        bound[0x50..0x90].copy_from_slice(&binding().report_data());
        report(&mut bound);
        self.sign_report(&mut bound);
        Evidence::amd(&bound, &ask, &vcek).expect("sizes stay")
    }

    fn issue(&self, like: &[u8], key: &[u8], issuer: &RsaKeyPair, edit: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let read = Certificate::from_der(like).expect("a certificate");
        let old_key = read.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes();
        let mut der = like.to_vec();
        replace(&mut der, old_key, key);
        edit(&mut der);
        // Four bytes of the certificate's head, then what is signed, and the signature at the end.
        let signed = read.tbs_certificate().to_der().expect("it was read").len();
        let mut signature = vec![0; issuer.public().modulus_len()];
        issuer.sign(&RSA_PSS_SHA384, &self.random, &der[4..4 + signed], &mut signature).expect("it signs");
        let at = der.len() - signature.len();
        der[at..].copy_from_slice(&signature);
        der
    }

    fn sign_report(&self, report: &mut [u8]) {
        let signature = self.vcek.sign(&self.random, &report[..0x2A0]).expect("it signs");
        report[0x2A0..].fill(0);
        for (at, number) in [0x2A0, 0x2A0 + 72].into_iter().zip(signature.as_ref().chunks_exact(48)) {
            let little_endian: Vec<u8> = number.iter().rev().copied().collect();
            report[at..at + 48].copy_from_slice(&little_endian);
        }
    }
}

/// Writes over the one place where `old` is.
pub fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len(), "lengths are part of a certificate");
    let places: Vec<usize> =
        (0..=bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    let [at] = places[..] else { panic!("it is found {} times", places.len()) };
    bytes[at..at + new.len()].copy_from_slice(new);
}
