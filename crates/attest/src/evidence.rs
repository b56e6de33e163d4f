//! What a node shows, as bytes whose every size was checked.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `ZOOATTST` |
//! | 2 | version, 1, little-endian |
//! | rest | an [`Evidence`] in postcard |

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{Message, WireError, decode, encode};

use crate::snp::REPORT_BYTES;
use crate::{AttestError, Statement, TeeKind, intel, snp};

const MAGIC: &[u8; 8] = b"ZOOATTST";
const VERSION: u16 = 1;
/// Largest quote, bytes; those of today have some 5,000.
const QUOTE_BYTES_MAX: u64 = 16 << 10;
/// Largest certificate, chain of certificates, document or list of revoked certificates, bytes.
const PART_BYTES_MAX: u64 = 64 << 10;
/// Longest signature over a document, bytes.
const SIGNATURE_BYTES_MAX: u64 = 64;
/// Largest JSON document that collateral is read from, bytes. It holds some parts in hex digits.
const COLLATERAL_JSON_BYTES_MAX: usize = 512 << 10;
/// Largest file of evidence, bytes.
pub const FILE_BYTES_MAX: usize = 512 << 10;

/// What shows that a node runs certain software on certain hardware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// A quote of Intel SGX or TDX.
    Intel(QuoteEvidence),
    /// A report of AMD SEV-SNP.
    Amd(SnpEvidence),
}

/// A quote with the certificates of its platform in it, and what Intel signs about such platforms.
///
/// Source: Intel SGX Data Center Attestation Primitives, ECDSA Quote Library API (quote versions 3, 4 and 5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteEvidence {
    /// The quote; nothing follows it.
    pub quote: Vec<u8>,
    /// What it is checked against.
    pub collateral: Collateral,
}

/// What Intel publishes for platforms of a kind, each with a date until which it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collateral {
    /// Certificates that the root revoked, DER.
    pub root_ca_crl: Vec<u8>,
    /// Certificates of platforms that were revoked, DER.
    pub pck_crl: Vec<u8>,
    /// Who signed `tcb_info`, PEM.
    pub tcb_info_issuer_chain: String,
    /// Which versions of firmware are up to date, JSON.
    pub tcb_info: String,
    /// ECDSA P-256 over it.
    pub tcb_info_signature: Vec<u8>,
    /// Who signed `qe_identity`, PEM.
    pub qe_identity_issuer_chain: String,
    /// Which quoting enclaves are genuine, JSON.
    pub qe_identity: String,
    /// ECDSA P-256 over it.
    pub qe_identity_signature: Vec<u8>,
}

/// A report of a guest, and the certificates of the chip that signed it.
///
/// Source: AMD, SEV Secure Nested Paging Firmware ABI Specification (56860), table 23; VCEK Certificate and KDS Interface
/// Specification (57230).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnpEvidence {
    /// The report, [`REPORT_BYTES`].
    pub report: Vec<u8>,
    /// AMD's certificate for chips of one kind (ASK), DER.
    pub ask: Vec<u8>,
    /// The chip's certificate for its firmware (VCEK), DER.
    pub vcek: Vec<u8>,
}

impl Evidence {
    /// Of a quote, and its collateral as collateral services give it: a JSON document with `tcb_info`, `qe_identity`, lists
    /// of revoked certificates and signatures. Padding after the quote is left out.
    ///
    /// # Errors
    /// Anything that cannot be read, or is too large.
    pub fn intel(quote: &[u8], collateral_json: &str) -> Result<Self, AttestError> {
        if collateral_json.len() > COLLATERAL_JSON_BYTES_MAX {
            return Err(too_large(
                "bytes of collateral",
                collateral_json.len(),
                COLLATERAL_JSON_BYTES_MAX as u64,
            ));
        }
        if quote.len() as u64 > QUOTE_BYTES_MAX {
            return Err(too_large("bytes of a quote", quote.len(), QUOTE_BYTES_MAX));
        }
        let (quote, _padding) = quote.split_at(intel::length(quote)?.min(quote.len()));
        let collateral = intel::read_collateral(collateral_json)?;
        let evidence = Self::Intel(QuoteEvidence { quote: quote.to_vec(), collateral });
        evidence.validate()?;
        Ok(evidence)
    }

