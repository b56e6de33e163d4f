//! X.509 certificates as AMD issues them (57230): RSA-PSS with SHA-384 from the root down to the chip, whose own key is ECDSA P-384.

use std::ops::Range;

use ring::signature::{self, UnparsedPublicKey};
use x509_cert::certificate::Certificate as X509;
use x509_cert::der::asn1::{Ia5StringRef, ObjectIdentifier};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::BasicConstraints;

use super::{Product, SnpTcb, chain};
use crate::AttestError;

const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const PRODUCT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2");
const BOOTLOADER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const TEE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const SNP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const MICROCODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const FMC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
const CHIP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");

/// A certificate, its name for messages, and the bytes that its issuer signed.
pub struct Certificate {
    what: &'static str,
    x509: X509,
    signed: Vec<u8>,
}

impl Certificate {
    /// Reads one of a bounded size. Of a certificate only the bytes that it would be written as are read.
    pub fn read(what: &'static str, der: &[u8]) -> Result<Self, AttestError> {
        let malformed = |cause: String| AttestError::Malformed { what, cause };
        let x509 = X509::from_der(der).map_err(|cause| malformed(cause.to_string()))?;
        if x509.to_der().ok().as_deref() != Some(der) {
            return Err(malformed("it is not in the canonical encoding".into()));
        }
        let signed = x509.tbs_certificate().to_der().map_err(|cause| malformed(cause.to_string()))?;
        Ok(Self { what, x509, signed })
    }

    /// Whether `issuer` signed it.
    pub fn is_signed_by(&self, issuer: &Self) -> Result<(), AttestError> {
        let certificate = self.x509.tbs_certificate();
        let algorithm = self.x509.signature_algorithm();
        if certificate.issuer() != issuer.x509.tbs_certificate().subject() {
            return Err(chain(self.what, "its issuer is another"));
        }
        if algorithm.oid != RSA_PSS || algorithm != certificate.signature() {
            return Err(chain(self.what, "it is not signed with RSA-PSS"));
        }
        let signature = self.x509.signature().as_bytes();
        let signature = signature.ok_or_else(|| chain(self.what, "its signature is not whole bytes"))?;
        UnparsedPublicKey::new(&signature::RSA_PSS_2048_8192_SHA384, issuer.key())
            .verify(&self.signed, signature)
            .map_err(|_| chain(self.what, "its signature does not hold"))
    }

    /// Whether it may sign others, but none that sign others again.
    pub fn may_sign(&self) -> Result<(), AttestError> {
        match self.x509.tbs_certificate().get_extension::<BasicConstraints>() {
            Ok(Some((_, BasicConstraints { ca: true, path_len_constraint: Some(0) }))) => Ok(()),
            _ => Err(chain(self.what, "it is none to sign others with")),
        }
    }

    /// Whether its key signed `message`; a signature is the two numbers, big-endian.
    pub fn has_signed(&self, message: &[u8], signature: &[u8; 96]) -> Result<(), AttestError> {
        UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, self.key())
            .verify(message, signature)
            .map_err(|_| chain("the report", "the chip's signature does not hold"))
    }

    /// When it is valid, seconds since 1970.
    pub fn validity(&self) -> Range<u64> {
        let validity = self.x509.tbs_certificate().validity();
        let [first, last] =
            [validity.not_before, validity.not_after].map(|at| at.to_unix_duration().as_secs());
        first..last.saturating_add(1)
    }

    /// Of which product the chip is.
    pub fn product(&self) -> Result<Product, AttestError> {
        let name = self.extension(PRODUCT)?;
        let name = Ia5StringRef::from_der(name).map_err(|cause| chain(self.what, cause))?;
        Product::of_chip(name.as_str())
            .ok_or_else(|| chain(self.what, format!("{:?} is no product that is known", name.as_str())))
    }

    /// The versions of firmware that its key stands for.
    pub fn versions(&self, product: Product) -> Result<SnpTcb, AttestError> {
        let version = |oid| u8::from_der(self.extension(oid)?).map_err(|cause| chain(self.what, cause));
        Ok(SnpTcb {
            bootloader: version(BOOTLOADER)?,
            tee: version(TEE)?,
            snp: version(SNP)?,
            microcode: version(MICROCODE)?,
            fmc: if product.has_fmc() { version(FMC)? } else { 0 },
        })
    }

    /// The chip's identity.
    pub fn chip(&self) -> Result<&[u8], AttestError> {
        let chip = self.extension(CHIP)?;
        match chip.iter().any(|byte| *byte != 0) {
            true => Ok(chip),
            false => Err(chain(self.what, "it names no chip")),
        }
    }

    fn key(&self) -> &[u8] {
        self.x509.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes()
    }

    fn extension(&self, oid: ObjectIdentifier) -> Result<&[u8], AttestError> {
        let extensions = self.x509.tbs_certificate().extensions();
        let mut found = extensions.into_iter().flatten().filter(|extension| extension.extn_id == oid);
        match (found.next(), found.next()) {
            (Some(extension), None) => Ok(extension.extn_value.as_bytes()),
            _ => Err(chain(self.what, format!("it does not have one extension {oid}"))),
        }
    }
}
