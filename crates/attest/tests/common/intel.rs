//! An authority that signs quotes and collateral in Intel's format: Intel's own samples, with one other key everywhere.

use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair,
};
use x509_cert::certificate::Certificate;
use x509_cert::der::{Decode, Encode};
use zoo_attest::{AttestError, Evidence, Policy, QuoteEvidence, Roots};

use super::amd::replace;
use super::{binding, lenient};

const ROOT: &[u8] = include_bytes!("../../roots/intel-sgx-root.der");
const KEY: &[u8] = include_bytes!("../keys/intel.pk8");
/// Bytes of a quote before its report, in versions 3 and 4.
const HEAD: usize = 48;
/// Bytes of an enclave's report.
const ENCLAVE: usize = 384;

/// A quote with its collateral, as they were published.
pub fn sample(name: &str) -> Result<Evidence, AttestError> {
    let (quote, collateral): (&[u8], &str) = match name {
        "sgx" => (include_bytes!("../samples/sgx.quote"), include_str!("../samples/sgx.json")),
        "tdx" => (include_bytes!("../samples/tdx.quote"), include_str!("../samples/tdx.json")),
        "tdx_outdated" => {
            (include_bytes!("../samples/tdx_outdated.quote"), include_str!("../samples/tdx_outdated.json"))
        }
        "tdx_td15ex" => {
            (include_bytes!("../samples/tdx_td15ex.quote"), include_str!("../samples/tdx_td15ex.json"))
        }
        _ => panic!("there is no {name}"),
    };
    Evidence::intel(quote, collateral)
}

/// Root, platform and quoting enclave in one: whose key is whose is not what these tests are about.
pub struct Authority {
    fixed: EcdsaKeyPair,
    asn1: EcdsaKeyPair,
    random: SystemRandom,
}

impl Authority {
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let key = |algorithm: &'static EcdsaSigningAlgorithm| {
            EcdsaKeyPair::from_pkcs8(algorithm, KEY, &random).expect("a key of the tests")
        };
        let (fixed, asn1) = (key(&ECDSA_P256_SHA256_FIXED_SIGNING), key(&ECDSA_P256_SHA256_ASN1_SIGNING));
        Self { fixed, asn1, random }
    }

    /// Trusts this authority alone.
    pub fn policy(&self) -> Policy {
        Policy { roots: Roots { intel: self.issue(ROOT), amd: vec![] }, ..lenient() }
    }

    /// The sample (`sgx` or `tdx`) about the node of the tests, with a report that says something else besides.
    pub fn evidence_with(&self, name: &str, report: impl Fn(&mut [u8])) -> Evidence {
        let Ok(Evidence::Intel(mut evidence)) = sample(name) else { panic!("{name} is a sample") };
        self.sign_collateral(&mut evidence);
        let (report_bytes, quoting_enclave_at) =
            if name == "sgx" { (ENCLAVE, 128) } else { (584, 128 + 2 + 4) };
        let quote = &mut evidence.quote;
        let end = HEAD + report_bytes;
        quote[end - 64..end].copy_from_slice(&binding().report_data());
        report(&mut quote[HEAD..end]);
        self.sign_quote(quote, end, end + 4, end + 4 + quoting_enclave_at);
        Evidence::Intel(evidence)
    }

    fn sign_collateral(&self, evidence: &mut QuoteEvidence) {
        let collateral = &mut evidence.collateral;
        for chain in [&mut collateral.tcb_info_issuer_chain, &mut collateral.qe_identity_issuer_chain] {
            *chain = self.issue_all(chain);
        }
        collateral.tcb_info_signature = self.sign(collateral.tcb_info.as_bytes()).to_vec();
        collateral.qe_identity_signature = self.sign(collateral.qe_identity.as_bytes()).to_vec();
        for list in [&mut collateral.root_ca_crl, &mut collateral.pck_crl] {
            *list = self.sign_der(list);
        }
        let begin = b"-----BEGIN CERTIFICATE-----";
        let quote = &mut evidence.quote;
        let at =
            quote.windows(begin.len()).position(|bytes| bytes == begin).expect("the quote has its chain");
        let text = std::str::from_utf8(&quote[at..]).expect("to its end").to_string();
        let chain = self.issue_all(text.trim_end_matches('\0'));
        quote[at..at + chain.len()].copy_from_slice(chain.as_bytes());
    }

    /// Signs the enclave's or domain's report, and that of the quoting enclave, which vouches for the key.
    fn sign_quote(&self, quote: &mut [u8], signed: usize, auth: usize, quoting_enclave: usize) {
        let key = &self.fixed.public_key().as_ref()[1..];
        quote[auth + 64..auth + 128].copy_from_slice(key);
        let report_end = quoting_enclave + ENCLAVE;
        let data = report_end + 64 + 2;
        let vouched = digest(&SHA256, &[key, &quote[data..data + 32]].concat());
        quote[report_end - 64..report_end - 32].copy_from_slice(vouched.as_ref());
        let signature = self.sign(&quote[quoting_enclave..report_end]);
        quote[report_end..report_end + 64].copy_from_slice(&signature);
        let signature = self.sign(&quote[..signed]);
        quote[auth..auth + 64].copy_from_slice(&signature);
    }

    fn issue_all(&self, chain: &str) -> String {
        let certificates = pem::parse_many(chain).expect("a chain");
        let issued = certificates.iter().map(|old| pem::Pem::new(old.tag(), self.issue(old.contents())));
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        let written: String = issued.map(|new| pem::encode_config(&new, config)).collect();
        assert!(written.len().abs_diff(chain.len()) <= 1, "lengths are part of a quote");
        written[..written.len().min(chain.len())].to_string()
    }

    fn issue(&self, like: &[u8]) -> Vec<u8> {
        let read = Certificate::from_der(like).expect("a certificate");
        let old_key = read.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes();
        let mut der = like.to_vec();
        replace(&mut der, old_key, self.fixed.public_key().as_ref());
        self.sign_der(&der)
    }

    /// Signs a certificate or list anew. A signature's length varies by a byte or two, and has to be that of the old one.
    fn sign_der(&self, der: &[u8]) -> Vec<u8> {
        let signed = Signed::from_der(der).expect("it is signed");
        let message = signed.message.to_der().expect("it was read");
        let old = signed.signature.raw_bytes();
        loop {
            let signature = self.asn1.sign(&self.random, &message).expect("it signs");
            if signature.as_ref().len() == old.len() {
                return [&der[..der.len() - old.len()], signature.as_ref()].concat();
            }
        }
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.fixed.sign(&self.random, message).expect("it signs");
        signature.as_ref().try_into().expect("two numbers of 32 bytes")
    }
}

/// What certificates and lists have in common (RFC 5280, section 4.1).
struct Signed<'a> {
    message: x509_cert::der::AnyRef<'a>,
    signature: x509_cert::der::asn1::BitStringRef<'a>,
}

impl<'a> Signed<'a> {
    fn from_der(der: &'a [u8]) -> x509_cert::der::Result<Self> {
        use x509_cert::der::{AnyRef, Reader, SliceReader};
        let mut reader = SliceReader::new(der)?;
        reader.sequence(|parts| {
            let message = AnyRef::decode(parts)?;
            let _algorithm = AnyRef::decode(parts)?;
            let signature = x509_cert::der::asn1::BitStringRef::decode(parts)?;
            Ok(Self { message, signature })
        })
    }
}