    /// Of a report and two certificates in DER: AMD's for chips of its kind, and the chip's.
    ///
    /// # Errors
    /// Sizes that are none of such.
    pub fn amd(report: &[u8], ask: &[u8], vcek: &[u8]) -> Result<Self, AttestError> {
        let [report, ask, vcek] = [report, ask, vcek].map(<[u8]>::to_vec);
        let evidence = Self::Amd(SnpEvidence { report, ask, vcek });
        evidence.validate()?;
        Ok(evidence)
    }

    /// From a file.
    ///
    /// # Errors
    /// Anything but what [`Evidence::to_bytes`] writes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AttestError> {
        let file = |cause: &str| AttestError::File(cause.into());
        if bytes.len() > FILE_BYTES_MAX {
            return Err(too_large("bytes of evidence", bytes.len(), FILE_BYTES_MAX as u64));
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| file("it does not begin like one"))?;
        let (version, rest) = rest.split_first_chunk().ok_or_else(|| file("it ends early"))?;
        if u16::from_le_bytes(*version) != VERSION {
            return Err(file("it is of another version"));
        }
        Ok(decode(rest)?)
    }

    /// As a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&MAGIC[..], &VERSION.to_le_bytes(), &encode(self)].concat()
    }

    /// The name of the file.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// What the hardware states, as far as it can be read without checking who signed it.
    ///
    /// # Errors
    /// A quote or report that cannot be read.
    pub fn statement(&self) -> Result<Statement, AttestError> {
        self.validate()?;
        match self {
            Self::Intel(evidence) => intel::statement(&evidence.quote),
            Self::Amd(evidence) => Ok(snp::Report::read(&evidence.report)?.statement()),
        }
    }

    /// The kind of hardware, as it says itself.
    ///
    /// # Errors
    /// As [`Evidence::statement`].
    pub fn kind(&self) -> Result<TeeKind, AttestError> {
        Ok(self.statement()?.kind)
    }

    /// The parts, named, with their sizes in bytes.
    pub fn parts(&self) -> Vec<(&'static str, usize)> {
        match self {
            Self::Intel(QuoteEvidence { quote, collateral }) => vec![
                ("quote", quote.len()),
                ("revoked by the root", collateral.root_ca_crl.len()),
                ("revoked platforms", collateral.pck_crl.len()),
                ("firmware versions", collateral.tcb_info.len()),
                ("quoting enclaves", collateral.qe_identity.len()),
            ],
            Self::Amd(SnpEvidence { report, ask, vcek }) => {
                vec![
                    ("report", report.len()),
                    ("ask certificate", ask.len()),
                    ("vcek certificate", vcek.len()),
                ]
            }
        }
    }
}

impl Message for Evidence {
    fn validate(&self) -> Result<(), WireError> {
        match self {
            Self::Intel(QuoteEvidence { quote, collateral }) => {
                at_most("bytes of a quote", quote.len(), QUOTE_BYTES_MAX)?;
                for part in [&collateral.root_ca_crl, &collateral.pck_crl] {
                    at_most("bytes of a list of revoked certificates", part.len(), PART_BYTES_MAX)?;
                }
                for part in [&collateral.tcb_info_issuer_chain, &collateral.qe_identity_issuer_chain] {
                    at_most("bytes of a chain of certificates", part.len(), PART_BYTES_MAX)?;
                }
                for part in [&collateral.tcb_info, &collateral.qe_identity] {
                    at_most("bytes of a document", part.len(), PART_BYTES_MAX)?;
                }
                for part in [&collateral.tcb_info_signature, &collateral.qe_identity_signature] {
                    at_most("bytes of a signature", part.len(), SIGNATURE_BYTES_MAX)?;
                }
                Ok(())
            }
            Self::Amd(SnpEvidence { report, ask, vcek }) => {
                at_most("bytes of a report", report.len(), REPORT_BYTES as u64)?;
                at_most("bytes of a certificate", ask.len(), PART_BYTES_MAX)?;
                at_most("bytes of a certificate", vcek.len(), PART_BYTES_MAX)
            }
        }
    }
}

fn at_most(what: &'static str, actual: usize, limit: u64) -> Result<(), WireError> {
    let actual = actual as u64;
    if actual > limit { Err(WireError::Limit { what, actual, limit }) } else { Ok(()) }
}

fn too_large(what: &'static str, actual: usize, limit: u64) -> AttestError {
    WireError::Limit { what, actual: actual as u64, limit }.into()
}
